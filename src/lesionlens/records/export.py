"""What a user asks of the files of a result, beside the result itself."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class MapExtent(StrEnum):
    """How much of the head an attention map in DICOM holds."""

    CUT = "cut"
    """The box in which something can be seen: small."""
    FULL = "full"
    """Every image of the series at its own size: OHIF shows no other."""


class Identity(StrEnum):
    """What identifies the patient in a report."""

    PATIENT = "patient"
    """Name, identifier, sex and birth of the patient, and the study's name and UID."""
    DATE = "date"
    """When the study was acquired and when it was analysed."""
    SERIES = "series"
    """Files and descriptions of the series."""


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """Choices that exporters read from `Analysis.options`."""

    surfaces: bool = False
    """Write the candidates' surfaces too, for 3-D viewers and printers."""
    maps: MapExtent = MapExtent.CUT
    """Of attention maps in DICOM."""
    rest: bool = False
    """Send of a reviewed result also what was not accepted."""
    evidence: bool = False
    """Write what each sequence adds at every voxel too, and what was considered and dismissed."""
    language: str = "en"
    """Of the report: a key of `export.words.LANGUAGES`."""
    hidden: frozenset[Identity] = frozenset()
    """What the report leaves out of its heading and provenance."""
