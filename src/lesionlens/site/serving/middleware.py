"""Middleware before any request is read: authentication, size and time limits."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

from fastapi import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lesionlens.base.errors import FullError, LesionLensError, UnusableInputError
from lesionlens.site.serving.admission import Admission, client_identity
from lesionlens.site.serving.error_responses import error_response, too_large
from lesionlens.site.serving.sessions import Sessions

requests = logging.getLogger("lesionlens.site.serving.requests")
"""Access log: method, route, status, time, bytes. Never a name, a query or a path."""

OPEN = ("/healthz", "/auth/", "/auth/token")
"""Routes without a key; a body there contains a password only."""
IDLE_S = 60.0
"""Maximum idle time of a client within a request body."""
SLOWEST_BYTES_S = 2**13
"""Minimum average rate; after `IDLE_S` a body must be at least this fast."""
SMALL_BYTES = 2**20
_PIECE_BYTES = 2**18
_POLL_S = 0.05  # interval of checks for free memory
_OPEN_BYTES = 2**12
_FILES = ("/infer/", "/session/", "/datastore/")
"""Routes of multipart forms, which are stored on disk while they arrive."""
_MESSAGES = ("/parts/", "/jobs/")
_QUIET = ("/healthz", "/v1/sessions/{session}/heartbeat", "/v1/sessions/{session}/jobs/{name}")
"""Routes polled every few seconds."""


def patience_s(received: int, waited_s: float) -> float:
    """Return how long to wait for the next chunk of a body.

    Parameters
    ----------
    received : int
        Bytes received so far.
    waited_s : float
        Total waiting time so far, seconds.

    Examples
    --------
    >>> patience_s(0, 0.0), patience_s(10, 59.0) < 1.1, patience_s(0, 61.0)
    (60.0, True, 0.0)
    >>> patience_s(2**20, 120.0)  # slow, but fast enough
    60.0
    """
    remaining_s = IDLE_S + received / SLOWEST_BYTES_S - waited_s
    return max(min(IDLE_S, remaining_s), 0.0)


class Gate:
    """Admits requests with a valid key, within limits of size and memory.

    Parameters
    ----------
    sessions : Sessions
        Sessions, with whose memory limit request bodies are counted.
    """

    def __init__(self, app: ASGIApp, admission: Admission, sessions: Sessions) -> None:
        self._app, self._admission, self._sessions = app, admission, sessions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        call = _Call(scope, receive, send, self._sessions)
        start = time.perf_counter()
        try:
            await self._handle(scope, call)
        finally:
            call.release()
            _log(scope, call, time.perf_counter() - start)

    async def _handle(self, scope: Scope, call: _Call) -> None:
        path, headers = scope["path"], Request(scope).headers
        try:
            if path not in OPEN:
                scope.setdefault("state", {})["owner"] = client_identity(headers, self._admission)
            call.allow(self._max_body_bytes(path), headers.get("content-length", ""))
        except LesionLensError as error:
            await error_response(error)(scope, call.receive, call.send)
            return
        await self._app(scope, call.receive, call.send)
        if call.refusal is not None and not call.status:
            await error_response(call.refusal)(scope, call.receive, call.send_anyway)

    def _max_body_bytes(self, path: str) -> int:
        """Return the maximum length of a body."""
        if path in OPEN:
            return _OPEN_BYTES
        is_large = path.startswith(_FILES) or any(part in path for part in _MESSAGES)
        return self._sessions.limits.memory_bytes // 4 if is_large else SMALL_BYTES


class _Call:
    """One request's two directions, each limited in size and time."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, sessions: Sessions) -> None:
        self._receive, self._send, self._sessions = receive, send, sessions
        self._spooled = scope["path"].startswith(_FILES)
        self._limit = 0
        self._is_complete = False
        self.received = 0
        self._waited_s = 0.0
        self.status = 0
        self.refusal: LesionLensError | None = None
        """Why reading the body was aborted; replaces the application's response."""

    def allow(self, limit: int, announced: str) -> None:
        """Set the size limit; refuse a larger Content-Length."""
        self._limit = limit
        if announced.isdecimal() and int(announced) > limit:
            raise too_large(limit)

    async def receive(self) -> Message:
        """Return the next chunk of the body, or a disconnect."""
        if self._is_complete:
            return await self._receive()
        start = time.perf_counter()
        try:
            patience = patience_s(self.received, self._waited_s)
            message = await asyncio.wait_for(self._receive(), patience)
        except TimeoutError:
            self._refuse(_too_slow())
            return {"type": "http.disconnect"}
        self._waited_s += time.perf_counter() - start
        self._is_complete = not message.get("more_body", False)
        try:
            await self._count_bytes(len(message.get("body", b"")))
        except LesionLensError as error:
            self._refuse(error)
            return {"type": "http.disconnect"}
        return message

    async def _count_bytes(self, n_bytes: int) -> None:
        """Count received bytes; wait for memory while a later body can still be refused."""
        self.received += n_bytes
        if self.received > self._limit:
            raise too_large(self._limit)
        arriving = self._sessions.arriving
        while not arriving.add(self, n_bytes):
            if arriving.is_last(self):
                raise FullError(
                    found="a server whose memory for requests is full",
                    expected="memory for one more request",
                    next_step="Try again later, or give the server more memory",
                )
            await asyncio.sleep(_POLL_S)
        if self._is_complete:
            arriving.complete(self)
            if self._spooled:
                self.release()

    def _refuse(self, error: LesionLensError) -> None:
        self.refusal, self._is_complete = error, True

    def release(self) -> None:
        """Count the body as processed."""
        self._sessions.arriving.release(self)

    async def send(self, message: Message) -> None:
        """Send a chunk of the application's response, unless the request was refused meanwhile."""
        if self.refusal is None or self.status:
            await self.send_anyway(message)

    async def send_anyway(self, message: Message) -> None:
        """Send a chunk of a response in pieces, each once the client has read most of the others.

        A response that is written at once counts as sent: over TLS it would be cut when its
        connection has been idle for the time between requests.
        """
        self.status = message.get("status", self.status)
        body = message.get("body", b"")
        last_start = max(len(body) - 1, 0) // _PIECE_BYTES * _PIECE_BYTES
        for start in range(0, last_start, _PIECE_BYTES):
            piece = body[start : start + _PIECE_BYTES]
            await self._send({**message, "body": piece, "more_body": True})
        await self._send({**message, "body": body[last_start:]} if last_start else message)


def _log(scope: Scope, call: _Call, seconds: float) -> None:
    route: Any = scope.get("route")
    pattern = getattr(route, "path", "an unknown route" if call.status == 404 else "no route")
    level = logging.DEBUG if pattern in _QUIET and call.status < 400 else logging.INFO
    client = (scope.get("client") or ("?",))[0]
    requests.log(
        level,
        "%s %s %s %s, %.0f ms, %d bytes in",
        client,
        scope["method"],
        pattern,
        call.status or "no response",
        1000 * seconds,
        call.received,
    )


def _too_slow() -> LesionLensError:
    return UnusableInputError(
        found=f"a request that stalled for {IDLE_S:.0f} s, or is too slow",
        expected=f"at least {SLOWEST_BYTES_S / 2**10:.0f} kB per second",
        next_step="Send it again",
    )
