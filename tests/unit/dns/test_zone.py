from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import pytest

from testbed.dns import wire
from testbed.dns.records import records_of
from testbed.dns.wire import Malformed, name_bytes, parse
from testbed.dns.zone import Found, Zone

DOMAIN = "cluster.local"


def service(name: str, ip: str = "", **spec: Any) -> dict[str, Any]:
    addresses = {"clusterIP": ip, "clusterIPs": [ip]} if ip else {}
    return {"metadata": {"name": name, "namespace": "default"}, "spec": {**addresses, **spec}}


def endpoint(ip: str, ready: bool = True, **more: str) -> dict[str, Any]:
    return {"addresses": [ip], "conditions": {"ready": ready}, **more}


def slice_of(ports: list[dict[str, Any]], *endpoints: dict[str, Any]) -> dict[str, Any]:
    return {"addressType": "IPv4", "ports": ports, "endpoints": list(endpoints)}


def zone(*services: tuple[dict[str, Any], list[dict[str, Any]]]) -> Zone:
    made = Zone(DOMAIN)
    made.namespace("default", True)
    for obj, slices in services:
        made.put(f"default/{obj['metadata']['name']}", records_of(obj, slices, DOMAIN))
    return made


HTTP = {"name": "http", "port": 80, "protocol": "TCP"}
WEB = (service("web", "10.96.1.2", ports=[HTTP, {"port": 9}]), [])
DB = (
    service("db", "None"),
    [
        slice_of([HTTP], endpoint("10.244.1.5", hostname="db-0"), endpoint("10.244.1.6")),
        slice_of([HTTP], endpoint("10.244.1.7", ready=False)),
    ],
)
AWAY = (service("away", type="ExternalName", externalName="My.Database.example.com"), [])
ALIAS = (service("alias", type="ExternalName", externalName=f"web.default.svc.{DOMAIN}"), [])


def shown(found: Found) -> set[tuple[str, int, str]]:
    return {(each.name, each.type, readable(each)) for each in found.answers}


def readable(record: wire.Record) -> str:
    if record.type in (wire.A, wire.AAAA):
        return str(ip_address(record.data))
    if record.type == wire.SRV:
        number = int.from_bytes(record.data[4:6])
        return f"{int.from_bytes(record.data[2:4])} {number} {wire.read_name(record.data, 6)[0]}"
    if record.type == wire.TXT:
        return record.data[1:].decode()
    return wire.read_name(record.data, 0)[0]


WEB_NAME, DB_NAME = f"web.default.svc.{DOMAIN}", f"db.default.svc.{DOMAIN}"


@pytest.mark.parametrize(
    ("name", "kind", "expected"),
    [
        (WEB_NAME, wire.A, {(WEB_NAME, wire.A, "10.96.1.2")}),
        (
            f"_http._tcp.{WEB_NAME}",
            wire.SRV,
            {(f"_http._tcp.{WEB_NAME}", wire.SRV, f"100 80 {WEB_NAME}")},
        ),
        ("2.1.96.10.in-addr.arpa", wire.PTR, {("2.1.96.10.in-addr.arpa", wire.PTR, WEB_NAME)}),
        (DB_NAME, wire.A, {(DB_NAME, wire.A, "10.244.1.5"), (DB_NAME, wire.A, "10.244.1.6")}),
        (f"db-0.{DB_NAME}", wire.A, {(f"db-0.{DB_NAME}", wire.A, "10.244.1.5")}),
        (f"10-244-1-6.{DB_NAME}", wire.A, {(f"10-244-1-6.{DB_NAME}", wire.A, "10.244.1.6")}),
        (
            f"_http._tcp.{DB_NAME}",
            wire.SRV,
            {
                (f"_http._tcp.{DB_NAME}", wire.SRV, f"50 80 db-0.{DB_NAME}"),
                (f"_http._tcp.{DB_NAME}", wire.SRV, f"50 80 10-244-1-6.{DB_NAME}"),
            },
        ),
        ("5.1.244.10.in-addr.arpa", wire.PTR, {("5.1.244.10.in-addr.arpa", wire.PTR, f"db-0.{DB_NAME}")}),
        (
            f"away.default.svc.{DOMAIN}",
            wire.A,
            {(f"away.default.svc.{DOMAIN}", wire.CNAME, "my.database.example.com")},
        ),
        (
            f"alias.default.svc.{DOMAIN}",
            wire.A,
            {
                (f"alias.default.svc.{DOMAIN}", wire.CNAME, WEB_NAME),
                (WEB_NAME, wire.A, "10.96.1.2"),
            },
        ),
        (
            f"10-244-9-9.default.pod.{DOMAIN}",
            wire.A,
            {(f"10-244-9-9.default.pod.{DOMAIN}", wire.A, "10.244.9.9")},
        ),
        (f"dns-version.{DOMAIN}", wire.TXT, {(f"dns-version.{DOMAIN}", wire.TXT, "1.1.0")}),
    ],
)
@pytest.mark.feature("A20")
def test_what_is_there(name: str, kind: int, expected: set[tuple[str, int, str]]) -> None:
    found = zone(WEB, DB, AWAY, ALIAS).find(name, kind)
    assert (found.rcode, shown(found)) == (wire.NOERROR, expected)


