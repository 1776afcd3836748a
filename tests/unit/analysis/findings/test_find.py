"""Which components are flagged, and what is said of those that are not."""

import numpy as np
import pytest
from tests.unit.analysis.findings.test_candidates import (
    ball,
    drawn,
    make_grid,
    make_prepared,
)

from lesionlens.analysis.findings.candidates import considered
from lesionlens.analysis.findings.components import segment_components
from lesionlens.analysis.findings.find import find, find_cavity
from lesionlens.base.labels import Label, Region
from lesionlens.base.records.prediction import (
    EngineInfo,
    PerturbedPrediction,
    Prediction,
    Scoring,
    SlightEnhancement,
)

ENGINE = EngineInfo("phantom", "1", None, frozenset())


@pytest.mark.parametrize(("chance", "is_outlined"), [(0.55, False), (0.75, True)])
def test_enhancement_that_is_too_doubtful_to_be_outlined_is_noticed(chance, is_outlined):
    probability = drawn(((20, 25, 20), 14))
    probability[Region.ET][:] = 0.02
    part = ball((20, 25, 20), 5)
    probability[Region.ET][part] = chance
    slight = SlightEnhancement(share=0.2, median=0.6)
    prediction = Prediction(probability, ENGINE, slight_enhancement=slight)
    flagged = find(prediction, probability, make_grid())
    assert (flagged.components.labels[part] == Label.ENHANCING).all() == is_outlined
    notices = () if is_outlined else ("0.52 ml of the tumour core may enhance",)
    assert part.sum() == 515
    assert tuple(notice[:38] for notice in flagged.notices) == notices


def test_a_component_below_the_floor_is_considered_and_no_candidate():
    sure, unsure = (15, 25, 20), (45, 25, 20)
    probability = drawn((sure, 9), (unsure, 8))
    faint = ball(unsure, 8)
    probability[Region.WT][faint] = 0.55
    probability[Region.WT][unsure] = 0.6
    first = PerturbedPrediction(probability[Region.WT][None], make_grid())
    prediction = Prediction(probability, ENGINE, unperturbed=first, scoring=Scoring(floor=0.7))
    flagged = find(prediction, probability, make_grid())
    assert flagged.components.count == len(flagged.scores) == len(flagged.first_pass_voxels) == 1
    np.testing.assert_array_equal(flagged.components.components > 0, ball(sure, 9))
    (region,) = considered(
        flagged.dismissed, flagged.dismissed_scores, make_prepared(), probability[Region.WT]
    )
    assert region.score == flagged.dismissed_scores[0] < 0.7
    assert region.volume_ml == pytest.approx(faint.sum() / 1000)
    assert region.peak_mm == tuple(make_grid().to_mm(np.array(unsure)))
    np.testing.assert_allclose(region.centroid_mm, region.peak_mm, atol=1e-6)
    np.testing.assert_array_equal(region.voxels, np.argwhere(faint))


def test_a_component_whose_score_reaches_the_floor_is_flagged():
    probability = drawn(((20, 25, 20), 9))
    first = PerturbedPrediction(probability[Region.WT][None], make_grid())
    del probability[Region.ET]  # as of an engine that outlines no enhancement

    def flagged(floor):
        scoring = Scoring(floor=floor)
        prediction = Prediction(probability, ENGINE, unperturbed=first, scoring=scoring)
        return find(prediction, probability, make_grid())

    (score,) = flagged(0.0).scores
    assert flagged(score).components.count == 1
    assert flagged(score + 1e-6).components.count == 0
    assert flagged(score).notices == ()


def test_what_is_considered_is_listed_by_descending_score():
    probability = drawn(((12, 25, 20), 7), ((45, 25, 20), 7))
    marked = segment_components(probability, make_grid())
    found = considered(marked, [0.2, 0.3], make_prepared(), probability[Region.WT])
    assert [region.score for region in found] == [0.3, 0.2]
    assert found[0].centroid_mm[0] > found[1].centroid_mm[0]


@pytest.mark.parametrize("lesions", [(), (((20, 25, 20), 9),)])
def test_where_nothing_is_flagged_there_are_no_scores(lesions):
    probability = drawn(*lesions)
    first = PerturbedPrediction(probability[Region.WT][None], make_grid())
    prediction = Prediction(probability, ENGINE, unperturbed=first, scoring=Scoring(floor=0.95))
    flagged = find(prediction, probability, make_grid())
    assert flagged.components.count == len(flagged.scores) == len(flagged.first_pass_voxels) == 0
    assert flagged.dismissed.count == len(flagged.dismissed_scores) == len(lesions)


@pytest.mark.parametrize(
    ("chance", "tumour", "voxels", "is_outlined"),
    [(0.5, 0.25, 2, True), (0.5, 0.5, 2, False), (0.49, 0.25, 2, False), (0.9, 0.5, 1, False)],
    ids=["likely", "as likely a tumour", "unlikely", "a speck below 0.1 ml"],
)
def test_a_cavity_is_outlined_where_it_is_likelier_than_not_and_than_a_tumour(
    make_prepared, chance, tumour, voxels, is_outlined
):
    prepared = make_prepared()
    assert prepared.native is prepared.working
    assert prepared.native.voxel_ml == pytest.approx(0.064)
    i, j, k = np.argwhere(prepared.brain)[prepared.brain.sum() // 2]
    there = np.zeros(prepared.brain.shape, bool)
    there[i, j, k : k + voxels] = True
    cavity, probability = (np.where(there, p, 0).astype(np.float32) for p in (chance, tumour))
    prediction = Prediction({}, ENGINE, cavity=cavity)
    found = find_cavity(prediction, {Region.WT: probability}, prepared)
    np.testing.assert_array_equal(found.data, there & is_outlined)
    assert find_cavity(Prediction({}, ENGINE), {Region.WT: probability}, prepared) is None
