"""A saved result opens with the series that it was made of, and with no others."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from tests.helpers.dicom_files import edited_dicom
from tests.phantoms.analysis import make_analysis
from tests.phantoms.files import DicomLayout, write_dicom, write_nifti

from lesionlens.base.errors import ReadError
from lesionlens.base.labels import MrSequence
from lesionlens.base.records.arrays import Volume
from lesionlens.base.records.study import Study
from lesionlens.base.run_context import RunContext
from lesionlens.cli.export import export
from lesionlens.imaging.preparation.prepare import prepare
from lesionlens.imaging.reading.input_files import inputs_of
from lesionlens.imaging.reading.open import open_study
from lesionlens.results.export.exporter import save
from lesionlens.results.result import Result
from lesionlens.results.review.pairing import paired
from lesionlens.results.review.reopen import (
    prepare_and_reopen,
    read_result,
    reopen,
    reopen_folder,
)
from lesionlens.testing import SyntheticPatient, make_patient

T1, T1C, T2, FLAIR = MrSequence.T1, MrSequence.T1C, MrSequence.T2, MrSequence.FLAIR
HEAD = make_patient(spacing_mm=4.0)
pytestmark = pytest.mark.usefixtures("coarse")
MIRRORED = np.diag((-1.0, 1.0, 1.0, 1.0))


def analysed(study: Study, out: Path, *, patient: SyntheticPatient = HEAD) -> Path:
    """Save a result of an opened study."""
    analysis = make_analysis(patient, study)
    inputs = inputs_of(study)
    save(
        replace(analysis, run=replace(analysis.run, inputs=inputs.files, series=inputs.series)), out
    )
    return out


def findings(result: Path) -> dict:
    return json.loads((result / "findings.json").read_text())


@pytest.fixture
def nifti(tmp_path):
    """A study of T1c and FLAIR."""
    write_nifti(HEAD, tmp_path / "study", sequences=(T1C, FLAIR))
    return tmp_path / "study"


def test_an_unchanged_study_opens_as_it_is_also_where_it_was_moved_and_renamed(nifti, tmp_path):
    result = analysed(open_study(nifti), tmp_path / "result")
    opened = open_study(nifti)
    assert paired(read_result(result), opened) is opened
    moved = nifti.rename(tmp_path / "moved")
    (moved / "flair.nii.gz").rename(moved / "other_FLAIR.nii.gz")
    export(result, moved, tmp_path / "again")
    assert findings(tmp_path / "again")["candidates"] == findings(result)["candidates"]
    runs = [json.loads((place / "run.json").read_text()) for place in (result, tmp_path / "again")]
    assert runs[0]["inputs"] == runs[1]["inputs"]
    assert runs[0]["series"] == runs[1]["series"]


def test_the_image_of_another_patient_is_refused_by_name(nifti, tmp_path):
    """Only the reference was compared: the report showed the other patient's FLAIR."""
    result = analysed(open_study(nifti), tmp_path / "result")
    write_nifti(make_patient(seed=1, spacing_mm=4.0), nifti, sequences=(FLAIR,))
    with pytest.raises(
        ReadError, match="FLAIR differs, in image or header, from the one that was analysed"
    ) as refused:
        export(result, nifti, tmp_path / "out")
    assert refused.value.exit_status == 2
    assert not (tmp_path / "out").exists()
    with pytest.raises(ReadError, match="FLAIR differs"):
        Result.open(result, study=nifti)


def test_a_missing_series_is_refused_by_name(nifti, tmp_path):
    result = analysed(open_study(nifti), tmp_path / "result")
    (nifti / "flair.nii.gz").unlink()
    with pytest.raises(ReadError, match="it has no FLAIR"):
        export(result, nifti, tmp_path / "out")


@pytest.mark.parametrize("flat", [True, False])
def test_a_series_mirrored_under_the_same_uids_is_refused(tmp_path, flat):
    layout = DicomLayout(flat=flat)
    files = write_dicom(HEAD, tmp_path / "study", sequences=(T1C, FLAIR), layout=layout)
    result = analysed(open_study(tmp_path / "study"), tmp_path / "result")
    for path in files[FLAIR]:
        with edited_dicom(path) as ds:
            ds.PixelData = np.ascontiguousarray(ds.pixel_array[:, ::-1]).tobytes()
    with pytest.raises(ReadError, match="FLAIR differs"):
        export(result, tmp_path / "study", tmp_path / "out")


