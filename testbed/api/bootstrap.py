"""What every cluster has from the start: its system namespaces and the `kubernetes` Service."""

from __future__ import annotations

import uuid
from typing import Any

import orjson

from testbed.api import roles
from testbed.api.lifecycle import now
from testbed.api.objects import Objects
from testbed.api.registry import BY_ID
from testbed.api.service_cidrs import FINALIZER
from testbed.model.families import Address
from testbed.model.resources import ENDPOINT_SLICES, ENDPOINTS, NAMESPACES, SERVICE_CIDRS, SERVICES, Resource

Object = dict[str, Any]

SYSTEM_NAMESPACES = ("default", "kube-node-lease", "kube-public", "kube-system")
NAME = "kubernetes"
SERVICE_PORT = 443
_LABELS = {"component": "apiserver", "provider": "kubernetes"}


async def ensure(objects: Objects, advertised: Address, port: int) -> None:
    """Make what is missing, and point the `kubernetes` Service at the address and port advertised."""
    for name in SYSTEM_NAMESPACES:
        await _ensure(objects, NAMESPACES, "", {"metadata": {"name": name}})
    ready = {"type": "Ready", "status": "True", "reason": "", "lastTransitionTime": now()}
    service_cidr = {
        "metadata": {"name": NAME, "finalizers": [FINALIZER]},
        "spec": {"cidrs": list(map(str, objects.addresses.networks))},
        "status": {"conditions": [{**ready, "message": "Kubernetes Service CIDR is ready"}]},
    }
    held = objects.store.latest(SERVICE_CIDRS.qualified, ("", NAME))
    if held is None or held.decode()["spec"] != service_cidr["spec"]:
        await _put(objects, SERVICE_CIDRS, "", service_cidr)
    for plural, obj in roles.objects():
        await _ensure(objects, BY_ID[f"{plural}.rbac.authorization.k8s.io"].resource, "", obj)
    service_port = {"name": "https", "port": SERVICE_PORT, "protocol": "TCP", "targetPort": port}
    first = str(objects.addresses.networks[0][1])
    service = {
        "metadata": {"name": NAME, "labels": _LABELS},
        "spec": {"clusterIP": first, "ports": [service_port], "type": "ClusterIP"},
    }
    await _ensure(objects, SERVICES, "default", service)
    endpoint_port = {"name": "https", "port": port, "protocol": "TCP"}
    await _put(
        objects,
        ENDPOINTS,
        "default",
        {
            "metadata": {"name": NAME, "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}},
            "subsets": [{"addresses": [{"ip": str(advertised)}], "ports": [endpoint_port]}],
        },
    )
    await _put(
        objects,
        ENDPOINT_SLICES,
        "default",
        {
            "metadata": {"name": NAME, "labels": {"kubernetes.io/service-name": NAME}},
            "addressType": f"IPv{advertised.version}",
            "endpoints": [{"addresses": [str(advertised)], "conditions": {"ready": True}}],
            "ports": [endpoint_port],
        },
    )


async def _ensure(objects: Objects, resource: Resource, namespace: str, obj: Object) -> None:
    kind = BY_ID[resource.qualified]
    if objects.store.latest(kind.id, (namespace, obj["metadata"]["name"])) is None:
        # A copy: the tables above are shared, and creating an object fills it in.
        await objects.create(kind, namespace, orjson.loads(orjson.dumps(obj)))


async def _put(objects: Objects, resource: Resource, namespace: str, obj: Object) -> None:
    """What the flags say, as they say it: the server may be advertised on the loopback address."""
    kind, key = BY_ID[resource.qualified], (namespace, NAME)
    record = objects.store.latest(kind.id, key)
    old = record.decode() if record else None
    identity = {"kind": resource.kind, "apiVersion": resource.api_version}
    metadata = obj["metadata"] | ({"namespace": namespace} if namespace else {})
    if old:
        kept = {"uid", "creationTimestamp", "resourceVersion", "generation"} & set(old["metadata"])
        metadata |= {name: old["metadata"][name] for name in kept}
    else:
        metadata |= {"uid": str(uuid.uuid4()), "creationTimestamp": now()}
    new = identity | obj | {"metadata": metadata}
    if new != old:
        await objects.store.put(kind.id, key, new)
