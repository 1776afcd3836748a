"""DIMSE associations: TLS, timeouts, fast cancellation."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from pynetdicom import AE, _config, build_context, evt
from pynetdicom.pdu_primitives import A_ASSOCIATE
from pynetdicom.presentation import PresentationContext
from pynetdicom.sop_class import Verification

from lesionlens.base.errors import CancelledError, ResourceError, UnusableInputError
from lesionlens.base.run_context import NEVER, Cancel, on_cancel
from lesionlens.site.pacs.peer import DICOM_PORT, DICOM_TLS_PORT, unreachable
from lesionlens.site.pacs.server import Server
from lesionlens.site.pacs.tls import TLS_ADVICE, client_context

CONNECT_SECONDS, ANSWER_SECONDS = 10, 60
MAX_PDU_BYTES = 2**17
MAX_CONTEXTS = 127
PENDING = (0xFF00, 0xFF01)
"""Statuses of a response that others follow."""
_ABORT_WAIT_SECONDS = 2.0
_ABORT_INTERVAL_SECONDS = 0.2
_PROBE_SECONDS = 3.0

# Queries contain patient names, which pynetdicom would write to a log.
_config.LOG_REQUEST_IDENTIFIERS = _config.LOG_RESPONSE_IDENTIFIERS = False
_config.LOG_HANDLER_LEVEL = "none"


class Peer:
    """A remote DIMSE application entity, with AE title, port and certificates of this side."""

    def __init__(self, server: Server) -> None:
        parts = urlsplit(server.address)
        if server.user:
            raise UnusableInputError(
                found="a user name for a DIMSE archive, which has no users",
                expected="a user name with DICOMweb only",
                next_step="Omit --user; dicoms:// with --cert authenticates this machine",
                in_window="Leave the user empty; dicoms:// with a certificate authenticates this "
                "machine",
            )
        self.server, self.address = server, server.address
        self.title, self.host = parts.username or "", parts.hostname or ""
        self.secure = parts.scheme == "dicoms"
        self.port = parts.port or (DICOM_TLS_PORT if self.secure else DICOM_PORT)
        self._tls = (client_context(server), self.host) if self.secure else None

    @contextmanager
    def associated(
        self,
        contexts: Sequence[PresentationContext],
        *,
        roles: Sequence[Any] = (),
        handlers: Sequence[Any] = (),
        stop: Cancel = NEVER,
    ) -> Iterator[Any]:
        """Open an association; released at the end, aborted on an error or cancellation.

        Parameters
        ----------
        contexts : sequence of PresentationContext
            At most `MAX_CONTEXTS`. Verification, which every archive supports, is added, so that
            an unsupported service does not lead to a rejected association.
        stop : Cancel
            Polled some times a second, also while the archive is silent.

        Raises
        ------
        ResourceError
            The archive does not respond, rejects the association, or the connection breaks.
        CancelledError
            `stop` was set.
        """
        assoc = self._open(contexts, roles, handlers, stop)
        completed = False
        try:
            with on_cancel(stop, partial(_interrupt, assoc)):  # it uses the association too
                yield assoc
                completed = not stop.is_set()
        finally:
            try:
                if completed and assoc.is_established:
                    assoc.release()
            finally:  # nothing is left to abort, unless the block or the release was interrupted
                abort_association(assoc)

    def _open(
        self,
        contexts: Sequence[PresentationContext],
        roles: Sequence[Any],
        handlers: Sequence[Any],
        stop: Cancel,
    ) -> Any:
        entity, requested = AE(self.server.title), set[Any]()
        remember = evt.EVT_REQUESTED, lambda event: requested.add(event.assoc)
        entity.connection_timeout = CONNECT_SECONDS
        entity.acse_timeout = CONNECT_SECONDS
        entity.network_timeout = entity.dimse_timeout = ANSWER_SECONDS
        try:
            with on_cancel(stop, partial(_stop_connecting, requested)):
                assoc = entity.associate(
                    self.host,
                    self.port,
                    contexts=[*contexts, build_context(Verification)],
                    ae_title=self.title,
                    max_pdu=MAX_PDU_BYTES,
                    ext_neg=list(roles),
                    tls_args=self._tls,
                    evt_handlers=[*handlers, *AS_REQUESTOR, remember],
                )
        except (socket.gaierror, UnicodeError) as error:  # UnicodeError: no valid host name
            raise unreachable(
                self.address, "its host is unknown here", "Check host and network"
            ) from error
        except BaseException:  # Ctrl+C: their threads would keep the process alive
            for assoc in {*entity.active_associations, *requested}:
                abort_association(assoc)
            raise
        if assoc.is_established:
            return assoc
        raise_if_stopped(stop, "connecting")
        if assoc.is_rejected or _was_rejected(assoc):
            raise unreachable(self.address, *self._rejection(assoc))
        raise unreachable(self.address, *self._no_association())

    def _no_association(self) -> tuple[str, str]:
        """Connect once more, without DICOM, and return the failure and the advice.

        pynetdicom does not report why a connection ended.
        """
        try:
            socket.create_connection((self.host, self.port), _PROBE_SECONDS).close()
        except OSError:
            return "no connection", "Check host and port"
        if self.secure:
            return "connected, but no association by TLS", TLS_ADVICE
        return (
            "connected, but no association",
            "Check that this is a DICOM port, and whether it requires TLS (dicoms://)",
        )

    def _rejection(self, assoc: Any) -> tuple[str, str]:
        """Return why the archive rejected the association, and what to do."""
        own_title, peer_title = self.server.title, self.title
        reason = getattr(assoc.acceptor.primitive, "diagnostic", None)
        source = getattr(assoc.acceptor.primitive, "result_source", None)
        if (source, reason) == (1, 7):
            return (
                f"it is not called {peer_title} (the called AE title)",
                "Ask its administrator for its AE title, which stands before @ in the address",
            )
        if (source, reason) == (1, 3):
            return (
                f"it does not know the local AE title {own_title}",
                "Ask its administrator to enter it, or give one that it knows with --aet",
            )
        return (
            f"it refused the local AE title {own_title} or its own {peer_title}, or is too busy",
            "Try again later, or ask its administrator",
        )

    def connection_lost(self, n_responses: int) -> ResourceError:
        """Return the error for an association that the archive ended.

        Parameters
        ----------
        n_responses : int
            Number of responses before. An archive that accepts the association and aborts it at the
            first request mostly does not know the local AE title; Orthanc and DCMTK do so.
        """
        if n_responses:
            return unreachable(self.address, "the connection broke", "Try again; nothing was kept")
        own_title, port = self.server.title, self.server.port
        return unreachable(
            self.address,
            "it ended the connection at the first request, as archives do when they do not know "
            f"the local AE title {own_title}",
            f"Ask its administrator to enter AE title {own_title} at this machine's address (for "
            f"C-MOVE with port {port}), or give one that it knows with --aet; if it knows "
            f"{own_title}, try again: nothing was kept",
        )


def _was_rejected(assoc: Any) -> bool:
    """Return whether the peer rejected the association, and store its rejection in `assoc`.

    If the peer closes the socket at once, pynetdicom gives up without reading the rejection.
    """
    pdu = assoc.dul.peek_next_pdu()
    if not isinstance(pdu, A_ASSOCIATE) or not pdu.result:
        return False
    assoc.acceptor.primitive = pdu
    return True


def _stop_connecting(requested: set[Any], finished: threading.Event) -> None:
    """Abort associations that are being opened; one may not have begun to connect yet.

    Once aborted, pynetdicom ignores the archive's response, but waits for it until its timeout.
    """
    while not finished.wait(_ABORT_INTERVAL_SECONDS):
        for assoc in tuple(requested):
            abort_association(assoc)
            assoc.dul.to_user_queue.put(None)


def _interrupt(assoc: Any, finished: threading.Event) -> None:
    """Abort an association: by a message first, then by closing the socket."""
    for context in assoc.accepted_contexts[:1]:
        if assoc.is_established:
            assoc.send_c_cancel(1, context.context_id)
    if not finished.wait(_ABORT_WAIT_SECONDS):
        abort_association(assoc)


def _reserve_responses(event: Any) -> None:
    """Reserve every incoming message for the request that waits for it.

    pynetdicom's own thread polls for requests of the peer and is paused during local ones. If it is
    preempted between checking the pause and reading the queue, it reads the response and discards
    it. A called peer sends no such requests, so that thread's polls return nothing.
    """
    get_message = event.assoc.dimse.get_msg
    event.assoc.dimse.get_msg = lambda block=False: (
        get_message(block=True) if block else (None, None)
    )


def abort_association(assoc: Any) -> None:
    """Abort an association without waiting for a silent peer.

    pynetdicom wakes a request that waits for a response only if the peer answers the abort. An
    interrupted release or abort leaves a thread of its own that reads the connection.
    """
    assoc.dimse.msg_queue.put((None, None))
    if not assoc.is_alive() and not assoc.dul.is_alive():
        return
    assoc.abort(block=False)
    if assoc.is_alive():  # it is started once the archive has accepted
        assoc.join(_ABORT_WAIT_SECONDS)
    connection = getattr(assoc.dul.socket, "socket", None)
    if connection is not None:
        with suppress(OSError):  # closed meanwhile
            connection.shutdown(socket.SHUT_RDWR)
    assoc.dul.kill_dul()
    assoc.kill()


def _disable_delays(event: Any) -> None:
    """Disable delayed acknowledgements and Nagle's algorithm.

    Peers that write a message in two pieces (such as DCMTK) wait for the acknowledgement of the
    first, which systems delay by 40 ms: an echo takes 6 ms instead of 50.
    """
    connection = getattr(event.assoc.dul.socket, "socket", None)
    if connection is not None:
        with suppress(OSError):  # closed meanwhile
            connection.settimeout(ANSWER_SECONDS)  # within a message; pynetdicom would wait forever
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if hasattr(socket, "TCP_QUICKACK"):  # Linux resets this option after a while
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)


WITHOUT_DELAYS = [
    (kind, _disable_delays) for kind in (evt.EVT_CONN_OPEN, evt.EVT_DATA_SENT, evt.EVT_DATA_RECV)
]
"""Handlers for any association, local or the peer's."""
AS_REQUESTOR = [*WITHOUT_DELAYS, (evt.EVT_ESTABLISHED, _reserve_responses)]
"""Handlers for an association that this side opens; the last runs before its thread polls."""


def raise_if_stopped(stop: Cancel, stage: str) -> None:
    """Raise CancelledError if the association ended by cancellation."""
    if stop.is_set():
        raise CancelledError(stage)


def own_interface(host: str, port: int) -> str:
    """Return the local address from which the archive's host is reached.

    Raises
    ------
    OSError
        The host is unknown.
    """
    family, socket_type, _, _, socket_address = socket.getaddrinfo(
        host, port, type=socket.SOCK_DGRAM
    )[0]
    with socket.socket(family, socket_type) as probe:
        probe.connect(socket_address)  # connecting a datagram socket sends nothing
        return str(probe.getsockname()[0])
