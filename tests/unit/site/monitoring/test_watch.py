"""What is counted over many results, from files as `analyze` and the review write them."""

import errno
import json
import os
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from pydantic import TypeAdapter
from tests.helpers.json_files import edited_json
from tests.helpers.stale_share import make_stale
from tests.phantoms.analysis import make_analysis, write_study
from typer.testing import CliRunner

from lesionlens.base.errors import ResourceError, UnusableInputError
from lesionlens.base.files import user_folders
from lesionlens.base.labels import DrawingMethod, ReviewState
from lesionlens.base.records.review import Outline, ReviewEvent
from lesionlens.cli.main import app
from lesionlens.cli.monitor import monitor
from lesionlens.engines.testing.simple import Lesion, make_patient
from lesionlens.imaging.reading.readers import open_study
from lesionlens.results.export.exporter import save
from lesionlens.results.review.log import ReviewLog
from lesionlens.results.review.reopen import read_result
from lesionlens.site.acceptance import accept
from lesionlens.site.monitoring import monitor_warning, page, statistics, stop_rules
from lesionlens.site.monitoring.read_results import _TEST_RESULTS, gather
from lesionlens.site.monitoring.records import MonitoredCandidate, MonitoredStudy
from lesionlens.site.monitoring.stop_rules import StopBounds
from lesionlens.site.monitoring.watch import watch, write
from lesionlens.training.learning import learn

START = date(2026, 1, 5)
BOUNDS = StopBounds()


def result(folder, number, verdicts, *, day=START, score=0.9, brain=1300.0, added=()):
    """Write one result: a verdict by reader for each candidate; None for none."""
    place = folder / f"study{number}"
    place.mkdir(parents=True)
    rows, events = [], []
    for n, reported in enumerate(verdicts):
        uid = f"2.25.{number}.{n}"
        rows.append(
            {"tracking_uid": uid, "score": score, "volume_ml": {"wt": 5.0 + n}, "uncertainty": 0.1,
             "review": {"state": "unreviewed", "reader": None}}
        )  # fmt: skip
        events += [
            {"tracking_uid": uid, "state": state, "reader": reader, "time": "t", "added": None}
            for reader, state in reported
        ]
    events += [
        {"tracking_uid": f"2.25.{number}.9", "state": "accepted", "reader": r, "added": "brush"}
        for r in added
    ]
    findings = {"candidates": rows, "quality": [{"check": "noise", "passed": number % 2 == 0}]}
    run = {
        "started": f"{day.isoformat()}T10:00:00+00:00", "engine": "lens", "engine_version": "1",
        "weights_sha256": "ab" * 32, "seconds": 9.0,
        "preparation": [{"step": "find the brain", "figure": brain}],
    }  # fmt: skip
    for name, content in (("findings", findings), ("run", run), ("review", {"events": events})):
        (place / f"{name}.json").write_text(json.dumps(content))


def saved(tmp_path):
    """Two results as `save` writes them; one was reviewed, with edits."""
    patient = make_patient(spacing_mm=4.0, lesions=(Lesion(), Lesion((30.0, -40.0, 12.0), 12.0)))
    analysis = make_analysis(patient, write_study(patient, tmp_path / "images"))
    log = ReviewLog()
    first, second = (one.tracking_uid for one in analysis.findings.candidates)
    log.decide(first, ReviewState.ACCEPTED, reader="A")
    log.decide(second, ReviewState.REJECTED, reader="A",
             outline=Outline(second, (3, 3, 3), np.full((2, 2, 2), 2, np.uint8)))  # fmt: skip
    log.add(Outline("2.25.77", (9, 9, 9), np.full((3, 3, 3), 2, np.uint8)), DrawingMethod.MANUAL)
    log.sign("nothing further seen", reader="A")
    results = tmp_path / "results"
    save(replace(analysis, review=log.review), results / "edited")
    save(replace(analysis, run=replace(analysis.run, inputs=(("other.nii", "ab" * 32),))),
         results / "other")  # fmt: skip
    return results


def test_whole_results_are_read_without_a_notice(tmp_path):
    found, notices = gather(saved(tmp_path))
    assert {one.name for one in found} == {"edited", "other"}
    assert notices == []


@pytest.mark.parametrize(("peaks", "lowest"), [((0.2, 0.0), 0.0), ((0.2, None), 0.2), ((), None)])
def test_a_registration_that_failed_is_the_lowest_of_a_study(tmp_path, peaks, lowest):
    """Its peak of 0 was taken for none, and drift was of the registrations that succeeded."""
    result(tmp_path, 1, [()])
    with edited_json(tmp_path / "study1" / "run.json") as run:
        run["preparation"] += [{"step": "register", "figure": peak} for peak in peaks]
    ((study,), _) = gather(tmp_path)
    assert study.registration == lowest


