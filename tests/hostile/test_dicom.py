"""Hostile DICOM studies are read or refused as stated; nothing hangs, and memory is bounded."""

from __future__ import annotations

import os

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
