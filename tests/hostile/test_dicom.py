"""Hostile DICOM studies are read or refused as stated; nothing hangs, and memory is bounded."""

from __future__ import annotations

import os

import pydicom
import pytest
from tests.corpus import copy_of
from tests.hostile import dicom
from tests.hostile.judge import verdict

from lesionlens import open_study
from lesionlens.imaging.reading.dicom import files


@pytest.fixture(scope="module")
def voxels(corpus):
    return open_study(corpus.study("dicom t1c"))["t1c"].load()


@pytest.mark.parametrize("name", dicom.STUDIES)
@pytest.mark.filterwarnings("ignore")
def test_the_verdict_is_the_stated_one(name, corpus, voxels, tmp_path):
    folder = copy_of(corpus.study("dicom t1c"), tmp_path / "study")
    dicom.STUDIES[name](sorted(path for path in folder.rglob("*") if path.is_file()))
    assert verdict(folder, voxels) == dicom.EXPECTED[name]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes on this system")
@pytest.mark.parametrize("read", [files.read_dicom, files.read_meta])
def test_a_pipe_does_not_hang(tmp_path, read):
    os.mkfifo(tmp_path / "a.dcm")
    with pytest.raises(files.DAMAGED):
        read(tmp_path / "a.dcm")


def test_a_deflated_file_is_read_up_to_its_bound(corpus, tmp_path, monkeypatch):
    path = tmp_path / "a.dcm"
    data = pydicom.dcmread(next(p for p in corpus.study("dicom t1c").rglob("*") if p.is_file()))
    data.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
    data.save_as(path, enforce_file_format=True)
    assert files.read_dicom(path).PixelData == data.PixelData
    monkeypatch.setattr(files, "MAX_BYTES", 1000)
    for options in ({}, {"stop_before_pixels": True}):
        with pytest.raises(ValueError, match="inflates"):
            files.read_dicom(path, **options)
