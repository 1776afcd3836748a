"""Many studies: each on its own, resumable, one table."""

from __future__ import annotations

import csv
import errno
import json
import os
import shutil
import sys
import threading
from contextlib import closing
from dataclasses import fields, replace
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
from tests.helpers.json_files import edited_json
from tests.helpers.saved_results import write_run_file, write_saved_result
from tests.phantoms.analysis import make_analysis

from lesionlens.analysis.followup import study_locations
from lesionlens.base.errors import (
    UnusableInputError,
)
from lesionlens.base.labels import (
    Identity,
    MapExtent,
    ReviewState,
    Source,
)
from lesionlens.base.provenance import sha256_of
from lesionlens.base.records.export import ExportOptions
from lesionlens.base.records.findings import conclusion_of
from lesionlens.base.records.review import ReviewEvent
from lesionlens.base.run_context import RunContext
from lesionlens.cli.batch import batch as batch_command
from lesionlens.engines import EngineChoice
from lesionlens.imaging.reading.input_files import inputs_of
from lesionlens.imaging.reading.open import open_study
from lesionlens.results.export.run import write_run
from lesionlens.results.export.tables import TablesExporter
from lesionlens.results.lens import Lens
from lesionlens.results.review.earlier import check_result_name
from lesionlens.results.review.reopen import read_run
from lesionlens.site.cohort import run, table, work
from lesionlens.site.cohort.batch import batch
from lesionlens.site.cohort.resume import complete, store_outcome
from lesionlens.site.cohort.run import Cohort, run_cohort
from lesionlens.site.cohort.studies import StudyJob, find_jobs, mixed_result_notes
from lesionlens.site.cohort.table import unread_result_notes, write_table
from lesionlens.site.cohort.work import CohortChoice
from lesionlens.site.database import study_files
from lesionlens.site.database.records import ReadKey, Status, StudyOutcome
from lesionlens.site.database.worklist_database import (
    existing_worklist_database,
    open_worklist_database,
)

pytestmark = pytest.mark.usefixtures("coarse")
CPU = CohortChoice(EngineChoice("cpu"))


@pytest.fixture
def studies(tmp_path, make_study):
    """Two studies that can be analysed and, between them, one that cannot."""
    for name in ("a", "c"):
        make_study(name=f"studies/{name}", sequences={"flair"})
    broken = tmp_path / "studies" / "b"
    broken.mkdir()
    broken.joinpath("t1c.nii.gz").write_bytes(b"not a scan")
    return tmp_path / "studies"


@pytest.fixture(autouse=True)
def small(random_weights, monkeypatch):
    """The smallest network in the place of the shipped one."""
    lens = Lens("cpu", weights=random_weights)
    monkeypatch.setattr(work, "load_lens", lru_cache(lambda choice: lens))


@pytest.fixture
def quick(patient, monkeypatch):
    """Write the truth of the head in the place of an analysis: seconds faster."""

    def analyse(job, choice, context):
        study = open_study(job.study)
        if job.is_new:
            check_result_name(inputs_of(study).files, job.out)
        job.out.mkdir(parents=True, exist_ok=True)
        analysis = make_analysis(patient, study)
        TablesExporter().write(analysis, job.out)
        write_run(analysis, job.out)
        count = len(analysis.findings.candidates)
        about = work.load_lens(choice.engine).engine.info
        return StudyOutcome(
            job.name, Status.ANALYSED, 0, "", 1.0, count, work.engine_identity(about, choice)
        )

    monkeypatch.setattr(work, "_analyse", analyse)


def states(done):
    return {o.name: o.status.value for o in done.outcomes}


