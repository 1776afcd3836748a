"""Finished analyses of phantoms, for every exporter."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lesionlens.base.labels import MrSequence
from lesionlens.records.analysis import Analysis
from lesionlens.records.study import StudyKind
from lesionlens.testing.acquire import Acquisition
from lesionlens.testing.analysis import make_analysis, write_study
from lesionlens.testing.simple import Lesion, Patient, make_patient

MakeAnalysis = Callable[..., Analysis]
TWO = (Lesion(), Lesion((30.0, -40.0, 12.0), 12.0))


@pytest.fixture(scope="session")
def two_lesions() -> Patient:
    """A head at 4 mm with a large lesion on the left and a smaller one on the right."""
    return make_patient(spacing_mm=4.0, lesions=TWO)


@pytest.fixture
def make(tmp_path: Path, two_lesions: Patient) -> MakeAnalysis:
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
        patient = two_lesions
        if lesions is not None:
            patient = make_patient(spacing_mm=4.0, lesions=lesions)
        how = Acquisition(orientation or ("LPS" if dicom else "RAS"), spacing_mm, tilt_deg)
        kind = StudyKind.DICOM if dicom else StudyKind.NIFTI
        study = write_study(patient, tmp_path / name, kind=kind, sequences=sequences, how=how)
        return make_analysis(patient, study)

    return build
