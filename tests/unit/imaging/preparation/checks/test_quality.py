"""Quality checks: each says what it saw, and each can fail."""

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from lesionlens.base.grid import Grid
from lesionlens.base.labels import MrSequence
from lesionlens.base.records.study import Series
from lesionlens.base.run_context import SILENT
from lesionlens.imaging import samples
from lesionlens.imaging.preparation.checks import quality
from lesionlens.imaging.preparation.prepare import PrepareOptions, prepare
from lesionlens.imaging.preparation.registration import Registration
from lesionlens.imaging.reading.open import open_study
from lesionlens.testing import make_patient

T1, T1C, T2, FLAIR = MrSequence


@pytest.fixture(scope="module")
def head():
    return make_patient(spacing_mm=3.0)


def series(spacing):
    grid = Grid((10, 10, 10), np.diag([*spacing, 1.0]))
    return Series(T1, "test", 1.0, grid, (), lambda: np.zeros((10, 10, 10), np.float32))


def test_missing_sequences_are_named_with_what_they_cost():
    check = quality.missing({FLAIR: series((1, 1, 1))})
    assert not check.passed
    assert "T1c" in check.message
    assert not check.message.lower().startswith(check.check), "the name is shown before it"
    assert quality.missing(dict.fromkeys(MrSequence, series((1, 1, 1)))).passed


def test_thick_slices_are_named():
    check = quality.spacing({T1: series((1, 1, 1)), T2: series((1, 1, 5))})
    assert not check.passed
    assert "T2 5.0 mm" in check.message
    assert quality.spacing({T1: series((1, 1, 1))}).passed


def test_a_sequence_that_misses_part_of_the_brain_is_named():
    brain = np.ones((100, 100, 100), bool)
    half = brain.copy()
    half[:, :, 50:] = False
    check = quality.coverage(brain, {T1: brain, FLAIR: half}, 1000.0)
    assert not check.passed
    assert "FLAIR 50%" in check.message
    assert quality.coverage(brain, {T1: brain}, 1000.0).passed
    assert not quality.coverage(brain, {T1: brain}, 200.0).passed


def test_tissue_that_was_stripped_off_one_sequence_is_named():
    head = np.zeros((60, 60, 60), bool)
    head[8:52, 8:52, 8:52] = True
    tight, bitten = ndimage.binary_erosion(head, iterations=3), head.copy()
    bitten[40:, 22:38, 22:38] = False
    found = quality.stripped_off({T1: head, FLAIR: bitten, T2: head}, 1.0)
    assert found is not None
    assert (found.check, found.passed) == ("coverage", False)
    assert ": FLAIR 2 ml. " in found.message
    assert "T1" not in found.message
    assert quality.stripped_off({T1: head, FLAIR: tight, T2: head}, 1.0) is None
    assert quality.stripped_off({T1: head, FLAIR: bitten, T2: bitten}, 1.0) is None
    assert quality.stripped_off({FLAIR: bitten, T2: head}, 1.0) is not None
    assert quality.stripped_off({FLAIR: bitten}, 1.0) is None


def test_tissue_that_was_cut_out_of_every_sequence_is_named():
    brain = np.zeros((60, 60, 60), bool)
    brain[8:52, 8:52, 8:52] = True
    hollow, sieve = brain.copy(), brain.copy()
    hollow[20:36, 20:36, 20:36] = False
    sieve[10:50:4, 10:50, 10:50] = False
    blank = quality.blank_within(brain, {T1: hollow, FLAIR: hollow}, 1.0)
    found = quality.cut_out(blank, 1.0)
    assert found is not None
    assert (found.check, found.passed) == ("coverage", False)
    assert "every sequence: 3 ml" in found.message
    for valid in ({T1: hollow, FLAIR: brain}, {T1: sieve}, {T1: brain}):
        assert quality.cut_out(quality.blank_within(brain, valid, 1.0), 1.0) is None


@pytest.mark.parametrize("radius_vox", [18, 30])
def test_a_tumour_cut_out_of_every_sequence_fails_the_check_of_coverage(tmp_path, radius_vox):
    for name in ("t1c", "flair"):
        image = nib.load(samples.STUDY / f"{name}.nii.gz")
        values = np.asarray(image.dataobj).copy()
        centre = np.argwhere(values).mean(axis=0) + np.array([0, 0, 18])
        distance = np.linalg.norm(np.moveaxis(np.indices(values.shape), 0, -1) - centre, axis=-1)
        values[distance < radius_vox] = 0
        nib.save(nib.Nifti1Image(values, image.affine), tmp_path / f"{name}.nii")
    options = PrepareOptions(sides=False, edge_mm=2.0)
    checks = {q.check: q for q in prepare(open_study(tmp_path), SILENT, options).quality}
    assert not checks["coverage"].passed
    assert "in every sequence" in checks["coverage"].message
    assert "field of view" not in checks["coverage"].message