def test_a_failing_study_is_recorded_and_the_rest_is_analysed(studies, tmp_path):
    out = tmp_path / "out"
    done = run_cohort(Cohort(studies, out), CPU)
    assert states(done) == {"a": "analysed", "b": "failed", "c": "analysed"}
    assert done.exit_status == 2
    assert "t1c.nii.gz" in done.outcomes[1].message
    assert not (out / "b").exists()
    for name in ("a", "c"):
        assert (out / name / "report.html").is_file()
        known = study_locations.recall(read_run(out / name).inputs)
        assert known is not None, "the result is opened without its study"
        assert known[0].parent == studies


@pytest.mark.parametrize("place", ["a/out", "a"])
def test_an_output_folder_within_a_study_of_a_table_is_refused(studies, tmp_path, place):
    """The other studies' results, the tables and the list were written into that study."""
    rows = tmp_path / "rows.csv"
    rows.write_text("study\nstudies/a\nstudies/c\n", "utf-8")
    before = sorted(studies.rglob("*"))
    with pytest.raises(UnusableInputError, match="within the study"):
        run_cohort(Cohort(rows, studies / place), CPU)
    assert sorted(studies.rglob("*")) == before


def test_a_resumed_run_leaves_complete_studies_alone(quick, studies, tmp_path, monkeypatch):
    out = tmp_path / "out"
    run_cohort(Cohort(studies, out), CPU)
    begun = []
    monkeypatch.setattr(run, "analyse", lambda job, *_: begun.append(job.name) or _failed(job))
    done = run_cohort(Cohort(studies, out, resume=True), CPU)
    assert begun == ["b"]
    assert done.n_skipped == 2
    (studies / "a" / "more.txt").write_text("a later file")
    (out / "c" / "findings.csv").unlink()
    begun.clear()
    run_cohort(Cohort(studies, out, resume=True), CPU)
    assert begun == ["a", "b", "c"]


def _failed(job):
    return StudyOutcome(job.name, Status.FAILED, 1, "no memory")


CHANGED = {
    "maps": MapExtent.FULL,
    "include_unaccepted": True,
    "sentence_template": "{{ count }}",
    "hidden": frozenset({Identity.PATIENT}),
}
"""A value other than the default for each option that changes a result."""


def test_every_option_that_changes_a_result_is_compared_on_resuming():
    """A new option belongs in `CHANGED` or among those that change no result."""
    about = work.load_lens(None).engine.info
    choices = {
        "files": (ExportOptions, work.NOT_COMPARED_FILES),
        "engine": (EngineChoice, work.NOT_COMPARED_ENGINE),
        None: (CohortChoice, {"files", "engine"}),
    }
    compared = set()
    identities = [work.engine_identity(about, CohortChoice())]
    for part, (kind, left_out) in choices.items():
        names = {one.name for one in fields(kind)}
        assert left_out <= names
        for name in names - left_out:
            changed = replace(kind(), **{name: CHANGED[name]})
            choice = changed if part is None else replace(CohortChoice(), **{part: changed})
            identities.append(work.engine_identity(about, choice))
            compared.add(name)
    assert compared == set(CHANGED)
    assert len(set(identities)) == len(CHANGED) + 1


def test_a_bundle_is_compared_by_its_configuration_too(quick, studies, tmp_path):
    """With the channels in another order, or another window, --resume kept the earlier results."""
    out, bundle = tmp_path / "out", tmp_path / "bundle"
    (bundle / "configs").mkdir(parents=True)
    (bundle / "configs" / "metadata.json").write_text("{}")
    choice, again = CohortChoice(EngineChoice("cpu", bundle=bundle)), Cohort(studies, out, True)
    run_cohort(Cohort(studies, out), choice)
    assert run_cohort(again, choice).n_skipped == 2
    (bundle / "configs" / "metadata.json").write_text('{"version": 2}')
    assert run_cohort(again, choice).n_skipped == 0


