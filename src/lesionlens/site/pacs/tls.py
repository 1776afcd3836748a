"""TLS contexts: trusted certificates and our own certificate."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable

from lesionlens.base.errors import UnusableInputError
from lesionlens.site.pacs.peer import Access

_JOIN_ADVICE = "Join them: cat certificate.pem key.pem > both.pem, and name that with --cert"
_MAX_PEM_BYTES = 2**20
HUNG_UP = (
    "it closed the connection during the TLS handshake, as archives do that require a client "
    "certificate, and ports without TLS",
    "Name the certificate with --cert FILE (certificate and key in one PEM file, from the "
    "archive's administrator); if this port has no TLS, use dicom://, or http:// on this machine "
    "only",
)
"""Reason and advice for a connection that ended abruptly."""


def client_context(access: Access) -> ssl.SSLContext:
    """Return the client context: verifies the archive and presents the client certificate.

    Raises
    ------
    UnusableInputError
        A certificate file cannot be used.
    """
    return _tls_context(
        lambda: ssl.create_default_context(cafile=None if access.ca is None else str(access.ca)),
        access,
    )


def server_context(access: Access) -> ssl.SSLContext:
    """Return the server context for C-MOVE; the archive must present its certificate."""
    if access.certificate is None:
        raise UnusableInputError(
            found="C-MOVE over TLS, for which the archive connects here, without a certificate",
            expected="a certificate with its key, to present to the archive",
            next_step="Name them with --cert FILE (PEM), or fetch the study with --by get",
            in_window="Name the certificate in the archive's settings, or choose C-GET",
        )
    context = _tls_context(
        lambda: ssl.create_default_context(
            ssl.Purpose.CLIENT_AUTH, cafile=None if access.ca is None else str(access.ca)
        ),
        access,
    )
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def _tls_context(create: Callable[[], ssl.SSLContext], access: Access) -> ssl.SSLContext:
    try:
        context = create()
        if access.certificate is not None:
            # An empty password: an encrypted key is refused instead of prompting on a terminal.
            context.load_cert_chain(str(access.certificate), password="")
    except (ssl.SSLError, OSError) as error:
        raise _unusable(access, error) from error
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
    text = str(error).lower().replace("_", " ")
    for patterns, reason, next_step in _TLS_REASONS:
        if any(pattern in text for pattern in patterns):
            return reason, next_step
    return None


_TLS_REASONS = (
    (
        ("certificate required", "handshake failure", "bad certificate", "unknown ca"),
        "it requires a client certificate, or does not trust the one presented",
        "Name the certificate with --cert FILE: certificate and key in one PEM file, from the "
        "archive's administrator",
    ),
    (("unexpected eof", "eof occurred"), *HUNG_UP),
    (
        ("hostname mismatch", "ip address mismatch", "doesn't match"),
        "its certificate is for another host name",
        "Use the name that the certificate is for as the address",
    ),
    (
        ("has expired", "not yet valid"),
        "its certificate has expired, or is not valid yet",
        "Check this machine's clock; else ask the archive's administrator to renew it",
    ),
    (
        ("wrong version number", "record layer failure", "http request"),
        "it does not speak TLS at this port",
        "Check the port, or use dicom://, or http:// on this machine only",
    ),
    (
        ("certificate verify failed", "ssl", "tls"),
        "its certificate is not trusted",
        "Name the authority's certificate with --ca FILE (PEM)",
    ),
)


def _unusable(access: Access, error: Exception) -> UnusableInputError:
    """Return the error for unusable certificates, as precisely as possible."""
    certificate = access.certificate
    pem_text = (
        ""
        if certificate is None
        else certificate.read_bytes()[:_MAX_PEM_BYTES].decode("ascii", "replace")
    )
    has_certificate, has_key = "BEGIN CERTIFICATE" in pem_text, "PRIVATE KEY" in pem_text
    name = "" if certificate is None else f" in {certificate.name!r}"
    expected, next_step = "a client certificate and its key in one PEM file, unlocked", _JOIN_ADVICE
    if has_certificate and not has_key:
        found = f"the client certificate without its key{name}"
    elif has_key and not has_certificate:
        found = f"a key without its certificate{name}"
    elif "ENCRYPTED" in pem_text:
        found = f"a key that is locked by a pass phrase{name}"
        next_step = "Unlock a copy that only you can read: openssl pkey -in key.pem -out open.pem"
    elif "mismatch" in str(error).lower():
        found = f"a key that belongs to another certificate{name}"
        next_step = "Append the key of this certificate"
    else:
        found = f"a file of certificates that cannot be used ({type(error).__name__})"
        expected = "PEM: the authorities, or a client certificate and its key, unlocked"
        next_step = "Ask the archive's administrator for them"
    in_window = next_step.removesuffix(", and name that with --cert")
    return UnusableInputError(
        found=found, expected=expected, next_step=next_step, in_window=in_window
    )
