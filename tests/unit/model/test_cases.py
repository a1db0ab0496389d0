"""The table of cases: named without clashes, and complete."""

from __future__ import annotations

from itertools import product

import pytest

from testbed.model.cases import CASES, To
from testbed.model.offers import (
    CLIENT,
    FAR,
    FIRST,
    HOMES,
    LIVE,
    NEAR,
    NONE,
    OFFERS,
    PROTOCOLS,
    SECOND,
    SERVERS,
    ready_of,
)


def test_names_are_unique() -> None:
    names = [case.name for case in CASES]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(("to", "protocol"), list(product((To.CLUSTER_IP, To.NODE_PORT), PROTOCOLS)))
def test_each_source_meets_each_kind_of_service(to: To, protocol: str) -> None:
    sources = {c.source for c in CASES if (c.to, c.protocol) == (to, protocol) and c.service in HOMES}
    assert sources == {"same-node-pod", "other-node-pod", "itself", "node", "other-node", "client"}
    assert {c.source for c in CASES if (c.to, c.protocol, c.service) == (to, protocol, NONE)} >= {
        "pod",
        "client",
    }


def test_a_source_is_what_its_name_says() -> None:
    for case in CASES:
        if case.source in ("client", "pod") or len(ready_of(case.service)) != 1:
            continue
        (served,) = ready_of(case.service)
        home, backend = HOMES.get(case.actor, case.actor), SERVERS[served]
        assert (home == backend) is (case.source in ("same-node-pod", "itself", "node")), case.name
        assert (case.actor == served) is (case.source == "itself"), case.name


def test_every_service_is_addressed_by_whatever_it_has() -> None:
    addressed = {(case.service, case.to) for case in CASES}
    for name, offer in OFFERS.items():
        if offer.kind == "LoadBalancer" and offer.outside and name in HOMES:
            assert {(name, to) for to in (To.EXTERNAL_IP, To.LOAD_BALANCER, To.NODE_PORT)} <= addressed
        assert name in LIVE or any(service == name for service, _ in addressed)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_outside_client_also_comes_through_the_node_without_a_backend(protocol: str) -> None:
    ways = {
        (c.service, c.via)
        for c in CASES
        if (c.to, c.actor, c.protocol) == (To.NODE_PORT, CLIENT, protocol) and c.count == 1
    }
    assert ways >= {(NEAR, FIRST), (NEAR, SECOND), (FAR, FIRST), (FAR, SECOND)}