def test_a_result_of_another_analysis_is_not_taken_for_that_of_the_list(quick, studies, tmp_path):
    """As by a shard, or `analyze`, with other weights since; a review keeps the analysis."""
    out = tmp_path / "out"
    run_cohort(Cohort(studies, out), CPU)
    assert run_cohort(Cohort(studies, out, resume=True), CPU).n_skipped == 2
    path = out / "a" / "run.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "warnings": ["reviewed"]}))
    assert run_cohort(Cohort(studies, out, resume=True), CPU).n_skipped == 2
    for key in ("weights_sha256", "started"):
        path.write_text(json.dumps({**content, key: "2026-01-06T10:15:00Z"}))
        assert run_cohort(Cohort(studies, out, resume=True), CPU).n_skipped == 1, key
        assert json.loads(path.read_text())[key] == content[key]


MADE_OTHERWISE = {
    "several releases of LesionLens: 0.1 (1), 0.2 (1)": {"versions": {"lesionlens": "0.1"}},
    "several precisions: bfloat16 (1), float32 (1)": {"precision": "bfloat16"},
    f"server's 7, SHA-256 {'ab' * 6}… (1)": {
        "engine": "server's",
        "engine_version": "7",
        "weights_sha256": "ab" * 32,
    },
}
"""What a note says, and the fields of run.json that differ."""


def test_results_made_in_two_ways_in_one_table_are_named(quick, studies, tmp_path):
    """A resumed batch analyses nothing again, but a paper states what made its results."""
    out = tmp_path / "out"
    outcomes = run_cohort(Cohort(studies, out), CPU).outcomes
    path, other = (out / name / "run.json" for name in "ac")
    made = json.loads(path.read_text()) | {
        "versions": {"lesionlens": "0.2"},
        "precision": "float32",
    }
    for file in (path, other):
        file.write_text(json.dumps(made))
    assert mixed_result_notes(out, outcomes) == ()
    for words, changed in MADE_OTHERWISE.items():
        path.write_text(json.dumps(made | changed))
        (note,) = mixed_result_notes(out, outcomes)
        assert words in note


def change_listed_table(result):
    """Swap the sides in the findings.csv of a result, after run.json has listed it."""
    path, run_path = result / "findings.csv", result / "run.json"
    with edited_json(run_path) as content:
        content["files"] = [{"file": path.name, "sha256": sha256_of(path)}]
    assert "left" in path.read_text()
    path.write_text(path.read_text().replace("left", "right"))


def test_a_changed_findings_table_is_named_and_not_copied(quick, studies, tmp_path):
    """Values that a spreadsheet rewrote stood in cohort.csv as those of the analysis."""
    out = tmp_path / "out"
    done = run_cohort(Cohort(studies, out), CPU)
    change_listed_table(out / "a")
    with write_table(out, done.outcomes).open(newline="") as lines:
        rows = {row["study"]: row for row in csv.DictReader(lines)}
    assert "findings.csv cannot be read" in rows["a"]["message"]
    assert "it was changed since it was written" in rows["a"]["message"]
    assert (rows["a"]["candidates"], rows["a"]["id"]) == ("1", "")
    (note,) = unread_result_notes(out, done.outcomes)
    assert note.startswith("Candidates of a are not in cohort.csv")
    assert rows["c"]["score"]
    (out / "c" / "findings.csv").unlink()
    with write_table(out, done.outcomes).open(newline="") as lines:
        rows = {row["study"]: row for row in csv.DictReader(lines)}
    assert "findings.csv cannot be read" in rows["c"]["message"]


@pytest.mark.parametrize("resume", [False, True])
def test_a_result_that_may_not_be_read_stops_no_other_study(
    quick, studies, tmp_path, monkeypatch, resume
):
    """A colleague's result in a shared folder ended the whole batch with a system error."""
    out = tmp_path / "out"
    run_cohort(Cohort(studies, out), CPU)

    def read(folder):
        if folder.name == "a":
            raise PermissionError(errno.EACCES, "Permission denied", str(folder / "findings.json"))
        return read_run(folder)

    def refuse(job, choice, context):
        raise PermissionError(errno.EACCES, "Permission denied", str(job.out / "run.json"))

    monkeypatch.setattr(study_files, "read_run", read)
    monkeypatch.setattr(work, "_analyse", refuse)
    done = run_cohort(Cohort(studies, out, resume=resume), CPU)
    failed = {"a": "failed", "b": "failed"}
    assert states(done) == failed | {"c": "analysed" if resume else "failed"}
    message = done.outcomes[0].message
    assert "System error: Permission denied (a/run.json)" in message
    assert "defect" not in message


