"""Candidates from drawn probabilities: merging, specks, order, fields, and storage-order laws."""

import dataclasses
from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.helpers.storage_order import grid_stored, orders, stored

from lesionlens.analysis.findings import anatomy, pointing_game
from lesionlens.analysis.findings.candidates import (
    CUT_BRAIN,
    NO_PEAK,
    Evidence,
    describe,
    remeasured,
    tracking_uids,
)
from lesionlens.analysis.findings.components import (
    CandidateCriteria,
    fill_planar_holes,
    relabelled_ml,
    segment_components,
)
from lesionlens.base.geometry import index_map
from lesionlens.base.grid import Grid
from lesionlens.base.labels import TUMOUR_LABELS, Label, MrSequence, Region
from lesionlens.base.records.findings import MapAgreement
from lesionlens.base.records.prediction import SlightEnhancement
from lesionlens.base.records.study import PreparedStudy

SHAPE = (60, 50, 40)


def make_grid(shape=SHAPE, spacing=1.0):
    affine = np.diag([spacing, spacing, spacing, 1.0])
    affine[:3, 3] = (-30.0, -25.0, 10.0)
    return Grid(shape, affine)


def ball(centre, radius, shape=SHAPE):
    points = np.stack(np.indices(shape), -1)
    return ((points - np.asarray(centre)) ** 2).sum(-1) <= radius**2


def drawn(*lesions):
    """Probabilities of balls (centre, radius): enhancing within half, core within 0.7."""
    out = {region: np.full(SHAPE, 0.02, np.float32) for region in Region}
    for centre, radius in lesions:
        for region, share in ((Region.WT, 1.0), (Region.TC, 0.7), (Region.ET, 0.5)):
            out[region][ball(centre, radius * share)] = 0.9
    return out


def make_prepared(has_t1c=True, native=None):
    """A study of a brain that fills its grid."""
    working = make_grid()
    native = native or working
    return PreparedStudy(
        np.zeros((4, *SHAPE), np.float32),
        np.array([sequence is not MrSequence.T1C or has_t1c for sequence in MrSequence]),
        np.ones(SHAPE, bool),
        working,
        native,
        index_map(working.affine, native.affine),
        MrSequence.T1C if has_t1c else MrSequence.FLAIR,
    )


def found_in(probability, scores=None, has_t1c=True, identity="study"):
    marked = segment_components(probability, make_grid())
    evidence = Evidence(scores or [0.9] * marked.count, probability=probability)
    return describe(marked, evidence, make_prepared(has_t1c), identity), marked


def test_labels_are_nested_and_only_where_a_candidate_is():
    findings, marked = found_in(drawn(((20, 25, 20), 9)))
    assert set(np.unique(marked.labels)) == {Label.BACKGROUND, *TUMOUR_LABELS}
    np.testing.assert_array_equal(marked.labels > 0, findings.components > 0)
    volumes = findings.candidates[0].volume_ml
    assert volumes[Region.WT] > volumes[Region.TC] > volumes[Region.ET] > 0
    assert volumes[Region.WT] == pytest.approx(ball((20, 25, 20), 9).sum() / 1000)


def test_the_enhancing_part_is_cut_to_the_whole_tumour():
    probability = drawn(((20, 25, 20), 9))
    probability[Region.ET][40:50, 10:20, 5:15] = 0.99
    _, marked = found_in(probability)
    assert not marked.labels[40:50, 10:20, 5:15].any()


def test_a_small_gap_is_closed_and_a_large_one_is_not():
    near, _ = found_in(drawn(((15, 25, 20), 6), ((32, 25, 20), 6)))
    far, _ = found_in(drawn(((15, 25, 20), 6), ((37, 25, 20), 6)))
    assert len(near.candidates) == 1
    assert len(far.candidates) == 2


def test_merging_counts_in_millimetres():
    probability = drawn(((15, 25, 20), 6), ((32, 25, 20), 6))
    fine = Grid(SHAPE, np.diag([0.4, 0.4, 0.4, 1.0]))
    coarse = Grid(SHAPE, np.diag([2.0, 2.0, 2.0, 1.0]))
    rules = CandidateCriteria(smallest_ml=0.001)
    assert segment_components(probability, fine, rules).count == 1
    assert segment_components(probability, coarse, rules).count == 2


