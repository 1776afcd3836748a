"""Factories of small seeded studies; no Qt here."""

from __future__ import annotations

import gc
import os
import shutil
import tempfile
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pydantic.fields  # noqa: F401  (before Qt: PySide's hook on imports breaks its own)
import pytest
from _pytest.doctest import DoctestModule
from hypothesis import HealthCheck, settings
from tests.corpus import corpus, third_party, third_party_distribution
from tests.helpers.virtual_display import start_own_display
from tests.phantoms.acquire import AXIAL, Acquisition
from tests.phantoms.files import DicomLayout, write_dicom, write_nifti
from tests.phantoms.headers import PatientIdentity

from lesionlens.base.labels import REFERENCE_ORDER, MrSequence
from lesionlens.base.records.study import PreparedStudy
from lesionlens.imaging.preparation import prepare as preparation
from lesionlens.testing import Lesion, SyntheticPatient, make_patient

# The same examples in every run, so that a failure is reproducible; the weekly run
# (LESIONLENS_FUZZ=1) searches for new ones. No time limits, as machines may be busy.
FUZZ = bool(os.environ.get("LESIONLENS_FUZZ"))
settings.register_profile(
    "lesionlens",
    derandomize=not FUZZ,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("lesionlens")


def pytest_configure(config: pytest.Config) -> None:
    """Give the tests their own cache, configuration and data folders, not those of the user.

    As in the program itself, waiting threads sleep and the garbage collector skips modules: with
    three processes on two cores, half of a network's time was spent waiting for its threads.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    gc.set_threshold(50_000)
    config.pluginmanager.register(DoctestsOnly())
    start_own_display()
    home = Path(tempfile.mkdtemp(prefix="lesionlens-tests-"))
    config.add_cleanup(lambda: shutil.rmtree(home, ignore_errors=True))
    fonts = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "matplotlib"
    os.environ.setdefault("MPLCONFIGDIR", str(fonts))  # its cache is slow to make
    for kind in ("CACHE", "CONFIG", "DATA", "STATE"):
        os.environ[f"XDG_{kind}_HOME"] = str(home / kind.lower())


def pytest_collection_finish() -> None:
    """Exclude all imported objects from garbage collection: they stay until the end."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Iterator[None]:
    """Fail instead of skipping for lack of a program, where all must be there (as in CI)."""
    report = yield
    is_lacking = report.skipped and "not installed" in str(report.longrepr)
    if is_lacking and os.environ.get("LESIONLENS_REQUIRE_TOOLS"):
        report.outcome, report.longrepr = "failed", str(report.longrepr)
    return report


class DoctestsOnly:
    """Do not collect modules without an example as doctests."""

    @pytest.hookimpl(wrapper=True)
    def pytest_collect_file(self, file_path: Path):
        """Return the collectors of a file, without that of a doctest module without examples."""
        found = yield
        examples = b">>>" in file_path.read_bytes() if file_path.suffix == ".py" else True
        return [one for one in found if examples or not isinstance(one, DoctestModule)]


REPOSITORY = Path(__file__).resolve().parent.parent
GRID_MM = 4.0
"""Voxel edge of the synthetic heads."""
MakeStudy = Callable[..., Path]
MakePrepared = Callable[..., PreparedStudy]


@pytest.fixture
def thawed() -> Iterator[None]:
    """Run the test without objects that are excluded from garbage collection."""
    before = gc.get_freeze_count()
    gc.unfreeze()
    yield
    if before:
        gc.freeze()


@pytest.fixture(scope="session")
def patient() -> SyntheticPatient:
    """A head at 4 mm with one lesion on the patient's left."""
    return make_patient(spacing_mm=GRID_MM)


@pytest.fixture(scope="module")
def coarse() -> Iterator[None]:
    """Prepare studies on the 4 mm grid of their heads: a sixty-fourth of the voxels.

    For analyses that do not test it; the contract tests of the command line do not use it.
    """
    fine = preparation._working_grid
    with pytest.MonkeyPatch.context() as change:
        change.setattr(
            preparation,
            "_working_grid",
            lambda brain, native, edge_mm: fine(brain, native, max(edge_mm, GRID_MM)),
        )
        yield


class StudyCache:
    """Written studies, to be copied: this takes a thirtieth of the time of writing DICOM files."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._written: dict[tuple[Hashable, ...], tuple[Path, SyntheticPatient]] = {}

    def copy(
        self,
        folder: Path,
        patient: SyntheticPatient,
        how: tuple[Hashable, ...],
        write: Callable[[Path], Any],
    ) -> None:
        """Copy a study to a folder; `write` writes it if the cache has none like it."""
        key = (id(patient), *how)
        if key not in self._written:
            place = self._root / str(len(self._written))
            write(place)
            self._written[key] = place, patient  # the reference keeps the patient's id unique
        shutil.copytree(self._written[key][0], folder, dirs_exist_ok=True)


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> StudyCache:
    """The studies written in this test session."""
    return StudyCache(tmp_path_factory.mktemp("written"))


@pytest.fixture
def make_study(tmp_path: Path, patient: SyntheticPatient, written: StudyCache) -> MakeStudy:
    """Return a function that writes a synthetic head as a study into a folder of the test.

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
        reference: bool = False,
        patient: SyntheticPatient = patient,
        layout: DicomLayout | None = None,
        identity: PatientIdentity | None = None,
    ) -> Path:
        folder = tmp_path / name
        wanted = {MrSequence(sequence) for sequence in sequences}
        written_sequences = tuple(sequence for sequence in MrSequence if sequence in wanted)
        default = Acquisition(orientation or (AXIAL if dicom else "RAS"), spacing_mm, tilt_deg)
        acquisitions = {
            sequence: (how or {}).get(sequence.value, default) for sequence in written_sequences
        }
        dicom_layout, dicom_identity = layout or DicomLayout(), identity or PatientIdentity()

        def write(place: Path) -> None:
            if dicom:
                write_dicom(
                    patient,
                    place,
                    sequences=written_sequences,
                    how=acquisitions,
                    layout=dicom_layout,
                    identity=dicom_identity,
                )
            else:
                write_nifti(
                    patient,
                    place,
                    sequences=written_sequences,
                    how=acquisitions,
                    reference=reference,
                )

        written.copy(
            folder,
            patient,
            (*acquisitions.items(), dicom, reference, dicom_layout, dicom_identity),
            write,
        )
        return folder

    return make


