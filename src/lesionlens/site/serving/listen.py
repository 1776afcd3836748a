"""Run the server on a port, with TLS if other machines can reach it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from fastapi import FastAPI
from typing_extensions import override
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from lesionlens.base.errors import ResourceError, UnusableInputError
from lesionlens.base.hosts import is_loopback
from lesionlens.base.run_context import RunContext
from lesionlens.base.tls import present

LOOPBACK_NAMES = ("127.0.0.1", "localhost", "[::1]", "::1")
HEADER_S = 10.0
"""Time limit for the header of a request."""
KEEP_ALIVE_S = 75
"""Maximum idle time of a connection between requests."""
UNREAD_S = 300.0
"""Maximum time in which a client reads nothing of a response."""
_STOP_S = 0.2
_PAIR_ADVICE = "Name them with --certificate FILE --certificate-key FILE"


@dataclass(frozen=True, slots=True)
class BoundAddress:
    """Address, port and TLS files of a server."""

    host: str = "127.0.0.1"
    """Local address; 127.0.0.1 is only reachable from this machine."""
    port: int = 8000
    """0 for any free port."""
    certificate: Path | None = None
    key: Path | None = None
    """PEM, for https."""
    plain_http: bool = False
    """Whether unencrypted http is allowed for other machines."""

    @property
    def hosts(self) -> tuple[str, ...]:
        """Accepted host names; empty for any."""
        return LOOPBACK_NAMES if is_loopback(self.host) else ()

    def check(self, keys: tuple[str, ...]) -> None:
        """Refuse to serve other machines without a key, or unencrypted unless allowed.

        Raises
        ------
        UnusableInputError
            The settings would do so, or the certificate cannot be used.
        """
        if (self.certificate is None) != (self.key is None):
            raise UnusableInputError(
                found="a certificate without its key, or a key alone",
                expected="certificate and key, as PEM files",
                next_step=_PAIR_ADVICE,
            )
        if self.certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            present(context, self.certificate, self.key, pair_advice=_PAIR_ADVICE)
        if is_loopback(self.host):
            return
        if not keys:
            raise UnusableInputError(
                found=f"{self.host}, which other machines can reach, without an API key",
                expected="an API key for access from other machines",
                next_step="Name a file with --api-key-file FILE",
            )
        if self.certificate is None and not self.plain_http:
            raise UnusableInputError(
                found=f"{self.host}, which other machines can reach, without a certificate",
                expected="https, so that scans and keys are encrypted",
                next_step="Name --certificate and --certificate-key; or allow http by --plain-http "
                "on a private network or behind an encrypting proxy",
            )


class _PatientProtocol(H11Protocol):
    """Disconnects clients that do not complete a request or read a response in time.

    uvicorn itself waits forever for the first request, for the rest of an incomplete one, and until
    a response is read.
    """

    _request_timeout: asyncio.TimerHandle | None = None
    _response_timeout: asyncio.TimerHandle | None = None

    @override
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._update_request_timeout()

    @override
    def handle_events(self) -> None:
        super().handle_events()
        self._update_request_timeout()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel_timeout()
        self._cancel_response_timeout()
        super().connection_lost(exc)

    @override
    def pause_writing(self) -> None:
        super().pause_writing()
        self._abort_if_unread()

    @override
    def resume_writing(self) -> None:
        self._cancel_response_timeout()
        super().resume_writing()

    def _abort_if_unread(self, n_before: int | None = None) -> None:
        """Disconnect a client that has read nothing since `n_before` bytes were left to send."""
        n_left = self.transport.get_write_buffer_size()
        if n_left == n_before:
            self.transport.abort()  # `close` would wait until they are read
        else:
            self._response_timeout = self.loop.call_later(UNREAD_S, self._abort_if_unread, n_left)

    def _cancel_response_timeout(self) -> None:
        if self._response_timeout is not None:
            self._response_timeout.cancel()
            self._response_timeout = None

    def _update_request_timeout(self) -> None:
        """Start the timer while a request is incomplete, or the first is awaited."""
        cycle: RequestResponseCycle | None = self.cycle
        has_begun = self.timeout_keep_alive_task is None or self.conn.trailing_data[0]
        is_waiting = cycle is None or (cycle.response_complete and has_begun)
        if not is_waiting:
            self._cancel_timeout()
        elif self._request_timeout is None:
            self._request_timeout = self.loop.call_later(HEADER_S, self.transport.close)

    def _cancel_timeout(self) -> None:
        if self._request_timeout is not None:
            self._request_timeout.cancel()
            self._request_timeout = None


class _Server(uvicorn.Server):
    """Leaves signals to the program, which stops the server."""

    @override
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def listen(
    app: FastAPI, address: BoundAddress, on_open: Callable[[str], None], context: RunContext
) -> None:
    """Serve until stopped.

    Parameters
    ----------
    on_open : callable
        Called with the address once the port is open.

    Raises
    ------
    ResourceError
        The port is in use, or may not be opened.
    """
    listener = _bind(address)
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=3,
        timeout_keep_alive=KEEP_ALIVE_S,
        http=_PatientProtocol,
        ws="none",
        ssl_certfile=None if address.certificate is None else str(address.certificate),
        ssl_keyfile=None if address.key is None else str(address.key),
    )
    config.load()
    scheme = "http" if address.certificate is None else "https"
    host = f"[{address.host}]" if ":" in address.host else address.host
    on_open(f"{scheme}://{host}:{listener.getsockname()[1]}")
    asyncio.run(_serve(_Server(config), listener, context))


async def _serve(server: _Server, listener: socket.socket, context: RunContext) -> None:
    async def watch() -> None:
        while not context.cancel.is_set():
            await asyncio.sleep(_STOP_S)
        server.should_exit = True

    watcher = asyncio.create_task(watch())
    await server.serve(sockets=[listener])
    watcher.cancel()


def _bind(address: BoundAddress) -> socket.socket:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((address.host, address.port))
        listener.listen(128)  # connections from now on are served once everything is ready
    except (OSError, TypeError, UnicodeError) as error:  # the latter two: no possible host name
        listener.close()
        reason = getattr(error, "strerror", None) or error
        raise ResourceError(
            found=f"that port {address.port} of {address.host} cannot be opened ({reason})",
            expected="an address of this machine and a free port",
            next_step="Choose another port with --port, or --port 0 for any",
        ) from error
    return listener
