"""Factories of small seeded studies; no Qt here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import pytest

from lesionlens.base.labels import MrSequence
from lesionlens.phantoms.acquire import AXIAL, Acquisition
from lesionlens.phantoms.files import DicomLayout, write_dicom, write_nifti
from lesionlens.phantoms.headers import Identity
from lesionlens.phantoms.simple import Lesion, Patient, make_patient

REPOSITORY = Path(__file__).resolve().parent.parent
MakeStudy = Callable[..., Path]


@pytest.fixture(scope="session")
def patient() -> Patient:
    """A head at 4 mm with one lesion on the patient's left."""
    return make_patient(spacing_mm=4.0)


@pytest.fixture
def make_study(tmp_path: Path, patient: Patient) -> MakeStudy:
    """Write a phantom as a study folder and return it.

    `make_study(sequences={"flair"}, spacing_mm=(1, 1, 5), orientation="LPS", tilt_deg=8)`;
    `how={"t2": Acquisition(...)}` for one sequence only, `dicom=True` for DICOM with `layout=`
    and `identity=`, `patient=` for another head, `name=` for another folder.
    """

    def make(
        *,
        name: str = "study",
        sequences: Iterable[str] = tuple(MrSequence),
        orientation: str | None = None,
        spacing_mm: tuple[float, float, float] | None = None,
        tilt_deg: float = 0.0,
        how: Mapping[str, Acquisition] | None = None,
        dicom: bool = False,
        truth: bool = False,
        patient: Patient = patient,
        layout: DicomLayout | None = None,
        identity: Identity | None = None,
    ) -> Path:
        folder = tmp_path / name
        wanted = {MrSequence(sequence) for sequence in sequences}
        chosen = tuple(sequence for sequence in MrSequence if sequence in wanted)
        default = Acquisition(orientation or (AXIAL if dicom else "RAS"), spacing_mm, tilt_deg)
        plan = {sequence: (how or {}).get(sequence.value, default) for sequence in chosen}
        if dicom:
            write_dicom(
                patient,
                folder,
                sequences=chosen,
                how=plan,
                layout=layout or DicomLayout(),
                identity=identity or Identity(),
            )
        else:
            write_nifti(patient, folder, sequences=chosen, how=plan, truth=truth)
        return folder

    return make


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The developers' folder of real scans, or skip."""
    for folder in (REPOSITORY, *REPOSITORY.parents):
        if (folder / "shared" / "data").is_dir():
            return folder / "shared" / "data"
    pytest.skip("no folder shared/data of real scans above the repository")


__all__ = ["Lesion", "make_patient"]