def test_what_is_followed_is_what_the_network_found_not_what_readers_made_of_it(tmp_path):
    """A candidate that a reader merged was counted no more, and drift was of edited volumes."""
    results = saved(tmp_path)
    found = {one.name: one for one in gather(results)[0]}
    figures_of = {
        name: [(c.volume_ml, c.uncertainty) for c in one.candidates if c.added_by is None]
        for name, one in found.items()
    }
    assert figures_of["edited"] == figures_of["other"]
    log = ReviewLog(read_result(results / "other").review)
    analysis = read_result(results / "other").findings
    first, second = (one.tracking_uid for one in analysis.candidates)
    assert len(analysis.candidates) == 2
    both = np.where(analysis.components > 0, 2, 0).astype(np.uint8)
    with log.one_act():
        log.decide(first, ReviewState.EDITED, reader="A", outline=Outline(first, (0, 0, 0), both))
        log.decide(second, ReviewState.EDITED, reader="A", outline=Outline.empty(second))
    study = open_study(tmp_path / "images")
    patient = make_patient(spacing_mm=4.0, lesions=(Lesion(), Lesion((30.0, -40.0, 12.0), 12.0)))
    made = make_analysis(patient, study)
    inputs = (("other.nii", "ab" * 32),)
    made = replace(made, review=log.review, run=replace(made.run, inputs=inputs))
    save(made, results / "other")
    (merged,) = (one for one in gather(results)[0] if one.name == "other")
    assert [dict(one.verdicts) for one in merged.candidates] == [{"A": ReviewState.EDITED}] * 2


@pytest.mark.parametrize("change", [{"engine": "mask"}, {}])
def test_an_opened_segmentation_is_no_study_of_the_network(tmp_path, change):
    """It counted as a study without a candidate, and lowered the mean that a stop rule compares."""
    result(tmp_path, 1, [[("a", "accepted")]])
    result(tmp_path, 2, [[("a", "accepted")]], added=("a",))
    path = tmp_path / "study2" / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with edited_json(tmp_path / "study2" / "findings.json") as findings:
        if not change:  # of another program's DICOM Segmentation
            findings["candidates"][0]["source"] = "segmentation"
    found, notices = gather(tmp_path)
    assert [one.name for one in found] == ["study1"]
    assert notices == [
        "study2 was skipped: a segmentation that was opened for review, no result of a network"
    ]


def test_a_folder_that_cannot_be_read_is_skipped_by_name(tmp_path, monkeypatch):
    result(tmp_path, 1, [[("a", "accepted")]])
    result(tmp_path, 2, [[("a", "accepted")]])
    scandir = os.scandir

    def refused(place):
        if Path(place).name == "study2":
            raise PermissionError(errno.EACCES, "Permission denied", place)
        return scandir(place)

    monkeypatch.setattr(os, "scandir", refused)
    found, notices = gather(tmp_path)
    assert [one.name for one in found] == ["study1"]
    assert notices == ["study2 was skipped: Permission denied"]


def test_results_that_are_all_skipped_are_named(tmp_path):
    """The folder was said to hold no result."""
    result(tmp_path, 1, [[("a", "accepted")]])
    (tmp_path / "study1" / "review.json").write_text("")
    with pytest.raises(UnusableInputError, match="that can be counted: study1 was skipped: "):
        gather(tmp_path)


def test_a_link_is_not_followed_and_named(tmp_path):
    result(tmp_path / "results", 1, [[("a", "accepted")]])
    result(tmp_path / "elsewhere", 2, [[("a", "accepted")]])
    try:
        (tmp_path / "results" / "linked").symlink_to(tmp_path / "elsewhere" / "study2")
    except OSError:
        pytest.skip("links are not allowed here")
    found, notices = gather(tmp_path / "results")
    assert [one.name for one in found] == ["study1"]
    assert notices == ["linked was skipped: a link to another folder"]


def test_a_result_with_changed_findings_is_skipped_by_name(tmp_path):
    results = saved(tmp_path)
    file = results / "edited" / "findings.json"
    with edited_json(file) as findings:
        findings["candidates"][0]["score"] = 0.123456
    watched = watch(results, BOUNDS)
    assert [one.name for one in watched.studies] == ["other"]
    assert watched.notices == ("edited was skipped: a file that was changed since: findings.json",)
    assert "0.123456" not in page.csv_table(watched)


@pytest.mark.parametrize("of_whom", ["another study", "candidates that the result does not have"])
def test_the_review_of_another_study_is_not_counted(tmp_path, of_whom):
    results = saved(tmp_path)
    if of_whom == "another study":
        review = json.loads((results / "edited" / "review.json").read_text())
    else:
        review = json.loads((results / "other" / "review.json").read_text())
        event = {"tracking_uid": "2.25.4711", "state": "accepted", "reader": "B", "time": "t"}
        review["events"].append(event)
    (results / "other" / "review.json").write_text(json.dumps(review))
    found, notices = gather(results)
    assert [one.name for one in found] == ["edited"]
    (notice,) = notices
    assert notice.startswith("other was skipped: ")
    assert of_whom in notice


def test_the_table_gives_no_score_that_the_network_did_not(tmp_path):
    result(tmp_path, 1, [[("A", "accepted")]], added=["A"])
    flagged, added = page.csv_table(watch(tmp_path, BOUNDS)).splitlines()[1:]
    assert flagged.split(",")[5:] == ["0.9", "5.0", "false", "false", "A", "accepted", "", ""]
    assert added.split(",")[5:] == ["", "", "true", "false", "A", "accepted", "", ""]


