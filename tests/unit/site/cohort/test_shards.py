"""A cohort in parts: shards, a table of studies, the lines of a log, a SLURM array."""

from __future__ import annotations

import logging

import pytest
from tests.helpers.saved_results import write_saved_result

from lesionlens.base.errors import UnusableInputError
from lesionlens.base.run_context import REPORT
from lesionlens.engines import EngineChoice
from lesionlens.site.cohort import run
from lesionlens.site.cohort.resume import locked_folder
from lesionlens.site.cohort.run import Cohort, run_cohort
from lesionlens.site.cohort.studies import WHOLE, Shard, find_jobs
from lesionlens.site.cohort.work import CohortChoice
from lesionlens.site.database.records import Status, StudyOutcome

NAMES = ["a", "b", "c", "d", "e"]
CPU = CohortChoice(EngineChoice("cpu"))


@pytest.fixture
def studies(tmp_path):
    for name in NAMES:
        (tmp_path / "studies" / name).mkdir(parents=True)
        (tmp_path / "studies" / name / "flair.nii.gz").write_bytes(b"")
    return tmp_path / "studies"


@pytest.fixture(autouse=True)
def begun(monkeypatch):
    """Names of the studies that were analysed; no network, a result without a candidate."""
    names = []

    def analyse(job, *_):
        names.append(job.name)
        write_saved_result(job.out, tuple(job.study.iterdir()))
        return StudyOutcome(job.name, Status.ANALYSED, 0, "", 41.2, 2, "one engine")

    monkeypatch.setattr(run, "analyse", analyse)
    monkeypatch.setattr(run, "identity", lambda choice: "one engine")
    return names


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_shards_share_out_every_study_once(studies, tmp_path, count):
    jobs = find_jobs(studies, tmp_path / "out")
    parts = [Shard(number, count).part(jobs) for number in range(1, count + 1)]
    assert sorted(job.name for part in parts for job in part) == NAMES


@pytest.mark.parametrize("text", ["0/4", "5/4", "2", "a/b", "1/0", "-1/2", "1/2/3"])
def test_a_shard_that_is_none_is_refused(text):
    with pytest.raises(UnusableInputError, match="shard"):
        Shard.of(text)


def test_the_whole_adopts_what_shards_have_done(studies, tmp_path, begun):
    out = tmp_path / "out"
    for number in (1, 2):
        run_cohort(Cohort(studies, out, resume=True, shard=Shard(number, 3)), CPU)
    done = run_cohort(Cohort(studies, out, resume=True), CPU)
    assert sorted(begun) == NAMES  # each once
    assert done.n_skipped == 4
    again = run_cohort(Cohort(studies, out, resume=True, shard=Shard(1, 3)), CPU)
    assert again.n_skipped == len(again.outcomes) == 2


def test_shards_work_beside_each_other_and_not_beside_a_batch_of_all(studies, tmp_path):
    out = tmp_path / "out"
    with locked_folder(out, beside_shards=True):
        assert run_cohort(Cohort(studies, out, shard=Shard(1, 2)), CPU).exit_status == 0
        with pytest.raises(UnusableInputError, match="another batch"):
            run_cohort(Cohort(studies, out), CPU)
    for shard in (Shard(1, 2), WHOLE):
        with locked_folder(out), pytest.raises(UnusableInputError, match="another batch running"):
            run_cohort(Cohort(studies, out, shard=shard), CPU)


def test_a_table_names_the_studies(studies, tmp_path, begun):
    table = tmp_path / "chosen.csv"
    table.write_text("study,name\nstudies/c,third\nstudies/a,\n")
    done = run_cohort(Cohort(table, tmp_path / "out"), CPU)
    assert [outcome.name for outcome in done.outcomes] == begun == ["third", "a"]
    table.write_text("folder\nstudies/c\n")
    with pytest.raises(UnusableInputError, match="no column `study`"):
        find_jobs(table, tmp_path / "out")


def test_a_log_has_a_line_for_each_study(studies, tmp_path, caplog):
    caplog.set_level(REPORT, "lesionlens")
    run_cohort(Cohort(studies, tmp_path / "out"), CPU)
    lines = [record.getMessage() for record in caplog.records if record.levelno == REPORT]
    assert lines[0].startswith("1 of 5: a analysed in 41.2 s, 2 candidates; about ")
    assert lines[-1] == "5 of 5: e analysed in 41.2 s, 2 candidates"
    assert logging.getLevelName(REPORT) == "REPORT"
