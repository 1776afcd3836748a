"""Connection settings of an archive, without secrets, for storage."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lesionlens.base.files.safe_paths import absolute
from lesionlens.site.pacs.peer import OWN_PORT, OWN_TITLE, Access, Retrieval


@dataclass(frozen=True, slots=True)
class Server:
    """Connection settings of an archive; contains no secrets."""

    address: str = ""
    """See `pacs.connect.connect`."""
    user: str = ""
    ca: str = ""
    certificate: str = ""
    title: str = OWN_TITLE
    port: int = OWN_PORT
    by: str = Retrieval.AUTO.value
    """See `pacs.peer.Access`; empty text for none."""

    @classmethod
    def of(cls, address: str, access: Access) -> Server:
        """Build settings from an address and access options; paths become absolute."""
        return cls(
            address,
            access.user or "",
            "" if access.ca is None else str(absolute(access.ca)),
            "" if access.certificate is None else str(absolute(access.certificate)),
            access.title,
            access.port,
            access.by.value,
        )

    def access(self) -> Access:
        """Return the access options.

        Raises
        ------
        UnusableInputError
            Title, port or file is invalid.
        """
        return Access(
            user=self.user or None,
            ca=Path(self.ca) if self.ca else None,
            certificate=Path(self.certificate) if self.certificate else None,
            title=self.title,
            port=self.port,
            by=Retrieval(self.by),
        )

    def note(self) -> dict[str, Any]:
        """Return the settings as JSON."""
        return asdict(self)
