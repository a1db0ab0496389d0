"""From changes of API objects to Snapshots; recomputes only what a change touches."""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeVar

from testbed.model.service import ServicePort, Snapshot
from testbed.proxy.objects import LAST_CHANGE, SERVICE_NAME, ZONE, Backend, backends, ignored, service_ports
from testbed.proxy.routing import routed

log = logging.getLogger(__name__)

Object = dict[str, Any]
Key = tuple[str, str]
Slice = dict[Key, list[Backend]]
T = TypeVar("T")


class Tracker:
    """Takes informer callbacks (old, new) of Services, EndpointSlices and the own Node; gives Snapshots.

    An object that cannot be read is logged and counts as absent; everything else goes on.
    """

    def __init__(self, node: str, family: int = 4) -> None:
        self.node = node
        self.family = family
        self._zone = ""
        self._specs: dict[str, list[ServicePort]] = {}
        self._slices: dict[str, dict[str, Slice]] = defaultdict(dict)
        self._dirty: set[str] = set()
        self._ports: dict[str, dict[Key, ServicePort]] = {}
        self._changed_at: list[float] = []
        self.on_change: Callable[[], None] = lambda: None

    def service(self, old: Object | None, new: Object | None) -> None:
        key = _key(new or old or {})
        specs = self._read(service_ports, new, "Service") if new else []
        if specs != self._specs.get(key, []):
            self._log_ports(key, specs or [])
            if specs:
                self._specs[key] = specs
            else:
                self._specs.pop(key, None)
            self._touch(key)

    def endpoint_slice(self, old: Object | None, new: Object | None) -> None:
        for obj in (old, new):
            if obj is None or ignored(obj):
                continue
            metadata = obj["metadata"]
            service = (metadata.get("labels") or {}).get(SERVICE_NAME)
            if not service:
                continue
            key = f"{metadata['namespace']}/{service}"
            held = self._slices[key].pop(metadata["name"], None)
            fresh = self._read(backends, obj, "EndpointSlice") if obj is new else None
            if fresh:
                self._slices[key][metadata["name"]] = fresh
            if fresh != held and (fresh or held):
                self._touch(key, (metadata.get("annotations") or {}).get(LAST_CHANGE, ""))

    def own_node(self, _: Object | None, new: Object | None) -> None:
        zone = ((new or {}).get("metadata", {}).get("labels") or {}).get(ZONE, "")
        if zone != self._zone:
            self._zone = zone
            for key in self._specs:
                self._touch(key)

    def snapshot(self, node_port_ips: tuple[str, ...] = (), anywhere: bool = True) -> Snapshot:
        """The present state; Services untouched since the last one are the same objects."""
        for key in self._dirty:
            ports = {}
            for spec in self._specs.get(key, ()):
                offers = [
                    backend
                    for piece in self._slices[key].values()
                    for backend in piece.get((spec.port_name, spec.protocol.value), ())
                ]
                port = (spec.name, spec.protocol.value)
                fresh = routed(spec, offers, self.node, self._zone)
                held = self._ports.get(key, {}).get(port)
                ports[port] = held if held == fresh else fresh
            if ports:
                self._ports[key] = ports
            else:
                self._ports.pop(key, None)
        self._dirty.clear()
        services = {port: one for ports in self._ports.values() for port, one in ports.items()}
        return Snapshot(dict(sorted(services.items())), node_port_ips, anywhere)

    def take_change_times(self) -> list[float]:
        """When the changes since the last call were made, in s since the epoch: for programming latency."""
        taken, self._changed_at = self._changed_at, []
        return taken

    def _touch(self, key: str, changed: str = "") -> None:
        self._dirty.add(key)
        try:
            self._changed_at.append(datetime.fromisoformat(changed).timestamp() if changed else time.time())
        except ValueError:
            self._changed_at.append(time.time())
        self.on_change()

    def _read(self, reader: Callable[[Object, int], T], obj: Object, kind: str) -> T | None:
        try:
            return reader(obj, self.family)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            log.error("Ignoring %s %s: %s: %s", kind, _key(obj), type(error).__name__, error)
            return None

    def _log_ports(self, key: str, specs: list[ServicePort]) -> None:
        before = {(spec.name, spec.protocol): spec for spec in self._specs.get(key, ())}
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
    metadata = obj.get("metadata") or {}
    return f"{metadata.get('namespace', '')}/{metadata.get('name', '')}"
