"""A NIfTI mask of anybody opens for review: in place, on any grid, measured, without a network."""

from __future__ import annotations

import csv
import io
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

from lesionlens.analysis.findings.edits import applied
from lesionlens.base.errors import ReadError
from lesionlens.base.labels import Label, MrSequence, Region, ReviewState, Source
from lesionlens.base.records.arrays import Volume
from lesionlens.base.records.review import Outline
from lesionlens.base.run_context import RunContext
from lesionlens.engines.testing.simple import Lesion, make_patient
from lesionlens.imaging.preparation.prepare import PrepareOptions, prepare
from lesionlens.imaging.reading.readers import open_study
from lesionlens.results.export import nifti
from lesionlens.results.export.exporter import save
from lesionlens.results.export.sentence import Sentences
from lesionlens.results.export.tables import TablesExporter, findings_csv, findings_file
from lesionlens.results.result import Result
from lesionlens.results.review.from_mask import from_mask
from lesionlens.results.review.log import ReviewLog
from lesionlens.results.review.reopen import reopen_folder

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


@pytest.mark.parametrize(
    ("codes", "shift", "said"),
    [((4, 0), 8.0, True), ((0, 4), 8.0, True), ((2, 4), 8.0, False), ((4, 0), 0.0, False)],
)
def test_a_mask_in_a_standard_space_is_said_to_be_one(analysed, tmp_path, codes, shift, said):
    """Its millimetres are those of a template: the marks lay beside the lesions without a word."""
    labels = analysed.volumes.labels
    affine = labels.affine.copy()
    affine[0, 3] += shift
    image = nib.Nifti1Image(labels.data, affine)
    image.set_sform(affine, codes[0])
    image.set_qform(affine, codes[1])
    nib.save(image, tmp_path / "seg.nii.gz")
    found = opened(tmp_path / "seg.nii.gz", analysed)
    assert any("standard space" in notice for notice in found.run.notices) is said


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


def test_labels_and_numbers_of_a_result_and_its_bids_derivative_keep_their_meaning(
    analysed, tmp_path
):
    """Candidates 1 and 2 were read as core and oedema, and a cavity without enhancement refused."""
    labels, ids = analysed.volumes.labels, analysed.findings.components.astype(np.uint8)
    treated = np.where(labels.data == Label.ENHANCING, np.uint8(Label.CAVITY), labels.data)
    for name in ("candidates.nii.gz", "sub-1_desc-candidates_dseg.nii.gz"):
        file = nifti.write_volume(tmp_path / name, Volume(ids, labels.grid))
        found = opened(file, analysed)
        assert found.run.notices[0] == "Opened from a mask: each number a lesion"
        assert {c.volume_ml[Region.TC] for c in found.findings.candidates} == {None}
        theirs = mask(tmp_path / f"their_{name}", ids, labels.grid.affine)
        assert "oedema" in opened(theirs, analysed).run.notices[0]
    file = nifti.write_volume(tmp_path / "sub-1_dseg.nii.gz", Volume(treated, labels.grid))
    cavity = opened(file, analysed).volumes.cavity
    np.testing.assert_array_equal(cavity.data, labels.data == Label.ENHANCING)


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


def test_no_hole_is_left_where_several_parts_share_a_voxel(analysed, tmp_path):
    """No part covered half of such a voxel, and it was lost from the whole tumour."""
    edge_mm = float(analysed.prepared.native.spacing_mm[0])
    fine = analysed.prepared.native.affine @ np.diag([*[1 / edge_mm] * 3, 1.0])
    fine[:3, 3] -= (edge_mm - 1) / 2
    shape = np.array(analysed.prepared.native.shape) * int(edge_mm)
    distance = np.linalg.norm(np.indices(shape) - (shape / 2)[:, None, None, None], axis=0)
    parts = np.select([distance < 12, distance < 14, distance < 20], [1, 3, 2], 0).astype(np.uint8)
    whole = opened(mask(tmp_path / "whole.nii.gz", (parts > 0).astype(np.uint8), fine), analysed)
    found = opened(mask(tmp_path / "parts.nii.gz", parts, fine), analysed)
    assert np.array_equal(found.volumes.labels.data > 0, whole.volumes.labels.data > 0)


