"""Load by real tools: wrk, iperf3, sockperf. Plain functions that run in a place."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from ipaddress import ip_interface
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage

from testbed.bench.prober import Address
from testbed.errors import TestbedError

CONNECTIONS = 16
"""That wrk has under way at once."""

FIRST_SOURCE, SOURCES = 200, 48
"""Addresses of the client's /24, beyond those of Pods, from which new connections come."""

BEFORE_SLEEP = "Warmup stage"
"""What sockperf says last before it sleeps."""

STREAM_PORT, ECHO_PORT = 5201, 11111
"""iperf3's (TCP) and sockperf's (UDP) own."""

PROGRAMS = ("wrk", "iperf3", "sockperf", "setpriv")
GRACE = 30.0
TOLD_EACH = 0.05
"""Seconds from one SIGINT to the next."""
LOOK_EACH = 0.001
MOST_ERRORS = 0.01

REPORT = """
done = function(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format("%d %d %d %f %f\\n", summary.requests, summary.duration,
    errors.connect + errors.timeout + errors.status, latency:percentile(50), latency:percentile(99)))
end
"""
"""wrk's own summary as numbers: requests, µs, errors, latency in µs (wrk's SCRIPTING)."""


def need() -> None:
    """Raises TestbedError when a tool is not there."""
    missing = [program for program in PROGRAMS if not shutil.which(program)]
    if missing:
        raise TestbedError(f"{', '.join(missing)} is not installed; `make setup` as root installs it")


def run(command: Sequence[str], seconds: float) -> str:
    """What a program that ends by itself says. Raises TestbedError when it fails."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + GRACE, check=False)
    if done.returncode:
        words = (done.stderr or done.stdout).strip().splitlines()
        raise TestbedError(f"{command[0]} ended with {done.returncode}: {words[-1] if words else ''}")
    return done.stdout


@contextlib.contextmanager
def _script() -> Iterator[str]:
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(REPORT)
        script.flush()
        yield script.name


def _wrk(script: str, target: Address, connections: int, *more: str) -> list[str]:
    """Its command line, of a run that is long enough for every burst."""
    url = f"http://{target[0]}:{target[1]}/"
    return ["wrk", f"-c{connections}", "-t1", "-d600s", f"-s{script}", *more, url]


def _burst(commands: Sequence[Sequence[str]], seconds: float) -> list[str]:
    """What wrks say that run at once. wrk takes whole seconds; SIGINT ends it earlier, and it reports.

    It is told again and again: a SIGINT between wrk's start and its sleep ends the load, but not the sleep.
    """
    running = [subprocess.Popen(words, stdout=subprocess.PIPE, text=True) for words in commands]
    try:
        time.sleep(seconds)
        end = time.monotonic() + GRACE
        while any(process.poll() is None for process in running):
            if time.monotonic() > end:
                raise TestbedError(f"wrk did not end within {GRACE:g} s of being told to")
            for process in running:
                process.send_signal(signal.SIGINT)
            time.sleep(TOLD_EACH)
        return [process.communicate()[0] for process in running]
    finally:
        for process in running:
            process.kill()
            process.wait()


def _told(said: str, target: Address) -> tuple[float, float, float]:
    lines = said.strip().splitlines()
    if not lines or not re.fullmatch(r"(\d+ ){3}[\d.]+ [\d.]+", lines[-1]):
        raise TestbedError(f"wrk at {target[0]}:{target[1]} said nothing of its run: {lines[-1:]}")
    done, micros, errors, middle, tail = map(float, lines[-1].split())
    if not done or errors > MOST_ERRORS * done:
        raise TestbedError(f"wrk at {target[0]}:{target[1]}: {done:.0f} answers, {errors:.0f} errors")
    return done / micros * 1e6, middle, tail


def requests(target: Address, seconds: float) -> tuple[float, float, float, float]:
    """Requests on open connections: (per second, p50 µs, p99 µs, CPU seconds of wrk for each second)."""
    before = getrusage(RUSAGE_CHILDREN)
    with _script() as script:
        rate, middle, tail = _told(_burst([_wrk(script, target, CONNECTIONS)], seconds)[0], target)
    after = getrusage(RUSAGE_CHILDREN)
    return rate, middle, tail, (after.ru_utime - before.ru_utime) / seconds


def new_connections(targets: Sequence[Address], seconds: float, turn: int) -> float:
    """Connections per second of a wrk for each target, all at once, each from a client address of its own.

    `turn` moves on through the addresses, so that no burst has to wait for the ports of another.
    """
    each = max(1, CONNECTIONS // len(targets))
    with _sources(targets, turn), _script() as script:
        said = _burst([_wrk(script, one, each, "-H", "Connection: close") for one in targets], seconds)
    return sum(_told(words, target)[0] for words, target in zip(said, targets, strict=True))


@contextlib.contextmanager
def _sources(targets: Sequence[Address], turn: int) -> Iterator[None]:
    """Meanwhile, routes give the connections to each target a client address of their own."""
    found = json.loads(run(["ip", "-j", "route", "get", targets[0][0]], 5))[0]
    device, own = found["dev"], found["prefsrc"]
    via = f"via {found['gateway']} " if "gateway" in found else ""
    network = ip_interface(f"{own}/24").network
    addresses = [
        network[FIRST_SOURCE + (turn * len(targets) + number) % SOURCES] for number in range(len(targets))
    ]
    add = [f"addr replace {address}/32 dev {device}" for address in addresses]
    add += [
        f"route replace {target[0]}/32 {via}dev {device} src {address}"
        for target, address in zip(targets, addresses, strict=True)
    ]
    _ip(add)
    try:
        yield
    finally:
        _ip([f"route del {target}/32" for target in {target[0] for target in targets}])


def _ip(lines: Sequence[str]) -> None:
    run_ = subprocess.run(
        ["ip", "-batch", "-"], input="\n".join([*lines, ""]), text=True, capture_output=True
    )
    if run_.returncode:
        raise TestbedError(f"ip: {run_.stderr.strip()}")


def bulk(address: str, seconds: float) -> float:
    """Gbit/s that one TCP stream brought to iperf3's server."""
    whole = f"{max(1, round(seconds))}"
    said = run(["iperf3", "-J", "-c", address, "-p", f"{STREAM_PORT}", "-t", whole], seconds)
    return float(json.loads(said)["end"]["sum_received"]["bits_per_second"]) / 1e9


