"""Collect a run in another process: on this machine, or in a VM."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from testbed import vm
from testbed.bench import environments
from testbed.bench.measures import Plan
from testbed.bench.record import Run, load_run
from testbed.errors import TestbedError


def gather(environment: str, plan: Plan, directory: Path) -> Run:
    """Run the collector in `environment` and read what it leaves in `directory`. Raises TestbedError.

    The collector is a process of its own, so that the caller's size, threads and hooks touch no sample.
    """
    with tempfile.NamedTemporaryFile(dir=directory, prefix=".collected-", suffix=".json") as file:
        words = [sys.executable, "-m", "testbed.cli.main", "bench", f"--collect={file.name}"]
        words += [f"--modes={','.join(plan.modes)}", f"--services={','.join(map(str, plan.sizes))}"]
        code = _run(words) if environment == environments.here() else vm.run(words, rw=[directory])
        if code:
            raise TestbedError(f"the collector ended with {code}; what went wrong is said above")
        try:
            run = load_run(Path(file.name).read_text())
        except (ValueError, KeyError) as error:
            raise TestbedError(f"the collector left no record: {error}") from None
    if environment == environments.here():
        return run
    # Only the host knows what runs the guest: with TCG, code is translated.
    return replace(run, facts={**run.facts, "engine": vm.described().partition(",")[0]})


def _run(words: list[str]) -> int:
    with subprocess.Popen(words, stdin=subprocess.DEVNULL) as collector:
        try:
            return collector.wait()
        except KeyboardInterrupt:
            collector.wait()  # it was interrupted too, and takes its cluster down
            raise
