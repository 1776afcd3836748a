"""Multi-frame MR: Legacy Converted and Enhanced files give the volume of the classic series."""

import random

import numpy as np
import pydicom
import pytest
from highdicom.legacy import LegacyConvertedEnhancedMRImage
from pydicom.uid import generate_uid

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


def test_a_frame_count_that_lies_is_refused(converted):
    ds = pydicom.dcmread(converted / "image")
    ds.NumberOfFrames = 10**9
    ds.save_as(converted / "image")
    with pytest.raises(UnusableInputError, match="NumberOfFrames"):
        open_study(converted)
