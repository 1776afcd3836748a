"""Swapped names, one image twice, swapped sides and half turns are found; right ones pass."""

from itertools import combinations

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from lesionlens.base.errors import UnusableInputError
from lesionlens.base.grid import Grid
from lesionlens.base.labels import MrSequence
from lesionlens.base.run_context import RunContext
from lesionlens.imaging.preparation import identity_checks
from lesionlens.imaging.preparation.identity_checks import (
    HALF_TURNS,
    half_turn,
    mirrored,
    symmetry,
    template_brain,
    verdict,
)
from lesionlens.imaging.preparation.prepare import PrepareOptions, prepare
from lesionlens.imaging.reading.open import open_study
from lesionlens.testing import make_patient

T1, T1C, T2, FLAIR = MrSequence
HEAD = PrepareOptions(strip=False)


@pytest.fixture(scope="module")
def head():
    return make_patient(spacing_mm=3.0)


@pytest.fixture(scope="module")
def images(head):
    return {sequence: volume.data for sequence, volume in head.sequences.items()}


def named(images, head):
    return identity_checks.names(images, head.brain.data)


@pytest.mark.parametrize("pair", [None, *combinations(MrSequence, 2)])
def test_swapped_names_are_found_and_named(images, head, pair):
    one, other = pair or (T1, T1)
    check = named({**images, one: images[other], other: images[one]}, head)
    assert check.outcome is (pair is None)
    if pair is not None:
        assert f"{one.display_name} and {other.display_name} seem to be swapped" in check.message


def test_two_sequences_and_any_unit_are_enough(images, head):
    t2, flair = images[T2] * np.float32(1e-6), images[FLAIR] * np.float32(1e6)
    assert named({T2: t2, FLAIR: flair}, head).outcome is True
    assert named({T2: flair, FLAIR: t2}, head).outcome is False


def test_one_image_under_two_names_is_refused(images, head):
    twice = {**images, FLAIR: images[T2] * np.float32(0.5) + np.float32(3)}
    with pytest.raises(UnusableInputError, match="T2 and FLAIR are the same"):
        identity_checks.refuse_one_image_twice(twice, head.brain.data)
    identity_checks.refuse_one_image_twice(images, head.brain.data)


class Plain:
    """Images with one feature each, under the name that an image is given."""

    def __init__(self, *values):
        self.own = dict(zip(MrSequence, values, strict=True))

    def features(self, images):
        return {f"{name} value": self.own[image] for name, image in images.items()}


@pytest.mark.parametrize(
    ("values", "variance", "swapped", "undecided"),
    [
        ((0.0, 1.0, 5.0, 6.0), 0.1, (), ()),
        ((0.5, 0.6, 5.0, 6.0), 0.1, (), (T1, T1C)),
        ((0.0, 1.0, 5.6, 5.4), 0.1, (), (T2, FLAIR)),
        ((1.0, 0.0, 5.0, 6.0), 0.1, (T1, T1C), ()),
        ((0.5, 0.5, 6.0, 5.0), 0.1, (T2, FLAIR), ()),
        ((5.5, 1.0, 2.2, 4.0), 1.0, (T1, T2, FLAIR), ()),
        ((1.0, 5.0, 0.0, 6.0), 0.1, (T1, T1C, T2), ()),
    ],
)
def test_a_swap_is_named_only_if_no_other_fits_as_well(values, variance, swapped, undecided):
    """Usually T1 is 0, T1c 1, T2 5 and FLAIR 6."""
    model = [f"{s} value" for s in MrSequence], np.array([0.0, 1.0, 5.0, 6.0]), variance * np.eye(4)
    assert verdict(Plain(*values), tuple(MrSequence), model) == (swapped, undecided)


