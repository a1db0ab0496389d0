"""Before a mode's speed means anything it must be right: the matrix of `testbed verify`, mode by mode."""

import json
import subprocess
import sys

import pytest

CASES = "[cnp]*/near/*"
"""cluster-ip, node-port and pod, to one backend, from everywhere. `testbed verify` has the whole matrix."""

MINUTES = 15


@pytest.fixture
def verified(request, proxy_mode):
    """What `testbed verify -o json` says of the mode. It moves into a VM by itself if it must."""
    words = [sys.executable, "-m", "testbed.cli.main", "verify", "--name", "bench-verify", "-o", "json"]
    words += [f"--modes={proxy_mode}", f"--cases={CASES}"]
    capture = request.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        print(file=sys.stderr)
        done = subprocess.run(words, stdout=subprocess.PIPE, text=True, timeout=60 * MINUTES)
    assert done.returncode in (0, 1), f"testbed verify ended with {done.returncode}"
    assert done.stdout, "testbed verify failed; what went wrong is said above"
    return json.loads(done.stdout)


def pytest_generate_tests(metafunc):
    metafunc.parametrize("proxy_mode", metafunc.config.option.modes.split(","))


@pytest.mark.feature("D4")
def test_packets_are_translated_as_they_must(verified, proxy_mode, record_property):
    record_property("environment", verified["environment"]["name"])
    wrong = [case for case in verified["cases"] if case["mode"] == proxy_mode and case["verdict"] != "passed"]
    counts = verified["modes"][proxy_mode]
    assert wrong == []
    assert counts["passed"] > 0
    assert (counts["failed"], counts["not_run"]) == (0, 0)
