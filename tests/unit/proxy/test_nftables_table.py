"""The nftables table: its difference touches what changed, and nothing else, in an order that nft takes."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import chain

import pytest
from service_cases import HERE, NODE, OPTIONS, SERVICES, SNAPSHOT, THERE, service

from testbed.kernel import nft
from testbed.kernel.nft import AT_ONCE, Set, Table, creation, parsed, transactions
from testbed.model.service import Endpoint, ServicePort, Snapshot
from testbed.proxy.modes.nftables import Nftables
from testbed.proxy.modes.nftables_rules import duration, service_rules

LISTED = """
table ip kube-proxy {
    comment "of a service proxy"
    set nodeport-ips {
        type ipv4_addr
        elements = { 10.0.0.1, 10.0.0.2,
                 10.0.0.3 }
    }

    set affinity-X {
        type ipv4_addr
        size 65535
        flags dynamic,timeout
        timeout 3h
        elements = { 10.244.1.7 expires 2h59m }
    }

    map service-ips {
        type ipv4_addr . inet_proto . inet_service : verdict
        elements = { 10.96.0.1 . tcp . 443 : goto service-X,
                 10.96.0.2 . udp . 53 : drop }
    }

    chain nat-output {
        type nat hook output priority -100; policy accept;
        jump services
    }

    chain service-X {
        numgen random mod 2 vmap { 0 : goto endpoint-A, 1 : goto endpoint-B }
    }

    chain empty {
    }
}
"""


def snapshot(*services: ServicePort) -> Snapshot:
    return Snapshot({(one.name, one.protocol.value): one for one in services}, (NODE,))


def rendered(*services: ServicePort) -> Table:
    return Nftables(OPTIONS).render(snapshot(*services))


def edits(have: Table, want: Table) -> list[str]:
    return list(chain(*nft.edits("ip t", have, want)))


def test_what_nft_lists_is_read() -> None:
    table = parsed(LISTED)
    assert table.hooks == {"nat-output": "type nat hook output priority -100; policy accept;"}
    assert table.chains == {
        "nat-output": ("jump services",),
        "service-X": ("numgen random mod 2 vmap { 0 : goto endpoint-A, 1 : goto endpoint-B }",),
        "empty": (),
    }
    assert table.sets["nodeport-ips"] == Set(
        ("type ipv4_addr",), dict.fromkeys(("10.0.0.1", "10.0.0.2", "10.0.0.3"), "")
    )
    assert table.sets["affinity-X"].elements == {}, "those are the clients', not ours"
    assert table.sets["service-ips"].elements == {
        "10.96.0.1 . tcp . 443": "goto service-X",
        "10.96.0.2 . udp . 53": "drop",
    }
    assert [table.sets[name].kind for name in table.sets] == ["set", "set", "map"]


def test_no_change_no_command() -> None:
    assert edits(rendered(*SERVICES), rendered(*SERVICES)) == []


@pytest.mark.feature("B14")
def test_one_endpoint_more_touches_its_service_only() -> None:
    more = replace(service("two", "10.96.0.19", HERE, THERE, Endpoint("10.244.2.3", 8080)), node_port=30019)
    after = [more if one.service == "two" else one for one in SERVICES]
    commands = edits(rendered(*SERVICES), rendered(*after))
    order = ["add chain", *["add rule"] * 2, "flush chain", *["add rule"] * 2]
    assert [line.split(" ip t ")[0] for line in commands] == order
    assert all("default/two/" in line for line in commands)


def test_very_many_services_come_in_portions() -> None:
    """Packets are led to their chains by the last portion only; what is usual is one transaction."""
    many = [
        service(f"s{number}", f"10.97.{number // 250}.{number % 250}", HERE, THERE) for number in range(1200)
    ]
    steps = nft.edits("ip t", rendered(), rendered(*many))
    scripts = list(transactions(steps))
    assert list(chain(*scripts)) == list(chain(*steps))
    assert [sum("vmap {" in line for line in script) for script in scripts] == [AT_ONCE, AT_ONCE, 200]
    assert not any("element" in line for script in scripts[:-1] for line in script)
    assert len(list(transactions(nft.edits("ip t", rendered(*many), rendered())))) == 1
    assert len(list(transactions(nft.edits("ip t", rendered(), rendered(*many[:AT_ONCE]))))) == 1


def test_a_service_that_goes_takes_everything_along() -> None:
    commands = edits(rendered(*SERVICES), rendered(*SERVICES[:-1]))
    assert {line.split()[0] for line in commands} == {"delete", "flush"}
    assert all("default/udp/" in line or " element " in line for line in commands)
    order = [line.split(" ip t ")[0] for line in commands]
    assert order == sorted(order, key=["delete element", "flush chain", "delete chain"].index)


def test_a_new_affinity_time_is_a_new_set() -> None:
    """The time of a set that is there cannot be changed."""
    before, after = (rendered(service("s", "10.96.0.9", HERE, affinity_seconds=time)) for time in (60, 90))
    commands = edits(before, after)
    assert next(line for line in commands if line.startswith("add set")).endswith("timeout 1m30s; }")
    (deleted,) = [line for line in commands if line.startswith("delete set")]
    assert deleted.split()[-1] not in after.sets


def test_nothing_is_used_before_it_is_there() -> None:
    known: set[str] = set()
    for line in chain(*creation("ip t", Nftables(OPTIONS).render(SNAPSHOT))):
        words = line.split()
        if words[:2] in (["add", "chain"], ["add", "set"], ["add", "map"]):
            known.add(words[4])
        for used in re.findall(r"(?:goto|jump|@)\s?([\w/.-]+)", line):
            assert used in known, line


def test_what_does_not_fit_is_told() -> None:
    table = rendered(*SERVICES)
    assert table.fits(rendered())
    hooks = dict(table.hooks)
    for other in (
        replace(table, dormant=True),
        replace(table, hooks={**hooks, "nat-output": "type nat hook output priority 0; policy accept;"}),
        replace(table, hooks={**hooks, "theirs": "type filter hook input priority 0; policy drop;"}),
        replace(table, hooks={}),
        replace(table, sets={**table.sets, "service-ips": Set(("type ipv4_addr : verdict",))}),
    ):
        assert not other.fits(table)


def test_the_first_of_two_services_has_the_address() -> None:
    """So that neither spoils the transaction for all."""
    first = service("a", "10.96.0.1", HERE, external_ips=("198.51.100.1",))
    second = service("b", "10.96.0.2", THERE, external_ips=("198.51.100.1",))
    owner = rendered(first, second).sets["service-ips"].elements["198.51.100.1 . tcp . 80"]
    assert owner.endswith("default/a/tcp/http")


@pytest.mark.parametrize(
    ("ranges", "rule"),
    [
        (("10.0.0.0/8",), "ip saddr != 10.0.0.0/8 drop"),
        (("10.0.0.0/8", "10.1.0.0/16"), "ip saddr != 10.0.0.0/8 drop"),
        (("192.0.2.1/32", "10.0.0.5/8"), "ip saddr != { 10.0.0.0/8, 192.0.2.1 } drop"),
        (("0.0.0.0/0", "10.0.0.0/8"), None),
        ((), None),
    ],
)
@pytest.mark.feature("B4")
def test_source_ranges(ranges: tuple[str, ...], rule: str | None) -> None:
    """Ranges that overlap are no set that nft takes; everybody is no range."""
    one = service("s", "10.96.0.1", HERE, load_balancer_ips=("203.0.113.1",), source_ranges=ranges)
    rules = service_rules(one, OPTIONS)
    found = [lines for chain, lines in rules.chains.items() if chain.startswith("firewall-")]
    assert found == ([(rule,)] if rule else [])
    assert ("firewall-ips" in [name for name, _, _ in rules.elements]) == bool(rule)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(1, "1s"), (60, "1m"), (10800, "3h"), (10801, "3h1s"), (86400, "1d"), (93784, "1d2h3m4s")],
)
def test_durations(seconds: int, text: str) -> None:
    assert duration(seconds) == text
