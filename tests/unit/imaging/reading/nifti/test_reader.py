"""NIfTI folders, files and sidecars; what is refused and how that is said."""

import gzip
import json
import shutil
import struct

import nibabel as nib
import numpy as np
import pytest
from nibabel import cifti2

from lesionlens.base.errors import GeometryError, ReadError, UnusableInputError
from lesionlens.base.labels import MrSequence
from lesionlens.base.records.study import StudyKind
from lesionlens.imaging.reading.readers import open_study
from lesionlens.imaging.reading.series_selection import SeveralStudiesError, UndecidedSeriesError

AFFINE = np.diag([-2.0, -2.0, 3.0, 1.0])
SHAPE = (20, 24, 16)


@pytest.fixture
def voxels():
    return np.random.default_rng(0).integers(0, 1000, SHAPE).astype(np.int16)


@pytest.fixture
def save(tmp_path, voxels):
    def write(name, data=voxels, affine=AFFINE, sidecar=None):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        nib.Nifti1Image(data, affine).to_filename(path)
        if sidecar is not None:
            path.with_name(name.replace(".nii.gz", ".json")).write_text(json.dumps(sidecar))
        return path

    return write


def test_a_folder_gives_one_series_a_sequence_in_order(make_study):
    study = open_study(make_study(reference=True))
    assert list(study.series) == list(MrSequence)
    assert study.kind is StudyKind.NIFTI
    assert [s.description for s in study.set_aside] == ["seg.nii.gz"]


def test_voxels_and_grid_are_those_of_the_file(save, voxels, tmp_path):
    save("x_flair.nii.gz")
    series = open_study(tmp_path).series[MrSequence.FLAIR]
    np.testing.assert_array_equal(series.load(), voxels)
    np.testing.assert_allclose(series.grid.affine, AFFINE)
    assert series.load().dtype == np.float32


def test_one_file_is_a_study(save):
    study = open_study(save("anything T1.nii.gz"))
    assert list(study.series) == [MrSequence.T1]


def test_one_file_of_unknown_name_takes_the_flag(save):
    path = save("scan.nii.gz")
    with pytest.raises(UnusableInputError, match="--flair"):
        open_study(path)
    study = open_study(path, named={MrSequence.T2: path})
    assert list(study.series) == [MrSequence.T2]
    assert study.series[MrSequence.T2].confidence == 1.0


def test_a_flag_wins_over_the_name_and_may_be_relative_to_the_study(save, tmp_path):
    save("t1.nii.gz")
    save("t2.nii.gz")
    study = open_study(tmp_path, named={MrSequence.FLAIR: "t1.nii.gz"})
    assert set(study.series) == {MrSequence.FLAIR, MrSequence.T2}
    assert study.series[MrSequence.FLAIR].description == "t1.nii.gz"


def test_one_file_for_two_flags_is_refused(save, tmp_path):
    path = save("a.nii.gz")
    with pytest.raises(UnusableInputError, match="same file"):
        open_study(tmp_path, named={MrSequence.T1: path, MrSequence.T2: path})


def test_a_sidecar_tells_where_the_name_is_silent(save, tmp_path):
    save("series_004.nii.gz", sidecar={"SeriesDescription": "AX T2 TSE"})
    assert list(open_study(tmp_path).series) == [MrSequence.T2]


def test_name_wins_over_a_sidecar_that_contradicts_with_a_notice(save, tmp_path):
    save("t1c.nii.gz", sidecar={"SeriesDescription": "AX FLAIR"})
    study = open_study(tmp_path)
    assert list(study.series) == [MrSequence.T1C]
    assert any("FLAIR" in notice for notice in study.notices)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("t1_nach_km.nii.gz", "words for T1c"),
        ("t2_to_t1c.nii.gz", "words for T2"),
        ("t2_star.nii.gz", "other than T1"),
    ],
)
def test_a_name_that_says_more_is_noticed(save, tmp_path, name, words):
    save(name)
    study = open_study(tmp_path)
    assert words in " ".join(study.notices)
    assert next(iter(study.series.values())).confidence < 0.9


