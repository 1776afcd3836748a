"""What holds of a study whatever its format: every voxel at its place, and the files untouched."""

from __future__ import annotations

import numpy as np
import pytest
from tests.command import digests
from tests.phantoms.acquire import Acquisition, acquire

from lesionlens import MrSequence, open_study
from lesionlens.plugin import UnusableInputError

KINDS = {"nifti": False, "dicom": True}


@pytest.mark.parametrize("orientation", ["LPS", "RAS", "PIR"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_voxel_is_at_its_millimetres(kind, orientation, make_study, patient):
    how = Acquisition(orientation, (4.0, 5.0, 6.0))
    folder = make_study(dicom=KINDS[kind], orientation=orientation, spacing_mm=(4.0, 5.0, 6.0))
    before = digests(folder)
    study = open_study(folder)
    assert list(study.series) == list(MrSequence)
    for sequence, series in study.series.items():
        wanted, voxels = acquire(patient.sequences[sequence], how), series.load()
        assert voxels.dtype == np.float32
        assert voxels.shape == series.grid.shape
        where = np.unravel_index(int(np.argmax(wanted.data)), wanted.data.shape)
        there = np.rint(series.grid.to_voxel(wanted.grid.to_mm(where))).astype(int)
        assert voxels[tuple(there)] == pytest.approx(wanted.data[where], abs=1.0)
        total = np.rint(wanted.data).sum(dtype=np.float64)
        assert voxels.sum(dtype=np.float64) == pytest.approx(total, rel=1e-3)
    assert digests(folder) == before


@pytest.mark.parametrize("kind", KINDS)
def test_truncated_files_are_refused(kind, make_study):
    folder = make_study(dicom=KINDS[kind], spacing_mm=(4.0, 5.0, 6.0))
    for path in [path for path in folder.rglob("*") if path.is_file()]:
        path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(UnusableInputError):
        for series in open_study(folder).series.values():
            series.load()
