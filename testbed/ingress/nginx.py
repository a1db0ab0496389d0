"""The nginx that serves: its files, its start, and changes that no request notices."""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Mapping
from pathlib import Path

from testbed.errors import TestbedError, UsageError
from testbed.ingress.certificate import self_signed
from testbed.ingress.configuration import OWN

log = logging.getLogger(__name__)

Pair = tuple[bytes, bytes]


class Refused(TestbedError):
    """nginx does not take the configuration; what it served before is served on."""


class Nginx:
    """Reads `directory`/nginx.conf. Raises UsageError when there is no nginx."""

    def __init__(self, directory: Path) -> None:
        if not shutil.which("nginx"):
            raise UsageError("ingress needs nginx on this machine; install nginx-light")
        self.directory = directory
        self._held: tuple[str, Mapping[str, Pair]] | None = None
        self._process: asyncio.subprocess.Process | None = None
        directory.mkdir(parents=True, exist_ok=True)
        self._write_pair(OWN, self_signed())

    async def serve(self, text: str, pairs: Mapping[str, Pair]) -> bool:
        """Serve this configuration from now on; False when that is so already. Raises Refused."""
        if self._held == (text, pairs):
            return False
        for name, pair in pairs.items():
            self._write_pair(name, pair)
        new = self.directory / "new.conf"
        new.write_text(text)
        await self._check(new)
        new.rename(self.directory / "nginx.conf")
        self._held = (text, dict(pairs))
        if self._process is None:
            self._process = await asyncio.create_subprocess_exec(
                "nginx", "-c", str(self.directory / "nginx.conf")
            )
        else:
            self._process.send_signal(1)  # SIGHUP: new workers take over, old ones finish what they have
        return True

    async def ended(self) -> int:
        """The exit code of nginx, when it has ended."""
        while self._process is None:
            await asyncio.sleep(0.1)
        return await self._process.wait()

    async def _check(self, file: Path) -> None:
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec("nginx", "-t", "-q", "-c", str(file), stderr=pipe)
        _, words = await process.communicate()
        if process.returncode:
            raise Refused(words.decode(errors="replace").strip().splitlines()[0])

    def _write_pair(self, name: str, pair: Pair) -> None:
        for suffix, content in zip(("crt", "key"), pair, strict=True):
            file = self.directory / f"{name}.{suffix}"
            file.touch(mode=0o600)
            file.write_bytes(content)
