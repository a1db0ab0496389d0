"""Before a mode's speed means anything it must be right: the matrix of `testbed verify`, mode by mode."""

import json
import subprocess
import sys

import pytest

from testbed.bench.columns import DEFAULT

CASES = "[cnp]*/near/*[tu][cd]p"
"""cluster-ip, node-port and pod, to one backend, from everywhere, over TCP and UDP. `testbed verify` has the
whole matrix."""

MINUTES = 15


@pytest.fixture(scope="module")
def verified(request, counted_meanwhile, on_fleet):
    """What `testbed verify -o json` says of all modes that were selected; it moves into a VM what must."""
    modes = [
        item.callspec.params["proxy_mode"] for item in request.session.items if item.path == request.path
    ]
    words = [sys.executable, "-m", "testbed.cli.main", "verify", "-o", "json"]
    words += ["--env", "fleet"] if on_fleet else ["--name", "bench-verify"]
    words += [f"--modes={','.join(modes)}", f"--cases={CASES}"]
    capture = request.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        print(file=sys.stderr)
        done = subprocess.run(words, stdout=subprocess.PIPE, text=True, timeout=60 * MINUTES)
    assert done.returncode in (0, 1), f"testbed verify ended with {done.returncode}"
    assert done.stdout, "testbed verify failed; what went wrong is said above"
    return json.loads(done.stdout)


def pytest_generate_tests(metafunc):
    modes = metafunc.config.option.modes
    metafunc.parametrize("proxy_mode", modes.split(",") if modes else DEFAULT)


@pytest.mark.feature("D4")
def test_packets_are_translated_as_they_must(verified, proxy_mode, record_property):
    own = [case for case in verified["cases"] if case["mode"] == proxy_mode]
    record_property("environment", own[0]["environment"])
    counts = verified["modes"][proxy_mode]
    assert [case for case in own if case["verdict"] != "passed"] == []
    assert counts["passed"] > 0
    assert (counts["failed"], counts["not_run"]) == (0, 0)
