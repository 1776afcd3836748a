"""Layouts and label conventions."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest

from lesionlens.analysis.evaluation.cases import (
    find_cases,
    patient_of,
    read_volume,
    segmentation_of,
)
from lesionlens.analysis.evaluation.dataset_labels import convention_of
from lesionlens.analysis.evaluation.label_conventions import (
    read_conventions,
    region_mask,
    translate,
)
from lesionlens.base.errors import ConfigError, ReadError, UnusableInputError
from lesionlens.base.labels import MrSequence, Region

IMAGE = np.arange(2 * 3 * 4, dtype=np.int16).reshape(2, 3, 4)


def put(path, data=IMAGE):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(data, np.eye(4)), path)


@pytest.mark.parametrize(
    ("folder", "names", "seg"),
    [
        ("BraTS20_Training_001", ("_t1", "_t1ce", "_t2", "_flair"), "_seg"),
        ("BraTS-GLI-00005-101", ("-t1n", "-t1c", "-t2w", "-t2f"), "-seg"),
        ("plain", ("t1", "t1c", "t2", "flair"), "seg"),
        ("BraTS20_Training_355", ("_t1", "_t1ce", "_t2", "_flair"), "W39_1998.09.19_Segm"),
    ],
)
def test_brats_of_any_year_is_read(tmp_path, folder, names, seg):
    stem = "" if folder == "plain" else folder
    for name in names:
        put(tmp_path / "HGG" / folder / f"{stem}{name}.nii.gz")
    put(tmp_path / "HGG" / folder / (f"{seg}.nii" if "W39" in seg else f"{stem}{seg}.nii.gz"))
    (case,) = find_cases(tmp_path)
    assert case.name == folder
    assert set(case.images) == set(MrSequence)
    assert case.reference_path is not None
    assert "eg" in case.reference_path.name
    assert case.images[MrSequence.FLAIR].path.name.rsplit(".nii")[0].endswith(names[3])


def test_images_are_named_as_for_an_analysis(tmp_path):
    """T1c was missing in training without a word, and evaluation compared with another image."""
    for name in ("AxT1C", "MPRAGE", "T1_x", "AxFLAIR", "seg", "notes"):
        put(tmp_path / "one" / f"{name}.nii.gz")
    (case,) = find_cases(tmp_path)
    assert {s.value: image.path.name for s, image in case.images.items()} == {
        "t1c": "AxT1C.nii.gz", "t1": "T1_x.nii.gz", "flair": "AxFLAIR.nii.gz",
    }  # fmt: skip
    assert not case.alternatives


def test_two_references_of_one_case_are_refused(tmp_path):
    """Which of two readers' counts is not for the order of their names to say."""
    put(tmp_path / "one" / "t1c.nii.gz")
    for name in ("seg.nii.gz", "seg.nii"):  # unpacked beside it, as some sets are
        put(tmp_path / "one" / name)
    (case,) = find_cases(tmp_path)
    assert case.reference_path is not None
    put(tmp_path / "one" / "reader2_seg.nii.gz")
    with pytest.raises(ConfigError, match=r"in the case 'one': reader2_seg.nii.gz, seg.nii"):
        find_cases(tmp_path)


def test_the_decathlon_is_read_by_channel_and_in_its_convention(tmp_path):
    about = {
        "modality": {"0": "FLAIR", "1": "T1w", "2": "t1gd", "3": "T2w"},
        "labels": {"0": "background", "1": "edema", "2": "non-enhancing tumor", "3": "enhancing"},
    }
    tmp_path.joinpath("dataset.json").write_text(json.dumps(about))
    put(tmp_path / "imagesTr" / "BRATS_001.nii.gz", np.stack([IMAGE + n for n in range(4)], -1))
    for ending in (".nii.gz", ".nii"):  # unpacked beside it
        put(tmp_path / "labelsTr" / f"BRATS_001{ending}")
    (case,) = find_cases(tmp_path)
    assert case.convention == "msd"
    for sequence, channel in ((MrSequence.FLAIR, 0), (MrSequence.T1C, 2), (MrSequence.T2, 3)):
        data, _ = read_volume(case.images[sequence])
        np.testing.assert_array_equal(data, IMAGE + channel)


def test_nnunet_and_names_of_brats_state_their_convention(tmp_path):
    """nnU-Net's own conversion (1 oedema, 2 core) was read as 1 core, 2 oedema."""
    about = {
        "channel_names": {"0": "T1", "1": "T1ce", "2": "T2", "3": "Flair"},
        "labels": {
            "background": 0, "whole tumor": [1, 2, 3], "tumor core": [2, 3], "enhancing tumor": [3],
        },
        "regions_class_order": [1, 2, 3],
    }  # fmt: skip
    tmp_path.joinpath("dataset.json").write_text(json.dumps(about))
    put(tmp_path / "labelsTr" / "BraTS2021_00000.nii.gz")
    assert [case.convention for case in find_cases(tmp_path)] == ["msd"]
    tmp_path.joinpath("dataset.json").unlink()
    assert [case.convention for case in find_cases(tmp_path / "labelsTr")] == ["brats"]


