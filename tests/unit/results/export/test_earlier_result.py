"""A result written where one of the same study lies: what readers decided stays, or is named."""

import json
from dataclasses import replace

import numpy as np
import pytest
from tests.phantoms.analysis import make_analysis, write_study

from lesionlens.analysis.findings.candidates import Evidence, describe
from lesionlens.analysis.findings.components import ComponentMask
from lesionlens.base.labels import Label, MrSequence, Region, ReviewState
from lesionlens.base.records.response import Response, SignedResponse
from lesionlens.base.records.review import (
    WHOLE_STUDY,
    Outline,
    Review,
    UnaidedMark,
    UnaidedRead,
)
from lesionlens.results.export.exporter import save
from lesionlens.results.export.result_files import KEPT
from lesionlens.results.review import store
from lesionlens.results.review.earlier import is_outline_unconfirmed
from lesionlens.results.review.log import ReviewLog
from lesionlens.results.review.outline_digests import (
    outlines_of,
)
from lesionlens.results.review.reopen import read_result
from lesionlens.testing import Lesion, make_patient

ALONE = UnaidedRead(
    "A. Reader",
    "2026-01-05T10:00:00Z",
    "2026-01-05T10:05:00Z",
    300.0,
    "one lesion",
    (UnaidedMark("2.25.7", (1.0, 2.0, 3.0), 80),),
)

STABLE = SignedResponse(
    Response.STABLE, "2025-03-04", "A. Reader", "2026-01-05T11:00:00Z"
)  # fmt: skip


@pytest.fixture(scope="module")
def analysis(tmp_path_factory):
    folder = tmp_path_factory.mktemp("analysed")
    lesions = (Lesion(), Lesion((30.0, -40.0, 12.0), 12.0))
    head = make_patient(spacing_mm=4.0, lesions=lesions)
    return make_analysis(head, write_study(head, folder, sequences=(MrSequence.T1C,)))


@pytest.fixture
def reviewed(analysis):
    """The first candidate accepted, the second drawn anew, and the study signed."""
    first, second = analysis.findings.candidates
    log = ReviewLog()
    log.decide(first.tracking_uid, ReviewState.ACCEPTED, reader="A. Reader")
    drawn = analysis.volumes.labels.data * (analysis.findings.components == second.id)
    outline = Outline(second.tracking_uid, (0, 0, 0), drawn.astype(np.uint8))
    log.decide(second.tracking_uid, ReviewState.EDITED, reader="A. Reader", outline=outline)
    log.decide(WHOLE_STUDY, ReviewState.ACCEPTED, reader="A. Reader", reason="nothing further")
    return replace(analysis, review=replace(log.review, unaided=(ALONE,)))


def with_uids(analysis, *uids):
    """The same candidates under other tracking UIDs, as a version that draws anew gives them."""
    named = zip(analysis.findings.candidates, uids, strict=True)
    candidates = tuple(replace(c, tracking_uid=uid) for c, uid in named)
    return replace(analysis, findings=replace(analysis.findings, candidates=candidates))


def drawn_smaller(analysis, number):
    """One candidate's outline lacks its lowest slice, under the same tracking UID."""
    found, labels = analysis.findings, analysis.volumes.labels
    lowest = np.argwhere(found.components == number)[:, 2].min()
    gone = found.components == number
    gone[:, :, lowest + 1 :] = False
    assert gone.any()
    return replace(
        analysis,
        findings=replace(found, components=np.where(gone, 0, found.components)),
        volumes=replace(
            analysis.volumes, labels=replace(labels, data=np.where(gone, 0, labels.data))
        ),
    )


def parts_swapped(analysis, started):
    """Two voxels of the first candidate swap their parts: another outline, equal figures."""
    labels = analysis.volumes.labels
    data, mine = labels.data.copy(), np.argwhere(analysis.findings.components == 1)
    kinds = data[tuple(mine.T)]
    one, other = tuple(mine[0]), tuple(mine[np.flatnonzero(kinds != kinds[0])[0]])
    data[one], data[other] = data[other], data[one]
    volumes = replace(analysis.volumes, labels=replace(labels, data=data))
    return replace(analysis, volumes=volumes, run=replace(analysis.run, started=started))


