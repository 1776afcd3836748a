"""TLS: the authorities that are trusted, the local certificate, and why another one is refused."""

from __future__ import annotations

import ssl
from pathlib import Path

from lesionlens.base.errors import UnusableInputError


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
        files = " and ".join(repr(file.name) for file in (certificate, key) if file is not None)
        raise UnusableInputError(
            found=f"no usable certificate with its key in {files}",
            expected="a certificate and the key that belongs to it, in PEM, without a pass phrase",
            next_step=pair_advice,
            in_window=pair_advice.partition(", and name ")[0],
        ) from error


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
    >>> refusal(ssl.SSLError(1, "self-signed certificate"), option="--ca")[0]
    'its certificate is not accepted (self-signed certificate)'
    """
    reason = getattr(error, "verify_message", None) or error.args[-1]
    return (
        f"its certificate is not accepted ({str(reason).rstrip('.')})",
        "Check the address and this machine's clock; if an authority of your own signed it, name "
        f"the authority's certificate with {option} FILE (PEM)",
    )
