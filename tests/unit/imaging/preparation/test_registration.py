"""Registration finds a known movement, and doubts two different heads."""

import nibabel as nib
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from lesionlens.base.grid import Grid
from lesionlens.base.labels import MrSequence
from lesionlens.imaging import samples
from lesionlens.imaging.preparation.registration import header_alignment, pyramid, register
from lesionlens.testing import make_patient

TURNED = ((4, -7, 9), (8, -6, 5))


@pytest.fixture(scope="module")
def head():
    return make_patient(spacing_mm=4.0, skull=True)


def searched(head, turn_deg, shift_mm):
    """Return the movement of a head between two sequences, and what the search found."""
    fixed, moving = head.sequences[MrSequence.T1C], head.sequences[MrSequence.FLAIR]
    moved = np.eye(4)
    moved[:3, :3] = Rotation.from_euler("xyz", turn_deg, degrees=True).as_matrix()
    moved[:3, 3] = shift_mm
    elsewhere = Grid(moving.grid.shape, moved @ moving.grid.affine)
    found = register(pyramid(fixed.data, fixed.grid), pyramid(moving.data, elsewhere))
    return moved, found


@pytest.fixture(scope="module")
def turned(head):
    return searched(head, *TURNED)


@pytest.mark.parametrize(
    ("turn_deg", "shift_mm"),
    [
        ((0, 0, 0), (0, 0, 0)),
        TURNED,
        ((0, 0, 0), (0, 300, 0)),
    ],
)
def test_a_known_movement_is_found(head, turned, turn_deg, shift_mm):
    known = (turn_deg, shift_mm) == TURNED
    moved, found = turned if known else searched(head, turn_deg, shift_mm)
    points = head.brain.grid.to_mm(np.argwhere(head.brain.data)[::500])
    error = (
        points @ (found.reference_to_sequence - moved)[:3, :3].T
        + (found.reference_to_sequence - moved)[:3, 3]
    )
    assert np.median(np.linalg.norm(error, axis=1)) < 0.5
    assert not found.doubtful
    assert np.linalg.det(found.reference_to_sequence[:3, :3]) == pytest.approx(1.0, abs=1e-9)


@pytest.mark.parametrize("seed", [0, 1])
def test_an_image_without_structure_is_doubtful(head, seed):
    fixed = head.sequences[MrSequence.T1C]
    noise = np.random.default_rng(seed).uniform(0, 900, fixed.data.shape).astype(np.float32)
    found = register(pyramid(fixed.data, fixed.grid), pyramid(noise, fixed.grid))
    assert found.doubtful


@pytest.mark.parametrize("turned_about", [0, 2])
def test_an_image_that_its_header_turns_by_half_is_turned_back(turned_about):
    """As after saving an array in LPS order with an identity as its affine."""
    pyramids = []
    for name in ("t1c", "t2"):
        image = nib.load(samples.STUDY / f"{name}.nii.gz")
        signs = np.where(np.arange(4) == turned_about, 1.0, -1.0) if name == "t2" else np.ones(4)
        affine = np.diag([*signs[:3], 1.0]) @ image.affine
        values = np.asarray(image.dataobj, np.float32)
        pyramids.append(pyramid(values, Grid(values.shape, affine)))
    found = register(*pyramids)
    assert not found.doubtful
    assert found.angle_deg == pytest.approx(180, abs=1.5)


@pytest.mark.parametrize(
    ("turn_deg", "shift_mm", "aligned"),
    [((0, 0, 0), (0, 0, 0), True), ((2, 0, 0), (0, 0, 0), False), ((0, 0, 0), (0, 2, 0), False)],
)
def test_headers_are_believed_only_if_they_align_the_images(head, turn_deg, shift_mm, aligned):
    fixed, moving = head.sequences[MrSequence.T1C], head.sequences[MrSequence.FLAIR]
    moved = np.eye(4)
    moved[:3, :3] = Rotation.from_euler("xyz", turn_deg, degrees=True).as_matrix()
    moved[:3, 3] = shift_mm
    elsewhere = Grid(moving.grid.shape, moved @ moving.grid.affine)
    found = header_alignment(fixed.data, moving.data, fixed.grid, elsewhere)
    assert (found is not None) is aligned
    noise = np.random.default_rng(0).uniform(0, 900, fixed.data.shape).astype(np.float32)
    assert header_alignment(fixed.data, noise, fixed.grid, fixed.grid) is None
