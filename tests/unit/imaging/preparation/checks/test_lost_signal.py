"""Blank halves, blocks and slabs, and voxels that are no numbers, are named, never "outside"."""

import nibabel as nib
import numpy as np
import pytest

from lesionlens.base.errors import ReadError
from lesionlens.base.grid import Grid
from lesionlens.base.labels import MrSequence
from lesionlens.imaging import samples
from lesionlens.imaging.preparation.checks import lost_signal
from lesionlens.testing import make_patient

T2 = MrSequence.T2


@pytest.fixture(scope="module")
def bare():
    volume = make_patient(spacing_mm=3.0).sequences[T2]
    return volume.data, volume.grid


@pytest.fixture(scope="module")
def noisy(bare):
    """With air that is numbers."""
    values, grid = bare
    air = np.random.default_rng(0).normal(20, 5, values.shape)
    return np.where(values == 0, air, values).astype(np.float32), grid


def half(shape, axis, upper):
    index = np.arange(shape[axis]).reshape([-1 if a == axis else 1 for a in range(3)])
    return np.broadcast_to((index >= shape[axis] // 2) == upper, shape)


HALVES = [
    (0, False, "left"),
    (0, True, "right"),
    (1, False, "back"),
    (1, True, "front"),
    (2, False, "lower"),
    (2, True, "upper"),
]


@pytest.mark.parametrize(("axis", "upper", "side"), HALVES)
@pytest.mark.parametrize("image", ["bare", "noisy"])
def test_half_of_a_head_that_is_nan_is_refused(request, image, axis, upper, side):
    values, grid = request.getfixturevalue(image)
    cut = np.where(half(values.shape, axis, upper), np.nan, values).astype(np.float32)
    with pytest.raises(ReadError, match=f"the {side} part of the head") as caught:
        lost_signal.replace_nonfinite(cut, grid, "T2 ('x')")
    assert "outside" not in str(caught.value)


def test_sides_are_the_patients(bare):
    values, grid = bare
    turned = Grid(values.shape, np.diag([-1.0, 1, 1, 1]) @ grid.affine)
    cut = np.where(half(values.shape, 0, False), 0, values)
    assert "right" in lost_signal.check({T2: (cut, turned)}).message


def test_nan_within_a_head_is_refused(noisy):
    values, grid = noisy
    cut = values.copy()
    cut[28:32, 30:40, 30:] = np.nan  # a shaft to the edge of the image
    with pytest.raises(ReadError, match=r"within the head|part of the head"):
        lost_signal.replace_nonfinite(cut, grid, "x")


@pytest.mark.parametrize(
    ("place", "value", "reason"),
    [((30, 35, 30), np.nan, "enclosed"), ((0, 0, 0), np.inf, "infinity")],
)
def test_one_voxel_without_a_number_is_refused(bare, place, value, reason):
    values, grid = bare
    cut = values.copy()
    cut[place] = value
    with pytest.raises(ReadError, match=rf"less than 0\.1%; .*{reason}"):
        lost_signal.replace_nonfinite(cut, grid, "x")


def test_nan_that_is_background_counts_as_such_and_is_not_called_outside(bare):
    values, grid = bare
    found, notice = lost_signal.replace_nonfinite(np.where(values == 0, np.nan, values), grid, "T2")
    assert np.isfinite(found).all()
    assert notice is not None
    assert "outside" not in notice
    assert "were not analysed" in notice


@pytest.mark.parametrize("thinned", [(2, 2, 2), (3, 3, 3), (4, 4, 4), (1, 1, 6), (6, 1, 1)])
@pytest.mark.parametrize("name", ["t1", "t1c", "t2", "flair"])
def test_a_real_head_in_coarse_voxels_is_not_accused(name, thinned):
    """A dome's outermost layer grows with the voxel, 26 cm2 at 3 mm, and so does the next."""
    image = nib.load(samples.STUDY / f"{name}.nii.gz")
    values = np.asarray(image.dataobj, np.float32)[tuple(slice(None, None, n) for n in thinned)]
    affine = image.affine @ np.diag([*thinned, 1.0])
    assert lost_signal.check({T2: (values, Grid(values.shape, affine))}).passed


@pytest.mark.parametrize("image", ["bare", "noisy"])
def test_a_whole_head_is_not_accused(request, image):
    assert lost_signal.check({T2: request.getfixturevalue(image)}).passed


@pytest.mark.parametrize("image", ["bare", "noisy"])
@pytest.mark.parametrize("what", ["half", "block", "slab"])
def test_blank_parts_are_named(request, image, what):
    values, grid = request.getfixturevalue(image)
    cut = values.copy()
    place = {
        "half": np.s_[:, 36:],
        "block": np.s_[:30, 20:40, 20:40],
        "slab": np.s_[:, :, 28:31],
    }[what]
    cut[place] = 0
    check = lost_signal.check({T2: (cut, grid)})
    assert not check.passed
    assert "T2" in check.message
