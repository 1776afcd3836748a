"""NIfTI and the formats beside it: geometry as laws, folders as tables, and what is refused."""

import bz2
import errno
import gzip
import itertools
import json
import os
import pickle
import shutil
import struct
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from lesionlens.base.errors import GeometryError, ReadError, UnusableInputError
from lesionlens.base.geometry import ras_from_lps
from lesionlens.base.labels import MrSequence
from lesionlens.base.records.study import StudyKind
from lesionlens.imaging import open_study
from lesionlens.imaging.reading.nifti import open_volume
from lesionlens.imaging.reading.open import SeveralStudiesError, UndecidedSeriesError

AFFINE = np.diag([-2.0, -2.0, 3.0, 1.0])
SHAPE = (20, 24, 16)
VOXELS = np.random.default_rng(0).integers(0, 1000, SHAPE).astype(np.int16)
ORIENTATIONS = [
    "".join(axes) for code in itertools.product("RL", "AP", "SI")
    for axes in itertools.permutations(code)
]  # fmt: skip
"""All 48."""


@pytest.fixture
def save(tmp_path):
    def write(name, data=VOXELS, affine=AFFINE, sidecar=None):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        nib.Nifti1Image(data, affine).to_filename(path)
        if sidecar is not None:
            path.with_name(name.replace(".nii.gz", ".json")).write_text(json.dumps(sidecar))
        return path

    return write


# ---- sides and millimetres


def write_nifti(path, data, affine, forms="sq", unit="mm"):
    """Write the forms that are named, of one geometry in mm."""
    scale = {"mm": 1.0, "meter": 1e-3, "micron": 1e3}[unit]
    stated = np.diag([scale, scale, scale, 1.0]) @ affine
    image = nib.Nifti1Image(data, stated)
    image.header.set_xyzt_units(unit)
    image.set_qform(stated, 1 if "q" in forms else 0)
    image.set_sform(stated, 1 if "s" in forms else 0)
    path.write_bytes(packed(image.to_bytes(), path.name))


def packed(content, name):
    return {"z": gzip.compress, "2": bz2.compress}.get(name[-1], bytes)(content)


def write_itk(path, data, affine):
    lps = ras_from_lps(affine)  # its own inverse
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    image = sitk.GetImageFromArray(np.ascontiguousarray(data.T))
    image.SetSpacing(spacing.tolist())
    image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    sitk.WriteImage(image, str(path))


def write_mgz(path, data, affine):
    nib.save(nib.MGHImage(data.astype(np.float32), affine), path)


WRITERS = {
    "t1.nii": write_nifti, "t1.nii.gz": write_nifti, "T1.NII.GZ": write_nifti,
    "t1.nii.bz2": write_nifti, "t1.nrrd": write_itk, "t1.mha": write_itk, "t1.mhd": write_itk,
    "t1.mgz": write_mgz,
}  # fmt: skip


def stored_as(code, turn_deg=0.0):
    """The same voxels in another order of axes, and their geometry, turned about the third axis."""
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("z", turn_deg, degrees=True).as_matrix()
    image = nib.Nifti1Image(VOXELS, affine @ AFFINE)
    to = nib.orientations.axcodes2ornt(code)
    turn = nib.orientations.ornt_transform(nib.io_orientation(image.affine), to)
    image = image.as_reoriented(turn)
    return np.asarray(image.dataobj), image.affine


def check(path, affine):
    """Every voxel is at its millimetres."""
    (series,) = open_study(path).series.values()
    values = pickle.loads(pickle.dumps(series)).load()
    assert values.dtype == np.float32
    voxels = np.array(np.unravel_index([0, 77, 1234, VOXELS.size - 1], SHAPE)).T
    there = np.rint(series.grid.to_voxel(voxels @ affine[:3, :3].T + affine[:3, 3])).astype(int)
    np.testing.assert_array_equal(values[tuple(there.T)], VOXELS[tuple(voxels.T)])
    np.testing.assert_allclose(
        series.grid.to_mm(there), voxels @ affine[:3, :3].T + affine[:3, 3], atol=1e-3
    )


