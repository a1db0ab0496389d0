"""From changes of API objects to Snapshots; recomputes only what a change touches."""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from testbed.model.service import ServicePort, Snapshot
from testbed.proxy.claims import Claims
from testbed.proxy.objects import (
    LAST_CHANGE,
    Slice,
    address_of,
    read_slice,
    service_ports,
    slice_of,
    zone_of,
)
from testbed.proxy.routing import Router
from testbed.proxy.service_health import LocalEndpoints

log = logging.getLogger(__name__)

Object = dict[str, Any]
Key = tuple[str, str]
T = TypeVar("T")


@dataclass
class Changes:
    """How many changes of Services and EndpointSlices matter to this node."""

    services: int = 0
    slices: int = 0


class Tracker:
    """Takes informer callbacks (old, new) of Services, EndpointSlices and the own Node; gives Snapshots.

    An object that cannot be read is logged and counts as absent; everything else goes on.
    """

    def __init__(self, node: str, family: int = 4) -> None:
        self.node = node
        self.family = family
        self._zone = ""
        self._node_ip = ""
        self._specs: dict[str, list[ServicePort]] = {}
        self._slices: dict[str, dict[str, Slice]] = defaultdict(dict)
        self._claims = Claims()
        self._dirty: set[str] = set()
        self._ports: dict[str, dict[Key, ServicePort]] = {}
        self._since = time.time()
        self._triggers: list[float] = []
        self.pending = Changes()
        self.on_change: Callable[[], None] = lambda: None

    def service(self, old: Object | None, new: Object | None) -> None:
        key = _key(new or old or {})
        specs = (self._read(service_ports, new, "Service") if new else None) or []
        held = self._specs.get(key, [])
        if specs != held:
            self._log_ports(held, specs)
            self._dirty |= self._claims.change(key, held, specs)
            if specs:
                self._specs[key] = specs
            else:
                self._specs.pop(key, None)
            self.pending.services += 1
            self._touch(key)

    def endpoint_slice(self, old: Object | None, new: Object | None) -> None:
        for obj in (old, new):
            if obj is None or not (about := self._read(slice_of, obj, "EndpointSlice")):
                continue
            key, name = about
            held = self._slices[key].pop(name, None)
            fresh = self._read(read_slice, obj, "EndpointSlice") if obj is new else None
            if fresh:
                self._slices[key][name] = fresh
            if fresh != held and (fresh or held):
                self.pending.slices += 1
                if obj is new:
                    self._triggered((obj["metadata"].get("annotations") or {}).get(LAST_CHANGE))
                self._touch(key)

    def own_node(self, _: Object | None, new: Object | None) -> None:
        zone = (self._read(zone_of, new, "Node") if new else None) or ""
        if zone != self._zone:
            self._zone = zone
            for key in self._specs:
                self._touch(key)
        ip = (self._read(address_of, new, "Node") if new else None) or ""
        if ip != self._node_ip:
            self._node_ip = ip
            self.on_change()

    def snapshot(self, node_port_ips: tuple[str, ...] = (), anywhere: bool = True) -> Snapshot:
        """The present state; Services untouched since the last one are the same objects."""
        for key in self._dirty:
            ports = {}
            router = Router(self.node, self._zone)
            for asked in self._specs.get(key, ()):
                spec = self._claims.granted(key, asked)
                if spec is None:
                    continue
                named = (spec.port_name, spec.protocol.value)
                offers = [
                    (piece.backends, piece.ports[named])
                    for piece in self._slices[key].values()
                    if named in piece.ports
                ]
                port = (spec.name, spec.protocol.value)
                fresh = router.routed(spec, offers)
                held = self._ports.get(key, {}).get(port)
                ports[port] = held if held == fresh else fresh
            if ports:
                self._ports[key] = ports
            else:
                self._ports.pop(key, None)
        self._dirty.clear()
        services = {port: one for ports in self._ports.values() for port, one in ports.items()}
        return Snapshot(dict(sorted(services.items())), node_port_ips, anywhere, self._node_ip)

    def health_checks(self) -> dict[int, LocalEndpoints]:
        """The health check ports that load balancers ask, and how many ready endpoints are on this node."""
        return {
            specs[0].health_check_node_port: LocalEndpoints(
                specs[0].namespace, specs[0].service, self._ready_here(key)
            )
            for key, specs in self._specs.items()
            if specs[0].health_check_node_port
        }

    def _ready_here(self, key: str) -> int:
        """Ready addresses on this node behind any port of a Service."""
        offers = (one for piece in self._slices[key].values() for one in piece.backends)
        return len({one.ip for one in offers if one.ready and one.node == self.node})

    def take_changes(self) -> tuple[list[float], Changes]:
        """What happened since the last call: the times (s since the epoch) that EndpointSlices give for what
        made them change, if it was after the start of the agent; and the number of changes.
        """
        taken = self._triggers, self.pending
        self._triggers, self.pending = [], Changes()
        return taken

    def _triggered(self, when: Any) -> None:
        try:
            moment = datetime.fromisoformat(when).timestamp() if when else 0.0
        except (ValueError, TypeError, OverflowError):
            return
        if moment > self._since:
            self._triggers.append(moment)

    def _touch(self, key: str) -> None:
        self._dirty.add(key)
        self.on_change()

    def _read(self, reader: Callable[[Object, int], T], obj: Object, kind: str) -> T | None:
        try:
            return reader(obj, self.family)
        except Exception as error:  # whatever an object holds, it must not end the agent
            log.error("Ignoring %s %s: %s: %s", kind, _key(obj), type(error).__name__, error)
            return None

    @staticmethod
    def _log_ports(held: list[ServicePort], specs: list[ServicePort]) -> None:
        before = {(spec.name, spec.protocol): spec for spec in held}
        after = {(spec.name, spec.protocol): spec for spec in specs}
        for port, spec in after.items():
            if port not in before:
                where = f"{spec.cluster_ip}:{spec.port}/{spec.protocol}"
                log.info('Adding new service port "%s" at %s', spec.name, where)
            elif before[port] != spec:
                log.info(
                    'Updating existing service port "%s" at %s:%d', spec.name, spec.cluster_ip, spec.port
                )
        for port, spec in before.items():
            if port not in after:
                log.info('Removing service port "%s"', spec.name)


def _key(obj: Object) -> str:
    metadata = obj.get("metadata")
    if not isinstance(metadata, dict):
        return "/"
    return f"{metadata.get('namespace', '')}/{metadata.get('name', '')}"
