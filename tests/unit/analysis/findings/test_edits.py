"""A reader's outline takes the network's place on any grid, is measured, and can be taken back."""

import itertools
from dataclasses import replace
from types import SimpleNamespace
from unittest.mock import Mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from tests.helpers.storage_order import grid_stored, orders, stored
from tests.phantoms.acquire import Acquisition
from tests.phantoms.analysis import make_analysis, write_study

from lesionlens.analysis.findings import additions
from lesionlens.analysis.findings.additions import halves, lesion_at
from lesionlens.analysis.findings.edits import applied, is_of_edits, outline_of, without_edits
from lesionlens.base.errors import UnusableInputError
from lesionlens.base.geometry import index_map, ras_grid
from lesionlens.base.grid import Grid
from lesionlens.base.labels import DrawingMethod, Label, Region, ReviewState, Source
from lesionlens.base.records.arrays import Volume
from lesionlens.base.records.files import rounded
from lesionlens.base.records.findings import Candidate
from lesionlens.base.records.prompts import PromptResponse
from lesionlens.base.records.review import Outline
from lesionlens.base.records.study import PreparationStep, StepName
from lesionlens.base.text import millilitres
from lesionlens.imaging.preparation.resampling import resample
from lesionlens.results.review.log import ReviewLog, new_tracking_uid
from lesionlens.testing import Lesion, make_patient

GRIDS = {
    "same": Acquisition(),
    "sagittal": Acquisition("PIR"),
    "thick": Acquisition("LPS", (2.0, 2.0, 10.0)),
    "fine": Acquisition("LPI", (1.5, 1.5, 4.0)),
    "oblique": Acquisition("LPS", (3.0, 3.0, 6.0), tilt_deg=14.0),
}
FIRST, SECOND = (-28.0, 8.0, 26.0), (34.0, -40.0, 30.0)


@pytest.fixture(scope="module")
def head():
    return make_patient(5, spacing_mm=4.0, lesions=(Lesion(FIRST, 18.0), Lesion(SECOND, 10.0)))


@pytest.fixture(scope="module", params=GRIDS)
def analysis(request, head, tmp_path_factory):
    study = write_study(head, tmp_path_factory.mktemp("edit") / "study", how=GRIDS[request.param])
    return make_analysis(head, study)


def nearest(analysis, centre_mm):
    """Return the candidate at a place, and its labels on the working grid."""
    candidates = analysis.findings.candidates
    gaps = [np.linalg.norm(np.subtract(c.centroid_mm, centre_mm)) for c in candidates]
    candidate = candidates[int(np.argmin(gaps))]
    mine = analysis.findings.components == candidate.id
    labels = np.where(mine, analysis.volumes.labels.data, 0).astype(np.float32)
    shown = resample(labels, analysis.prepared.native, analysis.prepared.working, nearest=True)
    return candidate, np.rint(shown).astype(np.uint8)


def edited(analysis, candidate, outline):
    log = ReviewLog(analysis.review)
    log.decide(candidate.tracking_uid, ReviewState.EDITED, reader="A", outline=outline)
    return applied(replace(analysis, review=log.review))


def test_an_outline_that_was_not_touched_is_the_networks_own(analysis):
    candidate, shown = nearest(analysis, FIRST)
    outline = outline_of(analysis, candidate, shown, shown)
    again = edited(analysis, candidate, outline)
    np.testing.assert_array_equal(again.volumes.labels.data, analysis.volumes.labels.data)
    np.testing.assert_array_equal(again.findings.components, analysis.findings.components)


def placed_grids(edges_mm, draw):
    """Return a native grid at a drawn place, and affine and shape of its working grid."""
    affine = np.diag([*np.multiply(edges_mm, (-1.0, 1.0, -1.0)), 1.0])
    affine[:3, 3] = draw.uniform(-90, 90, 3).round(3)
    native = Grid(tuple(round(21 / edge) for edge in edges_mm), affine)
    affine, shape = ras_grid(native.affine, native.shape, 1.0)
    return native, affine, shape


