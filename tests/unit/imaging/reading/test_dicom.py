"""DICOM folders: what each kind of series becomes; used, set aside with a reason, or refused."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGLSLossless, RLELossless, generate_uid
from scipy.spatial.transform import Rotation
from tests.phantoms import dicom_kinds as kinds
from tests.phantoms.dicom_kinds import LPS, VOXELS, again, changed, enhanced, save, series
from tests.phantoms.headers import PatientIdentity

from lesionlens import open_study
from lesionlens.base.errors import PatientConflictError, ReadError, UnusableInputError
from lesionlens.base.labels import MrSequence
from lesionlens.base.records.study import StudyKind
from lesionlens.base.run_context import SILENT
from lesionlens.imaging.reading.dicom.files import scan, walk
from lesionlens.imaging.reading.dicom.pixels import load
from lesionlens.imaging.reading.dicom.series import volumes
from lesionlens.imaging.reading.open import SeveralStudiesError, name_for_reader

T1, T1C, T2, FLAIR = MrSequence
SIZE = VOXELS[:, :, 0].size


def pixels_of(image):
    return np.frombuffer(image.PixelData, "<u2").astype(int)


def with_pixels(change):
    """Change the stored values of images."""

    def encoded(images):
        for image in images:
            image.PixelData = (change(pixels_of(image)) & 0xFFFF).astype("<u2").tobytes()
        return images

    return encoded


def negative(images):
    changed(images, PixelRepresentation=1, BitsStored=16, HighBit=15)
    return with_pixels(lambda stored: stored - 500)(images)


def overlay_above(images):
    for image in images:
        image.add_new((0x6000, 0x0102), "US", 15)
    return with_pixels(lambda stored: stored | 0x8000)(images)


def longer(count):
    return lambda images: changed(images, PixelData=lambda k: images[k].PixelData + bytes(count))


def padded(stored, declared, vr):
    """Frame the first row with declared padding."""

    def encoded(images):
        changed(images, PixelRepresentation=1, BitsStored=16, HighBit=15)
        for image in images:
            image.add_new("PixelPaddingValue", vr, declared)
            values = pixels_of(image).astype("<i2")
            values[:8] = stored
            image.PixelData = values.tobytes()
        return images

    return encoded


def philips(images):
    """A private scale that differs between slices, as in volumes put together."""
    for k, image in enumerate(images):
        image.RescaleSlope, image.RescaleIntercept = 2, 0
        block = image.private_block(0x2005, "Philips MR Imaging DD 001", create=True)
        block.add_new(0x0E, "FL", 0.5 * 2 ** (k % 2))
        image.PixelData = (pixels_of(image) * 2 ** (k % 2)).astype("<u2").tobytes()
    return images


def first_row(value):
    out = VOXELS.copy()
    out[:, 0] = value
    return out


STORED = {
    "classic": (list, VOXELS),
    "implicit": (kinds.IMPLICIT, VOXELS),
    "big endian": (kinds.BIG_ENDIAN, VOXELS),
    "deflated": (kinds.DEFLATED, VOXELS),
    "no meta header": (kinds.without_meta(implicit=False), VOXELS),
    "no meta header, implicit": (kinds.without_meta(implicit=True), VOXELS),
    "no preamble": (lambda images: [kinds.file_of(image)[132:] for image in images], VOXELS),
    "RLE": (kinds.compressed(RLELossless), VOXELS),
    "JPEG-LS": (kinds.compressed(JPEGLSLossless), VOXELS),
    "JPEG 2000": (kinds.jpeg_2000, VOXELS),
    "legacy converted": (kinds.legacy_converted, VOXELS),
    "enhanced": (enhanced, VOXELS),
    "enhanced, implicit": (lambda images: kinds.IMPLICIT(enhanced(images)), VOXELS),
    "mosaic": (kinds.mosaic, VOXELS),
    "negative": (negative, VOXELS - 500),
    "slope": (lambda i: changed(i, RescaleSlope=2.5, RescaleIntercept=-7), VOXELS * 2.5 - 7),
    "a slope for each slice": (
        lambda i: changed(i, RescaleSlope=lambda k: k + 1, RescaleIntercept=lambda k: -k),
        VOXELS * np.arange(1, 7) - np.arange(6),
    ),
    "enhanced, a slope for each frame": (
        lambda i: enhanced(changed(i, RescaleSlope=lambda k: k + 1, RescaleIntercept=0)),
        VOXELS * np.arange(1, 7),
    ),
    "enhanced, another slope in its header": (
        lambda i: changed(enhanced(changed(i, RescaleSlope=2, RescaleIntercept=0)), RescaleSlope=9),
        VOXELS * 2,
    ),
    "Philips' own scale": (philips, VOXELS * 2),
    "bits above those stored": (overlay_above, VOXELS),
    "2 bytes behind": (longer(2), VOXELS),
    "16 bytes behind": (longer(16), VOXELS),
    "almost a frame behind": (longer(2 * SIZE - 2), VOXELS),
    "padding": (padded(-2000, -2000, "SS"), first_row(VOXELS[:, 1:].min((0, 1)))),
    "padding as unsigned": (padded(-2000, 63536, "US"), first_row(VOXELS[:, 1:].min((0, 1)))),
    "padding among values": (padded(500, 500, "US"), first_row(500)),
    "a Series UID for each": (
        lambda i: changed(i, SeriesInstanceUID=lambda k: generate_uid()), VOXELS),
    "a Frame of Reference UID for each": (
        lambda i: changed(i, FrameOfReferenceUID=lambda k: generate_uid()), VOXELS),
    "all three UIDs for each": (
        lambda i: changed(
            i,
            StudyInstanceUID=lambda k: generate_uid(),
            SeriesInstanceUID=lambda k: generate_uid(),
            FrameOfReferenceUID=lambda k: generate_uid(),
        ), VOXELS),
    "cosines that are rounded": (
        lambda i: changed(i, ImageOrientationPatient=lambda k: [1, k % 2 * 1e-6, 0, 0, 1, 0]),
        VOXELS),
    "echo times that are rounded": (
        lambda i: changed(i, EchoTime=lambda k: 10 + k % 2 / 50), VOXELS),
}  # fmt: skip


@pytest.mark.parametrize("kind", STORED)
def test_each_kind_is_read_in_place(kind, tmp_path):
    how, expected = STORED[kind]
    images = how(series())
    (one,) = open_study(save(images, tmp_path / "study")).all_series
    np.testing.assert_allclose(one.grid.affine, LPS, atol=1e-5)
    np.testing.assert_allclose(one.load(), expected, rtol=1e-6)
    assert one.load().dtype == np.float32
    assert len(one.files) == VOXELS.shape[2]
    if not kind.startswith("mosaic"):
        for k, file in enumerate(one.files):  # segmentations point at these
            found = pydicom.dcmread(file.path, force=True)
            frame = one.frames[k] - 1 if one.frames else 0
            groups = found.get("PerFrameFunctionalGroupsSequence") or [found]
            place = groups[frame].get("PlanePositionSequence", groups)
            np.testing.assert_allclose(
                (place[0] if one.frames else found).ImagePositionPatient,
                one.grid.to_mm((0, 0, k)) * (-1, -1, 1),
                atol=1e-3,
            )
            assert file.sop_instance_uid == found.SOPInstanceUID


codes = st.sampled_from(["".join(c) for c in ("LPS", "PIR", "LIP", "RAS", "SRA", "IPL", "ARI")])
three = st.tuples(*[st.floats(-40, 40)] * 3)


@settings(max_examples=12)
@given(codes, three, three, st.tuples(*[st.floats(0.4, 9)] * 3), st.permutations(range(6)))
@pytest.mark.parametrize("kind", ["classic", "enhanced", "mosaic"])
def test_every_voxel_is_at_its_millimetres(kind, code, turn, offset, spacing, order):
    """Whatever the orientation, the order of files, frames and numbers, and the file names."""
    ornt = nib.orientations.axcodes2ornt(tuple(code))
    axes = np.zeros((3, 3))
    axes[ornt[:, 0].astype(int), range(3)] = ornt[:, 1]
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", turn, degrees=True).as_matrix() @ axes * spacing
    affine[:3, 3] = offset
    images = changed(series(affine), InstanceNumber=lambda k: order[k] + 1)
    if kind == "classic":
        images = [images[index] for index in order]
    else:
        images = enhanced(images, order) if kind == "enhanced" else kinds.mosaic(images)
    with tempfile.TemporaryDirectory() as folder:
        names = [f"{'zxa'[n % 3]}{n}" for n in order]
        (one,) = open_study(save(images, Path(folder), names)).all_series
        found = one.load()
    index = np.moveaxis(np.indices(found.shape), 0, -1)
    places = nib.affines.apply_affine(np.linalg.inv(affine) @ one.grid.affine, index)
    nearest = np.rint(places).astype(int)
    assert np.abs(places - nearest).max() < 0.01
    np.testing.assert_array_equal(found, VOXELS[tuple(np.moveaxis(nearest, -1, 0))])


def ge(code):
    """Mark images as GE's magnitude (0), phase, real or imaginary part."""

    def mark(images):
        for image in images:
            image.private_block(0x0043, "GEMS_PARM_01", create=True).add_new(0x2F, "SS", code)
        return images

    return mark