def test_specks_are_dropped_in_every_region():
    probability = drawn(((20, 25, 20), 9))
    probability[Region.WT][50:53, 40:43, 30:33] = 0.99
    probability[Region.ET][18, 25, 28] = 0.99
    probability[Region.TC][18, 25, 28] = 0.99
    findings, marked = found_in(probability)
    assert len(findings.candidates) == 1
    assert not marked.labels[50:53, 40:43, 30:33].any()
    assert marked.labels[18, 25, 28] == Label.OEDEMA


def test_what_a_ring_of_core_encloses_is_core():
    probability = drawn(((25, 25, 20), 14))
    for region in (Region.TC, Region.ET):
        probability[region][ball((25, 25, 20), 4)] = 0.1
    probability[Region.WT][ball((25, 25, 20), 2)] = 0.1
    _, marked = found_in(probability)
    assert marked.labels[25, 25, 20] == Label.CORE
    assert marked.labels[25, 25, 17] == Label.CORE
    assert marked.labels[25, 25, 26] == Label.ENHANCING


def test_an_opening_leaves_only_what_lies_in_line_with_it_unfilled():
    shell = np.ones((5, 5, 5), bool)
    shell[1:4, 1:4, 1:4] = shell[2, 2, 4] = False
    expected = np.ones((5, 5, 5), bool)
    expected[2, 2, 1:] = False
    for axis in range(3):
        filled = fill_planar_holes(np.moveaxis(shell, 2, axis))
        np.testing.assert_array_equal(filled, np.moveaxis(expected, 2, axis))


def test_a_cavity_is_no_part_of_the_lesion_that_encloses_it():
    probability = drawn(((25, 25, 20), 14))
    cavity = ball((25, 25, 20), 4)
    found = segment_components(probability, make_grid(), cavity=cavity)
    np.testing.assert_array_equal(found.labels > 0, ball((25, 25, 20), 14) & ~cavity)
    np.testing.assert_array_equal(found.components > 0, found.labels > 0)


@pytest.mark.parametrize(
    ("region", "below"),
    [(Region.WT, Label.BACKGROUND), (Region.TC, Label.OEDEMA), (Region.ET, Label.CORE)],
)
def test_a_voxel_belongs_to_a_region_from_its_threshold_on(region, below):
    thresholds = {Region.WT: 0.5, Region.TC: 0.25, Region.ET: 0.75}
    rules, place = CandidateCriteria(thresholds=thresholds), ball((20, 25, 20), 5)
    probability = {r: np.where(place, np.float32(t), 0) for r, t in thresholds.items()}
    at_all = segment_components(probability, make_grid(), rules).labels
    assert (at_all[place] == Label.ENHANCING).all()
    probability[region] = probability[region] * np.float32(0.999)
    assert (segment_components(probability, make_grid(), rules).labels[place] == below).all()


def test_a_tunnel_is_no_hole():
    probability = drawn(((25, 25, 20), 14))
    for region in Region:
        probability[region][23:28, 23:28, :] = 0.1
    _, marked = found_in(probability)
    assert marked.labels[25, 25, 20] == Label.BACKGROUND


def test_ids_follow_the_score():
    probability = drawn(((12, 25, 20), 7), ((45, 25, 20), 5))
    findings, _ = found_in(probability, scores=[0.4, 0.8])
    assert [c.id for c in findings.candidates] == [1, 2]
    assert [c.score for c in findings.candidates] == [0.8, 0.4]
    assert findings.candidates[0].volume_ml[Region.WT] < findings.candidates[1].volume_ml[Region.WT]
    first = findings.candidates[0].peak_mm
    voxel = np.rint(make_grid().to_voxel(first)).astype(int)
    assert findings.components[tuple(voxel)] == 1
    assert findings.conclusion == "2 candidate regions"


def test_overlap_goes_with_its_candidate_what_is_unknown_is_null_and_an_unknown_score_goes_last():
    marked = segment_components(drawn(((12, 25, 20), 5), ((45, 25, 20), 5)), make_grid())
    prepared, doubt = make_prepared(), np.full(make_grid().shape, 0.25, np.float32)
    evidence = Evidence(
        [None, 0.2],
        dice_without=[None, {"t1c": 0.4}],
        uncertainty=doubt,
        missed=frozenset({0}),
    )
    first, last = describe(marked, evidence, prepared, "study").candidates
    assert (first.score, first.dice_without, first.uncertainty) == (0.2, {"t1c": 0.4}, 0.25)
    assert (last.score, last.dice_without, last.uncertainty) == (None, None, None)
    unknown, _ = describe(marked, Evidence([0.1, 0.2]), prepared, "study").candidates
    assert unknown.sequence_relevance is unknown.dice_without is None


