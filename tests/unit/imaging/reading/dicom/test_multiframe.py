"""Multi-frame MR: Legacy Converted and Enhanced files give the volume of the classic series."""

import copy
import random

import numpy as np
import pydicom
import pytest
from highdicom.legacy import LegacyConvertedEnhancedMRImage
from pydicom.uid import generate_uid
from tests.helpers.dicom_files import edited_dicom

from lesionlens.base.errors import UnusableInputError
from lesionlens.base.labels import MrSequence
from lesionlens.imaging.reading.dicom.scan import ENHANCED_MR
from lesionlens.imaging.reading.readers import open_study

T2 = MrSequence.T2


@pytest.fixture
def classic(make_study):
    return make_study(dicom=True, sequences={"t2"}, tilt_deg=6)


@pytest.fixture
def converted(classic, tmp_path):
    """The same series in one Legacy Converted file, its frames in no order."""
    datasets = [pydicom.dcmread(path) for path in sorted((classic / "S01").iterdir())]
    random.Random(3).shuffle(datasets)
    image = LegacyConvertedEnhancedMRImage(
        datasets,
        series_instance_uid=generate_uid(),
        series_number=9,
        sop_instance_uid=generate_uid(),
        instance_number=1,
    )
    folder = tmp_path / "converted"
    folder.mkdir()
    image.save_as(folder / "image")
    return folder


def test_a_legacy_converted_file_is_the_classic_series(classic, converted):
    one, many = open_study(converted).series[T2], open_study(classic).series[T2]
    assert one.grid.matches(many.grid)
    np.testing.assert_array_equal(one.load(), many.load())
    assert sorted(one.frames) == list(range(1, one.grid.shape[2] + 1))
    assert len({file.path for file in one.files}) == 1


def test_frames_follow_the_slices(converted):
    series = open_study(converted).series[T2]
    ds = pydicom.dcmread(series.files[0].path)
    for k in (0, 20):
        groups = ds.PerFrameFunctionalGroupsSequence[series.frames[k] - 1]
        position = groups.PlanePositionSequence[0].ImagePositionPatient
        np.testing.assert_allclose(series.grid.to_mm((0, 0, k)) * (-1, -1, 1), position, atol=1e-3)


def test_scales_of_the_maker_in_private_groups_are_noticed(converted):
    with edited_dicom(converted / "image") as ds:
        for number, groups in enumerate(ds.PerFrameFunctionalGroupsSequence):
            own = pydicom.Dataset()
            block = own.private_block(0x2005, "Philips MR Imaging DD 001", create=True)
            block.add_new(0x0E, "FL", 0.5 + 0.5 * (number == 7))
            groups.private_block(0x2005, "Philips MR Imaging DD 005", create=True).add_new(
                0x0F, "SQ", [own]
            )
    assert any("up to 2.0 times" in notice for notice in open_study(converted).notices)


def enhance(folder):
    """Make it Enhanced: timing and rescale in functional groups, as scanners write them."""
    path = folder / "image"
    ds = pydicom.dcmread(path)
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = ENHANCED_MR
    ds.SeriesDescription = ds.ProtocolName = "series"
    for keyword in ("EchoTime", "RepetitionTime", "ScanningSequence"):
        if keyword in ds:
            delattr(ds, keyword)
    shared = ds.SharedFunctionalGroupsSequence[0]
    for name, keyword, value in (
        ("MREchoSequence", "EffectiveEchoTime", 95.0),
        ("MRTimingAndRelatedParametersSequence", "RepetitionTime", 4500.0),
    ):
        item = pydicom.Dataset()
        setattr(item, keyword, value)
        setattr(shared, name, [item])
    for groups in ds.PerFrameFunctionalGroupsSequence:
        item = pydicom.Dataset()
        item.RescaleSlope, item.RescaleIntercept = 2.0, 5.0
        groups.PixelValueTransformationSequence = [item]
        if "MREchoSequence" in groups:
            del groups.MREchoSequence
    ds.save_as(path)


def test_an_enhanced_file_is_reported_by_its_functional_groups(classic, converted):
    enhance(converted)
    series = open_study(converted).series[T2]
    assert "TE 95" in series.detected_by
    np.testing.assert_allclose(series.load(), open_study(classic).series[T2].load() * 2 + 5)


def test_an_enhanced_echo_planar_series_is_none_of_the_four(converted):
    """With TE 30 and TR 800, as for function, it was taken for a T1."""
    enhance(converted)
    with edited_dicom(converted / "image") as ds:
        shared = ds.SharedFunctionalGroupsSequence[0]
        shared.MREchoSequence[0].EffectiveEchoTime = 30.0
        shared.MRTimingAndRelatedParametersSequence[0].RepetitionTime = 800.0
        ds.EchoPulseSequence, ds.EchoPlanarPulseSequence = "GRADIENT", "YES"
    with pytest.raises(UnusableInputError, match="echo-planar"):
        open_study(converted)


