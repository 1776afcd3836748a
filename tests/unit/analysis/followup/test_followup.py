"""A patient over time: aligned, matched, measured; on synthetic heads of known growth."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian
from tests.phantoms.analysis import make_analysis, write_study
from tests.phantoms.files import write_dicom
from tests.phantoms.headers import PatientIdentity

from lesionlens.analysis.findings.edits import applied
from lesionlens.analysis.followup import compare as steps
from lesionlens.analysis.followup import study_locations
from lesionlens.analysis.followup.alignment import changed
from lesionlens.analysis.followup.compare import EARLIER_LEFT_OUT, compare
from lesionlens.analysis.followup.matching import match
from lesionlens.analysis.followup.patient import (
    NO_COMPARISON,
    Examination,
    Prior,
    check_same_patient,
    examination_of,
    examination_of_result,
)
from lesionlens.analysis.followup.sums import sum_lines
from lesionlens.base.errors import PatientConflictError, UnusableInputError
from lesionlens.base.grid import Grid
from lesionlens.base.labels import DrawingMethod, Identity, MrSequence, Region, ReviewState
from lesionlens.base.records.arrays import Volume
from lesionlens.base.records.export import ExportOptions
from lesionlens.base.records.followup import (
    Alignment,
    Change,
    Comparison,
    LesionMeasurement,
    TimePoint,
    own_uids,
    percent,
    with_edits,
)
from lesionlens.base.records.patient import Patient
from lesionlens.base.records.response import (
    Response,
)
from lesionlens.base.records.review import Outline
from lesionlens.base.records.study import failed_check
from lesionlens.base.run_context import RunContext
from lesionlens.cli.comparison import table_of
from lesionlens.cli.response import response as command
from lesionlens.imaging.preparation.identity_checks import swap_notice
from lesionlens.imaging.preparation.registration import Registration
from lesionlens.imaging.reading.open import open_study
from lesionlens.napari.model.wording.followup import lines_of, shown_followup, sums_of
from lesionlens.results.export.dicom.groups import _change_text
from lesionlens.results.export.exporter import save
from lesionlens.results.export.followup import FollowupSection, section_of
from lesionlens.results.export.page import Page
from lesionlens.results.export.report import report_html
from lesionlens.results.export.sentence import Sentences
from lesionlens.results.review import reopen, store
from lesionlens.results.review.log import ReviewLog
from lesionlens.results.review.prior import find_prior, latest_result_before, open_prior
from lesionlens.results.review.reopen import read_result
from lesionlens.testing import Lesion, make_patient

LEFT, RIGHT, ELSEWHERE = (-28.0, 8.0, 26.0), (34.0, -40.0, 30.0), (30.0, 20.0, 30.0)
TURN = np.deg2rad(6)
SHARED = (MrSequence.T1C, MrSequence.FLAIR)

SOMEBODY = Patient("x")


def moved_head() -> np.ndarray:
    """A turn of 6 degrees about the vertical axis, and a shift of 7 mm."""
    out = np.eye(4)
    out[:2, :2] = [[np.cos(TURN), -np.sin(TURN)], [np.sin(TURN), np.cos(TURN)]]
    out[:3, 3] = (4.0, -3.0, 5.0)
    return out


def analysis_of(folder: Path, lesions, moved=None):
    head = make_patient(5, spacing_mm=4.0, lesions=lesions)
    made = make_analysis(head, write_study(head, folder, sequences=SHARED))
    if moved is None:
        return made
    prepared = made.prepared
    working, native = (Grid(g.shape, moved @ g.affine) for g in (prepared.working, prepared.native))
    likely = {r: Volume(v.data, native) for r, v in made.volumes.probability.items()}
    volumes = replace(made.volumes, probability=likely)
    prepared = replace(prepared, working=working, native=native)
    return replace(made, prepared=prepared, volumes=volumes)


@pytest.fixture(scope="module")
def before(tmp_path_factory):
    folder = tmp_path_factory.mktemp("then") / "head"
    return analysis_of(folder, (Lesion(LEFT, 15.0), Lesion(RIGHT, 9.0)))


@pytest.fixture(scope="module")
def now(tmp_path_factory):
    folder = tmp_path_factory.mktemp("now") / "head"
    return analysis_of(folder, (Lesion(LEFT, 18.0), Lesion(ELSEWHERE, 9.0)), moved_head())


@pytest.fixture(scope="module")
def compared(before, now):
    log = ReviewLog()
    log.decide(now.findings.candidates[0].tracking_uid, ReviewState.ACCEPTED, reader="A")
    then = Examination(SOMEBODY, "2026-01-05", "1.2.3")
    return compare(
        replace(now, review=log.review),
        Examination(SOMEBODY, "2026-03-05"),
        Prior(then, before),
    )


@pytest.fixture
def laid_before(compared, monkeypatch):
    """Lay examinations where `compared` found them; searching takes seconds."""
    found = compared.followup.alignment
    laid = Registration(np.asarray(found.matrix), 0.0, 0.0, information=1.0, peak_height=1.0)
    monkeypatch.setattr(steps, "align", lambda *_, **__: (laid, MrSequence.T1C))


def test_the_prior_is_laid_onto_this_examination(compared, now):
    points = now.prepared.working.to_mm(np.argwhere(now.prepared.brain)[::50])
    true = np.linalg.inv(moved_head())
    apart = [(m[:3, :3] @ points.T + m[:3, 3:]).T
             for m in (true, np.asarray(compared.followup.alignment.matrix))]  # fmt: skip
    assert np.linalg.norm(apart[0] - apart[1], axis=1).max() < 1.0
    assert compared.followup.alignment.angle_deg == pytest.approx(6, abs=0.5)
    assert not compared.followup.alignment.doubtful


@pytest.mark.parametrize("swapped", [False, True])
def test_swapped_sides_are_told_and_the_alignment_is_doubtful(
    before, now, laid_before, monkeypatch, swapped
):
    monkeypatch.setattr(steps, "seems_mirrored", lambda *_, **__: swapped)
    then = Prior(Examination(SOMEBODY, "2026-01-05"), before)
    found = compare(now, Examination(SOMEBODY, "2026-03-05"), then)
    assert any("seems mirrored" in one for one in found.warnings) is swapped
    assert found.followup.alignment.doubtful is swapped
    assert ("left and right swapped" in shown_followup(found).doubt) is swapped
    assert ("left and right swapped" in table_of(found)[0]) is swapped
    assert ("left and right swapped" in section_of(found).doubtful) is swapped


@pytest.mark.parametrize("part", ["weights", "release", "neither"])
def test_a_prior_of_other_weights_or_of_another_release_says_so_beside_the_change(
    before, now, laid_before, monkeypatch, tmp_path, part
):
    """Other weights alone moved the volume of an unchanged lesion by several percent."""
    monkeypatch.setattr(study_locations, "location_file", lambda: tmp_path / "studies.json")
    run = before.run
    if part == "weights":
        run = replace(run, engine=replace(run.engine, weights_sha256="0123456789" * 6 + "abcd"))
    elif part == "release":
        run = replace(run, versions={**run.versions, "lesionlens": "0.1"})
    then = Prior(Examination(SOMEBODY, "2026-01-05"), replace(before, run=run))
    found = compare(now, Examination(SOMEBODY, "2026-03-05"), then)
    save(found, tmp_path / "out")
    again = read_result(tmp_path / "out")
    other = {"weights": "weights 01234567", "release": "LesionLens 0.1", "neither": "different"}
    shown = (
        *(w for w in again.run.notices if "outlined by different networks" in w),
        shown_followup(found).doubt,
        table_of(found)[0],
        section_of(found).doubtful,
    )
    assert len(shown) == (3 if part == "neither" else 4)
    assert all((other[part] in text) is (part != "neither") for text in shown), shown
    one = next(c.now.tracking_uid for c in found.followup.changes if c.now and c.before)
    candidate = next(c for c in found.findings.candidates if c.tracking_uid == one)
    assert ("comparison is doubtful" in Sentences(found).of(candidate)) is (part != "neither")
    assert ("(doubtful comparison)" in _change_text(found, candidate)) is (part != "neither")
    assert again.followup.points[0].made_by == then.analysis.run.made_by
    assert (len(again.followup.makers) > 1) is (part != "neither")


def test_a_lesion_keeps_its_name_and_its_growth_is_measured(compared, before):
    kinds = [change.kind for change in compared.followup.changes]
    assert sorted(kinds) == ["gone", "matched", "new"]
    grown = next(c for c in compared.followup.changes if c.kind == "matched")
    old = before.findings.candidates[grown.before.id - 1]
    new = compared.findings.candidates[grown.now.id - 1]
    assert new.tracking_uid == old.tracking_uid == grown.now.tracking_uid
    true = 100 * (new.volume_ml[Region.WT] / old.volume_ml[Region.WT] - 1)
    assert grown.volume_percent == pytest.approx(true)
    assert 60 < grown.volume_percent < 85  # a radius of 18 instead of 15 mm: +73%
    gone = next(c for c in compared.followup.changes if c.kind == "gone")
    assert gone.volume_percent is None


def test_a_lesion_that_is_back_keeps_its_name(compared, before, tmp_path, monkeypatch):
    """It was new, with a name of its own, and missing in the sum of the targets."""
    matrix = np.linalg.inv(compared.followup.alignment.matrix)
    laid = Registration(matrix, 0.0, 0.0, information=1.0, peak_height=1.0)
    monkeypatch.setattr(steps, "align", lambda *_, **__: (laid, MrSequence.T1C))
    save(compared, tmp_path / "then")
    stored = read_result(tmp_path / "then").followup
    assert [(one.tracking_uid, one.at_mm) for one in stored.gone] == [
        (one.tracking_uid, pytest.approx(one.at_mm, abs=1e-3)) for one in compared.followup.gone
    ]
    then = Prior(Examination(SOMEBODY, "2026-03-05"), replace(compared, followup=stored))
    lesions = (Lesion(LEFT, 12.0), Lesion(RIGHT, 8.0), Lesion((30.0, 20.0, 55.0), 6.0))
    last = analysis_of(tmp_path / "head", lesions)
    found = compare(last, Examination(SOMEBODY, "2026-05-05"), then)
    gone = next(c.before for c in compared.followup.changes if c.kind == "gone")
    one = next(c for c in found.followup.changes if c.shown.tracking_uid == gone.tracking_uid)
    assert (one.kind, one.now.place) == ("new", gone.place)
    curve = [ml > 0 for _, ml in found.followup.curve(gone.tracking_uid)]
    assert curve == [True, False, True]
    said = "flagged before (2026-01-05), not at the earlier examination"
    assert sum(row.note == said for row in section_of(found).rows) == 1
    assert sum(said in line for _, line in lines_of(found)) == 1
    assert {c.kind for c in found.followup.changes} == {"matched", "new", "gone"}
    (left,) = found.followup.gone
    assert left.tracking_uid not in {c.tracking_uid for c in found.findings.candidates}


def test_the_command_says_which_response_is_signed_and_whether_it_is_out_of_date(
    compared, tmp_path
):
    """It proposed anew without a word on the signature."""
    out = tmp_path / "out"
    save(compared, out)
    assert not any("Signed" in line for line in command(out).output)
    command(out, sign="B.  Rea\x1bder ", category=Response.STABLE)
    assert "Signed by B. Reader: SD (stable disease)" in command(out).output
    assert read_result(out).review.response.reader == "B. Reader", "the name of any other act"
    grown = next(c.now for c in compared.followup.changes if c.kind == "matched")
    log = ReviewLog(read_result(out).review)
    log.decide(grown.tracking_uid, ReviewState.REJECTED, reader="B. Reader")
    store.save(replace(compared, review=log.review), out)
    said = next(line for line in command(out).output if "Signed by" in line)
    basis = "based on other measurements or decisions"
    assert said.endswith(f"SD (stable disease), {basis}: sign it again or withdraw it")


def test_a_response_is_not_signed_on_decisions_that_changed_meanwhile(
    compared, tmp_path, monkeypatch
):
    """The draft was computed before the review was locked."""
    out = tmp_path / "out"
    save(compared, out)
    grown = next(c.now for c in compared.followup.changes if c.kind == "matched")
    read, log = reopen.read_reviewed, ReviewLog(compared.review)
    log.decide(grown.tracking_uid, ReviewState.REJECTED, reader="B. Reader")

    def read_and_decided(folder):
        saved = read(folder)
        store.save(replace(compared, review=log.review), folder)
        return saved

    with monkeypatch.context() as patched:
        patched.setattr(reopen, "read_reviewed", read_and_decided)
        with pytest.raises(UnusableInputError):
            command(out, sign="B. Reader", category=Response.STABLE)
    assert store.load(out).events == log.review.events
    assert not store.load(out).responses
    command(out, sign="B. Reader", category=Response.STABLE)
    assert [one.category for one in store.load(out).responses] == ["SD"]


def test_a_cavity_that_a_reader_drew_after_comparing_counts(compared):
    before, last = compared.followup.points
    grid = compared.volumes.labels.grid
    assert compared.compared.resection is None
    untreated = replace(before, contrast=True, lesions=(enhancing(before.lesions[0], 8.0),))
    left = tuple(enhancing(c, 0.0) for c in compared.findings.candidates)
    treated = replace(
        compared,
        followup=replace(compared.followup, points=(untreated, last)),
        findings=replace(compared.findings, candidates=left),
    )
    cavity = Volume(np.ones(grid.shape, bool), grid)
    drawn = replace(treated, volumes=replace(treated.volumes, cavity=cavity))
    assert treated.compared.resection is None
    found = drawn.compared
    assert found.points[-1].cavity_ml == drawn.volumes.cavity_ml > 0
    assert found.resection is not None
    assert found.resection.percent == 100.0
    erased = replace(drawn, volumes=replace(drawn.volumes, cavity=None), followup=found)
    assert erased.compared.resection is None


def test_what_a_reader_merged_or_undid_after_comparing_is_no_longer_listed(compared):
    """A split that was undone stayed among the changes, and what was merged counted twice."""
    found, candidates = compared.followup, compared.findings.candidates
    new = next(c.now for c in found.changes if c.kind == "new")
    grown = next(c.now for c in found.changes if c.kind == "matched")

    def merged(kept, gone):
        log = ReviewLog()
        with log.one_act():
            log.decide(kept.tracking_uid, ReviewState.EDITED)
            log.decide(
                gone.tracking_uid, ReviewState.EDITED, outline=Outline.empty(gone.tracking_uid)
            )
        left = [c for c in candidates if c.tracking_uid != gone.tracking_uid]
        return with_edits(found, left, log.review, None).changes, log

    changes, _ = merged(grown, new)
    assert [c.now.id for c in changes if c.now] == [c.id for c in candidates if c.id != new.id]
    changes, log = merged(new, grown)
    (gone,) = (c for c in changes if c.before and c.before.tracking_uid == grown.tracking_uid)
    assert (gone.kind, gone.beside) == ("merged", (new.id,))
    log.undo()
    again = with_edits(found, candidates, log.review, None).changes
    assert [(c.kind, c.beside) for c in again] == [(c.kind, c.beside) for c in found.changes]
    undone = with_edits(found, [c for c in candidates if c.id != new.id], ReviewLog().review, None)
    assert "new" not in [c.kind for c in undone.changes]


def test_what_a_reader_split_after_comparing_is_a_part_of_the_earlier_lesion_not_new(compared):
    """The draft of a response proposed progression by a new lesion."""
    found, candidates = compared.followup, compared.findings.candidates
    grown = next(c for c in found.changes if c.kind == "matched")
    new = next(c.now for c in found.changes if c.kind == "new")

    def after(*parts):
        log, now = ReviewLog(), list(candidates)
        for whole, uid in parts:
            half = Outline(uid, (0, 0, 0), np.ones((2, 2, 2), np.uint8))
            with log.one_act():
                log.decide(whole, ReviewState.EDITED)
                log.add(half, DrawingMethod.MANUAL)
            now.append(replace(candidates[0], id=len(now) + 1, tracking_uid=uid))
        at = with_edits(found, now, log.review, None)
        last = next(c for c in at.changes if c.now and c.now.tracking_uid == parts[-1][1])
        return at, last

    at, half = after((grown.now.tracking_uid, "9.1"))
    assert (half.kind, half.beside) == ("split", (grown.before.id,))
    assert {"9.1", grown.now.tracking_uid} <= set(at.tangled_now)
    _, quarter = after((grown.now.tracking_uid, "9.1"), ("9.1", "9.2"))
    assert (quarter.kind, quarter.beside) == ("split", (grown.before.id,))
    assert after((new.tracking_uid, "9.1"))[1].kind == "new"


def test_what_a_reader_rejected_is_not_called_new_in_the_impression(compared):
    new = next(c.now for c in compared.followup.changes if c.kind == "new")
    log = ReviewLog(compared.review)
    before = section_of(compared)
    log.decide(new.tracking_uid, ReviewState.REJECTED, reader="A")
    after = section_of(replace(compared, review=log.review))
    assert ("1 new" in before.summary, "0 new" in after.summary) == (True, True)
    assert [row.note.endswith("rejected") for row in after.rows].count(True) == 1
    assert not any("rejected" in row.note for row in before.rows)


def enhancing(one, ml):
    return replace(one, volume_ml={**one.volume_ml, Region.ET: ml})


def test_an_examination_is_no_earlier_one_of_itself(
    before, now, compared, laid_before, monkeypatch
):
    """Compared both ways, it stood twice in the curves, and was its own baseline."""
    told = "The earlier result was itself compared with this examination"
    undated = Examination(SOMEBODY)
    for reversed_ in (compared, compare(compared, undated, Prior(undated, before))):
        again = compare(before, undated, Prior(undated, reversed_))
        assert len(again.followup.points) == 2
        assert any(told in one for one in again.warnings)
    assert not any(told in one for one in compared.warnings)


def test_failed_checks_of_the_prior_are_stated_until_it_is_compared_with_another(
    before, now, laid_before, monkeypatch
):
    """Swapped names of a prior study were found as it was analysed, and nobody was told."""
    mine, then = Examination(SOMEBODY, "2026-03-05"), Examination(SOMEBODY, "2026-01-05")
    doubt = swap_notice((MrSequence.T2, MrSequence.FLAIR))
    common = "This examination has this fault too."
    checks = [failed_check("names", doubt), failed_check("noise", common)]
    doubtful = before.with_findings(lambda found: replace(found, quality=(*checks,)))
    here = now.with_findings(lambda found: replace(found, quality=(checks[1],)))
    stated = f"Of the earlier examination: {doubt}"
    found = compare(here, mine, Prior(then, doubtful))
    assert found.warnings.count(stated) == 1
    assert not any(common in text for text in found.warnings if text != common)
    run = replace(found.run, notices=(f"Stated in the report that was opened: {stated}", stated))
    again = compare(replace(found, run=run), mine, Prior(then, before))
    assert not any(stated in text for text in again.warnings)


@pytest.mark.parametrize("stated", ["", "Stated in the report that was opened: "])
def test_examinations_that_a_prior_from_an_archive_lacks_are_named_as_left_out(
    before, now, laid_before, monkeypatch, stated
):
    """The baseline of its response was lost without a word: the prior became the baseline."""
    mine, then = Examination(SOMEBODY, "2026-03-05"), Examination(SOMEBODY, "2026-01-05")
    run = replace(before.run, notices=(f"{stated}{NO_COMPARISON}",))
    lacking = compare(now, mine, Prior(then, replace(before, run=run)))
    assert lacking.warnings.count(EARLIER_LEFT_OUT) == 1
    next_one = replace(now, study=replace(now.study, uid="1.2.9"))
    later = compare(next_one, Examination(SOMEBODY, "2026-06-05"), Prior(mine, lacking))
    assert later.warnings.count(EARLIER_LEFT_OUT) == 1
    assert EARLIER_LEFT_OUT not in compare(lacking, mine, Prior(then, before)).warnings


def test_a_reader_is_told_where_nothing_says_whose_the_examinations_are(
    compared, before, now, laid_before, monkeypatch
):
    told = "Neither names nor headers show that the earlier examination is of the same patient"
    assert not any(told in one for one in compared.warnings)
    untold = compare(now, Examination(SOMEBODY, "2026-03-05"), Prior(Examination(), before))
    again = compare(untold, Examination(), Prior(Examination(SOMEBODY), before))
    assert sum(told in one for one in again.warnings) == 1
    assert shown_followup(again).doubt.startswith(told)


@pytest.mark.parametrize(
    ("prior_date", "date"), [("", "2026-03-05"), ("2026-03-05", "2026-03-05"), ("pre", "post")]
)
def test_a_reader_is_told_where_nothing_says_which_examination_is_earlier(
    compared, before, now, laid_before, monkeypatch, prior_date, date
):
    told = "Nothing shows that the earlier examination is the earlier one"
    assert not any(told in one for one in compared.warnings)
    then = Prior(Examination(SOMEBODY, prior_date), before)
    untold = compare(now, Examination(SOMEBODY, date), then)
    assert sum(told in one for one in untold.warnings) == 1
    assert told in shown_followup(untold).doubt


def test_what_a_reader_decided_goes_on_under_the_new_name(compared):
    uid = next(c.now.tracking_uid for c in compared.followup.changes if c.now and c.now.id == 1)
    assert compared.review.state_of(uid) is ReviewState.ACCEPTED


def test_an_unseen_outline_is_named_by_its_new_tracking_uid(
    before, now, compared, laid_before, monkeypatch
):
    """After a comparison its decision counted as one on the outline that is there."""
    first, second = (one.tracking_uid for one in now.findings.candidates)
    run = replace(now.run, redrawn=frozenset({first, second}))
    then = Prior(Examination(SOMEBODY, "2026-01-05", "1.2.3"), before)
    found = compare(replace(now, run=run), Examination(SOMEBODY, "2026-03-05"), then)
    assert found.run.redrawn == {one.tracking_uid for one in compared.findings.candidates}
    assert found.run.redrawn != run.redrawn


def test_lesions_that_split_or_merge_say_so():
    grid = Grid((30, 10, 10), np.eye(4))
    one, two = np.zeros((2, *grid.shape), np.int32)
    one[5:25, 3:7, 3:7] = 1
    two[5:12, 3:7, 3:7], two[14:25, 3:7, 3:7] = 1, 2
    split = match(Volume(one, grid), Volume(two, grid), np.eye(4))
    assert split.pairs == ((1, 2),)  # the larger part
    assert split.further == ((1, 1),)
    merged = match(Volume(two, grid), Volume(one, grid), np.eye(4))
    assert len(merged.pairs) == len(merged.further) == 1
    away = np.roll(one, 0) * 0
    away[0, 0, 0] = 1
    far = Grid(grid.shape, np.diag([1.0, 1.0, 1.0, 1.0]) + np.eye(4, k=3) * 40)
    assert match(Volume(one, grid), Volume(away, far), np.eye(4)).pairs == ()


def measured(number: int, ml: float) -> LesionMeasurement:
    return LesionMeasurement(f"2.25.{number}", number, "here", {Region.WT: ml}, None, None, None)


def test_a_part_of_an_earlier_lesion_is_not_called_new_and_what_merged_not_gone():
    split = Change(None, measured(2, 4.0), beside=(1,))
    kept = Change(measured(1, 10.0), measured(1, 7.0))
    merged = Change(measured(3, 1.0), None, beside=(3,))
    grown, alone = Change(measured(4, 2.0), measured(3, 3.3)), Change(None, measured(9, 1.0))
    laid = Alignment(((1.0, 0.0, 0.0, 0.0),) * 3 + ((0.0, 0.0, 0.0, 1.0),), 0.0, 0.0, False, "T1c")
    found = Comparison((), (kept, split, merged, grown, alone), laid)
    assert [c.kind.value for c in found.changes] == ["matched", "split", "merged", "matched", "new"]
    assert found.linked_total_ml(kept) == found.linked_total_ml(split) == (10.0, 11.0)
    assert found.linked_total_ml(grown) == (3.0, 3.3)
    assert found.linked_total_ml(alone) is None
    page = FollowupSection(found).note(kept)
    assert "10.0 ml → 11.0 ml, +10%" in page


def test_diameters_of_the_whole_are_not_compared_with_those_of_the_enhancing_part():
    whole = LesionMeasurement(
        "2.25.1", 1, "here", {Region.WT: 29.5, Region.ET: 0.0}, 45.0, 36.0, False
    )
    part = LesionMeasurement(
        "2.25.1", 1, "here", {Region.WT: 45.1, Region.ET: 0.6}, 12.0, 4.0, False
    )
    larger = replace(part, longest_mm=24.0)
    assert Change(whole, part).product_percent is None
    assert Change(part, larger).product_percent == pytest.approx(100.0)
    assert Change(whole, part).volume_percent == pytest.approx(100 * (45.1 / 29.5 - 1))
    points = tuple(
        TimePoint("", None, (replace(one, measurable=True),)) for one in (whole, part, larger)
    )
    laid = Alignment(((1.0, 0.0, 0.0, 0.0),) * 3 + ((0.0, 0.0, 0.0, 1.0),), 0.0, 0.0, False, "T1c")
    sums = Comparison(points, (Change(part, larger),), laid).sums()
    assert sums == ((0.0, 0.0), (48.0, 0.6), (96.0, 0.6))  # of the enhancing part
    unknown = replace(points[2], lesions=(replace(larger, volume_ml={Region.WT: 45.1}),))
    later = Comparison((*points[:2], unknown), (Change(part, larger),), laid)
    assert later.sums()[1:] == ((48.0, 0.6), (None, None))
    assert "enhancing volume unknown, product of diameters unknown." in sums_of(later)


def test_sums_are_of_the_enhancing_part(compared):
    """Volumes were of the whole region, of which the limits of RANO 2.0 do not speak."""
    before = LesionMeasurement("1", 1, "here", {Region.WT: 60.0, Region.ET: 10.0}, 30.0, 20.0, True)
    now = replace(before, volume_ml={Region.WT: 58.0, Region.ET: 3.4})
    laid = compared.followup.alignment
    points = (TimePoint("2026-01-05", None, (before,), True), TimePoint("", None, (now,), True))
    found = Comparison(points, (Change(before, now),), laid)
    assert "baseline 2026-01-05: 10.00 → 3.40 ml, -66.0% (limit -65%)" in sum_lines(found)
    assert sums_of(found).startswith(
        "1 measurable: enhancing volume -66.0%, product of diameters +0.0%."
    )
    (row,) = FollowupSection(found).sums
    assert row.volumes == ("10.0 ml", "3.4 ml")
    assert row.changes[0] == "-66.0%"
    assert "enhancing part" in row.location


def test_what_changed_is_left_out_of_the_alignment(before):
    out = changed(before)
    lesions = np.argwhere(before.findings.components > 0)
    at = np.rint(out.grid.to_voxel(before.prepared.native.to_mm(lesions))).astype(int)
    assert out.data[tuple(at.T)].mean() > 0.95
    assert out.data.mean() < 0.2
    whole = replace(before.findings, components=np.ones_like(before.findings.components))
    assert changed(replace(before, findings=whole)) is None  # nothing would be left


def test_the_comparison_is_written_and_read_back(compared, tmp_path, monkeypatch):
    monkeypatch.setattr(study_locations, "location_file", lambda: tmp_path / "studies.json")
    out = tmp_path / "result"
    save(compared, out)
    read = read_result(out).followup
    assert read.alignment.matrix == compared.followup.alignment.matrix
    assert read.own_uids == compared.followup.own_uids
    assert read.own_uids
    assert [p.date for p in read.points] == [p.date for p in compared.followup.points]
    for one, other in zip(read.changes, compared.followup.changes, strict=True):
        assert (one.kind, one.beside) == (other.kind, other.beside)
        assert one.volume_percent == pytest.approx(other.volume_percent, abs=0.01)
    content = json.loads((out / "followup.json").read_text())
    assert {row["kind"] for row in content["changes"]} == {"gone", "matched", "new"}
    page = (out / "report.html").read_text()
    assert "Comparison with earlier examinations" in page
    assert "2026-01-05" in page
    assert "<polyline" in page
    assert "the reader decides on the category" in page
    at_rest = Registration(np.eye(4), 0.0, 0.0, information=1.0, peak_height=1.0)
    monkeypatch.setattr(steps, "align", lambda *_, **__: (at_rest, MrSequence.T1C))
    again = compare(
        compared,
        Examination(SOMEBODY, "2026-05-05"),
        Prior(Examination(SOMEBODY, "2026-03-05"), compared),
    )
    assert [p.date for p in again.followup.points] == ["2026-01-05", "2026-03-05", "2026-05-05"]
    assert again.followup.days() == (0, 59, 120)
    assert all(abs(c.volume_percent) < 1e-6 for c in again.followup.changes)
    assert len(Page(again).followup.sums) == 3


def test_the_own_uids_stay_known_through_several_comparisons(now, before, compared, laid_before):
    """A log holds them: decisions on a result are found whether or not it was compared."""
    own = {c.id: c.tracking_uid for c in now.findings.candidates}
    candidates = tuple(replace(c, tracking_uid=f"2.25.{c.id}") for c in before.findings.candidates)
    other = replace(before, findings=replace(before.findings, candidates=candidates))
    then = Examination(SOMEBODY, "2025-12-05", "1.2.2")
    again = compare(compared, Examination(SOMEBODY, "2026-03-05"), Prior(then, other))
    matched = 0
    for one in (compared, again):
        names = own_uids(one.followup)
        for c in one.findings.candidates:
            assert names.get(c.tracking_uid, c.tracking_uid) == own[c.id]
            matched += c.tracking_uid != own[c.id]
    assert matched == 2
    assert compared.findings.candidates != again.findings.candidates


def test_days_are_hidden_where_that_is_asked_for(compared):
    hidden = replace(compared, options=ExportOptions(hidden=frozenset({Identity.DATE})))
    assert "2026-01-05" not in report_html(hidden)


def test_the_study_of_a_prior_result_is_found_where_it_was(before, now, tmp_path, monkeypatch):
    monkeypatch.setattr(study_locations, "location_file", lambda: tmp_path / "studies.json")
    for module in ("prior", "reopen"):
        monkeypatch.setattr(f"lesionlens.results.review.{module}.paired", lambda _, study: study)
    out = tmp_path / "results" / "then"
    save(before, out)
    with pytest.raises(UnusableInputError, match="prior-study"):
        find_prior(out, now.study)
    study_locations.remember(before.run.inputs, before.study)
    found = find_prior(out, now.study)
    assert found.study.root == before.study.root
    monkeypatch.setattr("lesionlens.results.review.reopen.prepare", lambda *_: before.prepared)
    prior = open_prior(found, RunContext())
    uids = [c.tracking_uid for c in prior.analysis.findings.candidates]
    assert uids == [c.tracking_uid for c in before.findings.candidates]
    with pytest.raises(UnusableInputError, match="names neither patient nor date"):
        find_prior(out.parent, now.study)


def test_no_examination_is_its_own_prior(before, now, tmp_path, monkeypatch):
    """Its own result was compared with it, and stable disease could be signed."""
    monkeypatch.setattr(study_locations, "location_file", lambda: tmp_path / "studies.json")
    out = tmp_path / "results" / "now"
    save(now, out)
    study_locations.remember(now.run.inputs, now.study)
    for place in (out, now.study.root):
        with pytest.raises(UnusableInputError, match="this same examination"):
            find_prior(place, now.study, same_patient=True)
    assert find_prior(before.study.root, now.study).study.root == before.study.root


def test_the_latest_earlier_result_of_the_patient_is_taken(tmp_path):
    for name, patient, day in (("a", "P1", "20250101"), ("b", "P1", "20250601"),
                               ("c", "P2", "20250701"), ("d", "P1", "20260101")):  # fmt: skip
        uid = f"1.2.{day}"
        saved_sr(tmp_path / name, PatientID=patient, StudyDate=day, StudyInstanceUID=uid)
    here = Examination(Patient("P1"), "2025-12-01", "1.2.9")
    assert latest_result_before(tmp_path, here).name == "b"
    days = {"a-read": ["2025-06-02"], "z": [], ".lesionlens-x/new": ["2025-07-01"]}
    for name, decided in days.items():
        shutil.copytree(tmp_path / "b", tmp_path / name)
        events = [{"time": f"{day}T10:00:00+00:00"} for day in decided]
        (tmp_path / name / "review.json").write_text(json.dumps({"events": events}))
    assert (
        latest_result_before(tmp_path, here).name == "a-read"
    )  # not a killed run's, nor at random
    damaged = [{"events": ["x", {"time": 20250901}]}, {"events": {}}, {}]
    for n, content in enumerate(damaged):
        shutil.copytree(tmp_path / "b", tmp_path / f"z{n}")
        (tmp_path / f"z{n}" / "review.json").write_text(json.dumps(content))
    assert latest_result_before(tmp_path, here).name == "a-read"
    assert examination_of_result(tmp_path / "c") == Examination(
        Patient("P2"), "2025-07-01", "1.2.20250701"
    )
    with pytest.raises(UnusableInputError, match="no earlier result"):
        latest_result_before(tmp_path, Examination(Patient("P3"), "2025-12-01"))


def test_an_earlier_result_of_the_same_number_and_another_identity_is_not_taken(tmp_path):
    saved_sr(tmp_path / "a", PatientBirthDate="19500101", StudyInstanceUID="1.2.1")
    born = Patient("P1", birth_date="1970-01-02")
    with pytest.raises(UnusableInputError, match="only 1 with this patient ID"):
        latest_result_before(tmp_path, Examination(born, "2025-12-01", "1.2.9"))


@pytest.mark.parametrize(
    ("then", "differs"),
    [
        (Patient("P1", "PRACTICE"), "issuer of the patient ID differs"),
        (Patient("P1", name="Roe^Jane"), "name differs"),
        (Patient("P1", birth_date="1971-01-02"), "birth date differs"),
        (Patient("P1", sex="M"), "sex differs"),
    ],
)
def test_a_prior_whose_identity_contradicts_is_refused_or_confirmed(then, differs):
    now = Examination(Patient("P1", "HOSPITAL", "Doe^Jane", "1970-01-02", "F"), "2025-12-01")
    prior = Examination(then, "2025-11-01")
    with pytest.raises(PatientConflictError, match=f"(?i){differs}"):
        check_same_patient(now, prior)
    assert "confirmed" in check_same_patient(now, prior, same_patient=True)


def test_another_patient_or_a_later_day_is_refused():
    one = Examination(Patient("P1"), "2025-12-01")
    check_same_patient(one, Examination(Patient("P1"), "2025-11-01"))
    check_same_patient(one, Examination())
    with pytest.raises(PatientConflictError):
        check_same_patient(one, Examination(Patient("P2"), "2025-11-01"))
    with pytest.raises(UnusableInputError):
        check_same_patient(one, Examination(Patient("P1"), "2026-01-01"))


@pytest.mark.parametrize(
    ("now", "prior", "refused"),
    [
        (("post", ""), ("pre", ""), False),
        (("10", ""), ("9", ""), False),
        (("9", ""), ("10", ""), True),
        (("2025-03-01", ""), ("baseline", ""), False),
        (("2025-03-01", "160000"), ("2025-03-01", "081500"), False),
        (("2025-03-01", "081500"), ("2025-03-01", "160000"), True),
        (("2025-03-01", ""), ("2025-03-01", "160000"), False),
    ],
)
def test_order_is_by_day_time_or_session_number_never_by_letters(now, prior, refused):
    """A session "pre" was refused as later than "post", and an evening taken before its morning."""
    one, other = (Examination(SOMEBODY, day, None, time) for day, time in (now, prior))
    if not refused:
        assert check_same_patient(one, other) == ""
        return
    with pytest.raises(UnusableInputError):
        check_same_patient(one, other)


def test_a_later_examination_of_the_day_is_no_prior(tmp_path):
    for name, time in (("morning", "081500"), ("evening", "200000"), ("late", "23")):
        saved_sr(tmp_path / name, StudyTime=time, StudyInstanceUID=f"1.2.1{time}")
    noon = Examination(Patient("P1"), "2025-03-01", "1.2.9", "120000")
    assert examination_of_result(tmp_path / "evening").time == "200000"
    assert examination_of_result(tmp_path / "late").time == ""
    assert latest_result_before(tmp_path, noon).name == "morning"
    night = replace(noon, time="235900")
    assert latest_result_before(tmp_path, night).name == "evening"
    for unknown in ("", "081500"):  # which came first? A de-identified time may be one for all
        with pytest.raises(UnusableInputError, match="no earlier result"):
            latest_result_before(tmp_path, replace(noon, time=unknown))
    later = Examination(Patient("P1"), "2025-06-01", "1.2.8")
    with pytest.raises(UnusableInputError, match="several examinations of 2025-03-01"):
        latest_result_before(tmp_path, later)  # when the one was made whose hour alone is known?
    shutil.rmtree(tmp_path / "late")
    assert latest_result_before(tmp_path, later).name == "evening"


@pytest.mark.parametrize("replaced", [True, False], ids=["replaced", "gone"])
def test_the_patient_of_an_open_study_is_known_though_its_files_are_not_there_any_more(
    tmp_path, replaced
):
    """Another patient's examination was compared, as nothing contradicted."""
    head = make_patient(spacing_mm=12.0)
    for name, number, date in (("now", "P1", "20250601"), ("other", "P2", "20250101")):
        identity = PatientIdentity(patient_id=number, date=date)
        write_dicom(head, tmp_path / name, sequences=(MrSequence.T1C,), identity=identity)
    study = open_study(tmp_path / "now")
    assert examination_of(study).date == "2025-06-01"
    shutil.rmtree(tmp_path / "now")
    if replaced:
        (tmp_path / "other").rename(tmp_path / "now")
    now = examination_of(study)
    assert (now.patient.id, now.date) == ("P1", "")
    with pytest.raises(PatientConflictError):
        check_same_patient(now, Examination(Patient("P2"), "2025-01-01"))