@pytest.mark.parametrize("edges_mm", [(0.5, 1.5, 0.5), (1.5, 0.5, 1.5), (1.5, 1.5, 1.5)])
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 999), order=orders())
def test_a_stroke_is_the_same_however_the_scan_is_stored(edges_mm, seed, order):
    """With voxels of .5 and 1.5 mm every working voxel lies midway between native ones."""
    draw = np.random.default_rng(seed)
    native, affine, shape = placed_grids(edges_mm, draw)
    shown = np.zeros(shape, np.uint8)
    shown[6:12, 6:12, 6:12] = Label.OEDEMA
    drawn = shown.copy()
    for corner in draw.integers(2, 15, (4, 3)):
        drawn[tuple(slice(c, c + draw.integers(1, 4)) for c in corner)] = draw.integers(0, 3)
    drawn[18, 18, 18] = Label.CORE  # something is left, whatever the strokes erase

    def outlined(grid):
        return kept_on(grid, affine, shown, drawn, None)

    assert np.array_equal(stored(outlined(native), order), outlined(grid_stored(native, order)))


def kept_on(grid, affine, shown, drawn, by_hand):
    """Return a new outline on a whole native grid, from that of a working grid."""
    empty = np.zeros(grid.shape, np.uint8)
    analysis = SimpleNamespace(
        volumes=SimpleNamespace(all_labels=SimpleNamespace(data=empty)),
        findings=SimpleNamespace(components=empty),
        prepared=SimpleNamespace(native=grid, to_native=index_map(affine, grid.affine)),
    )
    found = outline_of(analysis, "2.25.1", shown, drawn, by_hand)
    ends = zip(found.corner, found.labels.shape, strict=True)
    empty[tuple(slice(low, low + size) for low, size in ends)] = found.labels
    return empty


@pytest.mark.parametrize("edges_mm", [(0.5, 1.5, 0.5), (1.0, 1.0, 5.0), (0.9, 4.0, 0.9)])
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 999), order=orders())
def test_a_thin_lesion_is_the_same_however_the_scan_is_stored(edges_mm, seed, order):
    draw = np.random.default_rng(seed)
    native, affine, shape = placed_grids(edges_mm, draw)
    distance = np.linalg.norm(
        np.moveaxis(np.indices(shape), 0, -1) - draw.uniform(6, 14, 3), axis=-1
    )
    drawn = np.where(distance < draw.uniform(1.5, 4), np.uint8(Label.OEDEMA), np.uint8(0))
    drawn[(distance < 1.5)] = Label.ENHANCING
    nothing = np.zeros_like(drawn)

    def outlined(grid):
        return kept_on(grid, affine, nothing, drawn, nothing > 0)

    first, second = outlined(native), outlined(grid_stored(native, order))
    assert np.array_equal(stored(first, order), second)
    assert set(np.unique(first)) <= {0, Label.OEDEMA, Label.ENHANCING}


THICK = {
    "axial": (0.0, (0.9, 0.9, 5.0)),
    "oblique": (18.0, (0.9, 0.9, 5.0)),
    "sagittal": (90.0, (0.9, 0.9, 4.0)),
}


def on_slices(tilt_deg, spacing_mm):
    """Return an analysis with a ball of 24 mm on slices that are tilted about the left-right axis,
    the ball on its working grid, and the positions of that grid in mm."""
    turn, edges = np.deg2rad(tilt_deg), np.diag([-spacing_mm[0], -spacing_mm[1], spacing_mm[2]])
    tilt = [[1, 0, 0], [0, np.cos(turn), -np.sin(turn)], [0, np.sin(turn), np.cos(turn)]]
    affine, shape = np.eye(4), tuple(round(60 / edge) for edge in spacing_mm)
    affine[:3, :3] = np.array(tilt) @ edges
    affine[:3, 3] = -affine[:3, :3] @ np.array(shape) / 2 + 0.3
    native = Grid(shape, affine)
    working = Grid(*ras_grid(affine, shape, 1.0)[::-1])
    at = [grid.to_mm(np.stack(np.indices(grid.shape), -1)) for grid in (native, working)]
    inside, ball = (np.linalg.norm(where, axis=-1) < 12.0 for where in at)
    analysis = SimpleNamespace(
        volumes=SimpleNamespace(all_labels=SimpleNamespace(data=inside * np.uint8(Label.OEDEMA))),
        findings=SimpleNamespace(components=inside.astype(np.uint8)),
        prepared=SimpleNamespace(native=native, to_native=index_map(working.affine, affine)),
    )
    return analysis, ball * np.uint8(Label.OEDEMA), at[1]


