"""The bridge plugin against the kernel: two Pods on a node in scratch namespaces, no cluster."""

from __future__ import annotations

import io
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pyroute2 import IPRoute

from testbed.cli import cni
from testbed.kernel import addresses, link, sysctl
from testbed.kernel.netns import Worker, scratch
from testbed.packets.capture import JUMP_EQUAL, LOAD_WORD, PROTOCOL_OF_FRAME, RETURN, Sniffer

ARP_ONLY = [
    (LOAD_WORD, 0, 0, PROTOCOL_OF_FRAME),
    (JUMP_EQUAL, 0, 1, 0x0806),
    (RETURN, 0, 0, 0xFFFF),
    (RETURN, 0, 0, 0),
]
PERMANENT = 0x80
"""NUD_PERMANENT, linux/neighbour.h"""


def call(command: str, container: str, netns: str, config: dict[str, Any]) -> tuple[int, Any]:
    """The plugin as a runtime calls it; runs in the worker that plays the node."""
    os.environ.update(
        CNI_COMMAND=command,
        CNI_CONTAINERID=container,
        CNI_NETNS=netns,
        CNI_IFNAME="eth0",
        CNI_PATH="/opt/cni/bin",
    )
    sys.stdin, sys.stdout = io.StringIO(json.dumps(config)), io.StringIO()
    code = cni.run(None)  # type: ignore[arg-type]
    text = sys.stdout.getvalue()
    return code, json.loads(text) if text else None


def links() -> set[str]:
    with IPRoute() as ip:
        return {each.get_attr("IFLA_IFNAME") for each in ip.get_links()}


def bridge_state() -> tuple[list[str], str]:
    with IPRoute() as ip:
        held = [each.get_attr("IFA_LOCAL") for each in ip.get_addr(index=link.index(ip, "cni0"), family=2)]
    return held, sysctl.get("net.ipv4.ip_forward")


def told_neighbours() -> dict[str, str]:
    """Address → hardware address, of those that are there for good."""
    with IPRoute() as ip:
        found = [each for each in ip.get_neighbours() if each["state"] == PERMANENT]
    return {str(each.get_attr("NDA_DST")): each.get_attr("NDA_LLADDR") for each in found}


def serve_once() -> None:
    """A TCP server that answers the address it sees, from a thread."""
    import threading

    listener = socket.create_server(("", 80))

    def answer() -> None:
        while True:
            connection, peer = listener.accept()
            connection.sendall(peer[0].encode())
            connection.close()

    threading.Thread(target=answer, daemon=True).start()


def ask(address: str) -> str:
    with socket.create_connection((address, 80), timeout=3) as connection:
        return connection.recv(100).decode()


@pytest.fixture
def config(tmp_path: Path) -> dict[str, Any]:
    ipam = {"ranges": [[{"subnet": "10.244.7.0/29"}]], "dataDir": str(tmp_path)}
    return {"cniVersion": "1.0.0", "name": "net", "type": "testbed-bridge", "ipam": ipam}


@pytest.fixture
def node() -> Iterator[Worker]:
    with scratch() as netns, Worker(netns) as worker:
        yield worker


@pytest.mark.feature("A1", "A2")
def test_pods_reach_each_other_and_themselves_without_translation(
    node: Worker, config: dict[str, Any]
) -> None:
    with scratch() as one, scratch() as two, Worker(one) as first, Worker(two) as second:
        code, result = node.call(call, "ADD", "a", str(one), config)
        assert (code, result["ips"][0]["address"]) == (0, "10.244.7.2/32")
        assert result["cniVersion"] == "1.0.0"
        _, other = node.call(call, "ADD", "b", str(two), config)
        assert other["ips"][0]["address"] == "10.244.7.3/32"
        assert node.call(bridge_state) == (["10.244.7.1"], "1")
        first.call(serve_once)
        assert second.call(ask, "10.244.7.2") == "10.244.7.3"
        assert first.call(ask, "10.244.7.2") == "10.244.7.2"
        assert node.call(ask, "10.244.7.2") == "10.244.7.1"


@pytest.mark.feature("A1")
def test_check_sees_what_is_missing_and_del_leaves_nothing_and_may_be_repeated(
    node: Worker, config: dict[str, Any], tmp_path: Path
) -> None:
    with scratch() as pod:
        _, result = node.call(call, "ADD", "a", str(pod), config)
        checked = {**config, "prevResult": result}
        assert node.call(call, "CHECK", "a", str(pod), checked) == (0, None)
        made = node.call(links) - {"lo", "cni0"}
        assert len([name for name in made if name.startswith("veth")]) == 1
        for _ in range(2):
            assert node.call(call, "DEL", "a", str(pod), checked) == (0, None)
        assert not any(name.startswith("veth") for name in node.call(links))
        assert not (tmp_path / "net" / "10.244.7.2").exists()
        code, error = node.call(call, "CHECK", "a", str(pod), checked)
        assert code == 1
        assert "is gone" in error["msg"]


