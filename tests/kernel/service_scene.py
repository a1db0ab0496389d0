"""A node with two Pods and a client outside, as network namespaces: enough for one proxy mode to show itself.

client 172.30.0.250 ── 172.30.0.11 node ── pod a 10.244.1.2, pod b 10.244.1.3 (routed, no bridge)
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from testbed.kernel.netns import Worker, scratch
from testbed.model.service import Endpoint, Protocol, Refusal, Route, ServicePort, Snapshot
from testbed.proxy.conntrack import Reconciler
from testbed.proxy.modes import mode_class
from testbed.proxy.modes.base import Mode
from testbed.proxy.options import ProxyOptions

NODE, CLIENT = "172.30.0.11", "172.30.0.250"
PODS = {"a": "10.244.1.2", "b": "10.244.1.3"}
VIP = "10.96.0.7"
PORT, NODE_PORT, TARGET = 80, 30080, 8080
OPTIONS = ProxyOptions(node="node01", cluster_cidr="10.244.0.0/16")
TIMEOUT = 1.0
"""Seconds after which silence counts as silence."""
SCTP_TIMEOUT = 10.0
"""SCTP repeats its first packet after 3 s (net.sctp.rto_initial), and nobody here expects its silence."""


def service(*pods: str, protocol: Protocol = Protocol.TCP, **fields: object) -> ServicePort:
    """The Service of the scene with these Pods behind it."""
    endpoints = Route(tuple(Endpoint(PODS[pod], TARGET, True) for pod in pods))
    one = ServicePort(
        "default", "web", protocol.lower(), protocol, VIP, PORT, NODE_PORT, cluster=endpoints, local=endpoints
    )
    return replace(one, **fields)  # type: ignore[arg-type]


def snapshot(*services: ServicePort) -> Snapshot:
    return Snapshot({(one.name, one.protocol.value): one for one in services}, (NODE,))


def nobody_here(one: ServicePort) -> ServicePort:
    """The same with policy Local on the outside and no endpoint on this node."""
    return replace(one, external_local=True, local=Route((), Refusal.DROP))


class Proxy:
    """A mode that runs in the node's namespace; made and used inside a Worker there."""

    mode: Mode[object]
    conntrack: Reconciler

    @classmethod
    def start(cls, name: str, path: str = "", options: ProxyOptions = OPTIONS) -> str:
        if path:
            os.environ["PATH"] = f"{path}:{os.environ['PATH']}"
        cls.mode, cls.conntrack = mode_class(name)(options), Reconciler()
        return cls.mode.start()

    @classmethod
    def sync(cls, wanted: Snapshot, repair: bool = False) -> int:
        changes = cls.mode.sync(cls.mode.render(wanted), repair=repair)
        cls.conntrack.after_sync(wanted)
        return changes

    @classmethod
    def kill_data_plane(cls) -> bool:
        """Whether there was one, and the mode noticed."""
        plane = getattr(cls.mode, "_plane", None)
        if plane is None:
            return False
        os.kill(plane.pid, signal.SIGKILL)
        deadline = time.monotonic() + 5
        while cls.healthy() and time.monotonic() < deadline:
            pass
        return not cls.healthy()

    @classmethod
    def healthy(cls) -> bool:
        return cls.mode.healthy()

    @classmethod
    def stop(cls) -> None:
        cls.mode.stop()


def shell(script: str) -> str:
    """Run a shell script; its output."""
    done = subprocess.run(["sh", "-ec", script], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{script}\n{done.stdout}{done.stderr}")
    return done.stdout


def answer(name: str, ready: int) -> None:
    """Serve TCP, UDP and, if the kernel has it, SCTP on TARGET for ever: say who answers and which address it
    sees."""
    sockets = selectors.DefaultSelector()
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind(("0.0.0.0", TARGET))
    sockets.register(udp, selectors.EVENT_READ)
    for number in (socket.IPPROTO_TCP, socket.IPPROTO_SCTP):
        with contextlib.suppress(OSError):
            listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, number)
            listening.bind(("0.0.0.0", TARGET))
            listening.listen(128)
            sockets.register(listening, selectors.EVENT_READ)
    with socket.socket(fileno=ready) as told:
        told.send(b"1")
    while True:
        for key, _ in sockets.select():
            if key.fileobj is udp:
                _, address = udp.recvfrom(100)
                udp.sendto(f"{name} {address[0]}".encode(), address)
            else:
                peer, address = key.fileobj.accept()  # type: ignore[union-attr]
                with peer:
                    peer.sendall(f"{name} {address[0]}".encode())


