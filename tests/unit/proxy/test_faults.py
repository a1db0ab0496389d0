"""Each deliberate fault is one: it changes what iptables mode renders. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from service_cases import OPTIONS, SNAPSHOT

from testbed.errors import UsageError
from testbed.kernel.ruleset import Wanted
from testbed.model.service import Endpoint, Route, Snapshot
from testbed.proxy import faults
from testbed.proxy.modes.iptables import Iptables


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


@pytest.mark.parametrize("name", [*faults.ASKED, *faults.RULES])
def test_it_changes_the_rules(name: str) -> None:
    mode = Iptables(OPTIONS)
    right: Wanted = mode.render(whole())
    wrong: Wanted = faults.Faulty(Iptables(OPTIONS), name).render(whole())
    assert {t: dict(c) for t, c in wrong.tables.items()} != {t: dict(c) for t, c in right.tables.items()}


def test_the_environment_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    mode: Any = Iptables(OPTIONS)
    monkeypatch.delenv(faults.VARIABLE, raising=False)
    assert faults.chosen(mode) is mode
    monkeypatch.setenv(faults.VARIABLE, "no-hairpin")
    assert "no-hairpin" in faults.chosen(mode).title
    monkeypatch.setenv(faults.VARIABLE, "no-such")
    with pytest.raises(UsageError, match="known are"):
        faults.chosen(mode)


def test_faults_of_rules_are_those_of_iptables_mode() -> None:
    assert not set(faults.names("ipvs")) & set(faults.RULES)