def test_what_is_listed_separately_has_its_own_count(tmp_path):
    """Its verdicts change neither acceptance nor the judgement of scores."""
    result(tmp_path, 1, [[("A", "accepted")], [("A", "rejected")], [("A", "accepted")]])
    with edited_json(tmp_path / "study1" / "findings.json") as findings:
        for row in findings["candidates"][1:]:
            row["apart"] = True
    watched = watch(tmp_path, BOUNDS)
    for group in (*watched.weeks, *watched.readers, *watched.engines):
        assert (group.candidates, group.accepted, group.rejected, group.added) == (1, 1, 0, 0)
        assert (group.other, group.other_accepted) == (2, 1)
    assert watched.calibration.judged == 1
    rows = [row.split(",") for row in page.csv_table(watched).splitlines()]
    at = rows[0].index("apart")
    assert [row[at] for row in rows[1:]] == ["false", "true", "true"]
    assert 'lesionlens_week_other{week="2026-W02"} 2' in page.prometheus(watched)
    assert "<th>other findings</th>" in page.html(watched)


def test_what_a_killed_run_left_is_no_study(tmp_path):
    result(tmp_path, 1, [[("A", "accepted")]])
    result(tmp_path / ".lesionlens-1234-5678", 2, [[("A", "rejected")]])
    found, notices = gather(tmp_path)
    assert [one.name for one in found] == ["study1"]
    assert not notices


def test_results_of_tests_are_no_studies_in_use(tmp_path):
    """A folder of all outputs holds those of an acceptance test and of `learn` too."""
    assert set(_TEST_RESULTS) == {accept.RECORD, learn.BEGUN}
    result(tmp_path / "batch", 1, [[("A", "accepted")]])
    for number, (mark, (tested, _)) in enumerate(_TEST_RESULTS.items(), 2):
        result(tmp_path / f"test{number}" / tested, number, [[]])
        (tmp_path / f"test{number}" / mark).write_text("{}")
    studies, notices = gather(tmp_path)
    assert [one.name for one in studies] == ["study1"]
    assert notices == [
        "test2/results was skipped: the results of an acceptance test",
        "test3/held_out was skipped: the results by which `learn` compares weights",
    ]
    (named,), _ = gather(tmp_path / "test2")
    assert named.name == "study2"


def test_a_clock_in_the_future_hides_no_broken_rule(tmp_path):
    for n in range(12):
        result(tmp_path, n, [[("A", "rejected")]])
    result(tmp_path, 12, [[]], day=date(2999, 1, 1))
    watched = watch(tmp_path, BOUNDS)
    assert [group.name for group in watched.weeks] == ["2026-W02", "2999-W01"]
    assert any("2026-W02: 0 of 12 verdicts" in words for words in watched.violated_rules)
    assert "Dated later than today, and never the latest week: study12" in watched.notices


def test_prompts_and_their_seconds_are_counted_by_reader(tmp_path):
    result(tmp_path, 1, [[("A", "edited"), ("A", "edited"), ("B", "accepted")], [("A", "edited")]])
    file = tmp_path / "study1" / "review.json"
    review = json.loads(file.read_text())
    for event, seconds in zip(review["events"], ([3.0, 8.5], [4.0], [], [2.0] * 4), strict=True):
        event["prompts"] = [{"kind": "point", "seconds": s} for s in seconds]
    review["events"].append({**review["events"][0], "act": "redo"})  # the same outline again
    file.write_text(json.dumps(review))
    watched = watch(tmp_path, BOUNDS)
    a, b = watched.readers
    assert (a.pointed, a.prompts, a.prompt_seconds) == (2, 3.5, 7.25)
    assert (b.pointed, b.prompts) == (0, None)
    assert "lesionlens_reader_prompts" in page.prometheus(watched)
    rows = [row.split(",")[-4:] for row in page.csv_table(watched).splitlines()[1:]]
    assert rows == [["A", "edited", "3", "12.5"], ["B", "accepted", "", ""],
                    ["A", "edited", "4", "2.0"]]  # fmt: skip


def test_prompts_of_an_outline_that_was_undone_are_not_counted(tmp_path):
    """The page listed a corrected outline that neither the report nor `learn` had."""
    result(tmp_path, 1, [[("A", "edited")], [("A", "edited")]])
    file = tmp_path / "study1" / "review.json"
    review = json.loads(file.read_text())
    undone, kept = review["events"]
    for event, name in ((undone, "1"), (kept, "2")):
        event |= {"outline": name, "prompts": [{"kind": "point", "seconds": 5.0}]}
    before = {"state": "unreviewed", "reason": None, "outline": None, "prompts": []}
    review["events"] += [
        {**kept, **before, "act": "undo"},
        {**kept, "act": "redo"},
        {**undone, **before, "act": "undo"},
    ]
    file.write_text(json.dumps(review))
    watched = watch(tmp_path, BOUNDS)
    (reader,) = watched.readers
    assert (reader.pointed, reader.prompts, reader.prompt_seconds) == (1, 1.0, 5.0)
    rows = [row.split(",")[-4:] for row in page.csv_table(watched).splitlines()[1:]]
    assert rows == [["A", "unreviewed", "", ""], ["A", "edited", "1", "5.0"]]


