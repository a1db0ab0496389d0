"""Probes, sniffers and judgement on real packets: one node by hand, with right rules and with each fault.

A node with a Pod bridge, three Pods that echo, an outside client; iptables rules as kube-proxy writes them.
"""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from ipaddress import ip_address
from pathlib import Path

import pytest

from testbed.kernel.netns import Worker, scratch
from testbed.model.cases import CASES, Case, To
from testbed.model.offers import CLIENT, FIRST, HOMES, NODE_PORTS
from testbed.model.oracle import Sender, World
from testbed.model.topology import ClusterSpec, NodeWish, plan
from testbed.packets.ground import Here, answers
from testbed.packets.matrix import FAILED, PASSED, Place, Stage
from testbed.packets.probe import Question, Result

SPEC = plan(ClusterSpec(), (NodeWish(FIRST),))
PODS = {"near": "10.244.1.2", "caller": "10.244.1.3", "far": "10.244.1.4"}
VIPS = {
    "near": "10.96.0.11",
    "caller": "10.96.0.12",
    "far": "10.96.0.13",
    "all": "10.96.0.14",
    "none": "10.96.0.15",
}
NODE, OUTSIDE = "172.30.0.11", "172.30.0.250"

ROWS = [case for case in CASES if case.family == "IPv4" and not case.size and case.protocol != "SCTP"]
"""The scene of this file has no IPv6, and short answers."""

POD_CASES = [c for c in ROWS if c.to is To.POD and c.actor in (*HOMES, FIRST) and c.port in (80, 8080)]
SERVICE_CASES = [
    c
    for c in ROWS
    if c.to in (To.CLUSTER_IP, To.NODE_PORT)
    and c.service in VIPS
    and c.actor in (*HOMES, FIRST, CLIENT)
    and c.via in ("", FIRST)
    and c.service != "none"
]
REFUSED_CASES = [
    c for c in ROWS if c.service == "none" and c.via in ("", FIRST) and c.to in (To.CLUSTER_IP, To.NODE_PORT)
]


def inside(netns: Path, script: str, program: str = "sh") -> None:
    subprocess.run(["nsenter", f"--net={netns}", program], input=script, text=True, check=True, timeout=30)