def test_a_missing_sequence_in_another_format_is_noticed(save, tmp_path):
    save("flair.nii.gz")
    for name in ("t1c.mha", "flair.mgz", "seg.nrrd", "t2.img"):
        (tmp_path / name).write_bytes(b"x")
    found = " ".join(open_study(tmp_path).notices)
    assert "'t1c.mha' was not read" in found
    assert "'t2.img' was not read" in found
    assert "flair.mgz" not in found
    assert "seg.nrrd" not in found
    assert not open_study(tmp_path / "flair.nii.gz").notices


def test_a_missing_sequence_whose_file_was_not_fetched_is_noticed(save, tmp_path):
    """Of a DataLad dataset, T1c was "not in this study"."""
    save("flair.nii.gz")
    for name in ("t1c.nii.gz", "flair_2.nii.gz", ".t2.nii.gz"):
        (tmp_path / name).symlink_to(".git/annex/objects/x")
    (notice,) = [notice for notice in open_study(tmp_path).notices if "link" in notice]
    assert notice.startswith("'t1c.nii.gz' was not read, because it is a link to a file")


def test_a_missing_sequence_in_a_folder_below_is_noticed(save, tmp_path):
    """It was left out without a word."""
    (tmp_path / "more").mkdir()
    for name in ("t1c.nii.gz", "more/flair.nii.gz", "more/t1c.nii.gz", "more/t2_mask.nii.gz"):
        save(name)
    study = open_study(tmp_path)
    assert list(study.series) == [MrSequence.T1C]
    (notice,) = (one for one in study.notices if "was not read" in one)
    assert notice.startswith("'more/flair.nii.gz' was not read")
    assert "--flair" in notice


@pytest.mark.parametrize(
    ("name", "agent", "reported"),
    [("T1w", "GADOLINIUM", True), ("T1w", "NONE", False), ("ce-Gd_T1w", "GADOLINIUM", False)],
)
def test_a_sidecar_with_a_contrast_agent_alone_contradicts_a_t1(
    save, tmp_path, name, agent, reported
):
    """BIDS's own field, in a sidecar whose descriptions and gradient echo were removed."""
    sidecar = {"ContrastBolusIngredient": agent, "EchoTime": 0.003, "RepetitionTime": 2.0}
    save(f"sub-1_{name}.nii.gz", sidecar=sidecar)
    notices = " ".join(open_study(tmp_path).notices)
    assert ("says T1c, its name T1" in notices) == reported


def test_sidecars_of_two_patients_are_refused(save, tmp_path):
    save("t1.nii.gz", sidecar={"PatientID": "A"})
    save("t2.nii.gz", sidecar={"PatientID": "B"})
    with pytest.raises(UnusableInputError, match="more than one patient"):
        open_study(tmp_path)


def test_several_bids_sessions_are_listed_and_one_is_chosen(save, tmp_path):
    for session in "12":
        for part, name in (("anat", "T1w"), ("perf", "FLAIR")):
            save(f"sub-7/ses-{session}/{part}/sub-7_ses-{session}_{name}.nii.gz")
    with pytest.raises(SeveralStudiesError, match="ses-2") as refusal:
        open_study(tmp_path)
    listed = refusal.value.studies
    assert [(s.uid, s.series, s.kind) for s in listed] == [
        ("sub-7/ses-1", 2, StudyKind.NIFTI),
        ("sub-7/ses-2", 2, StudyKind.NIFTI),
    ]
    study = open_study(tmp_path, study_uid=listed[1].uid)
    assert set(study.series) == {MrSequence.T1, MrSequence.FLAIR}
    assert all("ses-2" in s.files[0].name for s in study.series.values())


def test_a_folder_of_cases_is_not_one_study(save, tmp_path):
    save("case1/t1.nii.gz")
    save("case2/flair.nii.gz")
    with pytest.raises(UnusableInputError, match="2 studies"):
        open_study(tmp_path)


