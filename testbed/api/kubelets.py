"""How the API server reaches kubelets, for what only the Pod's node can answer: logs, commands, ports."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp

from testbed.api.objects import Objects
from testbed.api.registry import BY_ID
from testbed.api.status import bad_request
from testbed.api.store import Key
from testbed.errors import UsageError
from testbed.model.resources import NODES, PODS
from testbed.model.topology import KUBELET_PORT

Object = dict[str, Any]

CONNECT_SECONDS = 5.0


class Kubelets:
    """`certificate` and `key`: what the API server shows to kubelets; without, it shows nothing."""

    def __init__(self, objects: Objects, certificate: Path | None, key: Path | None) -> None:
        self._objects = objects
        # As kube-apiserver without --kubelet-certificate-authority: kubelets are not checked.
        self.tls = ssl.create_default_context()
        self.tls.check_hostname = False
        self.tls.verify_mode = ssl.CERT_NONE
        if certificate and key:
            try:
                self.tls.load_cert_chain(certificate, key)
            except (OSError, ssl.SSLError) as error:
                raise UsageError(f"--kubelet-client-certificate {certificate}: {error}") from None

    def pod(self, key: Key) -> Object:
        return self._objects.find(BY_ID[PODS.qualified], key).decode()

    def url(self, pod: Object, path: str) -> str:
        """The URL of `path` at the kubelet of the Pod's node. Raises StatusError."""
        name = pod["spec"].get("nodeName")
        if not name:
            told = f"pod {pod['metadata']['name']} does not have a host assigned"
            raise bad_request(told)
        node = self._objects.find(BY_ID[NODES.qualified], ("", name)).decode()
        status = node.get("status") or {}
        addresses = {each["type"]: each["address"] for each in reversed(status.get("addresses") or ())}
        host = addresses.get("InternalIP") or addresses.get("Hostname") or name
        port = ((status.get("daemonEndpoints") or {}).get("kubeletEndpoint") or {}).get("Port", KUBELET_PORT)
        place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        return f"https://{place}/{path}"

    def session(self) -> aiohttp.ClientSession:
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS)
        return aiohttp.ClientSession(timeout=timeout, auto_decompress=False)


def container_of(pod: Object, query: Mapping[str, str]) -> str:
    """The container asked for, or the only one. Raises StatusError 400."""
    name, spec = pod["metadata"]["name"], pod["spec"]
    first = [each["name"] for each in spec.get("containers") or ()]
    every = [*first, *(each["name"] for each in spec.get("initContainers") or ())]
    asked = query.get("container", "")
    if asked:
        if asked not in every:
            raise bad_request(f"container {asked} is not valid for pod {name}")
        return asked
    if len(first) != 1:
        told = f"a container name must be specified for pod {name}, choose one of: [{' '.join(first)}]"
        raise bad_request(told)
    return str(first[0])