@pytest.mark.parametrize("how", THICK)
@pytest.mark.parametrize("diameter_mm", [10.0, 16.0, 24.0])
def test_an_outline_through_thick_slices_keeps_its_volume(how, diameter_mm):
    """A lesion of 10 mm that was prompted on slices of 5 mm was kept half as large again."""
    analysis, shown, at = on_slices(*THICK[how])
    analysis.findings.components[:] = 0
    analysis.volumes.all_labels.data[:] = 0
    drawn, kept = 0, 0
    for shift in (-2.0, -1.0, 0.0, 1.0, 2.0):
        one = (np.linalg.norm(at - shift, axis=-1) < diameter_mm / 2) * np.uint8(Label.OEDEMA)
        outline = outline_of(analysis, "2.25.1", np.zeros_like(shown), one)
        drawn += np.count_nonzero(one)
        kept += np.count_nonzero(outline.labels) * np.prod(analysis.prepared.native.spacing_mm)
    assert kept / drawn == pytest.approx(1.0, abs=1.5 / diameter_mm)


@pytest.mark.parametrize("how", THICK)
@pytest.mark.parametrize(
    ("diameter_mm", "tolerance"), [(3.0, 0.25), (4.0, 0.15), (5.0, 0.1), (7, 0.1)]
)
def test_a_computed_lesion_thinner_than_two_slices_keeps_its_volume(how, diameter_mm, tolerance):
    """One of 5 mm on slices of 5 mm was kept an eighth to 2.4 times as large."""
    analysis, shown, at = on_slices(*THICK[how])
    analysis.findings.components[:] = 0
    analysis.volumes.all_labels.data[:] = 0
    nothing, by_hand = np.zeros_like(shown), np.zeros(shown.shape, bool)
    voxel_mm3 = np.prod(analysis.prepared.native.spacing_mm)
    for shift in np.arange(-2.5, 2.6, 0.5):
        lesion = (np.linalg.norm(at - shift, axis=-1) < diameter_mm / 2) * np.uint8(Label.OEDEMA)
        outline = outline_of(analysis, "2.25.1", nothing, lesion, by_hand)
        kept = np.count_nonzero(outline.labels) * voxel_mm3
        assert kept / np.count_nonzero(lesion) == pytest.approx(1.0, abs=tolerance), shift


@pytest.mark.parametrize("corner", [(0, 0, 0), (9, 9, 9), (19, 8, 19)])
@pytest.mark.parametrize("size", [(1, 1, 1), (1, 3, 2), (1, 2, 1)])
def test_a_thin_lesion_on_the_scans_own_voxels_is_copied(corner, size):
    """Also at the border of the scan, and in two parts."""
    grid, drawn = Grid((20, 20, 20), np.eye(4)), np.zeros((20, 20, 20), np.uint8)
    drawn[tuple(slice(c, c + n) for c, n in zip(corner, size, strict=True))] = Label.ENHANCING
    drawn[14, 3:6, 15] = Label.OEDEMA
    nothing = np.zeros_like(drawn)
    assert np.array_equal(kept_on(grid, grid.affine, nothing, drawn, nothing > 0), drawn)


@pytest.mark.parametrize("how", THICK)
def test_the_halves_of_a_split_are_the_whole_on_thick_slices(how):
    """Both halves lost the slice in which the cut lay: a fifth of the outline was in neither."""
    analysis, shown, at = on_slices(*THICK[how])
    candidate = Mock(Candidate, id=1, tracking_uid="2.25.1")
    whole = np.count_nonzero(analysis.findings.components)
    for axis, cut in itertools.product(range(3), np.arange(-4.0, 5.0)):
        first = np.where(at[..., axis] < cut, shown, np.uint8(0))
        halves = additions.halves(analysis, candidate, "2.25.2", (shown, first, shown - first))
        kept, rest = (np.zeros(analysis.findings.components.shape, bool) for _ in halves)
        kept[halves[0].box], rest[halves[1].box] = (one.labels > 0 for one in halves)
        assert not (kept & rest).any()
        assert np.array_equal(kept | rest, analysis.findings.components > 0), (axis, cut)
        assert np.count_nonzero(kept) / whole == pytest.approx(
            np.count_nonzero(first) / np.count_nonzero(shown), abs=0.2
        )


