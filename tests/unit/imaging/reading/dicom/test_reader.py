"""DICOM folders: grouping, order, scale, what is set aside and what is refused."""

import random
import shutil

import numpy as np
import pydicom
import pytest
from pydicom.encaps import encapsulate
from pydicom.uid import (
    JPEG2000Lossless,
    JPEGLSLossless,
    MediaStorageDirectoryStorage,
    RLELossless,
    generate_uid,
)
from tests.helpers.dicom_files import edited_dicom
from tests.phantoms.acquire import Acquisition
from tests.phantoms.files import DicomLayout
from tests.phantoms.headers import PatientIdentity

from lesionlens.base.errors import PatientConflictError, ReadError, UnusableInputError
from lesionlens.base.labels import MrSequence
from lesionlens.base.records.study import StudyKind
from lesionlens.imaging.reading.dicom import bounded, pixels, scan
from lesionlens.imaging.reading.readers import open_study
from lesionlens.imaging.reading.series_selection import SeveralStudiesError

T1C, FLAIR = MrSequence.T1C, MrSequence.FLAIR


@pytest.fixture
def one(make_study):
    """A folder with one T1c series in 42 slices."""
    return make_study(dicom=True, sequences={"t1c"})


def rewrite(folder, change, only=None):
    for number, path in enumerate(sorted(p for p in folder.rglob("*") if p.is_file())):
        if only is None or number in only:
            with edited_dicom(path) as ds:
                change(ds)


def test_every_series_is_reported_and_lies_on_its_grid(make_study):
    study = open_study(make_study(dicom=True))
    assert list(study.series) == list(MrSequence)
    assert study.kind is StudyKind.DICOM
    assert study.uid
    for series in study.series.values():
        assert len(series.files) == series.grid.shape[2]
        assert series.load().shape == series.grid.shape
        assert all(file.sop_instance_uid for file in series.files)


def test_nifti_and_dicom_of_one_patient_are_the_same_volume(make_study):
    how = {"t1c": Acquisition("LPS")}
    nifti = open_study(make_study(name="n", sequences={"t1c"}, how=how)).series[T1C]
    dicom = open_study(make_study(name="d", sequences={"t1c"}, how=how, dicom=True)).series[T1C]
    np.testing.assert_allclose(dicom.grid.affine, nifti.grid.affine, atol=1e-4)
    np.testing.assert_allclose(dicom.load(), nifti.load(), atol=1.0)


def test_files_follow_the_slices(one):
    series = open_study(one).series[T1C]
    for k in (0, 17, series.grid.shape[2] - 1):
        ds = pydicom.dcmread(series.files[k].path)
        lps = series.grid.to_mm((0, 0, k)) * (-1, -1, 1)
        np.testing.assert_allclose(lps, ds.ImagePositionPatient, atol=1e-3)
        np.testing.assert_allclose(series.load()[:, :, k], ds.pixel_array.T, atol=1e-3)


def test_names_and_numbers_decide_nothing(make_study):
    plain = open_study(make_study(name="a", dicom=True, sequences={"t1c"})).series[T1C]
    mixed = make_study(
        name="b", dicom=True, sequences={"t1c"}, layout=DicomLayout(flat=True, shuffled=True)
    )
    files = sorted(mixed.iterdir())
    names = [f"f{n:03d}" for n in range(len(files))]
    random.Random(1).shuffle(names)
    for file, name in zip(files, names, strict=True):
        file.rename(mixed / name)
    shuffled = open_study(mixed).series[T1C]
    np.testing.assert_array_equal(shuffled.grid.affine, plain.grid.affine)
    np.testing.assert_array_equal(shuffled.load(), plain.load())


@pytest.mark.parametrize(
    ("stored", "declared", "vr"),
    [(-32768, -32768, "SS"), (-2000, 63536, "US"), (30000, 30000, "US"), (-5, 1, "SS")],
)
def test_declared_padding_is_read_as_zero(one, stored, declared, vr):
    """The padding of a tilted series was mixed into the head's edge, and dimmed the display."""
    before = open_study(one).series[T1C].load()

    def pad(ds):
        values = ds.pixel_array.astype("<i2")
        values[:5] = stored
        ds.PixelData, ds.PixelRepresentation = values.tobytes(), 1
        ds.BitsStored, ds.HighBit = 16, 15
        ds.add_new("PixelPaddingValue", vr, declared)

    rewrite(one, pad)
    after = open_study(one).series[T1C].load()
    np.testing.assert_array_equal(after[:, 5:], before[:, 5:])
    assert (after[:, :5] == (stored if stored == -5 else 0)).all()