@pytest.mark.skipif(sys.platform != "linux", reason="other systems' names are always Unicode")
def test_a_name_that_is_no_utf8_stops_nothing(studies, tmp_path):
    odd = b"M\xfcller".decode("utf-8", "surrogateescape")
    (studies / "c").rename(studies / odd)
    for file in (studies / odd).iterdir():
        file.rename(file.with_name(f"{odd}_{file.name}"))
    (studies / odd / "t1c.nii.gz").write_bytes(b"")
    broken = run_cohort(Cohort(studies, tmp_path / "out"), CPU)
    assert states(broken) == {"M\\udcfcller": "failed", "a": "analysed", "b": "failed"}
    (studies / odd / "t1c.nii.gz").unlink()
    done = run_cohort(Cohort(studies, tmp_path / "out", resume=True), CPU)
    assert states(done) == {"M\\udcfcller": "analysed", "a": "analysed", "b": "failed"}
    assert write_table(tmp_path / "out", done.outcomes)
    report = (tmp_path / "out" / "M\\udcfcller" / "report.html").read_text("utf-8")
    assert "M\\udcfcller_flair.nii.gz" in report


def test_a_defect_is_reported_in_words_and_wins_over_unusable_input(
    quick, studies, tmp_path, monkeypatch
):
    real = work._analyse

    def breaks(job, *rest):
        if job.name == "a":
            raise KeyError("x")
        return real(job, *rest)

    monkeypatch.setattr(work, "_analyse", breaks)
    done = run_cohort(Cohort(studies, tmp_path / "out"), CPU)
    assert states(done) == {"a": "failed", "b": "failed", "c": "analysed"}
    assert done.outcomes[0].message == "a defect in LesionLens (KeyError: 'x')"
    assert done.exit_status == 1


def test_a_stop_keeps_what_is_complete(quick, studies, tmp_path):
    out, stop = tmp_path / "out", threading.Event()

    def first_done(stage, fraction):
        if stage.startswith("1 of"):
            stop.set() if stage.endswith("studies") else None

    done = run_cohort(
        Cohort(studies, out), CPU, context=RunContext(progress=first_done, cancel=stop)
    )
    assert states(done) == {"a": "analysed", "b": "stopped", "c": "stopped"}
    assert done.exit_status == 130
    with existing_worklist_database(out) as database:
        assert database.outcome("a") is not None
        assert database.outcome("c") is None


def test_the_folder_of_a_batch_opens_as_a_list(quick, studies, tmp_path):
    out = tmp_path / "out"
    done = run_cohort(Cohort(studies, out), CPU)
    with existing_worklist_database(out) as database:
        entries = {entry.name: entry for entry in database.entries()}
    assert list(entries) == [outcome.name for outcome in done.outcomes]
    for outcome in done.outcomes:
        entry = entries[outcome.name]
        assert Path(entry.place) == (studies / outcome.name).resolve()
        if outcome.status is Status.ANALYSED:
            assert entry.candidates == outcome.candidates
        else:
            assert outcome.message in entry.warnings


def test_the_table_has_a_row_a_candidate_and_one_for_other_studies(quick, studies, tmp_path):
    out = tmp_path / "out"
    done = run_cohort(Cohort(studies, out), CPU)
    written = write_table(out, done.outcomes)
    with written.open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    for name in ("a", "c"):
        found = json.loads((out / name / "findings.json").read_text())["candidates"]
        mine = [row for row in rows if row["study"] == name]
        assert len(mine) == max(len(found), 1)
        assert [r["tracking_uid"] for r in mine if r["id"]] == [c["tracking_uid"] for c in found]
    (failed,) = (row for row in rows if row["study"] == "b")
    assert failed["status"] == "failed"
    assert failed["id"] == ""


