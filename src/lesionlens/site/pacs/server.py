"""Connection settings of an archive, without secrets, as they are entered and stored."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from lesionlens.base.errors import UnusableInputError
from lesionlens.site.pacs.peer import TITLE, check_address

OWN_TITLE, OWN_PORT = "LESIONLENS", 11112


class Retrieval(StrEnum):
    """Retrieval method of a DIMSE archive."""

    AUTO = "auto"
    """C-GET if the archive offers it, else C-MOVE."""
    GET = "get"
    """C-GET: over the same connection."""
    MOVE = "move"
    """C-MOVE: the archive opens a connection to this machine."""


@dataclass(frozen=True, slots=True)
class Server:
    """Connection settings of an archive; contains no secrets."""

    address: str = ""
    """`https://host/dicom-web` for DICOMweb, `dicom://AETITLE@host:port` for DIMSE,
    `dicoms://AETITLE@host:port` for DIMSE over TLS."""
    user: str = ""
    """User for DICOMweb; the password comes from the environment or the keyring."""
    ca: str = ""
    """PEM file of CA certificates to trust instead of the usual ones; empty for those."""
    certificate: str = ""
    """PEM file with the local certificate and key, if the archive requires one."""
    title: str = OWN_TITLE
    """Local AE title (DIMSE), 1 to 16 characters."""
    port: int = OWN_PORT
    """Port on which we listen for C-MOVE."""
    by: str = Retrieval.AUTO.value
    """Retrieval method (DIMSE), a value of `Retrieval`."""

    def check(self) -> str:
        """Return the scheme of the address.

        Raises
        ------
        UnusableInputError
            Address, title, port or a file is invalid.
        """
        if not TITLE.fullmatch(self.title):
            raise UnusableInputError(
                found=f"the AE title {self.title!r}",
                expected="1 to 16 ASCII characters without a backslash",
                next_step="Ask the archive's administrator for the local AE title",
            )
        if not 0 < self.port < 65536:
            raise UnusableInputError(
                found=f"the port {self.port}",
                expected="1 to 65535",
                next_step="Choose the port configured for LesionLens in the archive",
            )
        for path in map(Path, filter(None, (self.ca, self.certificate))):
            if not path.is_file():
                raise UnusableInputError(
                    found=f"no file {path.name!r} of certificates",
                    expected="a PEM file",
                    next_step="Ask the archive's administrator for it",
                )
        return check_address(self.address)
