"""HTTP connection to a server: one session with a heartbeat, retries, explicit errors.

Every request is idempotent: parts and studies are identified by their content, jobs by the client.
A lost connection therefore only costs time.
"""

from __future__ import annotations

import contextlib
import io
import ssl
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, NoReturn, TypeVar

import requests
from pydantic import PositiveFloat, TypeAdapter, ValidationError
from requests.exceptions import ChunkedEncodingError, RequestException, SSLError, Timeout
from requests.exceptions import ConnectionError as CutError
from typing_extensions import TypedDict, override

from lesionlens.base import errors
from lesionlens.base.errors import FullError, GoneError, LesionLensError, ServerError
from lesionlens.base.files.bounded_read import parse_json
from lesionlens.base.http_responses import states_no_body
from lesionlens.base.process import collector
from lesionlens.base.run_context import RunContext
from lesionlens.base.tls import refusal, tls_error, trusting_context
from lesionlens.engines.remote.address import KEY_VARIABLE, ServerAddress

PROTOCOL = 3
_CONNECT_S, _READ_S = 5.0, 60.0
POLL_TIMEOUT_S, DELETE_TIMEOUT_S = 10.0, 2.0
"""Time limits of requests that need no work; without a response the client continues."""
_PAUSE_S = 0.5
MAX_ANSWER_BYTES = 2**31
"""Maximum size of a response; that of a whole prediction is a small part of it."""
_CHUNK_BYTES = 2**16
"""Bytes between checks for cancellation while a response is received."""
_PROXY_WITHOUT_SERVER = (502, 503, 504)
_REFUSAL = ("found", "expected", "next_step")
"""What a refusal of `lesionlens serve` contains, beside its code."""
_LOST_RESOURCES = frozenset({"session", "study", "trace"})
_CA = "--server-ca"
_CUT = (ssl.SSLEOFError, ssl.SSLZeroReturnError)
"""A TLS connection that was cut, as while a proxy restarts."""
WAITING = "waiting for the server"
_RAISED: dict[str, type[LesionLensError]] = {
    cls.__name__: cls
    for cls in (
        errors.UnusableInputError,
        errors.ResourceError,
        errors.MissingPluginError,
        errors.WeightsError,
        ServerError,
    )
}


class About(TypedDict):
    """Server information: the response of `/v1/about`."""

    protocol: int
    version: str
    models: list[str]


class Opened(TypedDict):
    """Response to the creation of a session."""

    session: str
    version: str
    engine: dict[str, Any]
    first_look: bool
    heartbeat_s: PositiveFloat


Fields = TypeVar("Fields")


class ConnectionLostError(ServerError):
    """No answer: the connection was lost or refused."""


@dataclass
class _Secret:
    """The session ID, stored separately so that the session can be ended without its connection."""

    session: str = ""


class Connection:
    """One session with one server; safe to use from several threads.

    `model` is the name of the model; None for the server's first.

    Raises
    ------
    ServerError
        The server does not answer, refuses the key, has no such model or another protocol version.
    UnusableInputError
        The file of trusted certificates cannot be read, or contains none.
    """

    def __init__(self, address: ServerAddress, model: str | None) -> None:
        if address.ca is not None:  # an unusable file is refused now
            trusting_context(address.ca, option=_CA)
        self.address, self._model = address, model
        self._local = threading.local()
        self._lock = threading.Lock()
        self._secret = _Secret()
        self._open()
        beat = threading.Thread(
            target=_send_heartbeats, args=(weakref.ref(self),), name="heartbeat", daemon=True
        )
        beat.start()
        self._end = weakref.finalize(self, _close, address, self._secret)

    def _open(self) -> None:
        _check_protocol(self._send("GET", "/v1/about"), self.address)
        request = {"model": self._model, "client": version("lesionlens")}
        response = self._send("POST", "/v1/sessions", json=request)
        self.about = fields_of(response, Opened, self.address)
        self._secret.session = self.about["session"]

    @property
    def session(self) -> str:
        """The session ID, which is secret."""
        return self._secret.session

    def reopen(self, lost_session: str) -> None:
        """Open a new session in place of one that the server lost."""
        with self._lock:
            if self.session == lost_session:
                self._open()

    def close(self) -> None:
        """End the session: the server deletes its data."""
        self._end()

    def ask(self, method: str, path: str, **options: Any) -> bytes:
        """Send one request within the session; returns the body of the response."""
        return self._send(method, f"/v1/sessions/{self.session}{path}", **options)

    def with_retries(self, attempt: Callable[[], Any], stage: str, context: RunContext) -> Any:
        """Retry while the connection is lost or the server is full, up to the time limit.

        Raises
        ------
        ServerError
            The time limit was reached.
        CancelledError
            The user asked to stop.
        """
        end = time.monotonic() + self.address.patience_s
        while True:
            context.check(stage)
            try:
                return attempt()
            except (ConnectionLostError, FullError) as error:
                context.check(stage)
                remaining_s = end - time.monotonic()
                if remaining_s <= 0:
                    raise
                reason = "server full" if isinstance(error, FullError) else "no answer"
                # a narrow window elides the middle of the line
                stage_text = f"{reason} ({self.address.name}), {remaining_s:.0f} s left"
                context.progress(stage_text, 0.0)
                context.pause(stage, min(_PAUSE_S, remaining_s))

    def _send(self, method: str, path: str, **options: Any) -> bytes:
        if not hasattr(self._local, "http"):
            self._local.http = _http(self.address)
        return _send(self._local.http, self.address, method, path, **options)


