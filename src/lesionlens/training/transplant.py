"""Augmentation: transplant a patient's tumour into another brain, real or synthetic.

After CarveMix (Zhang et al. 2021, 2023): with few patients each tumour occurs in one brain only,
and a network may learn the combination. The transplanted region follows the outline of the lesion
at a random distance; here it is also blended, mirrored, shifted, and matched in intensity to its
new surroundings.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lesionlens.base.geometry import TOUCHING, Box
from lesionlens.network.normalise import Z_LIMIT
from lesionlens.network.synth.instances import CAVITY
from lesionlens.network.synth.tumour import MAX_LESIONS
from lesionlens.training.data import Packed

_MARGIN_MM = (2.0, 10.0)  # maximum margin around the outline that is included
_BLEND_MM = 3.0
_SHIFT_MM = 12.0  # standard deviation of the shift
_MATCHED = 0.7
"""Share of the intensity difference between old and new surroundings that is corrected."""
_MIN_SHARE = 0.6  # minimum share of the tumour inside the new brain
_TRIES = 6


@dataclass(frozen=True, slots=True)
class _Cutting:
    """A tumour with its surroundings, cropped from a brain."""

    channels: NDArray[np.float32]
    """(4, I, J, K) float32."""
    code: NDArray[np.uint8]
    """(I, J, K) uint8."""
    cavity: NDArray[np.bool_]
    """(I, J, K) bool: resection cavity."""
    share: NDArray[np.float32]
    """(I, J, K) float32: blending weight of each voxel, 0 to 1."""
    centre: NDArray[np.float64]
    """(3,) float: position of its centre relative to the brain's box, 0 to 1."""


def transplanted(
    host: Packed, donor: Packed, spacing_mm: float, rng: np.random.Generator
) -> Packed:
    """Return the host with the donor's tumours, if they fit.

    Parameters
    ----------
    host, donor : Packed
        Whole brains with the same sequences, else the host is returned.
    spacing_mm : float
        Edge of the voxels of both.
    rng : Generator
        Random generator.

    Returns
    -------
    Packed
        z-scores of the whole new brain. The host itself if the donor has no tumour, or it does not
        fit.
    """
    if not np.array_equal(host.present, donor.present) or not (donor.code > 1).any():
        return host
    cutting = _cut(donor, spacing_mm, rng)
    if rng.random() < 0.5:
        cutting = _mirrored(cutting)
    for _ in range(_TRIES):
        corner = _corner(cutting, host, spacing_mm, rng)
        new = _pasted(host, cutting, corner)
        if new is not None:
            return new
    return host


def _cut(donor: Packed, spacing_mm: float, rng: np.random.Generator) -> _Cutting:
    margin = rng.uniform(*_MARGIN_MM) / spacing_mm
    blend = _BLEND_MM / spacing_mm
    pad = int(np.ceil(margin + blend))
    inside = np.argwhere(donor.code > 1)
    low = np.maximum(inside.min(0) - pad, 0)
    stop = np.minimum(inside.max(0) + pad + 1, donor.code.shape)
    i, j, k = (slice(a, b) for a, b in zip(low, stop, strict=True))
    code = donor.code[i, j, k]
    away = ndimage.distance_transform_edt(code < 2)
    share = np.clip((margin + blend - away) / blend, 0, 1) * (code > 0)
    centre = (low + stop) / 2 / np.array(donor.code.shape)
    channels = donor.channels[:, i, j, k].astype(np.float32)
    cavity = donor.instances[i, j, k] == CAVITY
    return _Cutting(channels, code.copy(), cavity, share.astype(np.float32), centre)


def _mirrored(cutting: _Cutting) -> _Cutting:
    """Mirror left to right."""
    centre = cutting.centre.copy()
    centre[0] = 1 - centre[0]
    code, cavity = cutting.code[::-1], cutting.cavity[::-1]
    return _Cutting(cutting.channels[:, ::-1], code, cavity, cutting.share[::-1], centre)


