"""A NIfTI mask of anybody opens for review: in place, on any grid, measured, without a network."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
from tests.phantoms.acquire import Acquisition, acquire
from tests.phantoms.analysis import make_analysis, write_study
from tests.phantoms.files import write_nifti

from lesionlens.base.errors import ReadError
from lesionlens.base.labels import MrSequence, Region
from lesionlens.base.records.arrays import Volume
from lesionlens.results.export import nifti
from lesionlens.results.export.exporter import save
from lesionlens.results.export.sentence import Sentences
from lesionlens.results.review.reopen import reopen_folder
from lesionlens.testing import Lesion, make_patient

pytestmark = pytest.mark.usefixtures("coarse")
LEFT, RIGHT = (-28.0, 8.0, 26.0), (30.0, -40.0, 12.0)


@pytest.fixture(scope="module")
def patient():
    return make_patient(spacing_mm=4.0, lesions=(Lesion(LEFT), Lesion(RIGHT, 12.0)))


@pytest.fixture(scope="module")
def analysed(patient, tmp_path_factory):
    both = (MrSequence.T1C, MrSequence.FLAIR)
    study = write_study(patient, tmp_path_factory.mktemp("mask") / "study", sequences=both)
    return make_analysis(patient, study)


def mask(place, data, affine=None):
    image = nib.Nifti1Image(data, np.eye(4) if affine is None else affine)
    nib.save(image, place)
    return place


def opened(place, analysed):
    return reopen_folder(place, analysed.study, analysed.prepared)


def test_a_4_beside_a_3_is_a_resection_cavity(analysed, tmp_path):
    drawn = analysed.volumes.labels.data.copy()
    drawn[:4, :4, :4] = 4
    found = opened(mask(tmp_path / "seg.nii.gz", drawn, analysed.volumes.labels.affine), analysed)
    assert len(found.findings.candidates) == len(analysed.findings.candidates)
    np.testing.assert_array_equal(found.volumes.labels.data, np.where(drawn == 4, 0, drawn))
    np.testing.assert_array_equal(found.volumes.all_labels.data, drawn)


@pytest.mark.parametrize(("enhancing", "name"), [(3, "seg.nii.gz"), (4, "BraTS2021_7_seg.nii.gz")])
def test_parts_are_known_by_their_numbers(analysed, patient, tmp_path, enhancing, name):
    truth = patient.labels
    data = np.where(truth.data == 3, enhancing, truth.data).astype(np.uint8)
    found = opened(mask(tmp_path / name, data, truth.grid.affine), analysed)
    np.testing.assert_array_equal(found.volumes.labels.data, analysed.volumes.labels.data)
    was = {c.location.side: c for c in analysed.findings.candidates}
    for candidate in found.findings.candidates:
        for region in Region:
            assert candidate.volume_ml[region] == pytest.approx(
                was[candidate.location.side].volume_ml[region]
            )
    assert {c.location.side for c in found.findings.candidates} == {"left", "right"}


def test_a_4_without_a_3_is_a_cavity_in_our_files_and_else_refused(analysed, patient, tmp_path):
    data = patient.labels.data.astype(np.uint8)
    data[data == 3] = 4
    file = nifti.write_volume(tmp_path / "segmentation.nii.gz", Volume(data, patient.labels.grid))
    found = opened(file, analysed)
    assert found.volumes.cavity is not None
    assert found.volumes.cavity.data.sum() == np.count_nonzero(data == 4)
    assert not (found.volumes.labels.data == 3).any()
    with pytest.raises(ReadError, match="label 4 but no 3"):
        opened(file.rename(tmp_path / "x.nii.gz"), analysed)
    with pytest.raises(ReadError, match="label 4 but no 3"):
        opened(
            mask(tmp_path / "y.nii.gz", data * (data == 4), patient.labels.grid.affine), analysed
        )


@pytest.mark.parametrize("orientation", ["RAS", "LPI", "PSR", "AIL"])
def test_a_mask_of_any_orientation_and_grid_lies_at_the_same_millimetres(
    analysed, patient, tmp_path, orientation
):
    how = Acquisition(orientation, (3.0, 4.0, 5.0), 9.0)
    turned = acquire(patient.labels, how)
    inside = (turned.data > 0.5).astype(np.uint8)
    found = opened(mask(tmp_path / "m.nii.gz", inside, turned.grid.affine), analysed)
    places = sorted(c.centroid_mm for c in found.findings.candidates)
    was = sorted(c.centroid_mm for c in analysed.findings.candidates)
    np.testing.assert_allclose(places, was, atol=2.5)
    assert any("resampled" in words for words in found.run.notices)


@pytest.mark.parametrize(
    ("how", "asked"),
    [
        (Acquisition("RAS"), False),
        (Acquisition("LPI"), False),
        (Acquisition("LPS", (2.0, 4.0, 6.0)), False),
        (Acquisition("LPS", (3.0, 3.0, 3.0)), True),
    ],
    ids=["reference", "reference, stored otherwise", "FLAIR", "neither"],
)
def test_a_mask_on_the_voxels_of_no_series_is_asked_about(patient, tmp_path, how, asked):
    """Another patient's, in place by its millimetres, was opened without a doubt."""
    thick = Acquisition("LPS", (2.0, 4.0, 6.0))
    reference = write_study(patient, tmp_path / "study", sequences=(MrSequence.T1C,))
    other = write_study(patient, tmp_path / "study", sequences=(MrSequence.FLAIR,), how=thick)
    study = replace(reference, series={**reference.series, **other.series})
    drawn = acquire(patient.labels, how)
    place = mask(tmp_path / "m.nii.gz", (drawn.data > 0).astype(np.uint8), drawn.grid.affine)
    found = reopen_folder(place, study, make_analysis(patient, study).prepared)
    said = "of no series of this study"
    assert any(said in text for text in found.run.notices) is asked