def models_of(address: ServerAddress) -> tuple[str, ...]:
    """Return the names of a server's models, without opening a session.

    Raises
    ------
    ServerError
        It does not answer, refuses the key or speaks another version.
    """
    with _http(address) as http:
        server_info = _check_protocol(_send(http, address, "GET", "/v1/about"), address)
    return tuple(server_info["models"])


def fields_of(body: bytes, kind: type[Fields], address: ServerAddress) -> Fields:
    """Return the fields of a JSON response; `kind` is a TypedDict, other fields are ignored.

    Raises
    ------
    ServerError
        Not such a response: another program answers at this address.
    """
    try:
        return TypeAdapter(kind).validate_python(parse_json(body))
    except (ValidationError, ValueError) as error:
        raise _foreign_server(address, "a response that is not from `lesionlens serve`") from error


class _Upload(io.BytesIO):
    """The body of a request; `check` is called before each block that is sent."""

    def __init__(self, body: bytes, check: Callable[[], object]) -> None:
        super().__init__(body)
        self._check = check

    @override
    def read(self, size: int | None = -1, /) -> bytes:
        self._check()
        return super().read(size)


def _send(
    http: requests.Session,
    address: ServerAddress,
    method: str,
    path: str,
    *,
    check: Callable[[], object] = lambda: None,
    **options: Any,
) -> bytes:
    """Send one request; connection problems are raised as LesionLens errors.

    No redirection is followed: voxels and keys are sent to the named server only. `check` is called
    repeatedly while bodies are sent and received, and raises on cancellation.
    """
    options = {"timeout": (_CONNECT_S, _READ_S)} | options
    if "data" in options:
        options["data"] = _Upload(options["data"], check)
    options |= {"stream": True, "allow_redirects": False}
    try:
        with http.request(method, address.url + path, **options) as response:
            status, body = response.status_code, _body(response, address, check)
    except SSLError as error:
        raise _tls_failed(address, error) from error
    except (CutError, Timeout, ChunkedEncodingError) as error:
        raise _connection_lost(address) from error
    except RequestException as error:
        raise ServerError(
            found=f"an address that cannot be used ({type(error).__name__})",
            expected="a server of `lesionlens serve`",
            next_step="Check the address",
            in_window="Check the server's address",
        ) from error
    if not 200 <= status < 300:
        _raise_refusal(status, body, address)
    return body


def _body(
    response: requests.Response, address: ServerAddress, check: Callable[[], object]
) -> bytes:
    """Return the body of a response, of limited size; raises CutError if its header was cut."""
    body = bytearray()
    for chunk in response.iter_content(_CHUNK_BYTES):
        check()
        body += chunk
        if len(body) > MAX_ANSWER_BYTES:
            raise _foreign_server(
                address, f"a response of more than {MAX_ANSWER_BYTES / 2**30:.3g} GB"
            )
    if not body and not states_no_body(response.status_code, response.headers):
        raise CutError("a response that ended within its header")
    return bytes(body)