@pytest.fixture(scope="session")
def make_prepared() -> MakePrepared:
    """Return a function that makes a prepared study at 4 mm, without files.

    `make_prepared(present={"flair", "t1c"}, patient=...)`.
    """

    def make(
        present: Iterable[str] = tuple(MrSequence), patient: SyntheticPatient | None = None
    ) -> PreparedStudy:
        source = patient or make_patient(spacing_mm=4.0)
        is_present = np.array([sequence in set(present) for sequence in MrSequence])
        channels = np.stack([source.sequences[sequence].data for sequence in MrSequence])
        channels = channels * is_present[:, None, None, None]
        grid = source.labels.grid
        reference = next(s for s in REFERENCE_ORDER if is_present[list(MrSequence).index(s)])
        return PreparedStudy(
            channels.astype(np.float32),
            is_present,
            source.brain.data,
            grid,
            grid,
            np.eye(4),
            reference,
        )

    return make


def _untrained_weights(path: Path, **notes: float) -> Path:
    torch = pytest.importorskip("torch")
    from lesionlens.network import weights
    from lesionlens.network.lens_net import TINY, LensNetwork
    from lesionlens.network.weights import WeightsNotes

    torch.manual_seed(3)
    metadata = WeightsNotes(version="test", **notes)
    weights.save(path, TINY, LensNetwork(TINY).state_dict(), metadata)
    return path


@pytest.fixture(scope="session")
def random_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of the smallest network before any training."""
    return _untrained_weights(
        tmp_path_factory.mktemp("weights") / "random.safetensors", spacing_mm=4.0
    )


@pytest.fixture(scope="session")
def refining_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `random_weights`, of a network that also refines patches."""
    path = tmp_path_factory.mktemp("weights") / "refining.safetensors"
    return _untrained_weights(path, spacing_mm=5.0, focus_spacing_mm=4.0)


@pytest.fixture
def flushed(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """Inodes of the files flushed to disk during the test."""
    inodes: set[int] = set()
    fsync = os.fsync

    def record(descriptor: int) -> None:
        inodes.add(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", record)
    return inodes


__all__ = ["Lesion", "corpus", "make_patient", "third_party", "third_party_distribution"]
