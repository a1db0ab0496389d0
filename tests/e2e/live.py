"""A cluster brought up by the command line for a test module, and kubectl on it."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from testbed.lab.cluster import Cluster

TESTBED = [sys.executable, "-m", "testbed.cli.main"]
DEADLINE = 60.0
"""Seconds after which what was waited for will not come."""


class Kubectl:
    """kubectl on one cluster."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster

    def __call__(self, *words: str, manifest: str = "") -> str:
        argv = ["kubectl", f"--kubeconfig={self.cluster.kubeconfig}", *words]
        done = subprocess.run(
            argv, capture_output=True, text=True, input=manifest or None, timeout=2 * DEADLINE, check=False
        )
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done.stdout


def until(condition: Callable[[], Any], what: str) -> Any:
    """Wait until `condition` holds; what it returned. The test fails, saying `what`, when it never does."""
    deadline = time.monotonic() + DEADLINE
    while not (seen := condition()):
        assert time.monotonic() < deadline, what
        time.sleep(0.05)
    return seen


@contextlib.contextmanager
def running(name: str, directory: Path, *words: str) -> Iterator[Cluster]:
    """A cluster with its state below `directory`, out of reach of a user's own; down at exit."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TESTBED_STATE_DIR", str(directory / "state"))
        subprocess.run([*TESTBED, "up", "--name", name, *words], check=True, capture_output=True, timeout=240)
        try:
            yield Cluster.open(name)
        finally:
            subprocess.run([*TESTBED, "down", "--all"], check=True, capture_output=True, timeout=60)
