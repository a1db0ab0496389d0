"""The legacy tables read back by libiptc, an eye that is neither ours nor the iptables commands'."""

from pathlib import Path
from typing import Any

import iptc
from service_scene import NODE_PORT, PODS, PORT, TARGET, VIP, Proxy, service, snapshot, variant_path

from testbed.kernel.netns import Worker, scratch

Rules = dict[str, list[dict[str, Any]]]


def nat() -> Rules:
    """The nat table of this namespace: chain -> rules, as python-iptables' dictionaries."""
    iptc.Table(iptc.Table.NAT).refresh()
    table: Rules = iptc.easy.dump_table("nat", ipv6=False)
    return table


def jump(rules: list[dict[str, Any]], **wanted: Any) -> str:
    """Where the one rule leads that has these matches."""
    found = [rule for rule in rules if all(rule.get(key) == value for key, value in wanted.items())]
    assert len(found) == 1, rules
    target: str = found[0]["target"]
    return target


def test_the_kernel_holds_the_chains_of_a_service(tmp_path: Path) -> None:
    with scratch() as namespace, Worker(namespace) as node:
        node.call(Proxy.start, "iptables", variant_path(tmp_path, "legacy"))
        node.call(Proxy.sync, snapshot(service("a", "b")))
        held = node.call(nat)

        vip = [rule for rule in held["KUBE-SERVICES"] if rule.get("dst") == f"{VIP}/32"]
        chain = jump(vip, protocol="tcp", tcp={"dport": str(PORT)})
        assert chain.startswith("KUBE-SVC-")
        shared, rest = [rule for rule in held[chain] if rule["target"].startswith("KUBE-SEP-")]
        assert float(shared["statistic"]["probability"]) == 0.5
        assert "statistic" not in rest
        backends = {
            rule["target"]["DNAT"]["to-destination"]
            for each in (shared, rest)
            for rule in held[each["target"]]
            if "DNAT" in rule["target"]
        }
        assert backends == {f"{address}:{TARGET}" for address in PODS.values()}

        outside = jump(held["KUBE-NODEPORTS"], protocol="tcp", tcp={"dport": str(NODE_PORT)})
        assert outside.startswith("KUBE-EXT-")
        assert held[outside][-1]["target"] == chain

        node.call(Proxy.sync, snapshot())
        assert chain not in node.call(nat)
        node.call(Proxy.stop)
