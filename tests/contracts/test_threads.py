"""Whatever the number of threads, a result has the same candidates, UIDs and outlines."""

import numpy as np
import pytest
import torch
from tests.corpus import COARSE

from lesionlens import Lens, open_study
from lesionlens.base.labels import Region


@pytest.mark.slow
def test_the_number_of_threads_hardly_matters(corpus):
    study, lens, before = (
        open_study(corpus.study("nifti two")),
        Lens("cpu"),
        torch.get_num_threads(),
    )
    results = []
    try:
        for count in (1, 2, 4):
            torch.set_num_threads(count)
            results.append(lens(study, COARSE))
    finally:
        torch.set_num_threads(before)
    first, *others = results
    assert first.candidates
    for other in others:
        for one, two in zip(first.candidates, other.candidates, strict=True):
            assert one.tracking_uid == two.tracking_uid
            assert one.score == pytest.approx(two.score, abs=1e-3)
        for region in Region:
            difference = other.probability[region].data - first.probability[region].data
            assert np.abs(difference).max() <= 1e-3
        for label in np.unique(first.labels.data):
            masks = [result.labels.data == label for result in (first, other)]
            overlap = 2 * np.count_nonzero(masks[0] & masks[1]) / sum(m.sum() for m in masks)
            assert overlap >= 0.995
