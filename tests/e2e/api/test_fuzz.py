"""The HTTP surface, fuzzed from the server's own OpenAPI: what fits the schemas and what does not.

Whatever comes, the answer is Kubernetes' own form, never a fault of the server; and it lives on.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from collections.abc import Iterator

import hypothesis
import pytest
import requests
import schemathesis
from own_server import Api, prepared
from schemathesis.generation import GenerationMode

from testbed.client import pki

pytestmark = pytest.mark.feature("C5")

SECONDS = float(os.environ.get("TESTBED_FUZZ_SECONDS", "30"))
"""For all together: each operation with what fits its schema and what does not, by chance."""
SEED = int(os.environ.get("TESTBED_FUZZ_SEED", time.time_ns() % 1_000_000))
EXAMPLES = 3
"""Requests to one operation in each mode."""


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """A server of its own: nothing in it stays as it was."""
    api = prepared(tmp_path_factory.mktemp("fuzzed"))
    api.start()
    yield api
    assert api.stop() == 0
    assert "Traceback" not in (api.directory / "log").read_text()


@pytest.fixture
def session(fuzzed: Api) -> Iterator[requests.Session]:
    authority = pki.ensure_authority(fuzzed.directory / "pki")
    certificate = pki.issue_client(authority, "fuzzer", ["system:masters"])
    with requests.Session() as session:
        session.trust_env = False  # or else a machine's own bundle of authorities comes first
        session.verify = str(fuzzed.directory / "pki" / "ca.crt")
        session.cert = tuple(map(str, certificate.write(fuzzed.directory, "fuzzer")))
        yield session


def operations(session: requests.Session, server: str) -> list:
    found = []
    for path in session.get(f"{server}/openapi/v3").json()["paths"]:
        schema = schemathesis.openapi.from_dict(session.get(f"{server}/openapi/v3/{path}").json())
        found += [each.ok() for each in schema.get_all_operations()]
    return found


def test_no_request_is_answered_by_a_fault(fuzzed: Api, session: requests.Session, capsys) -> None:
    server = f"https://127.0.0.1:{fuzzed.port}"
    every, codes, done = operations(session, server), Counter(), Counter()
    end = time.monotonic() + SECONDS

    def attempt(case) -> None:
        case.query = {name: value for name, value in (case.query or {}).items() if name != "watch"}
        answer = case.call(base_url=server, session=session, verify=session.verify, timeout=30)
        codes[answer.status_code] += 1
        assert answer.status_code < 500, (case.as_curl_command(), answer.text)
        body = answer.json()
        if answer.status_code >= 400:
            assert (body["kind"], body["code"]) == ("Status", answer.status_code)
            assert body["message"]

    random.Random(SEED).shuffle(every)
    for operation in every:
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            if time.monotonic() < end and (operation.body or mode is GenerationMode.POSITIVE):
                try_all(operation.as_strategy(generation_mode=mode), attempt)
                done[mode.value] += 1
    assert session.get(f"{server}/readyz").text == "ok"
    with capsys.disabled():
        sent = (
            f"{sum(codes.values())} requests, operations of {len(every)} by mode: {dict(done)} (seed {SEED})"
        )
        print(f"\n  {sent}; answers: {dict(sorted(codes.items()))}")
    assert {200, 400, 404} <= set(codes)


def try_all(strategy, attempt) -> None:
    settings = hypothesis.settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    hypothesis.seed(SEED)(settings(hypothesis.given(strategy)(attempt)))()
