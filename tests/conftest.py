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
from tests.display import own_display
from tests.phantoms.acquire import AXIAL, Acquisition
from tests.phantoms.files import DicomLayout, write_dicom, write_nifti
from tests.phantoms.headers import PatientIdentity

from lesionlens.base.labels import REFERENCE_ORDER, MrSequence
from lesionlens.base.process import memory
from lesionlens.base.records.study import PreparedStudy
from lesionlens.engines.testing.simple import Lesion, SyntheticPatient, make_patient
from lesionlens.imaging.preparation import brain_extraction, working_grid

# The same examples in every run, so that a red run is red again; the weekly run (LESIONLENS_FUZZ=1)
# looks for new ones. No time limits: a busy machine makes no law false.
FUZZ = bool(os.environ.get("LESIONLENS_FUZZ"))
settings.register_profile(
    "lesionlens",
    derandomize=not FUZZ,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("lesionlens")


def pytest_configure(config: pytest.Config) -> None:
    """Give the tests a home of their own: nobody's cache, choices or settings steer them.

    Threads sleep while they wait and the collector leaves modules alone, as in our own program:
    with three processes on two cores, half of a network's time was spent waiting for its threads.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    gc.set_threshold(50_000)
    config.pluginmanager.register(OnlyExamples())
    own_display()
    home = Path(tempfile.mkdtemp(prefix="lesionlens-tests-"))
    config.add_cleanup(lambda: shutil.rmtree(home, ignore_errors=True))
    fonts = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "matplotlib"
    os.environ.setdefault("MPLCONFIGDIR", str(fonts))  # made once: it takes long
    for kind in ("CACHE", "CONFIG", "DATA", "STATE"):
        os.environ[f"XDG_{kind}_HOME"] = str(home / kind.lower())


def pytest_collection_finish() -> None:
    """Keep what was imported from the collector: it stays until the end."""
    gc.collect()
    memory.freeze()


class OnlyExamples:
    """Leave modules without an example to the tests that import them, not to doctest."""

    @pytest.hookimpl(wrapper=True)
    def pytest_collect_file(self, file_path: Path):
        """Return the collectors of a file."""
        found = yield
        examples = b">>>" in file_path.read_bytes() if file_path.suffix == ".py" else True
        return [one for one in found if examples or not isinstance(one, DoctestModule)]


REPOSITORY = Path(__file__).resolve().parent.parent
GRID_MM = 4.0
"""The cubes that heads are drawn on."""
MakeStudy = Callable[..., Path]
MakePrepared = Callable[..., PreparedStudy]


@pytest.fixture
def thawed() -> Iterator[None]:
    """Nothing is frozen, unlike in other tests."""
    before = gc.get_freeze_count()
    memory.unfreeze()
    yield
    if before:
        memory.freeze()


@pytest.fixture(scope="session")
def patient() -> SyntheticPatient:
    """A head at 4 mm with one lesion on the patient's left."""
    return make_patient(spacing_mm=GRID_MM)


@pytest.fixture(scope="module")
def coarse() -> Iterator[None]:
    """Prepare studies on the cubes that their heads were drawn on, a sixty-fourth of the voxels.

    And take what is drawn for a brain, without a network that looks whether it is one: that took
    two thirds of such an analysis. For whole analyses whose question is neither; `test_prepare`,
    `test_brain_extraction`, the command line's contract and the sample patient keep both.
    """
    fine = working_grid._working_grid
    with pytest.MonkeyPatch.context() as change:
        change.setattr(
            working_grid,
            "_working_grid",
            lambda mask, where, native, edge_mm: fine(mask, where, native, max(edge_mm, GRID_MM)),
        )
        all_brain = brain_extraction.OutlineContent(1.0, 0.0)
        change.setattr(brain_extraction, "outline_content", lambda *_: all_brain)
        yield


class Drawer:
    """Studies that were written before: a copy takes a thirtieth of the time of a DICOM study."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._kept: dict[tuple[Hashable, ...], tuple[Path, SyntheticPatient]] = {}

    def copy(
        self,
        folder: Path,
        patient: SyntheticPatient,
        how: tuple[Hashable, ...],
        write: Callable[[Path], Any],
    ) -> None:
        """Lay the study into a folder; `write` is called where there is none like it."""
        key = (id(patient), *how)
        if key not in self._kept:
            place = self._root / str(len(self._kept))
            write(place)
            self._kept[key] = place, patient  # as long as it is kept, its id is its own
        shutil.copytree(self._kept[key][0], folder, dirs_exist_ok=True)


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Drawer:
    """The studies that this session has written."""
    return Drawer(tmp_path_factory.mktemp("written"))


@pytest.fixture
def make_study(tmp_path: Path, patient: SyntheticPatient, written: Drawer) -> MakeStudy:
    """Write a phantom as a study folder and return it; the folder is the test's own.

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
        patient: SyntheticPatient = patient,
        layout: DicomLayout | None = None,
        identity: PatientIdentity | None = None,
    ) -> Path:
        folder = tmp_path / name
        wanted = {MrSequence(sequence) for sequence in sequences}
        chosen = tuple(sequence for sequence in MrSequence if sequence in wanted)
        default = Acquisition(orientation or (AXIAL if dicom else "RAS"), spacing_mm, tilt_deg)
        plan = {sequence: (how or {}).get(sequence.value, default) for sequence in chosen}
        shape, who = layout or DicomLayout(), identity or PatientIdentity()

        def write(place: Path) -> None:
            if dicom:
                write_dicom(patient, place, sequences=chosen, how=plan, layout=shape, identity=who)
            else:
                write_nifti(patient, place, sequences=chosen, how=plan, truth=truth)

        written.copy(folder, patient, (*plan.items(), dicom, truth, shape, who), write)
        return folder

    return make


