"""What is beside the studies of a folder."""

from __future__ import annotations

import pytest

from lesionlens.base.errors import UnusableInputError
from lesionlens.site.cohort.studies import find_jobs, left_out
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
