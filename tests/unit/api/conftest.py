"""A store with all kinds on a scratch file, and the life of objects in it."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from testbed.api.journal import SQLiteJournal
from testbed.api.objects import Objects
from testbed.api.registry import BY_ID, derive, index
from testbed.api.server import Server, Settings
from testbed.api.service_addresses import ServiceAddresses
from testbed.api.store import Store
from testbed.client import Client, pki
from testbed.client.kubeconfig import Access, load
from testbed.model.topology import PortRange

# A busy machine is no failure.
hypothesis.settings.register_profile("patient", deadline=None)
hypothesis.settings.load_profile("patient")

DEADLINE = 60.0
Scenario = Callable[[Client], Awaitable[None]]
Opened = Callable[[], AbstractAsyncContextManager[Objects]]


@pytest.fixture
def opened(tmp_path: Path) -> Opened:
    """`async with opened() as objects`: the same file each time, with a namespace `default`."""

    @asynccontextmanager
    async def opening() -> AsyncIterator[Objects]:
        store = Store(SQLiteJournal(tmp_path / "api.db"), index, window=64, derive=derive)
        store.start()
        objects = Objects(store, ServiceAddresses([IPv4Network("10.96.0.0/24")], PortRange(30000, 30099)))
        if not store.get("namespaces", ("", "default")):
            await objects.create(BY_ID["namespaces"], "", {"metadata": {"name": "default"}})
        try:
            yield objects
        finally:
            await store.close()

    return opening


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Of a server on the loopback address, with a certificate; `admin` in the same directory may do all."""
    authority = pki.ensure_authority(tmp_path / "pki")
    certificate, key = pki.issue_server(authority, "kube-apiserver", ["127.0.0.1"]).write(tmp_path, "server")
    admin = pki.issue_client(authority, "admin", ["system:masters"])
    kubelet_certificate, kubelet_key = admin.write(tmp_path, "admin")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    server = f"https://127.0.0.1:{port}"
    pki.write_kubeconfig(tmp_path / "config", server, authority.pem, admin.certificate, admin.key)
    return Settings(
        db=tmp_path / "db",
        certificate=certificate,
        key=key,
        advertise=IPv4Address("192.0.2.1"),
        client_ca=tmp_path / "pki" / "ca.crt",
        kubelet_certificate=kubelet_certificate,
        kubelet_key=kubelet_key,
        bind_address="127.0.0.1",
        port=port,
    )


@pytest.fixture
def ready() -> Callable[[Client], Awaitable[None]]:
    """Wait until the server answers."""
    return _ready


async def _ready(client: Client) -> None:
    async with asyncio.timeout(DEADLINE):
        while "ok" not in await asyncio.gather(client.request("GET", "/readyz"), return_exceptions=True):
            await asyncio.sleep(0.01)


@pytest.fixture
def serve(tmp_path: Path, settings: Settings) -> Callable[..., None]:
    """Run a scenario against a server of its own; the server must end well, and on time, on SIGTERM.

    Keywords change its settings. It listens on its own port, where this is seen, and on an inherited socket.
    """

    @asynccontextmanager
    async def running(**changed: Any) -> AsyncIterator[Client]:
        inherited = socket.create_server(("127.0.0.1", 0))
        host, port = inherited.getsockname()
        own = replace(settings, listen_fds=[inherited.detach()], **changed)
        server = asyncio.create_task(Server(own).run())
        access = load(tmp_path / "config")
        async with Client(access) as other:
            await _ready(other)
        async with Client(Access(f"https://{host}:{port}", access.tls)) as client:
            await _ready(client)
            yield client
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(server, DEADLINE)

    def run(scenario: Scenario, **changed: Any) -> None:
        async def main() -> None:
            async with running(**changed) as client:
                await scenario(client)

        asyncio.run(main())

    return run


@pytest.fixture
def raw() -> Callable[..., Awaitable[tuple[int, Any]]]:
    """A request as it is, beside the client's own ways: its code and the JSON of its answer."""

    async def ask(
        client: Client, method: str, path: str, body: bytes = b"", **headers: str
    ) -> tuple[int, Any]:
        assert client._session
        url = client.access.server + path
        data = io.BytesIO(body) if body else None
        async with client._session.request(method, url, data=data, headers=headers) as answer:
            return answer.status, await answer.json(content_type=None)

    return ask
