"""TLS contexts: trusted certificates and the local one."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path

from lesionlens.base.errors import UnusableInputError
from lesionlens.base.tls import present, refusal, tls_error, trusting_context
from lesionlens.site.pacs.server import Server

_JOIN_ADVICE = "Join them: cat certificate.pem key.pem > both.pem, and name that with --cert"
_CA = "--ca"
HUNG_UP = (
    "it closed the connection during the TLS handshake, as archives do that require a client "
    "certificate, and ports without TLS",
    "Name the certificate with --cert FILE (certificate and key in one PEM file, from the "
    "archive's administrator); if this port has no TLS, use dicom://, or http:// on this machine "
    "only",
)
"""Reason and advice for a connection that ended abruptly."""


def client_context(server: Server) -> ssl.SSLContext:
    """Return the client context: verifies the archive and presents the client certificate.

    Raises
    ------
    UnusableInputError
        A certificate file cannot be used.
    """
    return _context(server, ssl.Purpose.SERVER_AUTH)


def server_context(server: Server) -> ssl.SSLContext:
    """Return the server context for C-MOVE; the archive must present its certificate."""
    if not server.certificate:
        raise UnusableInputError(
            found="C-MOVE over TLS, for which the archive connects here, without a certificate",
            expected="a certificate with its key, to present to the archive",
            next_step="Name them with --cert FILE (PEM), or fetch the study with --by get",
            in_window="Name the certificate in the archive's settings, or choose C-GET",
        )
    context = _context(server, ssl.Purpose.CLIENT_AUTH)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def _context(server: Server, purpose: ssl.Purpose) -> ssl.SSLContext:
    context = trusting_context(Path(server.ca) if server.ca else None, purpose, option=_CA)
    if server.certificate:
        present(context, Path(server.certificate), pair_advice=_JOIN_ADVICE)
    return context


def handshake_error(
    connection: socket.socket, context: ssl.SSLContext, host: str
) -> OSError | None:
    """Return the error that ends a TLS handshake over a connected socket; None if it succeeds.

    With TLS 1.3 a server rejects the client certificate by an alert after the client's handshake.
    One byte is therefore read, within the timeout of the socket.
    """
    try:
        with context.wrap_socket(connection, server_hostname=host) as tls_connection:
            tls_connection.recv(1)
    except OSError as error:
        return error
    return None


def tls_reason(error: Exception) -> tuple[str, str] | None:
    """Return why TLS failed and what to do; None for other errors."""
    cause = tls_error(error)
    if cause is None:
        return None
    text = str(cause).lower().replace("_", " ")
    for patterns, reason, next_step in _TLS_REASONS:
        if any(pattern in text for pattern in patterns):
            return reason, next_step
    return refusal(cause, option=_CA)


_TLS_REASONS = (
    (
        ("certificate required", "handshake failure", "bad certificate", "unknown ca"),
        "it requires a client certificate, or does not trust the one presented",
        "Name the certificate with --cert FILE: certificate and key in one PEM file, from the "
        "archive's administrator",
    ),
    (("unexpected eof", "eof occurred", "closed (eof)"), *HUNG_UP),
    (
        ("protocol version", "unsupported protocol", "no protocols available"),
        "it and this machine have no version of TLS in common",
        "Ask its administrator to allow TLS 1.2 or later",
    ),
    (
        ("wrong version number", "record layer failure", "http request"),
        "it does not use TLS on this port",
        "Check the port, or use dicom://, or http:// on this machine only",
    ),
)