def both(**values):
    """Another volume of the same series that differs in these attributes."""
    return lambda images: [*images, *again(images, factor=3, InstanceNumber=lambda k: k, **values)]


def moved(millimetres, **values):
    places = [[13 * -1, 17 * -1, -11 + 6 * k + millimetres] for k in range(6)]
    return both(ImagePositionPatient=lambda k: places[k], **values)


def two_times(keyword, first, second):
    """One Enhanced object of two volumes, its frames in no order."""

    def mixed(images):
        images = [*images, *again(images, factor=3)]
        return enhanced(images, **{keyword: lambda k: second if k >= 6 else first})

    return mixed


def numbered_alike(images):
    return [*images, *again(images, factor=3, InstanceNumber=lambda k: 101 + k)]


def stopped_before(images):
    return [*again(images, factor=3, AcquisitionNumber=2, InstanceNumber=0)[:4], *images]


SPLIT = {
    "acquisition": both(AcquisitionNumber=2),
    "time point": both(TemporalPositionIdentifier=2),
    "acquisition time": both(AcquisitionTime="101700"),
    "agent": both(ContrastBolusAgent="OTHER AGENT"),
    "echo": both(EchoNumbers=2, EchoTime=60),
    "echo number": both(EchoNumbers=2),
    "echo time": both(EchoTime=60),
    "phase": both(ImageType=["ORIGINAL", "PRIMARY", "P", "ND"]),
    "component": lambda images: [*ge(0)(images), *ge(1)(again(images, factor=3))],
    "component, implicit": lambda images: kinds.IMPLICIT(
        [*ge(0)(images), *ge(3)(again(images, factor=3))]
    ),
    "numbers alone": numbered_alike,
    "description": both(SeriesDescription="AX T2"),
    "frame of reference": both(FrameOfReferenceUID="1.2.3"),
    "pixel spacing": both(PixelSpacing=[9, 9]),
    "orientation": both(ImageOrientationPatient=[0.9999, 0.0141, 0, -0.0141, 0.9999, 0]),
    "half a slice further": moved(3, AcquisitionNumber=2),
    "more than the stack further": moved(90, SeriesDescription="AX T2"),
    "time points of one object": two_times("TemporalPositionIndex", 1, 2),
    "stacks of one object": two_times("StackID", "1", "2"),
    "dimension index": two_times("DimensionIndexValues", [1, 1], [1, 2]),
    "two objects": lambda i: [*enhanced(i), *enhanced(again(i, factor=3, InstanceNumber=2))],
    "two mosaics": lambda i: [
        *kinds.mosaic(i), *kinds.mosaic(again(i, factor=3, AcquisitionNumber=2))],
    "an acquisition that was stopped": stopped_before,
}  # fmt: skip


