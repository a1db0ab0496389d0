"""A Pod's sandbox: its network namespace, attached by CNI, and the files that every container of it gets."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import socket
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from testbed.kernel import namespaces
from testbed.node import limits, volumes
from testbed.node.admission import port_mappings
from testbed.node.cni import CniError, Network, Sandbox
from testbed.node.process import Mount

Object = dict[str, Any]

NETNS = Path("/run/netns")
ADDRESSES = Path("/var/lib/cni/networks")
"""Where IPAM notes which address is whose."""
PORTS = "ports.json"
SETUPS_AT_ONCE = 4
"""CNI calls in flight; more only take the processor from one another."""


@dataclass(frozen=True)
class Attached:
    """A sandbox whose network is up. `netns` is "" for a Pod on the node's own network.

    `ips`: of each family one, that of the node's primary family first.
    """

    netns: str
    ips: Sequence[str]
    result: Object

    @property
    def ip(self) -> str:
        return self.ips[0]


@dataclass(frozen=True)
class Dns:
    """What goes into a Pod's resolv.conf."""

    servers: Sequence[str]
    domain: str


class Sandboxes:
    """The sandboxes of a node. What is known of each lies in `root`/<Pod uid>, and outlives the agent."""

    def __init__(self, network: Network, root: Path, node_ips: Sequence[str], dns: Dns) -> None:
        self._network = network
        self._root = root
        self._node_ips = node_ips
        self._dns = dns
        # setns(2) and unshare(2) act on a thread: one of our own is moved about, never the loop's.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="netns")
        self._setups = asyncio.Semaphore(SETUPS_AT_ONCE)

    def directory(self, uid: str) -> Path:
        return self._root / uid

    def known(self) -> set[str]:
        """The uids of all Pods that may have left something on this node."""
        return {path.name for path in self._root.iterdir()} if self._root.exists() else set()

    def attached(self, uid: str) -> Attached | None:
        """A sandbox that an earlier agent completed."""
        try:
            held = Attached(**json.loads((self.directory(uid) / "sandbox.json").read_text()))
        except (OSError, ValueError, TypeError):
            return None
        return held if not held.netns or Path(held.netns).exists() else None

    async def create(self, pod: Object) -> Attached:
        """The Pod's sandbox, the one there is or a new one. Raises CniError."""
        uid = pod["metadata"]["uid"]
        held = self.attached(uid)
        if held:
            return held
        directory = self.directory(uid)
        directory.mkdir(parents=True, exist_ok=True)
        if pod["spec"].get("hostNetwork"):
            made = Attached("", self._node_ips, {})
        else:
            async with self._setups:
                made = await self._attach(pod)
        (directory / "hosts").write_text(_hosts(pod, made.ips))
        (directory / "resolv.conf").write_text(_resolv_conf(pod, self._dns))
        (directory / "sandbox.json").write_text(json.dumps(vars(made)))
        return made

    async def _attach(self, pod: Object) -> Attached:
        metadata = pod["metadata"]
        ports = port_mappings(pod)
        if ports:  # written first: an agent that is killed must find what to take back
            (self.directory(metadata["uid"]) / PORTS).write_text(json.dumps(ports))
        sandbox = _sandbox(metadata["uid"], pod, ports)
        await self._in_thread(_remove_netns, sandbox.netns)  # half-made by an agent that was killed
        await self._in_thread(_make_netns, sandbox.netns)
        try:
            result = await self._network.add(sandbox)
            addresses = [str(each["address"]).partition("/")[0] for each in result.get("ips") or ()]
            if not addresses:
                raise CniError("the CNI plugins gave the Pod no address")
        except BaseException:
            await self._in_thread(_remove_netns, sandbox.netns)
            raise
        primary = ip_address(self._node_ips[0]).version
        addresses.sort(key=lambda text: ip_address(text).version != primary)
        return Attached(sandbox.netns, addresses, result)

    async def remove(self, uid: str) -> None:
        """Detach and delete; what is not there is fine. Raises CniError when a plugin will not."""
        held = self.attached(uid)
        if self.directory(uid).exists() and not (held and not held.netns):
            async with self._setups:
                sandbox = _sandbox(uid, ports=self._ports(uid))
                await self._network.delete(sandbox, held.result if held else None)
            await self._in_thread(_remove_netns, str(NETNS / f"pod-{uid}"))
        limits.release(uid)
        volumes.unmount(self.directory(uid))
        shutil.rmtree(self.directory(uid), ignore_errors=True)

    def _ports(self, uid: str) -> list[Object]:
        file = self.directory(uid) / PORTS
        held: list[Object] = json.loads(file.read_text()) if file.exists() else []
        return held

    def mounts(self, pod: Object) -> tuple[Mount, ...]:
        """What every container sees in place of the node's files."""
        directory = self.directory(pod["metadata"]["uid"])
        if pod["spec"].get("hostNetwork"):
            return ()
        return (
            Mount(str(directory / "hosts"), "/etc/hosts"),
            Mount(str(directory / "resolv.conf"), "/etc/resolv.conf"),
        )

    async def open_socket(self, netns: str) -> socket.socket:
        """A TCP socket in a network namespace, "" for the node's own, for use on the loop. Raises OSError."""
        made: socket.socket = await self._in_thread(_open_socket, netns)
        return made

    async def _in_thread(self, function: Any, path: str) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, path)


