"""Region growing from one voxel, for lesions that the network did not flag.

Three signals are combined at each voxel: the network's probability, at a lower threshold than for
flagging; its attention; and the intensity of the displayed sequence, or of another one with more
contrast. Each signal is relative to its value at the seed and weighted by its contrast there. The
region is the component connected to the seed where the weighted mean exceeds one half; if it
reaches the distance limit, the threshold is raised.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lesionlens.base.array_ops import robust_spread
from lesionlens.base.errors import UnusableInputError
from lesionlens.base.labels import Label, MrSequence, Region

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]

REACH_MM = 30.0
"""Maximum distance of a grown region from its seed."""
_CORE_MM, _SURROUND_MM, _SMOOTH_MM, _NECK_MM = 2.0, 12.0, 0.8, 1.2
_THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9)
_MIN_PROBABILITY, _SURE_PROBABILITY, _MIN_PART = 0.02, 0.2, 0.1
_MIN_CONTRAST, _SURE_CONTRAST = 1.5, 4.0
_ATTENTION_SHARE, _SURE_ATTENTION = 0.5, 0.25
_MIN_WEIGHT = 0.3


@dataclass(frozen=True, slots=True, eq=False)
class Surroundings:
    """Images, allowed voxels and predictions around a seed, on one grid."""

    images: Mapping[MrSequence, Floats]
    """Mapping of MrSequence to (I, J, K) float32. Any units."""
    allowed: Mask
    """(I, J, K) bool: voxels that may be included: tissue outside other candidates."""
    spacing_mm: NDArray[np.float64]
    """(3,) float64: voxel edges."""
    probability: Mapping[Region, Floats]
    """Mapping of Region to (I, J, K) float32. 0 to 1; empty if unknown."""
    attention: Floats | None = None
    """(I, J, K) float32 or None: whole-tumour attention, 0 to 1."""
    shown: MrSequence | None = None
    """The displayed sequence: preferred to ones with more contrast, if the lesion is visible in
    it.
    """


@dataclass(frozen=True, slots=True)
class _Signal:
    """One signal: 0 as in the surroundings, 1 as at the seed; with its weight."""

    share: Floats
    weight: float
    sequence: MrSequence | None = None
    brighter: bool = False


def grown(around: Surroundings, seed: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Grow a region from a voxel.

    Parameters
    ----------
    around : Surroundings
        At least `REACH_MM` in all directions, within the scan.
    seed : (3,) int
        The voxel.

    Returns
    -------
    (I, J, K) uint8
        `base.labels.Label`; inner regions follow the network's prediction where there is one, and
        parts that are bright on T1c are enhancing.

    Raises
    ------
    UnusableInputError
        The voxel is in air or in another candidate, has no contrast to its surroundings, or the
        region has no border within reach.

    Notes
    -----
    The border of a blurred object is at half its contrast (full width at half maximum).
    """
    if not all(0 <= n < size for n, size in zip(seed, around.allowed.shape, strict=True)):
        raise _refused("a point outside the image", "a point inside the head")
    if not around.allowed[seed]:
        raise _refused(
            "a point outside the head or inside an existing candidate",
            "a point in tissue outside every candidate",
        )
    far = _distance_mm(around, seed)
    ball = (far <= REACH_MM) & around.allowed
    core = (far <= _CORE_MM) & around.allowed
    network = _of_network(around, core, ball)
    images = _of_images(around, core, ball & (far > _SURROUND_MM))
    mixtures = [[*network, image] for image in images] + [network]
    clear = [signals for signals in mixtures if sum(s.weight for s in signals) >= _MIN_WEIGHT]
    if not clear:
        raise _refused("no visible contrast at this point", "a point inside the missed lesion")
    bound = REACH_MM - float(np.max(around.spacing_mm))
    for signals in clear:
        mixed = _mixed(signals)
        for threshold in _THRESHOLDS:
            region = _joined((mixed >= threshold) & ball, core, around.spacing_mm)
            if region.any() and not (region & (far > bound)).any():
                return _labelled(region, around, signals)
    raise _refused(
        f"no border within {REACH_MM:.0f} mm of this point", "a region with a visible border"
    )


def _mixed(signals: list[_Signal]) -> Floats:
    weight = sum(signal.weight for signal in signals)
    parts = [signal.share * np.float32(signal.weight / weight) for signal in signals]
    return np.asarray(np.sum(parts, axis=0), np.float32)


