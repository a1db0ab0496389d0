"""Inside the VM of the instruction clock: load the rules, probe, leave the samples. Started by `counted`."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any, NoReturn

from testbed.bench import ends, scene
from testbed.kernel.namespaces import enter

if TYPE_CHECKING:  # each mode's modules are loaded by the process that needs them
    from testbed.proxy.modes.userspace import Userspace

OWN_MEMORY = ("SUnreclaim", "VmallocUsed", "Percpu")
RESTORES = {"iptables-legacy": "iptables-legacy-restore", "iptables-nft": "iptables-nft-restore"}


def main(room: Path) -> None:
    """Do what `room`/task.json says: columns with their rules, rounds, samples a round, seed."""
    task = json.loads((room / "task.json").read_text())
    columns = task["columns"]
    scene.build(len(columns))
    loads: list[dict[str, float] | None] = []
    proxies: dict[int, int] = {}
    for row, column in enumerate(columns):
        loads.append(None)
        if column["rules"]:
            enter(scene.namespace("node", row))
            loads[-1], proxies[row] = _weighed(column["mode"], room / column["rules"])
    overhead = _overhead()
    packets, answers = ends.probe(columns, proxies, task)
    found = {"loads": loads, "overhead": overhead, "packets": packets, "answers": answers, "facts": _facts()}
    (room / "answer.json").write_text(json.dumps(found))


def _weighed(mode: str, rules: Path) -> tuple[dict[str, float], int]:
    """Load rules: instructions, and the bytes of the kernel's memory that they take; a program's pid, or 0.

    By the kernel's account of the loading process: the clock also moves on while everybody waits. What of it
    the kernel itself took, it only guesses, by who is at work when a tick comes: that does not repeat. Nor
    does the start of a program.
    """
    memory = _kernel_memory()
    if mode in PROGRAMS:
        pid = _serve(mode, rules)
        return {"all": 0.0, "bytes": _kernel_memory() - memory}, pid
    before = getrusage(RUSAGE_CHILDREN)
    _load(mode, rules)
    after = getrusage(RUSAGE_CHILDREN)
    took = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"all": took * 1e9, "bytes": _kernel_memory() - memory}, 0


def _kernel_memory() -> int:
    """Bytes of what the kernel keeps for itself (proc_meminfo(5))."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    found = {line.partition(":")[0]: line.split()[1] for line in lines}
    return 1024 * sum(int(found.get(name, 0)) for name in OWN_MEMORY)


def _overhead() -> dict[str, float]:
    """Instructions that are in each sample without being the network's: the least of some tries."""
    clock, call = [], []
    for _ in range(50):
        start = perf_counter_ns()
        clock.append(perf_counter_ns() - start)
        start = perf_counter_ns()
        os.getppid()
        call.append(perf_counter_ns() - start)
    return {"clock": min(clock), "a system call that does nothing": min(call)}


def _load(mode: str, rules: Path) -> None:
    if mode in RESTORES:
        with rules.open("rb") as file:
            subprocess.run([RESTORES[mode]], stdin=file, check=True)
        return
    # What the loading needs stays out of the process that measures.
    child = os.fork() or _last_act(mode, lambda: OWN_WAYS[mode](pickle.loads(rules.read_bytes())))
    if os.waitpid(child, 0)[1]:
        raise SystemExit(1)


def _serve(mode: str, rules: Path) -> int:
    """Have a program serve, which is then held; its pid."""
    with _awake():
        reading, writing = os.pipe()
        os.fork() or _last_act(mode, lambda: _agent(mode, rules, reading, writing))
        os.close(writing)
        with open(reading) as told:
            pid = int(told.read() or 0)
    if not pid:
        raise SystemExit(1)
    os.kill(pid, signal.SIGSTOP)
    return pid


def _agent(mode: str, rules: Path, reading: int, writing: int) -> None:
    """Start the program, tell its pid, and live: it ends with its agent."""
    os.close(reading)
    agent = _program(mode, pickle.loads(rules.read_bytes()))
    with open(writing, "w") as told:
        told.write(str(agent.carrier))
    signal.pause()


@contextlib.contextmanager
def _awake() -> Iterator[None]:
    """Meanwhile the processor is never idle, so that no time limit runs out while the host reads a file."""
    spinner = os.fork()
    if not spinner:
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        while True:
            pass
    try:
        yield
    finally:
        os.kill(spinner, signal.SIGKILL)
        os.waitpid(spinner, 0)


def _last_act(mode: str, act: Callable[[], None]) -> NoReturn:
    """What a forked child does before it ends."""
    code = 1
    try:
        act()
        code = 0
    except Exception as error:
        print(f"{mode}: {error}", file=sys.stderr, flush=True)
    finally:
        os._exit(code)


def _program(mode: str, state: Any) -> Userspace:
    """A mode's own data plane, started, with its listeners and the rules that lead there."""
    from testbed.proxy.modes import mode_class
    from testbed.proxy.modes import userspace as own
    from testbed.proxy.options import ProxyOptions

    agent = mode_class(mode)(ProxyOptions())
    assert isinstance(agent, own.Userspace)
    agent.start()
    agent.sync(state)
    return agent


def _nftables(state: Any) -> None:
    from testbed.kernel import nft
    from testbed.proxy.modes.nftables import TABLES

    nft.commit(nft.creation(TABLES[4], state))


def _ipvs(state: Any) -> None:
    from testbed.proxy.modes.ipvs import IpvsMode
    from testbed.proxy.options import ProxyOptions

    mode = IpvsMode(ProxyOptions())
    mode.start()
    mode.sync(state)


OWN_WAYS = {"nftables": _nftables, "ipvs": _ipvs}
PROGRAMS = ("userspace", "userspace-haproxy")
"""Modes whose data plane is a process that lives."""


def _facts() -> dict[str, str]:
    cpu = next(
        (line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")), ""
    )
    return {
        "kernel": f"{os.uname().sysname} {os.uname().release}",
        "processor": f"{cpu.partition(':')[2].strip()}, one, emulated",
        "Python": sys.version.split()[0],
    }


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]))
    except (OSError, subprocess.CalledProcessError) as error:
        reason = errno.errorcode.get(getattr(error, "errno", 0) or 0, "")
        raise SystemExit(f"the instruction clock's guest: {error} {reason}".rstrip()) from None
