"""HTTP/1.1 as uvicorn speaks it, without patience for headers that never end.

Owns that limit and the words for what is no HTTP; uvicorn itself limits only how long nothing comes between two
requests. Apart from `server.py` because it can't be written without importing uvicorn.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from rnatracker.registry.http_app import error_body


def protocol(header_seconds: float) -> type[asyncio.Protocol]:
    """Return the protocol whose headers must be whole within so many seconds."""

    class Impatient(H11Protocol):
        """One connection."""

        _deadline: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._watch()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._watch()

        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            self._forget()

        def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - "Invalid HTTP request received."
            self._refuse(HTTPStatus.BAD_REQUEST, "this is no HTTP request, or its headers are too long")

        def _watch(self) -> None:
            """Count the seconds while a request's header is not whole."""
            if self.conn.their_state is not h11.IDLE:
                self._forget()
            elif self._deadline is None:
                self._deadline = self.loop.call_later(header_seconds, self._expire)

        def _forget(self) -> None:
            if self._deadline is not None:
                self._deadline.cancel()
                self._deadline = None

        def _expire(self) -> None:
            self._refuse(HTTPStatus.REQUEST_TIMEOUT, f"the header was not whole after {header_seconds:g} s")

        def _refuse(self, status: HTTPStatus, message: str) -> None:
            """Say what is wrong, where nothing has been said yet, and close the connection."""
            if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE) and not self.transport.is_closing():
                content = error_body(status, message)
                headers = [("content-type", "application/json"), ("connection", "close")]
                headers.append(("content-length", str(len(content))))
                for event in (
                    h11.Response(status_code=int(status), headers=headers, reason=status.phrase.encode()),
                    h11.Data(data=content),
                    h11.EndOfMessage(),
                ):
                    self.transport.write(self.conn.send(event) or b"")
            if self.cycle is not None:
                self.cycle.disconnected = True  # the application has nobody to answer any more
                self.cycle.message_event.set()
            self.transport.close()

    return Impatient