def test_nnunet_is_read(tmp_path):
    about = {
        "channel_names": {"0": "T1", "1": "T1ce", "2": "T2", "3": "Flair"},
        "labels": {"background": 0, "necrosis": 1, "edema": 2, "enhancing": 3},
    }
    tmp_path.joinpath("dataset.json").write_text(json.dumps(about))
    for channel in range(4):
        put(tmp_path / "imagesTr" / f"case_{channel:04d}.nii.gz", IMAGE + channel)
    put(tmp_path / "labelsTr" / "case.nii.gz")
    (case,) = find_cases(tmp_path)
    assert case.convention is None
    assert read_volume(case.images[MrSequence.FLAIR])[0][0, 0, 0] == 3


@pytest.mark.parametrize(
    ("labels", "convention"),
    [
        ({"background": 0, "ED": 1, "NCR": 2, "ET": 3}, "msd"),
        ({"background": 0, "NCR_NET": 1, "ED": 2, "ET": 3}, None),
        ({"background": 0, "ET": 1, "NETC": 2, "CC": 3, "ED": 4}, "brats24ped"),
        ({"whole tumor": [1, 2, 4], "tumor core": [1, 4], "enhancing tumor": [4]}, "brats"),
        ({"WT": [1, 2, 3, 4], "TC": [1, 2, 3], "ET": 1}, "brats24ped"),
        ({"1": "non-enhancing core", "2": "non-enhancing FLAIR hyperintensity"}, None),
        ({"background": 0, "tumour": 1}, None),
        ({"0": "background", "1": "enhancing", "2": "edema", "3": "necrosis"}, ConfigError),
        ({"background": 0, "core": 1, "enhancing": 2}, ConfigError),
    ],
)
def test_the_names_of_labels_state_their_convention_or_are_refused(labels, convention):
    """Abbreviated names were ignored, and other orders scored as 1 core, 2 oedema, 3 enhancing."""
    if convention is ConfigError:
        with pytest.raises(ConfigError, match="whose labels are 1 "):
            convention_of(labels)
    else:
        assert convention_of(labels) == convention


def test_folders_of_one_name_stay_two_cases(tmp_path):
    for group in ("HGG", "LGG"):
        put(tmp_path / group / "one" / "t1.nii.gz")
    assert [case.name for case in find_cases(tmp_path)] == ["HGG/one", "LGG/one"]


def test_examinations_of_one_patient_are_known():
    assert patient_of("BraTS-GLI-00005-100") == patient_of("BraTS-GLI-00005-101")
    assert patient_of("Brats18_CBICA_AAB_1") == "Brats18_CBICA_AAB"
    assert patient_of("sub-07_ses-2") == "sub-07"
    assert patient_of("BraTS20_Training_001") != patient_of("BraTS20_Training_002")


def test_the_users_table_of_patients_wins(tmp_path):
    for name in ("x", "y"):
        put(tmp_path / name / "t1.nii.gz")
    tmp_path.joinpath("patients.tsv").write_text("case\tpatient\nx\tp1\ny\tp1\n")
    assert {case.patient for case in find_cases(tmp_path)} == {"p1"}
    tmp_path.joinpath("patients.tsv").write_text("name\nx\n")
    with pytest.raises(ConfigError, match=r"patients\.tsv"):
        find_cases(tmp_path)


@pytest.mark.parametrize(
    ("convention", "given", "meant"),
    [
        ("brats", (0, 1, 2, 4), (0, 1, 2, 3)),
        (None, (0, 1, 2, 3), (0, 1, 2, 3)),
        ("msd", (0, 1, 2, 3), (0, 2, 1, 3)),
        ("brats24", (0, 1, 2, 3, 4), (0, 1, 2, 3, 4)),
        ("brats24ped", (0, 1, 2, 3, 4), (0, 3, 1, 1, 2)),
        ("brats2012", (0, 1, 2), (0, 2, 1)),
    ],
)
def test_labels_are_brought_to_one_convention(convention, given, meant):
    found = translate(np.array(given, np.float32), convention, "x")
    assert found.tolist() == list(meant)
    assert found.dtype == np.uint8


def test_labels_that_may_mean_two_things_are_refused_by_name():
    for convention in (None, "brats", "brats124"):
        with pytest.raises(UnusableInputError, match="The truth of case x has labels 3 and 4"):
            translate(np.array([0, 1, 2, 3, 4]), convention, "the truth of case x")
    for labels in ([0, 1, 2, 4], [0, 4]):
        with pytest.raises(UnusableInputError, match="truth of case x has label 4 but no 3"):
            translate(np.array(labels), None, "the truth of case x")
    with pytest.raises(UnusableInputError, match="case x"):
        translate(np.array([0, 9]), None, "the truth of case x")


