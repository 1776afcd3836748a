"""Hostile DICOM studies end in a message or are read; nothing hangs, and memory is bounded."""

from __future__ import annotations

import pydicom
import pytest
from tests.hostile import dicom
from tests.hostile.judge import judged

from lesionlens.imaging.reading.dicom import inflated


@pytest.mark.parametrize("name", dicom.STUDIES)
@pytest.mark.filterwarnings("ignore")
def test_a_hostile_study_ends_well(name, make_study):
    folder = make_study(sequences={"t1c"}, dicom=True, spacing_mm=(8, 8, 12))
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    dicom.STUDIES[name](files)
    judged(folder)


@pytest.mark.filterwarnings("ignore")
def test_a_deflated_file_is_read_up_to_its_bound(make_study, monkeypatch):
    folder = make_study(sequences={"t1c"}, dicom=True, spacing_mm=(8, 8, 12))
    path = next(path for path in folder.rglob("*") if path.is_file())
    data = pydicom.dcmread(path)
    data.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
    data.save_as(path, enforce_file_format=True)
    assert inflated.read_dicom(path).pixel_array.shape == data.pixel_array.shape
    monkeypatch.setattr(inflated, "MOST_BYTES", 100)
    with pytest.raises(inflated.TooLargeError):
        inflated.read_dicom(path)