def test_a_t1c_that_is_added_later_changes_neither_reference_nor_objects(tmp_path):
    """T1c became the reference, and the result lost its DICOM objects when it was written again."""
    study, aside = tmp_path / "study", tmp_path / "t1c"
    files = write_dicom(HEAD, study, sequences=(T1C, FLAIR, T2))
    shutil.move(files[T1C][0].parent, aside)
    result = analysed(open_study(study), tmp_path / "result")
    before = findings(result)
    voxels = np.asarray(nib.load(result / "candidates.nii.gz").dataobj)
    shutil.move(aside, files[T1C][0].parent)
    assert T1C in open_study(study).series
    answer = export(result, study, result)
    after = findings(result)
    assert (after["reference"], list(after["sequences"])) == ("flair", ["flair", "t2"])
    assert after["candidates"] == before["candidates"]
    np.testing.assert_array_equal(
        np.asarray(nib.load(result / "candidates.nii.gz").dataobj), voxels
    )
    assert (result / "dicom" / "seg.dcm").is_file()
    assert any("T1c was not part of this analysis" in note for note in answer.notes)
    again = prepare_and_reopen(result, open_study(study), RunContext())
    assert again.prepared.reference is FLAIR
    assert set(again.study.series) == {T2, FLAIR}


def test_a_later_choice_of_series_does_not_change_an_earlier_result(tmp_path):
    """The result was written with the series that were chosen for another analysis since."""
    study = tmp_path / "study"
    write_nifti(HEAD, study, sequences=(T1C, FLAIR, T2))
    first = open_study(study)
    result = analysed(first, tmp_path / "result")
    swapped = {T1C: "t2.nii.gz", T2: "flair.nii.gz", FLAIR: "t1c.nii.gz"}
    later = open_study(study, named=swapped)
    assert later.series[T1C].files[0].name == "t2.nii.gz"
    saved = read_result(result)
    opened = paired(saved, later)
    for sequence, series in first.series.items():
        assert opened.series[sequence].files == series.files
        assert opened.series[sequence].detected_by == series.detected_by
    told = "The series used are those that were analysed, not those chosen since: T1c, T2, FLAIR"
    assert opened.notices == (told,)
    prepared = prepare(later, RunContext())
    with pytest.raises(ReadError, match="T1c, T2 and FLAIR are open from others"):
        reopen_folder(result, later, prepared)
    export(result, study, tmp_path / "out")
    assert findings(tmp_path / "out")["sequences"] == findings(result)["sequences"]


def test_the_same_files_read_as_other_voxels_are_refused(nifti, tmp_path):
    study = open_study(nifti)
    saved = read_result(analysed(study, tmp_path / "result"))
    labels = saved.volumes.labels
    turned = Volume(labels.data, replace(labels.grid, affine=labels.grid.affine @ MIRRORED))
    with pytest.raises(ReadError, match="its T1c has different voxels from the result"):
        paired(replace(saved, volumes=replace(saved.volumes, labels=turned)), study)


def test_swapped_series_of_one_flat_folder_are_told_apart_by_their_digests(tmp_path):
    study = tmp_path / "study"
    write_dicom(HEAD, study, sequences=(T1C, FLAIR), layout=DicomLayout(flat=True))
    natural = open_study(study)
    uids = {sequence: str(series.uid) for sequence, series in natural.series.items()}
    named = open_study(study, named={T1C: uids[FLAIR], FLAIR: uids[T1C]})
    for made, other in ((natural, named), (named, natural)):
        result = analysed(made, tmp_path / made.series[T1C].uid)
        opened = paired(read_result(result), other)
        assert {s: one.uid for s, one in opened.series.items()} == {
            s: one.uid for s, one in made.series.items()
        }


def test_a_study_prepared_with_another_reference_is_refused(nifti, tmp_path):
    write_nifti(HEAD, tmp_path / "less", sequences=(FLAIR,))
    result = analysed(open_study(tmp_path / "less"), tmp_path / "result")
    more = open_study(nifti)
    with pytest.raises(ReadError, match="its reference is T1c, that of the result FLAIR"):
        reopen(read_result(result), more, make_analysis(HEAD, more).prepared)