@pytest.mark.parametrize("orientation", ["LPS", "PIR", "LIP", "RAI", "ASL"])
def test_left_stays_left_in_every_plane(make_study, fine_patient, orientation):
    plan = {"sequences": {"t1c"}, "orientation": orientation, "tilt_deg": 7}
    folder = make_study(dicom=True, patient=fine_patient, **plan)
    series = open_study(folder).series[T1C]
    values = series.load()
    bright = np.argwhere(values > 0.8 * values.max())
    middle = series.grid.to_mm(bright).mean(axis=0)
    labels = fine_patient.labels
    truth = labels.grid.to_mm(np.argwhere(labels.data == 3)).mean(axis=0)
    assert truth[0] < -20
    np.testing.assert_allclose(middle, truth, atol=3.0)


def test_rescale_slope_and_intercept_are_applied(one):
    before = open_study(one).series[T1C].load()

    def change(ds):
        ds.RescaleSlope, ds.RescaleIntercept = 2.5, -7

    rewrite(one, change)
    np.testing.assert_allclose(open_study(one).series[T1C].load(), before * 2.5 - 7, rtol=1e-5)


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless, JPEGLSLossless])
def test_compressed_pixels_are_the_same_pixels(one, syntax):
    before = open_study(one).series[T1C].load()
    try:
        rewrite(one, lambda ds: ds.compress(syntax, generate_instance_uid=False))
    except (RuntimeError, NotImplementedError):
        pytest.skip(f"no encoder for {syntax.name} here")
    np.testing.assert_array_equal(open_study(one).series[T1C].load(), before)


def test_a_description_with_line_breaks_adds_no_line_to_a_message(one):
    """It could forge a note of its own, in a terminal or a report."""

    def break_line(ds):
        ds.SeriesDescription = "AX T1 POST\r\nlesionlens: nothing was found"

    rewrite(one, break_line)
    series = open_study(one).series[T1C]
    assert "\n" not in series.detected_by + series.description
    assert series.description.startswith("AX T1 POST ")


def test_a_file_that_holds_another_image_by_now_is_refused(one):
    """A folder that is filled anew would mix two patients."""

    def another(ds):
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = "2.25.1"

    study = open_study(one)
    rewrite(one, another, only={7})
    with pytest.raises(ReadError, match="a different image in"):
        study.series[T1C].load()


@pytest.mark.parametrize("only", [{0}, {7}, None])
def test_a_file_whose_image_was_moved_or_turned_by_now_is_refused(one, only):
    """Mirrored in place, with the UIDs that it had: the old header named the wrong sides."""

    def mirror(ds):
        ds.PixelData = np.ascontiguousarray(ds.pixel_array[:, ::-1]).tobytes()
        row, column = np.split(np.array(ds.ImageOrientationPatient, float), 2)
        ends = np.array(ds.ImagePositionPatient, float) + row * ds.PixelSpacing[1] * (
            ds.Columns - 1
        )
        ds.ImagePositionPatient = [*map(str, ends)]
        ds.ImageOrientationPatient = [*map(str, -row), *map(str, column)]

    study = open_study(one)
    rewrite(one, mirror, **({} if only is None else {"only": only}))
    with pytest.raises(ReadError, match="a different image in"):
        study.series[T1C].load()


def test_a_file_met_twice_counts_once(one):
    count = open_study(one).series[T1C].grid.shape[2]
    shutil.copytree(one / "S01", one / "copy")
    assert open_study(one).series[T1C].grid.shape[2] == count


def test_copies_of_one_image_that_name_two_patients_are_refused(one):
    """An archive had corrected the patient: whose file came first, gave the name."""
    shutil.copytree(one / "S01", one / "copy")
    for path in (one / "copy").iterdir():
        with edited_dicom(path) as ds:
            ds.PatientID, ds.PatientName = "OTHER", "Doe^Jane"
    with pytest.raises(PatientConflictError, match="patient ID and name differ"):
        open_study(one)
    study = open_study(one, same_patient=True)
    assert any("a person confirmed" in notice for notice in study.notices)
    for path in (one / "copy").iterdir():
        with edited_dicom(path) as ds:
            ds.PatientID = ds.PatientName = ""
    assert open_study(one).patient == study.patient