@pytest.mark.parametrize("kind", SPLIT)
def test_volumes_of_one_series_are_never_mixed(kind, tmp_path):
    study = open_study(save(SPLIT[kind](series()), tmp_path / "study"))
    factors = []
    for one in study.all_series:
        factor = one.load() / VOXELS
        assert np.ptp(factor) == 0, "slices of two volumes"
        factors.append(factor.flat[0])
    assert sorted(factors) == ([1] if "stopped" in kind else [1, 3])
    assert study.notices


def test_volumes_that_need_two_attributes_are_told_apart(tmp_path):
    images = series()
    marks = [("a", "101500"), ("a", "101700"), ("b", "101500"), ("b", "101700")]
    whole = [
        image
        for n, (stack, time) in enumerate(marks, 1)
        for image in again(images, factor=n, StackID=stack, AcquisitionTime=time, InstanceNumber=1)
    ]
    study = open_study(save(whole, tmp_path / "study"))
    assert sorted(float((s.load() / VOXELS).max()) for s in study.all_series) == [1, 2, 3, 4]
    assert all(np.ptp(s.load() / VOXELS) == 0 for s in study.all_series)


def turned(images):
    """Turn the upper half of twelve slices; either half is a stack by its own header."""
    higher = again(images, ImagePositionPatient=lambda k: [-13, -17, 25 + 6 * k])
    changed(higher, ImageOrientationPatient=[1, 0, 0, 0, 0.94, 0.342])
    return [*images, *higher]


def shifted(images):
    for image in images[3:]:
        image.ImagePositionPatient[0] += 30
    return images