def test_one_number_is_lesions_as_a_whole_and_tells_nothing_of_enhancement(
    analysed, patient, tmp_path
):
    data = (patient.labels.data > 0).astype(np.float32)
    found = opened(mask(tmp_path / "m.nii", data, patient.labels.grid.affine), analysed)
    assert len(found.findings.candidates) == 2
    sizes = [c.volume_ml for c in found.findings.candidates]
    assert {(one[Region.TC], one[Region.ET]) for one in sizes} == {(None, None)}
    assert any(
        "not distinguish core and enhancing part" in words for words in found.findings.notices
    )


def test_many_numbers_are_lesions_by_number_even_where_they_touch(analysed, patient, tmp_path):
    data = np.zeros(patient.labels.data.shape, np.int16)
    for number in range(5):
        data[10 + number : 11 + number, 20:24, 20:24] = 11 + number
    found = opened(mask(tmp_path / "m.nii.gz", data, patient.labels.grid.affine), analysed)
    assert len(found.findings.candidates) == 5


def test_an_empty_mask_flags_nothing(analysed, patient, tmp_path):
    data = np.zeros(patient.labels.data.shape, np.uint8)
    found = opened(mask(tmp_path / "m.nii.gz", data, patient.labels.grid.affine), analysed)
    assert found.findings.candidates == ()
    assert found.findings.conclusion == "no candidate region"
    assert "engine" not in Sentences(found).of_study()  # there is none, nor a threshold


def test_what_is_no_mask_of_this_study_is_refused_in_words(analysed, patient, tmp_path):
    shape, affine = patient.labels.data.shape, patient.labels.grid.affine
    noise = np.random.default_rng(1)
    images = {
        "fractions": noise.random(shape, np.float32),
        "different numbers": noise.integers(0, 2000, shape).astype(np.int16),
        "negative": np.full(shape, -1, np.int16),
        "excessively large": np.full(shape, 2.0**32, np.float32),
        "values that are not numbers": np.where(noise.random(shape) < 0.1, np.nan, 1.0),
    }
    for words, data in images.items():
        with pytest.raises(ReadError, match=words):
            opened(mask(tmp_path / "m.nii.gz", data, affine), analysed)
    elsewhere = affine.copy()
    elsewhere[:3, 3] += 1000
    ones = np.ones(shape, np.uint8)
    with pytest.raises(ReadError, match="outside"):
        opened(mask(tmp_path / "m.nii.gz", ones, elsewhere), analysed)


@pytest.mark.parametrize("own", [True, False])
def test_a_mask_from_a_result_of_other_images_is_said_to_be_one(patient, tmp_path, own):
    """A mask of another patient in the same standard space opened without a word."""
    made = make_analysis(patient, write_study(patient, tmp_path / "a"))
    another = make_analysis(patient, write_study(patient, tmp_path / "b"))
    if not own:
        another = replace(another, run=replace(another.run, inputs=(("t1c.nii", "0" * 64),)))
    save(another, tmp_path / "result")
    found = opened(tmp_path / "result" / "segmentation.nii.gz", made)
    assert any("result of other images" in one for one in found.run.notices) is not own


def test_a_review_of_a_head_with_its_skull_knows_sides_without_napari(tmp_path):
    head = make_patient(spacing_mm=4.0, skull=True)
    write_nifti(head, tmp_path / "head", sequences=(MrSequence.T1C,))
    place = mask(tmp_path / "seg.nii.gz", head.labels.data, head.labels.grid.affine)
    code = (
        "import sys, lesionlens.cli.main as main\n"
        f"sys.argv = ['lesionlens', 'review', {str(place)!r}, {str(tmp_path / 'head')!r},"
        f" '--out', {str(tmp_path / 'out')!r}]\n"
        "try:\n    main.run()\nexcept SystemExit as end:\n    status = end.code\n"
        "print(status, 'napari' in sys.modules, file=sys.stderr)\n"
    )
    env = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env
    )
    assert done.stderr.splitlines()[-1] == "0 False", done.stderr
    (candidate,) = json.loads((tmp_path / "out" / "findings.json").read_text())["candidates"]
    assert candidate["location"]["side"] == ("left" if candidate["centroid_mm"][0] < 0 else "right")
    assert candidate["location"]["region"] is not None
    assert candidate["volume_ml"]["wt"] > 5
