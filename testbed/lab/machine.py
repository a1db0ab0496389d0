"""A machine: a set of namespaces under one init. Booting one, and working on a running one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from testbed.errors import TestbedError
from testbed.kernel import cgroup, namespaces, sysctl
from testbed.kernel.fork import fork
from testbed.lab import rootfs
from testbed.lab.state import State
from testbed.model.families import Address
from testbed.node.init import SOCKET, Init, listen

FABRIC = "fabric"
"""The machine that holds the underlay's bridge. It has no address: a switch."""

SYSCTLS: Mapping[str, int] = {
    "net.ipv4.ip_forward": 1,
    "net.ipv6.conf.all.forwarding": 1,
    "net.ipv4.conf.all.rp_filter": 0,
    "net.ipv4.conf.default.rp_filter": 0,
    "net.ipv4.conf.all.send_redirects": 0,
    "net.ipv4.conf.default.send_redirects": 0,
    "net.bridge.bridge-nf-call-iptables": 1,
    "net.bridge.bridge-nf-call-ip6tables": 1,
    "net.ipv4.neigh.default.gc_thresh1": 0,
    "net.ipv6.conf.all.accept_dad": 0,
    "net.ipv6.conf.default.accept_dad": 0,
}
"""What a Kubernetes node sets; and no redirects, which would send the client past the node it asked, as all
share a link. Keys that this kernel lacks, or has only for the whole machine, are left alone."""


@dataclass(frozen=True)
class Blueprint:
    """What a machine is made from. `hosts`: the names and addresses that it knows.

    `descriptors` are open files that its init keeps for its units.
    """

    name: str
    hosts: Sequence[tuple[str, str]]
    iptables: str = ""
    descriptors: tuple[int, ...] = ()


class Birth:
    """A machine that is booting: `ready` waits for it, `commit` lets it outlive this process."""

    def __init__(self, name: str, report: int, life: int) -> None:
        self.name = name
        self._report = report
        self._life = life

    def ready(self) -> None:
        """Wait until the machine's init takes requests. Raises TestbedError with its last words."""
        with open(self._report, "rb", closefd=True) as channel:
            words = channel.read().decode(errors="replace")
        if words != "ready":
            raise TestbedError(f"machine {self.name} did not start: {words or 'its init died'}")

    def commit(self) -> None:
        os.write(self._life, b"1")
        os.close(self._life)


def boot(state: State, blueprint: Blueprint) -> Birth:
    """Fork a machine's init. Until `commit` it ends when this process does."""
    for directory in ("logs", "mnt"):
        (state.path / directory / blueprint.name).mkdir(parents=True)
    report, told = os.pipe2(0)
    watched, life = os.pipe2(0)
    sys.stdout.flush()
    sys.stderr.flush()
    middle = fork()
    if middle == 0:
        _quietly(lambda: _middle(state, blueprint, told, watched))
    os.close(told)
    os.close(watched)
    os.waitpid(middle, 0)
    return Birth(blueprint.name, report, life)


def _quietly(function: Callable[[], Any]) -> None:
    code = 1
    try:
        function()
        code = 0
    finally:
        os._exit(code)


def _middle(state: State, blueprint: Blueprint, told: int, watched: int) -> None:
    """Between the caller and init: makes the namespaces, leaves the record, ends."""
    os.setsid()
    _keep_only((told, watched, *blueprint.descriptors))
    try:
        namespaces.unshare(("pid", "net", "uts", "ipc"))
        pid = fork()
        if pid == 0:
            _quietly(lambda: _become_init(state, blueprint, told, watched))
        state.record(blueprint.name, pid)
    except OSError as error:
        os.write(told, str(error).encode())


def _become_init(state: State, blueprint: Blueprint, told: int, watched: int) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    try:
        # Here and not a step earlier: the caller's /proc must stay what it is while it leaves the record.
        namespaces.unshare(("mnt",))
        _furnish(state, blueprint)
        init = Init(listen(SOCKET))
        _title(f"testbed-init {state.name}/{blueprint.name}")
    except (OSError, TestbedError) as error:
        os.write(told, str(error).encode())
        return
    init.selector.register(watched, 1, lambda: _committed(init, watched))
    os.write(told, b"ready")
    os.close(told)
    init.run()


def _committed(init: Init, watched: int) -> None:
    if not os.read(watched, 1):
        os._exit(1)  # the process that was bringing the cluster up is gone
    init.selector.unregister(watched)
    os.close(watched)


def _furnish(state: State, blueprint: Blueprint) -> None:
    import socket

    socket.sethostname(blueprint.name)
    logs = state.path / "logs" / blueprint.name
    group = state.cgroup / blueprint.name if cgroup.usable() else None
    if group:
        cgroup.branch(group)
    rootfs.enter_root(state.path / "mnt" / blueprint.name, state.path, logs, group)
    rootfs.write_identity(blueprint.name, blueprint.hosts)
    if blueprint.iptables:
        rootfs.choose_iptables(blueprint.iptables)
    namespaces.loopback_up()
    for name, value in SYSCTLS.items():
        with suppress(FileNotFoundError, PermissionError):
            sysctl.put(name, value)


def _title(text: str) -> None:
    import setproctitle

    setproctitle.setproctitle(text)


def _keep_only(descriptors: Sequence[int]) -> None:
    quiet = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(quiet, number)
    start = 3
    for descriptor in sorted(descriptors):
        os.closerange(start, descriptor)
        start = descriptor + 1
    os.closerange(start, os.sysconf("SC_OPEN_MAX"))


@dataclass(frozen=True)
class Machine:
    """A running machine of a cluster; `init_pid` is the host's. `addresses` are those on the underlay."""

    name: str
    init_pid: int
    addresses: tuple[Address, ...] = ()

    @property
    def address(self) -> Address:
        """Of the cluster's primary family."""
        return self.addresses[0]

    @property
    def netns(self) -> Path:
        """The machine's network namespace, as a path for `Worker` or nsenter(1)."""
        return Path(f"/proc/{self.init_pid}/ns/net")

    @property
    def root(self) -> Path:
        """The machine's root directory as the host sees it."""
        return Path(f"/proc/{self.init_pid}/root")

    @property
    def init_socket(self) -> str:
        return str(self.root) + SOCKET

    def pod_netns(self, pod: Mapping[str, Any]) -> Path:
        """The network namespace of a Pod (as the API gives it) that runs here."""
        if pod["spec"].get("hostNetwork"):
            return self.netns
        return self.root / "run/netns" / f"pod-{pod['metadata']['uid']}"

    def command(self, argv: Sequence[str], directory: str = "/") -> list[str]:
        """The command line that runs `argv` inside all of the machine's namespaces."""
        spaces = ["--mount", "--uts", "--ipc", "--net", "--pid"]
        return ["nsenter", f"--target={self.init_pid}", *spaces, f"--wdns={directory}", "--", *argv]

    def run(self, argv: Sequence[str], **options: Any) -> subprocess.CompletedProcess[str]:
        """Run `argv` on the machine to its end; text in and out, subprocess.run's options."""
        options = {"check": True, "capture_output": True, "text": True, "timeout": 60} | options
        return subprocess.run(self.command(argv), **options)

    def popen(self, argv: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
        """Start `argv` on the machine."""
        return subprocess.Popen(self.command(argv), **options)
