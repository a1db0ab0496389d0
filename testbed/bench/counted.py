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
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from testbed import vm
from testbed.bench import rules, scene
from testbed.bench.columns import DIRECT
from testbed.bench.measures import (
    FIRST_BYTE,
    FIRST_PACKET,
    RULES_LOAD,
    RULES_MEMORY,
    Measure,
    count_of,
)
from testbed.bench.objects import PORT
from testbed.bench.record import Cell, Run
from testbed.bench.units import INSTRUCTIONS
from testbed.errors import TestbedError, UsageError
from testbed.vm import qemu

MODES = ("iptables-legacy", "iptables-nft", "ipvs", "nftables", "userspace", "userspace-haproxy")
SIZES = (1, 1000, 10_000)
KNOWN = tuple(m.name for m in (FIRST_PACKET, FIRST_BYTE, RULES_LOAD, RULES_MEMORY))
SURE = (FIRST_PACKET.name, FIRST_BYTE.name, RULES_MEMORY.name)
"""What there is at every size; few rules are loaded in less than the kernel's account resolves."""
ROUNDS, SAMPLES = 30, 5
SEED = 1
MEMORY, PER_MEBIBYTE = 2048, 40
"""MiB: 10,000 Services in four modes take half of it; and how many Services of all rows together take one."""
RESOLVED = 100e6
"""Instructions that a load must take for its account, kept in ticks of four million, to say something."""

DEADLINE = 1800.0
"""Seconds that the VM may run."""
MOST_CELLS = 80
"""Columns times sizes: each is a row of namespaces."""

TOOLS = {"iptables": "iptables", "nftables": "nft", "ipset": "ipset"}


VARIANTS = ("iptables-legacy", "iptables-nft")


def parse_modes(text: str) -> tuple[str, ...]:
    """`iptables,ipvs`; iptables stands for both of its variants. Raises UsageError."""
    names = [part.strip() for part in text.split(",") if part.strip()]
    for mode in names:
        if mode not in (*MODES, "iptables"):
            raise UsageError(
                f"unknown mode {mode!r}; --clock instructions knows iptables, {', '.join(MODES)}"
            )
    found = spelled(names)
    if not found or len(found) < len(names) + names.count("iptables"):
        raise UsageError(f"--modes {text!r}: name each mode once, such as iptables,ipvs")
    return found


def spelled(names: Iterable[str]) -> tuple[str, ...]:
    """Those that can be counted, each once; both variants for iptables."""
    variants = [one for name in names for one in (VARIANTS if name == "iptables" else (name,))]
    return tuple(dict.fromkeys(name for name in variants if name in MODES))


@dataclass(frozen=True)
class Spot:
    """One row of namespaces: what it is called, and the rules on its node. `more` Services make no size."""

    name: str
    mode: str
    services: int
    more: int = 0


def collect(modes: tuple[str, ...], sizes: tuple[int, ...], say: Callable[[str], None]) -> Run:
    """Measure new connections to the last Service of each list. Raises UsageError, TestbedError."""
    spots = [Spot(mode, mode, size) for size in sizes for mode in (DIRECT, *modes)]
    return measure(spots, say, {"modes": list(modes), "sizes": list(sizes)})


def measure(spots: Sequence[Spot], say: Callable[[str], None], plan: dict[str, Any]) -> Run:
    """One VM with a row for each spot."""
    if vm.inside():
        raise UsageError("--clock instructions starts a VM of its own: run it outside of this one")
    if len(spots) > MOST_CELLS:
        raise UsageError(f"--clock instructions takes {MOST_CELLS} modes × sizes at most, not {len(spots)}")
    with tempfile.TemporaryDirectory(prefix="testbed-counted-") as name:
        room = Path(name)
        say(f"rendering the rules of up to {count_of(max(spot.services for spot in spots))}")
        (room / "task.json").write_text(json.dumps(_task(spots, room)))
        say("loading and probing them in a VM that counts instructions (minutes, mostly loading)")
        words = [sys.executable, "-m", "testbed.bench.guest", str(room)]
        size = max(MEMORY, sum(spot.services for spot in spots) // PER_MEBIBYTE)
        code = vm.run(words, rw=[room], memory=size, clock="instructions", timeout=DEADLINE)
        answer = room / "answer.json"
        if code or not answer.exists():
            raise TestbedError(f"the VM's part ended with {code}; what went wrong is said above")
        return _run(spots, json.loads(answer.read_text()), plan)


def _task(spots: Sequence[Spot], room: Path) -> dict[str, Any]:
    columns = []
    for spot in spots:
        services = spot.services + spot.more
        file = "" if spot.mode == DIRECT else f"{spot.mode}-{services}"
        if file and not (room / file).exists():
            rules.write(spot.mode, services, scene.BACKEND, room / file)
        target = rules.cluster_ip(services - 1) if file else scene.BACKEND
        columns.append({"mode": spot.mode, "rules": file, "target": target})
    return {"columns": columns, "rounds": ROUNDS, "samples": SAMPLES, "seed": SEED, "port": PORT}


def _run(spots: Sequence[Spot], answer: dict[str, Any], plan: dict[str, Any]) -> Run:
    found = []
    for spot, packets, answers, load in zip(
        spots, answer["packets"], answer["answers"], answer["loads"], strict=True
    ):
        # The backend's first packet, where the proxy itself answers the SYN, is its answer.
        found.append(_cell(spot, FIRST_PACKET, packets or answers))
        found.append(_cell(spot, FIRST_BYTE, answers))
        for of, value in _weights(load):
            found.append(
                Cell(INSTRUCTIONS, of.name, spot.services, spot.name, (max(0.0, value),), (0,), ("all",))
            )
    facts = {"clock": "instructions", "engine": _engine(), **answer["facts"], **_tools()}
    # A guest with more rows counts some thousand instructions more for each sample, alike in all of them.
    facts["beside"] = ", ".join(f"{spot.name} {spot.services}" for spot in spots)
    method = {"rounds": ROUNDS, "samples a round": SAMPLES, "seed": SEED, "backends": 1}
    overhead = {what: count / 1e3 for what, count in answer["overhead"].items()}
    return Run(INSTRUCTIONS, facts, method, overhead, tuple(found), plan)


def _cell(spot: Spot, of: Measure, taken: Sequence[tuple[int, int]]) -> Cell:
    """Samples are µs everywhere; here a nanosecond is an instruction."""
    place = "last" if spot.mode != DIRECT and spot.services > 1 else "only"
    counts, blocks = tuple(count / 1e3 for _, count in taken), tuple(block for block, _ in taken)
    return Cell(INSTRUCTIONS, of.name, spot.services, spot.name, counts, blocks, (place,) * len(taken))


def _weights(load: dict[str, float] | None) -> list[tuple[Measure, float]]:
    if load is None:
        return []
    found = [(RULES_MEMORY, load["bytes"] / 2**20)]
    if load["all"] >= RESOLVED:
        found.append((RULES_LOAD, load["all"] / 1e3))
    return found


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
