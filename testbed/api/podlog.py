"""`kubectl logs`: passed on to the kubelet of the Pod's node, and its answer passed back as it comes."""

from __future__ import annotations

from collections.abc import Mapping

import aiohttp
from aiohttp import web

from testbed.api.kubelets import Kubelets, container_of
from testbed.api.status import StatusError, internal
from testbed.api.store import Key

_PASSED_ON = ("follow", "tailLines", "sinceSeconds", "sinceTime", "timestamps", "limitBytes", "previous")


async def serve(
    kubelets: Kubelets, request: web.BaseRequest, key: Key, query: Mapping[str, str]
) -> web.StreamResponse:
    """Answer GET pods/NAME/log. Raises StatusError."""
    pod = kubelets.pod(key)
    url = kubelets.url(pod, f"containerLogs/{key[0]}/{key[1]}/{container_of(pod, query)}")
    wanted = {name: query[name] for name in _PASSED_ON if name in query}
    try:
        async with (
            kubelets.session() as session,
            session.get(url, params=wanted, ssl=kubelets.tls) as answer,
        ):
            if answer.status >= 400:
                raise StatusError(answer.status, "", (await answer.text()).strip() or "the kubelet refused")
            return await _pass_back(request, answer)
    except (aiohttp.ClientError, TimeoutError) as error:
        raise internal(f'Get "{url}": {str(error) or type(error).__name__}') from None


async def _pass_back(request: web.BaseRequest, answer: aiohttp.ClientResponse) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/plain"})
    await response.prepare(request)
    async for chunk in answer.content.iter_any():
        await response.write(chunk)
    await response.write_eof()
    return response