@pytest.mark.parametrize("name", WRITERS)
def test_all_48_orientations_are_at_the_same_millimetres(name, tmp_path):
    for code in ORIENTATIONS if name == "t1.nii" else ORIENTATIONS[::7]:
        WRITERS[name](tmp_path / name, *stored_as(code))
        check(tmp_path / name, AFFINE)


@settings(max_examples=20, deadline=None)
@given(
    code=st.sampled_from(ORIENTATIONS),
    forms=st.sampled_from(["s", "q", "sq"]),
    unit=st.sampled_from(["mm", "meter", "micron"]),
    turn=st.floats(-44, 44),
)
def test_any_form_unit_and_angle_gives_the_same_millimetres(
    tmp_path_factory, code, forms, unit, turn
):
    path = tmp_path_factory.mktemp("law") / "t1.nii"
    data, affine = stored_as(code, turn)
    write_nifti(path, data, affine, forms, unit)
    check(path, np.block([
        [Rotation.from_euler("z", turn, degrees=True).as_matrix(), np.zeros((3, 1))],
        [np.zeros((1, 3)), np.ones((1, 1))],
    ]) @ AFFINE)  # fmt: skip


@pytest.mark.parametrize(("unit", "mm"), [("meter", 1000.0), ("micron", 0.001)])
def test_other_units_give_exactly_the_grid_of_millimetres(tmp_path, unit, mm):
    affine = np.diag([1.0, 1.0, 1.2, 1.0])
    affine[:3, 3] = (-119.7, 7.3, -64.1)
    write_nifti(tmp_path / "t1.nii", VOXELS, affine, "s", unit)
    grid = open_study(tmp_path).series[MrSequence.T1].grid
    assert grid.spacing_mm.tolist() == [1.0, 1.0, 1.2]
    np.testing.assert_allclose(grid.affine, affine, rtol=0, atol=1e-5)


def forms(path, qform, sform):
    image = nib.Nifti1Image(VOXELS, AFFINE if sform is None else sform)
    image.set_qform(qform, code=int(qform is not None))
    image.set_sform(sform, code=int(sform is not None))
    image.to_filename(path)
    return path


def moved(**places):
    affine = AFFINE.copy()
    for place, value in places.items():
        affine["xyz".index(place), 3] += value
    return affine


@pytest.mark.parametrize(
    ("qform", "sform"),
    [
        (None, None),
        (AFFINE @ np.diag([-1.0, 1, 1, 1]), AFFINE),
        (AFFINE @ np.diag([-1.0, -1, 1, 1]), AFFINE),  # half a turn
    ],
)
def test_no_side_is_guessed(tmp_path, qform, sform):
    with pytest.raises(GeometryError):
        open_volume(forms(tmp_path / "t1.nii", qform, sform))


def patch(path, offset, layout, *values):
    raw = bytearray(path.read_bytes())
    struct.pack_into(layout, raw, offset, *values)
    path.write_bytes(raw)


SHEARED = AFFINE.copy()
SHEARED[1, 2] = 0.03  # a hundredth of a slice
QUATERNION, PIXDIM = 256, 80
NOTICED = {
    "exact": (AFFINE, AFFINE, None, ""),
    "a millimetre apart": (moved(x=1), AFFINE, None, ""),
    "30 mm apart": (moved(y=30), AFFINE, None, "30 mm"),
    "a quaternion of no rotation": (AFFINE, AFFINE, (QUATERNION, 1, 1, 1), "damaged"),
    "a quaternion of no numbers": (AFFINE, AFFINE, (QUATERNION, np.nan, 0, 0), "damaged"),
    "a quaternion too long by rounding": (AFFINE, AFFINE, (QUATERNION, 0, 0, 1.0001), ""),
    "pixdim a tenth smaller": (None, AFFINE, (PIXDIM, 1.8, 1.8, 2.7), "1.4 times too large"),
    "pixdim twice as large": (None, AFFINE, (PIXDIM, 2, 2, 6), "2 times too small"),
    "pixdim rounded": (None, AFFINE, (PIXDIM, 2, 2, 3.001), ""),
    "no pixdim": (None, AFFINE, (PIXDIM, 0, 0, 0), ""),
    "a slight shear": (AFFINE, SHEARED, None, "0.57°"),
}


