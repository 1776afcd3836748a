"""The score by all views: what the study shows without each of its sequences counts."""

import pytest

from lesionlens.analysis.findings.component_scores import (
    score_by_all_views,
)
from lesionlens.base.records.prediction import Scoring, ViewAgreement
from lesionlens.network.weights import AGREEMENT

FITTED = Scoring(floor=0.4, agreement=ViewAgreement(*AGREEMENT))


def test_a_score_that_was_not_fitted_on_views_stays():
    assert score_by_all_views([0.995, 0.2], [{"t1": 0.0}, {"t1": 1.0}], Scoring()) == [0.995, 0.2]


def test_views_that_agree_raise_a_score_and_absent_sequences_do_not_count():
    views = [{"t1": share, "t2": share, "flair": None} for share in (0.0, 0.1, 0.3, 1.0)]
    scores = score_by_all_views([0.8] * 4, views, FITTED)
    assert scores == sorted(set(scores))
    assert scores[0] < 0.8 < scores[-1]


@pytest.mark.parametrize("views", [None, [{"flair": 1.0}], [{"flair": 0.0}]])
def test_no_score_exceeds_what_the_cases_support_or_falls_below_what_is_flagged(views):
    (sure,) = score_by_all_views([1.0], views, FITTED)
    (doubtful,) = score_by_all_views([0.4], views, FITTED)
    assert 0.4 <= doubtful < sure <= AGREEMENT[-1]
    assert AGREEMENT[-1] == pytest.approx(1 - 1 / (16 + 2))
