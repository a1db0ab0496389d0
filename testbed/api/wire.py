"""HTTP as this server speaks it: how much of it a request may be, answers in JSON, refusals."""

from __future__ import annotations

from typing import Any

import orjson
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong

from testbed.api.status import StatusError, bad_request

LONGEST_URL = 64 * 1024
LONGEST_HEADER = 32 * 1024
LARGEST_BODY = 3 * 1024 * 1024
"""Bytes; that of a body is kube-apiserver's."""


def json(code: int, data: bytes) -> web.Response:
    headers = {"Content-Type": "application/json", "Cache-Control": "no-cache, private"}
    return web.Response(body=data, status=code, headers=headers)


def refusal(error: StatusError) -> web.Response:
    response = json(error.code, orjson.dumps(error.status))
    if error.retry_after:
        response.headers["Retry-After"] = str(error.retry_after)
    if error.code == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


class _Connection(web.RequestHandler):
    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """What is not even a request is told so in Kubernetes' own form, too, and the connection ends."""
        if not isinstance(exc, HttpProcessingError):
            return super().handle_error(request, status, exc, message)
        response = refusal(_malformed(exc))
        response.force_close()
        return response


def _malformed(error: HttpProcessingError) -> StatusError:
    """What is wrong with the bytes of a request."""
    told = " ".join(error.message.split())
    if isinstance(error, LineTooLong):
        if error.args[1] == LONGEST_URL:
            return StatusError(414, "", f"the URL is too long: limit is {LONGEST_URL}")
        return StatusError(431, "", f"a request header is too large: limit is {LONGEST_HEADER}")
    return StatusError(431, "", told) if told.startswith("Too many headers") else bad_request(f"HTTP: {told}")


class HttpServer(web.Server):
    """aiohttp's, with these limits and refusals. `handler_cancellation`: who leaves ends his request."""

    def __init__(self, answer: Any) -> None:
        super().__init__(
            answer,
            request_factory=self._request,
            handler_cancellation=True,
            access_log=None,
            auto_decompress=False,  # a short body cannot become a long one
            max_line_size=LONGEST_URL,
            max_field_size=LONGEST_HEADER,
        )

    def __call__(self) -> web.RequestHandler:
        return _Connection(self, loop=self._loop, **self._kwargs)

    def _request(self, message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> web.BaseRequest:
        return web.BaseRequest(
            message, payload, protocol, writer, task, self._loop, client_max_size=LARGEST_BODY
        )