def test_without_a_study_date_the_day_is_that_of_the_acquisition(tmp_path):
    head = make_patient(spacing_mm=12.0)
    written = write_dicom(head, tmp_path, sequences=(MrSequence.T1C,))
    for path in written[MrSequence.T1C]:
        image = dcmread(path)
        image.StudyDate, image.AcquisitionDate = "", "20250601"
        image.save_as(path)
    assert examination_of(open_study(tmp_path)).date == "2025-06-01"


def saved_sr(folder, **values):
    """Write the files of a saved result that `examination_of_result` reads."""
    (folder / "dicom").mkdir(parents=True)
    for file in ("findings.json", "run.json"):
        (folder / file).write_text("{}")
    header = Dataset()
    header.PatientID, header.StudyDate = "P1", "20250301"
    for name, value in values.items():
        setattr(header, name, value)
    header.SOPClassUID, header.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.88.34", "1.2.3"
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header.save_as(folder / "dicom" / "sr.dcm", enforce_file_format=True)


def test_patient_and_day_come_from_bids_names(tmp_path):
    head = make_patient(5, spacing_mm=8.0, lesions=())
    write_study(head, tmp_path / "sub-07_ses-20250301")
    study = open_study(tmp_path / "sub-07_ses-20250301")
    assert examination_of(study) == Examination(Patient("sub-07"), "2025-03-01")
    assert percent(None, 1.0) is None