def test_nothing_flagged_is_reported_soberly():
    findings, marked = found_in(drawn())
    assert findings.candidates == ()
    assert findings.conclusion == "no candidate region"
    assert marked.count == 0
    assert not marked.labels.any()


def test_without_t1c_enhancement_is_left_empty_with_a_notice():
    findings, _ = found_in(drawn(((20, 25, 20), 9)), has_t1c=False)
    candidate = findings.candidates[0]
    assert candidate.volume_ml[Region.ET] is None
    assert candidate.rano_measurable is None
    assert candidate.longest_axial_diameter_mm == pytest.approx(19, abs=1)
    assert any("T1c" in notice for notice in findings.notices)


def test_without_a_probability_the_peak_is_left_empty_with_a_notice():
    probability = drawn(((20, 25, 20), 9))
    known, marked = found_in(probability)
    unknown = describe(marked, Evidence([0.9]), make_prepared(), "study")
    assert known.candidates[0].peak_mm is not None
    assert NO_PEAK not in known.notices
    assert unknown.candidates[0].peak_mm is None
    assert NO_PEAK in unknown.notices


def test_with_t1c_the_enhancing_part_is_measured():
    findings, _ = found_in(drawn(((20, 25, 20), 16)))
    candidate = findings.candidates[0]
    assert candidate.longest_axial_diameter_mm == pytest.approx(17, abs=1)
    assert candidate.rano_measurable is True


def test_the_box_and_centroid_are_the_whole_tumours():
    findings, _ = found_in(drawn(((20, 25, 20), 9)))
    candidate = findings.candidates[0]
    np.testing.assert_allclose(candidate.centroid_mm, (-10, 0, 30), atol=1e-6)
    np.testing.assert_allclose(candidate.bounding_box_mm, [[-19.5, -9.5, 20.5], [-0.5, 9.5, 39.5]])
    np.testing.assert_allclose(candidate.peak_mm, (-10, 0, 30), atol=1.01)


def test_a_rerun_names_a_candidate_alike_and_another_study_does_not():
    probability = drawn(((20, 25, 20), 9))
    first, _ = found_in(probability)
    again, _ = found_in(probability)
    other, _ = found_in(probability, identity="another study")
    uid = first.candidates[0].tracking_uid
    assert uid == again.candidates[0].tracking_uid != other.candidates[0].tracking_uid
    assert uid.startswith("2.25.")
    assert len(uid) <= 64
    assert int(uid[5:]) < 2**128


def test_a_tracking_uid_stays_where_a_voxel_of_the_outline_changes():
    probability = drawn(((20, 25, 20), 9))
    before, _ = found_in(probability)
    for region in Region:
        probability[region][29, 25, 20] = 0.1
    after, _ = found_in(probability)
    assert after.candidates[0].volume_ml != before.candidates[0].volume_ml
    assert after.candidates[0].tracking_uid == before.candidates[0].tracking_uid


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_tracking_uids_do_not_depend_on_the_order_of_candidates(order):
    """Two in one cell of 20 mm, and another."""
    places = [np.array([1.0, 2.0, 3.0]), np.array([2.0, 2.0, 3.0]), np.array([60.0, 2.0, 3.0])]
    uids = tracking_uids("a", places)
    assert len(set(uids)) == 3
    assert tracking_uids("a", [places[n] for n in order]) == [uids[n] for n in order]
    assert tracking_uids("a", [place + 0.4 for place in places]) == uids


def test_of_equal_scores_the_larger_candidate_comes_first():
    lesions = ((12, 25, 20), 5), ((45, 25, 20), 7)
    findings, _ = found_in(drawn(*lesions))
    small, large = (ball(*lesion).sum() / 1000 for lesion in lesions)
    assert [c.volume_ml[Region.WT] for c in findings.candidates] == pytest.approx([large, small])


def test_enhancement_below_ten_millimetres_is_not_measurable():
    findings, _ = found_in(drawn(((20, 25, 20), 9)))
    (candidate,) = findings.candidates
    assert candidate.longest_axial_diameter_mm == pytest.approx(9, abs=1)
    assert candidate.perpendicular_diameter_mm == pytest.approx(9, abs=1)
    assert candidate.rano_measurable is False


