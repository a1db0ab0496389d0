"""One mode after another on a live node: no Service is gone meanwhile, and nothing of the former is left.

What a mode leaves is compared with what it looks like on a node where no other has ever been.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

import pytest
from ipvs_scene import KEPT, Callers, kept_open
from service_scene import (
    NODE,
    NODE_PORT,
    PODS,
    PORT,
    VIP,
    Proxy,
    Scene,
    scene,
    service,
    shell,
    snapshot,
    variant_path,
)

from testbed.cli.main import main
from testbed.kernel.netns import Worker
from testbed.model.service import Endpoint, Protocol, Route
from testbed.proxy.agent import clean_up_others

NATIVE = ("iptables-legacy", "iptables-nft", "nftables", "userspace", "userspace-haproxy")
PATIENCE = 10.0
"""Seconds that a connection may take where much else runs."""
PAUSE = 0.002
"""Seconds between two connections of one client."""
PROXIED = ("userspace", "userspace-haproxy")
"""The agent carries the connections itself: they end with it, upstream too."""
CARRYING = (*PROXIED, "ipvs")
"""So do those of a virtual server that is taken away (expire_nodest_conn)."""
KEPT_PORT = 30090
LASTING = Route((Endpoint(PODS["a"], KEPT[0], True),))
WANTED = snapshot(
    service("a", "b"),
    service("a", protocol=Protocol.UDP),
    service(service="kept", cluster_ip="10.96.0.8", node_port=KEPT_PORT, cluster=LASTING, local=LASTING),
)


BESIDE_IPVS = ("iptables-nft", "nftables", "userspace")
"""Where IPVS needs a VM all is slow: of modes that leave the same things, one."""
PAIRS = [
    pytest.param(*pair, marks=[pytest.mark.needs("ip_vs")] * ("ipvs" in pair))
    for one, other in (*combinations(NATIVE, 2), *((mode, "ipvs") for mode in BESIDE_IPVS))
    for pair in ((one, other), (other, one))
]


def state() -> dict[str, list[str]]:
    """What service proxies have on this node, without the numbers that differ from one start to the next."""
    told = {
        f"{program}-{variant}": shell(f"{program}-{variant}-save 2>/dev/null | grep KUBE- || true")
        for program in ("iptables", "ip6tables")
        for variant in ("nft", "legacy")
    }
    told["nft"] = shell("nft -y list table ip kube-proxy 2>/dev/null || true")
    told["device"] = shell("ip -oneline addr show kube-ipvs0 2>/dev/null || true")
    told["sets"] = shell("ipset save 2>/dev/null | grep KUBE- | sed 's/ initval .*//' || true")
    told["servers"] = shell("ipvsadm -Sn 2>/dev/null || true")
    told["processes"] = "\n".join(processes())
    return {
        name: sorted(map(_plain, text.splitlines()), key=_place(name)) for name, text in told.items() if text
    }


def _plain(line: str) -> str:
    """Without packet counters, the ports of listeners, and the numbers of links."""
    line = re.sub(r"\[\d+:\d+\]|^\d+: ", "", line)
    return re.sub(rf"(--to-ports |--to-destination {NODE}:)\d+", r"\1PORT", line)


def _place(name: str) -> Callable[[str], str]:
    """What to sort lines by: rules keep their order in each chain, a table's text all of it."""
    if name == "nft":
        return lambda _: ""
    return (lambda line: line.split()[line.startswith("-A")]) if "tables" in name else str


def processes() -> Iterator[str]:
    """The programs in this network namespace that a proxy runs."""
    here = os.readlink("/proc/self/ns/net")
    for each in Path("/proc").glob("[0-9]*"):
        try:
            words = (each / "cmdline").read_bytes().decode().replace("\0", " ")
            if re.match(r"haproxy|kube-proxy: ", words) and os.readlink(each / "ns/net") == here:
                yield words.split(" -f ")[0]
        except (FileNotFoundError, ProcessLookupError):
            continue


def clean_up() -> dict[str, list[str]]:
    """`testbed kube-proxy --cleanup`; what is left then."""
    assert main(["kube-proxy", "--cleanup"]) == 0
    return state()


def hammer(ip: str, port: int, until: int) -> Counter[str]:
    """Connect, again and again, until something is to be read from the descriptor `until`."""
    fates: Counter[str] = Counter()
    with socket.socket(fileno=os.dup(until)) as told:
        while not select.select([told], [], [], PAUSE)[0]:
            fates[connect(ip, port)] += 1
    return fates


def connect(ip: str, port: int) -> str:
    try:
        with socket.create_connection((ip, port), PATIENCE) as sock:
            try:
                return "answered" if sock.recv(100) else "cut"
            except OSError:
                return "cut"
    except OSError as error:
        return type(error).__name__