@pytest.mark.parametrize(
    ("folder", "found"),
    [
        ("sub-07/ses-20250301/anat", Examination(Patient("sub-07"), "2025-03-01")),
        ("sub-07/ses-pre/anat", Examination(Patient("sub-07"), "pre")),
        ("somewhere/else/scans", Examination()),
    ],
)
def test_patient_and_day_come_from_folders_of_bids_alone(tmp_path, folder, found):
    write_study(make_patient(spacing_mm=12.0, lesions=()), tmp_path / folder)
    assert examination_of(open_study(tmp_path / folder)) == found


@pytest.mark.parametrize(
    ("file", "folder", "found"),
    [
        ("sub-07_T1w.nii.gz", "sub-08_ses-2", ("sub-07", "")),
        ("sub-07_T1w.nii.gz", "sub-07_ses-2", ("sub-07", "2")),
        ("sub-07_ses-20250301_T1w.nii.gz", "scan", ("sub-07", "2025-03-01")),
        ("t1.nii.gz", "sub-08_ses-2", ("sub-08", "2")),
    ],
)
def test_a_result_in_a_folder_of_another_patient_is_of_the_patient_of_its_files(
    file, folder, found, tmp_path
):
    """Where files name no session, the folder's patient was believed."""
    (tmp_path / folder).mkdir()
    rows = {"inputs": [{"file": f"anat/{file}", "sha256": "a"}]}
    (tmp_path / folder / "run.json").write_text(json.dumps(rows))
    examination = examination_of_result(tmp_path / folder)
    assert (examination.patient.id, examination.date or "") == found


