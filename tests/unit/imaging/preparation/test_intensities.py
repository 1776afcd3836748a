"""A scan is known again whatever its file is called; its memory is halved where that is exact."""

from __future__ import annotations

from itertools import permutations, product

import nibabel as nib
import numpy as np
import pytest

from lesionlens.base.labels import MrSequence
from lesionlens.base.records.study import Series
from lesionlens.imaging.preparation.intensities import intensity_digest, load_scan, scan_digest
from lesionlens.imaging.reading.open import open_study
from lesionlens.testing import make_patient

VOXELS = np.random.default_rng(0).integers(0, 900, (20, 24, 18)).astype(np.int16)
AFFINE = np.diag([-1.0, -1.0, 1.0, 1.0])
AFFINE[:3, 3] = 90, 126, -72


def _digest(place, name, voxels=VOXELS, affine=AFFINE):
    place.mkdir(exist_ok=True)
    nib.save(nib.Nifti1Image(voxels, affine), place / name)
    (series,) = open_study(place, named={MrSequence.T1C: str(place / name)}).series.values()
    return scan_digest(series.load(), series.grid)


@pytest.fixture
def digest(tmp_path):
    return _digest(tmp_path / "one", "t1c.nii.gz")


@pytest.mark.parametrize("name", ["t1c.nii", "patient_7_T1_post.nii.gz"])
def test_name_and_packing_do_not_matter(tmp_path, digest, name):
    assert _digest(tmp_path / "two", name) == digest


def test_another_place_or_another_voxel_is_another_scan(tmp_path, digest):
    moved = AFFINE.copy()
    moved[0, 3] += 1
    changed = VOXELS.copy()
    changed[4, 6, 8] += 1
    assert _digest(tmp_path / "two", "t1c.nii.gz", affine=moved) != digest
    assert _digest(tmp_path / "three", "t1c.nii.gz", changed) != digest


def test_copies_in_all_orientations_cut_or_padded_share_their_intensities():
    values = VOXELS.astype(np.float32)
    values[:3] = 0
    known = intensity_digest(values)
    for order in permutations(range(3)):
        for flips in product((1, -1), repeat=3):
            turned = values.transpose(order)[tuple(slice(None, None, f) for f in flips)]
            assert intensity_digest(turned) == known
    assert intensity_digest(values[2:]) == intensity_digest(np.pad(values, 5)) == known


def test_one_other_intensity_is_another_scan():
    values = VOXELS.astype(np.float32)
    known = intensity_digest(values)
    for change in (1, -1, 0.5):
        other = values.copy()
        other[4, 5, 6] += change
        assert intensity_digest(other) != known
    swapped = values.copy()
    swapped[0, 0, :2] = values[0, 0, 0] + 1, values[0, 0, 1] - 1
    assert intensity_digest(swapped) != known


@pytest.mark.parametrize(
    ("factor", "dtype"), [(1.0, np.int16), (1.5, np.float32), (99.0, np.float32)]
)
def test_whole_numbers_are_held_as_int16_and_nothing_is_rounded(factor, dtype):
    volume = make_patient(spacing_mm=4.0).sequences[MrSequence.T1C]
    values = np.rint(volume.data) * np.float32(factor)
    scan = load_scan(MrSequence.T1C, Series(MrSequence.T1C, "x", 1.0, volume.grid, (), values.copy))
    assert scan.values.dtype == dtype
    np.testing.assert_array_equal(scan.values, values)
    assert scan.stripped
