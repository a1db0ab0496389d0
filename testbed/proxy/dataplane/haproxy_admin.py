"""A running HAProxy: how it is started, and what it can be told without a reload.

Source of the commands: HAProxy 2.6 Management Guide, "Unix Socket commands".
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Collection, Sequence

from testbed.errors import TestbedError
from testbed.proxy.dataplane.balance import Address
from testbed.proxy.dataplane.haproxy_config import Section, place, server, text

ANSWER = 60.0
"""Seconds that HAProxy has to start, or to answer."""
AT_ONCE = 100
"""Commands in one line, of which HAProxy reads 16 KiB."""

Named = tuple[str, Address]
"""A server: its section and its address."""


class HaproxyError(TestbedError):
    """HAProxy does not run, or not as it was told."""


class Running:
    """One process. Its socket for commands has a name of the kernel's choice and is in no file system."""

    def __init__(self, sections: Sequence[Section], before: Running | None = None) -> None:
        """Returns when it serves. It takes over from the process `before`. Raises HaproxyError."""
        if not shutil.which("haproxy"):
            raise HaproxyError("haproxy is not on PATH; install the package haproxy")
        with socket.socket(socket.AF_UNIX) as admin, os.fdopen(os.memfd_create("haproxy.cfg"), "w") as file:
            admin.bind("")
            admin.listen()
            self._admin = admin.getsockname()
            file.write(text(sections, admin.fileno()))
            file.flush()
            # -q: without a line for each section that ends; what hinders a start is still said
            argv = ["haproxy", "-q", "-db", "-f", f"/proc/self/fd/{file.fileno()}"]
            self.process: subprocess.Popen[bytes] = subprocess.Popen(
                [
                    "setpriv",
                    "--pdeathsig",
                    "TERM",
                    *argv,
                    *(["-sf", str(before.process.pid)] if before else []),
                ],
                pass_fds=[file.fileno(), admin.fileno(), *(one.fd for one in sections)],
                stdin=subprocess.DEVNULL,
            )
        try:
            self.ask(["show version"])
        except HaproxyError:
            self.process.kill()
            self.process.wait()
            raise

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def add(self, servers: Collection[Named]) -> None:
        """Raises HaproxyError, as the methods below, when one is not as it was believed to be."""
        self._do(
            [f"add server {one[0]}/{server(one[1])} {place(one[1])}" for one in servers],
            "New server registered.",
        )
        self._do([f"set server {one[0]}/{server(one[1])} state ready" for one in servers])

    def restore(self, servers: Collection[Named]) -> None:
        """Servers that had been told to leave are wanted again."""
        self._do([f"set server {one[0]}/{server(one[1])} state ready" for one in servers])

    def retire(self, servers: Collection[Named]) -> None:
        """No new connections; those that are there live on."""
        self._do([f"set server {one[0]}/{server(one[1])} state maint" for one in servers])

    def delete(self, servers: Sequence[Named]) -> list[Named]:
        """Delete those retired servers that have no connection any more; returns the others."""
        said = self.ask([f"del server {one[0]}/{server(one[1])}" for one in servers])
        if len(said) != len(servers):
            raise HaproxyError(f"HAProxy answers {len(servers)} commands with {len(said)} lines")
        return [one for one, line in zip(servers, said, strict=True) if line != "Server deleted."]

    def _do(self, commands: Sequence[str], due: str = "") -> None:
        wrong = [line for line in self.ask(commands) if line != due]
        if wrong:
            raise HaproxyError(f"HAProxy: {wrong[0]}")

    def ask(self, commands: Sequence[str]) -> list[str]:
        """The lines that HAProxy answers with. Raises HaproxyError when it does not."""
        said = []
        try:
            for start in range(0, len(commands), AT_ONCE):
                with socket.socket(socket.AF_UNIX) as channel:
                    channel.settimeout(ANSWER)
                    channel.connect(self._admin)
                    channel.sendall(";".join(commands[start : start + AT_ONCE]).encode() + b"\n")
                    with channel.makefile() as answer:
                        said += [line.rstrip() for line in answer if line.rstrip()]
        except OSError as error:
            raise HaproxyError(f"HAProxy (pid {self.process.pid}) does not answer: {error}") from None
        return said
