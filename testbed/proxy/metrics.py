"""kube-proxy's metrics, under its names, in Prometheus' text format."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

SYNC_BUCKETS = tuple(0.001 * 2**i for i in range(15))
"""Seconds; as upstream's kubeproxy_sync_proxy_rules_duration_seconds."""
PROGRAMMING_BUCKETS = tuple(map(float, (0.25, 0.5, *range(1, 60), *range(60, 120, 5), *range(120, 301, 30))))
"""Seconds; as upstream's kubeproxy_network_programming_duration_seconds."""


@dataclass
class Histogram:
    name: str
    help: str
    buckets: tuple[float, ...]
    counts: list[int] = field(default_factory=list)
    total: float = 0.0
    kind: str = "histogram"

    def __post_init__(self) -> None:
        self.counts = [0] * (len(self.buckets) + 1)

    def observe(self, value: float) -> None:
        self.counts[bisect.bisect_left(self.buckets, value)] += 1
        self.total += value

    def lines(self, labels: str) -> list[str]:
        """The samples, with `labels` ahead of their own."""
        lines = []
        sum_ = 0
        for bound, count in zip((*map(str, self.buckets), "+Inf"), self.counts, strict=True):
            sum_ += count
            lines.append(f'{self.name}_bucket{{{labels},le="{bound}"}} {sum_}')
        return [*lines, f"{self.name}_sum{{{labels}}} {self.total}", f"{self.name}_count{{{labels}}} {sum_}"]


@dataclass
class Gauge:
    name: str
    help: str
    value: float = 0.0
    kind: str = "gauge"
    by_family: bool = True
    """Told of each IP family; else one number tells of both."""

    def lines(self, labels: str) -> list[str]:
        """The sample."""
        return [f"{self.name}{{{labels}}} {self.value}"]


@dataclass
class Gauges:
    """A number for each value of a label."""

    name: str
    help: str
    label: str
    values: dict[str, float] = field(default_factory=dict)
    kind: str = "gauge"

    def lines(self, labels: str = "") -> list[str]:
        """The samples, with `labels` ahead of their own."""
        ahead = f"{labels}," if labels else ""
        return [
            f'{self.name}{{{ahead}{self.label}="{value}"}} {number}' for value, number in self.values.items()
        ]


Metric = Histogram | Gauge | Gauges


class Metrics:
    """What an agent counts for one IP family. Source: kubernetes pkg/proxy/metrics/metrics.go.

    A full sync compares with what is in the kernel; a partial one with what the agent knows to be there.
    """

    def __init__(self, family: int = 4, mode: str = "iptables") -> None:
        self.labels = f'ip_family="IPv{family}"'
        self.oldest_pending = 0.0
        """When the oldest change that waits for its sync came, in s since the epoch; 0: none waits."""
        self.sync = _syncs("sync_proxy_rules", "Duration of a sync")
        self.full = _syncs("sync_full_proxy_rules", "Duration of a sync that reads what is there")
        self.partial = _syncs("sync_partial_proxy_rules", "Duration of a sync of nothing but changes")
        self.conntrack = _syncs("conntrack_reconciler_sync", "Duration of a look for stale connections")
        self.programming = Histogram(
            "kubeproxy_network_programming_duration_seconds",
            "From the change of a Pod or Service that an EndpointSlice tells of to its rules on this node",
            PROGRAMMING_BUCKETS,
        )
        self.last_sync = _gauge("last_timestamp_seconds", "When the last sync ended well")
        self.last_queued = _gauge("last_queued_timestamp_seconds", "When a sync was last asked for")
        self.services_pending = _both("service_changes_pending", "Changes of Services to be synced")
        self.endpoints_pending = _both("endpoint_changes_pending", "Changes of EndpointSlices to be synced")
        self.services = _both("service_changes_total", "Changes of Services", "counter")
        self.endpoints = _both("endpoint_changes_total", "Changes of EndpointSlices", "counter")
        self.no_local_endpoints = Gauges(
            "kubeproxy_sync_proxy_rules_no_local_endpoints_total",
            "Service ports with a policy Local whose endpoints are all on other nodes",
            "traffic_policy",
        )
        self.failures = _counter(FAILURES.get(mode, "iptables_restore_failures_total"), "Syncs that failed")
        self.partial_failures = _counter(
            "iptables_partial_restore_failures_total", "Partial syncs that failed, in any mode"
        )
        self.rules = _by_table("iptables_total", "iptables rules of the agent")
        self.rules_last = _by_table("iptables_last", "Lines given to iptables-restore by the last sync")
        self.forgotten = Gauge(
            "kubeproxy_conntrack_reconciler_deleted_entries_total",
            "Stale connections deleted",
            kind="counter",
        )
        self.changes = Gauge(
            "testbed_sync_changes_total", "Lines, messages or listeners changed by syncs", kind="counter"
        )

    def every(self) -> list[Metric]:
        return [one for one in vars(self).values() if isinstance(one, Metric)]


FAILURES = {"nftables": "nftables_sync_failures_total"}
"""By mode; the others change iptables."""


def text(several: Sequence[Metrics]) -> str:
    """What the agent of several families has to tell, in Prometheus' format."""
    lines = []
    for alike in zip(*(one.every() for one in several), strict=True):
        first = alike[0]
        lines += [f"# HELP {first.name} {first.help}", f"# TYPE {first.name} {first.kind}"]
        if isinstance(first, Gauge) and not first.by_family:
            total = sum(one.value for one in alike if isinstance(one, Gauge))
            lines.append(f"{first.name} {total}")
        else:
            lines += [
                line for whose, one in zip(several, alike, strict=True) for line in one.lines(whose.labels)
            ]
    return "\n".join([*lines, ""])


def _syncs(name: str, help: str) -> Histogram:
    return Histogram(f"kubeproxy_{name}_duration_seconds", help, SYNC_BUCKETS)


def _by_table(name: str, help: str) -> Gauges:
    return Gauges(f"kubeproxy_sync_proxy_rules_{name}", help, "table")


def _gauge(name: str, help: str, kind: str = "gauge") -> Gauge:
    return Gauge(f"kubeproxy_sync_proxy_rules_{name}", help, kind=kind)


def _both(name: str, help: str, kind: str = "gauge") -> Gauge:
    return replace(_gauge(name, help, kind), by_family=False)


def _counter(name: str, help: str) -> Gauge:
    return _gauge(name, help, "counter")
