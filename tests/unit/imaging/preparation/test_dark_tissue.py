"""Dark tissue that a threshold took off is restored where another sequence shows it."""

import numpy as np
import pytest
from scipy import ndimage

from lesionlens.base.grid import Grid
from lesionlens.base.labels import MrSequence
from lesionlens.base.records.study import Series, Study, StudyKind
from lesionlens.base.run_context import RunContext
from lesionlens.imaging.preparation.dark_tissue import threshold_of
from lesionlens.imaging.preparation.prepare import PrepareOptions, prepare

T1C, FLAIR = MrSequence.T1C, MrSequence.FLAIR
GRID = Grid((48, 56, 48), np.diag([4.0, 4.0, 4.0, 1.0]))
OPTIONS = PrepareOptions(
    edge_mm=4.0, register=False, strip=False, sides=False, checks=False, cache=False
)
AXES = np.stack(np.meshgrid(*[np.linspace(-1.3, 1.3, n) for n in GRID.shape], indexing="ij"))
BRAIN = (AXES**2).sum(axis=0) < 1


def _image(seed):
    noise = np.random.default_rng(seed).normal(0, 0.5, GRID.shape)
    return np.where(BRAIN, 100 * np.exp(noise), 0).astype(np.float32)


def _cut(image, share=0.06):
    return np.where(image < np.quantile(image[BRAIN], share), np.float32(0), image)


def _prepared(t1c, flair):
    series = {
        s: Series(s, "x", 1.0, GRID, (), lambda v=v: v, f"{s}.nii.gz")
        for s, v in ((T1C, t1c), (FLAIR, flair))
    }
    return prepare(Study("x", StudyKind.NIFTI, series, root=None), RunContext(), OPTIONS)


def _by_threshold(prepared):
    return [notice for notice in prepared.notices if "threshold" in notice]


@pytest.mark.parametrize("offset", [0, -1, 40])
def test_a_threshold_is_told_from_a_distribution_that_ends_evenly(offset):
    image = _image(0)
    cut = _cut(image)
    lowest = float(cut[cut > 0].min())
    shifted = (cut + np.float32(offset)).astype(np.float32)
    assert threshold_of(shifted) == pytest.approx(lowest + offset, rel=0.02)
    assert threshold_of(image + np.float32(offset)) is None
    assert threshold_of(np.zeros(GRID.shape, np.float32)) is None


def test_tissue_below_a_threshold_counts_as_the_darkest_that_is_left():
    whole, cut = _image(0), _cut(_image(0))
    prepared, expected = _prepared(cut, _image(1)), _prepared(whole, _image(1))
    assert len(_by_threshold(prepared)) == 1
    assert _by_threshold(prepared)[0].startswith("T1c: ")
    assert (prepared.brain >= expected.brain).all()
    t1c = prepared.channels[list(MrSequence).index(T1C)][prepared.brain]
    assert t1c.min() == pytest.approx(float(cut[cut > 0].min()), rel=0.02)
    assert not _by_threshold(expected)


def test_two_sequences_cut_in_different_places_restore_each_other():
    prepared = _prepared(_cut(_image(0)), _cut(_image(1)))
    assert [notice.split(":")[0] for notice in _by_threshold(prepared)] == ["T1c", "FLAIR"]
    assert int(prepared.brain.sum()) >= 0.99 * int(BRAIN.sum())


def test_a_mask_that_is_tighter_than_another_is_left_as_it_is():
    inner = ndimage.binary_erosion(BRAIN)
    prepared = _prepared(np.where(inner, _image(0), np.float32(0)), _image(1))
    assert not _by_threshold(prepared)
