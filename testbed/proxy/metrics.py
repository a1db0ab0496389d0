"""kube-proxy's metrics, under its names, in Prometheus' text format."""

from __future__ import annotations

import bisect
from dataclasses import dataclass, field

SYNC_BUCKETS = tuple(0.001 * 2**i for i in range(15))
"""Seconds; as upstream's kubeproxy_sync_proxy_rules_duration_seconds."""
PROGRAMMING_BUCKETS = (
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    *map(float, range(1, 11)),
    15.0,
    30.0,
    60.0,
    120.0,
    300.0,
)


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


@dataclass
class Metrics:
    """What one agent counts."""

    sync: Histogram = field(
        default_factory=lambda: Histogram(
            "kubeproxy_sync_proxy_rules_duration_seconds", "Duration of a sync", SYNC_BUCKETS
        )
    )
    programming: Histogram = field(
        default_factory=lambda: Histogram(
            "kubeproxy_network_programming_duration_seconds",
            "From the change of a Service or its endpoints to its rules on this node",
            PROGRAMMING_BUCKETS,
        )
    )
    last_sync: Gauge = field(
        default_factory=lambda: Gauge(
            "kubeproxy_sync_proxy_rules_last_timestamp_seconds", "When the last sync ended well"
        )
    )
    last_queued: Gauge = field(
        default_factory=lambda: Gauge(
            "kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds", "When a sync was last asked for"
        )
    )
    failures: Gauge = field(
        default_factory=lambda: Gauge(
            "kubeproxy_sync_proxy_rules_failures_total", "Syncs that failed", kind="counter"
        )
    )
    changes: Gauge = field(
        default_factory=lambda: Gauge(
            "testbed_sync_changes_total", "Lines, messages or listeners changed by syncs", kind="counter"
        )
    )

    def text(self) -> str:
        every: list[Histogram | Gauge] = list(vars(self).values())
        return "\n".join(one.text() for one in every) + "\n"
