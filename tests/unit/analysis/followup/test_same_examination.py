"""Whether two studies are one examination: copies count, whatever happened to their files."""

import gzip
import json
import shutil
from dataclasses import replace
from itertools import permutations

import nibabel as nib
import numpy as np
import pydicom
import pytest
from pydicom.uid import generate_uid
from tests.phantoms.analysis import write_study

from lesionlens.analysis.followup.patient import Examination
from lesionlens.analysis.followup.same_examination import is_same_examination
from lesionlens.base.errors import UnusableInputError
from lesionlens.base.labels import MrSequence
from lesionlens.base.records.patient import Patient
from lesionlens.base.records.study import StudyKind
from lesionlens.engines.testing.simple import make_patient
from lesionlens.imaging.reading.readers import open_study
from lesionlens.results.review import prior
from lesionlens.results.review.prior import find_prior, latest_result_before

BOTH = (MrSequence.T1C, MrSequence.FLAIR)


@pytest.fixture(scope="module")
def head():
    return make_patient(5, spacing_mm=8.0, lesions=())


@pytest.fixture
def study(head, tmp_path):
    return write_study(head, tmp_path / "study", sequences=BOTH)


def copied(study, change, name="copy"):
    """Write every image again as `change` makes it, and open the copy."""
    folder = study.root.parent / name
    folder.mkdir()
    for file in study.root.glob("*.nii*"):
        change(file, folder)
    return open_study(folder)


def as_it_is(file, folder):
    shutil.copy(file, folder)


def compressed_anew(file, folder):
    content = file.read_bytes()
    content = gzip.decompress(content) if file.suffix == ".gz" else content
    (folder / f"{file.name.split('.')[0]}.nii").write_bytes(content)


def stored_otherwise(file, folder):
    image = nib.load(file)
    wanted = nib.orientations.axcodes2ornt(("P", "S", "L"))
    turn = nib.orientations.ornt_transform(nib.io_orientation(image.affine), wanted)
    nib.save(image.as_reoriented(turn), folder / file.name)


def scaled_integers(file, folder):
    image = nib.load(file)
    values = image.get_fdata()
    scale = values.max() / 30_000
    made = nib.Nifti1Image(np.round(values / scale).astype(np.int16), image.affine)
    made.header.set_slope_inter(scale, 0)
    nib.save(made, folder / file.name)


def positioned_elsewhere(file, folder):
    image = nib.load(file)
    affine = image.affine.copy()
    affine[:3, 3] += 17
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj), affine), folder / file.name)


@pytest.mark.parametrize(
    "change",
    [as_it_is, compressed_anew, stored_otherwise, scaled_integers, positioned_elsewhere],
)
def test_a_copy_is_refused_as_a_prior(study, change):
    """Before, "unchanged" was said of a tumour that was compared with itself."""
    copy = copied(study, change)
    assert is_same_examination(study, copy)
    with pytest.raises(UnusableInputError, match="this same examination"):
        find_prior(copy.root, study, same_patient=True)


def test_one_shared_sequence_is_enough(study):
    copy = copied(study, lambda file, to: "flair" in file.name and shutil.copy(file, to))
    assert list(copy.series) == [MrSequence.FLAIR]
    assert is_same_examination(study, copy)


def cropped(file, folder):
    image = nib.load(file)
    nib.save(image.slicer[1:, :, :], folder / file.name)


def test_images_of_another_size_are_of_another_examination(study):
    assert not is_same_examination(study, copied(study, cropped))


@pytest.mark.parametrize("spike", [0, 1e4])
def test_another_scan_of_the_same_head_is_another_examination(study, spike):
    """Noise of a scanner is new at each scan, even where nothing grew or moved.

    A spike in both scans, far brighter than the head, made them copies.
    """
    random = np.random.default_rng(3)

    def noisy(share):
        def change(file, folder):
            image = nib.load(file)
            values = image.get_fdata()
            brightest = values.max()
            values += random.normal(0, share * brightest, values.shape) * (values > 0)
            if spike:
                values[0, 0, 0] = spike * brightest
            nib.save(nib.Nifti1Image(values.astype(np.float32), image.affine), folder / file.name)

        return change

    first = copied(study, noisy(0.0), "first")
    assert not is_same_examination(first, copied(study, noisy(0.02)))


@pytest.fixture
def dicom(head, tmp_path):
    write_study(head, tmp_path / "dicom", kind=StudyKind.DICOM, sequences=BOTH)
    return open_study(tmp_path / "dicom")


def rewritten(study, change, name="copy"):
    """Write every DICOM file again as `change` makes its header, and open the copy."""
    folder = study.root.parent / name
    for number, file in enumerate(f for f in sorted(study.root.rglob("*")) if f.is_file()):
        header = pydicom.dcmread(file)
        change(header)
        folder.mkdir(exist_ok=True)
        header.save_as(folder / f"{number}.dcm")
    return open_study(folder)


