"""HTTP session of the DICOMweb client: cancellation, bounded responses, no redirections."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from io import BytesIO
from typing import Any
from urllib.parse import urlsplit
from weakref import WeakSet

from requests import PreparedRequest, Response, Session
from requests.adapters import HTTPAdapter
from requests.exceptions import ConnectionError as CutError
from requests.exceptions import ReadTimeout
from typing_extensions import override
from urllib3.exceptions import HTTPError, ReadTimeoutError

from lesionlens.base.errors import UnusableInputError
from lesionlens.base.run_context import RunContext, on_cancel
from lesionlens.site.pacs.credentials import is_loopback
from lesionlens.site.pacs.multipart import MultipartError
from lesionlens.site.pacs.peer import WEB

CHUNK_BYTES = 2**20
MAX_ANSWER_BYTES = 32 * 2**20
"""Maximum size of a list; studies are written to disk as they arrive."""
_POLL_SECONDS = 0.1
_NO_CONTENT = 204
_CONFIRMATIONS = ("application/dicom+json", "application/json",
                  "application/dicom+xml", "application/xml")  # fmt: skip
"""Media types of a response to STOW-RS; anything else, such as a login page, confirms nothing."""


class _Adapter(HTTPAdapter):
    """Sends requests over connections that another thread can end."""

    def __init__(self) -> None:
        super().__init__()
        self._sockets = WeakSet[socket.socket]()

    @override
    def get_connection_with_tls_context(self, *arguments: Any, **options: Any) -> Any:
        """Return the pool of connections for a request; each connection records its socket."""
        pool: Any = super().get_connection_with_tls_context(*arguments, **options)
        if not isinstance(pool.ConnectionCls, partial):
            pool.ConnectionCls = partial(self._connection, pool.ConnectionCls)
        return pool

    def _connection(self, kind: Callable[..., Any], **options: Any) -> Any:
        connection = kind(**options)
        connect = connection.connect

        def connect_and_record() -> None:
            connect()
            self._sockets.add(connection.sock)

        connection.connect = connect_and_record
        return connection

    def shut_down_until(self, finished: threading.Event) -> None:
        """End all connections, later ones too; whoever reads from them gets an error."""
        while True:
            for connected in tuple(self._sockets):
                with suppress(OSError):  # closed meanwhile
                    connected.shutdown(socket.SHUT_RDWR)
            if finished.wait(_POLL_SECONDS):
                return


class WebSession(Session):
    """Requests to a DICOMweb archive that can be cancelled, with responses of limited size."""

    has_warned = False
    """Whether the last response had a warning."""

    def __init__(self) -> None:
        super().__init__()
        self._adapter = _Adapter()
        for scheme in WEB:
            self.mount(f"{scheme}://", self._adapter)
        self.hooks["response"].append(_check_response)

    @contextmanager
    def closed_by(self, context: RunContext, stage: str) -> Iterator[None]:
        """Close the connections of the block's requests on cancellation, also of a silent archive.

        Raises
        ------
        CancelledError
            Cancellation was requested; whatever error the closed connection led to.
        """
        context.check(stage)
        try:
            with on_cancel(context.cancel, self._adapter.shut_down_until):
                yield
        finally:
            context.check(stage)

    @override
    def send(self, request: PreparedRequest, **options: Any) -> Response:
        """Limit the response size; keep wildcards and the chosen certificates unchanged.

        A proxy of the environment is used for https to other machines only: it would read
        everything else, passwords too.
        """
        request.url = (request.url or "").replace("%2A", "*")  # Orthanc's plug-in 1.7 needs it
        url = urlsplit(request.url)
        if url.scheme != "https" or is_loopback(url.hostname or ""):
            options["proxies"] = {}
        if self.verify is not True:
            options["verify"] = self.verify
        is_buffered = not options.get("stream")
        response = super().send(request, **options | {"stream": True})
        if is_buffered:
            response.raw = _read_bounded(response)
        self.has_warned = "Warning" in response.headers
        if request.method == "POST" and response.ok:
            _check_confirmation(response)
        return response


def _read_bounded(response: Response) -> BytesIO:
    """Return the body of a response that is not streamed.

    Raises
    ------
    RequestException
        The connection broke: what arrived is not the whole response.
    MultipartError
        The response is too large.
    """
    body = BytesIO()
    try:
        with response.raw as source:
            for piece in source.stream(CHUNK_BYTES, decode_content=True):
                body.write(piece)
                if body.tell() > MAX_ANSWER_BYTES:
                    limit = f"{MAX_ANSWER_BYTES / 2**20:.3g} MB"
                    raise MultipartError(f"a response of more than {limit}")
    except ReadTimeoutError as error:
        raise ReadTimeout(error) from error
    except HTTPError as error:
        raise CutError(error) from error
    if not body.tell() and response.ok and not _states_no_body(response):
        raise CutError("a response that ended within its header")
    body.seek(0)
    return body


def _states_no_body(response: Response) -> bool:
    """Return whether a response without a body says so, and was not cut within its header."""
    headers = response.headers
    return (
        response.status_code == _NO_CONTENT
        or headers.get("Content-Length") == "0"
        or headers.get("Transfer-Encoding") == "chunked"
    )


def _check_confirmation(response: Response) -> None:
    """Refuse a response that does not say which files were stored."""
    kind = response.headers.get("Content-Type", "")
    if not response.content:
        raise MultipartError("an empty response, which does not confirm that the files were stored")
    if kind not in _CONFIRMATIONS:
        raise MultipartError(
            f"a response of type {kind:.80}, which does not confirm that the files were stored"
        )


def _check_response(response: Response, *_: Any, **__: Any) -> None:
    """Refuse redirections, which could send patient data elsewhere; accept any JSON or XML type."""
    if response.is_redirect:
        raise UnusableInputError(
            found=f"an address that redirects to another one (status {response.status_code})",
            expected="the archive's own address",
            next_step="Use the final address: images and passwords are sent to no other address",
        )
    kind = response.headers.get("Content-Type", "")
    if "json" in kind or "xml" in kind:
        response.headers["Content-Type"] = kind.partition(";")[0].strip().lower()
