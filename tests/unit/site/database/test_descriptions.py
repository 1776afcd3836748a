"""What a list takes from the files of its studies."""

from __future__ import annotations

import errno
import json
from contextlib import closing

import numpy as np
import pytest
from tests.helpers.saved_results import write_saved_result

from lesionlens.base.grid import Grid
from lesionlens.base.labels import MrSequence
from lesionlens.base.records.study import Series, SourceFile, Study, StudyKind
from lesionlens.imaging.reading import input_files
from lesionlens.site.database.descriptions import (
    describe_studies,
    patient_and_date_of,
    with_result,
)
from lesionlens.site.database.records import StudyEntry
from lesionlens.site.database.study_files import analysis_key, inputs_digest
from lesionlens.site.database.worklist_database import open_worklist_database


@pytest.mark.parametrize("name", ["t1.nii.gz", "t1.NII.GZ", "t1.nii"])
def test_a_sidecar_names_patient_and_date_however_the_ending_is_written(tmp_path, name):
    (tmp_path / "t1.json").write_text(json.dumps({"PatientID": "P7", "StudyDate": "20260105"}))
    series = Series(
        sequence=MrSequence.T1,
        detected_by="its name",
        confidence=1.0,
        grid=Grid((2, 2, 2), np.eye(4)),
        files=(SourceFile(tmp_path / name, name),),
        load=lambda: np.zeros((2, 2, 2), np.float32),
        description=name,
    )
    study = Study("one", StudyKind.NIFTI, {MrSequence.T1: series}, tmp_path)
    assert patient_and_date_of(study) == ("P7", "2026-01-05")


def test_a_result_that_cannot_be_read_is_said_once_and_no_longer_when_it_can(tmp_path):
    (tmp_path / "findings.json").write_text("{")
    entry = with_result(with_result(StudyEntry("a", ""), tmp_path), tmp_path)
    assert entry.warnings == ("its findings.json cannot be read",)
    (tmp_path / "findings.json").write_text('{"candidates": [], "quality": []}')
    entry = with_result(entry, tmp_path)
    assert entry.warnings == ()
    assert entry.candidates == 0


def test_candidates_without_a_score_are_counted_and_those_of_a_reader_are_not(tmp_path):
    """A mask of two lesions, opened and saved in a list, stood there with 0 candidates."""
    rows = [
        {"score": None, "source": "segmentation"},
        {"score": 0.7, "source": "network"},
        {"score": None, "source": "reader"},
        {"score": 0.6},
    ]
    write_saved_result(tmp_path, candidates=rows)
    entry = with_result(StudyEntry("a", ""), tmp_path)
    assert (entry.candidates, entry.highest) == (3, 0.7)
    write_saved_result(tmp_path, candidates=rows[:1])
    entry = with_result(entry, tmp_path)
    assert (entry.candidates, entry.highest, entry.warnings) == (1, None, ())


@pytest.mark.parametrize("content", [None, b"{", b"[]"])
def test_a_result_without_a_readable_run_has_no_key(tmp_path, content):
    if content is not None:
        (tmp_path / "run.json").write_bytes(content)
    assert analysis_key(tmp_path) is None
    assert inputs_digest(tmp_path) is None


def test_a_study_that_could_not_be_read_to_its_end_costs_no_other_and_is_tried_again(
    make_study, tmp_path, monkeypatch
):
    """A bad sector ended the scan of the whole list; a permission given later changed nothing."""
    studies = [make_study(name=name, sequences={"t1c"}) for name in "ab"]
    sha256_of = input_files.sha256_of

    def fail(path):
        if path.is_relative_to(studies[0]):
            raise OSError(errno.EIO, "Input/output error", str(path))
        return sha256_of(path)

    with closing(open_worklist_database(tmp_path / "list")) as database:
        database.add_studies(StudyEntry(study.name, str(study)) for study in studies)
        with monkeypatch.context() as failing:
            failing.setattr(input_files, "sha256_of", fail)
            describe_studies(database)
        failed, other = database.entries()
        describe_studies(database)
        again, _ = database.entries()
    (file,) = studies[0].iterdir()
    reason = f"Cannot read '{file.name}': Input/output error"
    assert failed.warnings == (f"cannot be used: {reason}",)
    assert other.sequences == again.sequences == ("t1c",)
    assert again.warnings == other.warnings
