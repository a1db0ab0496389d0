"""libvirt on a machine where nothing starts it, for as long as it is needed; then the host is as before.

Where systemd runs, it starts the daemons. Elsewhere (a container, a runner without an init) they are started
here. What libvirt leaves behind (networks, storage pools, chains LIBVIRT_*, forwarding) is noted before and
put back by `down`: the host's firewall and sysctls are then what they were, to the byte.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from testbed.errors import TestbedError, UsageError
from testbed.kernel import sysctl

ROOM = Path("/run/testbed-provider")
"""What was noted at `up`; there while the provider is up."""

CONFIGURATION = Path("/etc/libvirt/qemu.conf")
SETTINGS = """
# testbed: as root, libvirt need not try QEMU anew at each call
user = "root"
group = "root"
# all machines in one group of the CPU controller would share what one process gets
cgroup_controllers = [ ]
"""
DAEMONS = ("virtlogd", "libvirtd")
PROGRAMS = {
    "vagrant": "vagrant",
    "libvirtd": "libvirt-daemon-system",
    "virsh": "libvirt-clients",
    "dnsmasq": "dnsmasq-base",
    "qemu-system-x86_64": "qemu-system-x86",
}
SYSCTLS = ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding", "net.ipv6.conf.default.forwarding")
SAVES = ("iptables-save", "ip6tables-save")
START_SECONDS = 60.0

Progress = Callable[[str], None]


def running() -> bool:
    """Whether a libvirt answers, ours or the machine's own."""
    return _virsh("uri", check=False).returncode == 0


def up(progress: Progress = lambda _: None) -> bool:
    """Start libvirt unless it runs. True when it was started here. Raises UsageError, TestbedError."""
    if os.geteuid() != 0:
        raise UsageError("libvirt's daemons are started by root: run this as root (sudo)")
    for program, package in PROGRAMS.items():
        if shutil.which(program) is None:
            raise UsageError(f"{program} is missing: apt-get install {package} vagrant-libvirt")
    if running():
        return False
    ROOM.mkdir(mode=0o700, exist_ok=True)
    _note()
    progress("starting libvirt")
    if Path("/run/systemd/system").is_dir():
        _run(["systemctl", "start", "virtlogd", "libvirtd"])
    else:
        for daemon in DAEMONS:
            _run([f"/usr/sbin/{daemon}", "--daemon", f"--pid-file={ROOM / daemon}.pid"])
    deadline = time.monotonic() + START_SECONDS
    while not running():
        if time.monotonic() > deadline:
            down()
            raise TestbedError(f"libvirt does not answer {START_SECONDS:g} s after its start; see its log")
        time.sleep(0.2)
    noted = json.loads((ROOM / "before.json").read_text())
    noted |= {kind: _listed(kind) for kind in ("net", "pool")}
    (ROOM / "before.json").write_text(json.dumps(noted))
    return True


def down(progress: Progress = lambda _: None) -> list[str]:
    """Stop what `up` started and put the host back. What could not be put back, in words; none when all is.

    Raises UsageError when machines still run.
    """
    if not ROOM.exists():
        return []
    if running():
        domains = _virsh("list", "--all", "--name").stdout.split()
        if domains:
            raise UsageError(f"machines are still there: {', '.join(domains)}; vagrant destroy -f first")
        _remove_new()
    progress("stopping libvirt")
    if Path("/run/systemd/system").is_dir():
        units = ["libvirtd", "libvirtd.socket", "libvirtd-ro.socket", "libvirtd-admin.socket"]
        _run(["systemctl", "stop", *units, "virtlogd", "virtlogd.socket", "virtlogd-admin.socket"])
    else:
        for daemon in reversed(DAEMONS):
            _stop(ROOM / f"{daemon}.pid")
    left = _put_back()
    shutil.rmtree(ROOM)
    return left


def _note() -> None:
    before: dict[str, Any] = {"sysctls": {}, "tables": _nft_tables(), "saves": {}}
    for name in SYSCTLS:
        with suppress(OSError):
            before["sysctls"][name] = sysctl.get(name)
    for command in SAVES:
        before["saves"][command] = _rules(command)
    shutil.copy2(CONFIGURATION, ROOM / "qemu.conf")
    with CONFIGURATION.open("a") as file:
        file.write(SETTINGS)
    (ROOM / "before.json").write_text(json.dumps(before))


