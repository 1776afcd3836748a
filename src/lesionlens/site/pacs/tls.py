"""TLS contexts: trusted certificates and the local one; and why TLS failed."""

from __future__ import annotations

import ssl
from pathlib import Path

from lesionlens.base.errors import UnusableInputError
from lesionlens.site.pacs.server import Server

TLS_ADVICE = (
    "Check that this is its port for TLS; if an authority of your own signed its certificate, name "
    "that with --ca FILE (PEM); if it requires a client certificate, name one that it trusts with "
    "--cert FILE (certificate and key in one PEM file)"
)


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
    try:
        context = ssl.create_default_context(purpose, cafile=server.ca or None)
    except OSError as error:  # SSLError too
        raise UnusableInputError(
            f"No certificate can be read in {Path(server.ca).name!r}.",
            hint="Name a PEM file of the authority that signed the archive's certificate with --ca",
        ) from error
    if server.certificate:
        try:  # with a pass phrase: OpenSSL would ask for one on the terminal
            context.load_cert_chain(server.certificate, password="")
        except OSError as error:
            raise UnusableInputError(
                f"No certificate with its key can be used in {Path(server.certificate).name!r}.",
                hint="Join both: cat certificate.pem key.pem > both.pem, without a pass phrase",
            ) from error
    return context


def tls_reason(error: BaseException) -> tuple[str, str] | None:
    """Return why TLS failed and what to do; None for other errors.

    Examples
    --------
    >>> tls_reason(ssl.SSLError(1, "self-signed certificate"))[0]
    'TLS failed (self-signed certificate)'
    """
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ssl.SSLError):
        cause = cause.__cause__ or cause.__context__
    if cause is None:
        return None
    reason = getattr(cause, "verify_message", None) or cause.args[-1]
    return f"TLS failed ({str(reason).rstrip('.')})", TLS_ADVICE