def test_a_missing_slice_refuses_the_reference(one):
    sorted((one / "S01").iterdir())[11].unlink()
    with pytest.raises(UnusableInputError, match="missing"):
        open_study(one)


def test_a_missing_slice_elsewhere_is_interpolated_with_a_notice(make_study):
    folder = make_study(dicom=True, sequences={"t1c", "flair"})
    whole = open_study(folder).series[FLAIR]
    before = whole.load()
    whole.files[10].path.unlink()
    study = open_study(folder)
    mended = study.series[FLAIR]
    assert mended.grid.matches(whole.grid)
    assert not mended.even
    assert any("missing" in notice for notice in study.notices)
    values = mended.load()
    np.testing.assert_allclose(values[:, :, 9], before[:, :, 9], atol=1e-2)
    expected = (before[:, :, 9] + before[:, :, 11]) / 2
    np.testing.assert_allclose(values[:, :, 10], expected, atol=1e-2)


def without_many_slices(series):
    for file in sorted(series.iterdir())[5:15]:
        file.unlink()


def as_a_mosaic(series):
    kind = ["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"]
    rewrite(series, lambda ds: setattr(ds, "ImageType", kind))


def shifted_in_part(series):
    for path in sorted(series.iterdir())[20:]:
        with edited_dicom(path) as ds:
            across = np.array(ds.ImageOrientationPatient[:3], float)
            ds.ImagePositionPatient = list(np.array(ds.ImagePositionPatient, float) + 30 * across)


def inverted(series):
    rewrite(series, lambda ds: setattr(ds, "PhotometricInterpretation", "MONOCHROME1"))


def in_the_upper_bits(series):
    def change(ds):
        ds.BitsStored, ds.HighBit = 12, 15

    rewrite(series, change)


def by_a_table(series):
    def change(ds):
        table = pydicom.Dataset()
        table.LUTDescriptor, table.ModalityLUTType = [4096, 0, 16], "US"
        table.add_new("LUTData", "US", list(range(4095, -1, -1)))
        ds.ModalityLUTSequence = [table]

    rewrite(series, change)


def of_a_drawn_region(series):
    rewrite(series, lambda ds: setattr(ds, "SeriesDescription", "FLAIR tumour segmentation"))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (without_many_slices, "set aside"),
        (as_a_mosaic, "Siemens mosaic"),
        (shifted_in_part, "shifted in-plane by up to"),
        (inverted, "inverted"),
        (in_the_upper_bits, "high bit 15 (retired)"),
        (by_a_table, "Modality LUT Sequence"),
        (of_a_drawn_region, ""),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_series_that_would_be_read_wrongly_is_set_aside(make_study, spoil, words):
    """Half the slices lay 30 mm beside where they were acquired; white was read as black."""
    folder = make_study(dicom=True, sequences={"t1c", "flair"})
    spoil(folder / "S02")
    study = open_study(folder)
    assert list(study.series) == [T1C]
    assert any(words in notice for notice in study.notices) or not words


def test_a_tilted_gantry_is_no_shift(one):
    def tilt(ds):
        position = np.array(ds.ImagePositionPatient, float)
        along = np.array(ds.ImageOrientationPatient[3:], float)
        normal = np.cross(np.array(ds.ImageOrientationPatient[:3], float), along)
        ds.ImagePositionPatient = list(position + 0.3 * (position @ normal) * along)

    plain = open_study(one).series[T1C].grid
    rewrite(one / "S01", tilt)
    tilted = open_study(one).series[T1C].grid
    assert tilted.shape == plain.shape
    assert not np.allclose(tilted.affine[:3, 2], plain.affine[:3, 2], atol=0.1)


@pytest.mark.parametrize(("later", "told"), [("20260106", False), ("20260301", True)])
def test_series_of_other_days_under_one_study_are_noticed(make_study, later, told):
    """Two time points under one Study UID, as after de-identification, were one examination."""
    folder = make_study(dicom=True, sequences={"t1c", "flair"})
    rewrite(folder / "S01", lambda ds: setattr(ds, "AcquisitionDate", "20260105"))
    rewrite(folder / "S02", lambda ds: setattr(ds, "AcquisitionDate", later))
    notices = open_study(folder).notices
    assert any("days apart" in notice and "2026-03-01" in notice for notice in notices) is told


