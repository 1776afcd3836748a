"""Create an archive client from an address."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lesionlens.base.errors import MissingPluginError, UnusableInputError
from lesionlens.site.pacs.peer import WEB, Access, check_address

if TYPE_CHECKING:
    from lesionlens.site.pacs.intake import Pacs

_WITHOUT_TLS = ("http", "dicom")


def connect(address: str, access: Access | None = None) -> Pacs:
    """Return a client for the archive at an address; nothing is sent yet.

    Parameters
    ----------
    address : str
        `https://host/dicom-web` for DICOMweb, `dicom://AETITLE@host:port` for DIMSE,
        `dicoms://AETITLE@host:port` for DIMSE over TLS.

    Raises
    ------
    UnusableInputError
        The address is of another kind, contains a password, or would send one unencrypted; or
        certificates are named for an address without TLS.
    MissingPluginError
        The extra is not installed.
    """
    access, scheme = access or Access(), check_address(address)
    if scheme in _WITHOUT_TLS and (access.ca is not None or access.certificate is not None):
        raise UnusableInputError(
            found=f"certificates for an address without TLS ({scheme})",
            expected=f"{scheme}s: without TLS they have no effect, and nothing is encrypted",
            next_step=f"Use the archive's {scheme}s address, or omit --ca and --cert",
            in_window=f"Use the archive's {scheme}s address, or leave the certificates empty",
        )
    try:
        if scheme in WEB:
            from lesionlens.site.pacs.web import WebPacs  # noqa: PLC0415  the extra may be absent

            return WebPacs(address, access)
        from lesionlens.site.pacs.dimse import DimsePacs  # noqa: PLC0415  the extra may be absent

        return DimsePacs(address, access)
    except ImportError as error:
        raise MissingPluginError(
            found=f"no package {error.name!r}, which connects to archives",
            expected="the extra lesionlens[pacs]",
            next_step='Install it with: pip install "lesionlens[pacs]"',
        ) from error