def _http(address: ServerAddress) -> requests.Session:
    http = requests.Session()
    http.trust_env = False  # proxies and .netrc passwords are not used
    http.verify = True if address.ca is None else str(address.ca)
    if address.api_key is not None:
        http.headers["Authorization"] = f"Bearer {address.api_key}"
    return http


def _send_heartbeats(holder: weakref.ref[Connection]) -> None:
    """Keep a session alive while its connection is referenced."""
    while (connection := holder()) is not None:
        pause = max(connection.about["heartbeat_s"] / 3, _PAUSE_S)
        with contextlib.suppress(LesionLensError), collector.paused():
            connection.ask("POST", "/heartbeat")
        del connection
        time.sleep(pause)


def _close(address: ServerAddress, secret: _Secret) -> None:
    with contextlib.suppress(RequestException), _http(address) as http:
        url = f"{address.url}/v1/sessions/{secret.session}"
        http.delete(url, timeout=DELETE_TIMEOUT_S, stream=True, allow_redirects=False).close()


def _check_protocol(body: bytes, address: ServerAddress) -> About:
    server_info = fields_of(body, About, address)
    if server_info["protocol"] != PROTOCOL:
        raise ServerError(
            found=f"LesionLens {server_info['version']} on {address.name}, which uses protocol "
            f"{server_info['protocol']}",
            expected=f"protocol {PROTOCOL}, that of LesionLens {version('lesionlens')} here",
            next_step="Install the same version on both sides",
        )
    return server_info


def _connection_lost(address: ServerAddress) -> ConnectionLostError:
    return ConnectionLostError(
        found=f"no response from {address.name}",
        expected="a server of `lesionlens serve` that can be reached from here",
        next_step="Check the server and the network; or analyse on this machine: omit --server, "
        "or add --fall-back",
        in_window="Check the server and the network; or analyse on this machine",
    )


def _tls_failed(address: ServerAddress, error: BaseException) -> ServerError:
    """Return the error for a failed TLS handshake, with its reason."""
    cause = tls_error(error)
    if isinstance(cause, _CUT):
        return _connection_lost(address)
    if not isinstance(cause, ssl.SSLCertVerificationError):
        reason = getattr(cause, "reason", None) or type(error).__name__
        return _foreign_server(address, f"a failed TLS handshake ({reason})")
    _, next_step = refusal(cause, option=_CA)
    return ServerError(
        found=f"a certificate of {address.name} that is not trusted here ({cause.verify_message})",
        expected="one that a known authority signed for this host name",
        next_step=next_step,
        in_window="Check the address, this machine's clock, and the file of certificates in the "
        "settings",
    )


def _foreign_server(address: ServerAddress, found: str) -> ServerError:
    return ServerError(
        found=f"{found} at {address.name}",
        expected="a server of `lesionlens serve`",
        next_step="Check the address: a login page or another program may answer there, or a proxy "
        "that does not forward every request as it is",
        in_window="Check the server's address: a login page or another program may answer there",
    )


def _raise_refusal(status: int, response_body: bytes, address: ServerAddress) -> NoReturn:
    """Raise the error for an HTTP refusal, or a redirection."""
    if 300 <= status < 400:
        raise _foreign_server(
            address, f"an address that redirects to another one (status {status})"
        )
    try:
        body = dict(parse_json(response_body))
    except (ValueError, TypeError):
        body = {}
    if not body.keys() >= {"code", *_REFUSAL}:  # another program's, such as a proxy's
        if status in _PROXY_WITHOUT_SERVER:
            raise _connection_lost(address)
        raise _foreign_server(address, f"a response with status {status}")
    if status == 401:
        raise ServerError(
            found=f"a key that {address.name} does not accept"
            if address.api_key
            else f"no key for {address.name}, which requires one",
            expected="one of the keys in its file of keys",
            next_step=f"Name it with --api-key-file FILE, or in {KEY_VARIABLE}; a proxy must pass "
            "on the header Authorization",
            in_window="Name the file with the key in the settings",
        )
    code, fields = str(body["code"]), {key: str(body[key]) for key in _REFUSAL}
    if code in _LOST_RESOURCES:
        raise GoneError(code, **fields)
    if code == "full":
        raise FullError(**fields)
    raise _RAISED.get(code, ServerError)(**fields)
