"""Brain masks: of heads, of stripped scans, of files; what is refused as no brain."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from lesionlens.base.errors import UnusableInputError
from lesionlens.base.geometry import ras_grid
from lesionlens.base.grid import Grid
from lesionlens.base.labels import MrSequence
from lesionlens.base.records.study import Series, StepName, Study, StudyKind
from lesionlens.base.run_context import RunContext
from lesionlens.imaging.preparation.brain import fill_holes, is_bare, largest
from lesionlens.imaging.preparation.intensities import is_stripped
from lesionlens.imaging.preparation.prepare import PrepareOptions, prepare
from lesionlens.imaging.preparation.resampling import resample, resample_mask
from lesionlens.imaging.reading.open import open_study
from lesionlens.imaging.samples import FOLDER as SAMPLES
from lesionlens.imaging.samples import STUDY
from lesionlens.testing import make_patient

UNCACHED = PrepareOptions(sides=False)
IMPORTS = "from lesionlens import open_study; from lesionlens.imaging import samples"
GRID = Grid((64, 64, 64), np.diag([3.5, 3.5, 3.5, 1.0]))


@pytest.fixture(scope="module")
def head():
    return make_patient(spacing_mm=3.0, skull=True)


def away_mm():
    return np.linalg.norm((np.indices(GRID.shape) - 31.5) * 3.5, axis=0)


def dice(one, other):
    return 2 * (one & other).sum() / (one.sum() + other.sum())


@pytest.mark.parametrize("sequences", [("t1",), ("t1", "t1c", "t2", "flair")])
def test_the_brain_is_found_in_a_head(make_study, head, sequences):
    study = open_study(make_study(patient=head, sequences=sequences))
    options = replace(UNCACHED, edge_mm=3.0, checks=False)
    prepared = prepare(study, RunContext(), options)
    mask = resample_mask(prepared.brain, prepared.working, head.brain.grid)
    assert dice(mask, head.brain.data) > 0.85


def test_the_mask_lies_at_the_same_millimetres_however_it_is_stored(make_study, head):
    masks = []
    for orientation in ("RAS", "LIP"):
        folder = make_study(
            name=orientation, patient=head, sequences={"t1c"}, orientation=orientation
        )
        prepared = prepare(open_study(folder), RunContext(), replace(UNCACHED, edge_mm=2.0))
        masks.append((prepared.brain, prepared.working))
    (one, where), (other, elsewhere) = masks
    moved = resample(other.astype(np.float32), elsewhere, where, nearest=True) > 0.5
    assert dice(one, moved) > 0.999


def study_of(values, grid=GRID):
    series = Series(MrSequence.T1, "test", 1.0, grid, (), lambda: values, "x.nii.gz")
    return Study("x", StudyKind.NIFTI, {MrSequence.T1: series}, root=Path())


@pytest.mark.parametrize(("air", "radius"), [(0.0, 60.0), (0.0, 85.0), (12.0, 85.0)])
def test_a_bottle_of_water_is_no_brain(air, radius):
    rng = np.random.default_rng(0)
    water = np.where(away_mm() < radius, 700.0 + rng.normal(0, 12, GRID.shape), 0.0)
    noisy = np.hypot(water, rng.normal(0, air, GRID.shape)) if air else water
    with pytest.raises(UnusableInputError, match="no brain") as caught:
        prepare(study_of(noisy.astype(np.float32)), RunContext(), UNCACHED)
    assert "series" in str(caught.value)


def test_a_drawn_head_with_a_lesion_is_analysed_whatever_it_looks_like():
    plain = np.where(away_mm() < 75, 620.0, 0.0)
    lesion = np.linalg.norm((np.indices(GRID.shape) - 31.5) * 3.5 - 25.0, axis=0) < 24
    values = np.where(lesion, 520.0, plain) + (plain > 0) * np.random.default_rng(0).normal(
        0, 25, GRID.shape
    )
    prepared = prepare(study_of(values.astype(np.float32)), RunContext(), UNCACHED)
    assert prepared.brain.sum() > 1e6


def test_a_knee_is_no_brain():
    rng = np.random.default_rng(0)
    i, j, _ = (np.indices(GRID.shape) - 31.5) * 3.5
    away = np.hypot(i, j)
    knee = np.select([away < 22, away < 26, away < 55, away < 70], [700.0, 60, 350, 900], 0.0)
    noisy = np.hypot(knee, rng.normal(0, 15, GRID.shape)).astype(np.float32)
    with pytest.raises(UnusableInputError, match="no brain"):
        prepare(study_of(noisy), RunContext(), UNCACHED)


@pytest.mark.parametrize("thinned", [(1, 1, 1), (2, 2, 2), (1, 1, 5), (5, 1, 1)])
@pytest.mark.parametrize("name", ["t1", "t1c", "t2", "flair"])
def test_a_stripped_brain_needs_no_network(name, thinned):
    image = nib.load(STUDY / f"{name}.nii.gz")
    values = np.asarray(image.dataobj)[tuple(slice(None, None, n) for n in thinned)]
    assert is_bare(values, Grid(values.shape, image.affine @ np.diag([*thinned, 1])))


def test_stripped_scans_are_prepared_without_torch():
    code = (
        f"import sys; {IMPORTS}; "
        "from lesionlens.imaging.preparation.prepare import *; "
        "from lesionlens.base.run_context import SILENT; "
        "prepare(open_study(samples.STUDY), SILENT, PrepareOptions(edge_mm=4.0, checks=False)); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


DATA = Path(__file__).resolve().parents[4].parent / "shared/data"
CASES = (
    ("BraTS2021_00006", ("t1c",)),
    ("BraTS2021_01479", ("t1",)),
    ("BraTS2021_01480", ("flair",)),
    ("MSD_BRATS_001", ("t1", "t1c", "t2", "flair")),
    ("BraTS-PED-00003-000", ("t1c",)),
)
# relative to brain: fluid, skull, scalp as each sequence shows them
SHELLS = {
    "t1": (0.3, 0.12, 1.6),
    "t1c": (0.3, 0.12, 1.7),
    "t2": (1.8, 0.1, 0.8),
    "flair": (0.3, 0.12, 0.7),
}


def dressed(values, brain, sequence, rng):
    """Draw fluid, skull, scalp and a neck round a brain, with a coil's shading and noise."""
    outside = ndimage.distance_transform_edt(~brain) * 2.0
    waves = ndimage.gaussian_filter(rng.normal(size=brain.shape), 8)
    outside += 2.0 * waves / np.abs(waves).max()
    middle = float(np.median(values[brain]))
    out = values.copy()
    fluid, skull, scalp = (middle * share for share in SHELLS[sequence])
    for low, high, level in ((0, 2.5, fluid), (2.5, 8, skull), (8, 14, scalp)):
        shell = ~brain & (outside > low) & (outside <= high)
        out[shell] = level
    i, j, k = np.indices(brain.shape)
    middle_ij = np.argwhere(brain.any(axis=2)).mean(axis=0)
    neck = (np.hypot(i - middle_ij[0], j - middle_ij[1] + 6) < 28) & (
        k < np.argwhere(brain)[:, 2].min() + 10
    )
    out[neck & (out == 0)] = scalp * 0.7
    shading = 1 + 0.3 * (outside > 0) + 0.2 * np.linspace(-1, 1, brain.shape[1])[None, :, None]
    noisy = out * shading + rng.normal(0, 0.03 * middle, out.shape)
    return np.abs(noisy).astype(np.float32)