def patched(path, offset, layout, *values):
    raw = bytearray(gzip.decompress(path.read_bytes()))
    struct.pack_into(layout, raw, offset, *values)
    path.write_bytes(gzip.compress(bytes(raw)))


def test_a_file_that_was_replaced_since_is_refused(save, tmp_path, voxels):
    """The same head stored in another order had its lesion on the other side."""
    save("t2.nii.gz")
    series = open_study(tmp_path).series[MrSequence.T2]
    save("t2.nii.gz", voxels[::-1].copy(), AFFINE @ np.diag([-1.0, 1, 1, 1]))
    with pytest.raises(ReadError, match="a different image in"):
        series.load()


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda p: p.write_bytes(p.read_bytes()[:-900]), "truncated"),
        (lambda p: p.write_bytes(p.read_bytes()[:-8] + bytes(8)), "damaged"),
        (lambda p: patched(p, 112, "<f", float("inf")), "slope"),
    ],
)
def test_damage_is_reported_when_voxels_are_read(save, tmp_path, spoil, words):
    spoil(save("t2.nii.gz"))
    series = open_study(tmp_path).series[MrSequence.T2]
    with pytest.raises(ReadError, match=words):
        series.load()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (np.zeros((4, 4, 4, 5), np.float32), "5 volumes"),
        (np.zeros((4, 4), np.float32), "three dimensions"),
        (np.zeros((4, 4, 4), np.complex64), "complex"),
        (np.zeros((4, 4, 4), np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])), "colour"),
    ],
)
def test_what_is_not_one_grey_volume_is_refused(save, tmp_path, data, words):
    save("t2.nii.gz", data=data)
    with pytest.raises(ReadError, match=words):
        open_study(tmp_path)


def test_a_file_of_surfaces_and_time_series_is_refused(tmp_path):
    """CIFTI has the suffix of NIfTI."""
    axes = (
        cifti2.SeriesAxis(0, 1, 5),
        cifti2.BrainModelAxis.from_mask(np.ones((3, 3, 3), bool), name="thalamus_left"),
    )
    cifti2.Cifti2Image(np.zeros((5, 27), np.float32), axes).to_filename(
        tmp_path / "t1.dtseries.nii"
    )
    with pytest.raises(ReadError, match="a file of another format"):
        open_study(tmp_path)


def test_a_fourth_axis_of_length_one_is_a_volume(save, tmp_path, voxels):
    save("t2.nii.gz", data=voxels[..., None])
    assert open_study(tmp_path).series[MrSequence.T2].load().shape == SHAPE


def with_forms(folder, voxels, qform, sform):
    image = nib.Nifti1Image(voxels, sform)
    image.set_qform(qform, code=int(qform is not None))
    image.set_sform(sform, code=int(sform is not None))
    image.to_filename(folder / "t1.nii.gz")


@pytest.mark.parametrize(
    ("qform", "sform", "words"),
    [
        (None, None, "no orientation"),
        (AFFINE @ np.diag([-1.0, 1, 1, 1]), AFFINE, "which side is left"),
        (AFFINE @ np.diag([-1.0, -1, 1, 1]), AFFINE, "which side is left"),  # half a turn
    ],
)
def test_no_side_is_guessed(tmp_path, voxels, qform, sform, words):
    with_forms(tmp_path, voxels, qform, sform)
    with pytest.raises(GeometryError, match=words):
        open_study(tmp_path)


def test_forms_that_are_shifted_give_a_notice(tmp_path, voxels):
    other = AFFINE.copy()
    other[0, 3] += 30
    with_forms(tmp_path, voxels, other, AFFINE)
    assert any("disagree by up to 30 mm" in n for n in open_study(tmp_path).notices)


@pytest.mark.parametrize("quaternion", [(1.0, 1.0, 1.0), (np.nan, 0.0, 0.0)])
def test_a_damaged_qform_beside_an_sform_gives_a_notice(tmp_path, voxels, quaternion):
    with_forms(tmp_path, voxels, AFFINE, AFFINE)
    path = tmp_path / "t1.nii.gz"
    stored = bytearray(gzip.decompress(path.read_bytes()))
    struct.pack_into("<3f", stored, 256, *quaternion)
    path.write_bytes(gzip.compress(bytes(stored)))
    study = open_study(tmp_path)
    np.testing.assert_allclose(study.series[MrSequence.T1].grid.affine, AFFINE, atol=1e-5)
    assert any("its qform is damaged" in notice for notice in study.notices)


