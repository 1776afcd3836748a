"""From the working grid to a network's input and back.

`make_network_input` crops a prepared study to the brain, resamples and z-scores it; the `frame` of
that input brings maps back. Grids are axis-aligned, so that `resample` is one small matrix product
along each axis, much faster than general interpolation and on any device.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lesionlens.base import geometry
from lesionlens.base.errors import GeometryError, UnusableInputError
from lesionlens.base.geometry import Box, Floats
from lesionlens.base.grid import Grid
from lesionlens.base.labels import MrSequence
from lesionlens.base.records.study import PreparedStudy
from lesionlens.imaging.preparation.resampling import HALF, cut_grid
from lesionlens.network.normalise import with_presence, zscore

ANTIALIAS = 0.42
"""Standard deviation of the anti-aliasing filter, in voxel edges of the coarser grid."""
_MARGIN_VOX = 2


@dataclass(frozen=True, slots=True, eq=False)
class InputFrame:
    """The grid of a network's input over one study's brain; brings maps to the working grid."""

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
        """Return the frame of cubic voxels over the brain.

        Raises
        ------
        UnusableInputError
            The brain mask is empty.
        """
        if prepared.brain_box is None:
            raise UnusableInputError(
                "No brain was found in this study.", hint="Check that the images show a head."
            )
        box = geometry.grown(prepared.brain_box, _MARGIN_VOX, prepared.brain.shape)
        box_grid = cut_grid(prepared.working, box)
        affine, shape = geometry.respace(box_grid.affine, box_grid.shape, (spacing_mm,) * 3)
        return cls(prepared, spacing_mm, box, box_grid, Grid(shape, affine))

    def brain_on(self, device: torch.device) -> Tensor:
        """Return the brain within the box, bool."""
        return torch.from_numpy(self.prepared.brain[self.box].copy()).to(device)

    def to_box(self, maps: Tensor) -> Tensor:
        """Resample (..., i, j, k) maps from the grid to the box, not limited to the brain."""
        return resample(maps, self.grid, self.box_grid)

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
    """Tensors of one study for a network."""

    channels: Tensor
    """(1, 4, I, J, K) float32: z-scored in the brain, zero outside and where absent."""
    brain: Tensor
    """(1, I, J, K) bool."""
    frame: InputFrame

    @property
    def grid(self) -> Grid:
        """The grid of the whole input."""
        return self.frame.grid

    @property
    def present(self) -> frozenset[MrSequence]:
        """The available sequences."""
        return frozenset(self.frame.prepared.sequences)

    def within(self, window: Box) -> NetworkInput:
        """Return the tensors within a window of the grid; the frame stays that of the whole."""
        index = (slice(None), *window)
        return replace(self, channels=self.channels[:, *index], brain=self.brain[index])

    def tensor(
        self, shown: Collection[MrSequence] | None = None, *, mirrored: bool = False
    ) -> Tensor:
        """Return the (1, 8, I, J, K) input that shows some of the sequences, or all.

        `mirrored` flips left and right; the output then has to be flipped back.
        """
        visible = self.present if shown is None else self.present.intersection(shown)
        presence = torch.tensor([[s in visible for s in MrSequence]], device=self.channels.device)
        x = with_presence(self.channels, presence, self.brain)
        return x.flip(2) if mirrored else x


def make_network_input(
    prepared: PreparedStudy, spacing_mm: float, device: torch.device, *, robust: bool = True
) -> NetworkInput:
    """Crop to the brain, resample with anti-aliasing, z-score in the brain.

    Parameters
    ----------
    prepared : PreparedStudy
        In scanner units.
    robust : bool
        As for `network.normalise.zscore`.

    Returns
    -------
    NetworkInput
        Resampled from images that are zero outside the brain, as in training.
    """
    frame = InputFrame.over(prepared, spacing_mm)
    mask = frame.brain_on(device)
    matrices = _matrices(frame.box_grid, frame.grid, device, antialias=True)
    brain = _apply(mask, matrices) > HALF
    shape = (1, len(prepared.present), *frame.grid.shape)
    channels = torch.zeros(shape, dtype=torch.float32, device=device)
    for index in np.flatnonzero(prepared.present):
        values = np.array(prepared.channels[index][frame.box], dtype=np.float32)
        volume = _apply(torch.from_numpy(values).to(device).mul_(mask), matrices)
        channels[0, index] = zscore(volume[None, None], brain[None], robust=robust)[0, 0]
    return NetworkInput(channels, brain[None], frame)


def resample(volumes: Tensor, source: Grid, target: Grid, *, antialias: bool = False) -> Tensor:
    """Resample (..., I, J, K) volumes to (..., I', J', K'); float32, on their device.

    Parameters
    ----------
    source, target : Grid
        Both axis-aligned, axes in the same order and direction.
    antialias : bool
        True for images to a coarser grid: smooth with a Gaussian of `ANTIALIAS` target edges first,
        and fade to zero beyond the outer voxels. False for maps to a finer grid: repeat the outer
        voxels' values.

    Raises
    ------
    GeometryError
        The grids are rotated relative to each other.

    Examples
    --------
    >>> fine, coarse = Grid((2, 2, 2), np.eye(4)), Grid((1, 1, 1), np.diag([2.0, 2.0, 2.0, 1.0]))
    >>> resample(torch.ones(5, 2, 2, 2), fine, coarse).shape
    torch.Size([5, 1, 1, 1])
    """
    return _apply(volumes, _matrices(source, target, volumes.device, antialias=antialias))


def smooth(volumes: Tensor, sigma_vox: float) -> Tensor:
    """Smooth (..., I, J, K) volumes with a Gaussian, in voxels; renormalised at borders."""
    kernels = [_gaussian(n, sigma_vox).astype(np.float32) for n in volumes.shape[-3:]]
    return _apply(volumes, [torch.from_numpy(kernel).to(volumes.device) for kernel in kernels])


def with_sums_one(maps: Tensor) -> Tensor:
    """Scale (R, I, J, K) maps to sum one; a zero map is unchanged."""
    return maps / maps.sum((1, 2, 3), keepdim=True).clip(1e-12)


def with_maximum_one(weights: Floats) -> Floats:
    """Scale an (I, J, K) map to a maximum of one; a zero map is unchanged."""
    return np.asarray(weights / max(float(weights.max()), 1e-12), np.float32)


def _matrices(
    source: Grid, target: Grid, device: torch.device, *, antialias: bool
) -> list[Tensor | None]:
    """Return the (n_target, n_source) float32 matrix of each axis; None for the identity."""
    index = np.linalg.inv(source.affine) @ target.affine
    steps = np.diag(index)[:3]
    if not np.allclose(index[:3, :3], np.diag(steps), atol=1e-6) or (steps <= 0).any():
        raise GeometryError("Two grids are rotated relative to each other.")
    matrices: list[Tensor | None] = []
    for n_in, n_out, step, start in zip(
        source.shape, target.shape, steps, index[:3, 3], strict=True
    ):
        position = start + step * np.arange(n_out, dtype=np.float64)
        if not antialias:
            position = np.clip(position, 0, n_in - 1)
        matrix = np.clip(1.0 - np.abs(position[:, None] - np.arange(n_in)), 0.0, None)
        if antialias and step > 1.01:
            matrix = matrix @ _gaussian(n_in, ANTIALIAS * step)
        is_identity = n_in == n_out and np.array_equal(matrix, np.eye(n_in))
        weights = torch.from_numpy(matrix.astype(np.float32)).to(device)
        matrices.append(None if is_identity else weights)
    return matrices


def _gaussian(n: int, sigma: float) -> NDArray[np.float64]:
    distance = np.arange(n)[:, None] - np.arange(n)[None]
    kernel = np.exp(-0.5 * (distance / sigma) ** 2) * (np.abs(distance) <= np.ceil(4 * sigma))
    return np.asarray(kernel / kernel.sum(axis=1, keepdims=True))


def _apply(volumes: Tensor, along: Collection[Tensor | None]) -> Tensor:
    """Multiply (..., I, J, K) by one matrix along each axis."""
    first, second, third = along
    out = volumes.float()
    if third is not None:
        out = out @ third.T
    if second is not None:
        out = second @ out
    if first is None:
        return out
    shape = out.shape
    flat = out.reshape(*shape[:-2], shape[-2] * shape[-1])
    return (first @ flat).reshape(*shape[:-3], first.shape[0], *shape[-2:])