def tilted(images):
    for k, image in enumerate(images):
        image.ImagePositionPatient[1] += 1.8 * k
    return images


def uneven(images):
    images[2].ImagePositionPatient[2] += 2
    return images


def with_table(images):
    table = Dataset()
    table.LUTDescriptor, table.ModalityLUTType = [4096, 0, 16], "US"
    table.add_new("LUTData", "US", list(range(4096)))
    return changed(images, ModalityLUTSequence=[table])


def one_uid_twice(images):
    other = again(images[2:3], factor=3)[0]
    other.SOPInstanceUID = other.file_meta.MediaStorageSOPInstanceUID = images[2].SOPInstanceUID
    return [*images, other]


def frame_count(images):
    return changed(enhanced(images), NumberOfFrames=10**9)


SET_ASIDE = {
    "missing slice": (lambda i: i[:2] + i[3:], "1 slice(s) missing"),
    "uneven slices": (uneven, "uneven slice spacing"),
    "shifted slices": (shifted, "shifted in-plane"),
    "tilted gantry": (tilted, "sheared by 17 degrees"),
    "planes that are not parallel": (turned, "not parallel"),
    "nothing tells volumes apart": (
        lambda i: [*i, *again(i, factor=3)], "2 images at each slice position"),
    "one position twice": (
        lambda i: [*i, *again(i[2:3], factor=3)], "1 slice position(s) with duplicate images"),
    "one UID, two images": (one_uid_twice, "the same SOP Instance UID"),
    "no position": (lambda i: changed(i, ImagePositionPatient=None), "ImagePositionPatient"),
    "no orientation": (lambda i: changed(i, ImageOrientationPatient=[0] * 6), "Orientation"),
    "no spacing": (lambda i: changed(i, PixelSpacing=[0, 0]), "PixelSpacing"),
    "no Series UID": (lambda i: changed(i, SeriesInstanceUID=None), "SeriesInstanceUID"),
    "no rows": (lambda i: changed(i, Rows=0), "0 rows"),
    "colour": (lambda i: changed(i, SamplesPerPixel=3), "colour"),
    "inverted": (lambda i: changed(i, PhotometricInterpretation="MONOCHROME1"), "inverted"),
    "high bits": (lambda i: changed(i, HighBit=15), "high bit 15"),
    "lookup table": (with_table, "Modality LUT Sequence"),
    "several frames": (lambda i: changed(i, NumberOfFrames=10**9), "frames in a single-frame"),
    "a frame count that lies": (frame_count, "NumberOfFrames is wrong"),
    "mosaic without its header": (
        lambda i: changed(i, ImageType=["ORIGINAL", "PRIMARY", "MOSAIC"]), "mosaic"),
    "CT": (lambda i: changed(i, SOPClassUID="1.2.840.10008.5.1.4.1.1.2"), "CT"),
    "four slices": (lambda i: i[:4], "only 4 slice(s)"),
    "localiser": (
        lambda i: changed(i, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]), "localiser"),
    "subtraction": (lambda i: changed(i, ImageType=["DERIVED", "PRIMARY", "M", "SUB"]), "map"),
    "T1 map": (lambda i: changed(i, ImageType=["DERIVED", "PRIMARY", "T1_MAP", "ND"]), "map"),
    "fat": (lambda i: changed(i, ImageType=["ORIGINAL", "PRIMARY", "F_FFE", "F"]), "map"),
    "phase": (lambda i: changed(i, ImageType=["ORIGINAL", "PRIMARY", "PHASE_MAP"]), "phase"),
    "real part": (lambda i: changed(i, ImageType=["ORIGINAL", "PRIMARY", "R_IR"]), "phase"),
    "GE's phase": (ge(1), "phase"),
    "GE's imaginary part, implicit": (lambda i: kinds.IMPLICIT(ge(3)(i)), "phase"),
    "phase of an object": (
        lambda i: changed(enhanced(i), ComplexImageComponent="PHASE"), "phase"),
    "echo-planar": (
        lambda i: enhanced(changed(
            i, SeriesDescription="series", ProtocolName="series", EchoTime=30, RepetitionTime=800,
            EchoPlanarPulseSequence="YES", ScanningSequence="EP")), "echo-planar"),
    "a drawn region": (lambda i: changed(i, SeriesDescription="FLAIR tumour mask"), "mask"),
}  # fmt: skip


