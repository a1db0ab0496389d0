"""The nftables mode's table in the kernel: spelled as nft tells it, mended, switched, cleaned up."""

from __future__ import annotations

from collections.abc import Iterator

import ipv6_twin
import pytest
from service_scene import NODE, NODE_PORT, OPTIONS, PODS, PORT, VIP, Proxy, scene, service, shell, snapshot
from test_proxy_rules import EVERY_KIND, HALF

from testbed.kernel import nft
from testbed.kernel.netns import Worker, scratch
from testbed.model.service import Snapshot
from testbed.proxy.modes.nftables import TABLES, Nftables
from testbed.proxy.options import ProxyOptions

TABLE = TABLES[4]


class Kept:
    """Runs inside the Worker: one agent's mode."""

    mode: Nftables

    @classmethod
    def start(cls, options: ProxyOptions = OPTIONS) -> None:
        cls.mode = Nftables(options)
        cls.mode.start()

    @classmethod
    def sync(cls, wanted: Snapshot, repair: bool = False) -> tuple[int, bool]:
        """The changes, and whether the kernel now holds what it should."""
        state = cls.mode.render(wanted)
        changes = cls.mode.sync(state, repair=repair)
        return changes, nft.read(TABLES[cls.mode.options.family]) == state


@pytest.fixture
def node() -> Iterator[Worker]:
    with scratch() as path, Worker(path) as worker:
        worker.call(Kept.start)
        yield worker


def test_the_table_is_spelled_as_nft_tells_it(node: Worker) -> None:
    for wanted in (EVERY_KIND, HALF, EVERY_KIND, Snapshot(), HALF):
        changes, same = node.call(Kept.sync, wanted)
        assert changes
        assert same
        assert node.call(Kept.sync, wanted, True) == (0, True)


@pytest.mark.feature("B9")
def test_the_ipv6_table_is_spelled_as_nft_tells_it(node: Worker) -> None:
    node.call(Kept.start, ipv6_twin.options(OPTIONS))
    for wanted in map(ipv6_twin.snapshot, (EVERY_KIND, HALF, EVERY_KIND)):
        changes, same = node.call(Kept.sync, wanted)
        assert changes
        assert same
    assert node.call(Kept.sync, wanted, repair=True) == (0, True)


def test_another_agent_finds_nothing_to_do(node: Worker) -> None:
    node.call(Kept.sync, EVERY_KIND)
    node.call(Kept.start)
    assert node.call(Kept.sync, EVERY_KIND) == (0, True)


DAMAGE = [
    f"nft flush map {TABLE} service-ips",
    f"nft flush chain {TABLE} services",
    f"nft insert rule {TABLE} services return",
    f"nft add chain {TABLE} theirs; nft add rule {TABLE} services jump theirs",
    f"nft add element {TABLE} no-endpoint-nodeports '{{ tcp . 22 : drop }}'",
    f"nft delete chain {TABLE} filter-input",
    f"nft add chain {TABLE} theirs '{{ type filter hook input priority 0; policy drop; }}'",
    f"nft add table {TABLE} '{{ flags dormant; }}'",
    f"nft delete table {TABLE}",
]


@pytest.mark.parametrize("script", DAMAGE)
def test_a_repair_mends_what_was_changed_by_hand(node: Worker, script: str) -> None:
    node.call(Kept.sync, EVERY_KIND)
    node.call(shell, script)
    changes, same = node.call(Kept.sync, EVERY_KIND, True)
    assert changes
    assert same


def test_a_sync_that_meets_damage_mends_it_at_once(node: Worker) -> None:
    node.call(Kept.sync, EVERY_KIND)
    node.call(shell, f"nft flush ruleset; nft add table {TABLE}")
    assert node.call(Kept.sync, HALF)[1]


def test_a_repair_reads_only_what_may_have_changed(node: Worker) -> None:
    """Somebody else's commit makes it look, and find nothing to do; their table stays as it is."""
    node.call(Kept.sync, HALF)
    node.call(shell, "nft add table ip theirs; nft add chain ip theirs kept")
    assert node.call(Kept.sync, HALF, True) == (0, True)
    node.call(Nftables.cleanup)
    assert node.call(shell, "nft list tables").split() == ["table", "ip", "theirs"]


@pytest.mark.feature("B2")
def test_affinity_outlives_other_changes_and_the_agent() -> None:
    with scene() as made:
        node = made.at["node"]
        wanted = snapshot(service("a", "b", affinity_seconds=100))
        node.call(Proxy.start, "nftables")
        node.call(Proxy.sync, wanted)
        first = made.ask("client", NODE, NODE_PORT)
        node.call(Proxy.sync, Snapshot({**wanted.services, **HALF.services}, wanted.node_port_ips))
        node.call(Proxy.start, "nftables")
        node.call(Proxy.sync, wanted)
        assert made.answers("client", NODE, NODE_PORT) == {first}


@pytest.mark.feature("B2")
def test_affinity_ends_with_its_time() -> None:
    with scene() as made:
        node = made.at["node"]
        node.call(Proxy.start, "nftables")
        node.call(Proxy.sync, snapshot(service("a", "b", affinity_seconds=1)))
        made.ask("client", NODE, NODE_PORT)
        members = f"nft list table {TABLE} | grep -c expires || true"
        assert node.call(shell, members).strip() == "1"
        while (
            node.call(shell, members).strip() != "0"
        ):  # the kernel takes them out; a client stays until then
            pass


@pytest.mark.feature("B4", "B6")
def test_ports_of_no_service_and_closed_sources_are_refused() -> None:
    balancer = "203.0.113.7"
    with scene() as made:
        node = made.at["node"]
        node.call(Proxy.start, "nftables")
        open_to_b = service("a", load_balancer_ips=(balancer,), source_ranges=(f"{PODS['b']}/32",))
        node.call(Proxy.sync, snapshot(open_to_b))
        for source in ("a", "node", "client"):
            assert made.ask(source, VIP, PORT + 1) == "refused"
            assert made.ask(source, balancer, PORT) == "silence"
        assert made.ask("b", balancer, PORT).split()[0] == "a"
        assert made.ask("client", NODE, NODE_PORT).split()[0] == "a", "the ranges are for the balancer only"
