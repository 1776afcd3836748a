"""Batched seeded random numbers, smooth random fields and separable filters.

A field is a small random lattice interpolated by cubic B-splines, with one dense matrix per axis:
three matrix products, for any wavelength, on CPU and GPU. All random numbers of a volume come from
one NumPy generator, so that it depends on its seed only and not on the batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

_MIN_DEVICE_NUMBERS = 200_000


class RandomStreams:
    """One random stream per volume; the first axis of every sample is the volume.

    `stream` separates independent uses of a seed: geometry, first painting, second painting.
    """

    def __init__(self, seeds: Sequence[int], device: torch.device, stream: int = 0) -> None:
        self.device = device
        self.streams = [np.random.default_rng((int(seed), stream)) for seed in seeds]

    def __len__(self) -> int:
        return len(self.streams)

    def each(self) -> list[RandomStreams]:
        """Return the streams of the single volumes, which advance the streams of this object."""
        alone = [RandomStreams((), self.device) for _ in self.streams]
        for one, stream in zip(alone, self.streams, strict=True):
            one.streams = [stream]
        return alone

    def _gather(self, rows: list[np.ndarray]) -> Tensor:
        return torch.from_numpy(np.stack(rows).astype(np.float32)).to(self.device)

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """Draw uniform numbers, (B, *shape)."""
        return self._gather([np.asarray(s.uniform(low, high, shape)) for s in self.streams])

    def log_uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """Sample numbers whose logarithm is uniform, (B, *shape)."""
        return self.uniform(math.log(low), math.log(high), *shape).exp()

    def beta(self, a: float, b: float, *shape: int) -> Tensor:
        """Sample beta-distributed numbers, (B, *shape)."""
        return self._gather([np.asarray(s.beta(a, b, shape)) for s in self.streams])

    def normal(self, *shape: int) -> Tensor:
        """Draw standard normal numbers, (B, *shape); many at once are drawn on a GPU."""
        if self.device.type != "cpu" and math.prod(shape) >= _MIN_DEVICE_NUMBERS:
            return torch.randn(len(self), *shape, device=self.device)
        return self._gather([s.standard_normal(shape, dtype=np.float32) for s in self.streams])

    def chance(self, probability: float, *shape: int) -> Tensor:
        """Draw true with `probability`, (B, *shape) bool."""
        return self.uniform(0.0, 1.0, *shape) < probability


@dataclass(frozen=True, slots=True)
class SyntheticFrame:
    """The voxel grids of a batch: one shape, a spacing for each volume."""

    shape: tuple[int, int, int]
    """(3,) int: voxels along I, J, K."""
    spacing: Tensor
    """(B,) Tensor: voxel edge of each volume, mm."""

    def axes_mm(self) -> list[Tensor]:
        """Return voxel centres relative to the volume's centre, mm; three tensors (B, N)."""
        device = self.spacing.device
        return [
            (torch.arange(n, device=device) - (n - 1) / 2) * self.spacing[:, None]
            for n in self.shape
        ]

    def grid_mm(self) -> Tensor:
        """Return voxel centres relative to the volume's centre, mm, (B, 3, I, J, K)."""
        i, j, k = self.axes_mm()
        size = (len(self.spacing), *self.shape)
        parts = (i[:, :, None, None], j[:, None, :, None], k[:, None, None, :])
        return torch.stack([p.expand(size) for p in parts], 1)


def along_axes(volume: Tensor, matrices: Sequence[Tensor]) -> Tensor:
    """Apply three matrices (B, out, in) or (B, C, out, in) to the axes of (B, C, I, J, K)."""
    mi, mj, mk = (m if m.ndim == 4 else m[:, None] for m in matrices)
    out = volume @ mk[:, :, None].transpose(-1, -2)
    out = mj[:, :, None] @ out
    shape = out.shape
    out = mi @ out.flatten(3)
    return out.view(*shape[:2], mi.shape[-2], *shape[3:])


def _spline_basis(position: Tensor, nodes: int) -> Tensor:
    """Return cubic B-spline weights of lattice nodes, with unit variance; (B, N, nodes)."""
    t = (position[..., None] - torch.arange(nodes, device=position.device)).abs()
    inner = 2 / 3 - t**2 + t**3 / 2
    outer = (2 - t).clamp_min(0) ** 3 / 6
    weight = torch.where(t < 1, inner, outer)
    return weight / weight.square().sum(-1, keepdim=True).sqrt()