def mostly_gone(analysis, number):
    """A quarter of one candidate's voxels is left."""
    found, labels = analysis.findings, analysis.volumes.labels
    voxels = np.argwhere(found.components == number)
    gone = tuple(voxels[len(voxels) // 4 :].T)
    components, data = found.components.copy(), labels.data.copy()
    components[gone] = data[gone] = 0
    volumes = replace(analysis.volumes, labels=replace(labels, data=data))
    return replace(analysis, findings=replace(found, components=components), volumes=volumes)


def moved(analysis, number):
    """One candidate's outline lies one voxel beside, with the same shape and parts."""
    found, labels = analysis.findings, analysis.volumes.labels
    mine = found.components == number
    there = np.roll(mine, 1, axis=0)
    assert not (there & (found.components > 0) & ~mine).any()
    components = np.where(mine, 0, found.components)
    components[there] = number
    data = np.where(mine, 0, labels.data)
    data[there] = np.roll(labels.data, 1, axis=0)[there]
    volumes = replace(analysis.volumes, labels=replace(labels, data=data))
    return replace(analysis, findings=replace(found, components=components), volumes=volumes)


def without_second(analysis):
    """Only the first candidate is found this time."""
    found = analysis.findings
    ours = found.components == 1
    labels = analysis.volumes.labels
    return replace(
        analysis,
        findings=replace(
            found, candidates=found.candidates[:1], components=found.components * ours
        ),
        volumes=replace(
            analysis.volumes, labels=replace(labels, data=labels.data * ours.astype(np.uint8))
        ),
    )


def test_analysing_again_keeps_every_decision_and_the_signature(analysis, reviewed, tmp_path):
    save(reviewed, tmp_path / "out")
    _, notices = save(analysis, tmp_path / "out")
    assert store.load(tmp_path / "out") == reviewed.review
    assert any("were kept for 2 candidate(s)" in words for words in notices)
    assert not (tmp_path / "out" / KEPT).exists()


def test_a_candidate_drawn_a_little_otherwise_keeps_its_decision(analysis, reviewed, tmp_path):
    save(reviewed, tmp_path / "out")
    again = with_uids(drawn_smaller(analysis, 1), "2.25.11", "2.25.12")
    _, notices = save(again, tmp_path / "out")
    first, second = (c.tracking_uid for c in analysis.findings.candidates)
    review = store.load(tmp_path / "out")
    assert review.state_of(first) is ReviewState.ACCEPTED
    assert review.state_of(second) is ReviewState.EDITED
    assert review.outline_of(second) is not None
    assert any("1 of these candidates now have another outline" in words for words in notices)
    (kept,) = (tmp_path / "out" / KEPT).iterdir()
    assert store.load(kept) == reviewed.review


def test_decisions_stay_with_what_they_overlap_whatever_the_tracking_uids(
    analysis, reviewed, tmp_path
):
    first, second = (c.tracking_uid for c in analysis.findings.candidates)
    save(reviewed, tmp_path / "out")
    saved, notices = save(with_uids(analysis, second, first), tmp_path / "out")
    assert [c.tracking_uid for c in saved.findings.candidates] == [first, second]
    assert store.load(tmp_path / "out") == reviewed.review
    assert not any("another outline" in words for words in notices)


def two_lesions(analysis, *voxels):
    """Two lesions of so many voxels of 0.064 ml, 12 mm apart, described as by an engine."""
    grid = analysis.volumes.labels.grid
    centre = np.rint(grid.to_voxel((-12.0, 0.0, 0.0))).astype(int)
    components = np.zeros(grid.shape, np.int32)
    block = np.arange(20).reshape((2, 2, 5), order="F")
    for number, (count, shift) in enumerate(zip(voxels, (0, 3), strict=True), start=1):
        i, j, k = centre + np.array([shift, 0, 0])
        components[i : i + 2, j : j + 2, k : k + 5] = np.where(block < count, number, 0)
    labels = np.where(components, np.uint8(Label.OEDEMA), np.uint8(0))
    probability = {Region.WT: np.where(components, np.float32(0.9), np.float32(0.0))}
    found = describe(
        ComponentMask(labels, components, 2, grid),
        Evidence((0.9, 0.8), probability=probability),
        analysis.prepared,
        "study",
    )
    volumes = replace(analysis.volumes, labels=replace(analysis.volumes.labels, data=labels))
    return replace(analysis, findings=found, volumes=volumes)


def test_two_lesions_of_nearly_equal_volume_do_not_swap_decisions(analysis, tmp_path):
    """The larger was named first in a cell of 20 mm, and which is larger changes."""
    before, after = two_lesions(analysis, 16, 17), two_lesions(analysis, 18, 17)
    uids = [c.tracking_uid for c in before.findings.candidates]
    assert [c.tracking_uid for c in after.findings.candidates] == uids
    log = ReviewLog()
    for uid, state in zip(uids, (ReviewState.ACCEPTED, ReviewState.REJECTED), strict=True):
        log.decide(uid, state, reader="A. Reader")
    save(replace(before, review=log.review), tmp_path / "out")
    saved, _ = save(after, tmp_path / "out")
    assert [saved.review.state_of(uid) for uid in uids] == [
        ReviewState.ACCEPTED,
        ReviewState.REJECTED,
    ]


def test_an_overlap_continues_a_candidate_and_its_place_alone_does_not(
    analysis, reviewed, tmp_path
):
    """The first lost most voxels; the second's tracking UID comes up elsewhere."""
    first, second = (c.tracking_uid for c in analysis.findings.candidates)
    save(reviewed, tmp_path / "out")
    saved, notices = save(with_uids(mostly_gone(analysis, 1), second, "2.25.12"), tmp_path / "out")
    assert [c.tracking_uid for c in saved.findings.candidates] == [first, second]
    assert saved.review.state_of(first) is ReviewState.ACCEPTED
    assert not saved.review.signed
    assert any("1 of these candidates now have another outline" in words for words in notices)
    save(reviewed, tmp_path / "two")
    saved, notices = save(with_uids(without_second(analysis), second), tmp_path / "two")
    assert [c.tracking_uid for c in saved.findings.candidates] == [first]
    assert saved.review.of(second) is None
    assert any("Decisions on 1 candidate(s) that are no longer flagged" in n for n in notices)


def test_a_signature_vouches_for_the_outlines_that_were_seen(analysis, reviewed, tmp_path):
    save(reviewed, tmp_path / "out")
    _, notices = save(drawn_smaller(analysis, 1), tmp_path / "out")
    review = store.load(tmp_path / "out")
    first = analysis.findings.candidates[0].tracking_uid
    assert review.state_of(first) is ReviewState.ACCEPTED
    assert not review.signed
    assert any("must be signed again" in words for words in notices)
    assert any("another outline" in words for words in notices)


def test_an_outline_stays_unseen_until_a_reader_confirms_it(analysis, reviewed, tmp_path):
    """Analysed once more with the same outcome, it counted as what the reader had accepted."""
    save(reviewed, tmp_path / "out")
    first, second = (one.tracking_uid for one in analysis.findings.candidates)
    for started in ("2098-01-05T10:00:00+00:00", "2099-01-05T10:00:00+00:00"):
        _, notices = save(parts_swapped(analysis, started), tmp_path / "out")
        assert any("another outline" in words for words in notices)
        saved = read_result(tmp_path / "out")
        assert is_outline_unconfirmed(saved, first, outlines_of(saved))
        assert not is_outline_unconfirmed(saved, second, outlines_of(saved)), (
            "the outline that the reader drew is here"
        )
    assert json.loads((tmp_path / "out" / "run.json").read_text())["redrawn"] == [first]


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("change", [drawn_smaller, moved])
def test_each_outline_is_told_from_one_that_is_smaller_or_lies_elsewhere(analysis, change, number):
    candidates = analysis.findings.candidates
    before, after = outlines_of(analysis), outlines_of(change(analysis, number))
    differing = {c.id for c in candidates if before[c.tracking_uid] != after[c.tracking_uid]}
    assert differing == {number}


def test_what_does_not_fit_is_kept_beside_and_named(analysis, reviewed, tmp_path):
    save(reviewed, tmp_path / "out")
    notices = " ".join(save(without_second(analysis), tmp_path / "out")[1])
    review = store.load(tmp_path / "out")
    first = analysis.findings.candidates[0].tracking_uid
    assert {e.tracking_uid for e in review.events} == {first}
    assert review.unaided == (ALONE,)
    assert not review.signed
    assert "Decisions on 1 candidate(s)" in notices
    assert "must be signed again" in notices
    assert f"kept unchanged in {KEPT}/" in notices
    (kept,) = (tmp_path / "out" / KEPT).iterdir()
    assert store.load(kept) == reviewed.review


def test_an_unaided_read_without_a_decision_is_never_lost(analysis, tmp_path):
    alone = replace(analysis, review=Review(unaided=(ALONE,)))
    save(alone, tmp_path / "out")
    save(analysis, tmp_path / "out")
    assert store.load(tmp_path / "out").unaided == (ALONE,)
    log = ReviewLog()
    log.decide(analysis.findings.candidates[0].tracking_uid, ReviewState.ACCEPTED)
    save(replace(analysis, review=log.review), tmp_path / "out")
    found = store.load(tmp_path / "out")
    assert (found.unaided, found.events) == ((ALONE,), log.review.events)


@pytest.mark.parametrize("there", [Review(unaided=(ALONE,)), Review(responses=(STABLE,))])
def test_a_response_that_is_signed_without_a_decision_is_never_lost(analysis, tmp_path, there):
    """A review without decisions was replaced by that in the folder, with what was signed now."""
    later = replace(STABLE, time="2026-01-05T12:00:00Z", category=Response.PROGRESSION)
    save(replace(analysis, review=there), tmp_path / "out")
    save(replace(analysis, review=Review(responses=(later,))), tmp_path / "out")
    review = store.load(tmp_path / "out")
    assert (review.response, review.unaided) == (later, there.unaided)
    assert set(there.responses) < set(review.responses)


def test_a_signed_response_that_a_new_review_lacks_is_kept_beside(analysis, tmp_path):
    save(replace(analysis, review=Review(responses=(STABLE,))), tmp_path / "out")
    other = replace(analysis, run=replace(analysis.run, inputs=(("t1c.nii.gz", "f" * 64),)))
    notices = " ".join(save(other, tmp_path / "out")[1])
    assert f"kept unchanged in {KEPT}/" in notices
    (kept,) = (tmp_path / "out" / KEPT).iterdir()
    assert store.load(kept).response == STABLE


def test_the_review_of_another_study_is_kept_beside_and_decides_nothing(
    analysis, reviewed, tmp_path
):
    save(reviewed, tmp_path / "out")
    other = replace(analysis, run=replace(analysis.run, inputs=(("t1c.nii.gz", "f" * 64),)))
    notices = " ".join(save(other, tmp_path / "out")[1])
    assert store.load(tmp_path / "out") == Review()
    assert f"kept unchanged in {KEPT}/" in notices
    (kept,) = (tmp_path / "out" / KEPT).iterdir()
    assert store.load(kept) == reviewed.review


def test_a_damaged_review_is_kept_beside_and_named(analysis, reviewed, tmp_path):
    save(reviewed, tmp_path / "out")
    (tmp_path / "out" / "review.json").write_text("{")
    notices = " ".join(save(analysis, tmp_path / "out")[1])
    assert f"kept unchanged in {KEPT}/" in notices
    (kept,) = (tmp_path / "out" / KEPT).iterdir()
    assert (kept / "review.json").read_text() == "{"