def _put_back() -> list[str]:
    before = json.loads((ROOM / "before.json").read_text())
    shutil.copy2(ROOM / "qemu.conf", CONFIGURATION)
    for save in SAVES:
        _remove_chains(save.removesuffix("-save"), before["saves"][save])
    for table in sorted(set(_nft_tables()) - set(before["tables"])):
        if _is_bare(_output(["nft", "list", "table", *table.split()])):
            _run(["nft", "delete", "table", *table.split()])
    left = []
    for name, value in before["sysctls"].items():
        sysctl.put(name, value)
    for save in SAVES:
        if _rules(save) != before["saves"][save]:
            left.append(f"{save} prints other rules than before")
    return left


def _is_bare(table: str) -> bool:
    """Whether a table, as nft lists it, has nothing but base chains that let everything pass."""
    bare = re.compile(r"(table .*{|chain \w+ {|type \w+ hook \w+ priority .*; policy accept;|}|#.*)?")
    return all(bare.fullmatch(line.strip()) for line in table.splitlines())


def _remove_chains(program: str, before: str) -> None:
    """The chains LIBVIRT_* that were not there before, and the rules that lead to them."""
    chains: list[tuple[str, str]] = []
    table = ""
    for line in _output([f"{program}-save"]).splitlines():
        if line.startswith("*"):
            table = line[1:]
        elif match := re.match(r":(LIBVIRT_\w+)", line):
            chains.append((table, match[1]))
        elif (
            re.search(r" -j LIBVIRT_\w+$", line) and not line.startswith("-A LIBVIRT_") and line not in before
        ):
            _run([program, "-w", "-t", table, "-D", *line.split()[1:]])
    chains = [(table, chain) for table, chain in chains if f":{chain} " not in before]
    for verb in ("-F", "-X"):
        for table, chain in chains:
            _run([program, "-w", "-t", table, verb, chain])


def _remove_new() -> None:
    """Networks and storage pools that came up since, and the boxes' images in the pools."""
    before = json.loads((ROOM / "before.json").read_text())
    for name in set(_listed("net")) - set(before["net"]):
        _virsh("net-destroy", name, check=False)
        _virsh("net-undefine", name, check=False)
    for name in set(_listed("pool")) - set(before["pool"]):
        for line in _virsh("vol-list", name, check=False).stdout.splitlines()[2:]:
            if "_vagrant_box_image_" in line:
                _virsh("vol-delete", "--pool", name, line.split()[0], check=False)
        _virsh("pool-destroy", name, check=False)
        _virsh("pool-undefine", name, check=False)


def _listed(kind: str) -> list[str]:
    return _virsh(f"{kind}-list", "--all", "--name").stdout.split()


def _nft_tables() -> list[str]:
    if shutil.which("nft") is None:
        return []
    return [line.removeprefix("table ") for line in _output(["nft", "list", "tables"]).splitlines()]


def _rules(command: str) -> str:
    """What the command prints, without the comments, which hold the time, and without packet counts."""
    lines = [line for line in _output([command]).splitlines() if not line.startswith("#")]
    return re.sub(r"\[\d+:\d+\]", "[0:0]", "\n".join(lines))


def _stop(pid_file: Path) -> None:
    with suppress(FileNotFoundError, ProcessLookupError, ValueError):
        pid = int(pid_file.read_text())
        descriptor = os.pidfd_open(pid)
        os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + START_SECONDS
        with os.fdopen(descriptor, "rb"):
            while _alive(pid):
                if time.monotonic() > deadline:
                    os.kill(pid, signal.SIGKILL)
                    return
                time.sleep(0.1)


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def _output(command: Sequence[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        words = done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"]
        raise TestbedError(f"{' '.join(command[:3])}: {words[-1]}")


def _virsh(*words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    command = ["virsh", "--connect", "qemu:///system", "--quiet", *words]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except FileNotFoundError:
        raise UsageError("virsh is missing: apt-get install libvirt-clients") from None
    except subprocess.TimeoutExpired:
        raise TestbedError(f"libvirt does not answer `virsh {' '.join(words)}`") from None
    if check and done.returncode:
        raise TestbedError(f"virsh {' '.join(words)}: {done.stderr.strip()}")
    return done
