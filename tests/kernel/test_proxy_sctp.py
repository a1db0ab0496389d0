"""SCTP through the modes that carry it. Userspace mode does not: it refuses (tests/unit/proxy/golden)."""

from __future__ import annotations

from pathlib import Path

import pytest
from service_scene import NODE, NODE_PORT, PORT, VIP, Proxy, scene, service, snapshot, variant_path

from testbed.model.service import Protocol, Snapshot

SCTP = Protocol.SCTP


@pytest.mark.parametrize(
    "mode", ["iptables", "nftables", pytest.param("ipvs", marks=pytest.mark.needs("ip_vs"))]
)
@pytest.mark.needs("sctp")
@pytest.mark.feature("B1")
def test_sctp_reaches_its_backends_and_stale_flows_go(mode: str, tmp_path: Path) -> None:
    with scene() as made:
        node = made.at["node"]
        node.call(Proxy.start, mode, variant_path(tmp_path, "nft"))
        node.call(Proxy.sync, Snapshot())
        node.call(Proxy.sync, snapshot(service("a", "b", protocol=SCTP)))
        for source, ip, port in (("client", NODE, NODE_PORT), ("client", VIP, PORT), ("node", VIP, PORT)):
            seen = {one.split()[0] for one in made.answers(source, ip, port, SCTP)}
            assert seen == {"a", "b"}, (source, ip)
        for pod in ("a", "b"):
            node.call(Proxy.sync, snapshot(service(pod, protocol=SCTP)))
            said = made.ask("client", NODE, NODE_PORT, SCTP, source_port=5555)
            assert said.split()[0] == pod, "the same source port, the backend before is gone"
        node.call(Proxy.stop)
