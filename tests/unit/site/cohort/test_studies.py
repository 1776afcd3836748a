"""What is beside the studies of a folder."""

from __future__ import annotations

import pytest
from tests.helpers.stale_share import make_stale

from lesionlens.base.errors import UnusableInputError
from lesionlens.base.run_context import SILENT
from lesionlens.engines.engine_choice import EngineChoice
from lesionlens.site.cohort import run
from lesionlens.site.cohort.run import Cohort
from lesionlens.site.cohort.studies import find_jobs, left_out, study_paths_by_name
from lesionlens.site.cohort.work import CohortChoice
from lesionlens.site.database.study_files import study_files
from lesionlens.site.worklist.sources import studies_at


def test_a_link_to_a_study_that_is_not_there_is_named(tmp_path):
    """A disk that was not mounted cost a cohort its studies without a word."""
    (tmp_path / "a").mkdir()
    for name in ("b", "c", ".#lock"):
        (tmp_path / name).symlink_to(tmp_path / "unmounted" / name)
    (tmp_path / "notes.txt").write_text("x")
    links, loose = left_out(tmp_path, tmp_path / "out")
    assert links == "Links that lead nowhere were skipped: b, c. Is a disk not mounted?"
    assert loose.endswith(": 1")
    (tmp_path / "dataset_description.json").write_text('{"BIDSVersion": "1.8.0"}')
    assert left_out(tmp_path, tmp_path) == (links,)


def test_a_link_to_a_stale_share_is_named_and_costs_no_other_study(tmp_path, monkeypatch):
    for name in "ab":
        (tmp_path / name).mkdir()
    make_stale(monkeypatch, tmp_path / "b")
    assert [job.name for job in find_jobs(tmp_path, tmp_path / "out")] == ["a"]
    (note,) = left_out(tmp_path, tmp_path / "out")
    assert note.startswith("Links that lead nowhere were skipped: b.")
    assert study_files(tmp_path / "b") == ()


@pytest.fixture
def linked(tmp_path):
    """A table and a folder in which the study `subject 1` is a link to `A Patient`."""
    (tmp_path / "store" / "A Patient").mkdir(parents=True)
    studies = tmp_path / "studies"
    studies.mkdir()
    (studies / "subject 1").symlink_to(tmp_path / "store" / "A Patient")
    table = studies / "list.csv"
    table.write_text("study\nsubject 1\n")
    return table


def test_a_link_in_a_table_names_its_study_as_in_a_folder(linked, tmp_path):
    """The result had the name of the link's target, and so that of the patient."""
    (job,) = find_jobs(linked, tmp_path / "out")
    assert (job.name, job.study.name) == ("subject_1", "subject 1")
    (entry,) = studies_at(linked, tmp_path / "out")
    assert (entry.name, entry.place) == ("subject_1", str(tmp_path / "store" / "A Patient"))
    (tmp_path / "store" / "here.csv").write_text("study\n../store/A Patient/.\n")
    (job,) = find_jobs(tmp_path / "store" / "here.csv", tmp_path / "out")
    assert job.name == "A_Patient"


def test_a_list_within_one_of_its_studies_is_refused(linked, tmp_path):
    """The list and all results were written into the study."""
    inside = tmp_path / "store" / "A Patient" / "list"
    for source in (linked, linked.parent):
        with pytest.raises(UnusableInputError, match="within the study"):
            studies_at(source, inside)


def test_a_worker_opens_a_study_by_its_link(linked, tmp_path, monkeypatch):
    """Reports named the target with several workers, and the link with one."""
    seen = []
    monkeypatch.setattr(run, "in_processes", lambda jobs, *_: seen.extend(jobs) or ())
    cohort, choice = Cohort(linked, tmp_path / "out", workers=2), CohortChoice(EngineChoice("cpu"))
    assert not list(run._outcomes(find_jobs(linked, cohort.out), cohort, choice, SILENT))
    assert [job.study for job in seen] == [linked.parent / "subject 1"]


def test_a_table_of_studies_that_cannot_be_read_is_no_empty_folder(tmp_path):
    assert study_paths_by_name(tmp_path) == {}
    (tmp_path / "studies.csv").write_text("name\none\n")
    with pytest.raises(UnusableInputError, match="study"):
        study_paths_by_name(tmp_path / "studies.csv")
