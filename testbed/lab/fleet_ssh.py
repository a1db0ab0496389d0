"""Commands on a fleet's machines over ssh, with what the inventory says of each."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from testbed.errors import TestbedError
from testbed.lab import fleet

OPTIONS = (
    "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
    "-o", "LogLevel=ERROR", "-o", "ConnectTimeout=30",
    # Also of a connection that is shared: a machine that is lost closes nothing.
    "-o", "ServerAliveInterval=10", "-o", "ServerAliveCountMax=3",
)  # fmt: skip
SECONDS = 180.0
DIGEST, LONGEST_SOCKET = 60, 108
"""Bytes that ssh makes of `%C`, with what it appends for a moment; and of a socket's path (unix(7))."""
PROXY_ARGUMENTS = "/run/testbed/kube-proxy"
"""Read by the agent's service at its start, gone at the next boot: a mode that somebody tries out."""


@dataclass(frozen=True)
class Machine:
    """A machine by the name that the inventory, and the cluster, has for it."""

    name: str
    variables: dict[str, Any]

    def run(self, argv: Sequence[str]) -> str:
        """Run `argv` there as root; what it printed. Raises TestbedError, also when it fails."""
        done = self.attempt(argv)
        if done.returncode:
            raise TestbedError(f"{self.name}: {shlex.join(argv)}: {fleet.last(done.stderr)}")
        return done.stdout

    def attempt(self, argv: Sequence[str], timeout: float = SECONDS) -> subprocess.CompletedProcess[str]:
        """The same, whatever its exit code is. Raises TestbedError when it has not ended in time."""
        command = ["ssh", *OPTIONS, *_shared(), *self._way(), "sudo -n " + shlex.join(argv)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
        except subprocess.TimeoutExpired:
            raise TestbedError(f"{self.name}: `{argv[0]}` had not ended after {timeout:g} s") from None
        if done.returncode == 255:
            raise fleet.unreachable(self.name, done.stderr)
        return done

    def set_proxy(self, mode: str) -> None:
        """Start the proxy agent anew in another mode, until the next boot. Returns when it was started."""
        line = shlex.quote(f"KUBE_PROXY_ARGS=--proxy-mode={mode}")
        script = f"mkdir -p /run/testbed && echo {line} > {PROXY_ARGUMENTS} && systemctl restart kube-proxy"
        self.run(["sh", "-c", script])

    def own_proxy(self) -> None:
        """The agent again as the machine was set up."""
        self.run(["sh", "-c", f"rm -f {PROXY_ARGUMENTS}; systemctl restart kube-proxy"])

    def _way(self) -> list[str]:
        words = []
        for flag, name in (
            ("-p", "ansible_port"),
            ("-i", "ansible_ssh_private_key_file"),
            ("-l", "ansible_user"),
        ):
            if self.variables.get(name):
                words += [flag, str(self.variables[name]).strip("'")]
        return [*words, str(self.variables.get("ansible_host", self.name))]


def _shared() -> list[str]:
    """Options for one connection to a machine that commands share: an emulated one takes seconds for each."""
    path = fleet.ROOM / "ssh-%C"
    if len(str(path)) + DIGEST > LONGEST_SOCKET:
        return []
    return ["-o", "ControlMaster=auto", "-o", f"ControlPath={path}", "-o", "ControlPersist=60"]


def machines(path: Path) -> dict[str, Machine]:
    """Every machine of an inventory."""
    listed = fleet.listing(path)
    known = listed.get("_meta", {}).get("hostvars", {})
    names = [name for group in fleet.GROUPS for name in listed.get(group, {}).get("hosts", ())]
    return {name: Machine(name, dict(known.get(name, {}))) for name in names}
