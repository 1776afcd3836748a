"""What every reader must hold, whatever kind of study it reads."""

from __future__ import annotations

import numpy as np
import pytest
from tests.helpers.file_search import files_below
from tests.phantoms.acquire import Acquisition, acquire

from lesionlens.base.errors import UnusableInputError
from lesionlens.base.labels import MrSequence
from lesionlens.imaging.reading.dicom.reader import DicomReader
from lesionlens.imaging.reading.nifti.reader import NiftiReader
from lesionlens.imaging.reading.readers import ReadOptions, open_study

READERS = {"dicom": DicomReader, "nifti": NiftiReader}
TURNS = ("LPS", "RAS", "PIR")


def study_for(make_study, reader: str, orientation: str = "LPS"):
    return make_study(
        name=f"{reader} {orientation}",
        dicom=reader == "dicom",
        orientation=orientation,
        spacing_mm=(4.0, 5.0, 6.0),
    )


@pytest.mark.parametrize("name", READERS)
def test_it_leaves_what_is_not_its_own(name, tmp_path):
    reader = READERS[name]()
    (tmp_path / "notes.txt").write_text("no scan")
    assert reader.claims(tmp_path) == 0
    assert reader.claims(tmp_path / "notes.txt") == 0


@pytest.mark.parametrize("name", READERS)
def test_it_claims_its_own_above_all_others(name, make_study):
    folder = study_for(make_study, name)
    claims = {n: READERS[n]().claims(folder) for n in READERS}
    assert max(claims, key=lambda n: claims[n]) == name


@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize("name", READERS)
def test_it_gives_back_every_voxel_at_its_millimetres(name, orientation, make_study, patient):
    reader = READERS[name]()
    study = reader.read(study_for(make_study, name, orientation), {}, ReadOptions())
    assert list(study.series) == list(MrSequence)
    how = Acquisition(orientation, (4.0, 5.0, 6.0))
    for sequence, series in study.series.items():
        wanted = acquire(patient.sequences[sequence], how)
        voxels = series.load()
        assert voxels.dtype == np.float32
        assert voxels.shape == series.grid.shape
        where = np.unravel_index(int(np.argmax(wanted.data)), wanted.data.shape)
        there = np.rint(series.grid.to_voxel(wanted.grid.to_mm(where))).astype(int)
        assert voxels[tuple(there)] == pytest.approx(wanted.data[where], abs=1.0)
        assert voxels.sum(dtype=np.float64) == pytest.approx(
            np.rint(wanted.data).sum(dtype=np.float64), rel=1e-3
        )


@pytest.mark.parametrize("name", READERS)
def test_a_study_is_only_read(name, make_study):
    folder = study_for(make_study, name)
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*")}
    for series in open_study(folder).series.values():
        series.load()
    assert {p: p.stat().st_mtime_ns for p in folder.rglob("*")} == before


@pytest.mark.parametrize("name", READERS)
def test_a_truncated_file_is_refused_in_words(name, make_study):
    folder = study_for(make_study, name)
    for path in files_below(folder):
        path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(UnusableInputError):
        for series in open_study(folder).series.values():
            series.load()
