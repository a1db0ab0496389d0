"""Which addresses and ports a Service holds, and getting them from the pools when it is written.

Wording follows `pkg/registry/core/service/storage/alloc.go` and the ipallocator and portallocator errors.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

from testbed.api import dual_stack, services
from testbed.api.allocation import Full, Key, OutOfRange, Pool, Taken, address_range, port_range
from testbed.api.status import StatusError, internal, invalid, invalid_value
from testbed.model.families import Network, family, of_version
from testbed.model.resources import SERVICES
from testbed.model.topology import PortRange

Object = dict[str, Any]
Held = set[tuple[str, int]]
"""(IPv4, IPv6 or PORT, number) of all a Service holds."""
PORT = "port"


class ServiceAddresses:
    """The ClusterIPs and node ports of one cluster, whose primary family has the first of `networks`."""

    def __init__(self, networks: Sequence[Network], ports: PortRange) -> None:
        self.networks, self.ports = networks, ports
        self._pools = {family(network.version): Pool() for network in networks}
        self._pools[PORT] = Pool(port_range(ports))
        self.extend(())

    def extend(self, further: Iterable[Network]) -> None:
        """Give out addresses of these ranges, too, and of no others but the cluster's own."""
        for name, pool in self._pools.items():
            if name != PORT:
                networks = [each for each in (*self.networks, *further) if family(each.version) == name]
                pool.ranges = [address_range(each) for each in networks]

    def adopt(self, stored: Iterable[Object]) -> None:
        """Start afresh from the Services that are stored."""
        for pool in self._pools.values():
            pool.clear()
        for service in stored:
            for what, number in _held(service):
                if what in self._pools:
                    self._pools[what].adopt(number, _owner(service))

    def assign(self, service: Object, old: Object | None) -> Held:
        """Give a Service what it lacks and take what it asks for. What it holds newly. Raises StatusError."""
        before = _held(old) if old else set()
        owner = _owner(service)
        try:
            self._assign_addresses(service, old, owner)
            self._assign_ports(service, owner)
        except StatusError:
            self._give_back(_held(service) - before, owner)
            raise
        return _held(service) - before

    def undo(self, service: Object, taken: Held) -> None:
        """The write did not happen."""
        self._give_back(taken, _owner(service))

    def release(self, old: Object, new: Object | None) -> None:
        """The write happened: give back what the Service no longer holds."""
        self._give_back(_held(old) - (_held(new) if new else set()), _owner(old))

    def _give_back(self, held: Held, owner: Key) -> None:
        for what, number in held:
            if what in self._pools:
                self._pools[what].release(number, owner)

    def _assign_addresses(self, service: Object, old: Object | None, owner: Key) -> None:
        """One address of each family of the Service; what it asks for by name first of all."""
        spec = service["spec"]
        if spec["type"] == "ExternalName":
            return
        families = [family(network.version) for network in self.networks]
        errors = dual_stack.settle(spec, old["spec"] if old else None, families)
        if errors:
            raise invalid(SERVICES, service["metadata"]["name"], errors)
        if not services.has_address(spec):
            return
        asked = spec.get("clusterIPs") or []
        for text in asked:
            self._claim_address(service, text, owner)
        given = [*asked, *(self._take_address(name, owner) for name in spec["ipFamilies"][len(asked) :])]
        spec["clusterIP"], spec["clusterIPs"] = given[0], given

    def _take_address(self, name: str, owner: Key) -> str:
        try:
            number = self._pools[name].take(owner)
        except Full:
            raise internal("failed to allocate a serviceIP: range is full") from None
        return str(IPv4Address(number) if name == "IPv4" else IPv6Address(number))

    def _claim_address(self, service: Object, asked: str, owner: Key) -> None:
        address, spec = ip_address(asked), service["spec"]
        try:
            self._pools[family(address.version)].claim(int(address), owner)
            return
        except OutOfRange:
            detail = (
                f"the provided IP ({asked}) is not in the valid range. "
                f"The range of valid IPs is {of_version(self.networks, address.version)}"
            )
        except Taken:
            detail = "provided IP is already allocated"
        told = f"failed to allocate IP {asked}: {detail}"
        raise invalid(
            SERVICES,
            service["metadata"]["name"],
            [invalid_value("spec.clusterIPs", spec["clusterIPs"], told)],
        )

    def _assign_ports(self, service: Object, owner: Key) -> None:
        spec = service["spec"]
        if spec["type"] not in services.NODE_PORT_TYPES:
            return
        wants = spec["type"] == "NodePort" or spec.get("allocateLoadBalancerNodePorts") is not False
        ports = spec.get("ports") or []
        for at, port in enumerate(ports):
            if port.get("nodePort"):
                self._claim_port(service, f"spec.ports[{at}].nodePort", port["nodePort"], owner)
        for port in ports:
            if wants and not port.get("nodePort"):
                # One Service port under two protocols shares its node port.
                shared = [each["nodePort"] for each in ports if _shares(each, port)]
                port["nodePort"] = shared[0] if shared else self._take_port(owner)
        if spec["type"] == "LoadBalancer" and spec.get("externalTrafficPolicy") == "Local":
            if spec.get("healthCheckNodePort"):
                self._claim_port(service, "spec.healthCheckNodePort", spec["healthCheckNodePort"], owner)
            else:
                spec["healthCheckNodePort"] = self._take_port(owner)

    def _take_port(self, owner: Key) -> int:
        try:
            return self._pools[PORT].take(owner)
        except Full:
            raise internal("failed to allocate a nodePort: range is full") from None

    def _claim_port(self, service: Object, field: str, number: int, owner: Key) -> None:
        try:
            self._pools[PORT].claim(number, owner)
            return
        except OutOfRange:
            told = f"provided port is not in the valid range. The range of valid ports is {self.ports}"
        except Taken:
            told = "provided port is already allocated"
        error = invalid_value(field, number, told)
        raise invalid(SERVICES, service["metadata"]["name"], [error])


def _shares(one: Object, other: Object) -> bool:
    return bool(one.get("nodePort") and one["port"] == other["port"] and one["protocol"] != other["protocol"])


def _owner(service: Object) -> Key:
    return service["metadata"]["namespace"], service["metadata"]["name"]


def _held(service: Object) -> Held:
    spec = service["spec"]
    held: Held = set()
    if services.has_address(spec):
        addresses = [ip_address(text) for text in spec.get("clusterIPs") or ()]
        held |= {(family(address.version), int(address)) for address in addresses}
    if spec.get("type") in services.NODE_PORT_TYPES:
        held |= {(PORT, port["nodePort"]) for port in spec.get("ports") or () if port.get("nodePort")}
        if spec.get("healthCheckNodePort"):
            held.add((PORT, spec["healthCheckNodePort"]))
    return held
