"""Each deliberate fault is one: it changes what its mode renders. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import ipv6_twin
import pytest
from service_cases import OPTIONS, SNAPSHOT

from testbed.errors import UsageError
from testbed.model.service import Endpoint, Route, Snapshot
from testbed.proxy import faults
from testbed.proxy.faulty_rules import RULES
from testbed.proxy.modes import NAMES
from testbed.proxy.modes.iptables import Iptables
from testbed.proxy.modes.ipvs import IpvsMode
from testbed.proxy.modes.nftables import Nftables
from testbed.proxy.modes.userspace import Userspace
from testbed.proxy.modes.userspace_rules import redirects


def whole() -> Snapshot:
    """The golden Snapshot, and a Service with three endpoints."""
    one = next(service for service in SNAPSHOT.services.values() if service.cluster.endpoints)
    three = tuple(Endpoint(f"10.244.9.{n}", 8080, local=n == 1) for n in (1, 2, 3))
    many = replace(
        one,
        service="three",
        cluster=Route(three),
        local=Route(three[:1]),
        internal_local=False,
        affinity_seconds=9,
    )
    return replace(SNAPSHOT, services={**SNAPSHOT.services, (many.name, many.protocol.value): many})


RENDERING = {"iptables": Iptables, "nftables": Nftables, "ipvs": IpvsMode}
EVERY = [(mode, name) for mode in RENDERING for name in (*faults.ASKED, *RULES[mode])]


TWINS = {4: (whole(), OPTIONS), 6: (ipv6_twin.snapshot(whole()), ipv6_twin.options(OPTIONS))}


@pytest.mark.parametrize("family", TWINS)
@pytest.mark.parametrize(("mode", "name"), EVERY)
def test_it_changes_what_is_rendered(mode: str, name: str, family: int) -> None:
    snapshot, options = TWINS[family]
    right = RENDERING[mode](options).render(snapshot)
    assert faults.Faulty(mode, RENDERING[mode](options), name).render(snapshot) != right


@pytest.mark.parametrize("family", TWINS)
@pytest.mark.parametrize("name", RULES["userspace"])
def test_it_changes_the_rules_of_userspace_mode(name: str, family: int) -> None:
    snapshot, options = TWINS[family]
    mode = Userspace(options)
    state = mode.render(snapshot)
    ports = {key: 40000 + number for number, key in enumerate(state.listeners)}
    right = redirects(state.snapshot, ports, state.refusals, options)
    assert RULES["userspace"][name](right) != right


def test_the_environment_names_it_family_by_family(monkeypatch: pytest.MonkeyPatch) -> None:
    mode: Any = Iptables(OPTIONS)
    monkeypatch.delenv(faults.VARIABLE, raising=False)
    assert faults.chosen("iptables", mode) is mode
    monkeypatch.setenv(faults.VARIABLE, "4:no-hairpin,6:mark-kept")
    assert "no-hairpin" in faults.chosen("iptables", mode).title
    other: Any = Iptables(OPTIONS.of_family(6))
    assert "mark-kept" in faults.chosen("iptables", other).title
    monkeypatch.setenv(faults.VARIABLE, faults.told({4: "", 6: "mark-kept"}))
    assert faults.chosen("iptables", mode) is mode
    monkeypatch.setenv(faults.VARIABLE, "4:no-such")
    with pytest.raises(UsageError, match="known are"):
        faults.chosen("iptables", mode)


def test_every_mode_has_faults_of_its_own_and_those_of_all() -> None:
    for mode in NAMES:
        assert len(RULES[mode]) >= 10
        assert set(faults.names(mode)) >= {*faults.ASKED, faults.FROZEN, *RULES[mode]}
    assert "no-addresses" not in faults.names("iptables")
