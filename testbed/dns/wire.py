"""DNS messages: a question read, an answer written. RFC 1035, 2782 (SRV), 3596 (AAAA), 6891 (EDNS)."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address

A, NS, CNAME, SOA, PTR, TXT, AAAA, SRV, OPT, ANY = 1, 2, 5, 6, 12, 16, 28, 33, 41, 255
IN = 1
NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED = 0, 1, 2, 3, 4, 5

QUERY_RESPONSE, AUTHORITATIVE, TRUNCATED, RECURSION_DESIRED, RECURSION_AVAILABLE = (
    0x8000,
    0x0400,
    0x0200,
    0x0100,
    0x0080,
)
OPCODE = 0x7800
PLAIN_SIZE, LARGEST_DATAGRAM = 512, 1232
"""Bytes of an answer over UDP without EDNS, and at most with it: what fits every path unfragmented."""

MOST_POINTERS = 32
_HEADER = struct.Struct("!6H")


class Malformed(ValueError):
    """Not a query that can be answered; `rcode` is what to say, None to say nothing."""

    def __init__(self, rcode: int | None) -> None:
        super().__init__(rcode)
        self.rcode = rcode


@dataclass(frozen=True)
class Query:
    """One question. `name` is in lower case without the last dot; `question` is as it was sent."""

    id: int
    flags: int
    name: str
    type: int
    question: bytes
    edns: bool = False
    size: int = PLAIN_SIZE


@dataclass(frozen=True)
class Record:
    """A resource record of class IN; `data` is its wire form."""

    name: str
    type: int
    data: bytes


def parse(message: bytes) -> Query:
    """Raises Malformed."""
    if len(message) < _HEADER.size:
        raise Malformed(None)
    ident, flags, questions, _, _, additional = _HEADER.unpack_from(message)
    if flags & QUERY_RESPONSE:
        raise Malformed(None)
    if flags & OPCODE:
        raise Malformed(NOTIMP)
    if questions != 1:
        raise Malformed(FORMERR)
    name, end = read_name(message, _HEADER.size)
    if end + 4 > len(message):
        raise Malformed(FORMERR)
    kind, klass = struct.unpack_from("!2H", message, end)
    if klass not in (IN, ANY):
        raise Malformed(REFUSED)
    question, rest = message[_HEADER.size : end + 4], message[end + 4 :]
    edns = bool(additional) and len(rest) >= 11 and rest[0] == 0 and rest[1:3] == OPT.to_bytes(2)
    size = max(PLAIN_SIZE, min(int.from_bytes(rest[3:5]), LARGEST_DATAGRAM)) if edns else PLAIN_SIZE
    return Query(ident, flags, name, kind, question, edns, size)


def read_name(message: bytes, at: int) -> tuple[str, int]:
    """A name, not compressed, and where it ends. In a question nothing comes before it to point at."""
    labels: list[str] = []
    while True:
        if at >= len(message) or message[at] > 63:
            raise Malformed(FORMERR)
        length = message[at]
        if not length:
            return ".".join(labels), at + 1
        label = message[at + 1 : at + 1 + length]
        if len(label) < length or b"." in label:
            raise Malformed(FORMERR)
        labels.append(label.decode("latin-1").lower())
        at += 1 + length


def name_bytes(name: str) -> bytes:
    """The wire form of a name."""
    labels = [label.encode("latin-1") for label in name.rstrip(".").split(".") if label]
    return b"".join(bytes([len(label)]) + label for label in labels) + b"\0"


def address(name: str, ip: str) -> Record:
    """An A or AAAA record."""
    packed = ip_address(ip).packed
    return Record(name, A if len(packed) == 4 else AAAA, packed)


def pointer(name: str, kind: int, target: str) -> Record:
    """A CNAME, NS or PTR record."""
    return Record(name, kind, name_bytes(target))


def service(name: str, weight: int, port: int, target: str) -> Record:
    """An SRV record of priority 0."""
    return Record(name, SRV, struct.pack("!3H", 0, weight, port) + name_bytes(target))


def text(name: str, words: str) -> Record:
    return Record(name, TXT, bytes([len(words)]) + words.encode())


def authority(zone: str, server: str, serial: int, negative_ttl: int) -> Record:
    """The SOA record; `negative_ttl` in seconds is how long "there is none" may be remembered (RFC 2308)."""
    numbers = struct.pack("!5I", serial, 7200, 1800, 86400, negative_ttl)
    return Record(zone, SOA, name_bytes(server) + name_bytes(f"hostmaster.{zone}") + numbers)


def reverse(ip: str) -> str:
    """The name that PTR records of an address have."""
    return ip_address(ip).reverse_pointer


def answer(
    query: Query,
    rcode: int,
    sections: Sequence[Sequence[Record]] = ((), (), ()),
    *,
    ttl: int = 0,
    authoritative: bool = False,
    recursion: bool = False,
    limit: int = 65535,
) -> bytes:
    """The answer, of `limit` bytes at most: one that is longer is cut to nothing and marked truncated.

    `sections`: answer, authority, additional. The last is left out before anything is cut.
    """
    flags = QUERY_RESPONSE | (query.flags & RECURSION_DESIRED) | rcode
    flags |= AUTHORITATIVE if authoritative else 0
    flags |= RECURSION_AVAILABLE if recursion else 0
    for extra, cut in ((sections[2], 0), ((), 0), ((), TRUNCATED)):
        kept = ((), (), ()) if cut else (sections[0], sections[1], extra)
        body = b"".join(_record(query, each, ttl) for section in kept for each in section)
        counts = [len(kept[0]), len(kept[1]), len(kept[2]) + query.edns]
        option = struct.pack("!BHHIH", 0, OPT, LARGEST_DATAGRAM, 0, 0) if query.edns else b""
        made = _HEADER.pack(query.id, flags | cut, 1, *counts) + query.question + body + option
        if len(made) <= limit:
            break
    return made


def question(ident: int, name: str, kind: int) -> bytes:
    """A query, recursion desired."""
    head = _HEADER.pack(ident, RECURSION_DESIRED, 1, 0, 0, 0)
    return head + name_bytes(name) + struct.pack("!2H", kind, IN)


def read_answer(message: bytes) -> tuple[int, list[Record]]:
    """(rcode, records of the answer section), names in them written out; SERVFAIL for what cannot be read."""
    try:
        _, flags, questions, answers, _, _ = _HEADER.unpack_from(message)
        at, found = _HEADER.size, []
        for _ in range(questions):
            at = _expand(message, at)[1] + 4
        for _ in range(answers):
            name, at = _expand(message, at)
            kind, _, _, length = struct.unpack_from("!2HIH", message, at)
            at += 10
            data = message[at : at + length]
            if kind in (CNAME, PTR, NS):
                data = name_bytes(_expand(message, at)[0])
            found.append(Record(name, kind, data))
            at += length
    except (Malformed, struct.error, IndexError):
        return SERVFAIL, []
    return flags & 15, found


def _expand(message: bytes, at: int) -> tuple[str, int]:
    """A name that may end with a pointer to an earlier one (RFC 1035 4.1.4), and where it ends itself."""
    labels: list[str] = []
    end, hops = 0, 0
    while length := message[at]:
        if length >= 0xC0:
            end, at, hops = end or at + 2, int.from_bytes(message[at : at + 2]) & 0x3FFF, hops + 1
            if hops > MOST_POINTERS:
                raise Malformed(FORMERR)
            continue
        labels.append(message[at + 1 : at + 1 + length].decode("latin-1").lower())
        at += 1 + length
    return ".".join(labels), end or at + 1


def refusal(message: bytes, rcode: int) -> bytes:
    """An answer to a message whose question could not be read."""
    ident, flags = struct.unpack_from("!2H", message)
    return _HEADER.pack(ident, QUERY_RESPONSE | (flags & (OPCODE | RECURSION_DESIRED)) | rcode, 0, 0, 0, 0)


def _record(query: Query, record: Record, ttl: int) -> bytes:
    owner = b"\xc0\x0c" if record.name == query.name else name_bytes(record.name)
    return owner + struct.pack("!HHIH", record.type, IN, ttl, len(record.data)) + record.data