@pytest.mark.parametrize("kind", SET_ASIDE)
def test_what_would_be_read_wrongly_is_set_aside(kind, tmp_path):
    """Beside another series it is named; alone it is refused for that reason."""
    how, words = SET_ASIDE[kind]
    save(how(series(sequence=FLAIR, number=2)), tmp_path / "alone")
    with pytest.raises(UnusableInputError) as refusal:
        open_study(tmp_path / "alone")
    assert words in str(refusal.value)
    save(series(), shutil.copytree(tmp_path / "alone", tmp_path / "both" / "a").parent / "b")
    study = open_study(tmp_path / "both")
    assert list(study.series) == [T1C]
    np.testing.assert_array_equal(study["t1c"].load(), VOXELS)
    told = " ".join((*study.notices, *(s.detected_by for s in study.set_aside)))
    assert words in told or kind == "CT"


@pytest.mark.parametrize("part", ["CSPINE", "SPINE", "BRAIN"])
def test_the_spine_is_set_aside_unless_all_is_registered_as_spine(part, tmp_path):
    save(series(sequence=T2, number=2, BodyPartExamined=part), tmp_path / "study")
    assert list(open_study(tmp_path / "study").series) == [T2]
    save(series(), tmp_path / "study")
    assert (T2 in open_study(tmp_path / "study")) is (part == "BRAIN")


def test_images_compressed_with_a_loss_are_noticed(tmp_path):
    images = series()
    images[3].LossyImageCompression = "01"
    assert any("lossily" in text for text in open_study(save(images, tmp_path / "s")).notices)


@pytest.mark.parametrize(("later", "noticed"), [("20260106", False), ("20260301", True)])
def test_series_of_other_days_under_one_study_are_noticed(tmp_path, later, noticed):
    save(series(), tmp_path)
    save(series(sequence=FLAIR, number=2, AcquisitionDate=later), tmp_path)
    notices = open_study(tmp_path).notices
    assert any("days apart" in text and "2026-03-01" in text for text in notices) is noticed


def test_line_breaks_of_a_header_add_no_line_to_a_message(tmp_path):
    text = "AX T1 POST\r\nlesionlens: nothing was found"
    (one,) = open_study(save(series(SeriesDescription=text), tmp_path)).all_series
    assert "\n" not in one.detected_by + one.description


# ---------------------------------------------------------------- which volume is used


def test_of_an_original_and_a_reformatted_series_the_original_is_used(tmp_path):
    save(series(), tmp_path)
    save(
        series(factor=2, number=7, SeriesInstanceUID="1.2.7", PixelSpacing=[1, 1],
               SOPInstanceUID=lambda k: generate_uid(), ImageType=["DERIVED", "SECONDARY", "MPR"]),
        tmp_path,
    )  # fmt: skip
    np.testing.assert_array_equal(open_study(tmp_path)["t1c"].load(), VOXELS)


def dynamic(description, **values):
    """Three time points of one series."""
    names = {"SeriesDescription": description, "ProtocolName": description}
    first = series(TemporalPositionIdentifier=1, **names, **values)
    return [
        *first,
        *again(first, factor=2, TemporalPositionIdentifier=2),
        *again(first, factor=3, TemporalPositionIdentifier=3),
    ]


def test_the_t1c_of_a_dynamic_series_is_its_last_volume(tmp_path):
    save(dynamic("t1_vibe_tra"), tmp_path)
    study = open_study(tmp_path)
    np.testing.assert_array_equal(study["t1c"].load(), VOXELS * 3)
    by_factor = {int((s.load() / VOXELS).max()): s for s in study.all_series}
    picked = {T1: by_factor[1], T1C: by_factor[2]}  # all have one Series UID
    named = {s: name_for_reader(one, study) for s, one in picked.items()}
    reopened = open_study(tmp_path, named=named)
    assert [int((reopened[s].load() / VOXELS).max()) for s in ("t1", "t1c")] == [1, 2]


@pytest.mark.parametrize("named", [False, True])
def test_a_series_that_calls_itself_dynamic_must_be_named(tmp_path, named):
    images = dynamic("t1_vibe_tra_dyn")
    save(images, tmp_path)
    if not named:
        with pytest.raises(UnusableInputError, match="none of the four"):
            open_study(tmp_path)
        return
    study = open_study(tmp_path, named={T1C: images[0].SeriesInstanceUID})
    np.testing.assert_array_equal(study["t1c"].load(), VOXELS * 3)


def test_of_two_equal_t1c_the_later_is_used(tmp_path):
    """The agent is often recorded in all series of an examination."""
    for number in (1, 2):
        save(
            series(factor=number, number=number, SeriesInstanceUID=f"1.2.{number}",
                   SOPInstanceUID=lambda k: generate_uid(), SeriesDescription="t1_tra",
                   ProtocolName="t1_tra"),
            tmp_path,
        )  # fmt: skip
    np.testing.assert_array_equal(open_study(tmp_path)["t1c"].load(), VOXELS * 2)