def ask(ip: str, port: int, protocol: str = "TCP", source_port: int = 0, timeout: float = TIMEOUT) -> str:
    """`NAME SOURCE` from whoever answers, or "refused" or "silence"."""
    kind = socket.SOCK_DGRAM if protocol == "UDP" else socket.SOCK_STREAM
    number = socket.IPPROTO_SCTP if protocol == "SCTP" else 0
    with socket.socket(socket.AF_INET, kind, number) as sock:
        sock.settimeout(SCTP_TIMEOUT if protocol == "SCTP" else timeout)
        if source_port:
            sock.bind(("", source_port))
        try:
            sock.connect((ip, port))
            if protocol == "UDP":
                sock.send(b"?")
            return sock.recv(100).decode() or "closed"
        except TimeoutError:
            return "silence"
        except (ConnectionRefusedError, ConnectionResetError):
            return "refused"


@dataclass
class Scene:
    """The namespaces; `at` has a Worker in each: node, client, a, b."""

    at: dict[str, Worker] = field(default_factory=dict)

    def ask(self, source: str, ip: str, port: int, protocol: str = "TCP", **how: float) -> str:
        return self.at[source].call(ask, ip, port, protocol, **how)  # type: ignore[arg-type]

    def answers(self, source: str, ip: str, port: int, protocol: str = "TCP", times: int = 12) -> set[str]:
        return {self.ask(source, ip, port, protocol) for _ in range(times)}


@contextlib.contextmanager
def scene() -> Iterator[Scene]:
    with contextlib.ExitStack() as stack:
        paths = {name: stack.enter_context(scratch()) for name in ("node", "client", "a", "b")}
        at = {name: stack.enter_context(Worker(path)) for name, path in paths.items()}
        for worker in at.values():
            worker.call(shell, ":")  # it is inside its namespace from now on, so that its pid names it
        _wire(at)
        for name in PODS:
            ready, theirs = socket.socketpair()
            server = stack.enter_context(Worker(paths[name]))
            server.start(answer, name, theirs.fileno())
            theirs.close()
            with ready:
                ready.settimeout(5)
                assert ready.recv(1) == b"1"
        yield Scene(at)


def _wire(at: dict[str, Worker]) -> None:
    node = at["node"]
    node.call(shell, "sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.rp_filter=0")
    node.call(shell, "sysctl -qw net.ipv4.icmp_ratelimit=0")  # every refusal is told, not one a second
    node.call(
        shell,
        f"ip link add uplink type veth peer name eth0 netns {at['client'].pid};"
        f"ip addr add {NODE}/24 dev uplink; ip link set uplink up; ip route add default via {CLIENT}",
    )
    at["client"].call(
        shell, f"ip addr add {CLIENT}/24 dev eth0; ip link set eth0 up; ip route add default via {NODE}"
    )
    for name, ip in PODS.items():
        node.call(
            shell,
            f"ip link add pod-{name} type veth peer name eth0 netns {at[name].pid};"
            f"ip addr add 10.244.1.1/32 dev pod-{name}; ip link set pod-{name} up;"
            f"ip route add {ip} dev pod-{name}",
        )
        at[name].call(
            shell,
            f"ip addr add {ip}/32 dev eth0; ip link set eth0 up;"
            "ip route add 10.244.1.1 dev eth0; ip route add default via 10.244.1.1",
        )


def variant_path(directory: Path, variant: str) -> str:
    """A directory for PATH in which `iptables` is the variant, nft or legacy."""
    for tool in ("iptables", "iptables-save", "iptables-restore"):
        (directory / tool).symlink_to(f"/usr/sbin/xtables-{variant}-multi")
    return str(directory)
