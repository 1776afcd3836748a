"""Measures, by hand and by law."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lesionlens.analysis.evaluation import metrics
from lesionlens.analysis.evaluation.lesionwise import PENALTY_MM, lesion_wise
from lesionlens.analysis.evaluation.summary import CaseScore, froc_curve, froc_table, interval
from lesionlens.base.grid import Grid
from lesionlens.base.numerics import dice

MASKS = arrays(np.bool_, (5, 4, 6))


def grid(shape=(24, 24, 24), edges=(1.0, 1.0, 1.0)):
    return Grid(shape, np.diag([*edges, 1.0]))


def cube(*corners, shape=(24, 24, 24), edge=5):
    mask = np.zeros(shape, bool)
    for i, j, k in corners:
        mask[i : i + edge, j : j + edge, k : k + edge] = True
    return mask


@settings(deadline=None)
@given(MASKS, MASKS)
def test_measures_are_symmetric_and_bounded(a, b):
    assert dice(a, b) == dice(b, a)
    assert 0 <= dice(a, b) <= 1
    edges = (1.0, 2.0, 0.5)
    assert metrics.hd95(a, b, edges) == metrics.hd95(b, a, edges)


@settings(deadline=None)
@given(MASKS, st.permutations(range(3)))
def test_a_turn_of_the_array_changes_nothing(a, turn):
    b, edges = np.roll(a, 1, 0), np.array([1.0, 2.0, 0.5])
    turned = metrics.hd95(a.transpose(turn), b.transpose(turn), edges[list(turn)])
    assert turned == pytest.approx(metrics.hd95(a, b, edges))


def test_distance_is_in_millimetres_of_the_axis_moved_along():
    a = cube((4, 4, 4))
    assert metrics.hd95(a, np.roll(a, 3, 1), (1.0, 2.0, 1.0)) == 6.0


@pytest.mark.filterwarnings("ignore:monai:FutureWarning", "ignore::DeprecationWarning")
def test_overlap_agrees_with_monai():
    torch = pytest.importorskip("torch")
    import monai.metrics as monai

    rng = np.random.default_rng(0)
    a, b = rng.random((2, 12, 10, 9)) > 0.6
    one, two = (torch.from_numpy(m)[None, None].float() for m in (a, b))
    assert dice(a, b) == pytest.approx(float(monai.compute_dice(one, two)))
    far = monai.compute_hausdorff_distance(one, two, percentile=95, spacing=[1.0, 2.0, 0.5])
    assert metrics.hd95(a, b, (1.0, 2.0, 0.5)) == pytest.approx(float(far), rel=1e-5)


def test_near_parts_are_one_lesion_and_specks_do_not_count():
    mask = cube((2, 2, 2), (10, 2, 2), (2, 16, 16))
    mask[20, 20, 2] = True
    labels, counted = metrics.label_lesions(mask, grid())
    assert labels[2, 2, 2] == labels[10, 2, 2] != labels[2, 16, 16]
    assert len(counted) == 2


def test_the_lesion_wise_score_counts_a_missed_and_a_false_part():
    truth, found = cube((2, 2, 2), (16, 16, 16)), cube((2, 2, 2), (16, 2, 16))
    score = lesion_wise(found, truth, grid())
    assert (score.detected, score.missed, score.false) == (1, 1, 1)
    assert score.dice == pytest.approx(1 / 3)
    assert score.hd95_mm == pytest.approx(2 * PENALTY_MM / 3)
    assert score.f1 == 0.5


@settings(deadline=None)
@given(MASKS)
def test_lesion_wise_scores_of_the_truth_itself_are_perfect(mask):
    score = lesion_wise(mask, mask, grid(mask.shape))
    assert score.dice == 1
    assert score.hd95_mm == 0
    assert score.missed == score.false == 0


def test_attention_points_or_does_not():
    attention = np.zeros((4, 4, 4), np.float32)
    attention[1, 1, 1], attention[2, 2, 2] = 0.75, 0.25
    region = np.zeros((4, 4, 4), bool)
    region[2, 2, 2] = True
    assert metrics.attention_measures(attention, region) == (0.0, 0.25)
    assert metrics.attention_measures(np.zeros_like(attention), region) == (0.0, 0.0)


@pytest.mark.parametrize("step", [1, -1])
def test_the_peak_of_a_map_with_many_voxels_at_full_scale_is_in_no_order(step):
    """The first of the sample's 4022 such voxels lay inside in some storage orders only."""
    attention, region = np.array([0.2, 1.0, 1.0, 1.0]), np.array([False, False, True, True])
    peak_inside, _ = metrics.attention_measures(attention[::step], region[::step])
    assert peak_inside == 1.0


def test_calibration_error_by_hand_and_pooled():
    reported, true = np.array([0.95, 0.95, 0.15, 0.15]), np.array([True, False, False, False])
    bins = metrics.reliability(reported, true)
    assert bins.error == pytest.approx((2 * 0.45 + 2 * 0.15) / 4)
    assert (bins + bins).error == pytest.approx(bins.error)
    assert metrics.Bins().error == 0


@settings(deadline=None)
@given(arrays(np.float64, 40, elements=st.floats(0, 1)))
def test_what_is_reported_with_certainty_and_true_is_calibrated(values):
    true = values > 0.5
    assert metrics.reliability(true.astype(float), true).error == 0


def test_the_foreground_of_a_stripped_image_is_what_is_not_zero():
    image = np.zeros((10, 10, 10))
    image[2:7, 2:7, 2:7] = 5
    assert metrics.scored_head(image).sum() == 125


def _case(name, lesions, *hits):
    score = CaseScore(name, healthy=not lesions, metrics={"lesions": lesions})
    score.hits = [metrics.Hit(s, tuple(found), not found) for s, found in hits]
    return score


def test_the_froc_by_hand():
    cases = [
        _case("a", 2, (0.9, [1]), (0.8, []), (0.4, [2])),
        _case("b", 0, (0.6, [])),
    ]
    curve = froc_curve(cases)
    assert [(p.threshold, p.false_per_scan, p.sensitivity) for p in curve] == [
        (0.9, 0.0, 0.5),
        (0.8, 0.5, 0.5),
        (0.6, 1.0, 0.5),
        (0.4, 1.0, 1.0),
    ]
    rows = {row["fp_per_scan"]: row for row in froc_table(curve, any_lesion=True)}
    assert rows[0.125]["sensitivity"] == 0.5
    assert rows[0.125]["threshold"] == 0.9
    assert rows[1.0] == {"fp_per_scan": 1.0, "sensitivity": 1.0, "threshold": 0.4}


def test_an_interval_repeats_and_holds_the_mean():
    values = [0.2, 0.5, 0.9, 0.7]
    found = interval(values)
    assert found == interval(values)
    assert found.low < np.mean(values) < found.high
    assert interval([0.4]) is None
