"""Which images of one Series Instance UID make a volume."""

import shutil

import numpy as np
import pydicom
import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian, ImplicitVRLittleEndian, generate_uid
from tests.helpers.dicom_files import edited_dicom

from lesionlens.base.errors import UnusableInputError
from lesionlens.base.labels import MrSequence
from lesionlens.imaging.reading.dicom import bounded
from lesionlens.imaging.reading.readers import open_study
from lesionlens.imaging.reading.series_selection import name_for_reader

T1, T1C, T2 = MrSequence.T1, MrSequence.T1C, MrSequence.T2


def change(folder, how):
    for number, path in enumerate(sorted(folder.iterdir())):
        with edited_dicom(path) as ds:
            how(ds, number)


@pytest.mark.parametrize("apart_mm", ["half a slice", "the whole stack"])
def test_two_series_under_one_uid_are_never_one_volume(make_study, apart_mm):
    folder = make_study(dicom=True, sequences={"t1", "t1c"})
    first, second = sorted((folder / "S01").iterdir()), folder / "S02"
    ends = [pydicom.dcmread(path) for path in (first[0], first[-1])]
    step = (ends[1].ImagePositionPatient[2] - ends[0].ImagePositionPatient[2]) / (len(first) - 1)
    shift = step * (0.5 if apart_mm == "half a slice" else len(first))

    def move(ds, _):
        ds.SeriesInstanceUID = ends[0].SeriesInstanceUID
        ds.EchoTime, ds.RepetitionTime = ends[0].EchoTime, ends[0].RepetitionTime
        ds.ImagePositionPatient[2] += shift

    change(second, move)
    study = open_study(folder)
    assert {f.path.parent.name for f in study.series[T1].files} == {"S01"}
    assert {f.path.parent.name for f in study.series[T1C].files} == {"S02"}
    assert any("two series have one Series Instance UID" in notice for notice in study.notices)


def test_positions_in_two_frames_of_reference_are_not_put_together(make_study):
    folder = make_study(dicom=True, sequences={"t1c"})
    other = generate_uid()

    def move(ds, number):
        if number >= 10:
            ds.FrameOfReferenceUID = other

    change(folder / "S01", move)
    study = open_study(folder)
    assert study.series[T1C].grid.shape[2] < len(list((folder / "S01").iterdir()))
    assert any("frame of reference" in notice for notice in study.notices)


def deflated(path):
    with edited_dicom(path) as ds:
        ds.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian


def of_an_unknown_encoding(path):
    path.write_bytes(path.read_bytes().replace(b"\x08\x00\x16\x00UI", b"\x08\x00\x16\x00ZZ"))


@pytest.mark.parametrize(
    "spoil",
    [lambda path: path.write_bytes(b""), deflated, of_an_unknown_encoding],
    ids=["empty", "oversized", "damaged"],
)
def test_a_file_at_the_end_of_a_series_that_cannot_be_read_is_noticed(
    make_study, monkeypatch, spoil
):
    """No gap between slices shows that one is missing."""
    words = "1 file(s) are empty, damaged, too large or missing"
    monkeypatch.setattr(bounded, "MAX_BYTES", 100)
    folder = make_study(dicom=True, sequences={"t1c"})
    assert not any(words in notice for notice in open_study(folder).notices)
    spoil(max((folder / "S01").iterdir()))
    assert any(words in notice for notice in open_study(folder).notices)


def test_a_slice_whose_position_is_no_number_is_set_aside(make_study):
    folder = make_study(dicom=True, sequences={"t1", "t1c"})
    path = sorted((folder / "S01").iterdir())[3]
    stored = path.read_bytes()
    start = stored.index(b"\x20\x00\x32\x00DS") + 8
    path.write_bytes(stored[:start] + b"x" + stored[start + 1 :])
    notices = open_study(folder).notices
    assert any("no usable ImagePositionPatient" in notice for notice in notices)
    assert any("1 slice(s) missing" in notice for notice in notices)


def test_slices_of_another_pixel_spacing_are_set_apart(make_study):
    folder = make_study(dicom=True, sequences={"t1c"})

    def widen(ds, number):
        if number < 5:
            ds.PixelSpacing = [2 * float(edge) for edge in ds.PixelSpacing]

    change(folder / "S01", widen)
    study = open_study(folder)
    assert study.series[T1C].grid.shape[2] == len(list((folder / "S01").iterdir())) - 5
    assert any("5 image(s) with a different pixel spacing" in notice for notice in study.notices)