def test_the_table_holds_date_engine_and_the_verdicts_of_the_worklist(quick, studies, tmp_path):
    out = tmp_path / "out"
    done = run_cohort(Cohort(studies, out), CPU)

    def row_of(study):
        with write_table(out, done.outcomes).open(newline="", encoding="utf-8-sig") as lines:
            return next(row for row in csv.DictReader(lines) if row["study"] == study)

    row = row_of("a")
    uid, run_info = row["tracking_uid"], read_run(out / "a")
    assert row["date"] == run_info.started[:10]
    assert row["engine"].startswith(f"{run_info.engine.name} {run_info.engine.version}")
    assert row["review_state"] == "unreviewed"
    with existing_worklist_database(out) as database:
        for reader, state, time in (
            ("Ada", ReviewState.ACCEPTED, "2026-01-06T08:00:00Z"),
            ("Bo", ReviewState.REJECTED, "2026-01-07T08:00:00Z"),
        ):
            event = ReviewEvent(uid, state, reader=reader, time=time)
            database.add_acts(ReadKey("a", reader), [event])
    row = row_of("a")
    assert [row[f"review_{name}"] for name in ("state", "reader")] == ["rejected", "Bo"]
    assert row_of("b")["review_state"] != "rejected"


def test_a_resumed_table_counts_what_a_review_saved_there(quick, studies, tmp_path, patient):
    """A reader added a candidate: its row stood beside the counts of the analysis."""
    out = tmp_path / "out"
    run_cohort(Cohort(studies, out), CPU)
    analysis = make_analysis(patient, open_study(studies / "a"))
    first = analysis.findings.candidates[0]
    added = replace(first, id=2, tracking_uid="2.25.2", score=None, source=Source.READER)
    both = (first, added)
    found = replace(analysis.findings, candidates=both, conclusion=conclusion_of(both))
    TablesExporter().write(replace(analysis, findings=found), out / "a")
    done = run_cohort(Cohort(studies, out, resume=True), CPU)
    with write_table(out, done.outcomes).open(newline="") as lines:
        rows = [row for row in csv.DictReader(lines) if row["study"] == "a"]
    assert [row["candidates"] for row in rows] == ["2", "2"]
    assert rows[0]["message"] == "1 candidate region; added by a reader: 1"
    (out / "a" / "findings.json").write_text("{")
    assert run_cohort(Cohort(studies, out, resume=True), CPU).n_skipped == 1


@pytest.mark.filterwarnings("default")
def test_a_cluster_gives_what_this_process_gives(quick, studies, tmp_path):
    distributed = pytest.importorskip("distributed", reason="lesionlens[cohort] is not installed")
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None
    ) as cluster:
        on_it = {"workers": 2, "scheduler": cluster.scheduler_address}
        done = run_cohort(Cohort(studies, tmp_path / "there", **on_it), CPU)
        stop = threading.Event()
        stop.set()
        stopped = run_cohort(
            Cohort(studies, tmp_path / "no", **on_it), CPU, context=RunContext(cancel=stop)
        )
    alone = run_cohort(Cohort(studies, tmp_path / "here"), CPU)
    assert states(done) == states(alone)
    assert [o.candidates for o in done.outcomes] == [o.candidates for o in alone.outcomes]
    assert set(states(stopped).values()) == {"stopped"}


def test_no_study_is_refused(tmp_path):
    with pytest.raises(UnusableInputError, match="no folder"):
        find_jobs(tmp_path / "nothing", tmp_path)
    (tmp_path / ".hidden").mkdir()
    with pytest.raises(UnusableInputError, match="no sub-folder"):
        find_jobs(tmp_path, tmp_path)


