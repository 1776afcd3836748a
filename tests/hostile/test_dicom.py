"""Hostile DICOM studies are read or refused as stated; nothing hangs, and memory is bounded."""

from __future__ import annotations

import os
import struct
import weakref
import zlib
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pydicom
import pytest
from tests.corpus import copy_of
from tests.hostile import dicom
from tests.hostile.judge import verdict

from lesionlens import open_study
from lesionlens.base.errors import ReadError
from lesionlens.imaging.reading.dicom import bounded
from lesionlens.imaging.reading.dicom import pixels as pixels_of


@pytest.fixture(scope="module")
def voxels(corpus):
    return open_study(corpus.study("dicom t1c"))["t1c"].load()


@pytest.mark.parametrize("name", dicom.STUDIES)
@pytest.mark.filterwarnings("ignore")
def test_the_verdict_is_the_stated_one(name, corpus, voxels, tmp_path):
    folder = copy_of(corpus.study("dicom t1c"), tmp_path / "study")
    dicom.STUDIES[name](sorted(path for path in folder.rglob("*") if path.is_file()))
    assert verdict(folder, voxels) == dicom.EXPECTED[name]


def _save(path, tail=b"", syntax=pydicom.uid.ExplicitVRLittleEndian):
    """Write a header of an image, and bytes behind it that pydicom would not write."""
    data = pydicom.Dataset()
    data.file_meta = pydicom.dataset.FileMetaDataset()
    data.file_meta.TransferSyntaxUID = syntax
    data.SOPClassUID, data.SOPInstanceUID = pydicom.uid.MRImageStorage, "1.2.3"
    data.StudyInstanceUID, data.SeriesInstanceUID = "1.2", "1.2.4"
    data.PatientID = "a"
    data.save_as(path, enforce_file_format=True)
    with path.open("ab") as file:
        file.write(tail)


_PRIVATE = (0x43, 0x1010)
_EMPTY_ITEM = struct.pack("<HHI", 0xFFFE, 0xE000, 0)


def test_no_more_is_asked_of_the_system_than_a_file_holds(tmp_path, monkeypatch):
    asked = []

    class Stream(BytesIO):
        def read(self, count=-1):
            asked.append(count)
            return super().read(count)

    path = tmp_path / "a.dcm"
    _save(path, struct.pack("<HH2sHI", *_PRIVATE, b"OB", 0, 0xFFFFFFF0))
    monkeypatch.setattr(bounded, "open_regular", lambda path: Stream(path.read_bytes()))
    assert bounded.read_dicom(path).PatientID == "a"
    assert max(asked) <= 2**20


def test_items_without_end_are_refused(tmp_path, monkeypatch):
    path = tmp_path / "a.dcm"
    _save(path, struct.pack("<HH2sHI", *_PRIVATE, b"SQ", 0, 0xFFFFFFFF) + _EMPTY_ITEM * 5000)
    monkeypatch.setattr(bounded, "MAX_READS", 1000)
    with pytest.raises(bounded.TooLargeError, match="elements"):
        bounded.read_dicom(path)


def test_a_deflated_file_is_counted_as_a_plain_one(tmp_path, monkeypatch):
    path, packed = tmp_path / "a.dcm", tmp_path / "b.dcm"
    _save(path, struct.pack("<HH2sHI", *_PRIVATE, b"SQ", 0, 0xFFFFFFFF) + _EMPTY_ITEM * 5000)
    _save(packed, syntax=pydicom.uid.DeflatedExplicitVRLittleEndian)
    plain, head = path.read_bytes(), packed.read_bytes()
    begin = [144 + struct.unpack_from("<I", one, 140)[0] for one in (plain, head)]
    deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    content = deflate.compress(plain[begin[0] :]) + deflate.flush()
    packed.write_bytes(head[: begin[1]] + content)
    monkeypatch.setattr(bounded, "MAX_READS", 1000)
    with pytest.raises(bounded.TooLargeError, match="elements"):
        bounded.read_dicom(packed, stop_before_pixels=True)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes on this system")
def test_a_pipe_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / "a.dcm")
    for read in (bounded.read_dicom, bounded.read_meta):
        with pytest.raises(ReadError, match="not a regular file"):
            read(tmp_path / "a.dcm")


@pytest.mark.filterwarnings("ignore")
def test_a_deflated_file_is_read_up_to_its_bound(make_study, monkeypatch):
    folder = make_study(sequences={"t1c"}, dicom=True, spacing_mm=(8, 8, 12))
    path = next(path for path in folder.rglob("*") if path.is_file())
    data = pydicom.dcmread(path)
    data.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
    data.save_as(path, enforce_file_format=True)
    read = bounded.read_dicom(path)
    assert read.pixel_array.shape == data.pixel_array.shape
    assert read.file_meta.TransferSyntaxUID == data.file_meta.TransferSyntaxUID
    monkeypatch.setattr(bounded, "MAX_BYTES", 100)
    with pytest.raises(bounded.TooLargeError):
        bounded.read_dicom(path)


def test_a_deflated_header_keeps_no_large_value(tmp_path, monkeypatch):
    """A few megabytes would become hundreds in every header of a folder."""
    path = tmp_path / "a.dcm"
    _save(path, syntax=pydicom.uid.DeflatedExplicitVRLittleEndian)
    data = pydicom.dcmread(path)
    data.PatientComments = "a" * 3000
    data.save_as(path, enforce_file_format=True)
    monkeypatch.setattr(bounded, "MAX_VALUE_BYTES", 2000)
    assert bounded.read_dicom(path).PatientComments == data.PatientComments
    with pytest.raises(bounded.TooLargeError, match="a value"):
        bounded.read_dicom(path, stop_before_pixels=True)


def test_the_pixels_of_one_file_at_a_time_are_held(monkeypatch):
    """However many multi-frame files a stack takes its slices from."""
    made = []

    def decoded(path, uid):
        del uid
        assert not [one for one in made if one() is not None]
        pixels = np.full((2, 3, 4), float(path.name))
        made.append(weakref.ref(pixels))
        return pixels

    slices = [
        SimpleNamespace(path=Path(str(file)), uid="", frame=frame, number=lambda name: None)
        for frame in (0, 1)
        for file in (5, 6, 7)
    ]
    stack = SimpleNamespace(grid=SimpleNamespace(shape=(4, 3, 6)), slices=slices, even=True)
    monkeypatch.setattr(pixels_of, "decode", decoded)
    whole = pixels_of.load_stack(stack)
    assert len(made) == 3
    assert whole[0, 0].tolist() == [5, 6, 7, 5, 6, 7]
