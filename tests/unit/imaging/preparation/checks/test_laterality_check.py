"""Sequences with swapped sides and heads that lie half a turn from their headers are reported."""

from itertools import combinations

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from lesionlens.base.geometry import centre_mm
from lesionlens.base.grid import Grid
from lesionlens.base.labels import MrSequence
from lesionlens.base.run_context import RunContext
from lesionlens.imaging.preparation.checks.laterality_check import (
    HALF_TURNS,
    half_turn,
    mirrored,
    symmetry,
    template_brain,
)
from lesionlens.imaging.preparation.prepare import PrepareOptions, prepare
from lesionlens.imaging.reading.open import open_study

T1, T1C, T2, FLAIR = MrSequence
HEAD = PrepareOptions(strip=False)
"""Nobody asks whether the head, which has no skull, is one."""


def checked(folder):
    prepared = prepare(open_study(folder), RunContext(), HEAD)
    return {item.check: item for item in prepared.quality}["sides"]


def mirror(path):
    image = nib.load(path)
    nib.Nifti1Image(np.asanyarray(image.dataobj)[::-1], image.affine).to_filename(path)


def test_sequences_whose_sides_agree_pass(make_study):
    found = checked(make_study(sequences={"t1c", "t2", "flair"}))
    assert found.passed, found.message


@pytest.mark.parametrize("swapped", ["flair", "t1c"])
def test_the_series_with_swapped_sides_is_named(make_study, swapped):
    folder = make_study(sequences={"t1c", "t2", "flair"})
    mirror(folder / f"{swapped}.nii.gz")
    found = checked(folder)
    assert not found.passed
    named = {"flair": "FLAIR: left and right seem", "t1c": "T1c: left and right seem"}[swapped]
    assert found.message.startswith(named)


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


def test_two_of_four_series_with_swapped_sides_are_named(make_study):
    folder = make_study()
    for swapped in ("t1", "flair"):
        mirror(folder / f"{swapped}.nii.gz")
    found = checked(folder)
    assert not found.passed
    assert found.message.startswith("T1, FLAIR: left and right seem")


def test_one_sequence_alone_has_nothing_to_agree_with(make_study):
    folder = make_study(sequences={"t2"})
    prepared = prepare(open_study(folder), RunContext(), HEAD)
    assert "sides" not in {item.check for item in prepared.quality}


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
    assert centre_mm(affine, values.shape)[0] != middle[0]
    np.testing.assert_allclose((found @ [*middle, 1.0])[:3], middle, atol=1.0)


@pytest.fixture(scope="module")
def brain():
    """A tilted, stretched brain with a field of view that cuts off its lower end."""
    grown = ndimage.zoom(template_brain().astype(np.float32), (2.0, 1.9, 2.1), order=1)
    mask = ndimage.rotate(grown, 8.0, axes=(1, 2), order=1) > 0.5
    mask[:, :, : mask.shape[2] // 5] = False
    return mask


def test_a_tilted_head_that_lies_as_its_headers_say_has_no_row(brain):
    assert half_turn(brain) is None


@pytest.mark.parametrize("axes", HALF_TURNS)
def test_a_half_turn_is_reported_with_the_swapped_directions(brain, axes):
    found = half_turn(np.flip(brain, axes))
    assert found is not None
    assert not found.passed
    assert HALF_TURNS[axes] in found.message


def test_a_ball_or_no_brain_says_nothing():
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, 40)] * 3))
    assert half_turn((grid**2).sum(axis=0) < 0.8) is None
    assert half_turn(np.zeros((5, 5, 5), bool)) is None