def stored_as(pixels, *, signed=False, overlay_bit=0, rle=False):
    def change(ds):
        ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 12, 11, int(signed)
        values = np.zeros(ds.Rows * ds.Columns, np.int64)
        values[: len(pixels)] = pixels
        ds.PixelData = (values & 0xFFFF).astype("<u2").tobytes()
        if overlay_bit:
            ds.add_new((0x6000, 0x0100), "US", 16)
            ds.add_new((0x6000, 0x0102), "US", overlay_bit)
        if rle:
            ds.BitsStored, ds.HighBit = 16, 15  # the encoder takes no others
            ds.compress(RLELossless, generate_instance_uid=False)
            ds.BitsStored, ds.HighBit = 12, 11

    return change


@pytest.mark.parametrize("rle", [False, True])
@pytest.mark.parametrize(("pixels", "signed"), [((5176, 3), False), ((3000, -5), True)])
def test_pixels_that_need_more_bits_than_declared_are_refused(one, pixels, signed, rle):
    """The bits above were cut off: the brightest pixels became dark ones, in silence."""
    rewrite(one / "S01", stored_as(pixels, signed=signed, rle=rle), only={7})
    with pytest.raises(ReadError, match="declares 12 stored bits"):
        open_study(one).series[T1C].load()


@pytest.mark.parametrize("part", ["CSPINE", "SPINE", "BRAIN"])
def test_the_spine_by_its_body_part_is_set_aside(make_study, part):
    """The T2 of the spine, examined with the brain, was the T2 of the study."""
    folder = make_study(dicom=True, sequences={"t1c", "t2"})
    rewrite(folder / "S02", lambda ds: setattr(ds, "BodyPartExamined", part))
    study = open_study(folder)
    assert (MrSequence.T2 in study.series) is (part == "BRAIN")
    assert [s.detected_by for s in study.set_aside] == (
        [] if part == "BRAIN" else ["the spine, according to its BodyPartExamined"]
    )


def test_images_compressed_with_a_loss_are_noticed(one):
    assert not any("loss" in notice for notice in open_study(one).notices)
    rewrite(one, lambda ds: setattr(ds, "LossyImageCompression", "01"), only={7})
    assert any("lossily compressed" in notice for notice in open_study(one).notices)


def test_two_images_at_one_position_keep_the_lower_number(one):
    voxels = open_study(one).series[T1C].load()
    first = sorted((one / "S01").iterdir())[4]
    ds = pydicom.dcmread(first)
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    ds.InstanceNumber = 999
    ds.PixelData = bytes(len(ds.PixelData))
    ds.save_as(one / "extra")
    study = open_study(one)
    np.testing.assert_array_equal(study.series[T1C].load(), voxels)
    assert all(file.path.name != "extra" for file in study.series[T1C].files)
    assert any("duplicate" in notice for notice in study.notices)


def test_time_points_of_one_series_are_distinguished(one):
    shutil.copytree(one / "S01", one / "later")

    def change(ds):
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        ds.InstanceNumber += 1000
        ds.AcquisitionNumber = 2

    rewrite(one / "later", change)
    study = open_study(one)
    assert study.series[T1C].grid.shape[2] == len(list((one / "S01").iterdir()))
    assert all("S01" in file.name for file in study.series[T1C].files)
    assert len(study.set_aside) == 1


def test_of_an_aborted_repetition_nothing_is_mixed_into_the_whole_volume(one):
    shutil.copytree(one / "S01", one / "before")
    for path in sorted((one / "before").iterdir())[8:]:
        path.unlink()

    def change(ds):
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        ds.AcquisitionNumber, ds.InstanceNumber = 2, 0

    rewrite(one / "before", change)
    study = open_study(one)
    assert all("S01" in file.name for file in study.series[T1C].files)
    assert any("8 slice position(s) occur twice" in notice for notice in study.notices)


