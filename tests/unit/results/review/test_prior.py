"""A prior examination is refused early if the images are not its own, with its own options."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from pydicom.uid import generate_uid
from tests.helpers.dicom_files import edited_dicom
from tests.phantoms.analysis import make_analysis
from tests.phantoms.files import write_dicom, write_nifti

from lesionlens.analysis.followup import study_locations
from lesionlens.base.errors import PatientConflictError, UnusableInputError
from lesionlens.base.labels import MrSequence
from lesionlens.base.run_context import RunContext
from lesionlens.imaging.reading.input_files import inputs_of
from lesionlens.imaging.reading.open import open_study
from lesionlens.results.export.exporter import save
from lesionlens.results.review.prior import PriorImagesError, find_prior, open_prior
from lesionlens.testing import make_patient

ONE = (MrSequence.T1C,)
NOW, BEFORE, OTHER = (make_patient(seed, spacing_mm=4.0) for seed in (1, 2, 3))


def result_of(study: Path, head, out: Path, selected: str | None = None) -> Path:
    opened = open_study(study, study_uid=selected)
    analysis, inputs = make_analysis(head, opened), inputs_of(opened)
    run = replace(analysis.run, inputs=inputs.files, series=inputs.series)
    save(replace(analysis, run=run), out)
    study_locations.remember(run.inputs, opened)
    return out


def write_examination(head, folder: Path, number: int, patient: str | None = None) -> None:
    """Write a study with UIDs of its own, also of another patient."""
    for path in write_dicom(head, folder, sequences=ONE)[MrSequence.T1C]:
        with edited_dicom(path) as image:
            for name in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
                image[name].value = generate_uid(entropy_srcs=[image[name].value, str(number)])
            image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
            if patient is not None:
                image.PatientID = image.PatientName = patient


def test_images_of_another_study_name_the_option_of_the_prior(tmp_path):
    several = tmp_path / "several"
    places = (tmp_path / "now", tmp_path / "before", several / "other", several / "more")
    for number, place in enumerate(places, 1):
        write_examination(make_patient(number, spacing_mm=4.0), place, number)
    now, result = open_study(places[0]), tmp_path / "result"
    result_of(places[1], BEFORE, result)
    for place in (several, several / "more"):
        with pytest.raises(UnusableInputError, match="--prior-study"):
            find_prior(result, now, place)
    with pytest.raises(UnusableInputError, match="--prior"):
        find_prior(several, now)
    assert find_prior(result, now, places[1]).result == result


@pytest.mark.parametrize("has_result", [True, False])
def test_a_prior_of_another_patient_is_used_only_if_the_user_confirms_it(tmp_path, has_result):
    write_examination(NOW, tmp_path / "now", 1)
    write_examination(BEFORE, tmp_path / "before", 2, patient="Another")
    prior, now = tmp_path / "before", open_study(tmp_path / "now")
    if has_result:
        prior = result_of(prior, BEFORE, tmp_path / "result")
    with pytest.raises(PatientConflictError):
        find_prior(prior, now)
    located = find_prior(prior, now, same_patient=True)
    assert "ID" in located.confirmed
    assert located.result == (prior if has_result else None)


def test_a_prior_without_a_result_needs_an_analysis(tmp_path):
    for name, head in (("now", NOW), ("before", BEFORE)):
        write_nifti(head, tmp_path / name, sequences=ONE)
    with pytest.raises(UnusableInputError, match=r"not a saved result.*without --prior-study"):
        find_prior(tmp_path / "before", open_study(tmp_path / "now"), tmp_path / "before")
    located = find_prior(tmp_path / "before", open_study(tmp_path / "now"))
    with pytest.raises(UnusableInputError, match="not analysed"):
        open_prior(located, RunContext())
    made = make_analysis(BEFORE, located.study)
    prior = open_prior(located, RunContext(), analyse={located.study: made}.__getitem__)
    assert prior.analysis is made


def test_other_images_of_a_prior_are_refused_before_anything_is_computed(tmp_path):
    for name, head in (("now", NOW), ("before", BEFORE), ("other", OTHER)):
        write_nifti(head, tmp_path / name, sequences=ONE)
    result = result_of(tmp_path / "before", BEFORE, tmp_path / "result")
    with pytest.raises(UnusableInputError, match="--prior-study"):
        find_prior(result, open_study(tmp_path / "now"), tmp_path / "other")


def test_the_window_asks_for_the_images_of_a_prior_whose_folder_holds_others_by_now(tmp_path):
    """It advised to choose their folder, and never asked for it."""
    for name, head in (("now", NOW), ("before", BEFORE)):
        write_nifti(head, tmp_path / name, sequences=ONE)
    now, place = open_study(tmp_path / "now"), tmp_path / "before"
    result = result_of(place, BEFORE, tmp_path / "result")
    moved = place.rename(tmp_path / "moved")
    write_nifti(OTHER, place, sequences=ONE)
    with pytest.raises(PriorImagesError, match="--prior-study"):
        find_prior(result, now)
    write_nifti(OTHER, place / "deeper" / "a", sequences=ONE)
    write_nifti(NOW, place / "deeper" / "b", sequences=ONE)
    next(place.glob("*.nii.gz")).unlink()
    with pytest.raises(PriorImagesError, match="--prior-study"):
        find_prior(result, now)
    assert find_prior(result, now, moved).study.root == moved