def _corner(
    cutting: _Cutting, host: Packed, spacing_mm: float, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Return the position of the crop in the host: the original one plus a random shift."""
    size = np.array(cutting.code.shape)
    middle = cutting.centre * host.code.shape + rng.normal(0, _SHIFT_MM / spacing_mm, 3)
    return np.round(middle - size / 2).astype(np.int64)


def _overlap(corner: NDArray[np.int64], size: tuple[int, ...], room: tuple[int, ...]) -> list[Box]:
    """Return the overlapping parts of host and crop."""
    low = np.maximum(corner, 0)
    stop = np.minimum(corner + size, room)
    there = tuple(slice(int(a), int(max(a, b))) for a, b in zip(low, stop, strict=True))
    here = tuple(
        slice(s.start - int(c), s.stop - int(c)) for s, c in zip(there, corner, strict=True)
    )
    return [(there[0], there[1], there[2]), (here[0], here[1], here[2])]


def _pasted(host: Packed, cutting: _Cutting, corner: NDArray[np.int64]) -> Packed | None:
    """Paste a crop into the host; None if too little of it is inside the brain."""
    there, here = _overlap(corner, cutting.code.shape, host.code.shape)
    brain = host.code[there] > 0
    code, share = cutting.code[here], cutting.share[here] * brain
    carried = (code > 1) & (share > 0)
    if carried.sum() < _MIN_SHARE * (cutting.code > 1).sum():
        return None
    whole = (slice(None), *there)
    old = host.channels[whole].astype(np.float32)
    new = cutting.channels[:, *here]
    shift = _difference(old, new, (share > 0.5) & ~carried & (host.code[there] == 1))
    channels = host.channels.astype(np.float32)
    channels[whole] = old + share * (new + shift[:, None, None, None] - old)
    codes = host.code.copy()
    codes[there] = np.where(share > 0.5, np.maximum(code, 1), codes[there])
    parts = host.instances.copy()
    cavity = np.where(parts[there] == CAVITY, 0, parts[there])
    cavity = np.where(cutting.cavity[here], CAVITY, cavity)
    parts[there] = np.where(share > 0.5, cavity, parts[there])
    return dataclasses.replace(
        host,
        channels=_scored(channels, codes > 0).astype(np.float16),
        code=codes,
        instances=numbered(parts, codes),
    )


def _difference(
    old: NDArray[np.float32], new: NDArray[np.float32], ring: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Return the intensity correction of each sequence of the crop, (4,)."""
    if ring.sum() < 20:
        return np.zeros(len(old), np.float32)
    gap = np.median(old[:, ring], 1) - np.median(new[:, ring], 1)
    return np.asarray(_MATCHED * gap, np.float32)


def _scored(channels: NDArray[np.float32], brain: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Normalise to zero mean and unit deviation inside the brain; a missing sequence stays zero."""
    inside = channels[:, brain]
    deviation = inside.std(1).clip(1e-4)
    mean = inside.mean(1)
    centred = (channels - mean[:, None, None, None]) / deviation[:, None, None, None]
    return np.asarray(centred.clip(-Z_LIMIT, Z_LIMIT) * brain, np.float32)


def numbered(parts: NDArray[np.uint8], code: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Assign numbers to tumours; distractors and cavity keep theirs outside of tumour."""
    others = np.where((parts > MAX_LESIONS) & (code < 2), parts, 0)
    return np.asarray(np.where(code > 1, lesions(code), others), np.uint8)


def lesions(code: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Assign numbers to the largest separate tumours; 26-connectivity."""
    parts, count = ndimage.label(code > 1, TOUCHING)
    sizes = np.bincount(parts.ravel(), minlength=count + 1)[1:]
    rank = np.zeros(count + 1, np.uint8)
    largest = np.argsort(-sizes, kind="stable")[:MAX_LESIONS]
    rank[largest + 1] = np.arange(1, len(largest) + 1)
    return np.asarray(rank[parts])
