"""Dark tissue that a threshold took off is reported where another sequence shows it."""

import numpy as np
import pytest
from scipy import ndimage

from lesionlens.base.grid import Grid
from lesionlens.base.labels import MrSequence
from lesionlens.base.records.study import Series, Study, StudyKind
from lesionlens.base.run_context import RunContext
from lesionlens.imaging.preparation.dark_tissue import ends_at_threshold
from lesionlens.imaging.preparation.prepare import PrepareOptions, prepare

T1C, FLAIR = MrSequence.T1C, MrSequence.FLAIR
GRID = Grid((48, 56, 48), np.diag([4.0, 4.0, 4.0, 1.0]))
OPTIONS = PrepareOptions(edge_mm=4.0, register=False, strip=False, sides=False, checks=False)
AXES = np.stack(np.meshgrid(*[np.linspace(-1.3, 1.3, n) for n in GRID.shape], indexing="ij"))
BRAIN = (AXES**2).sum(axis=0) < 1


def _image(seed):
    noise = np.random.default_rng(seed).normal(0, 0.5, GRID.shape)
    return np.where(BRAIN, 100 * np.exp(noise), 0).astype(np.float32)


def _cut(image, share=0.06):
    return np.where(image < np.quantile(image[BRAIN], share), np.float32(0), image)


def _prepared(t1c, flair=None):
    images = {T1C: t1c} if flair is None else {T1C: t1c, FLAIR: flair}
    series = {
        s: Series(s, "x", 1.0, GRID, (), lambda v=v: v, f"{s}.nii.gz") for s, v in images.items()
    }
    return prepare(Study("x", StudyKind.NIFTI, series, root=None), RunContext(), OPTIONS)


def _by_threshold(prepared):
    return [notice for notice in prepared.notices if "threshold" in notice]


@pytest.mark.parametrize("offset", [0, -1, 40])
def test_a_threshold_is_told_from_a_distribution_that_ends_evenly(offset):
    image = _image(0)
    assert ends_at_threshold(_cut(image) + np.float32(offset))
    assert not ends_at_threshold(image + np.float32(offset))
    assert not ends_at_threshold(np.zeros(GRID.shape, np.float32))


def test_a_few_voxels_far_below_the_tissue_are_no_threshold():
    image = _image(0)
    image[BRAIN & (np.random.default_rng(2).random(GRID.shape) < 0.02)] = 5.0
    assert not ends_at_threshold(image)


def test_blank_tissue_below_a_threshold_is_reported():
    (notice,) = _by_threshold(_prepared(_cut(_image(0)), _image(1)))
    assert notice.startswith("T1c: ")
    assert not _by_threshold(_prepared(_image(0), _image(1)))


def test_two_sequences_cut_in_different_places_are_both_reported():
    prepared = _prepared(_cut(_image(0)), _cut(_image(1)))
    assert [notice.split(":")[0] for notice in _by_threshold(prepared)] == ["T1c", "FLAIR"]


def test_a_mask_that_is_tighter_than_another_is_not_reported():
    inner = ndimage.binary_erosion(BRAIN)
    prepared = _prepared(np.where(inner, _image(0), np.float32(0)), _image(1))
    assert not _by_threshold(prepared)


def test_nothing_is_said_of_one_sequence_alone_or_where_no_other_shows_more():
    assert not _by_threshold(_prepared(_cut(_image(0))))
    clipped = np.where(BRAIN, _image(0).clip(np.quantile(_image(0)[BRAIN], 0.06)), np.float32(0))
    assert ends_at_threshold(clipped)
    assert not _by_threshold(_prepared(clipped, _image(1)))
