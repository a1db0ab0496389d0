"""Test reports on their way out of the VM: written as JSON lines inside, replayed outside as they come."""

from __future__ import annotations

import io
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, BinaryIO

import pytest

from testbed import vm
from testbed.errors import TestbedError
from testbed.vm import job, kernels
from testbed.vm.qemu import Stuck

TAIL = 25  # lines of the inner pytest's output shown when a test has no report
MACHINES = 2  # that are tried: the emulator, not the tests, makes one hang


class Sender:
    """Inside the VM: writes each report to `target`, a file on the host."""

    def __init__(self, config: pytest.Config, target: Path) -> None:
        self.config = config
        self.file: IO[str] = target.open("a")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._send(
            "report", self.config.hook.pytest_report_to_serializable(config=self.config, report=report)
        )

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self._send("collection", str(report.longrepr))

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        stopped = session.shouldstop or session.shouldfail
        if stopped:
            self._send("stopped", str(stopped))

    def pytest_unconfigure(self) -> None:
        self.file.close()

    def _send(self, kind: str, data: Any) -> None:
        self.file.write(json.dumps([kind, data], default=str) + "\n")
        self.file.flush()


class Receiver:
    """Outside: starts the VM, replays the reports of `items`, and fails those that sent none."""

    def __init__(self, config: pytest.Config, items: Mapping[str, pytest.Item]) -> None:
        self.config = config
        self.items = items
        self.begun: set[str] = set()
        self.done: set[str] = set()
        self.trouble: list[str] = []
        self.stopped = False
        self.last = 0.0

    def run(self, command: Callable[[Sequence[pytest.Item]], Sequence[str]], *, longest: float) -> None:
        """Run the inner pytest `command` for the items in a VM, and replay what it reports.

        The VM is given up when no report has come for `longest` seconds. What one that hangs has not
        reported, another one runs.
        """
        output = io.BytesIO()
        with tempfile.TemporaryDirectory(prefix="testbed-reports-") as room:
            source = Path(room) / "reports"
            source.touch()
            with source.open() as lines:
                for _ in range(MACHINES):
                    try:
                        self._one(command(self._left()), source, lines, output, longest)
                        break
                    except Stuck as error:
                        self.trouble.append(str(error))
                        print(f"\n{error}", file=sys.stderr)
                    except TestbedError as error:
                        self.trouble.append(str(error))
                        break
        self._fail_unreported(output.getvalue().decode(errors="replace"))

    def _one(
        self, command: Sequence[str], source: Path, lines: IO[str], output: BinaryIO, longest: float
    ) -> None:
        """One machine, to its end. Raises TestbedError."""

        def watch() -> None:
            self._replay(lines)
            if time.monotonic() - self.last > longest:
                raise TestbedError(f"no report came from the VM for {longest:.0f} s")

        self.last = time.monotonic()
        command = [*command, f"--vm-reports={source}"]
        try:
            vm.run(command, rw=[source.parent], stdout=output, stderr=output, watch=watch)
        finally:
            self._replay(lines)

    def _left(self) -> list[pytest.Item]:
        return [item for name, item in self.items.items() if name not in self.done]

    def _replay(self, lines: IO[str]) -> None:
        while True:
            start = lines.tell()
            line = lines.readline()
            if not line.endswith("\n"):
                lines.seek(start)
                return
            self.last = time.monotonic()
            kind, data = json.loads(line)
            if kind == "report":
                self._log(self.config.hook.pytest_report_from_serializable(config=self.config, data=data))
            elif kind == "stopped":
                self.stopped = True  # by --maxfail or the like: what has no report was not to be run
            else:
                self.trouble.append(data)

    def _log(self, report: pytest.TestReport) -> None:
        item = self.items.get(report.nodeid)
        if item is None:
            return
        if report.nodeid not in self.begun:
            self.begun.add(report.nodeid)
            item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        item.ihook.pytest_runtest_logreport(report=report)
        if report.when == "teardown":
            self.done.add(report.nodeid)
            item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)

    def _fail_unreported(self, output: str) -> None:
        missing = self._left()
        if not missing or self.stopped:
            return
        last = "\n".join(output.splitlines()[-TAIL:])
        why = "\n".join(["no report came out of the VM", *self.trouble, "its pytest's last lines:", last])
        for item in missing:
            failed = pytest.TestReport(
                nodeid=item.nodeid,
                location=item.location,
                keywords={},
                outcome="failed",
                longrepr=why,
                when="call",
            )
            self._log(failed)


def guest_kernel() -> str:
    """What the VM's kernel is called in the account of a run."""
    return os.environ.get(job.KERNEL) or f"kernel {kernels.default()}"