def test_of_a_series_and_its_repetition_the_fuller_is_taken(make_study):
    folder = make_study(dicom=True, sequences={"t1c"})
    again = folder / "S02"
    shutil.copytree(folder / "S01", again)
    uid = generate_uid()

    def repeat(ds, _):
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        ds.SeriesInstanceUID, ds.SeriesNumber = uid, 9

    change(again, repeat)
    for path in sorted((folder / "S01").iterdir())[-3:]:
        path.unlink()
    assert open_study(folder).series[T1C].uid == uid


@pytest.mark.parametrize(
    "kind",
    [
        ["DERIVED", "SECONDARY", "M", "SUB"],
        ["DERIVED", "PRIMARY", "T1 MAP", "ND"],
        ["DERIVED", "PRIMARY", "T2_MAP", "NONE"],
        ["ORIGINAL", "PRIMARY", "VELOCITY MAP", "V", "PCA"],
        ["DERIVED", "PRIMARY", "ANGIO", "MAX_IP"],
        ["ORIGINAL", "PRIMARY", "F_FFE", "F", "FFE"],
    ],
)
def test_a_subtraction_a_map_and_fat_alone_are_none_of_the_four(make_study, kind):
    folder = make_study(dicom=True, sequences={"t1", "t1c"})
    change(folder / "S02", lambda ds, _: setattr(ds, "ImageType", kind))
    study = open_study(folder)
    assert list(study.series) == [T1]
    assert [s.detected_by for s in study.set_aside] == [
        "a derived map or projection, according to its ImageType"
    ]


def kind_of_image(*values):
    return lambda ds: setattr(ds, "ImageType", ["ORIGINAL", "PRIMARY", *values])


def ge_code(value, vr):
    def change(ds):
        ds.private_block(0x0043, "GEMS_PARM_01", create=True).add_new(0x2F, vr, value)

    return change


@pytest.mark.parametrize(
    ("mark", "magnitude", "implicit"),
    [
        pytest.param(ge_code(0, "SS"), True, True, id="GE magnitude, implicit"),
        pytest.param(ge_code(0, "SS"), True, False, id="GE magnitude"),
        pytest.param(ge_code(1, "SS"), False, True, id="GE phase, implicit"),
        pytest.param(ge_code(1, "SS"), False, False, id="GE phase"),
        pytest.param(ge_code(3, "SS"), False, True, id="GE imaginary, implicit"),
        pytest.param(ge_code(b"\2\0", "UN"), False, False, id="GE real, VR lost"),
        pytest.param(kind_of_image("M_FFE", "M", "FFE"), True, False, id="Philips magnitude"),
        pytest.param(kind_of_image("PHASE_MAP", "NONE"), False, False, id="Philips phase"),
        pytest.param(kind_of_image("R_IR"), False, True, id="Philips real, cut short, implicit"),
        pytest.param(
            kind_of_image("M", "ND", "NORM"), True, True, id="Siemens magnitude, implicit"
        ),
        pytest.param(kind_of_image("P", "ND"), False, False, id="Siemens phase"),
    ],
)
def test_only_a_magnitude_is_one_of_the_four(make_study, mark, magnitude, implicit):
    """In the implicit encoding GE's element has no VR: its phase was taken for the T1c."""
    folder = make_study(dicom=True, sequences={"t1", "t1c"})
    for path in (folder / "S02").iterdir():
        ds = pydicom.dcmread(path)
        mark(ds)
        if implicit:
            ds.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
        ds.save_as(path, implicit_vr=implicit, little_endian=True)
    study = open_study(folder)
    assert (T1C in study.series) is magnitude
    assert magnitude or "phase" in study.set_aside[0].detected_by


@pytest.mark.parametrize("implicit", [True, False])
def test_files_without_meta_header_are_read_as_the_others(make_study, implicit):
    folder = make_study(dicom=True, sequences={"t1c"})
    before = open_study(folder).series[T1C]
    voxels = before.load()
    for path in sorted((folder / "S01").iterdir())[10:20]:
        ds = pydicom.dcmread(path)
        bare = pydicom.Dataset(ds)
        bare.save_as(path, implicit_vr=implicit, little_endian=True)
    after = open_study(folder).series[T1C]
    assert after.grid.shape == before.grid.shape
    np.testing.assert_array_equal(after.load(), voxels)


@pytest.mark.parametrize(
    ("keyword", "value", "place"),
    [
        ("ImageOrientationPatient", 0.0005, 1),
        ("PixelSpacing", 0.9385, 0),
        ("EchoTime", 10.05, None),
    ],
)
def test_what_is_rounded_from_slice_to_slice_splits_no_series(make_study, keyword, value, place):
    folder = make_study(dicom=True, sequences={"t1c"})

    def jitter(ds, number):
        near = value + (1e-6 if number % 2 else -1e-6)
        if place is None:
            setattr(ds, keyword, near)
        else:
            getattr(ds, keyword)[place] = near

    change(folder / "S01", jitter)
    study = open_study(folder)
    assert study.series[T1C].grid.shape[2] == len(list((folder / "S01").iterdir()))
    assert not study.set_aside
    assert not study.notices