def noise(
    streams: RandomStreams,
    frame: SyntheticFrame,
    wavelength: Tensor,
    *,
    low: float | Sequence[float],
    channels: int = 1,
    octaves: int = 1,
) -> Tensor:
    """Return smooth noise of zero mean and unit variance.

    Parameters
    ----------
    wavelength : (B,) Tensor
        Distance of the lattice nodes of the first octave, mm.
    low : float or (B,) sequence of float
        Lower bound of the wavelength, mm; with the spacing it determines the lattice size.
    channels, octaves : int
        Independent fields; octaves halve the wavelength and keep .55 of the amplitude.

    Returns
    -------
    (B, channels, I, J, K) float32 Tensor
    """
    spacings = frame.spacing.tolist()
    lows = [low] * len(spacings) if isinstance(low, float | int) else low
    if len(set(spacings)) > 1:  # each has its own lattice
        return torch.cat([
            noise(
                one, SyntheticFrame(frame.shape, frame.spacing[n : n + 1]), wavelength[n : n + 1],
                low=lows[n], channels=channels, octaves=octaves,
            )
            for n, one in enumerate(streams.each())
        ])  # fmt: skip
    low, spacing = lows[0], spacings[0]
    total, power = None, 0.0
    for octave in range(octaves):
        if octave and low / 2**octave < 0.8 * spacing:
            break
        matrices = []
        for axis in frame.axes_mm():
            nodes = math.ceil(float(axis.max() - axis.min()) / (low / 2**octave)) + 5
            step = wavelength[:, None] / 2**octave
            position = (axis - axis[:, :1]) / step + 1 + streams.uniform(0, 1)[:, None]
            matrices.append(_spline_basis(position, nodes))
        lattice = streams.normal(channels, *(m.shape[-1] for m in matrices))
        layer = along_axes(lattice, matrices)
        amplitude = 0.55**octave
        total = layer if total is None else total.add_(layer, alpha=amplitude)
        power += amplitude**2
    assert total is not None
    return total.mul_(1 / math.sqrt(power))


def blur_matrix(sigma: Tensor, size: int) -> Tensor:
    """Return Gaussian smoothing matrices of one axis, (..., size, size); `sigma` in voxels."""
    index = torch.arange(size, device=sigma.device, dtype=torch.float32)
    distance = index[:, None] - index
    weight = torch.exp(-0.5 * (distance / sigma.clamp_min(1e-2)[..., None, None]) ** 2)
    return weight / weight.sum(-1, keepdim=True)


def slice_matrix(thickness: Tensor, shift: Tensor, size: int) -> Tensor:
    """Return matrices (..., size, size) that simulate thick slices, interpolation and a shift.

    Both in voxels; a thickness of one or less only shifts.
    """
    index = torch.arange(size, device=shift.device, dtype=torch.float32)
    wide = thickness.clamp_min(1.0)[..., None, None]
    source = (index[:, None] + shift[..., None, None]).expand(*shift.shape, size, 1)
    slice_low = torch.floor(source / wide)
    upper_fraction = source / wide - slice_low
    weight = torch.zeros(*shift.shape, size, size, device=shift.device)
    for offset, fraction in ((0.0, 1 - upper_fraction), (1.0, upper_fraction)):
        centre = (slice_low + offset) * wide
        coverage = (0.5 * wide + 0.5 - (index - centre).abs()).clamp(0, 1)
        weight = weight + fraction * coverage / coverage.sum(-1, keepdim=True).clamp_min(1e-3)
    return weight / weight.sum(-1, keepdim=True).clamp_min(1e-3)


def blur(volume: Tensor, frame: SyntheticFrame, sigma_mm: float | Tensor) -> Tensor:
    """Apply isotropic Gaussian smoothing to (B, C, I, J, K); `sigma_mm` is a number or (B,)."""
    sigma = torch.as_tensor(sigma_mm, device=volume.device) / frame.spacing
    return along_axes(volume, [blur_matrix(sigma, n) for n in frame.shape])


def spread(values: Tensor) -> Tensor:
    """Append three spatial axes to (B, C), and also a channel axis to (B,)."""
    return values.view(len(values), -1, 1, 1, 1)
