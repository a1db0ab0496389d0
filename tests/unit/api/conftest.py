"""A store with all kinds on a scratch file, and the life of objects in it."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from testbed.api import pki
from testbed.api.journal import SQLiteJournal
from testbed.api.objects import Objects
from testbed.api.registry import BY_ID, derive, index
from testbed.api.server import Server, Settings
from testbed.api.service_addresses import ServiceAddresses
from testbed.api.store import Store
from testbed.client import Client
from testbed.client.kubeconfig import Access, load
from testbed.model.topology import PortRange

# A busy machine is no failure.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")

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
def serve(tmp_path: Path) -> Callable[[Scenario], None]:
    """Run a scenario against a server of its own; the server must end well, and on time, on SIGTERM."""
    authority = pki.ensure_authority(tmp_path / "pki")
    certificate, key = pki.issue_server(authority, "kube-apiserver", ["127.0.0.1"]).write(tmp_path, "server")
    admin = pki.issue_client(authority, "admin", ["system:masters"])
    admin.write(tmp_path, "admin")

    @asynccontextmanager
    async def running() -> AsyncIterator[Client]:
        inherited = socket.create_server(("127.0.0.1", 0))
        address = inherited.getsockname()
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        settings = Settings(
            db=tmp_path / "db",
            certificate=certificate,
            key=key,
            advertise=IPv4Address("192.0.2.1"),
            client_ca=tmp_path / "pki" / "ca.crt",
            kubelet_certificate=tmp_path / "admin.crt",
            kubelet_key=tmp_path / "admin.key",
            bind_address="127.0.0.1",
            port=port,
            listen_fds=[inherited.detach()],
        )
        server = asyncio.create_task(Server(settings).run())
        config = pki.write_kubeconfig(
            tmp_path / "config",
            f"https://127.0.0.1:{address[1]}",
            authority.pem,
            admin.certificate,
            admin.key,
        )
        async with Client.from_kubeconfig(config) as client:
            async with asyncio.timeout(DEADLINE):
                while "ok" not in await asyncio.gather(
                    client.request("GET", "/readyz"), return_exceptions=True
                ):
                    await asyncio.sleep(0.01)
            own = Access(f"https://127.0.0.1:{port}", load(config).tls)
            async with Client(own) as other:
                assert await other.request("GET", "/readyz") == "ok"
            yield client
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(server, DEADLINE)

    def run(scenario: Scenario) -> None:
        async def main() -> None:
            async with running() as client:
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