def test_a_cut_brain_is_noticed_beside_candidates_alone(monkeypatch):
    probability = drawn(((20, 25, 20), 9))
    whole_head = anatomy.find_head(np.ones(SHAPE, bool), make_grid())
    for head, expected in (
        (dataclasses.replace(whole_head, whole=False), (CUT_BRAIN,)),
        (dataclasses.replace(whole_head, whole=True), ()),
        (None, ()),
    ):
        monkeypatch.setattr(anatomy, "head_of", lambda _, head=head: head)
        assert found_in(probability)[0].notices == expected
    findings, _ = found_in(drawn(), has_t1c=False)
    assert findings.notices == ()


@pytest.fixture(scope="module")
def as_stored():
    """How candidates are found in two lesions, as they are or stored otherwise."""
    probability = drawn(((16, 22, 18), 8), ((44, 30, 22), 5))
    grid = make_grid()

    def found(order):
        maps = {region: stored(array, order) for region, array in probability.items()}
        marked = segment_components(maps, grid_stored(grid, order))
        scores = [float(len(part.points_mm())) for part in marked.parts()]
        prepared = make_prepared(native=marked.grid)
        return describe(marked, Evidence(scores, probability=maps), prepared, "study").candidates

    return found


@pytest.fixture(scope="module")
def as_they_are(as_stored):
    return as_stored(((0, 1, 2), (False, False, False)))


@settings(max_examples=16, deadline=None)
@given(order=orders())
def test_storage_order_changes_nothing_in_millimetres(as_stored, as_they_are, order):
    for want, got in zip(as_they_are, as_stored(order), strict=True):
        assert got.tracking_uid == want.tracking_uid
        assert got.location == want.location
        for name in ("centroid_mm", "bounding_box_mm"):
            np.testing.assert_allclose(getattr(got, name), getattr(want, name), atol=1e-6)
        assert dict(got.volume_ml) == pytest.approx(dict(want.volume_ml))
        assert got.longest_axial_diameter_mm == pytest.approx(
            want.longest_axial_diameter_mm, abs=1e-6
        )


def test_components_that_are_not_kept_leave_no_label():
    marked = segment_components(drawn(((12, 25, 20), 7), ((45, 25, 20), 5)), make_grid())
    kept = marked.keep([False, True])
    assert kept.count == 1
    np.testing.assert_array_equal(kept.components, (marked.components == 2).astype(int))
    np.testing.assert_array_equal(kept.labels > 0, kept.components > 0)
    assert marked.keep([True, True]) is marked
    assert marked.keep([False, False]).count == 0


EDGES = np.array([1.0, 1.0, 1.0])


def test_a_candidate_is_not_blamed_for_what_lies_beside_another():
    components = np.zeros(SHAPE, np.int32)
    components[5:10, 5:10, 5:10] = 1
    components[40:45, 40:45, 30:35] = 2
    attention = np.zeros(SHAPE, np.float32)
    attention[4:11, 4:11, 4:11] = 0.5
    attention[7, 7, 7] = 1.0
    attention[42, 42, 32], attention[42, 42, 37] = 0.1, 0.05
    one, two = pointing_game.of_components(components, 2, attention, EDGES)
    assert one.peak_inside
    assert two.peak_inside is False  # looked at less than evenly
    attention[42, 42, 32] = 0.4
    attention[components == 1] = 0.6
    again, other = pointing_game.of_components(components, 2, np.maximum(attention, 1e-3), EDGES)
    assert again.peak_inside
    assert other.peak_inside
    components[components == 2] = 0
    (alone,) = pointing_game.of_components(components, 1, attention, EDGES)
    outside = attention[components == 0].sum()
    assert alone.mass_inside == pytest.approx(1 - outside / attention.sum(), abs=1e-6)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.tuples(*[st.sampled_from([0.7, 1.0, 2.0, 6.0])] * 3))
def test_every_bit_of_attention_is_some_candidates(seed, edges):
    rng = np.random.default_rng(seed)
    components = np.zeros((17, 11, 9), np.int32)
    for number, place in enumerate(rng.integers(0, (17, 11, 9), (4, 3)), start=1):
        components[tuple(place)] = number
    numbers = np.unique(components)[1:]
    components = np.searchsorted([0, *numbers], components).astype(np.int32)
    attention = rng.random(components.shape).astype(np.float32)
    found = pointing_game.of_components(components, len(numbers), attention, np.array(edges))
    inside = [attention[components == n + 1].sum() for n in range(len(numbers))]
    around = [mass / fit.mass_inside for mass, fit in zip(inside, found, strict=True)]
    assert sum(around) == pytest.approx(attention.sum(), rel=1e-3)


