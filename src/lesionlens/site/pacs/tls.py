"""Certificates: whom we trust, and how we show who we are."""

from __future__ import annotations

import ssl
from collections.abc import Callable

from lesionlens.base.errors import UnusableInputError
from lesionlens.site.pacs.peer import Access


def client_context(access: Access) -> ssl.SSLContext:
    """Return how we check the archive's certificate and show our own.

    Raises
    ------
    UnusableInputError
        A file of certificates cannot be used.
    """
    return _tls(
        lambda: ssl.create_default_context(cafile=None if access.ca is None else str(access.ca)),
        access,
    )


def server_context(access: Access) -> ssl.SSLContext:
    """Return how we let the archive in when it sends by C-MOVE; it must show its certificate."""
    context = _tls(
        lambda: ssl.create_default_context(
            ssl.Purpose.CLIENT_AUTH, cafile=None if access.ca is None else str(access.ca)
        ),
        access,
    )
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def _tls(make: Callable[[], ssl.SSLContext], access: Access) -> ssl.SSLContext:
    try:
        context = make()
        if access.certificate is not None:
            # an empty password: a locked key is refused here instead of asked for on a terminal
            context.load_cert_chain(str(access.certificate), password="")
    except (ssl.SSLError, OSError) as error:
        raise UnusableInputError(
            found=f"a file of certificates that cannot be used ({type(error).__name__})",
            expected="PEM: the authorities, or our certificate and its key, unlocked",
            next_step="Ask the archive's administrator for them",
        ) from error
    return context
