"""Each check of the images names its fault, and accuses no head without it."""

import nibabel as nib
import numpy as np
import pytest

from lesionlens.base.errors import ReadError
from lesionlens.base.grid import Grid
from lesionlens.base.labels import MrSequence
from lesionlens.base.records.study import Series
from lesionlens.base.run_context import SILENT
from lesionlens.imaging import samples
from lesionlens.imaging.preparation import checks
from lesionlens.imaging.preparation.intensities import finite_voxels
from lesionlens.imaging.preparation.prepare import PrepareOptions, prepare
from lesionlens.imaging.preparation.registration import Registration
from lesionlens.imaging.reading.open import open_study
from lesionlens.testing import make_patient

T1, T1C, T2, FLAIR = MrSequence


@pytest.fixture(scope="module")
def head():
    return make_patient(spacing_mm=3.0)


@pytest.fixture(scope="module")
def bare(head):
    return head.sequences[T2].data, head.sequences[T2].grid


@pytest.fixture(scope="module")
def noisy(bare):
    """With air that is numbers."""
    values, grid = bare
    air = np.random.default_rng(0).normal(20, 5, values.shape)
    return np.where(values == 0, air, values).astype(np.float32), grid


def series(spacing):
    grid = Grid((10, 10, 10), np.diag([*spacing, 1.0]))
    return Series(T1, "test", 1.0, grid, (), lambda: np.zeros((10, 10, 10), np.float32))


def test_missing_sequences_are_named():
    check = checks.missing({FLAIR})
    assert not check.passed
    assert "T1c" in check.message
    assert checks.missing(MrSequence).passed


def test_thick_slices_are_named():
    check = checks.thick_slices({T1: series((1, 1, 1)), T2: series((1, 1, 5))})
    assert not check.passed
    assert "T2 5.0 mm" in check.message
    assert checks.thick_slices({T1: series((1, 1, 1))}).passed


