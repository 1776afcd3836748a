"""Network input of a prepared study: cropped to the brain, z-scored, resampled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lesionlens.base import geometry
from lesionlens.base.errors import UnusableInputError
from lesionlens.base.geometry import Box, Floats
from lesionlens.base.grid import Grid
from lesionlens.base.records.prediction import InputPerturbation
from lesionlens.base.records.study import PreparedStudy
from lesionlens.engines import separable
from lesionlens.imaging.preparation.resampling import HALF, cut_grid
from lesionlens.network.normalise import with_presence, zscore

_MARGIN_VOX = 2


@dataclass(frozen=True, slots=True, eq=False)
class InputFrame:
    """The grid of a network's input over one study's brain; resamples maps to the working grid."""

    prepared: PreparedStudy
    spacing_mm: float
    box: Box
    """(3,) slices of the working grid: the brain and a small margin."""
    box_grid: Grid
    """The working grid within the box."""
    grid: Grid
    """The isotropic grid over it."""

    @classmethod
    def over(cls, prepared: PreparedStudy, spacing_mm: float) -> InputFrame:
        """Return the frame of `spacing_mm` over the brain; raises as `brain_box`."""
        box = brain_box(prepared)
        box_grid = cut_grid(prepared.working, box)
        edges = (spacing_mm, spacing_mm, spacing_mm)
        affine, shape = geometry.respace(box_grid.affine, box_grid.shape, edges)
        return cls(prepared, spacing_mm, box, box_grid, Grid(shape, affine))

    def brain_on(self, device: torch.device) -> Tensor:
        """Return the brain within the box, bool."""
        return torch.from_numpy(self.prepared.brain[self.box].copy()).to(device)

    def to_box(self, maps: Tensor) -> Tensor:
        """Resample (..., i, j, k) maps from the grid to the box, not limited to the brain."""
        return separable.apply(maps, separable.matrices(self.grid, self.box_grid, antialias=False))

    def in_brain(self, maps: Tensor) -> Tensor:
        """Resample (..., i, j, k) maps from the grid to the box; zero outside the brain."""
        return self.to_box(maps) * self.brain_on(maps.device)

    def pasted(self, values: Floats) -> NDArray[np.float32]:
        """Paste (R, I, J, K) values of the box into the working grid; zero elsewhere."""
        shape = (values.shape[0], *self.prepared.working.shape)
        out: NDArray[np.float32] = np.zeros(shape, np.float32)
        out[(slice(None), *self.box)] = values
        return out

    def to_working(self, volume: Tensor) -> NDArray[np.float32]:
        """Resample one (i, j, k) map to the whole working grid; zero outside the brain."""
        out: NDArray[np.float32] = self.pasted(self.in_brain(volume)[None].float().cpu().numpy())[0]
        return out


@dataclass(frozen=True, slots=True, eq=False)
class NetworkInput:
    """Input tensors of a network."""

    channels: Tensor
    """(1, 4, I, J, K) float32 Tensor: z-scored in the brain, zero outside."""
    brain: Tensor
    """(1, I, J, K) bool Tensor."""
    frame: InputFrame

    @property
    def grid(self) -> Grid:
        """The grid of the whole input."""
        return self.frame.grid

    @property
    def present(self) -> tuple[bool, ...]:
        """(4,) bool: available sequences."""
        return tuple(self.frame.prepared.present.tolist())

    def within(self, window: Box) -> NetworkInput:
        """Return the tensors within a window of the grid; the frame stays that of the whole."""
        index = (slice(None), *window)
        return replace(self, channels=self.channels[:, *index], brain=self.brain[index])

    def input_of(self, perturbation: InputPerturbation) -> Tensor:
        """Return the (1, 8, I, J, K) input for a perturbation of the study."""
        visible = [a and b for a, b in zip(self.present, perturbation.keep, strict=True)]
        channels = self.channels
        if perturbation.hidden is not None:
            hidden = torch.from_numpy(perturbation.hidden).to(channels.device)
            channels = torch.where(hidden, 0.0, channels)
        x = with_presence(channels, torch.tensor([visible], device=channels.device), self.brain)
        return x.flip(2) if perturbation.mirrored else x

    def batch_of(self, perturbations: Sequence[InputPerturbation]) -> Tensor:
        """Return the (B, 8, I, J, K) inputs for perturbations of the study."""
        inputs = [self.input_of(perturbation) for perturbation in perturbations]
        return inputs[0] if len(inputs) == 1 else torch.cat(inputs)


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


def make_network_input(
    prepared: PreparedStudy, spacing_mm: float, device: torch.device, *, robust: bool = True
) -> NetworkInput:
    """Crop to the brain, resample with anti-aliasing, z-score in the brain.

    Parameters
    ----------
    prepared : PreparedStudy
        In scanner units.
    device : torch.device
    robust : bool
        As for `network.normalise.zscore`.

    Returns
    -------
    NetworkInput
        Resampled from images that are zero outside the brain, as in training.
    """
    frame = InputFrame.over(prepared, spacing_mm)
    mask = frame.brain_on(device)
    matrices = separable.matrices(frame.box_grid, frame.grid, antialias=True)
    brain = separable.apply(mask, matrices) > HALF
    shape = (1, len(prepared.present), *frame.grid.shape)
    channels = torch.zeros(shape, dtype=torch.float32, device=device)
    for index in np.flatnonzero(prepared.present):
        values = np.array(prepared.channels[index][frame.box], dtype=np.float32)
        volume = separable.apply(torch.from_numpy(values).to(device) * mask, matrices)
        normalised = zscore(volume[None, None], brain[None], robust=robust)  # one at a time
        channels[0, index] = normalised[0, 0]
    return NetworkInput(channels, brain[None], frame)
