"""A prepared study as tensors at one voxel size: cropped to the brain, z-scored, resampled."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lesionlens.base import geometry
from lesionlens.base.errors import UnusableInputError
from lesionlens.base.geometry import Box
from lesionlens.base.grid import Grid
from lesionlens.inference import separable
from lesionlens.network.normalise import with_presence, zscore
from lesionlens.preparation.resampling import crop_grid
from lesionlens.records.prediction import InputPerturbation
from lesionlens.records.study import PreparedStudy

_MARGIN_VOX = 2


@dataclass(frozen=True, slots=True, eq=False)
class NetworkInput:
    """What a network reads.

    Parameters
    ----------
    channels : (1, 4, I, J, K) float32 Tensor
        z-scored in the brain, zero outside of it.
    brain : (1, I, J, K) bool Tensor
    present : (4,) bool
        Which sequences there are.
    grid : Grid
        Of the tensors.
    box : (3,) slices
        The part of the working grid that they show: the brain and a small margin.
    cut : Grid
        Of that part.
    """

    channels: Tensor
    brain: Tensor
    present: tuple[bool, bool, bool, bool]
    grid: Grid
    box: Box
    cut: Grid

    def input_of(self, variant: InputPerturbation) -> Tensor:
        """Return the (1, 8, I, J, K) input that shows a variant of the study."""
        shown = [a and b for a, b in zip(self.present, variant.keep, strict=True)]
        channels = self.channels
        if variant.hidden is not None:
            hidden = torch.from_numpy(variant.hidden).to(channels.device)
            channels = channels.masked_fill(hidden, 0.0)
        x = with_presence(channels, torch.tensor([shown], device=channels.device), self.brain)
        return x.flip(2) if variant.mirrored else x


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
            next_step="Look at the images: is this a head, and does it hold the brain?",
        )
    return geometry.grown(prepared.brain_box, _MARGIN_VOX, prepared.brain.shape)


def box_grid(prepared: PreparedStudy, box: Box) -> Grid:
    """Return the grid of a box of the working grid."""
    low = (box[0].start, box[1].start, box[2].start)
    high = (box[0].stop, box[1].stop, box[2].stop)
    return crop_grid(prepared.working, low, high)


def grid_at(prepared: PreparedStudy, spacing_mm: float) -> Grid:
    """Return the grid of cubes of `spacing_mm` over the brain's box."""
    return _grid_over(box_grid(prepared, brain_box(prepared)), spacing_mm)


def _grid_over(cut: Grid, spacing_mm: float) -> Grid:
    edges = (spacing_mm, spacing_mm, spacing_mm)
    affine, shape = geometry.respace(cut.affine, cut.shape, edges)
    return Grid(shape, affine)


def make_network_input(
    prepared: PreparedStudy, spacing_mm: float, device: torch.device
) -> NetworkInput:
    """Crop to the brain, resample with anti-aliasing, z-score in the brain.

    Parameters
    ----------
    prepared : PreparedStudy
        In scanner units.
    spacing_mm : float
        Edge of the cubes that the network reads.
    device : torch.device
        Where the tensors lie.

    Returns
    -------
    NetworkInput
        Resampled from images that are zero outside the brain, as the network is trained on.
    """
    box = brain_box(prepared)
    cut = box_grid(prepared, box)
    target = _grid_over(cut, spacing_mm)
    inside = torch.from_numpy(prepared.brain[box].copy()).to(device)
    along = separable.matrices(cut, target, antialias=True)
    brain = separable.apply(inside.float(), along) > 0.5
    channels = torch.zeros((1, len(prepared.present), *target.shape), device=device)
    for index in np.flatnonzero(prepared.present):
        values = np.array(prepared.channels[index][box], dtype=np.float32)
        volume = torch.from_numpy(values).to(device)
        channels[0, index] = separable.apply(volume * inside, along)
    first, second, third, fourth = (bool(there) for there in prepared.present)
    scaled = zscore(channels, brain[None])
    there = (first, second, third, fourth)
    return NetworkInput(scaled, brain[None], there, target, box, cut)