def test_who_undid_or_measured_has_no_verdict_of_their_own(tmp_path):
    """Diameters by C counted as an edit of C's, and B had accepted what B only undid."""
    first, second, third = (f"2.25.1.{n}" for n in range(3))
    log = ReviewLog()
    log.decide(first, ReviewState.ACCEPTED, reader="A")
    log.decide(first, ReviewState.REJECTED, reader="A")
    log.undo(reader="B")
    log.decide(second, ReviewState.REJECTED, reader="A", reason="vessel")
    ends = (((0.0, 0.0, 0.0), (9.0, 0.0, 0.0)), ((4.0, 1.0, 0.0), (4.0, -1.0, 0.0)))
    log.place_diameters(second, ends, reader="C")
    log.place_diameters(third, ends, reader="C")
    log.decide(third, ReviewState.ACCEPTED, reader="B")
    log.undo(reader="A")
    log.redo(reader="C")
    result(tmp_path, 1, [[], [], []])
    acts = TypeAdapter(tuple[ReviewEvent, ...]).dump_python(log.review.events, mode="json")
    (tmp_path / "study1" / "review.json").write_text(json.dumps({"events": acts}))
    (study,), _ = gather(tmp_path)
    assert [dict(one.verdicts) for one in study.candidates] == [
        {"A": ReviewState.ACCEPTED}, {"A": ReviewState.REJECTED}, {"B": ReviewState.ACCEPTED},
    ]  # fmt: skip


def test_an_undo_in_one_copy_takes_back_no_decision_of_another(tmp_path):
    log = ReviewLog()
    log.decide("2.25.1.0", ReviewState.ACCEPTED, reader="A")
    other = ReviewLog()
    other.decide("2.25.1.0", ReviewState.REJECTED, reader="B")
    log.undo(reader="A")
    for name, one in (("here", log), ("there", other)):
        result(tmp_path / name, 1, [[]])
        acts = TypeAdapter(tuple[ReviewEvent, ...]).dump_python(one.review.events, mode="json")
        place = tmp_path / name / "study1"
        (place / "review.json").write_text(json.dumps({"events": acts}))
        of_files(place, "ab")
    (study,), _ = gather(tmp_path)
    (candidate,) = study.candidates
    assert candidate.verdicts == {"A": ReviewState.UNREVIEWED, "B": ReviewState.REJECTED}


def test_verdicts_are_counted_by_week_and_reader(tmp_path):
    result(tmp_path, 1, [[("A", "accepted")], [("A", "rejected"), ("A", "accepted")]])
    result(tmp_path, 2, [[("A", "edited"), ("B", "rejected")]], added=["B"])
    result(tmp_path, 3, [[]], day=START + timedelta(days=8))
    watched = watch(tmp_path, BOUNDS)
    first, second = watched.weeks
    assert (first.name, first.studies, first.candidates) == ("2026-W02", 2, 3)
    assert (first.accepted, first.edited, first.rejected, first.added) == (2, 1, 1, 1)
    assert (second.studies, second.verdicts, second.acceptance.fraction) == (1, 0, None)
    a, b = watched.readers
    assert (a.name, a.accepted, a.edited, a.rejected, a.added) == ("A", 2, 1, 0, 0)
    assert (b.name, b.rejected, b.added) == ("B", 1, 1)
    low, high = a.acceptance.interval
    assert 0.4 < low < high == 1.0


def test_readers_of_one_case_are_compared(tmp_path):
    says = ["accepted", "rejected", "accepted", "edited"]
    for n, state in enumerate(says):
        result(tmp_path / "a", n, [[("A", state)]])
        result(tmp_path / "b", n, [[("B", state if n < 3 else "rejected")]])
    ((one, other, count, found),) = watch(tmp_path, BOUNDS).agreement
    assert (one, other, count) == ("A", "B", 4)
    assert found == pytest.approx(0.5)
    assert statistics.kappa([(True, True)] * 5) is None


def test_readers_of_two_examinations_of_one_lesion_are_not_compared(tmp_path):
    """A lesion that was matched with the prior's keeps its tracking UID."""
    result(tmp_path / "prior", 1, [[("A", "accepted")]])
    result(tmp_path / "now", 1, [[("B", "rejected")]], day=START + timedelta(days=90))
    result(tmp_path / "of C", 1, [[("C", "rejected")]], day=START + timedelta(days=90))
    assert watch(tmp_path, BOUNDS).agreement == (("B", "C", 1, None),)


def of_files(place, *digests):
    """Say of which files a result was made."""
    file = place / "run.json"
    inputs = [{"file": "t1c.nii.gz", "sha256": digest} for digest in digests]
    file.write_text(json.dumps(json.loads(file.read_text()) | {"inputs": inputs}))