def test_a_folder_of_segmentations_is_no_study(tmp_path):
    for place in ("studies/one/t1.nii.gz", "studies/truth/seg.nii.gz", "studies/empty/x.txt"):
        path = tmp_path / place
        path.parent.mkdir(parents=True)
        path.touch()
    assert [job.name for job in find_jobs(tmp_path / "studies", tmp_path)] == ["empty", "one"]


@pytest.mark.parametrize("prefix", ["", "sub-"])
def test_folders_whose_names_differ_only_in_case_are_refused(tmp_path, prefix):
    """On a disk that ignores case, the second study's result replaced the first one's."""
    for name in ("p1", "P1"):
        (tmp_path / "studies" / f"{prefix}{name}" / "anat").mkdir(parents=True, exist_ok=True)
        scan = tmp_path / "studies" / f"{prefix}{name}" / "anat" / f"{prefix}{name}_FLAIR.nii.gz"
        scan.write_bytes(b"")
    if len(list((tmp_path / "studies").iterdir())) == 1:
        pytest.skip("this disk ignores case")
    if prefix:
        (tmp_path / "studies" / "dataset_description.json").write_text("{}")
    with pytest.raises(UnusableInputError, match=r"two studies named .*Rename"):
        find_jobs(tmp_path / "studies", tmp_path / "out")


def test_a_study_named_like_a_table_of_the_results_is_refused_before_its_analysis(
    quick, tmp_path, make_study
):
    """After all analyses the table was refused as a file of others."""
    make_study(name="study", sequences={"flair"})
    table = tmp_path / "table.csv"
    for name in ("Cohort.csv", "studies.sqlite"):
        table.write_text(f"study,name\nstudy,{name}\n")
        with pytest.raises(UnusableInputError, match=f"a study named '{name}'"):
            batch_command(table, tmp_path / "out")
        with pytest.raises(UnusableInputError, match=f"a study named '{name}'"):
            run_cohort(Cohort(table, tmp_path / "out"), CPU)
    assert not (tmp_path / "out").exists()


def test_columns_that_are_not_read_and_repeated_scans_are_named(quick, tmp_path, make_study):
    """A misspelt `name` gave the results other names; a copied study was counted twice."""
    for name in ("a", "other"):
        make_study(name=f"studies/{name}", sequences={"flair"})
    scan = tmp_path / "studies" / "other" / "flair.nii.gz"
    image = nib.load(scan)
    nib.save(nib.Nifti1Image(image.get_fdata()[::-1] + 1, image.affine), scan)
    shutil.copytree(tmp_path / "studies" / "a", tmp_path / "studies" / "copy")
    table = tmp_path / "studies.csv"
    table.write_text(
        "study,Naem,patient,\nstudies/a,x,P1,\nstudies/other,y,P2,\nstudies/copy,z,P3,\n"
    )
    unread, repeated = batch_command(table, tmp_path / "out", workers=1).notes
    assert "naem" in unread
    assert "patient," not in unread.partition(".")[0]
    assert repeated.endswith(": copy and a")
    with closing(open_worklist_database(tmp_path / "out")) as known:
        assert [entry.patient for entry in known.entries()] == ["P1", "P2", "P3"]
    table.write_text("study,name\nstudies/a,a\nstudies/other,other\n")
    assert not batch_command(table, tmp_path / "out", workers=1, resume=True).notes


def test_a_file_that_was_replaced_is_analysed_again(quick, studies, tmp_path):
    """A table may list single files."""
    table, out = tmp_path / "table.csv", tmp_path / "out"
    scan = next((studies / "a").glob("*flair*"))
    table.write_text(f"study,name\n{scan},one\n")
    assert run_cohort(Cohort(table, out), CPU).exit_status == 0
    assert run_cohort(Cohort(table, out, resume=True), CPU).n_skipped == 1
    os.utime(scan, ns=(0, 0))
    assert run_cohort(Cohort(table, out, resume=True), CPU).n_skipped == 0