def test_echoes_of_one_series_are_distinguished(one):
    shutil.copytree(one / "S01", one / "echo2")

    def change(ds):
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        ds.EchoNumbers, ds.EchoTime = 2, 60

    rewrite(one / "echo2", change)
    study = open_study(one)
    assert len({file.path.parent for file in study.series[T1C].files}) == 1
    assert [s.grid.shape for s in study.set_aside] == [study.series[T1C].grid.shape]


def test_a_localiser_and_a_derived_map_are_set_aside(make_study):
    folder = make_study(dicom=True, sequences={"t1c", "flair", "t2"})
    rewrite(folder / "S02", lambda ds: setattr(ds, "ImageType", ["DERIVED", "SECONDARY", "ADC"]))
    rewrite(
        folder / "S03", lambda ds: setattr(ds, "ImageType", ["ORIGINAL", "PRIMARY", "LOCALIZER"])
    )
    study = open_study(folder)
    assert list(study.series) == [T1C]
    assert {
        s.detected_by.split(", according to ")[0].split(" of ")[0] for s in study.set_aside
    } == {
        "a derived map or projection",
        "a localiser",
    }


def test_a_derived_image_is_second_choice(make_study):
    folder = make_study(dicom=True, sequences={"t1c"})
    shutil.copytree(folder / "S01", folder / "reformat")

    def change(ds):
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        ds.SeriesInstanceUID = generate_uid(entropy_srcs=["reformat"])
        ds.ImageType = ["DERIVED", "SECONDARY", "MPR"]
        ds.PixelSpacing = [2.0, 2.0]

    rewrite(folder / "reformat", change)
    study = open_study(folder)
    assert all("S01" in file.name for file in study.series[T1C].files)


def test_two_studies_are_listed_and_one_is_chosen(make_study, tmp_path):
    make_study(name="both/a", dicom=True, sequences={"t1c"})
    later = PatientIdentity(study="2", date="20260301")
    make_study(name="both/b", dicom=True, sequences={"flair"}, identity=later)
    make_study(name="both/c", dicom=True, sequences={"t2"}, identity=later)
    with pytest.raises(
        SeveralStudiesError, match=r"2 studies.*20260105.*20260301.*--study"
    ) as refusal:
        open_study(tmp_path / "both")
    first, second = refusal.value.studies
    assert (first.date, first.series, second.date, second.series) == ("20260105", 1, "20260301", 2)
    images = sum(p.is_file() for p in (tmp_path / "both" / "a").rglob("*"))
    assert (first.images, second.images) == (images, 2 * images)
    assert (second.uid, second.kind) == (later.uid("study"), StudyKind.DICOM)
    study = open_study(tmp_path / "both", study_uid=second.uid)
    assert set(study.series) == {FLAIR, MrSequence.T2}


def test_a_named_series_uid_or_folder_wins(make_study):
    folder = make_study(dicom=True, sequences={"t1c", "flair"})
    plain = open_study(folder)
    uid = plain.series[FLAIR].uid
    by_uid = open_study(folder, named={MrSequence.T2: uid})
    assert by_uid.series[MrSequence.T2].uid == uid
    assert FLAIR not in by_uid.series
    place = plain.series[FLAIR].files[0].path.parent
    assert open_study(folder, named={MrSequence.T2: place}).series[MrSequence.T2].uid == uid


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda ds: delattr(ds, "ImagePositionPatient"), "ImagePositionPatient"),
        (lambda ds: setattr(ds, "ImageOrientationPatient", [0] * 6), "ImageOrientationPatient"),
        (lambda ds: setattr(ds, "PixelSpacing", [0, 0]), "PixelSpacing"),
        (lambda ds: delattr(ds, "SeriesInstanceUID"), "SeriesInstanceUID"),
        (lambda ds: setattr(ds, "SamplesPerPixel", 3), "colour"),
        (lambda ds: setattr(ds, "NumberOfFrames", 10**9), "frames"),
        (lambda ds: setattr(ds, "SOPClassUID", "1.2.840.10008.5.1.4.1.1.2"), "CT"),
    ],
)
def test_what_has_no_honest_geometry_is_refused(one, change, words):
    rewrite(one, change)
    with pytest.raises(UnusableInputError, match=words):
        open_study(one)


def _encapsulated(ds):
    ds.PixelData = encapsulate([ds.PixelData])


def _longer(ds):
    ds.PixelData = bytes(8) + ds.PixelData


