"""pytest: tests that the running kernel cannot run are run in a VM, together, and count.

`@pytest.mark.needs("ip_vs", …)` names features of `testbed.kernel.features`. At the end of the run the tests
whose features are missing go, by node id, to one pytest inside one VM; its reports are replayed here as they
are made. The last lines of each run say what ran where, and what did not run and why.
"""

from __future__ import annotations

import sys
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import pytest

from testbed import vm
from testbed.errors import TestbedError
from testbed.kernel import features
from testbed.vm import reports

NATIVE, VM, FLEET, AUTO = "native", "vm", "fleet", "auto"
TIMEOUT = 1500.0  # s without a report from the VM; overridden by the ini option vm_timeout


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("testbed")
    group.addoption(
        "--env",
        choices=[NATIVE, VM, FLEET, AUTO],
        default=AUTO,
        help="where tests run: on this kernel, all in a VM, or (auto) in a VM what this kernel cannot do; "
        "benchmarks/ also on the fleet, which auto takes when it is up",
    )
    group.addoption("--vm-reports", type=Path, help="(inside the VM) the file for the reports")
    parser.addini("vm_timeout", "seconds that one test in the VM may take", default=str(TIMEOUT))


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "needs(*features): kernel features; where the kernel lacks one, the test runs in a VM"
    )
    config.addinivalue_line(
        "markers", "moves_itself: --env does not move this test; it starts VMs of its own"
    )
    target = config.getoption("--vm-reports")
    if target:
        config.pluginmanager.register(reports.Sender(config, target), "testbed-vm-sender")
    config.pluginmanager.register(Placement(config), "testbed-vm-placement")


def needs(item: pytest.Item) -> list[str]:
    """The features that the markers of `item`, its class and its module name."""
    return [str(name) for mark in item.iter_markers("needs") for name in mark.args]


class Placement:
    """Decides for each test where it runs, runs those of the VM there, and gives the account at the end."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.here = VM if vm.inside() else NATIVE  # asked once: a test may change the environment
        self.wanted: str = config.getoption("--env")
        self.moved: dict[str, pytest.Item] = {}
        self.refused: dict[str, str] = {}
        self.ran: dict[str, set[str]] = {NATIVE: set(), VM: set()}
        self.not_run: dict[str, str] = {}
        self.collected: list[str] = []
        self.started = False

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """The tests of the VM go last, in their order."""
        self.collected = [item.nodeid for item in items]
        if self.here == VM:
            return
        for item in items:
            if item.get_closest_marker("moves_itself"):
                continue
            if self.wanted == FLEET:
                raise pytest.UsageError(f"--env fleet is for benchmarks/; leave {item.nodeid} out, or --env")
            try:
                lacking = features.missing(needs(item))
            except TestbedError as error:
                raise pytest.UsageError(f"{item.nodeid}: {error}") from None
            if lacking and self.wanted == NATIVE:
                self.refused[item.nodeid] = f"{features.kernel()} has no {', '.join(lacking)} (--env native)"
            elif lacking or self.wanted == VM:
                self.moved[item.nodeid] = item
        items.sort(key=lambda item: item.nodeid in self.moved)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> bool | None:
        if item.nodeid in self.refused:
            self.not_run[item.nodeid] = self.refused[item.nodeid]
            return True
        if item.nodeid not in self.moved:
            return None
        if not self.started:
            self.started = True
            self._run_in_vm()
        return True

    def _run_in_vm(self) -> None:
        receiver = reports.Receiver(self.config, self.moved)
        reporter = self.config.pluginmanager.getplugin("terminalreporter")
        if reporter is not None and reporter.verbosity >= 0:
            reporter.ensure_newline()
            reporter.write_line(f"{len(self.moved)} tests run in a VM ({vm.described()})")
        longest = float(self.config.getini("vm_timeout"))
        receiver.run(
            lambda items: [sys.executable, "-m", "pytest", *inner_arguments(self.config, items)],
            longest=longest,
        )

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        where = VM if report.nodeid in self.moved else self.here
        where = str(dict(report.user_properties).get("environment", where))  # of one that moves itself
        if report.skipped and not hasattr(report, "wasxfail"):
            self.not_run[report.nodeid] = f"skipped: {reason(report)}"
        elif report.when == "call" or report.failed:
            self.ran.setdefault(where, set()).add(report.nodeid)

    @pytest.hookimpl(wrapper=True)
    def pytest_report_teststatus(self, report: pytest.TestReport) -> Generator[None, Any, Any]:
        status = yield
        if report.nodeid not in self.moved or len(status) != 3 or not status[2]:
            return status
        category, letter, word = status
        marked = (f"{word[0]} [vm]", *word[1:]) if isinstance(word, tuple) else f"{word} [vm]"
        return category, letter, marked

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None, None, None]:
        """The account follows all that others print."""
        if self.refused and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        yield
        reporter = self.config.pluginmanager.getplugin("terminalreporter")
        if reporter is not None and not self.config.option.collectonly:
            for line in self.account():
                reporter.write_line(line)

    def account(self) -> list[str]:
        """What ran where, and what did not run and why."""
        kernels = {NATIVE: f"kernel {features.kernel()}", VM: reports.guest_kernel()}
        lines = [
            f"ran {where}{f' ({kernels[where]})' if where in kernels else ''}: {len(ids)}"
            for where, ids in self.ran.items()
            if ids
        ]
        ran = set().union(*self.ran.values())
        reasons = {name: self.not_run.get(name, "the run stopped before it") for name in self.collected}
        missed = [f"  {name}: {why}" for name, why in reasons.items() if name not in ran]
        return [*lines, f"not run: {len(missed)}", *missed]


def reason(report: pytest.TestReport) -> str:
    """Why a test was skipped, from its report: (file, line, reason)."""
    told = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
    return str(told).removeprefix("Skipped: ")


def inner_arguments(config: pytest.Config, items: Sequence[pytest.Item]) -> list[str]:
    """This pytest's own arguments, with the node ids of `items` in place of its files and directories."""
    paths = set(config.option.file_or_dir)
    options = [word for word in config.invocation_params.args if str(word) not in paths]
    ids = [f"{item.path}::{item.nodeid.partition('::')[2]}" for item in items]
    # The summary is made outside; inside it would import hypothesis, 10 s under emulation.
    return [*map(str, options), "--no-summary", "-o", "cache_dir=/tmp/pytest-cache", *ids]