def test_candidates_have_tracking_uids_of_their_own_after_comparing_again(tmp_path, monkeypatch):
    """The second one took the UID of the prior's lesion, which the first one kept."""
    at_rest = Registration(np.eye(4), 0.0, 0.0, information=1.0, peak_height=1.0)
    monkeypatch.setattr(steps, "align", lambda *_, **__: (at_rest, MrSequence.T1C))
    parts = (Lesion((-38.0, 8.0, 26.0), 8.0), Lesion((-18.0, 8.0, 26.0), 5.5))
    now = analysis_of(tmp_path / "now" / "head", parts)
    then = Examination(SOMEBODY, "2026-01-05")
    prior = Prior(then, analysis_of(tmp_path / "then" / "head", (Lesion(LEFT, 20.0),)))
    first = compare(now, Examination(SOMEBODY, "2026-03-05"), prior)
    large, small = first.findings.candidates
    voxel = np.argwhere(first.findings.components == large.id)[0]
    rest = Outline(large.tracking_uid, tuple(map(int, voxel)), np.full((1, 1, 1), 2, np.uint8))
    log = ReviewLog()
    log.decide(large.tracking_uid, ReviewState.EDITED, reader="A", outline=rest)
    redrawn = applied(replace(first, review=log.review))
    again = compare(redrawn, Examination(SOMEBODY, "2026-03-05"), prior)
    uids = {c.id: c.tracking_uid for c in again.findings.candidates}
    own = {c.id: c.tracking_uid for c in now.findings.candidates}
    assert uids == {small.id: large.tracking_uid, large.id: own[large.id]}
    assert again.review.state_of(uids[large.id]) is ReviewState.EDITED
    assert {c.id: c.tracking_uid for c in again.original.findings.candidates} == uids
    assert again.review.state_of(uids[small.id]) is ReviewState.UNREVIEWED
    assert own_uids(again.followup) == {large.tracking_uid: own[small.id]}
    assert steps.uids_after_comparison(first, again)[large.tracking_uid] == own[large.id]