def test_who_is_behind_an_address_is_told_and_not_asked(
    node: Worker, config: dict[str, Any], tmp_path: Path
) -> None:
    """What the kernel finds by asking has its place in a table that all namespaces share."""
    config["ipam"] = {
        "ranges": [[{"subnet": "10.244.7.0/29"}], [{"subnet": "fd00:7::/64"}]],
        "dataDir": str(tmp_path),
    }
    with scratch() as netns, Worker(netns) as pod:
        assert node.call(call, "ADD", "a", str(netns), config)[0] == 0
        mac = pod.call(addresses.mac_of, "eth0").hex(":")
        gateway = node.call(addresses.mac_of, "cni0").hex(":")
        assert node.call(told_neighbours) == {"10.244.7.2": mac, "fd00:7::2": mac}
        assert pod.call(told_neighbours) == {"10.244.7.1": gateway, "fd00:7::1": gateway}
        pod.call(serve_once)
        with Sniffer(netns, ARP_ONLY) as seen:
            assert node.call(ask, "10.244.7.2") == "10.244.7.1"
            assert seen.read_both()[1] == []
        assert node.call(call, "DEL", "a", str(netns), config)[0] == 0
    assert node.call(told_neighbours) == {}


def _reach(netns: str) -> None:
    """A link from the node to a namespace outside, where there is one more address of another node's Pod."""
    with open(netns) as other, IPRoute() as ip:
        link.veth(ip, "out", "in", netns=other.fileno())
        link.address(ip, "out", "192.0.2.1/24")
        link.up(ip, "out")
        link.route(ip, "10.244.9.9/32", via="192.0.2.2")


def _be_outside() -> None:
    with IPRoute() as ip:
        for address in ("192.0.2.2/24", "10.244.9.9/32"):
            link.address(ip, "in", address)
        link.up(ip, "in")
        link.route(ip, "10.244.7.0/29", via="192.0.2.1")
    serve_once()


def _ruleset() -> str:
    return subprocess.run(["nft", "list", "ruleset"], capture_output=True, text=True, check=True).stdout


def test_with_ip_masq_a_pod_speaks_as_its_node_where_nobody_knows_it(
    node: Worker, config: dict[str, Any], tmp_path: Path
) -> None:
    config |= {"ipMasq": True, "nonMasqueradeCIDRs": ["10.244.0.0/16"]}
    with scratch() as one, Worker(one) as pod, scratch() as out, Worker(out) as outside:
        assert node.call(call, "ADD", "a", str(one), config)[0] == 0
        node.call(_reach, str(out))
        outside.call(_be_outside)
        assert pod.call(ask, "192.0.2.2") == "192.0.2.1"
        assert pod.call(ask, "10.244.9.9") == "10.244.7.2"
        assert node.call(call, "DEL", "a", str(one), config)[0] == 0
        assert "masquerade" not in node.call(_ruleset)


def test_del_is_content_when_the_namespace_is_gone(node: Worker, config: dict[str, Any]) -> None:
    with scratch() as pod:
        node.call(call, "ADD", "a", str(pod), config)
    assert node.call(call, "DEL", "a", str(pod), config) == (0, None)


def test_a_failed_add_gives_its_address_back(node: Worker, config: dict[str, Any], tmp_path: Path) -> None:
    code, error = node.call(call, "ADD", "a", "/nonexistent", config)
    assert (code, error["code"]) == (1, 4)
    assert "/nonexistent" in error["msg"]
    assert not (tmp_path / "net" / "10.244.7.2").exists()


def test_the_range_used_up_is_said_in_words(node: Worker, config: dict[str, Any]) -> None:
    with scratch() as pod:
        for name in "abcde":
            assert node.call(call, "ADD", name, str(pod), config)[0] == 0
            node.call(_rename, str(pod), name)
        code, error = node.call(call, "ADD", "f", str(pod), config)
        assert code == 1
        assert "no address is left in 10.244.7.0/29" in error["msg"]


def _rename(netns: str, name: str) -> None:
    """Out of the way of the next eth0."""
    from testbed.kernel.netns import enter

    own = os.open("/proc/self/ns/net", os.O_RDONLY)
    enter(netns)
    with IPRoute() as ip:
        index = link.index(ip, "eth0")
        ip.link("set", index=index, state="down")
        ip.link("set", index=index, ifname=f"old{name}")
    from testbed.kernel.namespaces import setns

    setns(own, "net")
    os.close(own)
