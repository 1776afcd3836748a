"""Real patients join the fit as what they show to weights that left them out."""

import numpy as np
import pytest
from research.training.calibration.calibrate import FIRST_REAL, REAL_APART, VOXELS
from research.training.calibration.held_out import Fold, examine_folds
from tests.phantoms.files import write_nifti

from lesionlens.analysis.evaluation.label_conventions import read_conventions
from lesionlens.engines.testing.simple import Lesion, make_patient
from lesionlens.training.references import find_real_cases

LEFT = Lesion((-28.0, 8.0, 26.0), 20.0)


@pytest.fixture(scope="module")
def shown(tmp_path_factory, random_weights, coarse):
    """A patient with a tumour and one without, to random weights."""
    root = tmp_path_factory.mktemp("cases")
    write_nifti(make_patient(0, spacing_mm=4.0, lesions=(LEFT,)), root / "a", truth=True)
    write_nifti(make_patient(1, spacing_mm=4.0, lesions=()), root / "b", truth=True)
    cases = find_real_cases(root, convention=read_conventions(None, root).of)
    return list(examine_folds([Fold(random_weights, (cases[0],)), Fold(random_weights, cases[1:])]))


@pytest.mark.slow
def test_each_patient_is_shown_whole_and_in_part_under_one_number(shown):
    numbers = [seen.patient - FIRST_REAL for seen, _ in shown]
    assert numbers == [0, REAL_APART, 1, 1 + REAL_APART]


def test_truths_lie_where_the_images_do(shown):
    assert [seen.lesions for seen, _ in shown] == [1, 1, 0, 0]
    for seen, (logits, truth) in shown:
        assert logits.shape == truth.shape == (3, VOXELS)
        assert np.isfinite(logits).all()
        assert (truth[0] >= truth[1]).all()
        assert truth[0].any() == (seen.lesions > 0)
        assert seen.voxels.count.sum() == VOXELS