def test_images_that_tell_nothing_confirm_nothing(images, head):
    noise = np.random.default_rng(0).normal(0, 30, images[T1].shape).astype(np.float32)
    alike = {T1: images[T1], T1C: np.where(images[T1] > 0, (images[T1] + noise).clip(1), 0)}
    assert named(alike, head).outcome is None
    apart = {T1: images[T1] * (head.brain.data[::-1] > 2), T2: images[T2]}
    assert named(apart, head).outcome is None
    assert named({T1: images[T1]}, head) is None


@pytest.mark.parametrize("swapped", [(), ("flair",), ("t1c",), ("t1", "flair")])
def test_series_with_swapped_sides_are_named(make_study, swapped):
    folder = make_study(sequences={"t1c", "t2", "flair", *swapped})
    for name in swapped:
        image = nib.load(folder / f"{name}.nii.gz")
        mirror = nib.Nifti1Image(np.asanyarray(image.dataobj)[::-1], image.affine)
        mirror.to_filename(folder / f"{name}.nii.gz")
    quality = prepare(open_study(folder), RunContext(), HEAD).quality
    check = next(item for item in quality if item.check == "sides")
    accused = ", ".join(MrSequence(name).display_name for name in swapped)
    assert check.passed is (not swapped), check.message
    assert check.message.startswith(f"{accused}: left" if swapped else "Left and right agree")


def test_a_pair_that_fits_better_mirrored_is_outvoted_by_the_others():
    """Gains of a diffuse tumour whose T2 is as it should be, and with one sequence mirrored."""
    order = (T1C, T1, T2, FLAIR)
    found = (-0.48, 0.12, -0.38, -0.45, -0.48, -0.82)
    gains = dict(zip(combinations(order, 2), found, strict=True))
    assert mirrored(order, gains) == frozenset()
    for one in order:
        turned = {pair: 1 / (1 + gain) - 1 if one in pair else gain for pair, gain in gains.items()}
        others = frozenset(order[1:])
        assert mirrored(order, turned) == (others if one is T1C else {one})


def test_the_reflection_lies_on_the_head_s_own_plane():
    at = np.stack(np.meshgrid(*[np.arange(40.0)] * 3, indexing="ij"))
    head = (((at - 20) / np.array([11.0, 15, 13])[:, None, None, None]) ** 2).sum(axis=0) < 1
    spots = ((at[0] - 20) ** 2 + (at[1] - 12) ** 2 + (at[2] - 24) ** 2) < 20
    values = (500.0 * head + 400 * spots + 100 * head * np.sin(at[1])).astype(np.float32)
    affine = np.diag([4.0, 4.0, 4.0, 1.0])
    affine[:3, 3] = (-95.0, -80.0, -70.0)
    grid = Grid(values.shape, affine)
    found = symmetry(values, grid)
    assert np.linalg.det(found[:3, :3]) == pytest.approx(-1.0, abs=1e-6)
    middle = grid.to_mm((20.0, 20.0, 20.0))
    np.testing.assert_allclose((found @ [*middle, 1.0])[:3], middle, atol=1.0)


@pytest.fixture(scope="module")
def brain():
    """A tilted, stretched brain with a field of view that cuts off its lower end."""
    grown = ndimage.zoom(template_brain().astype(np.float32), (2.0, 1.9, 2.1), order=1)
    mask = ndimage.rotate(grown, 8.0, axes=(1, 2), order=1) > 0.5
    mask[:, :, : mask.shape[2] // 5] = False
    return mask


@pytest.mark.parametrize("axes", [None, *HALF_TURNS])
def test_a_half_turn_is_reported_with_the_swapped_directions(brain, axes):
    found = half_turn(brain if axes is None else np.flip(brain, axes))
    assert (found is None) is (axes is None)
    assert found is None or (not found.passed and HALF_TURNS[axes] in found.message)


def test_a_ball_or_no_brain_says_nothing():
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, 40)] * 3))
    assert half_turn((grid**2).sum(axis=0) < 0.8) is None
    assert half_turn(np.zeros((5, 5, 5), bool)) is None
