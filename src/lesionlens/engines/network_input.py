"""Network input of a prepared study: cropped to the brain, z-scored, resampled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lesionlens.base import geometry
from lesionlens.base.array_ops import (
    Array,
    Device,
    device_of,
    floats,
    namespace,
    to_device,
    to_numpy,
    zeros,
)
from lesionlens.base.errors import UnusableInputError
from lesionlens.base.geometry import Box
from lesionlens.base.grid import Grid
from lesionlens.base.lazy_zeros import lazy_zeros
from lesionlens.base.records.prediction import InputPerturbation
from lesionlens.base.records.study import PreparedStudy
from lesionlens.engines import separable
from lesionlens.imaging.preparation.resampling import HALF, cut_grid
from lesionlens.network.normalise import with_presence, zscore

_MARGIN_VOX = 2


@dataclass(frozen=True, slots=True, eq=False)
class NetworkInput:
    """Input arrays of a network."""

    channels: Array
    """(1, 4, I, J, K) float32 array: z-scored in the brain, zero outside."""
    brain: Array
    """(1, I, J, K) bool array."""
    present: tuple[bool, bool, bool, bool]
    """(4,) bool: available sequences."""
    grid: Grid
    box: Box
    """(3,) slices: the box of the working grid that they cover: the brain and a small margin."""
    box_grid: Grid

    def within(self, window: Box) -> NetworkInput:
        """Return the arrays within a window of the grid; grid and box stay those of the whole."""
        index = (slice(None), *window)
        return replace(self, channels=self.channels[:, *index], brain=self.brain[index])

    def input_of(self, perturbation: InputPerturbation) -> Array:
        """Return the (1, 8, I, J, K) input for a perturbation of the study."""
        visible = [a and b for a, b in zip(self.present, perturbation.keep, strict=True)]
        channels, xp = self.channels, namespace(self.channels)
        device = device_of(channels)
        if perturbation.hidden is not None:
            channels = xp.where(to_device(perturbation.hidden, device), 0.0, channels)
        x = with_presence(channels, to_device(np.array([visible]), device), self.brain)
        return xp.flip(x, (2,)) if perturbation.mirrored else x

    def batch_of(self, perturbations: Sequence[InputPerturbation]) -> Array:
        """Return the (B, 8, I, J, K) inputs for perturbations of the study."""
        inputs = [self.input_of(perturbation) for perturbation in perturbations]
        return inputs[0] if len(inputs) == 1 else namespace(inputs[0]).concatenate(inputs)


class FinerInput(NamedTuple):
    """The network input of one study at finer voxels than the network's own."""

    prepared: PreparedStudy
    spacing_mm: float
    network_input: NetworkInput


def brain_box(prepared: PreparedStudy) -> Box:
    """Return the box of the brain on the working grid, with a small margin.

    Raises
    ------
    UnusableInputError
        The mask is empty.
    """
    if prepared.brain_box is None:
        raise UnusableInputError(
            found="no brain in this study",
            expected="an MRI of the head in which a brain can be found",
            next_step="Check the images: do they show a head, with the brain?",
        )
    return geometry.grown(prepared.brain_box, _MARGIN_VOX, prepared.brain.shape)


def grid_at(prepared: PreparedStudy, spacing_mm: float) -> Grid:
    """Return the isotropic grid of `spacing_mm` over the brain's box."""
    return _grid_over(cut_grid(prepared.working, brain_box(prepared)), spacing_mm)


def _grid_over(cut: Grid, spacing_mm: float) -> Grid:
    edges = (spacing_mm, spacing_mm, spacing_mm)
    affine, shape = geometry.respace(cut.affine, cut.shape, edges)
    return Grid(shape, affine)


def make_network_input(
    prepared: PreparedStudy, spacing_mm: float, device: Device, *, robust: bool = True
) -> NetworkInput:
    """Crop to the brain, resample with anti-aliasing, z-score in the brain.

    Parameters
    ----------
    prepared : PreparedStudy
        In scanner units.
    device : torch.device or None
        Device of the arrays; None for numpy.
    robust : bool
        As for `network.normalise.zscore`.

    Returns
    -------
    NetworkInput
        Resampled from images that are zero outside the brain, as in training.
    """
    box = brain_box(prepared)
    cut = cut_grid(prepared.working, box)
    target = _grid_over(cut, spacing_mm)
    mask = to_device(prepared.brain[box].copy(), device)
    matrices = separable.matrices(cut, target, antialias=True)
    brain = separable.apply(floats(mask), matrices) > HALF
    channels = zeros((1, len(prepared.present), *target.shape), device)
    for index in np.flatnonzero(prepared.present):
        values = np.array(prepared.channels[index][box], dtype=np.float32)
        volume = separable.apply(to_device(values, device) * mask, matrices)
        normalised = zscore(volume[None, None], brain[None], robust=robust)  # one at a time
        channels[0, index] = normalised[0, 0]
    t1, t1c, t2, flair = prepared.present.tolist()
    present = (t1, t1c, t2, flair)
    return NetworkInput(channels, brain[None], present, target, box, cut)


def paste_box(values: Array, prepared: PreparedStudy, box: Box) -> NDArray[np.float32]:
    """Paste (R, i, j, k) maps of a box into the working grid; zero elsewhere."""
    out: NDArray[np.float32] = lazy_zeros((values.shape[0], *prepared.working.shape), np.float32)
    out[(slice(None), *box)] = to_numpy(floats(values))
    return out