@pytest.mark.parametrize("slices_mm", [1, 2, 5])
def test_a_real_brain_in_thick_slices_is_not_accused(slices_mm):
    brain = np.asarray(nib.load(samples.STUDY / "t1.nii.gz").dataobj) != 0
    thick = brain[:, :, ::slices_mm].repeat(slices_mm, axis=2)
    assert quality.cut_off(thick, 1.0) is None


@pytest.mark.parametrize("share", [0.1, 0.25])
def test_a_cut_vertex_is_named_and_a_whole_brain_is_not_accused(head, share):
    brain = head.brain.data
    assert quality.cut_off(brain, 3.0) is None
    planes = np.flatnonzero(brain.any(axis=(0, 1)))
    top = planes[-1] + 1 - round(share * planes.size)
    for cut in (brain[:, :, :top], np.where(np.arange(brain.shape[2]) < top, brain, False)):
        check = quality.cut_off(cut, 3.0)
        assert check is not None
        assert not check.passed
        assert "upper side" in check.message
        assert "lower" not in check.message


@pytest.mark.parametrize("quantile", [0.95, 0.98])
def test_a_bright_end_that_was_cut_off_is_named(head, quantile):
    image = head.sequences[T1C]
    assert quality.saturation({T1C: (image.data, image.grid)}).passed
    cut = np.minimum(image.data, np.quantile(image.data[head.brain.data], quantile))
    check = quality.saturation({T1C: (cut, image.grid)})
    assert not check.passed
    assert "T1c" in check.message


def test_slices_that_jump_are_found_and_a_still_head_is_not_accused(head):
    image = head.sequences[FLAIR]
    assert quality.motion({FLAIR: (image.data, image.grid)}).passed
    moved = image.data.copy()
    moved[:, :, 1::2] = np.roll(moved[:, :, 1::2], 1, axis=0)  # 3 mm, every second slice
    thick = Grid(image.grid.shape, image.grid.affine @ np.diag([1, 1, 1.5, 1]))
    check = quality.motion({FLAIR: (moved, thick)})
    assert not check.passed
    assert "FLAIR" in check.message


@pytest.mark.parametrize(("deviation", "passed"), [(40, True), (110, False)])
def test_the_ratio_is_the_signal_over_the_deviation_of_its_noise(deviation, passed):
    shape = (80, 80, 60)
    noise = np.random.default_rng(1).normal(0, deviation, shape)
    values, brain = (800 + noise).astype(np.float32), np.ones(shape, bool)
    assert quality.signal_to_noise(values, brain) == pytest.approx(800 / deviation, rel=0.02)
    assert quality.noise({T1: values}, brain).passed is passed


def test_contrast_agent_is_seen_in_t1c_and_not_in_native_t1(head):
    brain = head.brain.data
    native, post = head.sequences[T1].data, head.sequences[T1C].data
    seen = quality.contrast_agent({T1: native, T1C: post}, brain)
    rng = np.random.default_rng(0)
    again = (native + rng.normal(0, 10, native.shape)).astype(np.float32)
    unseen = quality.contrast_agent({T1: native, T1C: again}, brain)
    assert seen is not None
    assert unseen is not None
    assert seen.passed
    assert not unseen.passed
    assert quality.contrast_agent({T1C: post}, brain) is None
    assert quality.contrast_agent({T1: native}, brain) is None


def test_brighter_spots_in_t1_than_in_t1c_are_named(head):
    brain = head.brain.data
    native, post = head.sequences[T1].data, head.sequences[T1C].data
    swapped = quality.contrast_agent({T1: post, T1C: native}, brain)
    assert not swapped.passed
    assert swapped.message.startswith("T1 has brighter spots than T1c")


def test_contrast_agent_is_not_confirmed_if_t1_is_as_bright_elsewhere(head):
    """As after T1 and T1c were swapped in a study with bright spots on both."""
    brain, native = head.brain.data, head.sequences[T1].data
    post, spots = head.sequences[T1C].data, head.sequences[T1C].data[::-1]
    both = quality.contrast_agent({T1: np.maximum(native, spots), T1C: post}, brain)
    assert both is not None
    assert both.outcome is None
    assert "not confirmed" in both.message


@pytest.mark.parametrize(
    ("shift_mm", "pronounced", "passed"), [(3.0, 0.4, True), (3.0, 0.1, False), (500.0, 0.4, False)]
)
def test_a_doubtful_or_far_registration_is_a_warning(shift_mm, pronounced, passed):
    found = Registration(np.eye(4), shift_mm, 1.0, 0.5, pronounced)
    assert quality.registration({FLAIR: found}).passed is passed
    assert quality.registration({}).passed


def test_a_header_that_turns_a_sequence_by_half_is_a_warning():
    check = quality.registration({FLAIR: Registration(np.eye(4), 3.0, 179.5, 0.5, 0.4)})
    assert not check.passed
    assert "FLAIR by half" in check.message
    assert "check the sides" in check.message
