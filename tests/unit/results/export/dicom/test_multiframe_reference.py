"""Objects of a multi-frame reference point at the frames that were analysed, and at no others."""

import copy
import random

import numpy as np
import pydicom
import pytest
from highdicom.legacy import LegacyConvertedEnhancedMRImage
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from tests.phantoms.acquire import Acquisition
from tests.phantoms.analysis import make_analysis
from tests.phantoms.files import write_dicom

from lesionlens.base.errors import ExportError
from lesionlens.base.labels import MrSequence
from lesionlens.imaging.reading.dicom.files import ENHANCED_MR
from lesionlens.imaging.reading.open import open_study
from lesionlens.results.export.dicom.exporter import DicomExporter
from lesionlens.results.export.dicom.refs import read_sources

T1C = MrSequence.T1C
SAGITTAL = [0, 1, 0, 0, 0, -1]


def enhanced(files, *, number=1):
    """Return classic files as one Enhanced object, its frames in no order."""
    datasets = [pydicom.dcmread(path) for path in files]
    random.Random(number).shuffle(datasets)
    image = LegacyConvertedEnhancedMRImage(
        datasets, generate_uid(entropy_srcs=["series"]), 7, generate_uid(), number
    )
    image.SeriesDescription = datasets[0].SeriesDescription
    image.SOPClassUID = image.file_meta.MediaStorageSOPClassUID = ENHANCED_MR
    for groups in image.PerFrameFunctionalGroupsSequence:
        del groups.UnassignedPerFrameConvertedAttributesSequence
    shared = image.SharedFunctionalGroupsSequence[0]
    for groups in image.PerFrameFunctionalGroupsSequence:
        for name in ("PlaneOrientationSequence", "PixelMeasuresSequence"):
            if name in shared:  # frames of another stack will have others
                groups[name] = copy.deepcopy(shared[name])
    del shared.PlaneOrientationSequence, shared.PixelMeasuresSequence
    return image


def with_phase_and_another_stack(image):
    """Put a phase image before each frame, and sagittal slices before all."""
    frames = []
    for groups, pixels in zip(
        image.PerFrameFunctionalGroupsSequence, image.pixel_array, strict=True
    ):
        for component, values in (("PHASE", pixels // 3), ("MAGNITUDE", pixels)):
            own, kind = copy.deepcopy(groups), Dataset()
            kind.ComplexImageComponent = component
            own.MRImageFrameTypeSequence = [kind]
            frames.append((own, values))
    for n in range(3):
        own = copy.deepcopy(frames[0][0])
        own.PlaneOrientationSequence[0].ImageOrientationPatient = SAGITTAL
        own.PlanePositionSequence[0].ImagePositionPatient = [5.0 * n, -90.0, 90.0]
        frames.insert(n, (own, frames[-1][1]))
    image.PerFrameFunctionalGroupsSequence = [groups for groups, _ in frames]
    image.NumberOfFrames = len(frames)
    image.PixelData = np.stack([pixels for _, pixels in frames]).tobytes()


@pytest.fixture
def files(two_lesions, tmp_path):
    how = Acquisition("LPS", (4.0, 4.0, 8.0))  # half as many files, which take most of the time
    return write_dicom(two_lesions, tmp_path / "classic", sequences=(T1C,), how=how)[T1C]


@pytest.fixture
def source(files, tmp_path):
    image = enhanced(files)
    with_phase_and_another_stack(image)
    (tmp_path / "study").mkdir()
    image.save_as(tmp_path / "study" / "image.dcm")
    return image


def frames_named(dataset):
    for element in dataset.iterall():
        if element.keyword == "ReferencedFrameNumber":
            values = [element.value] if isinstance(element.value, int) else element.value
            yield from map(int, values)


@pytest.mark.parametrize(
    ("multi_frame", "stated", "thickness"),
    [
        (True, "0.4", "0.7"), (False, "0.4", "0.7"), (True, "0", "0"),
        (False, "-4", ""), (True, None, None), (False, "", "-1"),
    ],
)  # fmt: skip
def test_slices_have_the_distance_of_their_positions(
    two_lesions, source, files, tmp_path, multi_frame, stated, thickness
):
    """A gap in its place made a lesion a twelfth as large in 3D Slicer; no thickness, no object."""
    place = tmp_path / "study" if multi_frame else files[0].parent
    for path in place.iterdir():
        ds = pydicom.dcmread(path)
        groups = ds.get("PerFrameFunctionalGroupsSequence", ())
        for item in [one.PixelMeasuresSequence[0] for one in groups] or [ds]:
            for keyword, value in (("SpacingBetweenSlices", stated), ("SliceThickness", thickness)):
                item.pop(keyword, None)
                if value is not None:
                    setattr(item, keyword, value)
        ds.save_as(path)
    study = open_study(place)
    distance = study.series[T1C].grid.spacing_mm[2]
    done = DicomExporter().write(make_analysis(two_lesions, study), tmp_path)
    assert done.left_out == {}
    for name in ("seg", "attention"):
        shared = pydicom.dcmread(tmp_path / "dicom" / f"{name}.dcm").SharedFunctionalGroupsSequence
        measures = shared[0].PixelMeasuresSequence[0]
        assert float(measures.SpacingBetweenSlices) == pytest.approx(distance, rel=1e-5)
        assert float(measures.SliceThickness) == (
            0.7 if thickness == "0.7" else pytest.approx(distance)
        )


def test_only_analysed_frames_are_referenced_in_their_orientation(
    two_lesions, source, files, tmp_path
):
    """The first frame at a position was named, though it was of phase, and that of all echoes."""
    study = open_study(tmp_path / "study")
    analysis = make_analysis(two_lesions, study)
    assert not DicomExporter().write(analysis, tmp_path).left_out
    kinds = {
        number: groups.MRImageFrameTypeSequence[0].ComplexImageComponent
        for number, groups in enumerate(source.PerFrameFunctionalGroupsSequence, 1)
    }
    for name in ("seg", "sr", "attention"):
        written = pydicom.dcmread(tmp_path / "dicom" / f"{name}.dcm")
        named = list(frames_named(written))
        assert named
        assert {kinds[number] for number in named} == {"MAGNITUDE"}
        if name not in ("seg", "attention"):
            continue
        plane = written.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0]
        wanted = pydicom.dcmread(files[0]).ImageOrientationPatient
        np.testing.assert_allclose(plane.ImageOrientationPatient, wanted, atol=1e-6)
        for groups in written.PerFrameFunctionalGroupsSequence:
            (one,) = groups.DerivationImageSequence[0].SourceImageSequence
            frame = source.PerFrameFunctionalGroupsSequence[one.ReferencedFrameNumber - 1]
            axis = np.cross(*np.reshape(np.array(wanted, float), (2, 3)))
            here, there = (
                np.array(g.PlanePositionSequence[0].ImagePositionPatient, float) @ axis
                for g in (groups, frame)
            )
            assert here == pytest.approx(there, abs=1e-3)


def test_a_reference_in_several_multiframe_files_is_refused_in_words(files, tmp_path):
    (tmp_path / "study").mkdir()
    half = len(files) // 2
    for number, part in enumerate((files[:half], files[half:]), 1):
        enhanced(part, number=number).save_as(tmp_path / "study" / f"{number}.dcm")
    series = open_study(tmp_path / "study").series[T1C]
    assert series.grid.shape[2] == len(files)
    with pytest.raises(ExportError, match="2 multi-frame files"):
        read_sources(series)