def test_a_frame_count_that_lies_is_refused(converted):
    with edited_dicom(converted / "image") as ds:
        ds.NumberOfFrames = 10**9
    with pytest.raises(UnusableInputError, match="NumberOfFrames"):
        open_study(converted)


def second_volume(folder, *, mark, brighter=3, seed=5):
    """Append every frame once more, brighter, and store all of them in no order.

    `mark` is called with the functional groups and the number, 0 or 1, of the frame's volume.
    """
    path = folder / "image"
    ds = pydicom.dcmread(path)
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = ENHANCED_MR
    frames = []
    for volume, factor in enumerate((1, brighter)):
        for groups, pixels in zip(ds.PerFrameFunctionalGroupsSequence, ds.pixel_array, strict=True):
            own = copy.deepcopy(groups)
            if "UnassignedPerFrameConvertedAttributesSequence" in own:
                del own.UnassignedPerFrameConvertedAttributesSequence
            mark(own, volume)
            frames.append((own, (pixels // 4 * factor).astype(ds.pixel_array.dtype)))
    random.Random(seed).shuffle(frames)
    ds.PerFrameFunctionalGroupsSequence = [groups for groups, _ in frames]
    ds.NumberOfFrames = len(frames)
    ds.PixelData = np.stack([pixels for _, pixels in frames]).tobytes()
    ds.save_as(path)


def content(keyword, values):
    """Return a mark within the frame content, as scanners number time points and stacks."""

    def mark(groups, volume):
        item = groups.FrameContentSequence[0] if "FrameContentSequence" in groups else None
        item = pydicom.Dataset() if item is None else item
        setattr(item, keyword, values[volume])
        groups.FrameContentSequence = [item]

    return mark


def quarter_of(classic):
    return open_study(classic).series[T2].load() // 4


@pytest.mark.parametrize(
    ("keyword", "values"),
    [
        ("TemporalPositionIndex", (1, 2)),
        ("StackID", ("1", "2")),
        ("FrameReferenceDateTime", ("20260105101500", "20260105101700")),
        ("DimensionIndexValues", ([1, 1], [1, 2])),
    ],
)
def test_volumes_of_one_object_are_told_apart(classic, converted, keyword, values):
    """By the order of the frames, a volume was mixed from two time points."""
    second_volume(converted, mark=content(keyword, values))
    study = open_study(converted)
    np.testing.assert_array_equal(study.series[T2].load(), quarter_of(classic))
    (other,) = study.set_aside
    np.testing.assert_array_equal(other.load(), quarter_of(classic) * 3)


def test_frames_that_nothing_assigns_to_a_volume_are_refused(converted):
    second_volume(converted, mark=lambda groups, volume: None)
    with pytest.raises(UnusableInputError, match="2 images at each slice position"):
        open_study(converted)


def frame_type(groups, volume):
    item = pydicom.Dataset()
    item.ComplexImageComponent = ("PHASE", "MAGNITUDE")[volume]
    groups.MRImageFrameTypeSequence = [item]


def test_phase_beside_magnitude_in_one_object_is_set_aside(classic, converted):
    second_volume(converted, mark=frame_type)
    study = open_study(converted)
    np.testing.assert_array_equal(study.series[T2].load(), quarter_of(classic) * 3)
    assert [s.detected_by for s in study.set_aside] == [
        "phase, real or imaginary part, not magnitude"
    ]


def test_an_enhanced_object_of_phase_is_no_image(converted):
    with edited_dicom(converted / "image") as ds:
        ds.ComplexImageComponent = "PHASE"
    with pytest.raises(UnusableInputError, match="phase"):
        open_study(converted)


def test_two_objects_of_one_series_are_two_volumes(classic, converted):
    """Their frames are ordered differently: at each position the lower frame was taken."""
    with edited_dicom(converted / "image") as ds:
        for groups in ds.PerFrameFunctionalGroupsSequence:
            if "UnassignedPerFrameConvertedAttributesSequence" in groups:
                del groups.UnassignedPerFrameConvertedAttributesSequence
    pixels = ds.pixel_array
    ds.PerFrameFunctionalGroupsSequence = list(reversed(ds.PerFrameFunctionalGroupsSequence))
    ds.PixelData = (pixels[::-1] // 4).astype(pixels.dtype).tobytes()
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    ds.InstanceNumber = 2
    ds.save_as(converted / "second")
    study = open_study(converted)
    whole = open_study(classic).series[T2].load()
    np.testing.assert_array_equal(study.series[T2].load(), whole)
    np.testing.assert_array_equal(study.set_aside[0].load(), whole // 4)
