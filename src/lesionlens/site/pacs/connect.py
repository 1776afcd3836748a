"""Create an archive client from its connection settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lesionlens.base.errors import MissingPluginError, UnusableInputError
from lesionlens.site.pacs.peer import WEB

if TYPE_CHECKING:
    from lesionlens.site.pacs.intake import Pacs
    from lesionlens.site.pacs.server import Server

_WITHOUT_TLS = ("http", "dicom")


def connect(server: Server) -> Pacs:
    """Return a client for an archive; nothing is sent yet.

    Raises
    ------
    UnusableInputError
        A setting is invalid, a password would be sent unencrypted, or certificates are named for an
        address without TLS.
    MissingPluginError
        The extra is not installed.
    """
    scheme = server.check()
    if scheme in _WITHOUT_TLS and (server.ca or server.certificate):
        raise UnusableInputError(
            found=f"certificates for an address without TLS ({scheme})",
            expected=f"{scheme}s: without TLS they have no effect, and nothing is encrypted",
            next_step=f"Use the archive's {scheme}s address, or omit --ca and --cert",
            in_window=f"Use the archive's {scheme}s address, or leave the certificates empty",
        )
    try:
        if scheme in WEB:
            from lesionlens.site.pacs.web import WebPacs

            return WebPacs(server)
        from lesionlens.site.pacs.dimse import DimsePacs

        return DimsePacs(server)
    except ImportError as error:
        raise MissingPluginError(
            found=f"no package {error.name!r}, which connects to archives",
            expected="the extra lesionlens[pacs]",
            next_step='Install it with: pip install "lesionlens[pacs]"',
        ) from error