@pytest.mark.parametrize("name", NOTICED)
def test_what_is_odd_about_a_geometry_is_said_in_one_notice(name, tmp_path):
    qform, sform, change, words = NOTICED[name]
    path = forms(tmp_path / "t1.nii", qform, sform)
    if change:
        patch(path, change[0], "<3f", *change[1:])
    study = open_study(path)
    assert len(study.notices) == bool(words), study.notices
    assert words in " ".join(study.notices)
    np.testing.assert_allclose(study["t1"].grid.affine, AFFINE, atol=0.05)


def test_one_notice_names_all_files_of_one_geometry(tmp_path):
    for name in ("t1", "t2", "flair"):
        patch(forms(tmp_path / f"{name}.nii", None, AFFINE), PIXDIM, "<3f", 1.8, 1.8, 2.7)
    (notice,) = open_study(tmp_path).notices
    assert all(f"'{name}.nii'" in notice for name in ("t1", "t2", "flair"))


@pytest.mark.parametrize("length", [1, 1 + 1e-7, 1 + 1e-6, 1.001, 0.9999])
def test_a_quaternion_of_rounded_length_is_read_as_itk_reads_it(length, tmp_path):
    axis = np.array([0.6, 0.0, 0.8]) * length
    path = forms(tmp_path / "t1.nii", AFFINE, None)
    patch(path, 256, "<3f", *axis)
    image = sitk.ReadImage(str(path))
    lps = np.eye(4)
    lps[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    lps[:3, 3] = image.GetOrigin()
    np.testing.assert_allclose(open_volume(path).grid.affine, ras_from_lps(lps), atol=2e-3)


@pytest.mark.parametrize("suffix", ["nrrd", "mha", "mgz"])
def test_other_formats_without_a_geometry_are_refused(suffix, tmp_path):
    path = tmp_path / f"t1.{suffix}"
    WRITERS[f"t1.{suffix}"](path, VOXELS, AFFINE)
    raw = path.read_bytes()
    if suffix == "mgz":
        raw = bytearray(gzip.decompress(raw))
        struct.pack_into(">h", raw, 28, 0)
        path.write_bytes(gzip.compress(raw))
    else:
        path.write_bytes(
            raw.replace(b"space directions", b"a key directions").replace(
                b"TransformMatrix", b"SomeOtherMatrix"
            )
        )
    with pytest.raises(GeometryError):
        open_volume(path)


@pytest.mark.parametrize("place", ["../t1.raw", "/etc/hostname", "LIST", "t1_%02d.raw 1 2 1"])
def test_voxels_elsewhere_are_not_read(place, tmp_path):
    write_itk(tmp_path / "t1.mhd", VOXELS, AFFINE)
    header = tmp_path / "t1.mhd"
    header.write_text(header.read_text().replace("t1.raw", place))
    with pytest.raises(ReadError):
        open_volume(header)


# ---- damage


@pytest.mark.parametrize("name", [name for name in WRITERS if name != "t1.mhd"])
def test_a_truncated_file_is_refused(name, tmp_path):
    WRITERS[name](tmp_path / name, VOXELS, AFFINE)
    path = tmp_path / name
    path.write_bytes(path.read_bytes()[:-60])
    with pytest.raises(ReadError):
        open_volume(path).load()


@pytest.mark.parametrize("end", [b"\0" * 8, b""])
def test_a_damaged_checksum_is_refused(end, save):
    path = save("t2.nii.gz")
    more = gzip.compress(gzip.decompress(path.read_bytes()) + bytes(10**5))  # behind the voxels
    path.write_bytes(more[:-8] + end)
    with pytest.raises(ReadError):
        open_volume(path).load()


@pytest.mark.parametrize(
    "data",
    [
        np.zeros((4, 4, 4, 5), np.float32),
        np.zeros((4, 4), np.float32),
        np.zeros((4, 4, 4), np.complex64),
        np.zeros((4, 4, 4), np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])),
    ],
)
def test_what_is_not_one_grey_volume_is_refused(save, data):
    path = save("t2.nii.gz", data=data)
    with pytest.raises(ReadError):
        open_volume(path)


