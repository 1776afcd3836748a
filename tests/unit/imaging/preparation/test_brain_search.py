"""A dark rim of the reference stays in the brain where a sequence shows it, however cropped."""

import numpy as np
import pytest
from scipy import ndimage

from lesionlens.base.grid import Grid
from lesionlens.base.labels import MrSequence
from lesionlens.base.records.study import Series, Study, StudyKind
from lesionlens.base.run_context import RunContext
from lesionlens.imaging.preparation.prepare import PrepareOptions, prepare

FLAIR, T2 = MrSequence.FLAIR, MrSequence.T2
GRID = Grid((96, 112, 96), np.diag([2.0, 2.0, 2.0, 1.0]))
OPTIONS = PrepareOptions(edge_mm=2.0, register=False, strip=False, sides=False, checks=False)


@pytest.mark.parametrize("margin", [None, 3])
def test_a_rim_of_fluid_counts_as_brain_if_t2_is_cropped(margin):
    axes = np.stack(np.meshgrid(*[np.linspace(-1.3, 1.3, n) for n in GRID.shape], indexing="ij"))
    brain = (axes**2).sum(axis=0) < 1
    rim = brain & ~ndimage.binary_erosion(brain, iterations=2)
    tissue = 100 * np.exp(np.random.default_rng(0).normal(0, 0.3, GRID.shape))
    flair = np.where(brain, tissue * np.where(rim, 0.03, 1), 0).astype(np.float32)
    t2 = np.where(brain, tissue * np.where(rim, 2, 1), 0).astype(np.float32)
    grid = GRID
    if margin is not None:
        box = tuple(slice(i.min() - margin, i.max() + 1 + margin) for i in np.nonzero(brain))
        affine = GRID.affine.copy()
        affine[:3, 3] = GRID.to_mm([side.start for side in box])
        t2 = t2[box]
        grid = Grid(t2.shape, affine)
    series = {
        s: Series(s, "x", 1.0, g, (), lambda v=v: v, f"{s}.nii.gz")
        for s, v, g in ((FLAIR, flair, GRID), (T2, t2, grid))
    }
    study = Study("x", StudyKind.NIFTI, series, root=None)
    prepared = prepare(study, RunContext(), OPTIONS)
    assert int(prepared.brain.sum()) == int(brain.sum())