@pytest.mark.parametrize(("unit", "mm"), [("meter", 1000.0), ("micron", 0.001)])
def test_other_units_give_the_grid_of_millimetres(tmp_path, voxels, unit, mm):
    affine = np.diag([1.0, 1.0, 1.2, 1.0])
    affine[:3, 3] = (-119.7, 7.3, -64.1)
    stored = np.diag([1 / mm, 1 / mm, 1 / mm, 1]) @ affine
    image = nib.Nifti1Image(voxels, stored)
    image.header.set_xyzt_units(unit)
    image.set_qform(None, code=0)
    image.to_filename(tmp_path / "t1.nii.gz")
    grid = open_study(tmp_path).series[MrSequence.T1].grid
    assert grid.spacing_mm.tolist() == [1.0, 1.0, 1.2]
    np.testing.assert_allclose(grid.affine, affine, rtol=0, atol=1e-5)


def test_files_named_together_are_one_study_and_no_other_file_counts(make_study):
    first, second = make_study(name="a"), make_study(name="b")
    study = open_study([first / "t1c.nii.gz", second / "flair.nii.gz"])
    assert {s.value: series.description for s, series in study.series.items()} == {
        "t1c": "t1c.nii.gz",
        "flair": "flair.nii.gz",
    }
    assert not study.set_aside


def test_folders_named_together_are_listed_never_mixed(make_study):
    folders = [make_study(name="a"), make_study(name="b"), make_study(name="c")]
    with pytest.raises(SeveralStudiesError) as refused:
        open_study(folders[:2])
    assert [study.uid for study in refused.value.studies] == ["a", "b"]


@pytest.mark.parametrize("dicom", [False, True])
@pytest.mark.parametrize("named", [False, True])
def test_a_study_keeps_its_images_where_the_working_folder_changes(
    make_study, monkeypatch, dicom, named
):
    """Another patient's folder has files of the same names."""
    patients = [make_study(name=f"{n}/study", dicom=dicom, sequences={"t1", "t2"}) for n in "ab"]
    monkeypatch.chdir(patients[0].parent)
    how = {MrSequence.T2: open_study("study")["t2"].uid or "study/t2.nii.gz"} if named else None
    study = open_study("study", named=how)
    monkeypatch.chdir(patients[1].parent)
    assert study.root == patients[0]
    assert all(f.path.is_relative_to(patients[0]) for f in study["t2"].files)
    shutil.rmtree(patients[1])
    assert study["t2"].load().any()


@pytest.mark.parametrize(
    "names",
    [
        ("t1c", "scan_T1CE"),
        ("P001_t1c", "P001_flair", "P002_t1c", "P002_flair"),
        ("sub-01_run-1_T1w", "sub-01_run-2_T1w"),
    ],
)
def test_two_files_of_one_sequence_are_listed_never_chosen_from(save, tmp_path, names):
    for name in names:
        save(f"{name}.nii.gz")
    with pytest.raises(UndecidedSeriesError) as refused:
        open_study(tmp_path)
    assert all(name in refused.value.found for name in names)
    assert len(refused.value.study.all_series) == len(names)
    named = {s.sequence: s.files[0].path for s in refused.value.study.all_series}
    assert set(open_study(tmp_path, named=named).series) == set(named)


def test_a_certain_name_wins_over_a_doubtful_one_with_a_notice(save, tmp_path):
    save("t2.nii.gz")
    save("t2_to_t1c.nii.gz")
    save("t1c.nii.gz")
    study = open_study(tmp_path)
    assert study.series[MrSequence.T1C].description == "t1c.nii.gz"
    assert any("More than one" in notice for notice in study.notices)