def test_a_fourth_axis_of_length_one_is_a_volume_and_one_of_several_can_be_named(save):
    assert open_volume(save("t2.nii.gz", data=VOXELS[..., None])).load().shape == SHAPE
    volume = open_volume(save("t2.nii.gz", data=np.stack([VOXELS, VOXELS + 1], axis=-1)), 1)
    np.testing.assert_array_equal(volume.stored(), VOXELS + 1)
    assert volume.stored().dtype == np.int16


def test_a_file_that_was_replaced_since_is_refused(save, tmp_path):
    """The same head stored in another order had its lesion on the other side."""
    save("t2.nii.gz")
    series = open_study(tmp_path).series[MrSequence.T2]
    save("t2.nii.gz", VOXELS[::-1].copy(), AFFINE @ np.diag([-1.0, 1, 1, 1]))
    with pytest.raises(ReadError):
        series.load()


@pytest.mark.parametrize("read", ["header", "voxels"])
def test_a_file_on_a_failing_disk_is_not_called_damaged(save, monkeypatch, read):
    path = save("t1.nii")
    volume, opened = open_volume(path), os.open

    def fail(file, *how, **more):
        if Path(file) == path:
            raise OSError(errno.EIO, "Input/output error", str(file))
        return opened(file, *how, **more)

    monkeypatch.setattr(os, "open", fail)
    with pytest.raises(UnusableInputError, match="Input/output error"):
        open_volume(path) if read == "header" else volume.load()


# ---- folders


def test_a_folder_gives_one_series_a_sequence_in_order(make_study):
    study = open_study(make_study(reference=True))
    assert list(study.series) == list(MrSequence)
    assert study.kind is StudyKind.NIFTI
    assert [s.description for s in study.set_aside] == ["seg.nii.gz"]


def test_one_file_is_a_study_of_its_name_or_of_the_flag(save):
    assert list(open_study(save("anything T1.nii.gz")).series) == [MrSequence.T1]
    path = save("scan.nii.gz")
    with pytest.raises(UndecidedSeriesError):
        open_study(path)
    study = open_study(path, named={MrSequence.T2: path})
    assert [(s, series.confidence) for s, series in study.series.items()] == [(MrSequence.T2, 1.0)]


def test_a_flag_wins_over_the_name_and_may_be_relative_to_the_study(save, tmp_path):
    for name in ("t1.nii.gz", "t2.nii.gz"):
        save(name)
    study = open_study(tmp_path, named={MrSequence.FLAIR: "t1.nii.gz"})
    assert {s.value: series.description for s, series in study.series.items()} == {
        "t2": "t2.nii.gz", "flair": "t1.nii.gz",
    }  # fmt: skip
    with pytest.raises(UnusableInputError):
        open_study(tmp_path, named={MrSequence.T1: "t1.nii.gz", MrSequence.T2: "t1.nii.gz"})


SIDECARS = {
    "a name that is silent": ("series_004", {"SeriesDescription": "AX T2 TSE"}, "t2", False),
    "a name that differs": ("t1c", {"SeriesDescription": "AX FLAIR"}, "t1c", True),
    "an agent with T1": ("sub-1_T1w", {"ContrastBolusIngredient": "GADOLINIUM"}, "t1", True),
    "no agent with T1": ("sub-1_T1w", {"ContrastBolusIngredient": "NONE"}, "t1", False),
    "an agent with T1c": ("sub-1_ce-Gd_T1w", {"ContrastBolusIngredient": "Gd"}, "t1c", False),
    "words of T1c": ("t1_nach_km", None, "t1", True),
    "two sequences": ("t2_to_t1c", None, "t1c", True),
    "another kind of image": ("t2_star", None, "t2", True),
}


@pytest.mark.parametrize("case", SIDECARS)
def test_sidecars_and_words_that_differ_from_a_name_are_noticed(case, save, tmp_path):
    name, sidecar, sequence, noticed = SIDECARS[case]
    save(f"{name}.nii.gz", sidecar=sidecar)
    study = open_study(tmp_path)
    assert list(study.series) == [sequence]
    assert bool(study.notices) is noticed
    assert (study[sequence].confidence < 0.9) is noticed or sidecar is not None


