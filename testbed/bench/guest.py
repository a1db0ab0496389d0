"""Inside the VM of the instruction clock: load the rules, probe, leave the samples. Started by `counted`.

One process does both ends of a connection: it holds the backend's listening socket and opens the clients',
each made inside its own namespace. So no scheduler, no wake-up and no other program stands in a sample.
"""

from __future__ import annotations

import errno
import gc
import json
import os
import pickle
import random
import socket
import struct
import subprocess
import sys
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage
from time import perf_counter_ns
from typing import Any

from testbed.bench import scene
from testbed.kernel.namespaces import enter

RESET_ON_CLOSE = struct.pack("ii", 1, 0)
FIRST_PORT = 20000
WARM_UP = 5
"""Connections before the first round: code pages, caches of routes, the interpreter's own."""
OWN_MEMORY = ("SUnreclaim", "VmallocUsed", "Percpu")
RESTORES = {"iptables-legacy": "iptables-legacy-restore", "iptables-nft": "iptables-nft-restore"}


def main(room: Path) -> None:
    """Do what `room`/task.json says: columns with their rules, rounds, samples a round, seed."""
    task = json.loads((room / "task.json").read_text())
    columns = task["columns"]
    scene.build(len(columns))
    loads: list[dict[str, float] | None] = []
    for row, column in enumerate(columns):
        loads.append(None)
        if column["rules"]:
            enter(scene.namespace("node", row))
            loads[-1] = _weighed(column["mode"], room / column["rules"])
    answer = {"loads": loads, "overhead": _overhead(), "samples": _probe(columns, task), "facts": _facts()}
    (room / "answer.json").write_text(json.dumps(answer))


def _weighed(mode: str, rules: Path) -> dict[str, float]:
    """Load rules: instructions, and the bytes of the kernel's memory that they take.

    By the kernel's account of the loading process: the clock also moves on while everybody waits. What of it
    the kernel itself took, it only guesses, by who is at work when a tick comes: that does not repeat.
    """
    memory, before = _kernel_memory(), getrusage(RUSAGE_CHILDREN)
    _load(mode, rules)
    after = getrusage(RUSAGE_CHILDREN)
    took = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"all": took * 1e9, "bytes": _kernel_memory() - memory}


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
    elif child := os.fork():  # what the loading needs stays out of the process that measures
        if os.waitpid(child, 0)[1]:
            raise SystemExit(1)
    else:
        code = 1
        try:
            OWN_WAYS[mode](pickle.loads(rules.read_bytes()))
            code = 0
        except Exception as error:
            print(f"{mode}: {error}", file=sys.stderr, flush=True)
        finally:
            os._exit(code)


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


def _probe(columns: list[dict[str, Any]], task: dict[str, Any]) -> list[list[tuple[int, int]]]:
    """For each column its (round, instructions), in rounds that visit all columns in random order."""
    listeners = []
    for row in range(len(columns)):
        enter(scene.namespace("backend", row))
        listeners.append(socket.create_server((scene.BACKEND, task["port"]), backlog=64))
    ports = [FIRST_PORT] * len(columns)
    taken: list[list[tuple[int, int]]] = [[] for _ in columns]
    order = list(range(len(columns)))
    source = random.Random(task["seed"])
    gc.collect()
    gc.disable()
    for block in range(-1, task["rounds"]):
        source.shuffle(order)
        for row in order:
            enter(scene.namespace("client", row))
            target = (columns[row]["target"], task["port"])
            for _ in range(task["samples"] if block >= 0 else WARM_UP):
                took = _connect((scene.CLIENT, ports[row]), target, listeners[row])
                ports[row] += 1
                if block >= 0:
                    taken[row].append((block, took))
    return taken


def _connect(source: tuple[str, int], target: tuple[str, int], listener: socket.socket) -> int:
    """Nanoseconds, that is instructions, of connect(2): SYN out to SYN-ACK in. The port is chosen before."""
    connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
    connection.bind(source)
    start = perf_counter_ns()
    connection.connect(target)
    end = perf_counter_ns()
    accepted, _ = listener.accept()
    connection.close()
    accepted.close()
    return end - start


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