def test_another_series_of_the_same_study_is_no_earlier_examination(dicom):
    new: dict[str, str] = {}

    def louder(header):
        header.PixelData = (header.pixel_array // 2).astype(header.pixel_array.dtype).tobytes()
        for name in ("SeriesInstanceUID", "SOPInstanceUID"):
            header[name].value = new.setdefault(header[name].value, generate_uid())
        header.file_meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID

    again = rewritten(dicom, louder)
    assert again.uid == dicom.uid
    assert is_same_examination(dicom, again)


def test_an_anonymised_copy_is_recognised_by_its_voxels(dicom):
    new: dict[str, str] = {}

    def anonymous(header):
        for name in (
            "StudyInstanceUID",
            "SeriesInstanceUID",
            "FrameOfReferenceUID",
            "SOPInstanceUID",
        ):
            header[name].value = new.setdefault(header[name].value, generate_uid())
        header.file_meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID
        header.PatientName, header.PatientID, header.StudyDate = "Anon", "A1", "20200101"

    copy = rewritten(dicom, anonymous)
    assert copy.uid != dicom.uid
    with pytest.raises(UnusableInputError, match="this same examination"):
        find_prior(copy.root, dicom, same_patient=True)


def test_a_dicom_study_converted_to_nifti_is_recognised(dicom, tmp_path):
    folder = tmp_path / "converted"
    folder.mkdir()
    for sequence, series in dicom.series.items():
        made = nib.Nifti1Image(series.load(), series.grid.affine)
        nib.save(made, folder / f"{sequence.value}.nii.gz")
    assert is_same_examination(open_study(folder), dicom)


def _result_of(folder, sha256):
    folder.mkdir(parents=True)
    (folder / "findings.json").write_text("{}")
    (folder / "run.json").write_text(json.dumps({"inputs": [{"file": "t1c", "sha256": sha256}]}))


def test_the_earlier_result_is_found_by_bids_names_and_a_copy_is_passed_over(tmp_path):
    """NIfTI has no Study UID on either side, which was taken for the same study."""
    _result_of(tmp_path / "out" / "sub-07_ses-20240101", "11")
    _result_of(tmp_path / "out" / "sub-07_ses-20250101", "22")
    _result_of(tmp_path / "out" / "sub-08_ses-20250201", "33")
    now = Examination(Patient("sub-07"), "2025-03-01")
    assert latest_result_before(tmp_path / "out", now).name == "sub-07_ses-20250101"
    passed = latest_result_before(tmp_path / "out", now, frozenset({"22"}))
    assert passed.name == "sub-07_ses-20240101"
    for number, inputs in enumerate(([{"file": "t1c"}, "t1c"], "t1c", None)):
        damaged = tmp_path / f"damaged-{number}" / "sub-07_ses-20250201"
        _result_of(damaged, "44")
        (damaged / "run.json").write_text(json.dumps({"inputs": inputs}))
        assert latest_result_before(damaged.parent, now, frozenset({"22"})) == damaged


def test_examinations_of_other_series_are_two(study, head, tmp_path):
    """Series that have a UID each are shared only if the UIDs are equal."""
    other_head = make_patient(6, spacing_mm=8.0)
    other = write_study(other_head, tmp_path / "other", sequences=BOTH)

    def named(study, uid):
        series = {
            s: replace(one, uid=f"{uid}.{n}") for n, (s, one) in enumerate(study.series.items())
        }
        return replace(study, series=series)

    assert not is_same_examination(named(study, "1.2"), named(other, "1.3"))
    assert is_same_examination(named(study, "1.2"), named(other, "1.2"))
    assert not is_same_examination(study, named(other, "1.3"))


def test_results_of_two_datasets_with_one_subject_are_not_taken_for_one_examination(tmp_path):
    """Either was compared: of another patient, as each BIDS dataset has its own subject 1."""
    for number, dataset in enumerate(("a", "b")):
        _result_of(tmp_path / "out" / dataset / "sub-01_ses-1", f"{number}{number}")
    now = Examination(Patient("sub-01"), "2")
    with pytest.raises(UnusableInputError, match="several examinations of ses-1 there"):
        latest_result_before(tmp_path / "out", now)
    _result_of(tmp_path / "one" / "sub-01_ses-1", "11")
    _result_of(tmp_path / "one" / "again" / "sub-01_ses-1", "11")
    assert latest_result_before(tmp_path / "one", now).name == "sub-01_ses-1"


@pytest.mark.parametrize("names", [*permutations("abc")])
def test_results_of_single_series_are_linked_by_one_of_both(names, monkeypatch, tmp_path):
    """Which of them the disk named first decided whether they were one examination."""
    inputs = dict(zip("abc", (["11"], ["22"], ["11", "22"]), strict=True))
    for name, sha256s in inputs.items():
        _result_of(tmp_path / name / "sub-01_ses-1", "11")
        rows = [{"file": f"{n}.nii.gz", "sha256": one} for n, one in enumerate(sha256s)]
        run = tmp_path / name / "sub-01_ses-1" / "run.json"
        run.write_text(json.dumps({"inputs": rows}))
    found = [tmp_path / name / "sub-01_ses-1" for name in names]
    monkeypatch.setattr(prior, "_possible_results", lambda _: iter(found))
    now = Examination(Patient("sub-01"), "2")
    assert latest_result_before(tmp_path, now) in found
    single = [folder for folder in found if folder.parent.name != "c"]
    monkeypatch.setattr(prior, "_possible_results", lambda _: iter(single))
    with pytest.raises(UnusableInputError, match="several examinations"):
        latest_result_before(tmp_path, now)
