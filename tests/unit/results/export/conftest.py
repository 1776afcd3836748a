"""Finished analyses of phantoms, for every exporter."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import replace
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset
from tests.phantoms.acquire import Acquisition
from tests.phantoms.analysis import make_analysis, moved, write_study

from lesionlens.base.labels import MrSequence, Region, ReviewState
from lesionlens.base.records.analysis import Analysis
from lesionlens.base.records.followup import (
    Alignment,
    Change,
    Comparison,
    LesionMeasurement,
    TimePoint,
)
from lesionlens.base.records.study import StudyKind
from lesionlens.results.export.dicom.exporter import DicomExporter
from lesionlens.testing import Lesion, SyntheticPatient, make_patient

MakeAnalysis = Callable[..., Analysis]
TWO = (Lesion(), Lesion((30.0, -40.0, 12.0), 12.0))
LEVEL = ((1.0, 0.0, 0.0, 0.0), (0.0, 1.0, 0.0, 0.0), (0.0, 0.0, 1.0, 0.0), (0.0, 0.0, 0.0, 1.0))


@pytest.fixture(scope="session")
def two_lesions() -> SyntheticPatient:
    """A head at 4 mm with a large lesion on the left and a smaller one on the right."""
    return make_patient(spacing_mm=4.0, lesions=TWO)


@pytest.fixture(scope="session")
def made() -> dict[Hashable, Analysis]:
    """Analyses made so far; their studies are in folders of the session."""
    return {}


@pytest.fixture
def make(
    tmp_path: Path,
    two_lesions: SyntheticPatient,
    made: dict[Hashable, Analysis],
    tmp_path_factory: pytest.TempPathFactory,
) -> MakeAnalysis:
    """`make(dicom=True, orientation="PIR", spacing_mm=(2, 2, 5), tilt_deg=8, lesions=())`."""

    def build(
        *,
        dicom: bool = False,
        orientation: str | None = None,
        spacing_mm: tuple[float, float, float] | None = None,
        tilt_deg: float = 0.0,
        lesions: tuple[Lesion, ...] | None = None,
        sequences: tuple[MrSequence, ...] = (MrSequence.T1C, MrSequence.FLAIR),
        name: str = "study",
    ) -> Analysis:
        if dicom and spacing_mm is None:
            spacing_mm = (4.0, 4.0, 8.0)  # half as many files, which take most of the time
        how = Acquisition(orientation or ("LPS" if dicom else "RAS"), spacing_mm, tilt_deg)
        kind = StudyKind.DICOM if dicom else StudyKind.NIFTI
        key = (kind, how, lesions, sequences, name)
        if key not in made:
            patient = two_lesions
            if lesions is not None:
                patient = make_patient(spacing_mm=4.0, lesions=lesions)
            place = tmp_path_factory.mktemp("made") / name
            study = write_study(patient, place, kind=kind, sequences=sequences, how=how)
            made[key] = make_analysis(patient, study)
        return replace(made[key], study=moved(made[key].study, tmp_path / name))

    return build


@pytest.fixture(scope="session")
def objects() -> dict[Hashable, Path]:
    """Folders of the DICOM objects written so far."""
    return {}


@pytest.fixture
def exported(
    make: MakeAnalysis, objects: dict[Hashable, Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., tuple[Analysis, Path]]:
    """`exported(dicom=True, tilt_deg=8)`: the analysis of `make`, and its objects.

    The folder is shared between tests, which must not change it.
    """

    def build(**how: object) -> tuple[Analysis, Path]:
        analysis = make(**how)
        key = tuple(sorted(how.items()))
        if key not in objects:
            objects[key] = tmp_path_factory.mktemp("objects")
            DicomExporter().write(analysis, objects[key])
        return analysis, objects[key] / "dicom"

    return build


@pytest.fixture
def read_objects(tmp_path: Path) -> Callable[[Analysis], dict[str, Dataset]]:
    """`read_objects(analysis)`: its DICOM objects by file stem, in `tmp_path / "dicom"`."""

    def build(analysis: Analysis) -> dict[str, Dataset]:
        assert not DicomExporter().write(analysis, tmp_path).left_out
        return {p.stem: pydicom.dcmread(p) for p in (tmp_path / "dicom").iterdir()}

    return build


def lesion(
    uid: str, number: int, ml: float, state: ReviewState = ReviewState.ACCEPTED
) -> LesionMeasurement:
    """Return a measurement of a lesion with these values."""
    volumes = {Region.WT: ml, Region.TC: ml / 2, Region.ET: None}
    return LesionMeasurement(uid, number, "=left frontal lobe", volumes, 20.0, None, True, state)


@pytest.fixture
def found() -> Comparison:
    """Three examinations: one lesion in all, one gone at the last, one new there."""
    points = (
        TimePoint("2025-01-01", "1", (lesion("a", 1, 4.0), lesion("b", 2, 1.0))),
        TimePoint("2025-02-01", "2", (lesion("a", 1, 6.0), lesion("b", 2, 0.5))),
        TimePoint("2025-04-01", "3", (lesion("a", 1, 8.0), lesion("c", 2, 2.0))),
    )
    changes = tuple(Change(points[1].lesion(uid), points[2].lesion(uid)) for uid in ("a", "c", "b"))
    return Comparison(points, changes, Alignment(LEVEL, 0.0, 0.0, False, "t1c"))
