"""Real patients are examined with weights that were not trained on them."""

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
def examined(tmp_path_factory, random_weights, coarse):
    """Scans of a patient with and one without a tumour, examined with random weights."""
    root = tmp_path_factory.mktemp("cases")
    write_nifti(make_patient(0, spacing_mm=4.0, lesions=(LEFT,)), root / "a", reference=True)
    write_nifti(make_patient(1, spacing_mm=4.0, lesions=()), root / "b", reference=True)
    cases = find_real_cases(root, convention=read_conventions(None, root).of)
    return list(examine_folds([Fold(random_weights, (cases[0],)), Fold(random_weights, cases[1:])]))


@pytest.mark.slow
def test_each_patient_is_examined_with_both_subsets_of_sequences(examined):
    numbers = [scan.patient - FIRST_REAL for scan, _ in examined]
    assert numbers == [0, REAL_APART, 1, 1 + REAL_APART]


def test_references_are_aligned_with_the_images(examined):
    assert [scan.lesions for scan, _ in examined] == [1, 1, 0, 0]
    for scan, (logits, reference) in examined:
        assert logits.shape == reference.shape == (3, VOXELS)
        assert np.isfinite(logits).all()
        assert (reference[0] >= reference[1]).all()
        assert reference[0].any() == (scan.lesions > 0)
        assert scan.voxels.count.sum() == VOXELS
