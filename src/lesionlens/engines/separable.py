"""Separable resampling between axis-aligned grids, as three matrix products.

Axis-aligned grids differ along each axis by a scale and a shift only, so that smoothing and linear
interpolation along an axis are one small matrix. This is much faster than general interpolation, on
any device.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lesionlens.base.errors import GeometryError
from lesionlens.base.geometry import Floats
from lesionlens.base.grid import Grid

Matrices = tuple[Floats, Floats, Floats]
"""One (n_target, n_source) matrix for each axis."""

ANTIALIAS = 0.42
"""Standard deviation of the anti-aliasing filter, in voxel edges of the coarser grid."""


def matrices(source: Grid, target: Grid, *, antialias: bool) -> Matrices:
    """Return the (n_target, n_source) float32 matrix of each axis.

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
    """
    index = np.linalg.inv(source.affine) @ target.affine
    steps = np.diag(index)[:3]
    if not np.allclose(index[:3, :3], np.diag(steps), atol=1e-6) or (steps <= 0).any():
        raise GeometryError(
            found="two grids that are rotated relative to each other",
            expected="axis-aligned grids of the same orientation",
            next_step="Report this as a defect of the preparation",
        )
    per_axis = [
        _axis_matrix(n_in, n_out, step, start, antialias=antialias)
        for n_in, n_out, step, start in zip(
            source.shape, target.shape, steps, index[:3, 3], strict=True
        )
    ]
    return per_axis[0], per_axis[1], per_axis[2]


def _axis_matrix(n_in: int, n_out: int, step: float, start: float, *, antialias: bool) -> Floats:
    position = start + step * np.arange(n_out, dtype=np.float64)
    if not antialias:
        return _linear(np.clip(position, 0, n_in - 1), n_in).astype(np.float32)
    linear = _linear(position, n_in)
    if step > 1.01:
        linear = linear @ _gaussian(n_in, ANTIALIAS * step)
    return linear.astype(np.float32)


def _linear(position: NDArray[np.float64], n_in: int) -> NDArray[np.float64]:
    """Return linear interpolation weights that fade to zero over half a voxel beyond the border."""
    distance = np.abs(position[:, None] - np.arange(n_in)[None])
    return np.clip(1.0 - distance, 0.0, None)


def _gaussian(n: int, sigma: float) -> NDArray[np.float64]:
    distance = np.arange(n)[:, None] - np.arange(n)[None]
    kernel = np.exp(-0.5 * (distance / sigma) ** 2) * (np.abs(distance) <= np.ceil(4 * sigma))
    return np.asarray(kernel / kernel.sum(axis=1, keepdims=True))


def smooth(volumes: Tensor, sigma_vox: float) -> Tensor:
    """Smooth (..., I, J, K) volumes with a Gaussian, in voxels; renormalised at borders."""
    kernels = [_gaussian(n, sigma_vox).astype(np.float32) for n in volumes.shape[-3:]]
    return apply(volumes, (kernels[0], kernels[1], kernels[2]))


def normalise_sums(maps: Tensor) -> Tensor:
    """Scale (R, I, J, K) maps to sum one; a zero map is unchanged."""
    return maps / maps.sum((1, 2, 3), keepdim=True).clip(1e-12)


def with_sum_one(weights: Floats) -> Floats:
    """Scale an (I, J, K) map to sum one; a zero map is unchanged."""
    return np.asarray(weights / max(float(weights.sum(dtype=np.float64)), 1e-12), np.float32)


def with_maximum_one(weights: Floats) -> Floats:
    """Scale an (I, J, K) map to a maximum of one; a zero map is unchanged."""
    return np.asarray(weights / max(float(weights.max()), 1e-12), np.float32)


def apply(volumes: Tensor, along: Matrices) -> Tensor:
    """Resample (..., I, J, K) volumes to (..., I', J', K'); float32, on their device.

    Between equal grids these are the volumes themselves.

    Examples
    --------
    >>> halve = np.array([[0.5, 0.5]], np.float32)
    >>> apply(torch.ones(2, 2, 2), (halve, halve, halve)).shape
    torch.Size([1, 1, 1])
    """
    out = volumes.float()
    first, second, third = (
        None if _is_identity(m) else torch.from_numpy(m).to(out.device) for m in along
    )
    if third is not None:
        out = out @ third.T
    if second is not None:
        out = second @ out
    if first is None:
        return out
    shape = out.shape
    flattened = out.reshape(*shape[:-2], shape[-2] * shape[-1])
    return (first @ flattened).reshape(*shape[:-3], first.shape[0], *shape[-2:])


def apply_numpy(values: Floats, along: Matrices) -> Floats:
    """Resample an array as `apply` resamples tensors."""
    return np.asarray(apply(torch.from_numpy(values), along).numpy())


def _is_identity(matrix: Floats) -> bool:
    return np.array_equal(matrix, np.eye(*matrix.shape, dtype=np.float32))