@pytest.mark.parametrize(
    ("sequence", "description", "first"),
    [
        (T1C, "AX T1 POST", {"ImageType": ["ORIGINAL", "PRIMARY", "P", "ND"]}),
        (T1C, "anatomy", {"ImageType": ["ORIGINAL", "PRIMARY", "P", "ND"]}),
        (T2, "AX DUAL ECHO", {"EchoNumbers": 1, "EchoTime": 15}),
        (T2, "AX PD/T2", {"EchoNumbers": 1, "EchoTime": 15}),
    ],
)
def test_a_named_series_of_several_volumes_gives_the_one_that_fits(
    tmp_path, sequence, description, first
):
    names = {"SeriesDescription": description, "ProtocolName": description}
    images = series(sequence=sequence, EchoNumbers=2, InstanceNumber=lambda k: 500 + k, **names)
    save([*again(images, factor=3, InstanceNumber=lambda k: k, **first), *images], tmp_path)
    study = open_study(tmp_path, named={sequence: images[0].SeriesInstanceUID})
    np.testing.assert_array_equal(study.series[sequence].load(), VOXELS)


def test_a_named_uid_or_folder_wins(tmp_path):
    save(series(), tmp_path / "study" / "a")
    save(series(sequence=FLAIR, number=2), tmp_path / "study" / "b")
    uid = open_study(tmp_path / "study")["flair"].uid
    for name in (uid, tmp_path / "study" / "b", "b"):
        study = open_study(tmp_path / "study", named={T2: name})
        assert (study["t2"].uid, FLAIR in study) == (uid, False)
    moved = (tmp_path / "study" / "b").rename(tmp_path / "elsewhere")
    assert open_study(tmp_path / "study", named={FLAIR: moved})["flair"].uid == uid
    with pytest.raises(UnusableInputError):
        open_study(tmp_path / "study", named={T1: moved, T2: moved})
    with pytest.raises(UnusableInputError):
        open_study(tmp_path / "study", named={T2: "1.2.3.4"})


# ---------------------------------------------------------------- studies, patients, copies


def test_several_studies_are_listed_and_one_is_chosen(tmp_path):
    later = PatientIdentity(study="2", date="20260301")
    save(series(), tmp_path / "a")
    save(series(sequence=FLAIR, identity=later), tmp_path / "b")
    save(series(sequence=T2, number=2, identity=later), tmp_path / "b")
    with pytest.raises(SeveralStudiesError) as refusal:
        open_study(tmp_path)
    first, second = refusal.value.studies
    assert (first.date, first.series, first.images) == ("20260105", 1, 6)
    assert (second.date, second.series, second.images) == ("20260301", 2, 12)
    assert (second.uid, second.kind) == (later.uid("study"), StudyKind.DICOM)
    assert set(open_study(tmp_path, study_uid=second.uid)) == {FLAIR, T2}


@pytest.mark.parametrize(
    ("values", "is_joined"),
    [
        ({}, True),
        ({"StudyDate": "20260301"}, False),
        ({"StudyTime": "235959"}, False),
        ({"FrameOfReferenceUID": "1.2.3"}, False),
        ({"SeriesNumber": 1}, False),
    ],
)
def test_a_study_uid_for_each_series_is_one_study_if_nothing_else_differs(
    tmp_path, values, is_joined
):
    save(series(), tmp_path)
    save(series(sequence=FLAIR, number=2, StudyInstanceUID="1.2.9", **values), tmp_path)
    if not is_joined:
        with pytest.raises(SeveralStudiesError):
            open_study(tmp_path)
        return
    study = open_study(tmp_path)
    assert list(study.series) == [T1C, FLAIR]
    assert any("its own Study Instance UID" in text for text in study.notices)


@pytest.mark.parametrize(
    "keywords",
    [
        ("StudyInstanceUID",),
        ("StudyInstanceUID", "SeriesInstanceUID"),
        ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"),
    ],
)
def test_series_whose_images_have_their_own_uids_are_one_study(tmp_path, keywords):
    own = dict.fromkeys(keywords, lambda k: generate_uid())
    save([*series(**own), *series(sequence=FLAIR, number=2, **own)], tmp_path)
    study = open_study(tmp_path)
    assert list(study.series) == [T1C, FLAIR]
    assert all(np.array_equal(one.load(), VOXELS) for one in study.series.values())