@pytest.mark.parametrize("point_mm", [(0.0, 0.0, 110.0), (0.0, 0.0, 900.0), (-900.0, 0.0, 0.0)])
def test_no_lesion_is_added_at_a_point_outside_the_image(analysis, point_mm):
    free = np.ones(analysis.prepared.working.shape, bool)
    with pytest.raises(UnusableInputError, match="outside the head"):
        lesion_at(analysis, not_asked, free, point_mm)


def not_asked(_):
    raise AssertionError


def test_a_lesion_added_at_a_point_is_the_answer_to_one_prompt_where_it_may_be(analysis):
    working = analysis.prepared.working
    at = working.nearest_voxel(SECOND)
    far = np.linalg.norm((np.indices(working.shape).T - at) * working.spacing_mm, axis=-1).T
    free = np.indices(working.shape)[0] >= at[0]

    def answer(asked):
        assert (asked.foreground.tolist(), asked.outline) == ([at.tolist()], None)
        whole = tuple(slice(0, n) for n in working.shape)
        ball = (far <= 10).astype(np.float32)
        return PromptResponse(whole, ball, 0 * ball, np.zeros(ball.shape, bool), "two networks")

    drawn, asked = lesion_at(analysis, answer, free, SECOND)
    np.testing.assert_array_equal(drawn > 0, (far <= 10) & free)
    assert (asked.foreground, asked.made_by) == ((tuple(at.tolist()),), "two networks")
    with pytest.raises(UnusableInputError, match="another candidate"):
        lesion_at(analysis, not_asked, far > 3, SECOND)
    only = (far == 0) | (far > 30)
    with pytest.raises(UnusableInputError, match="resembles it"):
        lesion_at(analysis, answer, only, SECOND)


def test_what_was_painted_is_there_and_nothing_else_has_changed(analysis):
    candidate, shown = nearest(analysis, FIRST)
    working, native = analysis.prepared.working, analysis.prepared.native
    drawn = shown.copy()
    place = np.rint(working.to_voxel(np.add(FIRST, [0, 30.0, 0]))).astype(int)
    drawn[place[0] - 1 : place[0] + 2, place[1] - 1 : place[1] + 2, place[2]] = Label.ENHANCING
    again = edited(analysis, candidate, outline_of(analysis, candidate, shown, drawn))
    before, after = analysis.volumes.labels.data, again.volumes.labels.data
    changed = np.argwhere(before != after)
    assert changed.size
    assert (after[tuple(changed.T)] == Label.ENHANCING).all()
    gap = np.abs(native.to_mm(changed) - working.to_mm(place)).max(axis=0)
    # no further than the brush, half a working voxel and half a native one
    reach = np.array([4.0, 4.0, 0.0]) + 2.0 + np.abs(native.affine[:3, :3]).sum(axis=1) / 2
    assert (gap <= reach + 1e-6).all()
    for voxel in np.argwhere(shown != drawn):
        at = native.to_voxel(working.to_mm(voxel))
        ends = np.rint([at - 1e-3, at + 1e-3]).astype(int)  # midway it may be either
        assert (after[tuple(map(slice, ends[0], ends[1] + 1))] == Label.ENHANCING).any()


def test_measures_are_of_the_redrawn_outline_and_the_rest_stays(analysis):
    candidate, shown = nearest(analysis, FIRST)
    middle = round(float(analysis.prepared.working.to_voxel(candidate.centroid_mm)[0]))
    drawn = shown.copy()
    drawn[:middle] = 0
    again = edited(analysis, candidate, outline_of(analysis, candidate, shown, drawn))
    found = again.findings.candidates[candidate.id - 1]
    volume, before = found.volume_ml[Region.WT], candidate.volume_ml[Region.WT]
    assert 0.25 * before < volume < 0.75 * before
    held = np.count_nonzero(again.findings.components == candidate.id)
    assert volume == pytest.approx(held * again.volumes.labels.grid.voxel_ml, abs=1e-4)
    assert found.centroid_mm[0] > candidate.centroid_mm[0]
    assert found.bounding_box_mm[0][0] > candidate.bounding_box_mm[0][0]
    kept = rounded(candidate)
    assert (found.id, found.tracking_uid, found.score, found.sequence_relevance) == (
        kept.id,
        kept.tracking_uid,
        kept.score,
        kept.sequence_relevance,
    )
    for other, was in zip(again.findings.candidates, analysis.findings.candidates, strict=True):
        assert other is was or other.id == candidate.id
    assert f"Candidate {candidate.id} was redrawn" in again.findings.notices[-1]