def test_regions_are_nested():
    labels = np.array([0, 1, 2, 3], np.uint8)
    wt, tc, et = (region_mask(labels, region) for region in Region)
    assert (et <= tc).all()
    assert (tc <= wt).all()
    assert wt.sum() == 3


@pytest.mark.parametrize(
    ("folders", "patients"),
    [
        (("sub-1/ses-1/anat", "sub-1/ses-2/anat", "sub-2/anat"), ("sub-1", "sub-1", "sub-2")),
        (("a/pre", "a/post", "b/pre", "b/post"), ("a/post", "a/pre", "b/post", "b/pre")),
        (("HGG/BraTS-GLI-00005-100", "HGG/BraTS-GLI-00005-101"), ("BraTS-GLI-00005",) * 2),
        (("sub-1/early", "sub-1/late", "x"), ("sub-1", "sub-1", "x")),
    ],
)
def test_a_patient_is_read_from_all_folders_of_a_case(tmp_path, folders, patients):
    """The folders of two patients' visits may have one name: they are not one patient."""
    for folder in folders:
        put(tmp_path / folder / "t1.nii.gz")
    assert tuple(case.patient for case in find_cases(tmp_path)) == patients


@pytest.mark.parametrize(
    ("rows", "fits"), [("a", True), ("abc", True), ("ac", False), ("c", False)]
)
def test_a_table_that_misspells_a_case_is_refused(tmp_path, rows, fits):
    lines = "".join(f"{name}\tmsd\n" for name in rows)
    (tmp_path / "conventions.tsv").write_text(f"case\tconvention\n{lines}")
    conventions = read_conventions(None, tmp_path)
    if fits:
        conventions.check(["a", "b"])
        return
    with pytest.raises(ConfigError, match=r"a row for 'c', .* none for '[ab]'"):
        conventions.check(["a", "b"])


def test_a_damaged_image_is_named(tmp_path):
    path = tmp_path / "one" / "t1.nii.gz"
    path.parent.mkdir()
    path.write_bytes(b"not a scan")
    with pytest.raises(ReadError, match=r"one/t1\.nii\.gz"):
        read_volume(path)


@pytest.mark.parametrize(("unit", "mm"), [("meter", 1000), ("micron", 0.001)])
def test_a_reference_in_another_unit_lies_where_the_analysis_puts_it(tmp_path, unit, mm):
    affine = np.diag([-1.5, 2.0, 3.0, 1.0])
    affine[:3, 3] = 90, -120, -70
    image = nib.Nifti1Image(IMAGE, np.diag([1 / mm] * 3 + [1]) @ affine)
    image.header.set_xyzt_units(unit)
    nib.save(image, tmp_path / "seg.nii.gz")
    _, header = read_volume(tmp_path / "seg.nii.gz")
    np.testing.assert_allclose(header.grid.affine, affine, atol=1e-4)


@pytest.mark.parametrize(
    ("spoil", "found"),
    [
        (lambda image: image.set_qform(np.diag([-1.0, 1, 1, 1]), 1), "side is left"),
        (lambda image: (image.set_sform(None, 0), image.set_qform(None, 0)), "orientation"),
    ],
    ids=["two sides", "no orientation"],
)
def test_a_reference_that_an_analysis_refuses_is_refused(tmp_path, spoil, found):
    image = nib.Nifti1Image(IMAGE, np.eye(4))
    spoil(image)
    (tmp_path / "one").mkdir()
    nib.save(image, tmp_path / "one" / "seg.nii.gz")
    with pytest.raises(ReadError, match=rf"one/seg\.nii\.gz.*{found}"):
        read_volume(tmp_path / "one" / "seg.nii.gz")


def test_a_segmentation_in_another_format_counts_unless_it_is_a_copy(tmp_path):
    for name in ("t1c.nii.gz", "lesion_seg.nrrd"):
        (tmp_path / name).touch()
    (case,) = find_cases(tmp_path)
    assert case.reference_path == tmp_path / "lesion_seg.nrrd"
    for name in ("segmentation.nii.gz", "segmentation.seg.nrrd"):
        (tmp_path / "result").mkdir(exist_ok=True)
        (tmp_path / "result" / name).touch()
    assert segmentation_of(tmp_path / "result") == tmp_path / "result" / "segmentation.nii.gz"


@pytest.mark.parametrize("name", ["nosuch", "file.nii.gz"])
def test_a_folder_of_cases_that_is_none_is_named(tmp_path, name):
    """It was said to contain no case."""
    (tmp_path / "file.nii.gz").touch()
    with pytest.raises(ConfigError, match=f"no folder '{name}'"):
        find_cases(tmp_path / name)
