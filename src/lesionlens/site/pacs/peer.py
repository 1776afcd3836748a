"""Common interface of archives: addresses, queries, errors."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from lesionlens.base.errors import ResourceError, UnusableInputError
from lesionlens.base.records.patient import Patient
from lesionlens.base.text import day_of, is_uid

ADDRESS_EXAMPLES = "https://pacs.example/dicom-web, dicom://AETITLE@host:104 or, with TLS, dicoms://AETITLE@host:2762"
LIMIT = 500
"""Maximum number of studies per query."""
MAX_IMAGES = 200_000
"""Maximum number of images of a study; longer lists are not read."""
DICOM_PORT, DICOM_TLS_PORT = 104, 2762
WEB, DIMSE = ("http", "https"), ("dicom", "dicoms")
_DATE = re.compile(r"(\d{8})?(-(\d{8})?)?")
TITLE = re.compile(r"[\x21-\x5b\x5d-\x7e][\x20-\x5b\x5d-\x7e]{0,15}")
"""An AE title."""


@dataclass(frozen=True, slots=True)
class StudyQuery:
    """Search criteria; empty fields match anything, `*` any characters.

    Parameters
    ----------
    patient_id, patient_name, accession, modality : str
        As written in the archive; for a name see `name_pattern`.
    study_date : str
        YYYYMMDD, or a range YYYYMMDD-YYYYMMDD with either end omitted.
    study_uid : str
        Study Instance UID.
    """

    patient_id: str = ""
    study_date: str = ""
    study_uid: str = ""
    accession: str = ""
    modality: str = "MR"
    patient_name: str = ""

    def __post_init__(self) -> None:
        """Refuse values with a special meaning for archives."""
        if not _is_date_or_range(self.study_date):
            raise UnusableInputError(
                found=f"the date {self.study_date!r}",
                expected="YYYYMMDD, or a range YYYYMMDD-YYYYMMDD, the earlier date first",
                next_step="Write 5 January 2026 as 20260105",
                in_window="Correct the dates",
            )
        for text in (self.patient_id, self.patient_name, self.accession, self.modality):
            if "\\" in text or not text.isprintable() or len(text) > 64:
                raise UnusableInputError(
                    found="a search value with a backslash, or one that is too long",
                    expected="at most 64 letters on one line",
                    next_step="Shorten it, with * for the rest",
                )
        if self.study_uid:
            check_uid(self.study_uid)


def _is_date_or_range(text: str) -> bool:
    """Return whether an archive can answer: with dates that exist, the earlier one first."""
    ends = [end for end in text.split("-") if end]
    are_dates = bool(ends) and ends == sorted(ends) and None not in map(day_of, ends)
    return not text or (are_dates and _DATE.fullmatch(text) is not None)


@dataclass(frozen=True, slots=True)
class FoundStudy:
    """One study in an archive."""

    study_uid: str
    patient_id: str
    study_date: str
    description: str
    modalities: tuple[str, ...]
    instances: int | None = None
    patient_name: str = field(default="", repr=False)
    accession: str = field(default="", repr=False)
    patient: Patient = field(default_factory=Patient, repr=False)
    """Patient attributes in the archive, for comparison with files."""

    @classmethod
    def of(cls, text: Callable[[str], str], modalities: Iterable[object]) -> FoundStudy:
        """Build a study from its attributes as text, by keyword; empty if absent."""
        count = text("NumberOfStudyRelatedInstances")
        return cls(
            study_uid=text("StudyInstanceUID"),
            patient_id=text("PatientID"),
            patient_name=text("PatientName"),
            study_date=text("StudyDate"),
            description=text("StudyDescription"),
            accession=text("AccessionNumber"),
            modalities=tuple(map(str, modalities)),
            instances=int(count) if count.isdecimal() else None,
            patient=Patient.of(text),
        )


def check_address(address: str) -> str:
    """Return an address's scheme; error messages contain no possible secret.

    Raises
    ------
    UnusableInputError
        The address is of another kind, impossible, or contains a secret.
    """
    try:
        parts = urlsplit(address)
        _ = parts.port
    except ValueError:
        raise _address_error("an address with an invalid host or port") from None
    is_web = parts.scheme in WEB
    if parts.password is not None or (is_web and (parts.username or parts.query)):
        raise UnusableInputError(
            found="an address that contains a user, a password or a key",
            expected="the bare address, as addresses end up in logs and histories",
            next_step="Use --user, and LESIONLENS_PACS_PASSWORD or the keyring for the password",
            in_window="Enter user and password in their own fields",
        )
    if parts.hostname and parts.scheme in DIMSE and not parts.username:
        raise _address_error("an address without the archive's AE title")
    if parts.scheme in DIMSE and parts.username and not TITLE.fullmatch(parts.username):
        raise _address_error(
            f"the AE title {parts.username!r:.40} in an address: not 1 to 16 ASCII characters "
            "without a backslash"
        )
    if not parts.hostname or not (is_web or parts.scheme in DIMSE):
        scheme = f": {parts.scheme}" if parts.scheme else ""
        raise _address_error(f"an address of another kind{scheme}")
    return parts.scheme


def _address_error(found: str) -> UnusableInputError:
    return UnusableInputError(
        found=found,
        expected=ADDRESS_EXAMPLES,
        next_step="Ask the archive's administrator for its DICOMweb address or AE title",
    )


def name_pattern(text: str) -> str:
    """Return a search pattern for a name as people type it.

    Examples
    --------
    >>> name_pattern("doe, jane"), name_pattern("Doe^J*"), name_pattern(" ")
    ('doe*jane*', 'Doe*J*', '')
    """
    parts = [part for part in re.split(r"[\s,^*]+", text) if part]
    return "*".join([*parts, ""])


def check_uid(uid: str) -> None:
    """Refuse an invalid UID; it becomes part of an address.

    Raises
    ------
    UnusableInputError
        The text is not a UID.
    """
    if not is_uid(uid):
        raise UnusableInputError(
            found=f"no UID: {uid[:80]!r}",
            expected="numbers joined by dots, 64 characters at most",
            next_step="Take a Study UID from `lesionlens pacs find`",
            in_window="Search the archive, and choose the study in the list",
        )


def check_empty(target: Path) -> None:
    """Refuse a folder with content, so that studies are never mixed.

    Raises
    ------
    UnusableInputError
        The folder is not empty.
    """
    if target.is_file() or (target.is_dir() and any(target.iterdir())):
        raise UnusableInputError(
            found=f"files in {target.name!r}",
            expected="a new or empty folder for the study",
            next_step="Choose another folder with --out",
            in_window="Choose another folder",
        )


def study_not_found(study_uid: str) -> UnusableInputError:
    """Return the error for a study that the archive does not list."""
    return UnusableInputError(
        found=f"no study {study_uid} in the archive",
        expected="a Study UID from `lesionlens pacs find`",
        next_step="Search again: it may have been moved or hidden",
    )


class UnreachableError(ResourceError):
    """An archive without a usable answer.

    Parameters
    ----------
    wait_s : float or None
        Time before a retry that the archive requested, seconds.
    """

    def __init__(
        self, address: str, reason: str, next_step: str, wait_s: float | None = None
    ) -> None:
        self.address, self.reason, self.wait_s = address, reason, wait_s
        super().__init__(
            found=f"no usable answer from {address}: {reason}",
            expected="an archive that responds",
            next_step=next_step,
        )


def unreachable(address: str, reason: str, next_step: str = "") -> UnreachableError:
    """Return the error for an archive without a usable answer."""
    default_advice = "Check address, network, user and password with the archive's administrator"
    return UnreachableError(address, reason, next_step or default_advice)