@pytest.fixture(scope="session")
def make_prepared() -> MakePrepared:
    """Make a study that is ready for an engine, without files, on 4 mm cubes.

    `make_prepared(present={"flair", "t1c"}, patient=...)`.
    """

    def make(
        present: Iterable[str] = tuple(MrSequence), patient: SyntheticPatient | None = None
    ) -> PreparedStudy:
        head = patient or make_patient(spacing_mm=4.0)
        there = np.array([sequence in set(present) for sequence in MrSequence])
        channels = np.stack([head.sequences[sequence].data for sequence in MrSequence])
        channels = channels * there[:, None, None, None]
        grid = head.labels.grid
        reference = next(s for s in REFERENCE_ORDER if there[list(MrSequence).index(s)])
        return PreparedStudy(
            channels.astype(np.float32), there, head.brain.data, grid, grid, np.eye(4), reference
        )

    return make


def _untrained(path: Path, **notes: float) -> Path:
    torch = pytest.importorskip("torch")
    from lesionlens.network import weights
    from lesionlens.network.build import build
    from lesionlens.network.config import preset
    from lesionlens.network.weights_metadata import WeightsNotes

    torch.manual_seed(3)
    about = WeightsNotes(version="test", **notes)
    weights.save(path, preset("tiny"), build("tiny").state_dict(), about)
    return path


@pytest.fixture(scope="session")
def random_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of the smallest network as it starts, before any training."""
    return _untrained(tmp_path_factory.mktemp("weights") / "random.safetensors", spacing_mm=4.0)


@pytest.fixture(scope="session")
def refining_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, of a network that also looks closer."""
    path = tmp_path_factory.mktemp("weights") / "refining.safetensors"
    return _untrained(path, spacing_mm=5.0, focus_spacing_mm=4.0)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The developers' folder of real scans, or skip."""
    for folder in (REPOSITORY, *REPOSITORY.parents):
        if (folder / "shared" / "data").is_dir():
            return folder / "shared" / "data"
    pytest.skip("no folder shared/data of real scans above the repository")


@pytest.fixture
def flushed(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """Inodes of the files whose content was flushed to the disk."""
    inodes: set[int] = set()
    fsync = os.fsync

    def record(descriptor: int) -> None:
        inodes.add(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", record)
    return inodes


__all__ = ["Lesion", "make_patient"]
