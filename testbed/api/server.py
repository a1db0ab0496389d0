"""The API server's process: sockets, TLS, and the way of a request to its verb and back."""

from __future__ import annotations

import asyncio
import functools
import logging
import signal
import socket
import ssl
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import orjson
from aiohttp import web

from testbed.api import bootstrap, escalation, expiry, fields, nodes, paths, podlog, streams
from testbed.api.auth import Authenticator, User
from testbed.api.calls import Call, Target, parse_path, verb_of
from testbed.api.journal import SQLiteJournal
from testbed.api.kubelets import Kubelets
from testbed.api.objects import Objects
from testbed.api.rbac import Attributes, Rbac
from testbed.api.registry import derive, index
from testbed.api.reviews import Reviews
from testbed.api.service_addresses import ServiceAddresses
from testbed.api.service_cidrs import ServiceCIDRs
from testbed.api.status import StatusError, bad_request, internal, method_not_allowed, no_such_path, too_large
from testbed.api.store import Store
from testbed.api.table import negotiate
from testbed.api.tokens import Tokens
from testbed.api.traffic import MUTATING, READ_ONLY, Traffic
from testbed.api.verbs import Verbs
from testbed.api.watching import Watches
from testbed.api.wire import HttpServer, json, refusal
from testbed.errors import UsageError
from testbed.model.families import Address, Network
from testbed.model.resources import PODS
from testbed.model.topology import API_PORT, DEFAULT_SERVICE_CIDRS, PortRange

log = logging.getLogger(__name__)

BACKLOG = 1024
MOST_WARNINGS = 20
DEFAULT_NODE_PORTS = PortRange()
SHUTDOWN_SECONDS = 2.0


@dataclass(frozen=True)
class Settings:
    """What the flags say."""

    db: Path
    certificate: Path
    key: Path
    advertise: Address
    client_ca: Path | None = None
    kubelet_certificate: Path | None = None
    kubelet_key: Path | None = None
    signing_key: Path | None = None
    bind_address: str = "0.0.0.0"
    port: int = API_PORT
    listen_fds: Sequence[int] = ()
    services: Sequence[Network] = DEFAULT_SERVICE_CIDRS
    node_ports: PortRange = DEFAULT_NODE_PORTS
    tokens: Mapping[str, User] = field(default_factory=dict)
    event_ttl: float = expiry.EVENT_TTL
    most_reads: int = 400
    most_writes: int = 200
    most_watches: int = 10_000


