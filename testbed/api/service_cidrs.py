"""ServiceCIDRs: ranges that Services' addresses come from besides the cluster's own (KEP-1880).

One that is deleted gives out no more, and goes when no Service has an address of it that no other range has.
After pkg/apis/networking/validation and pkg/controller/servicecidrs of k8s.io/kubernetes.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from typing import Any

from testbed.api import rules
from testbed.api.rules import Errors
from testbed.api.service_addresses import ServiceAddresses
from testbed.api.status import FieldError, invalid_value, required
from testbed.api.store import Event, Record, Store
from testbed.model.families import Network
from testbed.model.resources import IP_ADDRESSES, SERVICE_CIDRS

Object = dict[str, Any]

FINALIZER = "networking.k8s.io/service-cidr-finalizer"
_READY = ("True", "", "Kubernetes Service CIDR is ready")
_GOING = (
    "False",
    "Terminating",
    "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR",
)


def _condition(since: str, status: str, reason: str, message: str) -> Object:
    told = {"type": "Ready", "status": status, "reason": reason, "message": message}
    return {"conditions": [told | {"lastTransitionTime": since}]}


def defaults(obj: Object) -> None:
    metadata = obj["metadata"]
    if not metadata.get("deletionTimestamp"):
        metadata["finalizers"] = list(dict.fromkeys([*(metadata.get("finalizers") or ()), FINALIZER]))
        obj.setdefault("status", _condition(metadata["creationTimestamp"], *_READY))


def errors(obj: Object, old: Object | None) -> Errors:
    cidrs = (obj.get("spec") or {}).get("cidrs") or []
    if changed := rules.unchanged(obj, old, "spec.cidrs"):
        return changed
    if not cidrs:
        return [required("spec.cidrs", "at least one CIDR required")]
    found: Errors = []
    families = []
    for at, text in enumerate(cidrs):
        try:
            network = ip_network(text, strict=False)
        except ValueError:
            told = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"
            found.append(invalid_value(f"spec.cidrs[{at}]", text, told))
            continue
        families.append(network.version)
        if str(network) != text:
            found.append(invalid_value(f"spec.cidrs[{at}]", text, f'must be in canonical form ("{network}")'))
    if len(cidrs) > 2:
        found.append(
            FieldError(
                "spec.cidrs", "FieldValueTooMany", f"Too many: {len(cidrs)}: must have at most 2 items"
            )
        )
    elif len(set(families)) < len(families):
        found.append(invalid_value("spec.cidrs", cidrs, "may specify no more than one IP for each IP family"))
    return found


class ServiceCIDRs:
    """Keeps `addresses` to the ranges that are stored, and lets ranges go that nobody uses any more."""

    def __init__(self, store: Store, addresses: ServiceAddresses) -> None:
        self._store, self._addresses = store, addresses
        for resource in (SERVICE_CIDRS, IP_ADDRESSES):
            store.listen(resource.qualified, self)
        addresses.extend(self._live())

    def offer(self, event: Event) -> None:
        """From the store: a range, or an address of a Service, came or went."""
        if event.kind == SERVICE_CIDRS.qualified:
            self._addresses.extend(self._live())
        if event.kind == SERVICE_CIDRS.qualified or event.type == "DELETED":
            self.retire()

    def retire(self) -> None:
        """Take the finalizer off ranges that are deleted and not used; tell of others that they wait."""
        for record in self._deleted():
            obj = record.decode()
            metadata = obj["metadata"]
            if not self._used(obj):
                metadata["finalizers"] = [each for each in metadata["finalizers"] if each != FINALIZER]
                write = self._store.put if metadata["finalizers"] else self._store.delete
                write(SERVICE_CIDRS.qualified, record.key, obj)
            elif obj["status"]["conditions"][0]["status"] != "False":
                obj["status"] = _condition(metadata["deletionTimestamp"], *_GOING)
                self._store.put(SERVICE_CIDRS.qualified, record.key, obj)

    def _deleted(self) -> list[Record]:
        """Those that wait to go, in their newest version."""
        records = (
            self._store.latest(SERVICE_CIDRS.qualified, each.key)
            for each in self._store.items(SERVICE_CIDRS.qualified)
        )
        return [each for each in records if each and FINALIZER in _finalizers(each, deleted=True)]

    def _live(self) -> Iterator[Network]:
        for record in self._store.items(SERVICE_CIDRS.qualified):
            if FINALIZER in _finalizers(record, deleted=False):
                yield from map(ip_network, record.decode()["spec"]["cidrs"])

    def _used(self, obj: Object) -> bool:
        own = [ip_network(text) for text in obj["spec"]["cidrs"]]
        others = list(self._live())
        for record in self._store.items(IP_ADDRESSES.qualified):
            address = ip_address(record.key[1])
            if any(address in each for each in own) and not any(address in each for each in others):
                return True
        return False


def _finalizers(record: Record, *, deleted: bool) -> list[str]:
    """What holds a range that is (not) deleted; nothing, if it is the other."""
    metadata = record.decode()["metadata"]
    return metadata.get("finalizers") or [] if bool(metadata.get("deletionTimestamp")) is deleted else []