def test_a_batch_is_called_from_python_as_from_the_terminal(quick, studies, tmp_path):
    done = batch(studies, tmp_path / "out", device="cpu")
    assert states(done) == {"a": "analysed", "b": "failed", "c": "analysed"}
    with (tmp_path / "out" / "cohort.csv").open(encoding="utf-8-sig") as file:
        assert [row["study"] for row in csv.DictReader(file)] == ["a", "b", "c"]
    (tmp_path / "out" / "cohort.csv").write_text("notes of a person")
    with pytest.raises(UnusableInputError, match="cohort"):
        batch(studies, tmp_path / "out", device="cpu", resume=True)


def test_another_engine_analyses_again(tmp_path):
    job = StudyJob("a", tmp_path / "a", tmp_path / "out" / "a")
    job.study.mkdir()
    (job.study / "flair.nii.gz").write_text("a scan")
    write_saved_result(job.out, (job.study / "flair.nii.gz",))
    with closing(open_worklist_database(tmp_path / "out", readers=False)) as database:
        outcome = StudyOutcome("a", Status.ANALYSED, 0, "", engine="phantom 1")
        store_outcome(database, replace(job, files="f"), outcome)
        assert complete(database, replace(job, files="f"), "phantom 1") is not None
        assert complete(database, replace(job, files="f"), "phantom 2") is None
        assert complete(database, replace(job, files="g"), "phantom 1") is None


def test_a_bids_dataset_becomes_one_dataset_of_derivatives(tmp_path, make_study):
    anat = tmp_path / "ds" / "sub-01" / "ses-2" / "anat"
    anat.mkdir(parents=True)
    study = make_study(sequences={"flair"})
    (study / "flair.nii.gz").rename(anat / "sub-01_ses-2_FLAIR.nii.gz")
    out = tmp_path / "out"
    cohort = Cohort(tmp_path / "ds", out / "lesionlens", dataset=out)
    done = run_cohort(cohort, CPU)
    assert done.exit_status == 0
    assert (out / "sub-01/ses-2/anat/sub-01_ses-2_space-orig_dseg.nii.gz").is_file()
    assert (out / "lesionlens" / "sub-01_ses-2" / "findings.json").is_file()
    again = run_cohort(replace(cohort, resume=True), CPU)
    assert again.n_skipped == 1


def _one_study(tmp_path, make_study, cohort, level):
    """A cohort of one study `a`, whose voxels differ from another's but not its size and time."""
    study = make_study(name=f"{cohort}/a", sequences={"flair"}) / "flair.nii.gz"
    image = nib.load(study)
    data = np.asanyarray(image.dataobj) * np.float32(level)
    nib.Nifti1Image(data.astype(np.float32), image.affine).to_filename(study.with_suffix(""))
    study.unlink()
    os.utime(study.with_suffix(""), (1_000_000_000, 1_000_000_000))
    return tmp_path / cohort


@pytest.mark.parametrize("dataset", [False, True])
def test_another_cohorts_study_of_the_same_name_replaces_no_result(
    tmp_path, make_study, monkeypatch, dataset
):
    """Two patients in folders `a`: the second was analysed over the first, or kept as done.

    It is refused before it is analysed, which takes minutes.
    """
    out = tmp_path / "out"
    place = out / "lesionlens" if dataset else out
    first = Cohort(
        _one_study(tmp_path, make_study, "one", 1), place, dataset=out if dataset else None
    )
    assert run_cohort(first, CPU).exit_status == 0
    before = (place / "a" / "run.json").read_bytes()
    other = replace(first, studies=_one_study(tmp_path, make_study, "two", 2))
    shutil.copytree(out, tmp_path / "kept")
    never = SimpleNamespace(engine=work.load_lens(None).engine)
    monkeypatch.setattr(work, "load_lens", lru_cache(lambda choice: never))
    for resume in (False, True):
        shutil.rmtree(out)
        shutil.copytree(tmp_path / "kept", out)
        done = run_cohort(replace(other, resume=resume), CPU)
        assert (done.exit_status, done.n_skipped) == (2, 0)
        assert "result of another study named 'a'" in done.outcomes[0].message
        assert (place / "a" / "run.json").read_bytes() == before