def test_copies_of_one_analysis_are_one_study(tmp_path):
    """One reader's result that was exported too, another reader's copy, and a later analysis."""
    for folder, reader, state, day in (
        ("batch", "A", "accepted", START), ("export", "A", "accepted", START),
        ("of B", "B", "rejected", START), ("again", "A", "accepted", START + timedelta(days=1)),
    ):  # fmt: skip
        result(tmp_path / folder, 1, [[(reader, state)]], day=day)
        of_files(tmp_path / folder / "study1", "ab", "cd")
    result(tmp_path / "other", 1, [[("A", "accepted")]])
    of_files(tmp_path / "other" / "study1", "ef")
    studies, notices = gather(tmp_path)
    assert len(studies) == 3
    assert notices == ["Copies of other results were found: 2; each study is counted once"]
    (week,) = statistics.by_week(studies)
    assert (week.studies, week.candidates, week.accepted, week.rejected) == (3, 3, 3, 1)
    assert statistics.calibration(studies).judged == 2  # of two readers who disagree there is none


@pytest.mark.parametrize("reviewed", ["a", "b"])
def test_a_verdict_whose_review_was_lost_is_that_of_the_findings(tmp_path, reviewed):
    """Of two copies, one of which was reviewed; its `review.json` was not copied."""
    for folder in "ab":
        result(tmp_path / folder, 1, [[], []])
        of_files(tmp_path / folder / "study1", "ab")
        (tmp_path / folder / "study1" / "review.json").unlink()
    with edited_json(tmp_path / reviewed / "study1" / "findings.json") as findings:
        findings["candidates"][0]["review"] = {"state": "rejected", "reader": "A"}
    (study,), _ = gather(tmp_path)
    assert [dict(one.verdicts) for one in study.candidates] == [{"A": "rejected"}, {}]


def test_a_later_decision_in_a_copy_is_the_last(tmp_path):
    for folder, events in (("a", ["accepted", "rejected"]), ("b", ["accepted"])):
        result(tmp_path / folder, 1, [[("A", state) for state in events]])
        of_files(tmp_path / folder / "study1", "ab")
        with edited_json(tmp_path / folder / "study1" / "review.json") as review:
            for second, event in enumerate(review["events"]):
                event["time"] = f"2026-01-05T10:00:0{second}Z"
    (study,), _ = gather(tmp_path)
    assert study.candidates[0].verdicts == {"A": "rejected"}


def test_the_last_decision_stands_where_the_clock_was_set_back(tmp_path):
    result(tmp_path, 1, [[("A", "accepted"), ("A", "rejected")]])
    with edited_json(tmp_path / "study1" / "review.json") as review:
        for event, minute in zip(review["events"], ("30", "10"), strict=True):
            event["time"] = f"2026-01-05T10:{minute}:00Z"
    (study,), _ = gather(tmp_path)
    assert study.candidates[0].verdicts == {"A": "rejected"}


def test_a_copy_that_was_compared_with_a_prior_has_the_same_candidates(tmp_path):
    """Its candidates took the prior's tracking UIDs; what readers added are their own."""
    for number, folder in enumerate("ab"):
        result(tmp_path / folder, number, [[("AB"[number], "accepted")]])
        (tmp_path / folder / f"study{number}").rename(tmp_path / folder / "study")
        of_files(tmp_path / folder / "study", "ab")
        file = tmp_path / folder / "study" / "findings.json"
        findings = json.loads(file.read_text())
        (row,) = findings["candidates"]
        row["id"] = 1
        findings["candidates"].append(
            {**row, "id": 2, "tracking_uid": f"2.25.{number}.9", "source": "reader", "score": None}
        )
        file.write_text(json.dumps(findings))
    for number, folder in enumerate("ab"):
        with edited_json(tmp_path / folder / "study" / "review.json") as review:
            review["events"].append(
                {"tracking_uid": f"2.25.{number}.9", "state": "accepted", "reader": "AB"[number],
                 "added": "brush"}
            )  # fmt: skip
    (study,), _ = gather(tmp_path)
    flagged, *added = study.candidates
    assert flagged.verdicts == {"A": "accepted", "B": "accepted"}
    assert [(one.tracking_uid, dict(one.verdicts)) for one in added] == [
        ("2.25.0.9", {"A": "accepted"}), ("2.25.1.9", {"B": "accepted"}),
    ]  # fmt: skip


def test_the_rule_of_acceptance_names_verdicts_of_which_a_candidate_may_have_several(tmp_path):
    for n in range(6):
        result(tmp_path, n, [[("A", "rejected"), ("B", "rejected")]])
    (week,) = (watched := watch(tmp_path, BOUNDS)).weeks
    assert (week.candidates, week.verdicts) == (6, 12)
    assert watched.violated_rules[0] == (
        "2026-W02: 0 of 12 verdicts accepted or edited a candidate; significantly fewer than 50%"
    )


def test_a_week_with_many_candidates_breaks_a_rule(tmp_path):
    for n in range(stop_rules.MIN_COUNT):
        result(tmp_path, n, [[]] * (3 + (n == 0)))
    assert watch(tmp_path, BOUNDS).violated_rules == (
        "2026-W02: 3.1 candidates per study, more than 3",
    )
    assert watch(tmp_path, replace(BOUNDS, most_candidates=3.1)).violated_rules == ()