@pytest.mark.parametrize(
    ("name", "rcode"),
    [
        (WEB_NAME, wire.NOERROR),
        (f"default.svc.{DOMAIN}", wire.NOERROR),
        (f"_tcp.{WEB_NAME}", wire.NOERROR),
        (f"gone.default.svc.{DOMAIN}", wire.NXDOMAIN),
        (f"10-244-1-7.{DB_NAME}", wire.NXDOMAIN),
        (f"10-244-9-9.elsewhere.pod.{DOMAIN}", wire.NXDOMAIN),
        (f"not-an-address.default.pod.{DOMAIN}", wire.NXDOMAIN),
        ("9.9.96.10.in-addr.arpa", wire.NXDOMAIN),
    ],
)
@pytest.mark.feature("A20")
def test_what_is_not_there_is_told_with_the_authority(name: str, rcode: int) -> None:
    found = zone(WEB, DB).find(name, wire.AAAA)
    assert (found.rcode, found.answers) == (rcode, [])
    assert [each.type for each in found.authority] == [wire.SOA]


PAIR_NAME, PODS_NAME = f"pair.default.svc.{DOMAIN}", f"pods.default.svc.{DOMAIN}"
PAIR = (service("pair", clusterIPs=["10.96.1.3", "fd00:10:96::3"], clusterIP="10.96.1.3"), [])
PODS = (
    service("pods", "None"),
    [
        slice_of([HTTP], endpoint("10.244.1.5")),
        {**slice_of([HTTP], endpoint("fd00:10:244:1::5")), "addressType": "IPv6"},
    ],
)
POD_6 = f"fd00-10-244-1--5.{PODS_NAME}"


@pytest.mark.parametrize(
    ("name", "kind", "expected"),
    [
        (PAIR_NAME, wire.A, {"10.96.1.3"}),
        (PAIR_NAME, wire.AAAA, {"fd00:10:96::3"}),
        (wire.reverse("fd00:10:96::3"), wire.PTR, {PAIR_NAME}),
        (PODS_NAME, wire.A, {"10.244.1.5"}),
        (PODS_NAME, wire.AAAA, {"fd00:10:244:1::5"}),
        (POD_6, wire.AAAA, {"fd00:10:244:1::5"}),
        (wire.reverse("fd00:10:244:1::5"), wire.PTR, {POD_6}),
        (f"_http._tcp.{PODS_NAME}", wire.SRV, {f"50 80 {POD_6}", f"50 80 10-244-1-5.{PODS_NAME}"}),
        (f"fd00-10-244--9.default.pod.{DOMAIN}", wire.AAAA, {"fd00:10:244::9"}),
    ],
)
@pytest.mark.feature("A20", "B9")
def test_both_families(name: str, kind: int, expected: set[str]) -> None:
    assert {readable(each) for each in zone(PAIR, PODS).find(name, kind).answers} == expected


@pytest.mark.feature("A20")
def test_srv_comes_with_the_addresses_it_points_at() -> None:
    found = zone(DB).find(f"_http._tcp.{DB_NAME}", wire.SRV)
    assert {readable(each) for each in found.additional} == {"10.244.1.5", "10.244.1.6"}


def test_a_service_that_goes_leaves_nothing() -> None:
    made, empty = zone(WEB, DB), zone()
    made.put("default/web", ())
    made.put("default/db", ())
    assert (made._names.keys(), made._inner) == (empty._names.keys(), empty._inner)


def test_a_loop_of_aliases_ends_with_a_failure() -> None:
    loop = [
        (service(a, type="ExternalName", externalName=f"{b}.default.svc.{DOMAIN}"), [])
        for a, b in (("x", "y"), ("y", "x"))
    ]
    assert zone(*loop).find(f"x.default.svc.{DOMAIN}", wire.A) == Found(wire.SERVFAIL)


def query(name: str, kind: int = wire.A, more: bytes = b"", additional: int = 0) -> bytes:
    head = (7, 0x0100, 1, 0, 0, additional)
    return b"".join(n.to_bytes(2) for n in head) + name_bytes(name) + kind.to_bytes(2) + b"\0\x01" + more


def test_a_query_is_read_whatever_its_case_and_with_its_size() -> None:
    option = b"\0\0\x29\x10\0\0\0\0\0\0\0"
    read = parse(query("WeB.Default", wire.SRV, option, 1))
    assert (read.id, read.name, read.type, read.edns, read.size) == (7, "web.default", 33, True, 1232)
    assert read.question.startswith(b"\x03WeB")


@pytest.mark.parametrize("cut", range(12, 28))
def test_a_message_that_is_cut_is_refused_or_ignored(cut: int) -> None:
    with pytest.raises(Malformed):
        parse(query("web.default")[:cut])


@pytest.mark.parametrize(
    ("message", "rcode"),
    [
        (b"", None),
        (query("a")[:2] + b"\x81\0" + query("a")[4:], None),
        (query("a")[:2] + b"\x28\0" + query("a")[4:], wire.NOTIMP),
        (query("a")[:4] + b"\0\x02" + query("a")[6:], wire.FORMERR),
        (query("a")[:12] + b"\xc0\x0c\0\x01\0\x01", wire.FORMERR),
        (query("a")[:-1] + b"\x03", wire.REFUSED),
    ],
)
def test_other_messages_get_their_code(message: bytes, rcode: int | None) -> None:
    with pytest.raises(Malformed) as caught:
        parse(message)
    assert caught.value.rcode == rcode
