"""The header that we split ourselves says what pydicom says, or leaves the file to pydicom."""

from pathlib import Path

import pydicom
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)
from tests.phantoms.files import write_dicom

from lesionlens.base.run_context import SILENT
from lesionlens.engines.testing.simple import make_patient
from lesionlens.imaging.reading.dicom import header as dicom_header
from lesionlens.imaging.reading.dicom import scan as dicom_scan

DATA = Path(__file__).resolve().parents[2].parent / "shared/data/dicom"
FUZZ = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")


def split(path, first=dicom_header.FIRST_BYTES):
    with path.open("rb", buffering=0) as stream:
        head = stream.read(first)
        return dicom_header.requested_elements(
            stream, head, path.stat().st_size, dicom_scan._NEEDED_TAGS
        )


def by_pydicom(path):
    return pydicom.dcmread(
        path, stop_before_pixels=True, specific_tags=dicom_scan._TAGS, force=True
    )


def spoken(header, key):
    """Return value, its text and its kind, or the kind of error that asking for it is."""
    try:
        value = header.get(key)
        if value is None:
            return None
        value = value if isinstance(key, str) else (value.VR, value.value)
        return value, str(value), type(value)
    except (OSError, *dicom_scan.DAMAGED) as error:
        return type(error)


def assert_same(ours, theirs):
    for key in dicom_scan._TAGS:
        assert spoken(ours, key) == spoken(theirs, key), key


def nested(depth):
    """Return a sequence of undefined length that holds others."""
    item = Dataset()
    item.CodeMeaning = "x" * 31
    if depth:
        item.ContentSequence = nested(depth - 1)
        item["ContentSequence"].is_undefined_length = depth % 2 == 0
    item.is_undefined_length_sequence_item = depth % 2 == 1
    return Sequence([item, Dataset()])


def full(ds):
    """Give a header what real ones have: nesting, private bulk, another alphabet."""
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.PatientName = "Müller^Žofia"
    ds.SeriesDescription = "T1 axial après"
    ds.ReferencedImageSequence = nested(3)
    ds["ReferencedImageSequence"].is_undefined_length = True
    ds.ReferencedImageSequence[0].add_new(0x00420011, "OB", bytes(20_000))  # beyond the first bytes
    agent = Dataset()
    agent.CodeMeaning = "Gadobutrol"
    ds.ContrastBolusAgentSequence = Sequence([agent])
    ds.add_new(0x00290010, "LO", "BULK")
    ds.add_new(0x00291010, "OB", bytes(40_000))
    ds.add_new(0x00430010, "LO", "GEMS_PARM_01")
    ds.add_new(0x0043102F, "SS", 2)
    return ds


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plain")
    write_dicom(make_patient(spacing_mm=12.0), folder, sequences=("t1",))
    return sorted(folder.rglob("IM*"))[3]


def written(plain, target, syntax):
    ds = full(pydicom.dcmread(plain))
    ds.file_meta.TransferSyntaxUID = syntax
    target.parent.mkdir(exist_ok=True)
    ds.save_as(target)
    return target


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
@pytest.mark.parametrize("first", [400, 2**14], ids=["in small bites", "at once"])
def test_a_full_header_says_what_pydicom_says(plain, tmp_path, syntax, first):
    path = written(plain, tmp_path / "IM1", syntax)
    ours = split(path, first)
    assert ours is not None
    assert_same(ours, by_pydicom(path))
    assert ours.get("PatientName") == "Müller^Žofia"
    assert ours.get("ContrastBolusAgentSequence")[0].CodeMeaning == "Gadobutrol"


@pytest.mark.parametrize("syntax", [ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian])
def test_other_encodings_are_left_to_pydicom(plain, tmp_path, syntax):
    ds = pydicom.dcmread(plain, stop_before_pixels=True)
    list(ds)  # decodes every element, so that none is copied as it was
    ds.file_meta.TransferSyntaxUID = syntax
    little = syntax != ExplicitVRBigEndian
    pydicom.dcmwrite(tmp_path / "IM1", ds, implicit_vr=False, little_endian=little)
    assert split(tmp_path / "IM1") is None
    assert dicom_scan.scan([tmp_path / "IM1"], SILENT).files == 1


def test_elements_out_of_order_are_left_to_pydicom(plain, tmp_path):
    raw = plain.read_bytes()
    rows = raw.index(b"\x28\x00\x10\x00US")
    columns = raw.index(b"\x28\x00\x11\x00US")
    swapped = raw[:rows] + raw[columns : columns + 10] + raw[rows : rows + 10] + raw[columns + 10 :]
    (tmp_path / "IM1").write_bytes(swapped)
    assert split(plain) is not None
    assert split(tmp_path / "IM1") is None


@FUZZ
@given(
    places=st.lists(st.tuples(st.integers(0, 4000), st.binary(min_size=1, max_size=6)), max_size=3),
    cut=st.integers(0, 3000),
    implicit=st.booleans(),
)
@example(places=[(140, b"UL\x04\x00")], cut=0, implicit=False)
def test_a_damaged_header_is_left_to_pydicom_or_says_the_same(
    plain, tmp_path, places, cut, implicit
):
    kind = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian

    path = tmp_path / kind / "IM"
    if not path.exists():
        written(plain, path, kind)
    raw = bytearray(path.read_bytes())
    bulk = raw.index(bytes(20_000))
    for place, patch in places:
        at = place if place < bulk else len(raw) - place  # before the bulk and after it
        raw[at : at + len(patch)] = patch
    (tmp_path / "IM2").write_bytes(bytes(raw[: len(raw) - cut]))
    ours = split(tmp_path / "IM2")
    if ours is not None:
        assert_same(ours, by_pydicom(tmp_path / "IM2"))


@pytest.mark.real
def test_every_real_header_says_what_pydicom_says():
    if not DATA.is_dir():
        pytest.skip("the developers' folder of real scans is not here")
    reported = {True: 0, False: 0}
    for path in (p for p in dicom_scan.walk(DATA) if dicom_scan.looks_like_dicom(p)):
        ours, theirs = split(path), by_pydicom(path)
        reported[ours is not None] += 1
        if ours is not None:
            assert_same(ours, theirs)
    assert reported[True] > 100
    assert reported[False] <= 10, "most of what scanners write needs no second reading"