def serve(address: str) -> None:
    """Answer on the ports of the Pods, TCP and UDP, until killed."""
    import selectors

    selector = selectors.DefaultSelector()
    for port in (8080, 80):
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            server = socket.socket(socket.AF_INET, kind)
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            server.bind((address, port))
            if kind == socket.SOCK_STREAM:
                server.listen(64)
            selector.register(server, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            server = key.fileobj  # type: ignore[assignment]
            if server.type == socket.SOCK_DGRAM:
                data, peer = server.recvfrom(2048)
                server.sendto(data, peer)
            else:
                connection, _ = server.accept()
                with connection:
                    connection.sendall(connection.recv(2048))


def objects() -> World:
    def service(name: str) -> dict[str, object]:
        ports = [
            {"name": p.lower(), "protocol": p, "port": 80, "nodePort": NODE_PORTS[name]}
            for p in ("TCP", "UDP")
        ]
        return {
            "metadata": {"name": name, "namespace": "default"},
            "spec": {"clusterIP": VIPS[name], "clusterIPs": [VIPS[name]], "ports": ports},
        }

    def endpoint_slice(name: str, *addresses: str) -> dict[str, object]:
        return {
            "metadata": {"namespace": "default", "labels": {"kubernetes.io/service-name": name}},
            "addressType": "IPv4",
            "ports": [{"name": p.lower(), "protocol": p, "port": 8080} for p in ("TCP", "UDP")],
            "endpoints": [{"addresses": [address], "nodeName": FIRST} for address in addresses],
        }

    ports = [{"containerPort": port, "protocol": p} for port in (80, 8080) for p in ("TCP", "UDP")]
    return World(
        SPEC,
        services=tuple(service(name) for name in VIPS),
        slices=(
            *(endpoint_slice(name, address) for name, address in PODS.items()),
            endpoint_slice("all", *PODS.values()),
        ),
        pods=tuple(
            {"spec": {"nodeName": FIRST, "containers": [{"ports": ports}]}, "status": {"podIP": address}}
            for address in PODS.values()
        ),
    )


def rules() -> list[str]:
    """What kube-proxy would write into the node's nat and filter tables, one chain a Service port."""
    nat = ["*nat", ":MARK-MASQ - [0:0]", ":MARKED - [0:0]", ":SERVICES - [0:0]"]
    nat += [
        "-A PREROUTING -j SERVICES",
        "-A OUTPUT -j SERVICES",
        "-A MARK-MASQ -j MARK --or-mark 0x4000",
        "-A POSTROUTING -m mark --mark 0x4000/0x4000 -j MARKED",
        "-A MARKED -j MARK --xor-mark 0x4000",
        "-A MARKED -j MASQUERADE",
    ]
    refuse = []
    for name, vip in VIPS.items():
        for protocol in ("tcp", "udp"):
            chain = f"{name}-{protocol}"
            backends = list(PODS.values()) if name == "all" else [PODS[name]] if name in PODS else []
            to_vip = f"-d {vip} -p {protocol} --dport 80"
            to_node = f"-m addrtype --dst-type LOCAL -p {protocol} --dport {NODE_PORTS[name]}"
            if not backends:
                refuse += [f"-A {hook} {to_vip} -j REJECT" for hook in ("FORWARD", "OUTPUT")]
                refuse += [f"-A {hook} {to_node} -j REJECT" for hook in ("INPUT", "OUTPUT")]
                continue
            nat += [f":{chain} - [0:0]"]
            nat += [
                f"-A SERVICES {to_vip} ! -s {SPEC.cluster_cidr} -j MARK-MASQ",
                f"-A SERVICES {to_vip} -j {chain}",
                f"-A SERVICES {to_node} -j MARK-MASQ",
                f"-A SERVICES {to_node} -j {chain}",
            ]
            for left, address in zip(range(len(backends), 0, -1), backends, strict=True):
                nat += [f":{chain}-{left} - [0:0]"]
                nat += [
                    f"-A {chain}-{left} -s {address} -j MARK-MASQ",
                    f"-A {chain}-{left} -p {protocol} -j DNAT --to-destination {address}:8080",
                    f"-A {chain} -m statistic --mode random --probability {1 / left:.10f} -j {chain}-{left}",
                ]
    nat = [line for line in nat if line.startswith((":", "*"))] + [
        line for line in nat if not line.startswith((":", "*"))
    ]
    return [*nat, "COMMIT", "*filter", *refuse, "COMMIT", ""]


def program(stage: Stage, lines: list[str]) -> None:
    """Put rules in place of those that are there."""
    ground = stage.places[FIRST].ground
    assert isinstance(ground, Here)
    inside(ground.netns, "\n".join(lines), "iptables-restore")


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with ExitStack() as stack:
        names = (FIRST, CLIENT, *PODS)
        netns = {name: stack.enter_context(scratch()) for name in names}
        script = [
            "ip link add cni0 type bridge",
            f"ip addr add {SPEC.nodes[1].pod_cidr[1]}/24 dev cni0",
            "ip link set cni0 up",
            "sysctl -qw net.ipv4.ip_forward=1 net.ipv4.icmp_ratelimit=0 net.ipv4.icmp_ratemask=0",
            "sysctl -qw net.ipv4.conf.all.send_redirects=0",
            "sysctl -qw net.ipv4.conf.cni0.send_redirects=0",
        ]
        for name in PODS:
            script += [
                f"ip link add {name} type veth peer name eth0 netns {netns[name].parts[2]}",
                f"ip link set {name} master cni0 up",
                f"bridge link set dev {name} hairpin on",
            ]
        script += [
            f"ip link add eth0 type veth peer name eth0 netns {netns[CLIENT].parts[2]}",
            f"ip addr add {NODE}/24 dev eth0",
            "ip link set eth0 up",
            f"ip route add default via {OUTSIDE}",
        ]
        inside(netns[FIRST], "\n".join(["set -e", *script]))
        gateway = SPEC.nodes[1].pod_cidr[1]
        for name, address in PODS.items():
            # as the CNI plugin does it: everything passes the node's IP layer
            pod = f"ip addr add {address}/32 dev eth0\nip link set eth0 up\nip route add {gateway} dev eth0\n"
            inside(netns[name], f"set -e\n{pod}ip route add default via {gateway}")
        client = f"ip addr add {OUTSIDE}/24 dev eth0\nip link set eth0 up\nip route add default via {NODE}"
        inside(netns[CLIENT], f"set -e\n{client}")
        for name, address in PODS.items():
            stack.enter_context(Worker(netns[name])).start(serve, address)
        senders = {name: Sender(ip_address(address), FIRST) for name, address in PODS.items()}
        senders[FIRST] = Sender(ip_address(NODE), FIRST, host=True)
        senders[CLIENT] = Sender(ip_address(OUTSIDE))
        places = {name: Place(Here(Path(netns[name])), (senders[name],)) for name in names}
        yield stack.enter_context(Stage(objects(), places))


@pytest.fixture
def right(stage: Stage) -> Stage:
    program(stage, rules())
    return stage


def case_named(name: str) -> Case:
    return next(case for case in CASES if case.name == name)


@pytest.mark.parametrize("case", [*POD_CASES, *SERVICE_CASES, *REFUSED_CASES], ids=lambda case: case.name)
def test_right_rules_pass(right: Stage, case: Case) -> None:
    found = right.verdict("iptables", case)
    assert found.verdict == PASSED, found


# a text in the rules, what stands in its place, a case that must find it, and what that sees
FAULTS = [
    (
        "! -s 10.244.0.0/16 -j MARK-MASQ",
        "-j MARK-MASQ",
        "cluster-ip/near/same-node-pod/tcp",
        "near saw 10.244.1.1",
    ),
    ("-s 10.244.1.3 -j MARK-MASQ", "-j RETURN", "cluster-ip/caller/itself/tcp", "sent on"),
    ("-s 10.244.1.3 -j MARK-MASQ", "-j RETURN", "cluster-ip/caller/itself/udp", "sent on"),
    (
        "--dst-type LOCAL -p tcp --dport 30080 -j MARK-MASQ",
        "--dst-type LOCAL",
        "node-port/near/client/via-node01/tcp",
        "near saw 172.30.0.250",
    ),
    (
        "--to-destination 10.244.1.2:8080",
        "--to-destination 10.244.1.4:8080",
        "cluster-ip/near/same-node-pod/udp",
        "far",
    ),
    (
        "--to-destination 10.244.1.2:8080",
        "--to-destination 10.244.1.2:80",
        "cluster-ip/near/node/udp",
        "near at 10.244.1.2:80",
    ),
    ("-d 10.96.0.11 -p udp", "-d 10.96.0.11 -p tcp", "cluster-ip/near/same-node-pod/udp", "sent on"),
    ("-d 10.96.0.11 -p tcp", "-p tcp", "pod/far/other-node-pod/port-80/tcp", "near"),
    ("-j REJECT", "-j DROP", "cluster-ip/none/pod/tcp", "silence"),
    ("-j REJECT", "-j REJECT --reject-with icmp-host-unreachable", "cluster-ip/none/pod/udp", "silence"),
    (
        "-p tcp --dport 30084 -j REJECT",
        "-p tcp --dport 30084 -j REJECT --reject-with tcp-reset",
        "node-port/none/client/via-node01/tcp",
        "TCP reset",
    ),
    ("-j MASQUERADE", "-j SNAT --to-source 10.244.1.9", "node-port/near/node/via-node01/udp", "10.244.1.9"),
    ("--xor-mark 0x4000", "--or-mark 0x4000", "cluster-ip/near/node/tcp", "with the masquerade mark"),
    ("--probability 0.3333333333", "--probability 0.7", "cluster-ip/all/pod/spread/tcp", "p = "),
    (
        "--probability 0.5000000000",
        "--probability 1.0",
        "node-port/all/client/via-node01/spread/udp",
        "far 0",
    ),
]


@pytest.mark.parametrize(("text", "fault", "name", "seen"), FAULTS, ids=[row[2] for row in FAULTS])
def test_each_fault_is_found(stage: Stage, text: str, fault: str, name: str, seen: str) -> None:
    lines = rules()
    assert any(text in line for line in lines)
    program(stage, [line.replace(text, fault) for line in lines])
    found = stage.verdict("iptables", case_named(name), 0.5 if seen in ("silence", "sent on") else 4.0)
    assert found.verdict == FAILED, found
    assert seen in found.seen


def test_no_rules_no_answer(stage: Stage) -> None:
    program(stage, ["*nat", "COMMIT", "*filter", "COMMIT", ""])
    case = case_named("cluster-ip/near/node/tcp")
    assert stage.verdict("iptables", case, 0.5).verdict == FAILED
    assert stage.verdict("iptables", case_named("pod/near/same-node-pod/tcp")).verdict == PASSED


def test_a_mode_is_held_to_its_own_deviations(right: Stage) -> None:
    """A source that stays is what iptables mode does, and what userspace mode cannot."""
    case = case_named("cluster-ip/near/same-node-pod/tcp")
    found = right.verdict("userspace", case)
    assert found.verdict == FAILED
    assert "a connection of its own" in found.expected


def test_a_probe_says_what_its_socket_said(right: Stage) -> None:
    def result(to: str, port: int, protocol: str, seconds: float = 2.0) -> Result:
        number, token = next(right.questions)
        question = Question(to, port, protocol, number, token, seconds)
        (answer,) = answers([(right.places["caller"].ground, question)])
        return answer.result

    assert result(PODS["near"], 8080, "TCP") is Result.ANSWERED
    assert result(PODS["near"], 8081, "TCP") is Result.REFUSED
    assert result(PODS["near"], 8081, "UDP") is Result.REFUSED
    assert result("198.51.100.1", 80, "UDP", 0.2) is Result.SILENCE