def hostname(pod: Object) -> str:
    return str(pod["spec"].get("hostname") or pod["metadata"]["name"])[:63]


def _sandbox(uid: str, pod: Object | None = None, ports: Iterable[Object] = ()) -> Sandbox:
    words = {"IgnoreUnknown": "1"}
    if pod:
        words["K8S_POD_NAMESPACE"] = pod["metadata"]["namespace"]
        words["K8S_POD_NAME"] = pod["metadata"]["name"]
        words["K8S_POD_UID"] = uid
    arguments = ";".join(f"{name}={value}" for name, value in words.items())
    return Sandbox(uid, str(NETNS / f"pod-{uid}"), arguments, ports=tuple(ports))


def _make_netns(path: str) -> None:
    """A new network namespace with `lo` up, kept alive by a mount on `path`, so that `ip netns` knows it."""
    own = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).touch()
        namespaces.unshare(("net",))
        namespaces.loopback_up()
        namespaces.bind("/proc/thread-self/ns/net", path)
    finally:
        namespaces.setns(own, "net")
        os.close(own)


def _open_socket(path: str) -> socket.socket:
    with namespaces.inside(path or "/proc/thread-self/ns/net"):
        made = socket.socket()
    made.setblocking(False)
    return made


def _remove_netns(path: str) -> None:
    if Path(path).exists():
        with contextlib.suppress(OSError):  # not a mount: the agent was killed in between
            namespaces.unmount(path)
        Path(path).unlink()


def forget_all(root: Path) -> None:
    """Remove what the sandboxes of an earlier runtime left: it ended, and all their processes with it."""
    for path in sorted(NETNS.glob("pod-*")):
        _remove_netns(str(path))
    shutil.rmtree(root, ignore_errors=True)
    shutil.rmtree(ADDRESSES, ignore_errors=True)


def _hosts(pod: Object, ips: Sequence[str]) -> str:
    lines = ["127.0.0.1\tlocalhost", "::1\tlocalhost ip6-localhost ip6-loopback"]
    name, subdomain = hostname(pod), pod["spec"].get("subdomain")
    if subdomain:
        name = f"{name}.{subdomain}.{pod['metadata']['namespace']}.svc\t{name}"
    lines += [f"{ip}\t{name}" for ip in ips]
    for alias in pod["spec"].get("hostAliases") or ():
        lines.append("\t".join([alias["ip"], *alias["hostnames"]]))
    return "\n".join(lines) + "\n"


def _resolv_conf(pod: Object, dns: Dns) -> str:
    """By the Pod's dnsPolicy and dnsConfig (concepts/services-networking/dns-pod-service)."""
    config = pod["spec"].get("dnsConfig") or {}
    domain, namespace = dns.domain, pod["metadata"]["namespace"]
    none = pod["spec"].get("dnsPolicy") == "None"
    servers = [] if none else list(dns.servers)
    search = [] if none else [f"{namespace}.svc.{domain}", f"svc.{domain}", domain]
    options = [] if none else ["ndots:5"]
    servers += config.get("nameservers") or ()
    search += config.get("searches") or ()
    options += [_option(each) for each in config.get("options") or ()]
    return _lines([("nameserver", [each]) for each in servers] + [("search", search), ("options", options)])


def _option(option: Object) -> str:
    return f"{option['name']}:{option['value']}" if option.get("value") else str(option["name"])


def _lines(entries: Iterable[tuple[str, list[str]]]) -> str:
    return "".join(f"{word} {' '.join(values)}\n" for word, values in entries if values)