def test_a_cohort_that_was_moved_or_exported_again_goes_on(tmp_path, make_study):
    first = Cohort(_one_study(tmp_path, make_study, "one", 1), tmp_path / "out")
    run_cohort(first, CPU)
    shutil.copytree(first.studies, tmp_path / "moved")
    moved = replace(first, studies=tmp_path / "moved", resume=True)
    assert run_cohort(moved, CPU).n_skipped == 1
    changed = _one_study(tmp_path, make_study, "two", 2) / "a" / "flair.nii"
    changed.replace(first.studies / "a" / "flair.nii")
    assert run_cohort(first, CPU).exit_status == 0


@pytest.mark.parametrize(
    ("resume", "earlier_release"), [(True, True), (True, False), (False, False)]
)
def test_a_result_of_another_study_is_not_kept_as_this_ones(
    quick, studies, tmp_path, resume, earlier_release
):
    """`analyze` wrote another patient's result into a folder of the cohort.

    It is not replaced either: the study fails until someone decides which result stays.
    """
    out = tmp_path / "out"
    run_cohort(Cohort(studies, out), CPU)
    if earlier_release:
        with closing(open_worklist_database(out)) as database:
            database.write_note("inputs: c", None)
    (tmp_path / "other.nii").write_text("another patient")
    write_run_file(out / "c", (tmp_path / "other.nii",))
    other = (out / "c" / "run.json").read_bytes()
    for _ in range(2):
        done = run_cohort(Cohort(studies, out, resume=resume), CPU)
        assert states(done) == {"a": "analysed", "b": "failed", "c": "failed"}
        assert "result of another study named 'c'" in done.outcomes[2].message
        assert (out / "c" / "run.json").read_bytes() == other
    shutil.rmtree(out / "c")
    done = run_cohort(Cohort(studies, out, resume=True), CPU)
    assert (states(done)["c"], done.n_skipped) == ("analysed", 1)


def test_a_result_without_a_record_of_its_files_is_analysed_again(quick, studies, tmp_path):
    out = tmp_path / "out"
    run_cohort(Cohort(studies, out), CPU)
    (out / "a" / "run.json").unlink()
    (out / "c" / "run.json").write_text("{")
    assert run_cohort(Cohort(studies, out, resume=True), CPU).n_skipped == 0
    assert run_cohort(Cohort(studies, out, resume=True), CPU).n_skipped == 2


def test_a_table_with_notes_of_a_person_is_not_replaced(tmp_path):
    """The notes were gone after the next run."""
    outcomes = [StudyOutcome("one", Status.FAILED, 2, "no scan")]
    csv_path = write_table(tmp_path, outcomes)
    table.check_tables(tmp_path)
    assert write_table(tmp_path, outcomes) == csv_path
    edited = csv_path.read_text(encoding="utf-8").replace("no scan", "no scan; ask Anna")
    csv_path.write_text(edited, encoding="utf-8")
    for act in (lambda: table.check_tables(tmp_path), lambda: write_table(tmp_path, outcomes)):
        with pytest.raises(UnusableInputError, match=r"cohort\.csv"):
            act()
    assert csv_path.read_text(encoding="utf-8") == edited
    csv_path.rename(tmp_path / "notes.csv")
    assert "ask Anna" not in write_table(tmp_path, outcomes).read_text(encoding="utf-8")
    assert (tmp_path / "notes.csv").read_text(encoding="utf-8") == edited