def test_slices_that_are_turned_are_not_rounded_away(make_study):
    folder = make_study(dicom=True, sequences={"t1c"})

    def turn(ds, number):
        if number >= 12:
            sine = np.sin(np.radians(0.2))
            ds.ImageOrientationPatient[:2] = [round(float(np.sqrt(1 - sine**2)), 8), float(sine)]

    change(folder / "S01", turn)
    assert open_study(folder).series[T1C].grid.shape[2] < len(list((folder / "S01").iterdir()))


def repeat(folder, changes):
    """Add the T1c images once more for each change, under other SOP Instance UIDs."""
    original = folder / "original"
    shutil.copytree(folder / "S01", original)
    for index, how in enumerate(changes):
        copy = folder / f"run{index}"
        shutil.copytree(original, copy)

        def renew(ds, number, how=how, index=index):
            ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid()
            ds.InstanceNumber += 1000 * (index + 1)
            ds.PixelData = (ds.pixel_array // 4).tobytes()
            how(ds, number)

        change(copy, renew)
    shutil.rmtree(original)


def step_mm(folder):
    first, second = (pydicom.dcmread(path) for path in sorted((folder / "S01").iterdir())[:2])
    return second.ImagePositionPatient[2] - first.ImagePositionPatient[2]


def folders_of(series):
    return {file.path.parent.name for file in series.files}


def state_spacing(folder, keyword, step):
    """State the distance of the slices by one of two attributes; by the other, none or twice it."""

    def state(ds, _):
        ds.SliceThickness = 2 * step
        del ds.SpacingBetweenSlices
        setattr(ds, keyword, step)

    change(folder / "S01", state)


@pytest.mark.parametrize(
    ("slices", "spacing"),
    [
        (0.3, "SliceThickness"),
        (0.5, "SpacingBetweenSlices"),
        (2, "SliceThickness"),
        (2.5, "SpacingBetweenSlices"),
    ],
)
def test_a_second_acquisition_does_not_fill_the_gaps_of_the_first(make_study, slices, spacing):
    """Half a slice apart, two acquisitions were one volume of twice as many slices, in silence."""
    folder = make_study(dicom=True, sequences={"t1c"})
    step = step_mm(folder)
    state_spacing(folder, spacing, step)

    def move(ds, _):
        ds.AcquisitionNumber = 2
        ds.ImagePositionPatient[2] += slices * step

    change(folder / "S01", lambda ds, _: setattr(ds, "AcquisitionNumber", 1))
    repeat(folder, [move])
    study = open_study(folder)
    assert folders_of(study.series[T1C]) == {"S01"}
    assert study.series[T1C].grid.shape[2] == len(list((folder / "S01").iterdir()))
    assert [folders_of(series) for series in study.set_aside] == [{"run0"}]
    assert any("were separated" in notice for notice in study.notices)


@pytest.mark.parametrize("description", ["t1_vibe_tra", "t1_vibe_tra_dyn"])
@pytest.mark.parametrize("named", [False, True])
def test_the_t1c_of_a_dynamic_series_is_its_last_volume(make_study, description, named):
    """The first, from before the agent arrived, was analysed as T1c."""
    folder = make_study(dicom=True, sequences={"t1c"})

    def dynamic(ds, _):
        ds.SeriesDescription = ds.ProtocolName = description
        ds.TemporalPositionIdentifier = 1

    change(folder / "S01", dynamic)
    repeat(
        folder, [lambda ds, _, t=t: setattr(ds, "TemporalPositionIdentifier", t) for t in (2, 3)]
    )
    uid = pydicom.dcmread(next((folder / "S01").iterdir())).SeriesInstanceUID
    if "dyn" in description and not named:
        with pytest.raises(UnusableInputError, match="none of the four"):
            open_study(folder)
        return
    series = open_study(folder, named={T1C: uid} if named else {}).series[T1C]
    assert folders_of(series) == {"run1"}


def test_of_two_equal_t1c_the_later_is_used(make_study):
    """Where the agent is recorded in all series, the native T1 was the T1c."""
    folder = make_study(dicom=True, sequences={"t1", "t1c"})

    def recorded(ds, _):
        ds.SeriesDescription = ds.ProtocolName = "t1_tra"
        ds.ContrastBolusAgent = "GADOVIST"

    for place in ("S01", "S02"):
        change(folder / place, recorded)
    assert folders_of(open_study(folder).series[T1C]) == {"S02"}


@pytest.fixture
def doubled(make_study):
    """Each T1c image once more under another UID, in files of no order, with equal numbers."""

    def make(factor):
        folder = make_study(dicom=True, sequences={"t1c"}, name=f"times {factor}")
        shutil.copytree(folder / "S01", folder / "again")

        def other(ds, _):
            ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid()
            ds.PixelData = (ds.pixel_array // 4 * factor).tobytes()

        change(folder / "again", other)
        change(folder / "S01", lambda ds, _: setattr(ds, "PixelData", quarter(ds)))
        for number, path in enumerate(sorted((folder / "again").iterdir())):
            path.rename(folder / "S01" / f"{'A' if number % 2 else 'Z'}{number:03d}")
        return folder

    return make


def quarter(ds):
    return (ds.pixel_array // 4).tobytes()


def test_two_volumes_with_equal_numbers_are_not_mixed(doubled):
    """Files were assigned to the volumes in the order of their names."""
    with pytest.raises(UnusableInputError, match="2 images at each slice position"):
        open_study(doubled(3))


def test_copies_under_other_uids_are_one_volume(doubled):
    study = open_study(doubled(1))
    assert study.series[T1C].grid.shape[2] == len(study.series[T1C].files)
    assert not study.set_aside
    assert any("occur 2 times with identical pixels" in notice for notice in study.notices)


def test_the_agent_tells_two_volumes_apart(make_study):
    folder = make_study(dicom=True, sequences={"t1c"})
    shutil.copytree(folder / "S01", folder / "later")

    def before(ds, _):
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        del ds.ContrastBolusAgent

    change(folder / "S01", before)
    for place in ("S01", "later"):
        change(folder / place, lambda ds, _: setattr(ds, "SeriesDescription", "AX T1"))
        change(folder / place, lambda ds, _: setattr(ds, "ProtocolName", "AX T1"))
    study = open_study(folder)
    assert {f.path.parent.name for f in study.series[T1].files} == {"S01"}
    assert {f.path.parent.name for f in study.series[T1C].files} == {"later"}
    assert len(set(study.notices)) == len(study.notices)


def phase(ds):
    ds.ImageType = ["ORIGINAL", "PRIMARY", "P", "ND"]


def first_echo(ds):
    ds.EchoNumbers, ds.EchoTime = 1, 15


@pytest.mark.parametrize(
    ("sequence", "description", "first"),
    [
        pytest.param(T1C, "AX T1 POST", phase, id="phase before magnitude"),
        pytest.param(T1C, "anatomy", phase, id="without a name"),
        pytest.param(T2, "AX DUAL ECHO", first_echo, id="the first echo"),
        pytest.param(T2, "AX PD/T2", first_echo, id="PD/T2"),
    ],
)
def test_a_named_series_of_several_volumes_gives_the_one_that_fits(
    make_study, sequence, description, first
):
    """The phase, or the image of proton density, was analysed for the T1c, or the T2."""
    folder = make_study(dicom=True, sequences={sequence.value})
    shutil.copytree(folder / "S01", folder / "first")

    def other(ds, _):
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        first(ds)

    def second(ds, _):
        ds.EchoNumbers, ds.InstanceNumber = 2, ds.InstanceNumber + 500

    change(folder / "first", other)
    change(folder / "S01", second)
    for place in ("S01", "first"):
        change(folder / place, lambda ds, _: setattr(ds, "SeriesDescription", description))
        change(folder / place, lambda ds, _: setattr(ds, "ProtocolName", description))
    uid = pydicom.dcmread(next((folder / "S01").iterdir())).SeriesInstanceUID
    series = open_study(folder, named={sequence: uid}).series[sequence]
    assert {file.path.parent.name for file in series.files} == {"S01"}


def test_a_time_point_that_the_user_picks_is_the_one_that_is_opened(make_study):
    """All have one Series UID."""
    folder = make_study(dicom=True, sequences={"t1c"})

    def dynamic(ds, _):
        ds.SeriesDescription = ds.ProtocolName = "t1_vibe_tra"
        ds.TemporalPositionIdentifier = 1

    change(folder / "S01", dynamic)
    repeat(
        folder, [lambda ds, _, t=t: setattr(ds, "TemporalPositionIdentifier", t) for t in (2, 3)]
    )
    study = open_study(folder)
    by_folder = {min(folders_of(series)): series for series in study.set_aside}
    picked = {T1: by_folder["S01"], T1C: by_folder["run0"]}
    named = {s: name_for_reader(series, study) for s, series in picked.items()}
    reopened = open_study(folder, named=named)
    assert [folders_of(reopened.series[s]) for s in (T1, T1C)] == [{"S01"}, {"run0"}]
