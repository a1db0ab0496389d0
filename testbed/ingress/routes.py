"""What the Ingresses of a cluster say together: for each host its paths, and where they lead. Pure.

https://kubernetes.io/docs/concepts/services-networking/ingress/; networking.k8s.io/v1 Ingress.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any

Object = dict[str, Any]

CONTROLLER = "testbed/ingress-nginx"
"""The `spec.controller` of the IngressClasses that are ours."""
CLASS_ANNOTATION = "kubernetes.io/ingress.class"
IS_DEFAULT = "ingressclass.kubernetes.io/is-default-class"
SERVICE_NAME = "kubernetes.io/service-name"
ANY_HOST = ""


@dataclass(frozen=True)
class Route:
    """A path of a host. `exact`: that path alone; else it and all below it, by whole path elements.

    `servers`: HOST:PORT of each; none of them means that nobody is there (503).
    """

    path: str
    exact: bool
    servers: tuple[str, ...]


@dataclass
class Site:
    """A host: its routes, where everything else goes, and the Secret (by key) of its certificate."""

    host: str
    routes: list[Route] = field(default_factory=list)
    default: tuple[str, ...] | None = None
    secret: str = ""


@dataclass(frozen=True)
class World:
    """What routes are made from: Services by key, slices by the Service's key."""

    services: Mapping[str, Object]
    slices: Mapping[str, Iterable[Object]]


def is_ours(ingress: Object, classes: Mapping[str, Object]) -> bool:
    """Whether a class of ours is asked for, or none at all and ours is the default."""
    annotations = ingress["metadata"].get("annotations") or {}
    name = ingress["spec"].get("ingressClassName") or annotations.get(CLASS_ANNOTATION)
    ours = {key: each for key, each in classes.items() if each["spec"].get("controller") == CONTROLLER}
    if name:
        return name in ours
    marks = [each["metadata"].get("annotations") or {} for each in ours.values()]
    return any(each.get(IS_DEFAULT) == "true" for each in marks)


def sites(ingresses: Iterable[Object], world: World) -> list[Site]:
    """The sites, by host, the one for every other host first. Of two that want one path the older has it."""
    found = {ANY_HOST: Site(ANY_HOST)}
    taken: set[tuple[str, str, bool]] = set()
    for ingress in sorted(ingresses, key=_age):
        spec, namespace = ingress["spec"], ingress["metadata"]["namespace"]
        fallback = _servers(spec.get("defaultBackend"), namespace, world)
        for rule in spec.get("rules") or ():
            site = found.setdefault(rule.get("host") or ANY_HOST, Site(rule.get("host") or ANY_HOST))
            site.default = fallback if site.default is None else site.default
            for each in (rule.get("http") or {}).get("paths") or ():
                route = _route(each, namespace, world)
                key = (site.host, route.path, route.exact)
                if key not in taken:
                    taken.add(key)
                    site.routes.append(route)
        if found[ANY_HOST].default is None:
            found[ANY_HOST].default = fallback
        for tls in spec.get("tls") or ():
            for host in tls.get("hosts") or [
                rule.get("host") or ANY_HOST for rule in spec.get("rules") or ()
            ]:
                site = found.setdefault(host, Site(host))
                site.secret = site.secret or f"{namespace}/{tls.get('secretName', '')}"
    for site in found.values():
        site.default = found[ANY_HOST].default if site.default is None else site.default
    return [found[host] for host in sorted(found)]


def _age(ingress: Object) -> tuple[str, str, str]:
    metadata = ingress["metadata"]
    return str(metadata.get("creationTimestamp")), metadata["namespace"], metadata["name"]


def _route(path: Object, namespace: str, world: World) -> Route:
    servers = _servers(path["backend"], namespace, world) or ()
    exact = path.get("pathType") == "Exact"
    text = path.get("path") or "/"
    return Route(text if exact else text.rstrip("/") or "/", exact, servers)


def _servers(backend: Object | None, namespace: str, world: World) -> tuple[str, ...] | None:
    """Where a backend is reached: its Service's address, or a headless one's endpoints; None without one."""
    if not backend or not backend.get("service"):
        return None
    wanted, key = backend["service"].get("port") or {}, f"{namespace}/{backend['service']['name']}"
    service = world.services.get(key)
    port = next((p for p in (service or {}).get("spec", {}).get("ports") or () if _is(p, wanted)), None)
    if service is None or port is None:
        return ()
    spec = service["spec"]
    if spec.get("type") == "ExternalName":
        return (f"{spec['externalName']}:{port['port']}",)
    if spec.get("clusterIP") != "None":
        return (_joined(spec["clusterIP"], port["port"]),)
    return tuple(sorted(_endpoints(port, world.slices.get(key, ()))))


def _endpoints(port: Object, slices: Iterable[Object]) -> Iterable[str]:
    for each in slices:
        numbers = [p["port"] for p in each.get("ports") or () if p.get("name", "") == port.get("name", "")]
        for endpoint in each.get("endpoints") or ():
            if (endpoint.get("conditions") or {}).get("ready") is not False:
                yield from (_joined(endpoint["addresses"][0], number) for number in numbers)


def _is(port: Object, wanted: Object) -> bool:
    return bool(
        port.get("name") == wanted["name"] if wanted.get("name") else port["port"] == wanted.get("number")
    )


def _joined(ip: str, port: int) -> str:
    return f"[{ip}]:{port}" if ip_address(ip).version == 6 else f"{ip}:{port}"
