"""A run under the instruction clock: rules rendered here, loaded and probed in a small VM that counts.

The VM is emulated with one CPU and its time is the number of instructions it has executed, so what else the
machine does changes no figure. See docs/measuring.md for what such a figure leaves out.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from testbed import vm
from testbed.bench import rules, scene
from testbed.bench.measures import DIRECT, FIRST_PACKET, count_of
from testbed.bench.objects import PORT
from testbed.bench.record import Cell, Run
from testbed.bench.units import INSTRUCTIONS
from testbed.errors import TestbedError, UsageError
from testbed.vm import qemu

MODES = ("iptables-legacy", "iptables-nft", "ipvs", "nftables")
SIZES = (1, 1000, 10_000)
ROUNDS, SAMPLES = 30, 5
SEED = 1
MEMORY = 2048
"""MiB: 10,000 Services in four modes take half of it."""
DEADLINE = 1800.0
"""Seconds that the VM may run."""
MOST_CELLS = 80
"""Columns times sizes: each is a row of namespaces."""

REFUSED = {
    "userspace": "its path is a process with the scheduler in it, not a rule; measure it with --clock wall",
}
TOOLS = {"iptables": "iptables", "nftables": "nft", "ipset": "ipset"}


def parse_modes(text: str) -> tuple[str, ...]:
    """`iptables,ipvs`; iptables stands for both of its variants. Raises UsageError."""
    found: list[str] = []
    for mode in (part.strip() for part in text.split(",") if part.strip()):
        if mode in REFUSED:
            raise UsageError(f"--clock instructions cannot measure {mode}: {REFUSED[mode]}")
        if mode not in (*MODES, "iptables"):
            raise UsageError(
                f"unknown mode {mode!r}; --clock instructions knows iptables, {', '.join(MODES)}"
            )
        found += ["iptables-legacy", "iptables-nft"] if mode == "iptables" else [mode]
    if not found or len(set(found)) < len(found):
        raise UsageError(f"--modes {text!r}: name each mode once, such as iptables,ipvs")
    return tuple(found)


def collect(modes: tuple[str, ...], sizes: tuple[int, ...], say: Callable[[str], None]) -> Run:
    """Measure first packets to the last Service of each list. Raises UsageError, TestbedError."""
    if vm.inside():
        raise UsageError("--clock instructions starts a VM of its own: run it outside of this one")
    cells = [(mode, size) for size in sizes for mode in (DIRECT, *modes)]
    if len(cells) > MOST_CELLS:
        raise UsageError(f"--clock instructions takes {MOST_CELLS} modes × sizes at most, not {len(cells)}")
    with tempfile.TemporaryDirectory(prefix="testbed-instructions-") as directory:
        room = Path(directory)
        say(f"rendering the rules of {', '.join(modes)} at {', '.join(map(count_of, sizes))}")
        (room / "task.json").write_text(json.dumps(_task(cells, room)))
        say("loading and probing them in a VM that counts instructions (minutes, mostly loading)")
        words = [sys.executable, "-m", "testbed.bench.guest", str(room)]
        code = vm.run(words, rw=[room], memory=MEMORY, clock="instructions", timeout=DEADLINE)
        answer = room / "answer.json"
        if code or not answer.exists():
            raise TestbedError(f"the VM's part ended with {code}; what went wrong is said above")
        return _run(cells, json.loads(answer.read_text()))


def _task(cells: list[tuple[str, int]], room: Path) -> dict[str, Any]:
    columns = []
    for mode, size in cells:
        file = "" if mode == DIRECT else f"{mode}-{size}"
        if file:
            rules.write(mode, size, scene.BACKEND, room / file)
        target = rules.cluster_ip(size - 1) if file else scene.BACKEND
        columns.append({"mode": mode, "rules": file, "target": target})
    return {"columns": columns, "rounds": ROUNDS, "samples": SAMPLES, "seed": SEED, "port": PORT}


def _run(cells: list[tuple[str, int]], answer: dict[str, Any]) -> Run:
    found = []
    for (mode, size), taken in zip(cells, answer["samples"], strict=True):
        place = "last" if mode != DIRECT and size > 1 else "only"
        found.append(
            Cell(
                INSTRUCTIONS,
                FIRST_PACKET.name,
                size,
                mode,
                # Samples are µs everywhere; here a nanosecond is an instruction.
                tuple(count / 1e3 for _, count in taken),
                tuple(block for block, _ in taken),
                (place,) * len(taken),
            )
        )
    facts = {"clock": "instructions", "engine": _engine(), **answer["facts"], **_tools()}
    # A guest with more rows counts some thousand instructions more for each sample, alike in all of them.
    facts["beside"] = ", ".join(f"{mode} {size}" for mode, size in cells)
    method = {"rounds": ROUNDS, "samples a round": SAMPLES, "seed": SEED, "backends": 1}
    return Run(INSTRUCTIONS, facts, {**method, "endpoints per Service": 1}, {}, tuple(found))


def _engine() -> str:
    said = subprocess.run([qemu.PROGRAM, "--version"], capture_output=True, text=True, check=True).stdout
    version = said.split("version ")[-1].split()[0]
    return f"QEMU {version} TCG, {' '.join(qemu.COUNTING[:2])}"


def _tools() -> dict[str, str]:
    """Versions of what loads the rules: the guest has the host's programs."""
    found = {}
    for name, program in TOOLS.items():
        if shutil.which(program):
            said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout
            found[name] = " ".join(said.split("\n")[0].replace(",", "").split()[:2])
    return found