def test_a_broken_rule_shows_by_its_numbers_that_it_is_broken():
    """It said "3.0 candidates per study, more than 3" and "significantly fewer than 12%"."""
    week = statistics.Group("2026-W02", 25, 76, accepted=1, edited=0, rejected=75, added=0)
    reliability = statistics.ScoreReliability((), None, 0)
    bounds = replace(BOUNDS, least_acceptance=0.125)
    fewer, more = stop_rules.violated_rules([week], reliability, [], bounds)
    assert fewer.endswith("significantly fewer than 12.5%")
    assert more == "2026-W02: 3.04 candidates per study, more than 3"


def test_scores_that_verdicts_contradict_break_a_rule(tmp_path):
    for n in range(12):
        result(tmp_path, n, [[("A", "rejected")]], score=0.9)
    watched = watch(tmp_path, BOUNDS)
    assert watched.calibration.error == pytest.approx(0.9)
    assert any("0 of 12" in words for words in watched.violated_rules)
    assert any("differ from verdicts by 0.90" in words for words in watched.violated_rules)


def judged(scores, verdicts):
    """Return studies of one candidate each, with its score and a reader's verdict."""
    states = [ReviewState.ACCEPTED if so else ReviewState.REJECTED for so in verdicts]
    return [
        MonitoredStudy(str(n), START, "lens", (
            MonitoredCandidate(str(n), float(score), 1.0, 0.1, {"A": state}),
        ))
        for n, (score, state) in enumerate(zip(scores, states, strict=True))
    ]  # fmt: skip


def calibration_alarms(scores, verdicts):
    found = statistics.calibration(judged(scores, verdicts))
    return len(stop_rules.violated_rules((), found, (), BOUNDS)), found


def test_right_scores_break_no_rule_by_chance():
    """The gap of ten right scores is above the limit in most samples, by chance."""
    rng = np.random.default_rng(3)
    alarms, gaps = 0, []
    for _ in range(60):
        scores = rng.uniform(0.2, 1.0, 10)
        raised, found = calibration_alarms(scores, rng.random(10) < scores)
        alarms += raised
        gaps.append(found.error)
    assert np.mean(np.array(gaps) > BOUNDS.most_calibration_error) > 0.6
    assert alarms <= 2
    raised, found = calibration_alarms(rng.uniform(0.7, 1.0, 10), [False] * 8 + [True] * 2)
    assert (raised, found.p < 0.01) == (1, True)


def test_a_shift_is_reported_and_no_shift_is_not(tmp_path):
    rng = np.random.default_rng(0)
    for n in range(60):
        late = START + timedelta(weeks=6 * (n >= 30))
        size = rng.normal(1300 if n < 30 else 1500, 40)
        result(tmp_path, n, [[]], day=late, brain=size, score=float(rng.uniform()))
    watched = watch(tmp_path, BOUNDS)
    assert [words for words in watched.violated_rules if "brain volume" in words]
    assert not [words for words in watched.violated_rules if words.startswith("score")]
    (brain,) = (drift for drift in watched.drifts if drift.name.startswith("brain volume"))
    gauge = f'lesionlens_stability_index{{of="{brain.name}"}} {brain.stability:.4f}'
    assert gauge in page.prometheus(watched).splitlines()
    few = statistics.drift(watched.studies[:5], watched.studies[5:])
    assert few[0].stability is None


def test_figures_with_too_few_values_for_drift_are_named(tmp_path):
    """A shift of all brains went unjudged without a word: candidates were more than twenty."""
    for n in range(40):
        late = n >= 15
        day = START + timedelta(weeks=6 * late)
        result(tmp_path, n, [[], []], day=day, brain=1500.0 if late else 1300.0)
    watched = watch(tmp_path, BOUNDS)
    assert not watched.violated_rules
    assert [words for words in watched.not_evaluated if words.startswith("drift")] == [
        "drift of brain volume (ml), quality checks failed, candidates a study: fewer than 20 "
        "values before or after the baseline"
    ]


def head(folder, number, gain=1.0, noise=0.0, thick=4.0):
    """Write one sequence of a small head as scanned: its contrast, noise and slices."""
    rng = np.random.default_rng(number)
    values = np.zeros((20, 20, 20), np.float32)
    values[3:17, 3:17, 3:17] = rng.uniform(0.9, 1.1) * np.linspace(60, 160, 14)[None, :, None]
    values = (values / 160) ** gain * 160
    values += (values > 0) * rng.normal(0, 2 + noise, values.shape)
    folder.mkdir(parents=True)
    image = nib.Nifti1Image(values.clip(0).astype(np.int16), np.diag([4.0, 4.0, thick, 1.0]))
    nib.save(image, folder / "t1c.nii.gz")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({}, None),
        ({"gain": 2.0}, "T1c median"),
        ({"noise": 12.0}, "T1c noise"),
        ({"thick": 6.0}, "T1c voxel (mm)"),
    ],
)
def test_a_shift_of_contrast_noise_or_voxels_is_told_where_images_are_named(tmp_path, change, told):
    for n in range(50):
        late = n >= 25
        result(tmp_path / "in", n, [[]], day=START + timedelta(weeks=6 * late))
        head(tmp_path / "studies" / f"study{n}", n, **(change if late else {}))
    watched = watch(tmp_path / "in", BOUNDS, images=tmp_path / "studies")
    shifted = [words for words in watched.violated_rules if "has shifted" in words]
    if told is None:
        assert shifted == []
    else:
        assert [words for words in shifted if words.startswith(told)]
    assert not [d for d in watch(tmp_path / "in", BOUNDS).drifts if d.name.startswith("T1c")]