def test_sidecars_of_two_patients_are_refused(save, tmp_path):
    save("t1.nii.gz", sidecar={"PatientID": "A"})
    save("t2.nii.gz", sidecar={"PatientID": "B"})
    with pytest.raises(UnusableInputError):
        open_study(tmp_path)


def test_what_is_not_read_is_named(save, tmp_path):
    save("t1.nii.gz")
    for name in ("t2.img", "t1c.nii.xz", "scan7.mha", "t1.hdr", ".flair.img"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "flair.nii.gz").symlink_to(".git/annex/objects/x")
    found = [notice.split("'")[1] for notice in open_study(tmp_path).notices]
    assert found == ["scan7.mha", "flair.nii.gz", "t1c.nii.xz", "t2.img"]
    assert not open_study(tmp_path / "t1.nii.gz").notices


def test_a_damaged_file_in_another_format_does_not_cost_the_others(save, tmp_path):
    save("t1c.nii.gz")
    (tmp_path / "t2.nii.zst").write_bytes(b"x" * 100)
    study = open_study(tmp_path)
    assert list(study.series) == [MrSequence.T1C]
    assert "t2.nii.zst" in " ".join(study.notices)


def test_a_copy_in_another_format_is_second_choice(save, tmp_path):
    save("flair.nii.gz")
    write_itk(tmp_path / "flair.nrrd", VOXELS, AFFINE)
    study = open_study(tmp_path)
    assert study["flair"].description == "flair.nii.gz"
    assert "flair.nrrd" in " ".join(study.notices)


def test_the_file_with_the_voxels_of_an_mhd_is_an_input(tmp_path):
    write_itk(tmp_path / "t1.mhd", VOXELS, AFFINE)
    study = open_study(tmp_path / "t1.mhd")
    assert [file.name for file in study["t1"].files] == ["t1.mhd", "t1.raw"]


def test_a_missing_sequence_in_a_folder_below_is_noticed(save, tmp_path):
    for name in ("t1c.nii.gz", "more/flair.nii.gz", "more/t1c.nii.gz", "more/t2_mask.nii.gz"):
        save(name)
    study = open_study(tmp_path)
    assert list(study.series) == [MrSequence.T1C]
    (notice,) = study.notices
    assert notice.startswith("'more/flair.nii.gz' was not read")
    assert "--flair" in notice


def test_several_studies_are_listed_never_mixed(save, tmp_path):
    for session, (part, name) in itertools.product("12", (("anat", "T1w"), ("perf", "FLAIR"))):
        save(f"sub-7/ses-{session}/{part}/sub-7_ses-{session}_{name}.nii.gz")
    with pytest.raises(SeveralStudiesError) as refusal:
        open_study(tmp_path)
    listed = refusal.value.studies
    assert [(s.uid, s.series) for s in listed] == [("sub-7/ses-1", 2), ("sub-7/ses-2", 2)]
    study = open_study(tmp_path, study_uid=listed[1].uid)
    assert set(study.series) == {MrSequence.T1, MrSequence.FLAIR}
    assert all("ses-2" in series.files[0].name for series in study.series.values())


def test_files_named_together_are_one_study_and_folders_are_several(make_study):
    first, second, _ = (make_study(name=name) for name in "abc")
    study = open_study([first / "t1c.nii.gz", second / "flair.nii.gz"])
    assert [series.description for series in study.all_series] == ["t1c.nii.gz", "flair.nii.gz"]
    with pytest.raises(SeveralStudiesError) as refused:
        open_study([first, second])
    assert [study.uid for study in refused.value.studies] == ["a", "b"]


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
    assert all(name in str(refused.value) for name in names)
    assert len(refused.value.study.all_series) == len(names)
    named = {s.sequence: s.files[0].path for s in refused.value.study.all_series}
    assert set(open_study(tmp_path, named=named).series) == set(named)


def test_a_certain_name_wins_over_a_doubtful_one_with_a_notice(save, tmp_path):
    for name in ("t2", "t2_to_t1c", "t1c"):
        save(f"{name}.nii.gz")
    study = open_study(tmp_path)
    assert study.series[MrSequence.T1C].description == "t1c.nii.gz"
    assert any("More than one" in notice for notice in study.notices)


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
