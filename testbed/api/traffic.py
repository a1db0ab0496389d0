"""What the server counts, under kube-apiserver's names, and how many requests it takes at once.

k8s.io/apiserver pkg/endpoints/metrics and pkg/server/filters/maxinflight.go.
"""

from __future__ import annotations

import bisect
import resource
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from testbed.api.auth import User
from testbed.api.status import too_many_requests

READ_ONLY, MUTATING = "readOnly", "mutating"
_READS = frozenset({"get", "list"})
BUCKETS = (0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0)
"""Seconds."""

Labels = tuple[str, ...]
_REQUEST = ("verb", "group", "version", "resource", "subresource", "scope")


class Traffic:
    """`limits`: requests in flight by kind; 0 is no limit. Watches and streams do not count."""

    def __init__(self, limits: dict[str, int]) -> None:
        self._limits = limits
        self._in_flight = Counter({READ_ONLY: 0, MUTATING: 0})
        self._requests: Counter[Labels] = Counter()
        self._seconds: dict[Labels, list[float]] = {}
        self._rejected: Counter[Labels] = Counter()

    @contextmanager
    def admitted(self, user: User, verb: str) -> Iterator[None]:
        """Hold a place while a request is answered. Raises StatusError 429; `system:masters` are let in."""
        kind = READ_ONLY if verb in _READS else MUTATING
        limit = self._limits.get(kind, 0)
        if limit and self._in_flight[kind] >= limit and "system:masters" not in user.groups:
            self._rejected[kind,] += 1
            raise too_many_requests()
        self._in_flight[kind] += 1
        try:
            yield
        finally:
            self._in_flight[kind] -= 1

    def count(self, labels: Labels, code: int, seconds: float | None) -> None:
        """A request is answered. `labels` as _REQUEST; long-running ones have no duration."""
        self._requests[(*labels, str(code))] += 1
        if seconds is not None:
            row = self._seconds.setdefault(labels, [0.0] * (len(BUCKETS) + 2))
            row[bisect.bisect_left(BUCKETS, seconds)] += 1
            row[-1] += seconds

    def text(self, watchers: Counter[str], objects: dict[str, int]) -> str:
        """Prometheus' text format. `watchers` open by kind, `objects` stored by kind."""
        lines = [*_family("apiserver_request_total", "counter", "Requests by what they ask and their code")]
        names = (*_REQUEST, "code")
        lines += [_line("apiserver_request_total", names, key, n) for key, n in self._requests.items()]
        name = "apiserver_request_duration_seconds"
        lines += _family(name, "histogram", "Time to answer")
        for labels, row in self._seconds.items():
            lines += _histogram(name, labels, row)
        for name, kind, told, label, values in (
            ("apiserver_current_inflight_requests", "gauge", "In flight", "request_kind", self._in_flight),
            ("apiserver_storage_objects", "gauge", "Objects stored", "resource", objects),
            ("apiserver_longrunning_requests", "gauge", "Open watches", "resource", watchers),
        ):
            lines += _family(name, kind, told)
            lines += [_line(name, (label,), (key,), value) for key, value in values.items()]
        name = "apiserver_request_terminations_total"
        lines += _family(name, "counter", "Requests refused to protect the server")
        lines += [_line(name, ("request_kind",), key, count) for key, count in self._rejected.items()]
        name, memory = "process_max_resident_memory_bytes", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        lines += [*_family(name, "gauge", "Most memory used so far"), f"{name} {memory * 1024}"]
        return "\n".join(lines) + "\n"


def _family(name: str, kind: str, told: str) -> tuple[str, str]:
    return f"# HELP {name} {told}.", f"# TYPE {name} {kind}"


def _line(name: str, names: Labels, values: Labels, value: float) -> str:
    labels = ",".join(f'{key}="{text}"' for key, text in zip(names, values, strict=True))
    return f"{name}{{{labels}}} {value:g}" if value < 1e5 else f"{name}{{{labels}}} {value}"


def _histogram(name: str, labels: Labels, row: list[float]) -> Iterator[str]:
    total = 0.0
    for bound, count in zip((*map(str, BUCKETS), "+Inf"), row[:-1], strict=True):
        total += count
        yield _line(f"{name}_bucket", (*_REQUEST, "le"), (*labels, bound), total)
    yield _line(f"{name}_sum", _REQUEST, labels, row[-1])
    yield _line(f"{name}_count", _REQUEST, labels, total)