def test_images_are_those_that_batch_was_given_also_by_a_table(tmp_path):
    """Only a sub-folder of the same name was looked for: no session of a BIDS dataset was found."""
    result(tmp_path / "in", 0, [[]])
    head(tmp_path / "scans" / "x", 0)
    (tmp_path / "studies.csv").write_text("study,name\nscans/x,study0\n")
    watched = watch(tmp_path / "in", BOUNDS, images=tmp_path / "studies.csv")
    assert watched.studies[0].images["T1c voxel (mm)"] == 4.0


def test_images_that_are_not_there_are_said(tmp_path, monkeypatch):
    for n in range(2):
        result(tmp_path / "in", n, [[]])
    with pytest.raises(UnusableInputError, match="has the name"):
        watch(tmp_path / "in", BOUNDS, images=tmp_path / "studies")
    head(tmp_path / "studies" / "study0", 0)
    watched = watch(tmp_path / "in", BOUNDS, images=tmp_path / "studies")
    assert "Images of 1 of 2 studies are missing" in watched.notices
    assert watched.studies[0].images["T1c voxel (mm)"] == 4.0
    (tmp_path / "studies" / "study1").mkdir()
    (tmp_path / "studies" / "study1" / "t1c.nii.gz").write_bytes(b"no scan")
    watched = watch(tmp_path / "in", BOUNDS, images=tmp_path / "studies")
    assert any("study1 were skipped" in words for words in watched.notices)
    make_stale(monkeypatch, tmp_path / "studies" / "study1" / "t1c.nii.gz")
    watched = watch(tmp_path / "in", BOUNDS, images=tmp_path / "studies")
    assert any("study1 were skipped: Stale file" in words for words in watched.notices)


def test_everything_is_written_and_nothing_is_run_as_code(tmp_path):
    result(tmp_path / "in", 1, [[('<script>"x', "accepted"), ("=1+1", "rejected")]])
    (tmp_path / "in" / "broken").mkdir()
    for name in ("findings", "run"):
        (tmp_path / "in" / "broken" / f"{name}.json").write_text("{")
    watched = watch(tmp_path / "in", BOUNDS)
    names = [path.name for path in write(watched, tmp_path / "out")]
    assert names == ["monitor.html", "monitor.csv", "monitor.prom"]
    shown = (tmp_path / "out" / "monitor.html").read_text("utf-8")
    assert "<script>" not in shown
    assert "http" not in shown.replace("arXiv", "")
    assert page.LIMITS.split(":")[0] in shown
    assert "broken was skipped" in shown
    assert "'=1+1" in (tmp_path / "out" / "monitor.csv").read_text("utf-8")
    assert 'reader="<script>\\"x"' in (tmp_path / "out" / "monitor.prom").read_text("utf-8")


@pytest.mark.skipif(os.name == "nt", reason="names are Unicode there")
def test_a_result_whose_name_is_not_utf8_costs_no_page(tmp_path):
    result(tmp_path / "results", 1, [[("a", "accepted")]])
    name = os.fsdecode(b"M\xfcller")
    try:
        (tmp_path / "results" / "study1").rename(tmp_path / "results" / name)
        (tmp_path / "results" / f"{name}2").mkdir()
    except OSError:
        pytest.skip("this file system takes UTF-8 names alone")
    for file in ("findings.json", "run.json"):
        (tmp_path / "results" / f"{name}2" / file).write_text("{}")
    write(watch(tmp_path / "results", BOUNDS), tmp_path / "out")
    assert "\nM\\udcfcller,2026-01-05," in (tmp_path / "out" / "monitor.csv").read_text("utf-8")
    assert "M\\udcfcller2 was skipped" in (tmp_path / "out" / "monitor.html").read_text("utf-8")


def test_a_folder_without_results_is_refused(tmp_path):
    with pytest.raises(UnusableInputError, match="no result"):
        gather(tmp_path)
    with pytest.raises(UnusableInputError, match="no folder 'nosuch'"):
        gather(tmp_path / "nosuch")


@pytest.fixture
def home(tmp_path, monkeypatch):
    place = tmp_path / "home"
    monkeypatch.setattr(user_folders, "data", lambda: place)
    return place


def test_a_page_in_a_folder_whose_name_is_not_utf_8_is_kept(home, tmp_path):
    place = tmp_path / os.fsdecode(b"M\xfcller")
    monitor_warning.keep(("2026-W07: 4.0 candidates per study",), place / "monitor.html")
    assert monitor_warning.current().page == rf"{tmp_path}/M\udcfcller/monitor.html"


def test_a_broken_rule_is_kept_for_the_panel_until_none_is(home, tmp_path):
    assert monitor_warning.current() is None
    monitor_warning.keep(("2026-W07: 4.0 candidates per study",), tmp_path / "monitor.html")
    found = monitor_warning.current()
    assert "Stop and look" in found.text
    assert "4.0 candidates per study" in found.text
    assert found.page == str(tmp_path / "monitor.html")
    monitor_warning.keep((), tmp_path / "monitor.html")
    assert monitor_warning.current().text == ""
    (home / "monitor.json").write_text("{")
    assert "cannot be read" in monitor_warning.current().text


