"""A sequence that lies beside the others is named, whatever the contrast and the outline."""

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from lesionlens.base.labels import MrSequence
from lesionlens.base.run_context import SILENT
from lesionlens.imaging import samples
from lesionlens.imaging.preparation.checks import displaced
from lesionlens.imaging.preparation.prepare import PrepareOptions, prepare
from lesionlens.imaging.reading.readers import open_study

T1, T1C, T2, FLAIR = MrSequence


@pytest.fixture(scope="module")
def head():
    """Four contrasts of one structure within one mask."""
    rng = np.random.default_rng(4)
    structure = ndimage.gaussian_filter(rng.normal(size=(80, 90, 80)), 3)
    structure /= structure.std()
    axes = np.meshgrid(*[np.linspace(-1, 1, n) for n in structure.shape], indexing="ij")
    brain = sum(axis**2 for axis in axes) < 0.9
    contrasts = {
        T1: 5 + structure,
        T1C: 6 + structure + np.tanh(structure),
        T2: 5 - structure,
        FLAIR: 4 + np.abs(structure + 0.5),
    }
    images = {
        s: ((values + rng.normal(size=brain.shape) * 0.1) * brain).astype(np.float32)
        for s, values in contrasts.items()
    }
    return images, brain


def moved(image, brain, shift):
    return (ndimage.shift(image, shift, order=1, mode="nearest") * brain).astype(np.float32)


def test_sequences_that_coincide_have_no_row(head):
    images, brain = head
    assert displaced.check(images, brain, 1.0) is None
    for vector in displaced.displacements(images, brain).values():
        assert np.abs(vector).max() < 0.2


@pytest.mark.parametrize("shift", [(3, 0, 0), (0, -3, 1), (2, 2, -2)])
@pytest.mark.parametrize("sequence", MrSequence)
def test_a_displaced_sequence_is_named_with_its_distance(head, sequence, shift):
    images, brain = head
    images = images | {sequence: moved(images[sequence], brain, shift)}
    found = displaced.check(images, brain, 1.0)
    assert found is not None
    assert (found.check, found.passed) == ("registration", False)
    vector = displaced.displacements(images, brain)[sequence]
    np.testing.assert_allclose(vector, shift, atol=0.6)
    distance = f"{np.linalg.norm(vector):.0f} mm"
    assert f"other sequences: {sequence.display_name} {distance}." in found.message


def test_of_two_sequences_neither_is_accused(head):
    images, brain = head
    found = displaced.check({T1C: images[T1C], T2: moved(images[T2], brain, (0, 3, 0))}, brain, 1.0)
    assert found is not None
    assert "T1c and T2 lie about 3 mm apart" in found.message


def test_the_distance_is_in_millimetres(head):
    images, brain = head
    images = images | {T2: moved(images[T2], brain, (0, 2, 0))}
    assert displaced.check(images, brain, 1.0) is None
    found = displaced.check(images, brain, 2.0)
    assert found is not None
    assert "T2 4 mm" in found.message


def test_one_sequence_or_little_brain_says_nothing(head):
    images, brain = head
    assert displaced.check({T1: images[T1]}, brain, 1.0) is None
    part = np.zeros_like(brain)
    part[30:45, 30:45, 30:45] = True
    assert displaced.displacements(images, part) == {}


def test_a_sequence_displaced_under_the_mask_of_the_others_fails_the_check(tmp_path):
    for shift, passed in ((0, True), (3, False)):
        folder = tmp_path / str(shift)
        folder.mkdir()
        for name in ("t1c", "t2", "flair"):
            image = nib.load(samples.STUDY / f"{name}.nii.gz")
            values = np.asarray(image.dataobj)
            if name == "flair":
                values = np.where(values > 0, np.maximum(np.roll(values, shift, axis=1), 1), 0)
            nib.save(nib.Nifti1Image(values, image.affine), folder / f"{name}.nii")
        options = PrepareOptions(sides=False, cache=False)
        checks = prepare(open_study(folder), SILENT, options).quality
        assert [c.passed for c in checks if c.check == "registration"] == [passed]


def test_a_grid_of_odd_size_with_brain_up_to_its_edges_is_compared(head):
    images, _ = head
    cut = {s: values[:-1, :-1, :-1] for s, values in images.items()}
    vectors = displaced.displacements(cut, np.ones_like(cut[T1], dtype=bool))
    assert set(vectors) == set(cut)
