"""What a candidate looks like is read at the candidate, wherever the two grids lie."""

import numpy as np
import pytest

from lesionlens.analysis.findings.candidates import class_probabilities_of
from lesionlens.analysis.findings.components import ComponentMask
from lesionlens.base.grid import Grid
from lesionlens.base.labels import LesionClass
from lesionlens.base.records.prediction import ClassProbabilities

SPACING = 3.0


def _kinds():
    """Tumour on the patient's right half (x > 0), white-matter lesion on the left."""
    affine = np.diag([SPACING, SPACING, SPACING, 1.0])
    affine[:3, 3] = -30.0
    share = np.zeros((len(LesionClass), 20, 20, 20), np.float32)
    share[0, 10:], share[1, :10], share[2] = 0.6, 0.3, 0.1
    return ClassProbabilities(share, Grid((20, 20, 20), affine))


def _part(affine, corner):
    components = np.zeros((12, 12, 12), np.int32)
    i, j, k = corner
    components[i : i + 3, j : j + 3, k : k + 3] = 1
    labels = (components > 0).astype(np.uint8)
    return next(ComponentMask(labels, components, 1, Grid(components.shape, affine)).parts())


@pytest.mark.parametrize("flip", [1.0, -1.0])
@pytest.mark.parametrize("right", [True, False])
def test_the_side_is_the_patients_in_any_orientation(flip, right):
    affine = np.diag([4.0 * flip, 4.0, 4.0, 1.0])
    affine[:3, 3] = [-22.0 * flip, -22.0, -22.0]
    corner = (8, 4, 4) if right == (flip > 0) else (1, 4, 4)
    reported = class_probabilities_of(_part(affine, corner), _kinds())
    assert sum(reported.values()) == pytest.approx(1.0)
    expected = {LesionClass.TUMOUR: 6 / 7} if right else {LesionClass.WHITE_MATTER: 3 / 4}
    for kind, value in expected.items():
        assert reported[kind] == pytest.approx(value)


def test_an_engine_that_names_nothing_leaves_it_empty():
    part = _part(np.diag([4.0, 4, 4, 1]), (1, 1, 1))
    assert class_probabilities_of(part, None) is None
    nothing = _kinds()
    empty = ClassProbabilities(np.zeros_like(nothing.share), nothing.grid)
    assert class_probabilities_of(part, empty) is None