def test_a_warning_that_cannot_be_kept_is_an_error(home, tmp_path, monkeypatch):
    """The panel would go on showing the previous one."""
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(user_folders, "data", lambda: tmp_path / "file")
    with pytest.raises(ResourceError, match="warning for the panel could not be saved") as error:
        monitor_warning.keep((), tmp_path / "monitor.html")
    assert "HOME" in error.value.next_step  # a service has none, and free space is no remedy


def test_an_addition_is_counted_for_the_reader_who_made_it(tmp_path):
    result(tmp_path, 1, [[("A", "accepted")]], added=["A"])
    file = tmp_path / "study1" / "review.json"
    content = json.loads(file.read_text())
    for state in ("rejected", "accepted"):
        seen = {**content["events"][-1], "reader": "B", "state": state, "added": None}
        file.write_text(json.dumps({"events": [*content["events"], seen]}))
        watched = watch(tmp_path, BOUNDS)
        assert {one.name: one.added for one in watched.readers} == {"A": 1, "B": 0}
        assert watched.weeks[0].added == 1


def test_a_part_that_was_split_from_a_candidate_is_not_added(tmp_path):
    """It is part of what the network flagged, not what it missed."""
    result(tmp_path, 1, [[("A", "edited")]], added=["A"])
    with edited_json(tmp_path / "study1" / "review.json") as content:
        content["events"][-1]["with_previous"] = True
    watched = watch(tmp_path, BOUNDS)
    assert (watched.weeks[0].edited, watched.weeks[0].added) == (1, 0)


def test_what_a_reader_added_and_took_back_is_not_counted(tmp_path):
    result(tmp_path, 1, [[("A", "accepted")]], added=["A"])
    with edited_json(tmp_path / "study1" / "review.json") as content:
        content["events"].append({**content["events"][-1], "state": "unreviewed", "added": None})
    assert watch(tmp_path, BOUNDS).weeks[0].added == 0


def test_a_result_exported_with_an_added_candidate_is_read(tmp_path):
    """Its score is null, and it is no candidate of the network."""
    result(tmp_path, 1, [[("A", "accepted")]], added=["A"])
    with edited_json(tmp_path / "study1" / "findings.json") as content:
        own = {**content["candidates"][0], "tracking_uid": "2.25.1.9", "score": None}
        content["candidates"].append({**own, "source": "reader"})
    watched = watch(tmp_path, BOUNDS)
    assert watched.notices == ()
    assert (watched.weeks[0].candidates, watched.weeks[0].added) == (1, 1)


def test_weights_are_distinguished(tmp_path):
    result(tmp_path, 1, [[("A", "accepted")]])
    result(tmp_path, 2, [[("A", "rejected")]])
    run = tmp_path / "study2" / "run.json"
    run.write_text(run.read_text().replace("abab", "cdcd"))
    watched = watch(tmp_path, BOUNDS)
    assert [(g.accepted, g.rejected) for g in watched.engines] == [(1, 0), (0, 1)]
    assert page.prometheus(watched).count("lesionlens_engine_accepted{") == 2
    run.write_text(run.read_text().replace(f'"{"cd" * 32}"', "null"))
    assert {g.name for g in watch(tmp_path, BOUNDS).engines} == {"lens 1 abababababab", "lens 1"}


def test_the_day_from_which_the_baseline_counts_is_stated(tmp_path):
    """A wrong clock once, years ago, leaves one study in it, and drift is not evaluated."""
    result(tmp_path, 1, [()])
    report = watch(tmp_path, StopBounds())
    assert report.baseline == f"the first 4 weeks, from {report.studies[0].day} (1 study)"


def test_a_baseline_longer_than_any_monitoring_is_refused(tmp_path):
    """It was a defect of ours: no calendar goes as far."""
    result(tmp_path, 1, [[("A", "accepted")]])
    arguments = ["monitor", str(tmp_path), "--out", "out", "--baseline-weeks", "1000000"]
    assert CliRunner().invoke(app, arguments).exit_code == 2


def test_the_command_prints_what_was_counted_and_which_rule_is_broken(tmp_path, monkeypatch):
    monkeypatch.setattr(user_folders, "data", lambda: tmp_path / "data")
    for number in range(10):
        result(tmp_path / "results", number, [[("A", "rejected")]])
    printed = monitor(tmp_path / "results", tmp_path / "out", baseline_weeks=1).output
    warning = json.loads((tmp_path / "data" / "monitor.json").read_text("utf-8"))
    assert len(warning["stops"]) == 2  # few are accepted, and high scores are rejected
    assert printed[:-2] == (
        "10 studies, 10 verdicts in 1 week",
        *(f"STOP AND LOOK  {stop}" for stop in warning["stops"]),
    )
    page_file = tmp_path / "out" / "monitor.html"
    assert printed[-1] == f"Page: {page_file}"
    assert "the first 1 week, from 20" in page_file.read_text("utf-8")
