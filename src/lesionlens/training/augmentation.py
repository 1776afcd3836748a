"""Augmentation of real cases with MONAI: shape, contrast, simulated acquisition, missing sequences.

Every sequence keeps its mean and deviation in the brain, so that a window stays normalised by its
whole brain.
"""

from __future__ import annotations

import warnings
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lesionlens.network.normalise import Z_LIMIT
from lesionlens.training.losses import Batch

Window = tuple[int, int, int]
_MARGIN = 1.2  # of a window before rotation, so that it is full afterwards
_COMPLETE, _WITHOUT_T1, _SINGLE = 0.55, 0.3, (0.03, 0.08, 0.04, 0.08)
"""Shares of volumes with all sequences, of these without T1, and with T1, T1c, T2 or FLAIR alone;
the others get a random subset."""


class PreparedCase(NamedTuple):
    """One brain on the network's grid, cropped to its box."""

    channels: NDArray[np.float16]
    """(4, I, J, K) z-scores, in the order of `MrSequence`."""
    code: NDArray[np.uint8]
    """(I, J, K): 0 outside, 1 brain, 2 WT, 3 TC, 4 ET."""
    instances: NDArray[np.uint8]
    """(I, J, K), as in `losses.Batch`."""
    present: NDArray[np.bool_]
    """(4,)."""


def training_batch(case: PreparedCase, window: Window | None, seed: int) -> Batch:
    """Return a randomly changed copy of a case, or of a window that mostly holds a lesion.

    The same seed gives the same batch.
    """
    rng = np.random.default_rng(seed)
    size = np.array(case.code.shape)
    box = tuple(slice(0, n) for n in size) if window is None else _window(case, window, rng)
    arrays = {
        "image": case.channels[(slice(None), *box)].astype(np.float32),
        "code": case.code[box][None].astype(np.float32),
        "instances": case.instances[box][None].astype(np.float32),
    }
    before = torch.from_numpy(arrays["image"])
    statistics = [_moments(values, torch.from_numpy(arrays["code"][0] > 0)) for values in before]
    pipeline = _pipeline(window)
    pipeline.set_random_state(seed=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # MONAI's, of an absent sequence
        changed: dict[str, Tensor] = {k: v.as_tensor() for k, v in pipeline(arrays).items()}
    code, instances = changed["code"][0].round(), changed["instances"][0].round()
    brain = code > 0
    channels = torch.zeros_like(changed["image"])
    for sequence, (mean, deviation) in enumerate(statistics):
        values = changed["image"][sequence]
        now, spread = _moments(values, brain)
        values = (values - now) * (deviation / max(spread, 1e-3)) + mean
        values = values * rng.uniform(0.88, 1.12) + rng.uniform(-0.12, 0.12)
        channels[sequence] = values.clamp(-Z_LIMIT, Z_LIMIT) * brain
    bounds = np.array([[-1.0, 1.0]] * 3)
    if window is None and bool(brain.any()):
        inside = brain.nonzero()
        i, j, k = (slice(a, b + 1) for a, b in zip(inside.amin(0), inside.amax(0), strict=True))
        channels, code, instances = channels[:, i, j, k], code[i, j, k], instances[i, j, k]
    elif window is not None:
        middle = np.array([(side.start + side.stop) / 2 for side in box])
        half = np.array(code.shape) / 2
        bounds = np.stack([middle - half, middle + half], 1) / size[:, None] * 2 - 1
    if rng.random() < 0.5:
        channels, code, instances = channels.flip(1), code.flip(0), instances.flip(0)
        bounds[0] = -bounds[0, ::-1]
    brain = code > 0
    present = torch.from_numpy(_sequences(case.present, rng))
    return Batch(
        (channels * present[:, None, None, None])[None],
        present[None],
        brain[None],
        torch.stack([code > level for level in (1, 2, 3)])[None].to(torch.uint8),
        instances[None].to(torch.uint8),
        torch.from_numpy(bounds[None].astype(np.float32)),
    )


@cache
def _pipeline(window: Window | None) -> Any:
    """Return the MONAI transforms of ``image``, ``code`` and ``instances``, each (C, I, J, K)."""
    from monai import transforms as t

    keys = ["image", "code", "instances"]
    border = t.BorderPadd(keys, spatial_border=6) if window is None else t.Identityd(keys)
    shape = t.RandAffined(
        keys, prob=0.9, rotate_range=0.2, shear_range=0.05, scale_range=0.13, translate_range=4,
        mode=("bilinear", "nearest", "nearest"), padding_mode="zeros",
        spatial_size=window, cache_grid=False,
    )  # fmt: skip
    sequences = [f"image_{n}" for n in range(4)]
    look: list[Any] = []
    for key in sequences:
        look += [
            t.RandHistogramShiftd(key, prob=0.5, num_control_points=(5, 9)),
            t.RandBiasFieldd(key, prob=0.3, degree=2, coeff_range=(-0.15, 0.15)),
            t.RandGaussianSmoothd(key, (0.3, 0.8), (0.3, 0.8), (0.3, 0.8), prob=0.15),
            t.RandSimulateLowResolutiond(key, prob=0.2, zoom_range=(0.4, 0.9)),
            t.RandGaussianNoised(key, prob=0.3, std=0.15),
        ]  # fmt: skip
    return t.Compose(
        [
            border, shape, t.ResizeWithPadOrCropd(keys, window) if window else t.Identityd(keys),
            t.ShiftIntensityd("image", Z_LIMIT),  # a bias field multiplies intensities
            t.SplitDimd("image", dim=0, keepdim=True, output_postfixes=[str(n) for n in range(4)]),
            *look, t.ConcatItemsd(sequences, "image"), t.SelectItemsd(keys),
        ]
    )  # fmt: skip


def _moments(values: Tensor, inside: Tensor) -> tuple[float, float]:
    """Return mean and deviation of (I, J, K) values inside the brain."""
    chosen = values[inside]
    if len(chosen) < 2:
        return 0.0, 1.0
    return float(chosen.mean()), float(chosen.std())


def _window(case: PreparedCase, window: Window, rng: np.random.Generator) -> tuple[slice, ...]:
    """Return a box a little larger than a window; four of five hold a lesion, if there is one."""
    numbers = np.unique(case.instances[case.code > 1])
    inside = case.code > 0
    if len(numbers) and rng.random() < 0.8:
        inside = (case.instances == rng.choice(numbers)) & (case.code > 1)
    voxels = np.argwhere(inside)
    centre = voxels[rng.integers(len(voxels))] + rng.normal(0, 6, 3)
    box = []
    for size, edge, position in zip(case.code.shape, window, centre, strict=True):
        length = min(size, round(_MARGIN * edge))
        start = int(np.clip(round(position - length / 2), 0, size - length))
        box.append(slice(start, start + length))
    return tuple(box)


def _sequences(present: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.bool_]:
    """Return which of the available sequences are used, (4,) bool; at least one."""
    roll = rng.random() - _COMPLETE
    used = np.ones(4, dtype=bool)
    if roll < 0:
        used[0] = rng.random() >= _WITHOUT_T1
    elif roll < sum(_SINGLE):
        used = np.arange(4) == np.searchsorted(np.cumsum(_SINGLE), roll)
    else:
        used = np.isin(np.arange(4), rng.choice(4, size=int(rng.integers(1, 4)), replace=False))
    used = used & present
    return used if used.any() else present
