"""Collect a run in another process: on this machine, for itself or for a fleet, or in a VM."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from testbed import vm
from testbed.bench import counted, environments
from testbed.bench.plan import Plan
from testbed.bench.record import Run, load_results, load_run
from testbed.bench.units import INSTRUCTIONS
from testbed.errors import TestbedError, UsageError

MEMORY = 4096
"""MiB of the VM: thousands of Services in four modes, and the cluster that writes them."""


class Terminated(KeyboardInterrupt):
    """SIGTERM: an end as by Ctrl-C, but of this process alone, who must tell those that it started."""


def on_sigterm() -> None:
    """From now on SIGTERM raises Terminated."""

    def end(*_: object) -> None:
        raise Terminated

    signal.signal(signal.SIGTERM, end)


class Cut(TestbedError):
    """The collector ended before its time. `run`: what it had measured until then."""

    def __init__(self, message: str, run: Run | None) -> None:
        super().__init__(message)
        self.run = run


def take(environment: str, plan: Plan, before: Run | None, directory: Path) -> Run:
    """The run, with what there was `before`: a counted one is whole or was not there at all.

    Raises UsageError when `before` is of another plan, TestbedError, Cut.
    """
    if environment != INSTRUCTIONS:
        if before:
            _refuse_another_plan(before, plan)
        return joined(before, gather(environment, plan, directory))
    modes = tuple(column.name for column in plan.columns)
    asked = {"modes": list(modes), "sizes": list(plan.sizes)}
    if before and before.plan == asked:
        return before
    return counted.collect(modes, plan.sizes, lambda said: print(f"bench: {said}", file=sys.stderr))


def _refuse_another_plan(before: Run, plan: Plan) -> None:
    names = [column["name"] for column in before.plan["columns"]]
    if names != [column.name for column in plan.columns] or list(before.plan["measures"]) != [*plan.measures]:
        raise UsageError(
            "--resume: other columns or measures than before; give the same, or another --results"
        )


class Counting:
    """A context manager: instructions are counted in a process of its own while something else runs."""

    def __init__(self, plan: Plan) -> None:
        self._room = tempfile.TemporaryDirectory(prefix="testbed-counting-")
        words = [sys.executable, "-m", "testbed.cli.main", "bench", "--clock=instructions"]
        words += [f"--modes={','.join(column.name for column in plan.columns)}"]
        words += [f"--services={','.join(map(str, plan.sizes))}", "-o", self._room.name]
        self._process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)

    def result(self) -> Run | None:
        """The run, when it has ended; None when it failed, which it has said itself."""
        if ended(self._process):
            return None
        (run,) = load_results(Path(self._room.name)).runs
        return run

    def __enter__(self) -> Counting:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait()
        self._room.cleanup()


def gather(environment: str, plan: Plan, directory: Path) -> Run:
    """Run the collector in `environment` and read what it leaves in `directory`. Raises TestbedError, Cut.

    The collector is a process of its own, so that the caller's size, threads and hooks touch no sample.
    """
    with tempfile.TemporaryDirectory(dir=directory, prefix=".collected-") as name:
        room = Path(name)
        (room / "plan.json").write_text(json.dumps(plan.to_json()))
        words = [sys.executable, "-m", "testbed.cli.main", "bench", f"--collect={room}"]
        words.append(f"--env={environment}")
        own = environment in (environments.here(), environments.FLEET)
        try:
            code = _run(words) if own else vm.run(words, rw=[directory], memory=MEMORY)
        except KeyboardInterrupt:
            raise Cut("interrupted", _kept(room, own)) from None
        if code:
            raise Cut(f"the collector ended with {code}; what went wrong is said above", _kept(room, own))
        if run := _kept(room, own):
            return run
        raise TestbedError("the collector left no record")


def _kept(room: Path, own: bool) -> Run | None:
    try:
        run = load_run((room / "run.json").read_text())
    except (OSError, ValueError, KeyError):
        return None
    if own:
        return run
    # Only the host knows what runs the guest: with TCG, code is translated.
    return replace(run, facts={**run.facts, "engine": vm.described().partition(",")[0]})


def _run(words: list[str]) -> int:
    with subprocess.Popen(words, stdin=subprocess.DEVNULL) as collector:
        return ended(collector)


def ended(process: subprocess.Popen[Any]) -> int:
    """Its exit code. Interrupted, it is given the time to take down what it made."""
    try:
        return process.wait()
    except KeyboardInterrupt as why:
        if isinstance(why, Terminated):
            process.terminate()
        with contextlib.suppress(KeyboardInterrupt):
            process.wait()  # Ctrl-C has reached it, too
        raise


def joined(before: Run | None, run: Run) -> Run:
    """A run that went on where `before` had stopped, and what that one had."""
    if before is None:
        return run
    facts = {**run.facts, "taken in": "two goes: the run was interrupted and went on later"}
    return replace(run, facts=facts, cells=(*before.cells, *run.cells))
