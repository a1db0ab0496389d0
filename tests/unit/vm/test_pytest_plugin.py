"""Tests that find their way into a VM and back. The VM is a process here; tests/kernel has a real one."""

import os
import re
import subprocess
import time

import pytest

from testbed import vm
from testbed.errors import TestbedError
from testbed.kernel import features
from testbed.vm import reports
from testbed.vm.qemu import Stuck

pytest_plugins = ["pytester"]

SUITE = """
import os, pytest

inside = os.environ.get("TESTBED_ENV") == "vm"

def test_here():
    assert not inside

@pytest.mark.needs("warp_drive")
@pytest.mark.parametrize("word", ["plain", "a b[c]"])
def test_there(word):
    assert inside

@pytest.mark.needs("warp_drive")
def test_broken():
    assert not inside, "for this reason"

@pytest.mark.needs("veth")
def test_also_here():
    assert not inside
"""


@pytest.fixture
def suite(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    def run(argv, *, stdout, stderr, watch, env=None, **_options):
        inner = {**os.environ, "TESTBED_ENV": "vm", "TESTBED_VM_KERNEL": "Guest 1.0"}
        done = subprocess.run(argv, env=inner, capture_output=True, check=False)
        stdout.write(done.stdout + done.stderr)
        watch()
        return done.returncode

    monkeypatch.delenv("TESTBED_ENV", raising=False)
    monkeypatch.setattr(features, "missing", lambda names: [name for name in names if name == "warp_drive"])
    monkeypatch.setattr(vm, "run", run)
    monkeypatch.setattr(vm, "described", lambda: "a process")
    monkeypatch.setattr(reports, "guest_kernel", lambda: "Guest 1.0")
    pytester.makepyfile(SUITE)
    return pytester


@pytest.mark.feature("D3")
def test_what_the_kernel_lacks_runs_in_the_vm_and_counts(suite: pytest.Pytester) -> None:
    result = suite.runpytest_inprocess("-v")
    result.assert_outcomes(passed=4, failed=1)
    result.stdout.fnmatch_lines(["3 tests run in a VM (a process)", "*::test_there?plain? PASSED ?vm?*"])
    result.stdout.fnmatch_lines(["*test_broken FAILED ?vm?*", "E * for this reason"])
    assert result.outlines[-3:] == [
        f"ran native (kernel {os.uname().release}): 2",
        "ran vm (Guest 1.0): 3",
        "not run: 0",
    ]


def test_everything_in_the_vm_on_request(suite: pytest.Pytester) -> None:
    result = suite.runpytest_inprocess("--env=vm", "-k", "there")
    result.assert_outcomes(passed=2, deselected=3)
    assert "ran vm (Guest 1.0): 2" in result.outlines


def test_native_only_names_what_it_did_not_run_and_fails(suite: pytest.Pytester) -> None:
    result = suite.runpytest_inprocess("--env=native", "-k", "not broken")
    result.assert_outcomes(passed=2, deselected=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert result.outlines[-3] == "not run: 2"
    assert re.search(r"test_there\[plain\]: .* has no warp_drive \(--env native\)", result.outlines[-2])


def test_a_vm_that_dies_fails_its_tests_with_the_reason(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_args, **_options):
        raise TestbedError("the VM died before the command ended: Kernel panic")

    monkeypatch.setattr(vm, "run", die)
    result = suite.runpytest_inprocess()
    result.assert_outcomes(passed=2, failed=3)
    result.stdout.fnmatch_lines(["*Kernel panic*"])


def test_a_vm_that_falls_silent_is_given_up_and_one_that_reports_is_not(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = vm.run
    silent = 0.0

    def report_and_fall_silent(argv, *, watch, **options):
        nonlocal silent
        for _ in range(3):
            time.sleep(0.3)
            begin(argv, watch=watch, **options)
        began = time.monotonic()
        while True:
            silent = time.monotonic() - began
            watch()
            time.sleep(0.01)

    monkeypatch.setattr(vm, "run", report_and_fall_silent)
    result = suite.runpytest_inprocess("-o", "vm_timeout=1.0", "-k", "there")
    result.assert_outcomes(passed=6, deselected=3)
    assert 0.9 < silent < 5


def test_what_a_hanging_vm_has_not_run_another_one_does(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of two machines runs the first of the tests that it is given, and hangs. There is no third."""
    begin, given = vm.run, list[list[str]]()

    def run_one(argv, **options):
        tests = [word for word in argv if "::" in word]
        given.append([test.partition("::")[2] for test in tests])
        begin([word for word in argv if word not in tests[1:]], **options)
        raise Stuck("its processors hang")

    monkeypatch.setattr(vm, "run", run_one)
    result = suite.runpytest_inprocess()
    result.assert_outcomes(passed=4, failed=1)
    result.stdout.fnmatch_lines(["*no report came out of the VM*", "*its processors hang*"])
    assert given == [["test_there[plain]", "test_there[a b[c]]", "test_broken"], given[0][1:]]


def test_stopping_at_the_first_failure_fails_no_other(suite: pytest.Pytester) -> None:
    result = suite.runpytest_inprocess("-x", "--env=vm")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["not run: 4", "*the run stopped before it"])


def test_a_skipped_test_is_named_with_its_reason(suite: pytest.Pytester) -> None:
    suite.makepyfile(test_other="import pytest\n@pytest.mark.skip(reason='no wind')\ndef test_sail(): pass\n")
    result = suite.runpytest_inprocess("test_other.py")
    assert result.outlines[-2:] == ["not run: 1", "  test_other.py::test_sail: skipped: no wind"]