def sample_at_2_mm():
    """The sample's T1c on 2 mm voxels with a margin of ten voxels for a scalp, and its brain."""
    series = open_study(SAMPLES / "study").series[MrSequence.T1C]
    affine, shape = ras_grid(series.grid.affine, series.grid.shape, 2.0)
    affine[:3, 3] -= 20
    grid = Grid(tuple(length + 20 for length in shape), affine)
    values = resample(series.load(), series.grid, grid)
    return values, fill_holes(largest(values > 0)), grid


@pytest.mark.parametrize("turned_about", range(3))
def test_a_stripped_brain_that_its_header_turns_by_half_is_no_head(tmp_path, turned_about):
    """As after saving an array with an identity as its affine."""
    image = nib.load(STUDY / "t1c.nii.gz")
    signs = np.where(np.arange(3) == turned_about, 1.0, -1.0)
    affine = np.diag([*signs, 1.0]) @ image.affine
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj), affine), tmp_path / "t1c.nii")
    options = PrepareOptions(sides=False, edge_mm=2.0)
    prepared = prepare(open_study(tmp_path), RunContext(), options)
    volume_ml = prepared.working.volume_ml(prepared.brain)
    assert volume_ml == pytest.approx(np.count_nonzero(image.dataobj) / 1000, rel=0.01)
    assert "orientation" in {check.check for check in prepared.quality if not check.passed}


def test_a_head_on_a_blank_background_is_no_stripped_brain():
    """A child's head, or an adult's cut above and below, has the volume of a large brain."""
    values, brain, grid = sample_at_2_mm()
    affine = grid.affine.copy()
    head = dressed(values, brain, "t1c", np.random.default_rng(0))
    head[ndimage.distance_transform_edt(~brain, sampling=2.0) > 14] = 0
    slab, cut = head[..., 15:65], brain[..., 15:65]
    affine[2, 3] += 30
    place = Grid(slab.shape, affine)
    assert is_stripped(slab, place)
    prepared = prepare(study_of(slab, place), RunContext(), UNCACHED)
    assert [step.message for step in prepared.steps if step.step is StepName.BRAIN] != [
        "Already skull-stripped: the existing outline was used."
    ]
    assert dice(resample_mask(prepared.brain, prepared.working, place), cut) > 0.9


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.parametrize(("case", "sequences"), CASES)
def test_the_brain_under_a_drawn_skull_is_found(case, sequences):
    folder = DATA / "tumour" / case
    if not folder.is_dir():
        pytest.skip("the developers' folder of real scans is not here")
    study = open_study(folder)
    rng = np.random.default_rng(0)
    native = study.series[MrSequence.T1C].grid
    affine, shape = ras_grid(native.affine, native.shape, 2.0)
    grid = Grid(shape, affine)
    series, truth = {}, None
    for name in sequences:
        scan = study.series[MrSequence(name)]
        values = resample(scan.load(), scan.grid, grid)
        if truth is None:
            truth = resample_mask(fill_holes(largest(scan.load() != 0)), scan.grid, grid)
        head = dressed(values, truth, name, rng)
        series[MrSequence(name)] = replace(scan, grid=grid, load=head.copy)
    options = replace(UNCACHED, register=False, checks=False)
    prepared = prepare(replace(study, series=series), RunContext(), options)
    assert dice(resample_mask(prepared.brain, prepared.working, grid), truth) >= 0.95
    assert not any("brain mask" in notice for notice in prepared.notices)
