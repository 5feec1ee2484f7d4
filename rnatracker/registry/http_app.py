"""What the server answers: predictions, that it is alive, and what is wrong with a request.

    POST /invocations   sequences as JSON or CSV (`http_input.py`); {"predictions": [...]}, a record for each
    GET /ping, /health  200
    GET /version        MLflow's version, as its scoring server gives it

Owns limits, statuses and wording. No request is trusted: bodies are limited and never repeated, one that is sent half
ends after a while, and on this machine's own address only requests for it are answered, so that no web page gets at it
under a name of its own. Must not know how a port is served. Read next: `server.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncGenerator, Mapping
from http import HTTPStatus
from importlib import metadata
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from rnatracker.errors import RNATrackerError, is_out_of_memory
from rnatracker.prediction import table
from rnatracker.registry import http_input

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from rnatracker.prediction.predictor import Predictor

IDLE_SECONDS = 30.0
"""How long the next part of a request may take."""
LOOPBACK = ("127.0.0.1", "localhost", "::1")
_DRAIN_SECONDS = 5.0
_log = logging.getLogger("rnatracker")
_CODES = {HTTPStatus.BAD_REQUEST: "INVALID_PARAMETER_VALUE", HTTPStatus.NOT_FOUND: "ENDPOINT_NOT_FOUND"}


class _Refused(Exception):  # noqa: N818 - an answer
    """A request that is answered with what is wrong with it."""

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class _Gone(Exception):  # noqa: N818 - an ending
    """The client has left."""


class App:
    """The ASGI application.

    Args:
        predictor: what predicts.
        max_body: bytes of a request's body at most.
        hosts: the names under which it may be asked; None: any.
        idle_seconds: how long the next part of a body may take.
    """

    def __init__(
        self,
        predictor: Predictor,
        *,
        max_body: int,
        hosts: tuple[str, ...] | None = None,
        idle_seconds: float = IDLE_SECONDS,
    ) -> None:
        self._predictor, self._max_body, self._hosts = predictor, max_body, hosts
        self._idle_seconds = idle_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request; whatever is wrong with it is no traceback."""
        try:
            status, content = await self._answer(scope, receive)
        except _Gone:
            return
        except _Refused as refused:
            status, content = refused.status, error_body(refused.status, refused.message)
        except Exception:
            _log.exception("a request could not be answered")
            status = HTTPStatus.INTERNAL_SERVER_ERROR
            content = error_body(status, "the server has failed; what happened is in its output")
        await _send(send, status, content)

    async def _answer(self, scope: Scope, receive: Receive) -> tuple[HTTPStatus, bytes]:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        self._check_host(headers.get("host", ""))
        method, path = scope["method"], scope["path"]
        if path in ("/ping", "/health", "/version"):
            if method not in ("GET", "HEAD"):
                raise _Refused(HTTPStatus.METHOD_NOT_ALLOWED, f"{path} takes GET, not {method[:20]}")
            return HTTPStatus.OK, metadata.version("mlflow").encode() if path == "/version" else b"\n"
        if path != "/invocations":
            raise _Refused(HTTPStatus.NOT_FOUND, "no such page: there are POST /invocations and GET /ping")
        if method != "POST":
            raise _Refused(HTTPStatus.METHOD_NOT_ALLOWED, f"/invocations takes POST, not {method[:20]}")
        content_type = _content_type(headers)
        body = await self._body(headers, receive)
        return HTTPStatus.OK, await asyncio.to_thread(self._predictions, body, content_type)

    def _check_host(self, host: str) -> None:
        try:
            name = urlsplit(f"//{host}").hostname
        except ValueError:
            name = None
        if self._hosts is not None and name not in self._hosts:
            raise _Refused(HTTPStatus.FORBIDDEN, "this server answers requests for this machine's own address only")

    async def _body(self, headers: Mapping[str, str], receive: Receive) -> bytes:
        if "content-length" in headers and "transfer-encoding" in headers:
            raise _Refused(HTTPStatus.BAD_REQUEST, "the header has both Content-Length and Transfer-Encoding")
        declared = headers.get("content-length", "0")
        if declared.isdigit() and int(declared[:20]) > self._max_body and "expect" in headers:
            raise self._too_large()
        body, parts = bytearray(), self._parts(receive)
        async for part in parts:
            body += part
            if len(body) > self._max_body:
                await _drain(parts)
                raise self._too_large()
        return bytes(body)

    async def _parts(self, receive: Receive) -> AsyncGenerator[bytes]:
        """Yield a body's parts as they come."""
        while True:
            try:
                message = await asyncio.wait_for(receive(), self._idle_seconds)
            except TimeoutError:
                problem = f"the body did not go on for {self._idle_seconds:g} s"
                raise _Refused(HTTPStatus.REQUEST_TIMEOUT, problem) from None
            if message["type"] == "http.disconnect":
                raise _Gone
            yield message.get("body", b"")
            if not message.get("more_body"):
                return

    def _too_large(self) -> _Refused:
        problem = f"the body is larger than {self._max_body / 1e6:g} MB; send fewer sequences at a time"
        return _Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, problem)

    def _predictions(self, body: bytes, content_type: str) -> bytes:
        try:
            sequences = http_input.sequences_of(body, content_type)
            frame = table.prediction_frame(self._predictor, sequences)
        except RNATrackerError as error:
            raise _Refused(HTTPStatus.BAD_REQUEST, str(error)) from None
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            problem = "out of memory; send fewer or shorter sequences at a time"
            raise _Refused(HTTPStatus.SERVICE_UNAVAILABLE, problem) from None
        return json.dumps({"predictions": frame.to_dict("records")}).encode()


def error_body(status: HTTPStatus, message: str) -> bytes:
    """Return what a client is told, in the form of MLflow's scoring server."""
    code = _CODES.get(status, status.phrase.upper().replace(" ", "_"))
    return json.dumps({"error_code": code, "message": message}).encode()


def _content_type(headers: Mapping[str, str]) -> str:
    given, _, parameters = headers.get("content-type", "").lower().partition(";")
    kind, charset = given.strip(), parameters.strip().removeprefix("charset=").strip('"')
    if kind not in (http_input.JSON, http_input.CSV):
        problem = f"Content-Type: expected {http_input.JSON} or {http_input.CSV}, got {kind[:50] or 'none'}"
        raise _Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, problem)
    if charset not in ("", "utf-8", "utf8"):
        raise _Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"Content-Type: expected UTF-8, got {charset[:50]}")
    return kind


async def _drain(parts: AsyncGenerator[bytes]) -> None:
    """Take in the rest of a body for a while: a client that still sends does not read the answer."""
    with contextlib.suppress(TimeoutError, _Refused, _Gone):
        async with asyncio.timeout(_DRAIN_SECONDS):
            async for _ in parts:
                pass


async def _send(send: Send, status: HTTPStatus, content: bytes) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
    if status != HTTPStatus.OK:
        headers.append((b"connection", b"close"))  # some of the request may not have been read
    await send({"type": "http.response.start", "status": int(status), "headers": headers})
    await send({"type": "http.response.body", "body": content})