def test_figures_of_a_redrawn_outline_are_those_of_the_files(analysis):
    candidate, shown = nearest(analysis, FIRST)
    drawn = ndimage.binary_erosion(shown > 0) * shown
    again = edited(analysis, candidate, outline_of(analysis, candidate, shown, drawn))
    found = next(c for c in again.findings.candidates if c.id == candidate.id)
    assert found.volume_ml != candidate.volume_ml
    assert rounded(found) == found


def test_no_place_is_named_where_the_brain_is_not_outlined(analysis):
    candidate, shown = nearest(analysis, FIRST)
    whole_head = PreparationStep(StepName.BRAIN, None, done=False, message="Skipped on request.")
    prepared = replace(analysis.prepared, steps=(*analysis.prepared.steps, whole_head))
    drawn = shown.copy()
    drawn[: shown.shape[0] // 3] = 0
    outline = outline_of(analysis, candidate, shown, drawn)
    for known, there in ((True, analysis), (False, replace(analysis, prepared=prepared))):
        found = edited(there, candidate, outline).findings
        assert (found.candidates[candidate.id - 1].location.region is not None) is known
        assert any("is not named" in words for words in found.notices) is not known


def test_undecided_enhancement_stays_unmeasurable_until_a_reader_outlines_it(analysis):
    """One voxel of oedema less made it a target, although its mean probability was .4."""
    candidate, _ = nearest(analysis, FIRST)
    labels, inside = analysis.volumes.labels, analysis.findings.components == candidate.id
    undecided = np.where(labels.data == Label.ENHANCING, np.float32(0.4), np.float32(0.0))
    probability = {**analysis.volumes.probability, Region.ET: Volume(undecided, labels.grid)}
    volumes = replace(analysis.volumes, probability=probability)
    doubtful = replace(candidate, rano_measurable=False)
    others = tuple(doubtful if c is candidate else c for c in analysis.findings.candidates)
    start = replace(
        analysis, volumes=volumes, findings=replace(analysis.findings, candidates=others)
    )
    drawn = np.where(inside, labels.data, np.uint8(0))
    drawn[tuple(np.argwhere(drawn == Label.OEDEMA)[0])] = 0
    by_reader = np.where(drawn > 0, np.uint8(Label.ENHANCING), np.uint8(0))
    for voxels, is_measurable in ((drawn, False), (by_reader, True)):
        outline = Outline.of(candidate.tracking_uid, voxels)
        found = edited(start, candidate, outline).findings.candidates[candidate.id - 1]
        assert found.rano_measurable is is_measurable


def test_the_networks_outline_is_kept_and_comes_back(analysis):
    candidate, shown = nearest(analysis, SECOND)
    drawn = np.where(shown == Label.OEDEMA, 0, shown).astype(np.uint8)
    again = edited(analysis, candidate, outline_of(analysis, candidate, shown, drawn))
    assert without_edits(again).findings is analysis.findings
    assert without_edits(again).volumes.labels is analysis.volumes.labels
    log = ReviewLog(again.review)
    log.undo()
    back = applied(replace(again, review=log.review))
    assert back.findings is analysis.findings
    assert back.original is None
    log.redo()
    forth = applied(replace(back, review=log.review))
    np.testing.assert_array_equal(forth.findings.components, again.findings.components)


def test_a_voxel_of_another_candidate_is_never_taken(analysis):
    candidate, shown = nearest(analysis, FIRST)
    other, theirs = nearest(analysis, SECOND)
    drawn = np.where(theirs > 0, np.uint8(Label.CORE), shown)
    outline = outline_of(analysis, candidate, shown, drawn)
    again = edited(analysis, candidate, outline)
    mine = analysis.findings.components == other.id
    np.testing.assert_array_equal(again.findings.components == other.id, mine)
    np.testing.assert_array_equal(
        again.volumes.labels.data[mine], analysis.volumes.labels.data[mine]
    )


def overlapped(analysis, theirs):
    """Outline all that is labelled as the first candidate, then `theirs` as the second one."""
    log = ReviewLog()
    outlines = (analysis.volumes.labels.data, theirs)
    for candidate, labels in zip(analysis.findings.candidates, outlines, strict=True):
        uid = candidate.tracking_uid
        log.decide(uid, ReviewState.EDITED, outline=Outline.of(uid, labels))
    return applied(replace(analysis, review=log.review))


def test_a_voxel_of_two_outlines_belongs_to_the_first_and_a_notice_states_the_volume(analysis):
    """Edits in the window never overlap; outlines that another program wrote may."""
    components, second = analysis.findings.components, analysis.findings.candidates[1]
    theirs = np.where(components == second.id, analysis.volumes.labels.data, 0).astype(np.uint8)
    theirs[0, 0, 0] = Label.CORE
    again = overlapped(analysis, theirs)
    taken_ml = np.count_nonzero(components == second.id) * analysis.volumes.labels.grid.voxel_ml
    notice = (
        f"{millilitres(taken_ml)} ml of the outline that a reader drew of candidate {second.id} "
        "lie in other candidates of this analysis and are counted there"
    )
    assert notice in again.findings.notices
    assert is_of_edits(notice)
    assert is_of_edits(notice.replace(millilitres(taken_ml), millilitres(1e-3), 1))
    assert np.count_nonzero(again.findings.components == second.id) == 1


def test_an_outline_within_another_one_is_not_placed(analysis):
    components, second = analysis.findings.components, analysis.findings.candidates[1]
    theirs = np.where(components == second.id, analysis.volumes.labels.data, 0).astype(np.uint8)
    again = overlapped(analysis, theirs)
    notices = [n for n in again.findings.notices if "keeps the outline of this analysis" in n]
    assert [n.split()[1] for n in notices] == [str(second.id)]
    assert is_of_edits(notices[0])
    np.testing.assert_array_equal(again.findings.components, components)
    assert again.findings.candidates[second.id - 1].volume_ml == second.volume_ml


def test_an_outline_with_nothing_in_it_is_refused(analysis):
    candidate, shown = nearest(analysis, FIRST)
    with pytest.raises(UnusableInputError, match="reject"):
        outline_of(analysis, candidate, shown, np.zeros_like(shown))


def test_a_later_decision_keeps_the_outline(analysis):
    candidate, shown = nearest(analysis, FIRST)
    drawn = np.where(shown == Label.OEDEMA, 0, shown).astype(np.uint8)
    outline = outline_of(analysis, candidate, shown, drawn)
    log = ReviewLog()
    log.decide(candidate.tracking_uid, ReviewState.EDITED, outline=outline)
    log.decide(candidate.tracking_uid, ReviewState.ACCEPTED)
    assert log.review.outline_of(candidate.tracking_uid) == outline
    log.undo()
    log.undo()
    assert log.review.outline_of(candidate.tracking_uid) is None


def drawn_ball(analysis, centre_mm, radius_mm=9.0):
    """Return labels on the working grid: a ball of enhancing tumour."""
    grid = analysis.prepared.working
    at = grid.to_mm(np.moveaxis(np.indices(grid.shape), 0, -1)) - np.asarray(centre_mm)
    return np.where((at**2).sum(-1) <= radius_mm**2, np.uint8(Label.ENHANCING), np.uint8(0))


def added(analysis, centre_mm, drawn=DrawingMethod.SEMIAUTOMATIC):
    ball = drawn_ball(analysis, centre_mm)
    outline = outline_of(analysis, new_tracking_uid(), np.zeros_like(ball), ball)
    log = ReviewLog(analysis.review)
    log.add(outline, drawn, reader="A", reason="missed")
    return applied(replace(analysis, review=log.review)), log


def test_what_a_reader_adds_is_measured_listed_last_and_taken_back(analysis):
    centre = (-30.0, -40.0, 10.0)
    again, log = added(analysis, centre)
    *before, new = again.findings.candidates
    assert tuple(before) == analysis.findings.candidates
    assert (new.id, new.source, new.drawn, new.score) == (
        len(before) + 1,
        Source.READER,
        DrawingMethod.SEMIAUTOMATIC,
        None,
    )
    assert np.linalg.norm(np.subtract(new.centroid_mm, centre)) < 4.0
    assert new.location.side == "left"
    voxels = again.findings.components == new.id
    assert new.volume_ml[Region.ET] == pytest.approx(
        np.count_nonzero(voxels) * again.volumes.labels.grid.voxel_ml
    )
    assert (again.volumes.labels.data[voxels] == Label.ENHANCING).all()
    assert again.findings.conclusion == "2 candidate regions; added by a reader: 1"
    log.undo()
    back = applied(replace(again, review=log.review))
    assert back.findings is analysis.findings
    log.redo()
    forth = applied(replace(back, review=log.review))
    assert forth.findings.candidates[-1].tracking_uid == new.tracking_uid


def test_parts_that_the_engine_did_not_segment_stay_unknown_in_both_halves_of_a_split(analysis):
    """The smaller half had 0 ml of core and enhancing part, which nobody measured."""
    whole = np.where(analysis.findings.components > 0, np.uint8(Label.OEDEMA), np.uint8(0))
    analysis = replace(
        analysis,
        volumes=replace(analysis.volumes, labels=Volume(whole, analysis.volumes.labels.grid)),
        findings=replace(
            analysis.findings,
            candidates=tuple(c.without_parts() for c in analysis.findings.candidates),
        ),
    )
    candidate, labels = nearest(analysis, FIRST)
    index = int(np.argwhere(labels)[:, 0].mean())
    smaller = labels.copy()
    smaller[index:] = 0
    larger = np.where(smaller > 0, np.uint8(0), labels)
    uid, log = new_tracking_uid(), ReviewLog()
    kept, separated = halves(analysis, candidate, uid, (labels, larger, smaller))
    with log.one_act():
        log.decide(candidate.tracking_uid, ReviewState.EDITED, outline=kept)
        log.add(separated, DrawingMethod.SEMIAUTOMATIC, reader="A")
    split = applied(replace(analysis, review=log.review)).findings
    for half in (split.candidate_of(candidate.tracking_uid), split.candidate_of(uid)):
        assert half.volume_ml[Region.WT] > 0
        assert half.volume_ml[Region.TC] is half.volume_ml[Region.ET] is None
        assert half.rano_measurable is None


def test_two_candidates_that_are_merged_are_one_and_come_apart_again(analysis):
    first, second = analysis.findings.candidates
    labels, components = analysis.volumes.labels.data, analysis.findings.components
    log = ReviewLog()
    with log.one_act():
        both = Outline(first.tracking_uid, (0, 0, 0), labels)
        log.decide(first.tracking_uid, ReviewState.EDITED, outline=both)
        gone = Outline.empty(second.tracking_uid)
        log.decide(second.tracking_uid, ReviewState.EDITED, outline=gone)
    one = applied(replace(analysis, review=log.review))
    (left,) = one.findings.candidates
    assert left.id == first.id
    np.testing.assert_array_equal(one.findings.components == first.id, components > 0)
    np.testing.assert_array_equal(one.volumes.labels.data, labels)
    log.undo()
    assert applied(replace(one, review=log.review)).findings is analysis.findings
    log.redo()
    assert len(applied(replace(one, review=log.review)).findings.candidates) == 1


def test_a_candidate_is_added_where_the_network_flagged_nothing(analysis):
    nothing = replace(
        analysis,
        findings=replace(
            analysis.findings,
            candidates=(),
            components=np.zeros_like(analysis.findings.components),
            conclusion="no candidate region",
        ),
    )
    again, _ = added(nothing, FIRST, DrawingMethod.MANUAL)
    (only,) = again.findings.candidates
    assert (only.id, only.drawn) == (1, DrawingMethod.MANUAL)
    assert again.findings.conclusion == "no candidate region; added by a reader: 1"
