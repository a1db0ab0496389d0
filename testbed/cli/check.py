"""What this machine can and cannot do, tried for real, and the remedy for each.

Exit code 0 when the main job can run here (on this kernel, or in a VM for what it lacks), 1 when it cannot.

  testbed check
  testbed check -o json
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import yaml

from testbed.errors import TestbedError
from testbed.kernel import features
from testbed.vm import image, qemu

OK, VM, NO = "yes", "in a VM", "no"
ROLE_DEFAULTS = "playbooks/roles/host/defaults/main.yml"


@dataclass(frozen=True)
class Row:
    """One line of the table. `needed`: without it the main job cannot run."""

    name: str
    able: str
    purpose: str
    remedy: str = ""
    needed: bool = False


# What to do about a kernel feature that is missing; elsewhere a VM is the remedy, and it is taken unasked.
REMEDIES = {
    "root": "run as root (sudo)",
    "netns": "run as root, on a kernel with CONFIG_NET_NS",
    "iptables-legacy": "apt-get install iptables",
    "iptables-nft": "apt-get install iptables",
    "ip6tables": "apt-get install iptables",
    "nf_tables": "apt-get install nftables",
    "ipset": "apt-get install ipset",
    "conntrack": "apt-get install conntrack",
    "cgroup2": "cgroup2 at /sys/fs/cgroup with cpu, memory and pids; without it limits are not enforced",
    "netem": "apt-get install iproute2, and a kernel that has it",
}

# Without these nothing can be measured on this kernel nor in a VM.
BASIC = ("root", "netns", "veth", "bridge")
MAIN_JOB = (*BASIC, "iptables-nft", "ip_vs")

# program → (package, purpose, whether the main job needs it)
PROGRAMS = {
    "ip": ("iproute2", "links and routes", True),
    "nginx": ("nginx-light", "Pods of image nginx", False),
    "kubectl": ("kubernetes-client", "testbed kubectl", False),
    "tcpdump": ("tcpdump", "testbed capture", False),
    "mksquashfs": ("squashfs-tools", "the VM's image of Python", False),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-o", "--output", choices=["table", "json"], default="table", help="default: %(default)s"
    )


def run(args: argparse.Namespace) -> int:
    rows = list(checks())
    if args.output == "json":
        json.dump({"checks": [asdict(row) for row in rows], "able": able(rows)}, sys.stdout, indent=2)
        print()
    else:
        print(table(rows))
    return 0 if able(rows) else 1


def able(rows: list[Row]) -> bool:
    """True when nothing that the main job needs is missing."""
    return not any(row.needed and row.able == NO for row in rows)


def checks() -> Iterator[Row]:
    """All rows, the slow ones last."""
    yield python()
    vm_rows = list(machine())
    for name, feature in features.FEATURES.items():
        yield of_feature(name, feature, vm_works=vm_rows[0].able == OK)
    yield from programs()
    yield from packages()
    yield from vm_rows


def of_feature(name: str, feature: features.Feature, *, vm_works: bool) -> Row:
    if features.has(name):
        return Row(name, OK, feature.purpose, needed=name in MAIN_JOB)
    # The VM has the host's programs: one that is missing here is missing there.
    program = feature.trial.split()[0] if isinstance(feature.trial, str) else "true"
    if shutil.which(program) and vm_works and name not in BASIC:
        return Row(name, VM, feature.purpose, "none needed, the VM has it")
    remedy = REMEDIES.get(name, "a kernel that has it, or QEMU: apt-get install qemu-system-x86")
    return Row(name, NO, feature.purpose, remedy, needed=name in MAIN_JOB)


def python() -> Row:
    version = ".".join(map(str, sys.version_info[:3]))
    return Row(f"Python {version}", OK, "3.11 or newer", needed=True)


def programs() -> Iterator[Row]:
    for program, (package, purpose, needed) in PROGRAMS.items():
        found = shutil.which(program) is not None
        yield Row(
            program, OK if found else NO, purpose, "" if found else f"apt-get install {package}", needed
        )


def packages() -> Iterator[Row]:
    """The packages of the Ansible role. Only a checkout has it."""
    defaults = image.PACKAGE.parent / ROLE_DEFAULTS
    if defaults.exists() and shutil.which("dpkg-query"):
        missing = missing_packages(defaults)
        remedy = f"make setup (installs {' '.join(missing)})" if missing else ""
        yield Row("packages", NO if missing else OK, "what the role host installs", remedy)


def missing_packages(defaults: Path) -> list[str]:
    """The packages of the role's `defaults` that are not installed; a client is there when its program is."""
    role = yaml.safe_load(defaults.read_text())
    wanted = [*role["host_packages"], *role["host_vm_packages"]]
    query = ["dpkg-query", "-W", "-f=${db:Status-Abbrev}${Package}\n", *wanted]
    listing = subprocess.run(query, capture_output=True, text=True, check=False).stdout.splitlines()
    clients = role["host_client_packages"].items()
    return [name for name in wanted if f"ii {name}" not in listing] + [
        package for program, package in clients if shutil.which(program) is None
    ]


def machine() -> Iterator[Row]:
    """What can run a VM."""
    if shutil.which(qemu.PROGRAM) is None:
        yield Row("QEMU", NO, "VMs", "apt-get install qemu-system-x86")
        return
    if os.uname().machine != "x86_64":
        yield Row("QEMU", NO, "VMs", "an x86-64 machine")
        return
    try:
        accelerator = qemu.best_accelerator()
    except TestbedError as error:
        yield Row("QEMU", NO, "VMs", str(error))
        return
    yield Row("QEMU", OK, f"VMs, by {accelerator.upper()}")
    remedy = (
        "none needed, VMs are emulated"
        if Path("/dev/kvm").exists()
        else "switch on virtualisation in the BIOS"
    )
    yield Row("KVM", OK if accelerator == "kvm" else NO, "fast VMs", "" if accelerator == "kvm" else remedy)
    yield Row("user-mode-linux", NO, "VMs without QEMU", "none needed, QEMU does it")


def table(rows: list[Row]) -> str:
    """The rows in columns, and a last line that says whether the main job can run."""
    widths = [max(len(getattr(row, column)) for row in rows) for column in ("name", "able", "purpose")]
    lines = [
        f"{row.name:{widths[0]}}  {row.able:{widths[1]}}  {row.purpose:{widths[2]}}  {row.remedy}".rstrip()
        for row in rows
    ]
    missing = [row.name for row in rows if row.needed and row.able == NO]
    verdict = (
        f"cannot run here: {', '.join(missing)} missing"
        if missing
        else "the main job can run here: make bench"
    )
    return "\n".join([*lines, verdict])
