"""One API server for all of these tests; each has a namespace of its own."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest
from own_server import Api, prepared


@pytest.fixture(scope="session")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    api = prepared(tmp_path_factory.mktemp("api"))
    api.start()
    yield api
    assert api.stop() == 0
    assert "Traceback" not in (api.directory / "log").read_text()


@pytest.fixture
def namespace(api: Api) -> Iterator[str]:
    """A namespace of the test's own."""
    name = f"test-{time.monotonic_ns()}"
    api.out(
        "create",
        "-f",
        "-",
        stdin=json.dumps({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}),
    )
    yield name
    for kinds in ("pods,services,deployments", "configmaps,secrets"):
        api.out("delete", kinds, "--all", "-n", name, "--force", "--grace-period=0")
