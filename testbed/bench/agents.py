"""What an agent says of itself: kube-proxy's metrics, read on its node."""

from __future__ import annotations

import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence

from testbed.errors import TestbedError

PORTS = (10249, 10256)
"""Where kube-proxy serves /metrics, and where our agent does."""

SYNC = "kubeproxy_sync_proxy_rules_duration_seconds"
FULL = "kubeproxy_sync_full_proxy_rules_duration_seconds"
PROGRAMMING = "kubeproxy_network_programming_duration_seconds"
_LINE = re.compile(r"^(\w+?)_(sum|count)(?:\{[^}]*\})? ([-+0-9.eE]+|NaN)$", re.MULTILINE)

HEALTH = 10256
"""Where other machines reach what an agent says of its mode and its health."""

EVERY = 0.02

SPARED = 4
"""Agents are left alone so many times as long as asking takes: on a slow machine it slows their start."""

Totals = Mapping[str, tuple[float, float]]
"""Histogram → (sum of seconds, count), over all its labels."""


def totals(text: str) -> dict[str, tuple[float, float]]:
    """The sums and counts of Prometheus' text format."""
    found: dict[str, list[float]] = {}
    for name, kind, value in _LINE.findall(text):
        found.setdefault(name, [0.0, 0.0])[kind == "count"] += float(value)
    return {name: (sum_, count) for name, (sum_, count) in found.items()}


def metrics() -> dict[str, tuple[float, float]]:
    """Those of this node's agent; {} when nobody serves any."""
    for port in PORTS:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
                found = totals(answer.read().decode())
        except (urllib.error.URLError, OSError):
            continue
        if SYNC in found:
            return found
    return {}


def after(before: Totals, now: Totals, name: str) -> tuple[float, float]:
    """(seconds, count) of a histogram since `before`."""
    old, new = before.get(name, (0.0, 0.0)), now.get(name, (0.0, 0.0))
    return new[0] - old[0], new[1] - old[1]


def wait_for(enough: Callable[[Totals], bool], deadline: float) -> dict[str, tuple[float, float]]:
    """The metrics once they are `enough`. Raises TestbedError after `deadline` seconds."""
    end = time.monotonic() + deadline
    while True:
        found = metrics()
        if enough(found):
            return found
        if time.monotonic() > end:
            raise TestbedError(f"the agent's metrics do not show a sync after {deadline:g} s")
        time.sleep(EVERY)


def first_sync(deadline: float) -> dict[str, tuple[float, float]]:
    """The metrics of an agent that was just started, once it has synced."""
    return wait_for(lambda found: found.get(SYNC, (0.0, 0.0))[1] >= 1, deadline)


def next_sync(before: Totals, deadline: float) -> dict[str, tuple[float, float]]:
    """The metrics once there was a sync more than in `before`."""
    return wait_for(lambda found: after(before, found, SYNC)[1] >= 1, deadline)


def in_charge(addresses: Sequence[str], mode: str, deadline: float) -> list[str]:
    """Wait until the agents of the nodes at `addresses` run in `mode` and nothing else answers there: they
    have synced, and what other modes had left is gone. Those not so far after `deadline` seconds."""
    end = time.monotonic() + deadline
    waiting = list(addresses)
    while True:
        asking = time.monotonic()
        waiting = [address for address in waiting if not _in_charge(address, mode)]
        now = time.monotonic()
        if not waiting or now > end:
            return waiting
        time.sleep(max(EVERY, SPARED * (now - asking)))


def _in_charge(address: str, mode: str) -> bool:
    return _asked(address, "proxyMode") == mode and _asked(address, "livez") != ""


def _asked(address: str, what: str) -> str:
    """What the agent of a node answers; "" when it answers nothing good."""
    try:
        with urllib.request.urlopen(f"http://{address}:{HEALTH}/{what}", timeout=5) as answer:
            return str(answer.read().decode())
    except (urllib.error.URLError, OSError):
        return ""
