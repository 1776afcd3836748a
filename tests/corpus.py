"""Studies and analyses on disk, written once a run and shared by all workers.

`corpus.study("dicom")` and `corpus.result("dicom two")` are read only; `copy_of` hands out a copy
that a test may change. Heads are at 4 mm, with a lesion on the patient's left.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from filelock import FileLock
from tests.phantoms.acquire import AXIAL, SAGITTAL, Acquisition
from tests.phantoms.files import DicomLayout, write_dicom, write_nifti
from tests.phantoms.headers import PatientIdentity

from lesionlens import Lens, MrSequence, Result, open_study
from lesionlens.testing import Lesion, PrepareOptions, SyntheticPatient, make_patient

LEFT_MM = (-28.0, 8.0, 26.0)
RIGHT_MM = (34.0, -40.0, 30.0)
OUTSIDE = Path(__file__).parent / "outside"
"""Holds a distribution of others: its metadata, entry points and one module."""
COARSE = PrepareOptions(edge_mm=4.0, strip=False)
T1, T1C, T2, FLAIR = MrSequence
SLICES = Acquisition(AXIAL, (4.0, 4.0, 6.0))
PLANES = {
    T1: Acquisition(SAGITTAL, (4.0, 4.0, 5.0)),
    T1C: SLICES,
    T2: Acquisition(AXIAL, (4.0, 4.0, 5.0), tilt_deg=8.0),
    FLAIR: SLICES,
}


def head(*lesions: Lesion, seed: int = 5) -> SyntheticPatient:
    """A head at 4 mm; by default with one lesion on the left."""
    return make_patient(seed, spacing_mm=4.0, lesions=lesions or (Lesion(LEFT_MM),))


def one() -> SyntheticPatient:
    return head()


def two() -> SyntheticPatient:
    return head(Lesion(LEFT_MM, 18.0), Lesion(RIGHT_MM, 12.0))


def grown() -> SyntheticPatient:
    return head(Lesion(LEFT_MM, 22.0))


def healthy() -> SyntheticPatient:
    return make_patient(5, spacing_mm=4.0, lesions=())


LATER = PatientIdentity(study="2", date="20260405")
OTHER = PatientIdentity("Another^Patient", "SYNTHETIC-2", "3", "20260106")

STUDIES: dict[str, Callable[[Path], object]] = {
    "nifti": lambda to: write_nifti(one(), to, reference=True),
    "nifti two": lambda to: write_nifti(two(), to, reference=True),
    "nifti flair": lambda to: write_nifti(one(), to, sequences=(FLAIR,), reference=True),
    "nifti no t1c": lambda to: write_nifti(one(), to, sequences=(T1, T2, FLAIR)),
    "nifti slices": lambda to: write_nifti(one(), to, how=SLICES, reference=True),
    "nifti oblique": lambda to: write_nifti(one(), to, how=Acquisition("LPS", tilt_deg=12.0)),
    "nifti healthy": lambda to: write_nifti(healthy(), to),
    "dicom": lambda to: write_dicom(one(), to, how=SLICES),
    "dicom two": lambda to: write_dicom(two(), to, how=SLICES),
    "dicom planes": lambda to: write_dicom(one(), to, how=PLANES),
    "dicom flat": lambda to: write_dicom(
        one(), to, how=SLICES, layout=DicomLayout(flat=True, suffix=".dcm", shuffled=True)
    ),
    "dicom no t1c": lambda to: write_dicom(one(), to, how=SLICES, sequences=(T2, FLAIR)),
    "dicom later": lambda to: write_dicom(grown(), to, how=SLICES, identity=LATER),
    "dicom other": lambda to: write_dicom(one(), to, how=SLICES, identity=OTHER),
    "dicom t1c": lambda to: write_dicom(
        one(), to, how=Acquisition(AXIAL, (8.0, 8.0, 12.0)), sequences=(T1C,)
    ),
}
RESULTS = ("nifti", "nifti two", "nifti no t1c", "nifti healthy", "dicom two", "dicom later")
"""Studies whose analysis, by a rule instead of a network, is kept too."""


class Corpus:
    """What is on disk; each part is written when a test first asks for it."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def study(self, name: str) -> Path:
        """Return the folder of a study."""
        return self._made("studies", name, STUDIES[name])

    def result(self, name: str) -> Path:
        """Return the folder of the saved result of a study."""
        assert name in RESULTS, f"add {name!r} to the results of the corpus"
        study = self.study(name)
        return self._made("results", name, lambda to: self._analysed(study).save(to))

    @staticmethod
    def _analysed(study: Path):
        return Lens(engine=rule_engine())(open_study(study), COARSE)

    def _made(self, kind: str, name: str, write: Callable[[Path], object]) -> Path:
        place = self._root / kind / name.replace(" ", "_")
        if not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(place.with_suffix(".lock")):
                if not place.exists():
                    draft = place.with_name(f".{place.name}")
                    shutil.rmtree(draft, ignore_errors=True)
                    write(draft)
                    draft.rename(place)
        return place


def copy_of(folder: Path, to: Path, *, links: bool = False) -> Path:
    """Copy a folder of the corpus; by hard links only for what is read, or replaced as a whole."""
    copy = os.link if links else shutil.copy2
    shutil.copytree(folder, to, copy_function=copy)
    return to


READER = "A. Reader"
REASON = "seen on two planes"


def decide(folder: Path, study: Path, *states: str) -> list[str]:
    """Decide on each candidate of a saved result, as in the window; return the tracking UIDs."""
    from lesionlens.results.export.exporter import save
    from lesionlens.results.review.log import ReviewLog

    analysis = Result.open(folder, study).analysis
    log = ReviewLog(analysis.review)
    uids = [candidate.tracking_uid for candidate in analysis.findings.candidates]
    for uid, state in zip(uids, states, strict=True):
        log.decide(uid, state, reader=READER, reason=REASON)
    save(replace(analysis, review=log.review), folder)
    return uids


def states_of(folder: Path) -> list[str]:
    """Return the state of each candidate in findings.json."""
    findings = json.loads((folder / "findings.json").read_text("utf-8"))
    return [candidate["review"]["state"] for candidate in findings["candidates"]]


def rule_engine():
    """An engine that outlines the lesions of these heads without a network."""
    if str(OUTSIDE) not in sys.path:
        sys.path.append(str(OUTSIDE))
    from by_rule import ByRule

    return ByRule()


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """The studies and results of this run, shared by its workers."""
    base = tmp_path_factory.getbasetemp()
    return Corpus((base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "corpus")


@pytest.fixture(scope="session")
def third_party_distribution() -> None:
    """Install the distribution of others in this process: an engine and an exporter."""
    if str(OUTSIDE) not in sys.path:
        sys.path.append(str(OUTSIDE))


@pytest.fixture
def third_party(third_party_distribution: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same in processes that the test starts."""
    path = os.pathsep.join(filter(None, (str(OUTSIDE), os.environ.get("PYTHONPATH"))))
    monkeypatch.setenv("PYTHONPATH", path)
