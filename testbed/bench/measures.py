"""What is measured: the measures, the modes they are compared over, the sizes, and how many samples.

The definitions are upstream's: first-packet latency is the time from the client's SYN to the first packet of
the backend (kubernetes.io/blog/2025/02/28/nftables-kube-proxy).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from testbed.bench.units import TIME, Unit
from testbed.errors import UsageError

DIRECT = "direct"
"""Pod to Pod without a Service: what the network costs before any proxy."""

MODES = ("iptables", "ipvs", "userspace")
"""What is compared unless told otherwise."""
KNOWN = ("iptables", "ipvs", "nftables", "userspace")
SIZES = (1, 100, 1000)
MAX_SERVICES = 30_000
POSITIONS = ("first", "middle", "last")
"""Where in the list of Services the one stands that a sample went to."""


@dataclass(frozen=True)
class Measure:
    """One kind of sample: its title, its unit and, for the report, how exactly it was taken."""

    name: str
    title: str
    definition: str
    caution: str = ""
    unit: Unit = TIME


FIRST_PACKET = Measure(
    "first-packet",
    "First packet",
    "New connection, a fresh 5-tuple each: connect(2) sends the SYN, the sample ends with the first packet "
    "of the backend.",
    "In every mode but userspace, and in direct, that packet is the SYN-ACK: the sample ends when connect(2) "
    "returns. "
    "In userspace mode the SYN-ACK comes from the proxy itself and says nothing of the backend; there the "
    "sample ends with the first byte of the backend's answer, so it holds one request more. "
    "“First byte” below is the like-for-like comparison.",
)
FIRST_BYTE = Measure(
    "first-byte",
    "First byte on a new connection",
    "New connection, a fresh 5-tuple each: from connect(2) over an HTTP request sent at once to the first "
    "byte of the answer. The same for every mode.",
)
KEEP_ALIVE = Measure(
    "keep-alive",
    "Request on an open connection",
    "One HTTP request and its whole answer on a connection that is already open (HTTP keep-alive).",
)
MEASURES = {measure.name: measure for measure in (FIRST_PACKET, FIRST_BYTE, KEEP_ALIVE)}

ANSWERED_BY_PROXY = frozenset({"userspace"})
"""Modes in which the proxy itself completes the handshake."""


@dataclass(frozen=True)
class Plan:
    """What one run takes: for each size `blocks` rounds over all modes, `samples` of each kind in each."""

    modes: tuple[str, ...] = MODES
    sizes: tuple[int, ...] = SIZES
    blocks: int = 20
    samples: int = 15
    seed: int = 1

    @property
    def columns(self) -> tuple[str, ...]:
        """All that is compared, the base first."""
        return (DIRECT, *self.modes)


def count_of(services: int) -> str:
    """`1 Service`, `1,000 Services`."""
    return f"{services:,} Service" + ("" if services == 1 else "s")


def parse_modes(text: str, known: Iterable[str] = KNOWN) -> tuple[str, ...]:
    """`iptables,ipvs`. Raises UsageError for a mode that is not `known`, none at all, or one named twice."""
    modes = tuple(part.strip() for part in text.split(",") if part.strip())
    for mode in modes:
        if mode not in known:
            raise UsageError(f"unknown mode {mode!r}; benchmarks know {', '.join(known)}")
    if not modes or len(set(modes)) < len(modes):
        raise UsageError(f"--modes {text!r}: name each mode once, such as iptables,ipvs")
    return modes


def parse_sizes(text: str) -> tuple[int, ...]:
    """`1,100,1000`, rising. Raises UsageError."""
    try:
        sizes = sorted({int(part) for part in text.split(",")})
    except ValueError:
        raise UsageError(f"--services {text!r}: give numbers of Services, such as 1,100,1000") from None
    if sizes[0] < 1 or sizes[-1] > MAX_SERVICES:
        raise UsageError(f"--services {text!r}: each must be between 1 and {MAX_SERVICES:,}")
    return tuple(sizes)