@pytest.mark.parametrize(
    ("fault", "stripped", "words"),
    [
        (None, True, None),
        ("field of view", False, "FLAIR"),
        ("hole", True, "blank in every sequence"),
        ("hole", False, None),
        ("cut", False, "upper side"),
        ("small", False, "measures"),
    ],
)
def test_brain_that_is_not_shown_fails_the_check_of_coverage(head, fault, stripped, words):
    brain = head.brain.data
    images = {s: np.where(brain, head.sequences[s].data, 0) for s in (T1C, FLAIR)}
    edge_mm = 3.0
    if fault == "field of view":
        images[FLAIR][:, :, : brain.shape[2] // 2] = 0
    elif fault == "hole":
        for image in images.values():
            image[20:28, 30:40, 20:30] = 0
    elif fault == "cut":
        planes = np.flatnonzero(brain.any(axis=(0, 1)))
        brain = brain & (np.arange(brain.shape[2]) < planes[-1] + 1 - planes.size // 10)
    elif fault == "small":
        edge_mm = 2.0
    check = checks.coverage(images, brain, edge_mm, stripped=stripped)
    assert check.passed is (words is None)
    assert (words or "") in check.message


@pytest.mark.parametrize("slices_mm", [1, 2, 5])
def test_a_real_brain_in_thick_slices_is_not_cut(slices_mm):
    brain = np.asarray(nib.load(samples.STUDY / "t1.nii.gz").dataobj) != 0
    assert checks.flat_sides(brain[:, :, ::slices_mm].repeat(slices_mm, axis=2), 1.0) == {}


def test_tumour_cut_out_of_every_sequence_is_named(tmp_path):
    for name in ("t1c", "flair"):
        image = nib.load(samples.STUDY / f"{name}.nii.gz")
        values = np.asarray(image.dataobj).copy()
        centre = np.argwhere(values).mean(axis=0) + np.array([0, 0, 18])
        distance = np.linalg.norm(np.moveaxis(np.indices(values.shape), 0, -1) - centre, axis=-1)
        values[distance < 18] = 0
        nib.save(nib.Nifti1Image(values, image.affine), tmp_path / f"{name}.nii")
    options = PrepareOptions(sides=False, edge_mm=2.0)
    found = {q.check: q for q in prepare(open_study(tmp_path), SILENT, options).quality}
    assert not found["coverage"].passed
    assert "in every sequence" in found["coverage"].message


@pytest.mark.parametrize("image", ["bare", "noisy"])
@pytest.mark.parametrize(
    ("part", "side"),
    [
        (None, None),
        (np.s_[:, 36:], "front"),
        (np.s_[:36], "left"),
        (np.s_[:30, 20:40, 20:40], ""),
        (np.s_[:, :, 28:31], ""),
    ],
)
def test_blank_parts_are_named(request, image, part, side):
    values, grid = request.getfixturevalue(image)
    cut = values.copy()
    if part is not None:
        cut[part] = 0
    check = checks.blank({T2: (cut, grid)})
    assert check.passed is (part is None)
    if part is not None:
        assert f"T2 ({side}" in check.message
        turned = Grid(values.shape, np.diag([-1.0, -1, 1, 1]) @ grid.affine)
        opposite = {"front": "back", "left": "right"}.get(side, "")
        assert f"T2 ({opposite}" in checks.blank({T2: (cut, turned)}).message


@pytest.mark.parametrize("thinned", [(2, 2, 2), (4, 4, 4), (1, 1, 6), (6, 1, 1)])
@pytest.mark.parametrize("name", ["t1", "t1c", "t2", "flair"])
def test_a_real_head_in_coarse_voxels_has_no_blank_part(name, thinned):
    image = nib.load(samples.STUDY / f"{name}.nii.gz")
    values = np.asarray(image.dataobj, np.float32)[tuple(slice(None, None, n) for n in thinned)]
    affine = image.affine @ np.diag([*thinned, 1.0])
    assert checks.blank({T2: (values, Grid(values.shape, affine))}).passed


@pytest.mark.parametrize("image", ["bare", "noisy"])
@pytest.mark.parametrize(
    ("part", "value", "reason"),
    [
        (np.s_[:36], np.nan, "the left part of the head"),
        (np.s_[:, :, 30:], np.nan, "the upper part of the head"),
        (np.s_[30, 35, 30], np.nan, "enclosed"),
        (np.s_[0, 0, 0], np.inf, "infinity"),
        (np.s_[28:32, 30:40, 30:], np.nan, "the head"),  # a shaft to the edge of the image
    ],
)
def test_numbers_that_may_hide_tissue_are_refused(request, image, part, value, reason):
    values, grid = request.getfixturevalue(image)
    cut = values.copy()
    cut[part] = value
    with pytest.raises(ReadError, match=reason):
        finite_voxels(cut, grid, "x")


def test_nan_around_the_head_is_background(bare):
    values, grid = bare
    found, (notice,) = finite_voxels(np.where(values == 0, np.nan, values), grid, "T2")
    assert np.isfinite(found).all()
    assert "NaN" in notice


@pytest.mark.parametrize("within", [True, False])
def test_a_bright_end_that_was_cut_off_is_named_if_it_is_the_brain_s(head, within):
    image, brain = head.sequences[T1C], head.brain.data
    acquired = {T1C: (image.data, image.grid)}
    assert checks.saturation(acquired, lambda _: brain).passed
    cut = np.minimum(image.data, np.quantile(image.data[brain], 0.97))
    inside = brain if within else brain & (cut < cut.max())
    check = checks.saturation({T1C: (cut, image.grid)}, lambda _: inside)
    assert check.passed is not within
    assert ("T1c" in check.message) is within


def test_slices_that_jump_are_found(head):
    image = head.sequences[FLAIR]
    assert checks.motion({FLAIR: (image.data, image.grid)}).passed
    moved = image.data.copy()
    moved[:, :, 1::2] = np.roll(moved[:, :, 1::2], 1, axis=0)  # 3 mm, every second slice
    thick = Grid(image.grid.shape, image.grid.affine @ np.diag([1, 1, 1.5, 1]))
    check = checks.motion({FLAIR: (moved, thick)})
    assert not check.passed
    assert "FLAIR" in check.message


@pytest.mark.parametrize(("deviation", "passed"), [(40, True), (110, False)])
def test_the_ratio_is_the_signal_over_the_deviation_of_its_noise(deviation, passed):
    shape = (80, 80, 60)
    noise = np.random.default_rng(1).normal(0, deviation, shape)
    values, brain = (800 + noise).astype(np.float32), np.ones(shape, bool)
    assert checks.signal_to_noise(values, brain) == pytest.approx(800 / deviation, rel=0.02)
    assert checks.noise({T1: values}, brain).passed is passed


def test_contrast_agent_is_seen_in_t1c_alone(head):
    brain, native, post = head.brain.data, head.sequences[T1].data, head.sequences[T1C].data
    again = native + np.random.default_rng(0).normal(0, 10, native.shape).astype(np.float32)

    def outcome(t1, t1c):
        return checks.contrast_agent({T1: t1, T1C: t1c}, brain).outcome

    assert outcome(native, post) is True
    assert outcome(native, again) is False
    assert outcome(post, native) is False
    assert outcome(np.maximum(native, post[::-1]), post) is None  # as bright elsewhere
    assert checks.contrast_agent({T1C: post}, brain) is None


@pytest.mark.parametrize(
    ("shift_mm", "angle_deg", "peak_height", "words"),
    [
        (3.0, 1.0, 0.4, None),
        (3.0, 1.0, 0.1, "doubtful"),
        (500.0, 1.0, 0.4, "far"),
        (3.0, 179.5, 0.4, "half a turn"),
    ],
)
def test_a_registration_is_doubted(shift_mm, angle_deg, peak_height, words):
    found = Registration(np.eye(4), shift_mm, angle_deg, 0.5, peak_height)
    check = checks.registration({FLAIR: found})
    assert check.passed is (words is None)
    assert (words or "") in check.message
    assert checks.registration({}).passed