@pytest.mark.parametrize("numbers", [(1, 1), (7, 9)], ids=["lesions as a whole", "by number"])
def test_a_lesion_that_lies_between_the_voxels_is_named_as_left_out(analysed, tmp_path, numbers):
    """It vanished beside a larger one, and the mask was only said to be resampled."""
    native = analysed.prepared.native
    edges = (1.0 / native.spacing_mm).tolist()
    fine = native.affine @ np.diag([*edges, 1.0])
    centre = np.rint(native.spacing_mm * (np.array(native.shape) // 2)).astype(int)
    data = np.zeros(np.rint(np.array(native.shape) * native.spacing_mm).astype(int), np.uint8)
    i, j, k = centre
    data[i - 8 : i + 8, j - 8 : j + 8, k - 8 : k + 8] = numbers[0]
    whole = opened(mask(tmp_path / "whole.nii.gz", data, fine), analysed)
    data[i + 20, j + 20, k + 20] = numbers[1]
    found = opened(mask(tmp_path / "both.nii.gz", data, fine), analysed)
    assert len(found.findings.candidates) == 1
    assert any("1 of 2 regions of the mask" in text for text in found.run.notices)
    assert not any("regions of the mask" in text for text in whole.run.notices)


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


@pytest.mark.parametrize("engine_segments_it", [True, False])
def test_a_part_that_the_engine_did_not_segment_is_unknown_in_its_own_mask(
    analysed, tmp_path, engine_segments_it
):
    """Labels 1 and 2 of a network for whole tumour and core stated that nothing enhances."""
    labels = analysed.volumes.labels
    core = np.where(labels.data == Label.ENHANCING, np.uint8(Label.CORE), labels.data)
    measured = tuple(
        replace(c, volume_ml={**c.volume_ml, Region.ET: 0.0}, rano_measurable=False)
        for c in analysed.findings.candidates
    )
    if not engine_segments_it:
        measured = tuple(c.without_parts((Region.ET,)) for c in measured)
    result = replace(
        analysed,
        volumes=replace(analysed.volumes, labels=Volume(core, labels.grid)),
        findings=replace(analysed.findings, candidates=measured),
    )
    save(result, tmp_path / "out")
    report = (tmp_path / "out" / "report.html").read_text("utf-8")
    assert (f">{Region.ET.display_name}<" in report) is engine_segments_it  # of the outlines
    for candidate in opened(tmp_path / "out" / "segmentation.nii.gz", analysed).findings.candidates:
        assert (candidate.volume_ml[Region.ET] == 0.0) is engine_segments_it
        assert (candidate.rano_measurable is None) is not engine_segments_it
        assert candidate.volume_ml[Region.TC] > 0


def test_a_mask_has_no_peak_of_the_probability(analysed, patient, tmp_path):
    found = opened(mask(tmp_path / "m.nii", patient.labels.data, patient.labels.affine), analysed)
    content = findings_file(found)
    assert [one.peak_mm for one in content.candidates] == [None, None]
    assert sum("peak_mm" in words for words in content.warnings) == 1
    assert any("no score, attention, uncertainty or contributions" in w for w in content.warnings)
    rows = list(csv.DictReader(io.StringIO(findings_csv(content))))
    assert {row[f"peak_mm_{axis}"] for row in rows for axis in "xyz"} == {""}


def test_parts_unknown_in_a_mask_stay_unknown_when_its_outline_is_corrected(
    analysed, patient, tmp_path
):
    data = (patient.labels.data > 0).astype(np.uint8)
    found = opened(mask(tmp_path / "m.nii", data, patient.labels.affine), analysed)
    candidate = found.findings.candidates[0]
    labels = np.where(found.findings.components == candidate.id, found.volumes.labels.data, 0)
    labels[: round(found.prepared.native.to_voxel(candidate.centroid_mm)[0])] = 0
    log = ReviewLog(found.review)
    whole = Outline(candidate.tracking_uid, (0, 0, 0), labels)
    log.decide(candidate.tracking_uid, ReviewState.EDITED, reader="A", outline=whole)
    edited = applied(replace(found, review=log.review))
    (redrawn,) = (c for c in edited.findings.candidates if c.id == candidate.id)
    assert redrawn.source is Source.SEGMENTATION  # it was called the network's
    (said,) = (words for words in edited.findings.notices if "redrawn" in words)
    assert "network" not in said
    assert redrawn.volume_ml[Region.WT] < candidate.volume_ml[Region.WT]
    assert (redrawn.volume_ml[Region.TC], redrawn.volume_ml[Region.ET]) == (None, None)
    assert (redrawn.rano_measurable, redrawn.peak_mm) == (None, None)
    parted = np.where(labels > 0, np.uint8(Label.ENHANCING), np.uint8(0))
    log.decide(
        candidate.tracking_uid,
        ReviewState.EDITED,
        reader="A",
        outline=Outline(candidate.tracking_uid, (0, 0, 0), parted),
    )
    again = applied(replace(found, review=log.review)).findings.candidates[candidate.id - 1]
    assert again.volume_ml[Region.ET] == pytest.approx(redrawn.volume_ml[Region.WT])


def test_many_numbers_are_lesions_by_number_even_where_they_touch(analysed, patient, tmp_path):
    data = np.zeros(patient.labels.data.shape, np.int16)
    for number in range(5):
        data[10 + number : 11 + number, 20:24, 20:24] = 11 + number
    found = opened(mask(tmp_path / "m.nii.gz", data, patient.labels.grid.affine), analysed)
    assert len(found.findings.candidates) == 5


def test_a_mask_is_of_others_and_its_file_is_named_nowhere(analysed, tmp_path):
    labels = analysed.volumes.labels
    image = nib.Nifti1Image(labels.data, labels.affine)
    beside = labels.affine + np.outer([9.0, 0, 0, 0], [0, 0, 0, 1])
    image.set_qform(beside, 1)  # a notice of its header
    nib.save(image, place := tmp_path / "Plantedname_19700101.nii.gz")
    found = opened(place, analysed)
    assert any(words.startswith("'the mask'") for words in found.run.notices)
    assert {one.source for one in found.findings.candidates} <= {Source.SEGMENTATION}
    save(found, tmp_path / "out")
    for path in (tmp_path / "out").rglob("*"):
        assert "Plantedname" not in path.name
        assert path.is_dir() or b"Plantedname" not in path.read_bytes(), path.name


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


def test_what_of_a_mask_lies_outside_the_images_is_said(analysed, patient, tmp_path):
    """Four fifths of a lesion were left out without a word."""
    data, affine = patient.labels.data > 0, patient.labels.grid.affine.copy()
    first = np.argwhere(data)[:, 0].min()
    affine[:3, 3] -= affine[:3, 0] * (first + 2)
    found = opened(mask(tmp_path / "m.nii.gz", data.astype(np.uint8), affine), analysed)
    assert any("lie outside the T1c" in words for words in found.run.notices)
    whole = opened(
        mask(tmp_path / "w.nii.gz", data.astype(np.uint8), patient.labels.grid.affine), analysed
    )
    assert not any("outside" in words for words in whole.run.notices)


@pytest.mark.parametrize(
    ("folder", "said"), [("case_002", True), ("case_001", False), ("masks_3", False)]
)
def test_a_mask_from_the_folder_of_another_case_is_said_to_be_one(patient, tmp_path, folder, said):
    """Where each case has a folder, its files have the same names as those of any other."""
    both = (MrSequence.T1C, MrSequence.FLAIR)
    study = write_study(patient, tmp_path / "case_001", sequences=both)
    made = make_analysis(patient, study)
    (tmp_path / folder).mkdir(exist_ok=True)
    labels = made.volumes.labels
    found = opened(mask(tmp_path / folder / "seg.nii.gz", labels.data, labels.affine), made)
    assert any("is named for another" in one for one in found.run.notices) is said


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


def test_a_notebook_shows_it_without_the_study(analysed, patient, tmp_path):
    """A KeyError: an imported segmentation has no probability to show behind the outlines."""
    drawn = (np.asarray(patient.labels.data) > 0).astype(np.uint8)
    found = opened(mask(tmp_path / "m.nii.gz", drawn, patient.labels.grid.affine), analysed)
    save(found, tmp_path / "out")
    html = Result.open(tmp_path / "out")._repr_html_()
    assert html.count("data:image/png") == len(found.findings.candidates) == 2


def test_tables_of_a_mask_can_be_written(analysed, patient, tmp_path):
    place = mask(tmp_path / "m.nii.gz", patient.labels.data, patient.labels.grid.affine)
    TablesExporter().write(opened(place, analysed), tmp_path)
    rows = json.loads((tmp_path / "findings.json").read_text())["candidates"]
    assert rows
    assert {row["score"] for row in rows} == {None}


def test_lesions_of_two_studies_have_tracking_uids_of_their_own(tmp_path):
    """Two folders of one name, and lesions within 20 mm, had one: gone and new were one lesion."""
    uids = []
    for seed in (1, 2):
        head = make_patient(seed, spacing_mm=4.0)
        folder = tmp_path / str(seed) / "scan"
        write_study(head, folder, sequences=(MrSequence.T1C,))
        mask = tmp_path / f"mask{seed}.nii.gz"
        nib.save(nib.Nifti1Image(head.labels.data.astype(np.uint8), head.labels.grid.affine), mask)
        study = open_study(folder)
        how = PrepareOptions(edge_mm=4.0, checks=False)
        made = [from_mask(mask, study, prepare(study, RunContext(), how)) for _ in range(2)]
        first, again = ([c.tracking_uid for c in one.findings.candidates] for one in made)
        assert first == again
        uids += first
    assert len(uids) == 2 == len(set(uids))
