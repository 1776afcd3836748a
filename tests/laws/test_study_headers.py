"""Fuzzed headers: whatever they say, the answer is a study or a refusal in words."""

import contextlib
import gzip

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.phantoms.files import write_dicom

from lesionlens.base.errors import LesionLensError
from lesionlens.base.run_context import SILENT
from lesionlens.imaging.reading.dicom.files import Frame, scan
from lesionlens.imaging.reading.dicom.reader import acquisition
from lesionlens.imaging.reading.dicom.series import volumes
from lesionlens.imaging.reading.nifti import open_volume
from lesionlens.imaging.reading.open import open_study
from lesionlens.imaging.reading.sequences import (
    AcquisitionParameters,
    acquisition_of_sidecar,
    from_acquisition,
)
from lesionlens.testing import make_patient

FUZZ = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
VALID = bytes(nib.Nifti1Image(np.zeros((6, 7, 8), np.int16), np.eye(4)).to_bytes())
numbers = st.one_of(
    st.none(),
    st.floats(allow_nan=True, allow_infinity=True),
    st.integers(-(2**40), 2**40),
    st.text(max_size=8),
)
triples = st.one_of(numbers, st.lists(numbers, max_size=7))


@FUZZ
@pytest.mark.filterwarnings("ignore")
@given(offset=st.integers(0, 347), patch=st.binary(min_size=1, max_size=16), zipped=st.booleans())
def test_a_patched_nifti_header_is_read_or_refused(tmp_path, offset, patch, zipped):
    raw = bytearray(VALID)
    raw[offset : offset + len(patch)] = patch[: max(352 - offset, 0)]
    path = tmp_path / ("t1.nii.gz" if zipped else "t1.nii")
    path.write_bytes(gzip.compress(bytes(raw)) if zipped else bytes(raw))
    with contextlib.suppress(LesionLensError):  # which cannot be made without all its words
        assert np.isfinite(open_volume(path).grid.affine).all()


@FUZZ
@given(
    position=triples, orientation=triples, spacing=triples, rows=numbers, te=numbers, echo=numbers
)
def test_slices_of_any_header_are_sorted_or_reported(
    position, orientation, spacing, rows, te, echo
):
    values = {
        "ImagePositionPatient": position,
        "ImageOrientationPatient": orientation,
        "PixelSpacing": spacing,
        "Rows": rows,
        "EchoTime": te,
        "EchoNumbers": echo,
    }
    present = {k: v for k, v in values.items() if v is not None}
    made, reasons = volumes([Frame(None, {**present, "Columns": 8})])
    assert made or reasons


@FUZZ
@given(st.dictionaries(st.sampled_from(
    ["EchoTime", "RepetitionTime", "InversionTime", "ScanningSequence", "SeriesDescription",
     "ProtocolName", "ImageType", "ContrastBolusAgent"]), triples))  # fmt: skip
def test_any_sidecar_gives_a_guess(sidecar):
    guess = from_acquisition(acquisition_of_sidecar(sidecar))
    assert 0 <= guess.confidence <= 1
    assert guess.evidence


@FUZZ
@given(st.text(max_size=60))
def test_any_description_gives_a_guess(text):
    assert from_acquisition(AcquisitionParameters(description=text)).evidence


def test_a_slice_of_impossible_thickness_costs_its_series_alone():
    header = {
        "ImagePositionPatient": [0.0, 0.0, 0.0],
        "ImageOrientationPatient": [1.0, 0.0, 0.0, 0.0, 1.0, 0.0],
        "PixelSpacing": [1.0, 1.0],
        "SliceThickness": 1e11,
        "Rows": 8,
        "Columns": 8,
    }
    made, reasons = volumes([Frame(None, header)])
    assert not made
    assert "orientation matrix" in reasons[0]


@pytest.mark.parametrize("value", [3, "x", [3, 4], ["a", None], b"3"], ids=repr)
def test_an_attribute_of_any_kind_is_read_as_texts_and_numbers(value):
    item = Frame(None, {"ImageType": value})
    assert item.texts("ImageType")
    assert item.number_of("ImageType") in (3.0, None)


def test_an_empty_header_says_nothing():
    assert acquisition(Frame(None, {})) == AcquisitionParameters()


@pytest.fixture(scope="module")
def one_slice(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz")
    write_dicom(make_patient(spacing_mm=12.0), folder, sequences=("t1",))
    return sorted(folder.rglob("IM*"))[3].read_bytes()


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
@settings(FUZZ, max_examples=40)
@given(
    places=st.lists(
        st.tuples(st.integers(0, 3000), st.binary(min_size=1, max_size=12)), max_size=4
    ),
    cut=st.integers(0, 4000),
)
def test_a_damaged_dicom_file_is_read_or_refused(tmp_path, one_slice, places, cut):
    raw = bytearray(one_slice)
    for place, patch in places:
        raw[place : place + len(patch)] = patch
    (tmp_path / "IM1").write_bytes(bytes(raw[: max(len(raw) - cut, 0)]))
    volumes(scan([tmp_path / "IM1"], SILENT).frames)
    with pytest.raises(LesionLensError) as caught:
        open_study(tmp_path)  # one slice is no volume, whatever else is wrong
    assert caught.value.found


@pytest.mark.parametrize(
    ("place", "patch"),
    [
        pytest.param(134, b"\0\0\0\x4c\x04\0", id="a group length of another length"),
        pytest.param(136, b"UL\0\0", id="a group length of no bytes"),
    ],
)
def test_a_damaged_group_length_is_one_more_damaged_file(tmp_path, one_slice, place, patch):
    (tmp_path / "IM1").write_bytes(one_slice[:place] + patch + one_slice[place + len(patch) :])
    with pytest.raises(LesionLensError) as caught:
        open_study(tmp_path)
    assert caught.value.found
