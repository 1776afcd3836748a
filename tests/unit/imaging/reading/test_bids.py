"""A BIDS dataset is read by subject and session, and its derivatives are no scans."""

import json
import shutil

import pytest

from lesionlens.base.errors import UnusableInputError
from lesionlens.imaging.reading import bids
from lesionlens.imaging.reading.open import open_study
from lesionlens.site.cohort.studies import find_jobs, left_out, study_paths_by_name


@pytest.fixture
def dataset(tmp_path, make_study):
    """Two subjects, one of them with two sessions, and derivatives that look like scans."""
    root = tmp_path / "dataset"
    for name, place in (("sub-01", "ses-1"), ("sub-01", "ses-2"), ("sub-02", "")):
        source = make_study(sequences={"t1c", "flair"})
        session = f"_{place}" if place else ""
        anat = root / name / place / "anat"
        anat.mkdir(parents=True)
        (source / "t1c.nii.gz").rename(anat / f"{name}{session}_ce-gd_T1w.nii.gz")
        (source / "flair.nii.gz").rename(anat / f"{name}{session}_FLAIR.nii.gz")
    about = {"Name": "Ours", "BIDSVersion": "1.10.0"}
    (root / bids.DESCRIPTION).write_text(json.dumps(about))
    (root / "participants.tsv").write_text("participant_id\nsub-01\nsub-02\n")
    shutil.copytree(root / "sub-02", root / "derivatives" / "other" / "sub-02")
    shutil.copytree(root / "sub-02", root / "sourcedata" / "sub-03")
    return root


def test_a_job_for_each_session_and_none_for_derivatives(dataset, tmp_path):
    jobs = find_jobs(dataset, tmp_path / "out")
    assert [job.name for job in jobs] == ["sub-01_ses-1", "sub-01_ses-2", "sub-02"]
    assert jobs[1].study == dataset / "sub-01" / "ses-2"
    assert jobs[2].out == tmp_path / "out" / "sub-02"
    assert left_out(dataset, dataset / "out") == ()
    assert study_paths_by_name(dataset) == {job.name: job.study for job in jobs}
    assert study_paths_by_name(dataset / "nowhere") == {}


def test_scans_beside_the_sessions_of_their_subject_are_named(dataset):
    """`analyze` lists them as a study; `batch` and `worklist scan` left them out without a word."""
    for name in ("sub-01_sessions.tsv", "ses-1/sub-01_ses-1_scans.tsv"):
        (dataset / "sub-01" / name).write_text("session_id\n")
    assert left_out(dataset, dataset / "out") == ()
    beside = dataset / "sub-01" / "anat"
    shutil.copytree(dataset / "sub-02" / "anat", beside)
    (words,) = left_out(dataset, dataset / "out")
    assert words.startswith("Scans next to the sessions of sub-01 belong to no session")
    for path in beside.iterdir():
        path.rename(dataset / "sub-01" / path.name)
    assert left_out(dataset, dataset / "out") == (words,)


def test_a_session_is_named_by_its_entities(dataset):
    study = open_study(dataset / "sub-01" / "ses-2")
    assert study.name == "sub-01_ses-2"
    assert {s.value for s in study.series} == {"t1c", "flair"}
    assert study.series["t1c"].detected_by == "file name"


def test_the_root_lists_sessions_and_never_derivatives(dataset):
    with pytest.raises(UnusableInputError) as refused:
        open_study(dataset)
    listed = [study.uid for study in refused.value.studies]
    assert listed == ["sub-01/ses-1", "sub-01/ses-2", "sub-02"]
    study = open_study(dataset, study_uid="sub-02")
    assert study.name == "sub-02"
    assert all("derivatives" not in f.name for s in study.series.values() for f in s.files)


def test_one_subject_with_our_own_derivatives_opens(dataset):
    shutil.rmtree(dataset / "sub-01")
    assert {s.value for s in open_study(dataset).series} == {"t1c", "flair"}


def test_a_dataset_is_known_without_its_description(dataset):
    (dataset / bids.DESCRIPTION).unlink()
    assert bids.is_dataset(dataset)
    assert not bids.is_dataset(dataset / "sub-01")
    assert bids.root_of(dataset / "sub-01" / "ses-1" / "anat") == dataset


def test_a_long_name_leaves_room_for_the_files_named_after_it(tmp_path, make_study):
    study = make_study(name=f"{'ü' * 122}/study", sequences={"t1c"}).parent
    (job,) = find_jobs(tmp_path, tmp_path / "out")
    assert job.study == study
    name = open_study(study).name
    assert len(name.encode()) <= len(job.name.encode()) <= 160
    assert len(f"{bids.bids_name(job.name)}_space-orig_label-WT_desc-attention_map.nii.gz") < 255
