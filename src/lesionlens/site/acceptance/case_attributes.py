"""Grouping of a site's cases: sequences, scanner, slice thickness."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from lesionlens.analysis.evaluation.cases import (
    PATIENTS_NAME,
    by_case,
    check_rows,
    read_cases,
    read_table,
)
from lesionlens.base.errors import UnusableInputError
from lesionlens.base.records.study import Study, StudyKind
from lesionlens.imaging.reading.dicom.bounded import DAMAGED, quiet_header
from lesionlens.imaging.reading.nifti.reader import read_sidecar
from lesionlens.imaging.reading.readers import open_study

UNKNOWN = "not known"
_ADVICE = "Correct or remove it"
_THICKNESS_EDGES_MM = (1.5, 3.0, 5.0)
_TAGS = ("Manufacturer", "ManufacturerModelName", "MagneticFieldStrength")
_SIDECAR_KEYS = ("Manufacturer", "ManufacturersModelName", "MagneticFieldStrength")


@dataclass(frozen=True, slots=True)
class Facts:
    """Group attributes of one case."""

    sequences: str = UNKNOWN
    """Available sequences, such as "T1c + FLAIR"."""
    scanner: str = UNKNOWN
    """Manufacturer, model and field strength; `UNKNOWN` if the files do not state them."""
    thickness: str = UNKNOWN
    """Slice thickness range of the sequence with the thickest slices."""

    @property
    def groups(self) -> tuple[tuple[str, str], ...]:
        """Pairs of dimension and group."""
        return (
            ("sequences", self.sequences),
            ("scanner", self.scanner),
            ("thickest slices", self.thickness),
        )


def scanners_table(root: Path, cases: Sequence[str]) -> dict[str, str]:
    """Read the column `scanner` of the site's patients.tsv; empty if there is none.

    Raises
    ------
    ConfigError
        It is not such a table, two rows of a case differ, or it misspells one of `cases`.
    """
    table = root / PATIENTS_NAME
    if not table.is_file() or "scanner" not in next(iter(read_cases(table, _ADVICE)), {}):
        return {}
    rows = by_case(read_table(table, "scanner", _ADVICE), cases)
    check_rows(PATIENTS_NAME, rows, cases)
    return {case: scanner for case, scanner in rows.items() if scanner}


def facts_of(folder: Path, scanner: str | None = None) -> Facts:
    """Read the attributes of a case from its file headers.

    Parameters
    ----------
    scanner : str or None
        Scanner name given by the site; None reads DICOM headers or NIfTI sidecars.
    """
    try:
        study = open_study(folder)
    except (UnusableInputError, OSError):
        return Facts(scanner=scanner or UNKNOWN)
    thickest = max(float(series.grid.spacing_mm.max()) for series in study.series.values())
    return Facts(
        sequences=" + ".join(sequence.display_name for sequence in study.series),
        scanner=scanner or _scanner(study),
        thickness=thickness_range(thickest),
    )


def thickness_range(mm: float) -> str:
    """Return the range that contains a slice thickness.

    Examples
    --------
    >>> thickness_range(1.0), thickness_range(3.0), thickness_range(6.5)
    ('up to 1.5 mm', '1.5 to 3 mm', 'over 5 mm')
    """
    rounded = round(mm, 2)
    if rounded <= _THICKNESS_EDGES_MM[0]:
        return f"up to {_THICKNESS_EDGES_MM[0]:g} mm"
    for low, high in pairwise(_THICKNESS_EDGES_MM):
        if rounded <= high:
            return f"{low:g} to {high:g} mm"
    return f"over {_THICKNESS_EDGES_MM[-1]:g} mm"


def _scanner(study: Study) -> str:
    source = study.header_file
    if source is None:
        return UNKNOWN
    try:
        if study.kind is StudyKind.DICOM:
            with quiet_header(source.path, specific_tags=[*_TAGS]) as header:
                fields = [header.get(tag) for tag in _TAGS]
        else:
            sidecar = read_sidecar(source.path, [])
            fields = [sidecar.get(key) for key in _SIDECAR_KEYS]
        manufacturer, model = (str(field or "").strip() for field in fields[:2])
        field_strength_t = round(float(fields[2] or 0.0), 1)
    except (OSError, *DAMAGED):
        return UNKNOWN
    field_strength = f"{field_strength_t:g} T" if field_strength_t else ""
    parts = (manufacturer, model.removeprefix(manufacturer).strip(), field_strength)
    return " ".join(filter(None, parts)) or UNKNOWN
