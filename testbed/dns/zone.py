"""What the server knows: records by name, changed one Service at a time, and the answer to a question."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from testbed.dns import wire
from testbed.dns.records import pod_address
from testbed.dns.wire import Record

VERSION = "1.1.0"
"""Of the specification."""
LONGEST_CHAIN = 8
REVERSE = ("in-addr.arpa", "ip6.arpa")


@dataclass(frozen=True)
class Found:
    """An answer, by the sections of a message."""

    rcode: int = wire.NOERROR
    answers: Sequence[Record] = ()
    authority: Sequence[Record] = ()
    additional: Sequence[Record] = ()
    leads_to: str = ""
    """The name outside the zone that the answers, all aliases, end with."""

    @property
    def sections(self) -> tuple[Sequence[Record], Sequence[Record], Sequence[Record]]:
        return self.answers, self.authority, self.additional


@dataclass
class Zone:
    """`domain` and the reverse names of its addresses. `version` counts changes."""

    domain: str
    negative_ttl: int = 5
    namespaces: set[str] = field(default_factory=set)
    version: int = 0

    def __post_init__(self) -> None:
        self._names: dict[str, dict[int, list[Record]]] = {}
        self._inner: Counter[str] = Counter()
        self._sources: dict[str, set[Record]] = {}
        self._serial = int(time.time())
        server = f"kube-dns.kube-system.svc.{self.domain}"
        own = [
            wire.authority(self.domain, server, self._serial, self.negative_ttl),
            wire.pointer(self.domain, wire.NS, server),
            wire.text(f"dns-version.{self.domain}", VERSION),
        ]
        self.put("", own)

    def put(self, source: str, records: Iterable[Record]) -> None:
        """Have exactly these records from `source`, a Service's key."""
        wanted, held = set(records), self._sources.get(source, set())
        for record in held - wanted:
            self._remove(record)
        for record in wanted - held:
            self._add(record)
        if wanted != held:
            self.version += 1
        if wanted:
            self._sources[source] = wanted
        else:
            self._sources.pop(source, None)

    def _add(self, record: Record) -> None:
        self._names.setdefault(record.name, {}).setdefault(record.type, []).append(record)
        self._inner.update(_ancestors(record.name))

    def _remove(self, record: Record) -> None:
        kinds = self._names[record.name]
        kinds[record.type].remove(record)
        if not kinds[record.type]:
            del kinds[record.type]
        if not kinds:
            del self._names[record.name]
        for name in _ancestors(record.name):
            self._inner[name] -= 1
            if not self._inner[name]:
                del self._inner[name]

    def namespace(self, name: str, there: bool) -> None:
        (self.namespaces.add if there else self.namespaces.discard)(name)
        self.version += 1

    def owns(self, name: str) -> bool:
        """Whether this server is the authority for the name, so that nobody else need be asked."""
        return _below(name, self.domain) or name in self._names

    def is_reverse(self, name: str) -> bool:
        return any(_below(name, zone) for zone in REVERSE)

    def find(self, name: str, kind: int) -> Found:
        """The answer to a question about a name that this server owns."""
        chain: list[Record] = []
        kinds = self._kinds(name)
        while kinds and wire.CNAME in kinds and kind not in (wire.CNAME, wire.ANY):
            if len(chain) == LONGEST_CHAIN:
                return Found(wire.SERVFAIL)
            chain.append(kinds[wire.CNAME][0])
            name = _name_in(chain[-1].data)
            if not self.owns(name):
                return Found(answers=chain, leads_to=name)
            kinds = self._kinds(name)
        if kinds is None:
            return Found(wire.NOERROR if chain else wire.NXDOMAIN, chain, self._authority())
        wanted = [r for each in kinds.values() for r in each] if kind == wire.ANY else kinds.get(kind, [])
        answers = random.sample(wanted, len(wanted)) if len(wanted) > 1 else list(wanted)
        if not answers:
            return Found(answers=chain, authority=self._authority())
        return Found(answers=[*chain, *answers], additional=self._glue(answers))

    def _kinds(self, name: str) -> dict[int, list[Record]] | None:
        held = self._names.get(name)
        if held is None and name.endswith(f".pod.{self.domain}"):
            labels = name.removesuffix(f".pod.{self.domain}").split(".")
            if len(labels) == 2 and labels[1] in self.namespaces:
                ip = pod_address(labels[:1])
                record = wire.address(name, ip) if ip else None
                return {record.type: [record]} if record else None
        if held is None and name in self._inner:
            return {}
        return held

    def _glue(self, answers: Sequence[Record]) -> list[Record]:
        """The addresses of what SRV records point at."""
        targets = {_name_in(each.data[6:]) for each in answers if each.type == wire.SRV}
        kinds = [self._names.get(target, {}) for target in sorted(targets)]
        return [r for each in kinds for kind in (wire.A, wire.AAAA) for r in each.get(kind, ())]

    def _authority(self) -> list[Record]:
        return self._names[self.domain][wire.SOA]


def _ancestors(name: str) -> Iterator[str]:
    while "." in name:
        name = name.partition(".")[2]
        yield name


def _below(name: str, zone: str) -> bool:
    return name == zone or name.endswith(f".{zone}")


def _name_in(data: bytes) -> str:
    return wire.read_name(data, 0)[0]
