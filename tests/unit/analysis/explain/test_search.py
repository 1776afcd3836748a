"""Where attention goes beside the candidates."""

from dataclasses import replace

import numpy as np
from scipy.spatial.transform import Rotation
from tests.unit.analysis.findings.test_anatomy import lopsided_brain_at

from lesionlens.analysis.explain.search import masks_of
from lesionlens.base.records.study import PreparationStep, StepName


def test_the_opposite_of_a_candidate_in_a_rotated_head_lies_across_its_own_midline(make_prepared):
    """The voxels were mirrored from left to right: in a turned head 30 mm beside."""
    turn = Rotation.from_euler("z", 15, degrees=True).as_matrix()
    brain, grid = lopsided_brain_at(turn)
    prepared = replace(
        make_prepared(),
        brain=brain,
        working=grid,
        channels=np.zeros((4, *grid.shape), np.float32),
    )
    here, there = (np.array([x, 55.0, 10.0]) @ turn.T for x in (-30.0, 30.0))
    marked = np.zeros(grid.shape, bool)
    marked[tuple(np.rint(grid.to_voxel(here)).astype(int))] = True
    opposite = grid.to_mm(np.argwhere(masks_of(prepared, marked, ~brain).opposite))
    assert np.linalg.norm(opposite.mean(axis=0) - there) < 6


def test_without_a_brain_mask_nothing_is_opposite(make_prepared):
    step = PreparationStep(StepName.BRAIN, None, done=False, message="Left out.")
    prepared = replace(make_prepared(), steps=(step,))
    assert not prepared.knows_brain
    marked = prepared.brain.copy()
    marked[: marked.shape[0] // 2] = False
    masks = masks_of(prepared, marked, ~prepared.brain)
    assert masks.candidates.any()
    assert not masks.opposite.any()
