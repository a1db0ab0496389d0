"""`kubectl logs`: passed on to the kubelet of the Pod's node, and its answer passed back as it comes."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from testbed.api.objects import Objects
from testbed.api.registry import BY_ID
from testbed.api.status import StatusError, bad_request, internal
from testbed.api.store import Key
from testbed.errors import UsageError
from testbed.model.resources import NODES, PODS
from testbed.model.topology import KUBELET_PORT

Object = dict[str, Any]

_PASSED_ON = ("follow", "tailLines", "sinceSeconds", "sinceTime", "timestamps", "limitBytes", "previous")
_CONNECT_SECONDS = 5.0


class PodLogs:
    """`certificate` and `key`: what the API server shows to kubelets; without, it shows nothing."""

    def __init__(self, objects: Objects, certificate: Path | None, key: Path | None) -> None:
        self._objects = objects
        # As kube-apiserver without --kubelet-certificate-authority: kubelets are not checked.
        self._tls = ssl.create_default_context()
        self._tls.check_hostname = False
        self._tls.verify_mode = ssl.CERT_NONE
        if certificate and key:
            try:
                self._tls.load_cert_chain(certificate, key)
            except (OSError, ssl.SSLError) as error:
                raise UsageError(f"--kubelet-client-certificate {certificate}: {error}") from None

    async def serve(self, request: web.BaseRequest, key: Key, query: Mapping[str, str]) -> web.StreamResponse:
        """Answer GET pods/NAME/log. Raises StatusError."""
        pod = self._objects.find(BY_ID[PODS.qualified], key).decode()
        url = f"https://{self._kubelet(pod)}/containerLogs/{key[0]}/{key[1]}/{_container(pod, query)}"
        wanted = {name: query[name] for name in _PASSED_ON if name in query}
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout, auto_decompress=False) as session,
                session.get(url, params=wanted, ssl=self._tls) as answer,
            ):
                if answer.status >= 400:
                    raise StatusError(
                        answer.status, "", (await answer.text()).strip() or "the kubelet refused"
                    )
                return await _pass_back(request, answer)
        except (aiohttp.ClientError, TimeoutError) as error:
            told = str(error) or type(error).__name__
            raise internal(f'Get "{url}": {told}') from None

    def _kubelet(self, pod: Object) -> str:
        name = pod["spec"].get("nodeName")
        if not name:
            told = f"pod {pod['metadata']['name']} does not have a host assigned"
            raise bad_request(told)
        node = self._objects.find(BY_ID[NODES.qualified], ("", name)).decode()
        status = node.get("status") or {}
        addresses = {each["type"]: each["address"] for each in status.get("addresses") or ()}
        host = addresses.get("InternalIP") or addresses.get("Hostname") or name
        port = ((status.get("daemonEndpoints") or {}).get("kubeletEndpoint") or {}).get("Port", KUBELET_PORT)
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


async def _pass_back(request: web.BaseRequest, answer: aiohttp.ClientResponse) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/plain"})
    await response.prepare(request)
    async for chunk in answer.content.iter_any():
        await response.write(chunk)
    await response.write_eof()
    return response


def _container(pod: Object, query: Mapping[str, str]) -> str:
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