def test_a_series_of_another_study_is_added_by_its_folder(tmp_path):
    later = {"StudyInstanceUID": "1.2.9", "StudyTime": "235959"}
    save(series(), tmp_path / "study" / "a")
    save(series(sequence=FLAIR, number=2, **later), tmp_path / "study" / "b")
    uid = series()[0].StudyInstanceUID
    study = open_study(tmp_path / "study", study_uid=uid, named={FLAIR: "b"})
    assert list(study.series) == [T1C, FLAIR]


WHOLE = {
    "PatientID": "P1", "IssuerOfPatientID": "HOSPITAL", "PatientName": "Müller^Anna",
    "PatientBirthDate": "19700102", "PatientSex": "F",
}  # fmt: skip


@pytest.mark.parametrize(
    ("values", "fields"),
    [
        ({"PatientID": "P2"}, {"patient ID"}),
        ({"PatientID": ""}, {"patient ID"}),
        ({"IssuerOfPatientID": "PRACTICE"}, {"issuer of the patient ID"}),
        ({"PatientName": "Roe^Jane"}, {"name"}),
        ({"PatientBirthDate": "19710102"}, {"birth date"}),
        ({"PatientSex": "M"}, {"sex"}),
        ({"PatientName": "MÜLLER^ANNA^^"}, set()),
        ({"PatientName": "Mueller^Anna", "SpecificCharacterSet": "ISO_IR 6"}, set()),
        ({"PatientName": "Müller^Anna", "SpecificCharacterSet": "ISO_IR 100"}, set()),
        ({"PatientID": " P1 ", "IssuerOfPatientID": "", "PatientSex": ""}, set()),
    ],
)
@pytest.mark.parametrize("where", ["series", "slices", "outside"])
def test_two_patients_are_refused_by_what_differs(tmp_path, values, fields, where):
    save(series(**WHOLE), tmp_path / "study")
    others = series(sequence=FLAIR, number=2, **{**WHOLE, **values})
    if where == "slices":
        others[3:] = series(sequence=FLAIR, number=2, **WHOLE)[3:]
    place = tmp_path / ("elsewhere" if where == "outside" else "study")
    save(others, place)
    named = {"flair": place} if where == "outside" else {}
    if not fields:
        assert len(open_study(tmp_path / "study", named=named).series) == 2
        return
    with pytest.raises(PatientConflictError) as refusal:
        open_study(tmp_path / "study", named=named)
    assert fields <= set(refusal.value.fields)
    assert not any(v in str(refusal.value) for v in ("P1", "P2", "Roe", "1970", "PRACTICE"))
    confirmed = open_study(tmp_path / "study", named=named, same_patient=True)
    assert len(confirmed.series) == 2
    assert any("confirmed" in text for text in confirmed.notices)


def test_two_patients_with_a_study_each(tmp_path):
    other = PatientIdentity("Other^One", "OTHER", "2")
    save(series(), tmp_path / "a")
    save(series(sequence=FLAIR, identity=other), tmp_path / "b")
    with pytest.raises(PatientConflictError):
        open_study(tmp_path)
    assert list(open_study(tmp_path, study_uid=other.uid("study")).series) == [FLAIR]


def test_copies_are_read_once(tmp_path):
    images = series()
    save(images, tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    save(kinds.compressed(RLELossless)(images[2:3]), tmp_path / "c")
    study = open_study(tmp_path)
    np.testing.assert_array_equal(study["t1c"].load(), VOXELS)
    assert not study.set_aside
    assert not study.notices
    save(again(series()), tmp_path / "other UIDs")
    study = open_study(tmp_path)
    np.testing.assert_array_equal(study["t1c"].load(), VOXELS)
    assert any("identical pixels" in text for text in study.notices)


def test_a_copy_that_names_another_patient_is_refused(tmp_path):
    """As before an archive corrected the patient: whose file came first would give the name."""
    save(series(), tmp_path / "a")
    save(series(PatientID="OTHER"), tmp_path / "b")
    with pytest.raises(PatientConflictError):
        open_study(tmp_path)


def mirror(image):
    """Mirror an image in its file, in place, with the UIDs that it had."""
    image.PixelData = np.ascontiguousarray(image.pixel_array[:, ::-1]).tobytes()
    row = np.array(image.ImageOrientationPatient[:3], float)
    ends = np.array(image.ImagePositionPatient, float) + row * image.PixelSpacing[1] * 7
    image.ImagePositionPatient = [*map(str, ends)]
    image.ImageOrientationPatient = [*map(str, -row), "0", "1", "0"]


@pytest.mark.parametrize("change", [mirror, lambda i: setattr(i, "SOPInstanceUID", "2.25.1")])
def test_an_image_that_was_replaced_since_is_refused(tmp_path, change):
    images = series()
    study = open_study(save(images, tmp_path))
    change(images[3])
    (tmp_path / "IM0003").write_bytes(kinds.file_of(images[3]))
    with pytest.raises(ReadError):
        study["t1c"].load()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda image: encapsulate([image.PixelData]),
        lambda image: image.PixelData[:-2],
        lambda image: image.PixelData * 2,
    ],
    ids=["encapsulated", "short", "a frame more"],
)
def test_pixels_that_contradict_their_header_are_refused(tmp_path, spoil):
    images = series()
    images[3].PixelData = spoil(images[3])
    with pytest.raises(ReadError, match="IM0003"):
        open_study(save(images, tmp_path))["t1c"].load()