def tls_context(settings: Settings) -> ssl.SSLContext:
    """TLS that takes client certificates but does not insist on one. Raises UsageError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(settings.certificate, settings.key)
        if settings.client_ca:
            context.load_verify_locations(settings.client_ca)
            context.verify_mode = ssl.CERT_OPTIONAL
    except (OSError, ssl.SSLError) as error:
        files = f"{settings.certificate}, {settings.key}, {settings.client_ca}"
        raise UsageError(f"TLS files {files}: {error}; give readable PEM files") from None
    return context


def open_sockets(settings: Settings) -> list[socket.socket]:
    """The socket of our own address, and those that were inherited. Raises UsageError."""
    place = (settings.bind_address, settings.port)
    family = socket.AF_INET6 if ":" in settings.bind_address else socket.AF_INET
    try:
        sockets = [socket.create_server(place, family=family, backlog=BACKLOG)]
    except OSError as error:
        told = f"cannot listen on {place[0]} port {place[1]}: {error.strerror}"
        raise UsageError(f"{told}; choose another --bind-address or --secure-port") from None
    for descriptor in settings.listen_fds:
        try:
            inherited = socket.socket(fileno=descriptor)
            inherited.getsockname()
        except OSError as error:
            raise UsageError(f"--listen-fd {descriptor}: {error.strerror}; pass a listening socket") from None
        inherited.setblocking(False)
        sockets.append(inherited)
    return sockets


class Server:
    """The API over one store. `run` it; it ends on SIGTERM or SIGINT."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.tls = tls_context(settings)
        self.sockets = open_sockets(settings)
        self.store = Store(SQLiteJournal(settings.db), index, derive=derive)
        addresses = ServiceAddresses(settings.services, settings.node_ports)
        self.ranges = ServiceCIDRs(self.store, addresses)
        self.objects = Objects(self.store, addresses)
        self.kubelets = Kubelets(self.objects, settings.kubelet_certificate, settings.kubelet_key)
        self.watches = Watches(self.store, settings.most_watches)
        self.rbac = Rbac(self.store)
        self.verbs = Verbs(self.objects, functools.partial(escalation.check, self.store, self.rbac))
        self.traffic = Traffic({READ_ONLY: settings.most_reads, MUTATING: settings.most_writes})
        self.tokens = Tokens(self.store, settings.signing_key)
        self.reviews = Reviews(self.rbac, self.tokens)
        self.authenticator = Authenticator(settings.tokens, self.tokens.user)

    async def run(self) -> None:
        loop, stop = asyncio.get_running_loop(), asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        self.store.start()
        self.ranges.retire()
        await bootstrap.ensure(self.objects, self.settings.advertise, self.settings.port)
        runner = web.ServerRunner(HttpServer(self._answer), shutdown_timeout=SHUTDOWN_SECONDS)
        await runner.setup()
        for each in self.sockets:
            await web.SockSite(runner, each, ssl_context=self.tls, backlog=BACKLOG).start()
            log.info("serving on %s", each.getsockname())
        background = [loop.create_task(expiry.run(self.objects, self.settings.event_ttl))]
        await stop.wait()
        log.info("ending")
        for task in background:
            task.cancel()
        self.watches.close()
        await runner.cleanup()
        await self.store.close()

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request; a refusal and even a fault of ours becomes a Status."""
        try:
            return await self._handle(request)
        except StatusError as error:
            return refusal(error)
        except web.HTTPRequestEntityTooLarge:
            return refusal(too_large())
        except web.RequestPayloadError as error:
            return refusal(bad_request(f"the body of the request is malformed: {error}"))
        except (ConnectionError, asyncio.CancelledError):
            raise
        except Exception as error:
            log.exception("%s %s", request.method, request.path)
            return refusal(internal(f"{type(error).__name__}: {error}"))

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        headers, url = request.headers, request.rel_url
        user = self.authenticator.identify(request.transport, headers.get("Authorization", ""))
        user = self.rbac.impersonated(user, headers)
        target = parse_path(url.raw_path)
        if target is None:
            return self._other_path(request, user)
        query = url.query
        verb = verb_of(request.method, target, query)
        kind = target.kind.resource
        place = (kind.group, kind.plural, target.subresource, target.namespace, target.name)
        self.rbac.authorize(user, Attributes(verb, *place), kind)
        if target.subresource == "log" and verb == "get":
            return await podlog.serve(self.kubelets, request, target.key, query)
        if kind is PODS and target.subresource in streams.PROTOCOLS and verb in ("get", "create"):
            return await streams.serve(self.kubelets, request, target.key, target.subresource)
        scope = "resource" if target.name else "namespace" if target.namespace else "cluster"
        labels = (verb.upper(), kind.group, kind.version, kind.plural, target.subresource, scope)
        started, code = time.perf_counter(), 500
        try:
            with nullcontext() if verb == "watch" else self.traffic.admitted(user, verb):
                response = await self._of_kind(request, user, target, verb)
            code = response.status
            return response
        except StatusError as error:
            code = error.code
            raise
        finally:
            self.traffic.count(labels, code, None if verb == "watch" else time.perf_counter() - started)

    async def _of_kind(
        self, request: web.BaseRequest, user: User, target: Target, verb: str
    ) -> web.StreamResponse:
        """Answer a request to a kind that its sender may make, as far as roles say."""
        headers, query, kind = request.headers, request.rel_url.query, target.kind.resource
        manager = query.get("fieldManager") or headers.get("User-Agent", "").partition("/")[0]
        body = await request.read() if request.body_exists else b""
        form = negotiate(headers.get("Accept", ""))
        content_type = request.content_type if body and "Content-Type" in headers else ""
        call = Call(target, verb, query, form, body, content_type, manager, user)
        nodes.restrict(self.store, user, verb, target, call.document)
        if verb == "create" and target.kind.verbs == ("create",):
            answer = self.reviews.answer(
                user, kind.kind, target.namespace, fields.check(call, call.document())
            )
            return json(201, orjson.dumps(answer))
        if verb == "create" and target.subresource == "token":
            account = self.objects.find(target.kind, target.key).decode()
            return json(201, orjson.dumps(self.tokens.issue(account, fields.check(call, call.document()))))
        if verb == "watch":
            return await self.watches.serve(request, call)
        code, data = await self.verbs.handle(call)
        response = json(code, data)
        for text in call.warnings[:MOST_WARNINGS]:
            told = text.encode("ascii", "replace").decode().replace('"', '\\"')
            response.headers.add("Warning", f'299 - "{told}"')
        return response

    def _other_path(self, request: web.BaseRequest, user: User) -> web.Response:
        path = request.path
        self.rbac.authorize_path(user, "get" if request.method == "HEAD" else request.method.lower(), path)
        if request.method not in ("GET", "HEAD"):
            raise no_such_path() if path.startswith("/api") else method_not_allowed()
        if path == "/metrics":
            text = self.traffic.text(self.watches.open, self.store.count())
            return web.Response(text=text, headers={"Content-Type": "text/plain; version=0.0.4"})
        own = f"{self.settings.advertise}:{self.settings.port}"
        return paths.answer(path, request.headers.get("Accept", ""), own)