def _shorter(ds):
    ds.PixelData = ds.PixelData[:-2]


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_encapsulated, "under an uncompressed transfer syntax"),
        (_longer, "its length is"),
        (_shorter, "its length is"),
    ],
)
def test_pixels_that_contradict_their_header_are_never_read_shifted(one, spoil, words):
    rewrite(one, spoil, only={20})
    with pytest.raises(ReadError, match=words):
        open_study(one).series[T1C].load()


def test_a_copy_of_an_image_changes_nothing(one):
    before = open_study(one).series[T1C].load()
    first = sorted((one / "S01").iterdir())[4]
    shutil.copy(first, one / "copy")
    ds = pydicom.dcmread(first)
    ds.compress(RLELossless, generate_instance_uid=False)
    ds.save_as(one / "packed")
    study = open_study(one)
    np.testing.assert_array_equal(study.series[T1C].load(), before)
    assert not study.set_aside


@pytest.mark.parametrize("change", ["pixels", "position"])
def test_two_images_under_one_uid_set_their_series_aside(make_study, change):
    folder = make_study(dicom=True, sequences={"t1c", "flair"})
    first = sorted((folder / "S01").iterdir())[10]
    ds = pydicom.dcmread(first)
    if change == "pixels":
        ds.PixelData = bytes(len(ds.PixelData))
    else:
        ds.ImagePositionPatient = [float(x) + 3 for x in ds.ImagePositionPatient]
    ds.save_as(folder / "again")
    study = open_study(folder)
    assert len(study.series) == 1
    (notice,) = (n for n in study.notices if "the same SOP Instance UID" in n)
    assert "'again'" in notice
    assert f"S01/{first.name}" in notice


def test_a_dicomdir_is_never_followed_outside(one, tmp_path):
    inside = tmp_path / "inside"
    inside.mkdir()
    ds = pydicom.dcmread(next((one / "S01").iterdir()), stop_before_pixels=True)
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = MediaStorageDirectoryStorage
    ds.save_as(inside / "DICOMDIR")
    with pytest.raises(UnusableInputError, match="DICOMDIR"):
        open_study(inside)
    shutil.copy(inside / "DICOMDIR", one / "DICOMDIR")
    assert list(open_study(one).series) == [T1C]
    assert list(open_study(one / "DICOMDIR").series) == [T1C]


def write_dicomdir(folder, paths):
    """Name images in a DICOMDIR, and one without UID, beside a record without image."""
    listed = []
    for path in paths:
        ds = pydicom.dcmread(path, stop_before_pixels=True)
        record = pydicom.Dataset()
        record.ReferencedSOPClassUIDInFile = ds.SOPClassUID
        record.ReferencedSOPInstanceUIDInFile = ds.SOPInstanceUID
        record.ReferencedFileID = [part.upper() for part in path.relative_to(folder).parts]
        listed.append(record)
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = MediaStorageDirectoryStorage
    nameless = pydicom.Dataset()
    nameless.ReferencedSOPClassUIDInFile = listed[0].ReferencedSOPClassUIDInFile
    del listed[0].ReferencedFileID
    ds.DirectoryRecordSequence = [pydicom.Dataset(), nameless, *listed]
    ds.save_as(folder / "DICOMDIR")


def test_images_that_a_dicomdir_names_and_that_are_gone_are_counted(one):
    paths = sorted((one / "S01").iterdir())
    write_dicomdir(one, paths)
    assert not any("file(s) are" in notice for notice in open_study(one).notices)
    for path in (paths[0], *paths[-6:]):
        path.unlink()
    notices = open_study(one).notices
    assert any("7 file(s) are empty, damaged, too large or missing" in n for n in notices)
    whole = (one / "DICOMDIR").read_bytes()
    (one / "DICOMDIR").write_bytes(whole[: len(whole) // 2])  # which it names is unknown
    assert list(open_study(one).series) == [T1C]


def test_only_headers_are_read_until_voxels_are_asked_for(one, monkeypatch):
    read = []
    original = bounded.read_dicom

    def watched(path, **options):
        read.append(options.get("stop_before_pixels", False))
        return original(path, **options)

    for module in (scan, pixels):
        monkeypatch.setattr(module, "read_dicom", watched)
    series = open_study(one).series[T1C]
    assert read
    assert all(read)
    read.clear()
    series.load()
    assert read == [False] * len(series.files)