def test_an_unknown_agreement_with_the_map_stays_unknown_in_a_redrawn_candidate():
    """Candidates that were not sent would have their share of the map."""
    marked = segment_components(drawn(((12, 25, 20), 7)), make_grid())
    evidence = Evidence([0.9], attention={Region.WT: np.ones(SHAPE, np.float32)})
    (measured,) = describe(marked, evidence, make_prepared(), "study").candidates
    (part,) = marked.parts()
    unknown, other = MapAgreement(None, None), MapAgreement(peak_inside=False, mass_inside=0.1)
    assert measured.attention.peak_inside is not None
    assert remeasured(replace(measured, attention=unknown), measured, part).attention == unknown
    assert remeasured(replace(measured, attention=other), measured, part) == measured


def test_agreement_asks_whether_the_map_points_at_the_candidate():
    components = np.zeros(SHAPE, np.int32)
    components[5:10, 5:10, 5:10] = 1
    components[40:45, 40:45, 30:35] = 2
    attention = np.full(SHAPE, 1e-6, np.float32)
    attention[7, 7, 7] = 1.0
    attention[30, 10, 10] = 0.5
    one, two = pointing_game.of_components(components, 2, attention, EDGES)
    assert one.peak_inside
    assert not two.peak_inside
    assert one.mass_inside == pytest.approx(1.0 / 1.5, abs=0.06)
    assert pointing_game.of_components(components, 2, None, EDGES)[0].mass_inside is None
    empty = pointing_game.of_components(components, 2, np.zeros(SHAPE, np.float32), EDGES)
    assert empty[0].peak_inside is None


SLIGHT = CandidateCriteria(slight_enhancement=SlightEnhancement(share=0.2, median=0.6))


def enhancing_ml(probability, rules=SLIGHT):
    labels = segment_components(probability, make_grid(), rules).labels
    return np.count_nonzero(labels == Label.ENHANCING) / 1000


@pytest.mark.parametrize(
    ("share", "chance", "drawn_at_all"),
    [(0.5, 0.55, False), (0.5, 0.75, True), (0.9, 0.55, True)],
    ids=["little and doubtful", "little, certain", "much, doubtful"],
)
def test_enhancement_is_left_out_where_it_is_both_little_and_doubtful(share, chance, drawn_at_all):
    probability = drawn(((20, 25, 20), 14))
    probability[Region.ET][:] = 0.02
    part = ball((20, 25, 20), 14 * 0.7 * share)
    probability[Region.ET][part] = chance
    everything = enhancing_ml(probability, CandidateCriteria())
    assert everything == pytest.approx(part.sum() / 1000)
    assert enhancing_ml(probability) == (everything if drawn_at_all else 0)
    marked = segment_components(probability, make_grid(), SLIGHT)
    untold = relabelled_ml(marked, probability[Region.ET], SLIGHT)
    assert untold == pytest.approx(0 if drawn_at_all else everything)


def test_each_core_is_asked_for_itself_whether_it_enhances():
    probability = drawn(((15, 25, 20), 12), ((45, 25, 20), 12))
    sure, unsure = ball((15, 25, 20), 3), ball((45, 25, 20), 3)
    probability[Region.ET][:] = 0.02
    probability[Region.ET][sure], probability[Region.ET][unsure] = 0.9, 0.55
    labels = segment_components(probability, make_grid(), SLIGHT).labels
    np.testing.assert_array_equal(labels == Label.ENHANCING, sure)
    assert (labels[unsure] == Label.CORE).all()


@pytest.fixture(scope="module")
def slight():
    """A probability that enhances slightly in one of two lesions, and its labels."""
    probability = drawn(((15, 25, 20), 12), ((45, 25, 20), 12))
    probability[Region.ET][ball((45, 25, 20), 6)] = 0.02
    probability[Region.ET][ball((45, 25, 20), 3)] = 0.55
    return probability, segment_components(probability, make_grid(), SLIGHT).labels


@settings(max_examples=10, deadline=None)
@given(order=orders())
def test_what_is_slight_does_not_depend_on_how_the_scan_is_stored(slight, order):
    probability, plain = slight
    on = grid_stored(make_grid(), order)
    maps = {region: stored(values, order) for region, values in probability.items()}
    found = segment_components(maps, on, SLIGHT).labels
    np.testing.assert_array_equal(found, stored(plain, order))