def test_a_decision_stays_with_its_region_where_the_prior_s_lesion_is_another_one_now(
    tmp_path, monkeypatch
):
    """By the tracking UID of the prior's lesion it went to the other region."""
    at_rest = Registration(np.eye(4), 0.0, 0.0, information=1.0, peak_height=1.0)
    monkeypatch.setattr(steps, "align", lambda *_, **__: (at_rest, MrSequence.T1C))
    large, small = Lesion((-38.0, 8.0, 26.0), 8.0), Lesion((-8.0, 8.0, 26.0), 5.5)
    now = analysis_of(tmp_path / "now" / "head", (large, small))
    examination, then = Examination(SOMEBODY, "2026-03-05"), Examination(SOMEBODY, "2026-01-05")
    compared = {}
    for name, lesion in (("large", large), ("small", small)):
        before = analysis_of(tmp_path / name / "head", (lesion,))
        one = replace(before.findings.candidates[0], tracking_uid="1.2.3")
        before = replace(before, findings=replace(before.findings, candidates=(one,)))
        compared[name] = compare(now, examination, Prior(then, before))
    first = compared["large"]
    assert [c.tracking_uid == "1.2.3" for c in first.findings.candidates] == [True, False]
    log = ReviewLog()
    log.decide("1.2.3", ReviewState.REJECTED, reader="A")
    save(replace(first, review=log.review), tmp_path / "out")
    save(compared["small"], tmp_path / "out")
    again = read_result(tmp_path / "out")
    states = {c.id: again.review.state_of(c.tracking_uid) for c in again.findings.candidates}
    assert states == {1: ReviewState.REJECTED, 2: ReviewState.UNREVIEWED}
    assert again.findings.candidates[1].tracking_uid == "1.2.3"


def test_a_compared_result_keeps_the_tracking_uids_of_the_result_in_its_folder(
    compared, now, tmp_path
):
    """Of its own candidates, also where they are named after the prior's lesions now."""
    others = {c.tracking_uid: f"2.25.7{c.id}" for c in now.findings.candidates}
    save(now.renamed(others), tmp_path / "out")
    saved, _ = save(compared, tmp_path / "out")
    ((prior, own),) = compared.followup.own_uids.items()
    assert saved.followup.own_uids == {prior: others[own]}
    expected = [others.get(c.tracking_uid, prior) for c in compared.findings.candidates]
    assert [c.tracking_uid for c in saved.findings.candidates] == expected
    assert [lesion.tracking_uid for lesion in saved.followup.points[-1].lesions] == expected
    assert [c.now.tracking_uid for c in saved.followup.changes if c.now] == expected
    assert saved.review.state_of(prior) is ReviewState.ACCEPTED
    assert read_result(tmp_path / "out").followup.own_uids == saved.followup.own_uids
