"""kube-proxy's metrics, under its names, in Prometheus' text format."""

from __future__ import annotations

import bisect
from dataclasses import dataclass, field

SYNC_BUCKETS = tuple(0.001 * 2**i for i in range(15))
"""Seconds; as upstream's kubeproxy_sync_proxy_rules_duration_seconds."""
PROGRAMMING_BUCKETS = tuple(
    map(float, (0, 0.25, 0.5, *range(1, 60), *range(60, 120, 5), *range(120, 301, 30)))
)
"""Seconds; as upstream's kubeproxy_network_programming_duration_seconds."""


@dataclass
class Histogram:
    name: str
    help: str
    buckets: tuple[float, ...]
    counts: list[int] = field(default_factory=list)
    total: float = 0.0

    def __post_init__(self) -> None:
        self.counts = [0] * (len(self.buckets) + 1)

    def observe(self, value: float) -> None:
        self.counts[bisect.bisect_left(self.buckets, value)] += 1
        self.total += value

    def text(self) -> str:
        lines = [f"# HELP {self.name} {self.help}", f"# TYPE {self.name} histogram"]
        sum_ = 0
        for bound, count in zip((*map(str, self.buckets), "+Inf"), self.counts, strict=True):
            sum_ += count
            lines.append(f'{self.name}_bucket{{le="{bound}"}} {sum_}')
        return "\n".join([*lines, f"{self.name}_sum {self.total}", f"{self.name}_count {sum_}"])


@dataclass
class Gauge:
    name: str
    help: str
    value: float = 0.0
    kind: str = "gauge"

    def text(self) -> str:
        return f"# HELP {self.name} {self.help}\n# TYPE {self.name} {self.kind}\n{self.name} {self.value}"


class Metrics:
    """What one agent counts. Source: kubernetes pkg/proxy/metrics/metrics.go.

    A full sync compares with what is in the kernel; a partial one with what the agent knows to be there.
    """

    def __init__(self) -> None:
        self.sync = _syncs("proxy_rules", "Duration of a sync")
        self.full = _syncs("full_proxy_rules", "Duration of a sync that reads what is there")
        self.partial = _syncs("partial_proxy_rules", "Duration of a sync of nothing but changes")
        self.programming = Histogram(
            "kubeproxy_network_programming_duration_seconds",
            "From the change of a Pod or Service that an EndpointSlice tells of to its rules on this node",
            PROGRAMMING_BUCKETS,
        )
        self.last_sync = _gauge("last_timestamp_seconds", "When the last sync ended well")
        self.last_queued = _gauge("last_queued_timestamp_seconds", "When a sync was last asked for")
        self.services_pending = _gauge("service_changes_pending", "Changes of Services to be synced")
        self.endpoints_pending = _gauge("endpoint_changes_pending", "Changes of EndpointSlices to be synced")
        self.services = _counter("service_changes_total", "Changes of Services")
        self.endpoints = _counter("endpoint_changes_total", "Changes of EndpointSlices")
        self.failures = _counter("failures_total", "Syncs that failed")
        self.partial_failures = _counter(
            "iptables_partial_restore_failures_total", "Partial syncs that failed, in any mode"
        )
        self.changes = Gauge(
            "testbed_sync_changes_total", "Lines, messages or listeners changed by syncs", kind="counter"
        )

    def text(self) -> str:
        every: list[Histogram | Gauge] = list(vars(self).values())
        return "\n".join(one.text() for one in every) + "\n"


def _syncs(name: str, help: str) -> Histogram:
    return Histogram(f"kubeproxy_sync_{name}_duration_seconds", help, SYNC_BUCKETS)


def _gauge(name: str, help: str, kind: str = "gauge") -> Gauge:
    return Gauge(f"kubeproxy_sync_proxy_rules_{name}", help, kind=kind)


def _counter(name: str, help: str) -> Gauge:
    return _gauge(name, help, "counter")