@pytest.mark.parametrize("content", [b"", bytes(128) + b"DICM" + b"\xff" * 200])
def test_a_file_that_cannot_be_read_is_noticed(tmp_path, content):
    """No gap shows that the last slice is missing."""
    images = series()
    assert not open_study(save(images, tmp_path)).notices
    (tmp_path / "IM0005").write_bytes(content)
    assert any(text.startswith("1 file(s)") for text in open_study(tmp_path).notices)


def test_headers_alone_are_read_until_voxels_are_asked_for(tmp_path):
    images = series()
    save([kinds.file_of(image)[:-SIZE] for image in images], tmp_path)
    study = open_study(tmp_path)
    with pytest.raises(ReadError):
        study["t1c"].load()


def test_a_dicomdir_is_not_followed(tmp_path):
    save(series(), tmp_path / "study" / "images")
    directory = series()[0]
    directory.SOPClassUID = "1.2.840.10008.1.3.10"
    directory.file_meta.MediaStorageSOPClassUID = directory.SOPClassUID
    for folder in ("empty", "study"):
        save([directory], tmp_path / folder, ["DICOMDIR", "DICOMDIR"])
    with pytest.raises(UnusableInputError, match="DICOMDIR"):
        open_study(tmp_path / "empty")
    for path in ("study", "study/DICOMDIR"):
        assert list(open_study(tmp_path / path).series) == [T1C]


# ---------------------------------------------------------------- real scans

DATA = next(
    (p / "shared/data/dicom" for p in Path(__file__).parents if (p / "shared").is_dir()), None
)


@pytest.mark.real
@pytest.mark.skipif(DATA is None or not DATA.is_dir(), reason="the scans are not here")
@pytest.mark.parametrize(
    ("name", "count", "sequence"),
    [
        ("siemens_t1_fl2d_sag", 1, T1),
        ("ge_gre_b0map", 2, None),
        ("philips_t1_mprage_sag", 1, T1),
        ("uih_t1_gre_sag", 1, T1),
        ("siemens_xa30_t1_enhanced", 1, T1),
        ("siemens_xa_phantom_jpeg_lossless", 1, None),
        ("siemens_epi_mosaic_oblique", 2, None),
        ("siemens_mosaic_transfer_syntaxes", 9, None),
    ],
)
def test_real_series_of_five_vendors_equal_those_of_dcm2niix(name, count, sequence):
    """Voxel for voxel; dcm2niix converts Philips' numbers to the scanner's own unit."""
    frames = {}
    for frame in scan(list(walk(DATA / name)), SILENT).frames:
        frames.setdefault(frame.text("SeriesInstanceUID"), []).append(frame)
    found = [volume for group in frames.values() for volume in volumes(group)[0]]
    truths = []
    for path in sorted((DATA / f"{name}.expected").glob("*.nii.gz")):
        image = nib.load(path)
        truths += [image] if image.ndim == 3 else nib.four_to_three(image)
    assert len(found) == len(truths) == count
    for truth in truths:
        values, equal = np.asarray(truth.dataobj, float), 0
        for volume in found:
            image = nib.Nifti1Image(load(volume), volume.grid.affine)
            axes = map(nib.io_orientation, (image.affine, truth.affine))
            image = image.as_reoriented(nib.orientations.ornt_transform(*axes))
            ours = np.asarray(image.dataobj, float)
            if ours.shape == values.shape and name.startswith("philips"):
                ours *= np.median(values[ours > 0] / ours[ours > 0])
            if ours.shape == values.shape and np.allclose(ours, values, rtol=1e-6, atol=1e-3):
                np.testing.assert_allclose(image.affine, truth.affine, atol=1e-3)
                equal += 1
        assert equal >= 1
    if sequence is not None:
        assert list(open_study(DATA / name).series) == [sequence]
