"""The state directory of a cluster: what belongs to it, and which processes are its own.

`$TESTBED_STATE_DIR/<cluster>/` (default /var/lib/testbed): `cluster.json`, `machines/<machine>.json` (its
init), `logs/<machine>/`, `pki/`, kubeconfigs and the API server's database. Owning the directory is owning
the cluster; removing a cluster removes what is recorded there and nothing else.
"""

from __future__ import annotations

import hashlib
import json
import os
import select
import shutil
import signal
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

from testbed.errors import TestbedError, UsageError
from testbed.kernel import cgroup
from testbed.model.topology import ClusterSpec, NodeSpec, PortRange


def root() -> Path:
    """The directory of all clusters of this machine."""
    return Path(os.environ.get("TESTBED_STATE_DIR", "/var/lib/testbed"))


def clusters() -> list[str]:
    """Names of the clusters that have state here, running or left over."""
    return sorted(path.name for path in root().iterdir() if path.is_dir()) if root().is_dir() else []


@dataclass(frozen=True)
class ProcessRecord:
    """A process by what makes it unique: pid, start time in clock ticks since boot, and the boot itself."""

    pid: int
    start: int
    boot: str

    @classmethod
    def of(cls, pid: int) -> ProcessRecord:
        """The record of a running process. Raises OSError when there is none."""
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return cls(pid, int(fields[19]), boot_id())

    def alive(self) -> bool:
        """Whether that very process still runs; a zombie does not."""
        try:
            state = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0]
            return state not in "ZX" and ProcessRecord.of(self.pid) == self
        except OSError:
            return False


def boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


@dataclass(frozen=True)
class State:
    """Paths and records of one cluster."""

    name: str

    @property
    def path(self) -> Path:
        return root() / self.name

    @classmethod
    def create(cls, name: str) -> State:
        """Claim the name. Raises UsageError when it is in use."""
        state = cls(name)
        root().mkdir(parents=True, exist_ok=True)
        try:
            state.path.mkdir(mode=0o700)
        except FileExistsError:
            raise UsageError(
                f"cluster name {name!r} is in use; take it down with `testbed down --name {name}` "
                "or choose another --name"
            ) from None
        (state.path / "machines").mkdir()
        return state

    @classmethod
    def open(cls, name: str) -> State:
        """The state of an existing cluster. Raises UsageError when there is none."""
        state = cls(name)
        if not (state.path / "cluster.json").is_file():
            known = ", ".join(clusters()) or "none"
            raise UsageError(f"no cluster {name!r} on this machine (there are: {known}); see `testbed up`")
        return state

    def write_spec(self, spec: ClusterSpec, api_port: int) -> None:
        data = json.dumps({"spec": asdict(spec), "api_port": api_port}, default=str, indent=1)
        (self.path / "cluster.json").write_text(data)

    def read_spec(self) -> tuple[ClusterSpec, int]:
        """The cluster's spec and the port of its API server on the host's loopback."""
        data = json.loads((self.path / "cluster.json").read_text())
        return _spec(data["spec"]), data["api_port"]

    def record(self, machine: str, pid: int) -> None:
        """Remember the init of a machine."""
        target = self.path / "machines" / f"{machine}.json"
        partial = target.with_suffix(".new")
        partial.write_text(json.dumps(asdict(ProcessRecord.of(pid))))
        partial.rename(target)

    @property
    def cgroup(self) -> Path:
        """The control group of the cluster, where the machine has them. Its name is nobody else's."""
        digest = hashlib.sha1(str(self.path).encode(), usedforsecurity=False).hexdigest()
        return cgroup.ROOT / f"testbed-{self.name}-{digest[:8]}"

    def machines(self) -> dict[str, ProcessRecord]:
        """The init of every machine that was recorded."""
        return {
            path.stem: ProcessRecord(**json.loads(path.read_text()))
            for path in sorted((self.path / "machines").glob("*.json"))
        }

    def destroy(self, timeout: float = 10.0) -> None:
        """Kill the machines' inits, wait until the kernel has ended all their processes, remove the state."""
        kill(self.machines().values(), timeout)
        cgroup.remove(self.cgroup)
        shutil.rmtree(self.path)
        with suppress(OSError):
            root().rmdir()


def kill(records: Iterable[ProcessRecord], timeout: float) -> None:
    """SIGKILL these very processes and wait for their end. Raises TestbedError when one stays."""
    waiting: dict[int, ProcessRecord] = {}
    for record in records:
        with suppress(ProcessLookupError):
            descriptor = os.pidfd_open(record.pid)
            # Checked after the descriptor is held: from here on the pid cannot be another's.
            if record.alive():
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
                waiting[descriptor] = record
            else:
                os.close(descriptor)
    poll = select.poll()
    for descriptor in waiting:
        poll.register(descriptor, select.POLLIN)
    while waiting:
        ended = poll.poll(timeout * 1000)
        if not ended:
            pids = " ".join(str(record.pid) for record in waiting.values())
            raise TestbedError(f"processes {pids} did not end within {timeout:g} s of SIGKILL")
        for descriptor, _ in ended:
            poll.unregister(descriptor)
            os.close(descriptor)
            del waiting[descriptor]


def _spec(data: dict[str, Any]) -> ClusterSpec:
    nodes = tuple(
        NodeSpec(
            node["name"],
            tuple(map(ip_address, node["addresses"])),
            tuple(map(ip_network, node["pod_cidrs"])),
            node["proxy_mode"],
            node["labels"],
            node["iptables"],
            node["proxy_command"],
        )
        for node in data["nodes"]
    )
    ranges = {key: tuple(map(ip_network, data[key])) for key in ("cluster_cidrs", "service_cidrs")}
    return ClusterSpec(**{**data, **ranges, "node_ports": PortRange(**data["node_ports"]), "nodes": nodes})