_READY: list[subprocess.Popen[str]] = []
"""sockperfs of this place that have started and are held, the oldest first."""


def ready_to_echo(address: str, seconds: float) -> None:
    """Start sockperf and hold it. It sleeps for two seconds before it sends; all may do so at once."""
    whole = f"{max(1, round(seconds))}"
    words = ["sockperf", "ping-pong", "-i", address, "-p", f"{ECHO_PORT}", "-t", whole]
    process = _child(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert process.stdout is not None
    while (line := process.stdout.readline()) and BEFORE_SLEEP not in line:
        pass
    stat = Path(f"/proc/{process.pid}/stat")
    while stat.read_text().rpartition(")")[2].split()[0] == "R":  # not asleep yet (proc_pid_stat(5))
        time.sleep(LOOK_EACH)
    process.send_signal(signal.SIGSTOP)
    _READY.append(process)


def datagrams(address: str, seconds: float) -> tuple[float, float]:
    """(answers per second, percent lost) of the sockperf that is ready longest, one datagram under way."""
    process = _READY.pop(0)
    process.send_signal(signal.SIGCONT)
    try:
        said, _ = process.communicate(timeout=seconds + GRACE)
    finally:
        process.kill()
        process.wait()
    if process.returncode:
        raise TestbedError(f"sockperf at {address} ended with {process.returncode}: {said.strip()[-200:]}")
    valid = re.search(
        r"Valid Duration\D+RunTime=([\d.]+) sec; SentMessages=(\d+); ReceivedMessages=(\d+)", said
    )
    if not valid or not int(valid[3]):
        raise TestbedError(f"sockperf at {address}: no datagram was answered")
    took, sent, received = float(valid[1]), int(valid[2]), int(valid[3])
    return received / took, 100 * (1 - received / sent)


def serve() -> None:
    """Servers of iperf3 and sockperf in this place, until the place is gone."""
    for words in (
        ["iperf3", "-s", "-p", f"{STREAM_PORT}"],
        ["sockperf", "server", "-p", f"{ECHO_PORT}"],
    ):
        _child(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _child(words: Sequence[str], stdout: int, stderr: int) -> subprocess.Popen[str]:
    """A program that dies with this process, whatever state it is in."""
    words = ["setpriv", "--pdeathsig", "KILL", *words]
    return subprocess.Popen(words, stdout=stdout, stderr=stderr, text=True)
