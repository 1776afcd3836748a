"""Real brains under drawn skulls: the mask that is found is the one that is known."""

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from lesionlens.base.geometry import ras_grid
from lesionlens.base.grid import Grid
from lesionlens.base.labels import MrSequence
from lesionlens.preparation.brain import filled, largest
from lesionlens.preparation.brain_extraction import find_brain
from lesionlens.preparation.resampling import resample
from lesionlens.reading.readers import open_study

pytestmark = [pytest.mark.real, pytest.mark.slow]
DATA = Path(__file__).resolve().parents[3].parent / "shared/data"
CASES = (
    ("BraTS2021_00006", ("t1c",)),
    ("BraTS2021_01479", ("t1",)),
    ("BraTS2021_01480", ("flair",)),
    ("MSD_BRATS_001", ("t1", "t1c", "t2", "flair")),
    ("BraTS-PED-00003-000", ("t1c",)),
)
# relative to brain: fluid, skull, scalp as each sequence shows them
SHELLS = {
    "t1": (0.3, 0.12, 1.6),
    "t1c": (0.3, 0.12, 1.7),
    "t2": (1.8, 0.1, 0.8),
    "flair": (0.3, 0.12, 0.7),
}


def dressed(values, brain, sequence, rng):
    """Draw fluid, skull, scalp and a neck round a brain, with a coil's shading and noise."""
    outside = ndimage.distance_transform_edt(~brain) * 2.0
    waves = ndimage.gaussian_filter(rng.normal(size=brain.shape), 8)
    outside += 2.0 * waves / np.abs(waves).max()
    middle = float(np.median(values[brain]))
    out = values.copy()
    fluid, skull, scalp = (middle * share for share in SHELLS[sequence])
    for low, high, level in ((0, 2.5, fluid), (2.5, 8, skull), (8, 14, scalp)):
        shell = ~brain & (outside > low) & (outside <= high)
        out[shell] = level
    i, j, k = np.indices(brain.shape)
    middle_ij = np.argwhere(brain.any(axis=2)).mean(axis=0)
    neck = (np.hypot(i - middle_ij[0], j - middle_ij[1] + 6) < 28) & (
        k < np.argwhere(brain)[:, 2].min() + 10
    )
    out[neck & (out == 0)] = scalp * 0.7
    shading = 1 + 0.3 * (outside > 0) + 0.2 * np.linspace(-1, 1, brain.shape[1])[None, :, None]
    noisy = out * shading + rng.normal(0, 0.03 * middle, out.shape)
    return np.abs(noisy).astype(np.float32)


@pytest.mark.parametrize(("case", "sequences"), CASES)
def test_the_brain_under_a_drawn_skull_is_found(case, sequences):
    folder = DATA / "tumour" / case
    if not folder.is_dir():
        pytest.skip("the developers' folder of real scans is not here")
    study = open_study(folder)
    rng = np.random.default_rng(0)
    native = study.series[MrSequence.T1C].grid
    affine, shape = ras_grid(native.affine, native.shape, 2.0)
    grid = Grid(shape, affine)
    images, truth = {}, None
    for name in sequences:
        series = study.series[MrSequence(name)]
        values = resample(series.load(), series.grid, grid)
        if truth is None:
            brain = filled(largest(series.load() != 0)).astype(np.float32)
            truth = resample(brain, series.grid, grid) > 0.5
        images[MrSequence(name)] = dressed(values, truth, name, rng)
    found = find_brain(images, grid)
    dice = 2 * (found.mask & truth).sum() / (found.mask.sum() + truth.sum())
    assert dice >= 0.95
    assert found.doubtful is None
