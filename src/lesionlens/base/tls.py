"""TLS: the authorities that are trusted, the local certificate, and why another one is refused."""

from __future__ import annotations

import ssl
from contextlib import suppress
from pathlib import Path

from lesionlens.base.errors import UnusableInputError

_MAX_PEM_BYTES = 2**20
_OUTSIDE_DATES = (9, 10)
"""OpenSSL's codes of a certificate that is not valid yet, or has expired."""
_UNLOCK = "Unlock a copy that only you can read: openssl pkey -in key.pem -out open.pem"
_REFUSALS = (
    (
        ("hostname mismatch", "ip address mismatch", "doesn't match"),
        "its certificate is for another host name",
        "Use the name that the certificate is for as the address",
    ),
    (
        ("has expired", "not yet valid"),
        "its certificate has expired, or is not valid yet",
        "Check this machine's clock; else ask its administrator to renew it",
    ),
)


def trusting_context(
    authorities: Path | None, purpose: ssl.Purpose = ssl.Purpose.SERVER_AUTH, *, option: str
) -> ssl.SSLContext:
    """Return a context that trusts the authorities in a PEM file, or the system's for None.

    Parameters
    ----------
    option : str
        The option that names the file, for the message.

    Raises
    ------
    UnusableInputError
        The file cannot be read, or has no certificate.
    """
    try:
        return ssl.create_default_context(
            purpose, cafile=None if authorities is None else str(authorities)
        )
    except OSError as error:  # SSLError too
        name = "" if authorities is None else f" in {authorities.name!r}"
        raise UnusableInputError(
            found=f"no certificate that can be read{name}",
            expected="a PEM file of the authority that signed the other side's certificate",
            next_step=f"Name it with {option} FILE",
            in_window="Choose it in the settings",
        ) from error


def present(
    context: ssl.SSLContext, certificate: Path, key: Path | None = None, *, pair_advice: str
) -> None:
    """Load the local certificate and its key, which is in the same PEM file if `key` is None.

    Parameters
    ----------
    pair_advice : str
        How to name a certificate with its key, for the message.

    Raises
    ------
    UnusableInputError
        They cannot be used, or the key is locked: OpenSSL would ask for its pass phrase on the
        terminal, where a service waits forever.
    """
    try:
        context.load_cert_chain(certificate, key, password="")
    except OSError as error:  # SSLError too
        files = (certificate,) if key is None else (certificate, key)
        found, next_step = _unusable(files, error, pair_advice)
        raise UnusableInputError(
            found=f"{found} in {' and '.join(repr(file.name) for file in files)}",
            expected="a certificate and its key in PEM, unlocked",
            next_step=next_step,
            in_window=next_step.partition(", and name ")[0],
        ) from error


def _unusable(files: tuple[Path, ...], error: OSError, pair_advice: str) -> tuple[str, str]:
    """Return why a certificate with its key cannot be used, and what to do."""
    try:
        pem = b"".join(file.read_bytes()[:_MAX_PEM_BYTES] for file in files)
    except OSError:
        return "no such file, or one that may not be read", pair_advice
    has_certificate, has_key = b"BEGIN CERTIFICATE" in pem, b"PRIVATE KEY" in pem
    reasons = (
        (has_certificate and not has_key, "a certificate without its key", pair_advice),
        (has_key and not has_certificate, "a key without its certificate", pair_advice),
        (b"ENCRYPTED" in pem, "a key that is locked by a pass phrase", _UNLOCK),
        (
            "mismatch" in str(error).lower(),
            "a key that belongs to another certificate",
            "Use the key of this certificate",
        ),
        (True, f"nothing that can be used ({type(error).__name__})", pair_advice),
    )
    return next((found, next_step) for applies, found, next_step in reasons if applies)


def check_dates(context: ssl.SSLContext, certificate: Path) -> None:
    """Refuse the local certificate if every client would, as it is not valid today.

    Parameters
    ----------
    context : SSLContext
        A server's, with the certificate loaded.

    Raises
    ------
    UnusableInputError
        It has expired, or is not valid yet.
    """
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.load_verify_locations(certificate)
    client.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN  # trusted without its chain
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = (
        client.wrap_bio(to_client, to_server),
        context.wrap_bio(to_server, to_client, server_side=True),
    )
    try:
        for side in sides * 2:
            with suppress(ssl.SSLWantReadError):
                side.do_handshake()
    except ssl.SSLCertVerificationError as error:
        if error.verify_code in _OUTSIDE_DATES:
            reason, _ = refusal(error, option="")
            raise UnusableInputError(
                found=f"{certificate.name!r}: {reason}",
                expected="a certificate that is valid today",
                next_step="Check this machine's clock; else renew the certificate",
            ) from error
    except ssl.SSLError:
        return  # what clients then report


def tls_error(error: BaseException) -> ssl.SSLError | None:
    """Return the error of TLS that led to another error; None if TLS did not fail."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ssl.SSLError):
        cause = cause.__cause__ or cause.__context__
    return cause


def refusal(error: Exception, *, option: str) -> tuple[str, str]:
    """Return why the other side's certificate was refused, and what to do.

    Parameters
    ----------
    option : str
        The option that names trusted authorities.

    Examples
    --------
    >>> refusal(ssl.SSLError("certificate verify failed: self-signed certificate"), option="--ca")
    ('its certificate is not trusted', "Name the authority's certificate with --ca FILE (PEM)")
    """
    text = str(error).lower()
    for patterns, reason, next_step in _REFUSALS:
        if any(pattern in text for pattern in patterns):
            return reason, next_step
    return (
        "its certificate is not trusted",
        f"Name the authority's certificate with {option} FILE (PEM)",
    )