def _distance_mm(around: Surroundings, seed: tuple[int, int, int]) -> Floats:
    steps = [
        ((np.arange(size) - at) * edge) ** 2
        for size, at, edge in zip(around.allowed.shape, seed, around.spacing_mm, strict=True)
    ]
    far = np.sqrt(steps[0][:, None, None] + steps[1][:, None] + steps[2])
    return np.asarray(far, np.float32)


def _of_network(around: Surroundings, core: Mask, ball: Mask) -> list[_Signal]:
    """Return the network's signals, if it predicts anything there."""
    found = []
    whole = around.probability.get(Region.WT)
    if whole is not None:
        high = float(whole[core].max())
        if high >= _MIN_PROBABILITY:
            share = np.minimum(whole / np.float32(high), np.float32(1))
            found.append(_Signal(share, min(1.0, high / _SURE_PROBABILITY)))
    if around.attention is not None:
        high, usual = float(around.attention[core].max()), float(np.median(around.attention[ball]))
        if high - usual >= _MIN_PROBABILITY:
            weight = _ATTENTION_SHARE * min(1.0, (high - usual) / _SURE_ATTENTION)
            found.append(_Signal(_between(around.attention, usual, high), weight))
    return found


def _of_images(around: Surroundings, core: Mask, surround: Mask) -> list[_Signal]:
    """Return the intensity signal of each sequence with contrast at the seed.

    The displayed sequence comes first, then those with most contrast.
    """
    found: list[tuple[bool, float, _Signal]] = []
    if np.count_nonzero(surround) < 30:
        return []
    for sequence, image in around.images.items():
        smooth = ndimage.gaussian_filter(image, _SMOOTH_MM / np.asarray(around.spacing_mm))
        usual = float(np.median(smooth[surround]))
        spread = robust_spread(smooth[surround])
        here = float(smooth[core].mean())
        contrast = abs(here - usual) / max(spread, 1e-3 * abs(usual), 1e-6)
        if contrast > _MIN_CONTRAST:
            weight = min(1.0, contrast / _SURE_CONTRAST)
            signal = _Signal(_between(smooth, usual, here), weight, sequence, here > usual)
            found.append((sequence is around.shown, contrast, signal))
    return [signal for *_, signal in sorted(found, key=lambda one: one[:2], reverse=True)]


def _between(values: Floats, usual: float, here: float) -> Floats:
    share = (values - np.float32(usual)) / np.float32(here - usual)
    return np.asarray(np.clip(share, 0.0, 1.0), np.float32)


def _joined(mask: Mask, core: Mask, spacing_mm: NDArray[np.float64]) -> Mask:
    """Return the voxels connected to the core by more than a thin neck."""
    joined, half = _part_at(mask, core), float(np.min(spacing_mm)) / 2
    inner = ndimage.distance_transform_edt(joined, sampling=spacing_mm) > _NECK_MM
    if (inner & core).any():
        inner = _part_at(inner, core)
        joined &= ndimage.distance_transform_edt(~inner, sampling=spacing_mm) <= _NECK_MM + half
    return np.asarray(ndimage.binary_fill_holes(joined))


def _part_at(mask: Mask, core: Mask) -> Mask:
    parts, _ = ndimage.label(mask)
    here = np.bincount(parts[core & mask])
    if here.size < 2:
        return np.zeros_like(mask)
    here[0] = 0
    return np.asarray(parts == int(here.argmax()))


def _labelled(region: Mask, around: Surroundings, signals: list[_Signal]) -> NDArray[np.uint8]:
    """Label the parts of a region."""
    region = region & around.allowed
    labels = np.where(region, np.uint8(Label.OEDEMA), np.uint8(0))
    enhances = any(s.sequence is MrSequence.T1C and s.brighter for s in signals)
    for inner, label in ((Region.TC, Label.CORE), (Region.ET, Label.ENHANCING)):
        values = around.probability.get(inner)
        high = 0.0 if values is None else float(values[region].max(initial=0.0))
        if values is not None and high >= _MIN_PART:
            labels[region & (values >= high / 2)] = label
        elif inner is Region.ET and enhances:
            labels[region] = label
    return labels


def _refused(found: str, expected: str) -> UnusableInputError:
    return UnusableInputError(
        found=found,
        expected=expected,
        next_step="Point at its middle, or draw it with one stroke (Shift+L)",
    )