@dataclass
class LiveNode:
    """The scene's node, its agent as a process of its own."""

    scene: Scene
    paths: dict[str, str]
    running: str = ""
    agent: Worker | None = None
    fresh: dict[str, dict[str, list[str]]] = field(default_factory=dict)

    def start(self, mode: str) -> None:
        """As `testbed kube-proxy` does."""
        assert self.agent is None
        name, _, variant = mode.partition("-") if mode.startswith("iptables-") else (mode, "", "nft")
        self.agent = Worker(f"/proc/{self.scene.at['node'].pid}/ns/net")
        self.agent.call(Proxy.start, name, self.paths[variant])
        self.agent.call(Proxy.sync, WANTED)
        self.agent.call(clean_up_others, name)
        self.running = mode

    def end(self, *, crash: bool = False) -> None:
        if self.agent:
            if not crash:
                self.agent.call(Proxy.stop)
            self.agent.close()
        self.agent, self.running = None, ""

    def state(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = self.scene.at["node"].call(state)
        return found

    def emptied(self) -> dict[str, list[str]]:
        """End the agent and clean up; what is left."""
        self.end()
        found: dict[str, list[str]] = self.scene.at["node"].call(clean_up)
        return found

    @contextlib.contextmanager
    def hammered(self) -> Iterator[list[Counter[str]]]:
        """Clients outside and in a Pod connect all the time; how they fared, when it is over."""
        fates: list[Counter[str]] = []
        with contextlib.ExitStack() as stack:
            calls = []
            for place, ip, port in (("client", NODE, NODE_PORT), ("a", VIP, PORT)):
                told, theirs = (stack.enter_context(end) for end in socket.socketpair())
                caller = stack.enter_context(Worker(f"/proc/{self.scene.at[place].pid}/ns/net"))
                calls.append((told, caller.start(hammer, ip, port, theirs.fileno())))
            yield fates
            for told, call in calls:
                told.send(b"!")
                fates.append(call.result(2 * PATIENCE))

    def alone(self, mode: str) -> dict[str, list[str]]:
        """What the node looks like in `mode` if there never was another."""
        if mode not in self.fresh:
            assert self.emptied() == {}
            self.start(mode)
            self.fresh[mode] = self.state()
        return self.fresh[mode]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveNode]:
    paths = {v: variant_path(tmp_path_factory.mktemp(v), v) for v in ("nft", "legacy")}
    with scene() as made, kept_open(made):
        # A backend remembers the node's ended connections by their ports and clocks. Masqueraded clients have
        # other clocks than the node itself: who follows the other on a port is refused, for a minute.
        for place in ("node", *PODS):
            made.at[place].call(shell, "sysctl -qw net.ipv4.tcp_max_tw_buckets=0")
        one = LiveNode(made, paths)
        yield one
        assert one.emptied() == {}


@pytest.mark.parametrize(("former", "latter"), PAIRS)
@pytest.mark.feature("A15")
def test_a_switch_drops_no_service_and_leaves_nothing(node: LiveNode, former: str, latter: str) -> None:
    due = node.alone(latter)
    if node.running != former:
        node.end()
        node.start(former)
    client = node.scene.at["client"]
    assert client.call(Callers.call, NODE, KEPT_PORT, timeout=PATIENCE) == ["a:9090"]
    with node.hammered() as fates:
        node.end()
        node.start(latter)
    alive = client.call(Callers.echo)
    client.call(Callers.hang_up)
    assert alive == ([] if former in CARRYING else ["a:9090"])
    assert node.state() == due
    for one in fates:
        assert one["answered"]
        assert sum(one.values()) - one["answered"] <= (former in PROXIED), "what was being carried just then"
        assert one.keys() <= {"answered", "cut"}


DIRT = """
iptables -t nat -F KUBE-SERVICES || true
iptables -t nat -N KUBE-SVC-NOBODYS || true
iptables -t nat -I PREROUTING -j KUBE-SVC-NOBODYS || true
nft add table ip kube-proxy
nft 'add set ip kube-proxy cluster-ips { type inet_service; }' || true
nft 'add chain ip kube-proxy nat-prerouting { type filter hook prerouting priority 0; }' || true
"""


@pytest.mark.parametrize("mode", [*NATIVE, pytest.param("ipvs", marks=pytest.mark.needs("ip_vs"))])
@pytest.mark.feature("A15", "D11")
def test_an_agent_starts_on_what_crashed_ones_have_left(node: LiveNode, mode: str) -> None:
    """Each of the others was killed in turn, then somebody's hand was in the rules."""
    due = node.alone(mode)
    others = [one for one in (BESIDE_IPVS if mode == "ipvs" else NATIVE) if one != mode]
    for one in (*others, mode, others[0]):
        node.end(crash=True)
        node.start(one)
    node.end(crash=True)
    node.scene.at["node"].call(shell, DIRT)
    node.start(mode)
    assert node.state() == due
    fates = Counter(node.scene.at["client"].call(connect, NODE, NODE_PORT) for _ in range(3))
    assert fates == {"answered": 3}
    assert node.emptied() == {}
