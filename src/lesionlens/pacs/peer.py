"""What any archive can be asked, whatever it speaks: find studies, get one, send files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from lesionlens.base.errors import ResourceError, UnusableInputError
from lesionlens.base.stages import NEVER, Cancel, Progress, no_progress

ADDRESS_EXAMPLES = "https://pacs.example/dicom-web or dicom://AETITLE@host:104"


@dataclass(frozen=True, slots=True)
class Query:
    """What to look for; empty fields match anything. Dates as YYYYMMDD or YYYYMMDD-YYYYMMDD."""

    patient_id: str = ""
    study_date: str = ""
    study_uid: str = ""
    accession: str = ""
    modality: str = "MR"


@dataclass(frozen=True, slots=True)
class FoundStudy:
    """One study in an archive, for a list that the user chooses from."""

    study_uid: str
    patient_id: str
    study_date: str
    description: str
    modalities: tuple[str, ...]
    instances: int | None = None


class Pacs(Protocol):
    """An archive."""

    def find(self, query: Query) -> tuple[FoundStudy, ...]:
        """Return the studies that match, by date."""

    def get(
        self,
        study_uid: str,
        target: Path,
        *,
        progress: Progress = no_progress,
        cancel: Cancel = NEVER,
    ) -> int:
        """Fetch a study into an empty or new folder, whole or not at all; return how many files."""

    def send(
        self, files: Sequence[Path], *, progress: Progress = no_progress, cancel: Cancel = NEVER
    ) -> int:
        """Store files; return how many the archive took. Raises where it refused one."""


def connect(address: str, *, user: str | None = None, ca_bundle: Path | None = None) -> Pacs:
    """Return the archive at an address.

    Parameters
    ----------
    address : str
        `https://host/dicom-web` for DICOMweb, `dicom://AETITLE@host:port` for DIMSE.
    user : str or None
        For DICOMweb with a password, which comes from the environment or the keyring.
    ca_bundle : Path or None
        Certificates to trust beside the system's.

    Raises
    ------
    UnusableInputError
        The address is neither; or it would send a password unencrypted.
    """
    parts = urlsplit(address)
    if parts.scheme in ("http", "https") and parts.hostname:
        from lesionlens.pacs.web import WebPacs  # noqa: PLC0415  the extra may be absent

        return WebPacs(address, user=user, ca_bundle=ca_bundle)
    if parts.scheme == "dicom" and parts.hostname and parts.username:
        from lesionlens.pacs.dimse import DimsePacs  # noqa: PLC0415  the extra may be absent

        return DimsePacs(parts.hostname, parts.port or 104, parts.username)
    raise UnusableInputError(
        found=f"an address of another kind: {parts.scheme or address!r}",
        expected=ADDRESS_EXAMPLES,
        next_step="Ask the archive's administrator for its DICOMweb address or AE title",
    )


def check_empty(target: Path) -> None:
    """Refuse a folder with content, so that studies are never mixed.

    Raises
    ------
    UnusableInputError
        Something is there already.
    """
    if target.is_file() or (target.is_dir() and any(target.iterdir())):
        raise UnusableInputError(
            found=f"something in {target.name!r} already",
            expected="a new or empty folder for the study",
            next_step="Choose another folder with --out",
        )


def incomplete(got: int, expected: int) -> ResourceError:
    """Return the error of a study that did not arrive whole."""
    return ResourceError(
        found=f"{got} of the study's {expected} images",
        expected="all of them",
        next_step="Fetch the study again; nothing was kept",
    )


def unreachable(address: str, reason: str) -> ResourceError:
    """Return the error of an archive that does not answer as one."""
    return ResourceError(
        found=f"no usable answer from {address}: {reason}",
        expected="an archive that answers",
        next_step="Check address, network, user and password with the archive's administrator",
    )
