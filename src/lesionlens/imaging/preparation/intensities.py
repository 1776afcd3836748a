"""Load the scans of a study and bring them to one unit, whatever their files hold.

MR intensity is known up to a positive factor and an offset. `load_scan` sets the background to
zero, refuses what is no scan of a head, and says which parts hold no numbers.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lesionlens.base.errors import ReadError, unreadable
from lesionlens.base.geometry import Affine, Floats, Mask
from lesionlens.base.grid import Grid
from lesionlens.base.labels import MrSequence
from lesionlens.base.numerics import quadratic, weighted_fit
from lesionlens.base.records.study import Series
from lesionlens.base.scan_limits import check_grid, check_voxels, corner_value
from lesionlens.imaging.preparation.checks import flat_cut, tissue_of

Voxels = NDArray[Any]
"""(I, J, K) intensities: float32, or int16 where that is exact, as it halves a study's memory."""
INTENSITIES = "intensities:"
"""Prefix of `intensity_digest`: weights hold digests of both kinds."""
USUAL_POWERS, _TARGET_POWER = (-6, 20), 10
"""Powers of two between which the bright end of a scan is left unchanged, and what it is else."""
_MIN_CONSTANT, _MAX_DARKER, _MIN_BLANK = 0.02, 0.01, 0.25
"""Shares of a scan: of a constant background at least; of darker voxels at most, else the object is
darker than its background, as after z-scoring; of a blank background that splines rang on."""
_PADDING_GAP = 0.75
"""Distance of padding below all other voxels, as a share of their range; at most .34 between the
background and the voxels of 67 stripped scans."""
_ROUNDING, _RINGING = 1e-4, (0.02, 0.12)
"""Depth of rounding, and of ringing, below the background, as shares of the bright end: .05 to .10
after cubic and quintic splines, .14 and more where the object is darker than its background."""
_MAX_BRIGHT = 10.0
"""Voxels brighter than this multiple of the 99.9th percentile are single faults, and capped."""
_BETWEEN_ML = 1.0
"""Volume of voxels without a number between tissue that leads to a refusal."""
_MAX_STRIPPED_SHARE, _STRIPPED_ML, _EMPTY_FACE = 0.8, (150.0, 2300.0), 0.1
_UNEVEN, _NOISE_SHARE = 0.12, 0.25
"""Residuals, as a share of the median, that show another material; spread of means over 27 voxels,
as a share of the noise of one, below which they are noise alone (.2 in bottles of water, 1.6 and
more in brains, .28 at a signal-to-noise ratio of 2)."""


@dataclass(frozen=True, slots=True, eq=False)
class Scan:
    """One sequence of a study, its background at zero."""

    series: Series
    values: Voxels
    stripped: bool
    digest: str
    """Recognises the scan whatever its file is called; see `scan_digest`."""
    intensity_digest: str
    notices: tuple[str, ...] = ()
    moved: Affine | None = None
    """(4, 4) rigid: the reference's RAS+ mm to this sequence's; None if they are the same."""

    @property
    def floats(self) -> Floats:
        """The voxels as float32; a copy where they are stored as int16."""
        return self.values.astype(np.float32, copy=False)

    @property
    def grid(self) -> Grid:
        """Their grid in the frame of the reference."""
        grid = self.series.grid
        if self.moved is None:
            return grid
        return Grid(grid.shape, np.linalg.inv(self.moved) @ grid.affine, grid.frame_uid)


def load_scan(sequence: MrSequence, series: Series) -> Scan:
    """Read a series and bring it to standard units.

    Raises
    ------
    ReadError, UnusableInputError, GeometryError
        Its files cannot be read, or it cannot be an MR scan of a head.
    """
    label = sequence.display_name + (f" ({series.description!r})" if series.description else "")
    check_grid(series.grid, label)
    try:
        raw = series.load()
    except OSError as error:  # a disk was removed, or the files, after the study was opened
        raise unreadable(error, sequence.display_name) from error
    digests = scan_digest(raw, series.grid), intensity_digest(raw)
    values, notices = finite_voxels(raw, series.grid, label)
    del raw
    check_voxels(values, label)
    values = standard_units(values)
    limit = _MAX_BRIGHT * float(np.quantile(sampled(values), 0.999))
    top = float(values.max())
    if 0 < limit < top:
        count = np.count_nonzero(values > limit)
        values = np.minimum(values, np.float32(limit))
        notices += (f"{label}: {count} voxels far brighter than all others were capped.",)
    stripped = is_stripped(values, series.grid)
    return Scan(series, _compact(values), stripped, *digests, notices)


def sampled(values: Voxels) -> Voxels:
    """Return about a million voxels on a regular lattice, a view."""
    step = max(round((values.size / 1e6) ** (1 / 3)), 1)
    return values[::step, ::step, ::step]


def _compact(values: Floats) -> Voxels:
    """Store whole numbers as int16."""
    if values.max() <= 32767 and values.min() >= -32768:
        small = values.astype(np.int16)
        if (small == values).all():
            return small
    return values


def scan_digest(values: Floats, grid: Grid) -> str:
    """Return the SHA-256 of a scan's shape, affine and every second voxel along each axis.

    Parameters
    ----------
    values : (I, J, K) float32
        As read, before any processing.
    grid : Grid
        Their grid; the affine is rounded to a thousandth.

    Examples
    --------
    >>> values, grid = np.ones((4, 4, 4), np.float32), Grid((4, 4, 4), np.eye(4))
    >>> scan_digest(values, grid) == scan_digest(values.astype(np.int16), grid)
    True
    """
    digest = hashlib.sha256(np.array(values.shape, "<i8").tobytes())
    digest.update((np.round(grid.affine, 3) + 0.0).astype("<f8").tobytes())
    every_second = np.nan_to_num(values[::2, ::2, ::2].astype("<f4"))
    digest.update(np.ascontiguousarray(every_second).tobytes())
    return digest.hexdigest()


def intensity_digest(values: Floats) -> str:
    """Return a digest of a scan's intensities that does not depend on their order.

    A copy that was reoriented or mirrored, or has another header or empty border, has the same
    digest; a resampled or rescaled copy does not.

    Parameters
    ----------
    values : (I, J, K) float32
        As read, before any processing; 0 and non-finite values are ignored.

    Examples
    --------
    >>> values = np.arange(60, dtype=np.float32).reshape(3, 4, 5)
    >>> intensity_digest(values) == intensity_digest(np.pad(values[::-1].transpose(2, 0, 1), 4))
    True
    """
    count, sums = 0, np.zeros(3, np.uint64)
    for plane in values if values.flags.c_contiguous else values.T:  # as it lies in memory
        nonzero = plane[np.isfinite(plane) & (plane != 0)]
        bits = nonzero.astype("<f4", copy=False).view("<u4").astype(np.uint64)
        squares = bits * bits
        sums += np.array([bits.sum(), squares.sum(), (squares * bits).sum()], np.uint64)
        count += bits.size
    summary = np.array([count, *sums], "<u8").tobytes()
    return f"{INTENSITIES}{hashlib.sha256(summary).hexdigest()}"


def finite_voxels(values: Floats, grid: Grid, label: str) -> tuple[Floats, tuple[str, ...]]:
    """Return voxels without NaN, which counts as background, and a notice if there was some.

    Raises
    ------
    ReadError
        There is infinity, or NaN that may hide tissue.
    """
    if np.isfinite(values.sum(dtype=np.float64)):
        return values, ()
    invalid = ~np.isfinite(values)
    fraction = float(invalid.mean())
    percentage = "less than 0.1%" if fraction < 0.0005 else f"{fraction:.1%}"
    if reason := _hides_tissue(values, invalid, grid):
        raise ReadError(
            f"{label} has voxels that are not finite numbers ({percentage}, NaN or infinite): "
            f"{reason}.",
            hint="Convert the scan again, or repair these voxels before opening it.",
        )
    darkest = np.float32(values[~invalid].min())
    notice = f"{label}: {percentage} of the voxels were NaN; they count as background."
    return np.where(invalid, darkest, values), (notice,)


def _hides_tissue(values: Floats, invalid: Mask, grid: Grid) -> str | None:
    """Return why voxels without a number may hide tissue, or None."""
    if float(invalid.mean()) > 0.95 or np.isinf(values).any():
        return "no scanner writes so many, or infinity"
    parts, _ = ndimage.label(invalid)
    faces = [np.take(parts, end, axis=axis) for axis in range(3) for end in (0, -1)]
    outer = np.unique(np.concatenate([face.ravel() for face in faces]))
    if (invalid & ~np.isin(parts, outer[outer > 0])).any():
        return "some are enclosed by the image"
    tissue = tissue_of(values, invalid)
    if cut := flat_cut(invalid, tissue, grid):
        return f"they cut off the {cut.missing_side} part of the head in one plane"
    if np.median([(face > 0).mean() for face in faces]) < 0.5:  # air has numbers: these are no air
        between = np.zeros(values.shape, np.int8)
        for axis in range(3):
            before = np.logical_or.accumulate(tissue, axis=axis)
            after = np.flip(np.logical_or.accumulate(np.flip(tissue, axis), axis=axis), axis)
            between += before & after
        lost_ml = grid.volume_ml(invalid & (between >= 2))
        if lost_ml > _BETWEEN_ML:
            return f"{lost_ml:.0f} ml of them lie within the head"
    return None


def standard_units(values: Floats) -> Floats:
    """Return a scan with its background at zero and its bright end within `USUAL_POWERS`.

    Padding, a constant far below all signal as scanners write it outside of what they reconstruct,
    becomes background too, and so does what resampling by splines leaves around a blank one.

    Parameters
    ----------
    values : (I, J, K) float32
        Finite, in any unit, not constant.

    Returns
    -------
    (I, J, K) float32
        The same array if no change is needed.
    """
    values = _without_ringing(_without_padding(values))
    background, outside = _background(values)
    if background:
        values = values - background
    if outside is not None:
        values = np.where(outside, np.float32(0), values)
    low, top = np.quantile(sampled(values), (0.001, 0.999)).tolist()
    size = max(abs(low), abs(top)) or float(np.abs(values).max())
    power = int(np.frexp(size)[1])
    if USUAL_POWERS[0] <= power <= USUAL_POWERS[1]:
        return values
    return np.asarray(np.ldexp(values, _TARGET_POWER - power), dtype=np.float32)


def _background(values: Floats) -> tuple[np.float32, Mask | None]:
    """Return the background, and its mask if much of the object is darker than it.

    It is the constant around the object if there is one, else the minimum, but for single outliers
    far below all other voxels.
    """
    sample, constant = sampled(values), corner_value(values)
    darkest, (low, top) = values.min(), np.quantile(sample, (0.001, 0.999)).astype(np.float32)
    lowest = np.float32(low if low - darkest > top - low else darkest)
    if float((sample == constant).mean()) < _MIN_CONSTANT:
        return lowest, None
    darker = float((sample < constant).sum()) / max(int((sample != constant).sum()), 1)
    if darker < _MAX_DARKER:
        return constant, None
    return lowest, values == constant


def _without_ringing(values: Floats) -> Floats:
    """Remove the ringing of splines on a blank background.

    It is tiny everywhere, and darker than the background next to the object's edge.
    """
    constant, sample = corner_value(values), sampled(values)
    low, top = np.quantile(sample, (0.001, 0.999)).astype(np.float32)
    tolerance = np.float32(_ROUNDING) * (top - constant)
    is_exact, is_blank = (
        float((np.abs(sample - constant) <= limit).mean()) >= _MIN_BLANK for limit in (0, tolerance)
    )
    shallowest, deepest = (share * (top - constant) for share in _RINGING)
    is_ringing = shallowest <= constant - low <= deepest
    if not is_blank or not (is_ringing or (not is_exact and constant - low <= tolerance)):
        return values
    return np.where(values <= constant + tolerance, constant, values)


def _without_padding(values: Floats) -> Floats:
    """Raise the padding of a scan to zero, or to the darkest other voxels.

    The latter are used if they are below zero, or far above it, as after an offset within the head
    alone. An object without texture is unchanged: it would get a brain's contrast.
    """
    darkest, sample = values.min(), sampled(values)
    brighter = sample[sample > darkest]
    if not brighter.size:
        return values
    low, top = np.quantile(brighter, (0.001, 0.999)).astype(np.float32)
    gap = _PADDING_GAP * (top - low)
    if low - darkest <= gap:
        return values
    raise_to_zero = 0 <= low <= gap or (low > gap and is_noise(values, values > darkest))
    return np.maximum(values, np.float32(0) if raise_to_zero else low)


def foreground(values: Voxels) -> Mask:
    """Return all voxels that differ from the background value at the corners."""
    return np.asarray(values != corner_value(values))


def is_stripped(values: Voxels, grid: Grid) -> bool:
    """Return whether an image is stripped: constant background, brain-sized object."""
    visible = values[::2, ::2, ::2] != corner_value(values)
    share = float(visible.mean())
    low_ml, high_ml = _STRIPPED_ML
    ends = [np.take(visible, end, axis=axis).mean() for axis in range(3) for end in (0, -1)]
    return (
        share < _MAX_STRIPPED_SHARE
        and low_ml < share * values.size * grid.voxel_ml < high_ml
        and sum(end < _EMPTY_FACE for end in ends) >= 3
    )


def is_even(values: Voxels, mask: Mask) -> bool:
    """Return whether an object is of one material, such as a bottle of water; its rim is ignored.

    Parameters
    ----------
    values, mask : (I, J, K) arrays
        The image and its object.
    """
    residuals, _, level = _texture(values, mask)
    return bool(residuals.size and (np.abs(residuals) > _UNEVEN * level).mean() < 0.01)


def is_noise(values: Voxels, mask: Mask) -> bool:
    """Return whether all texture of an object is noise, at any offset of its intensities."""
    residuals, noise, _ = _texture(values, mask)
    return bool(residuals.size and residuals.std() < _NOISE_SHARE * noise)


def _texture(values: Voxels, mask: Mask) -> tuple[NDArray[np.float64], float, float]:
    """Return residuals of means over 27 voxels, the noise of single voxels, the median intensity.

    The residuals are those of a quadratic in the axes, which removes shading; none if the object is
    small.
    """
    steps = tuple(slice(None, None, max(length // 48, 1)) for length in values.shape)
    means = ndimage.uniform_filter(values.astype(np.float32, copy=False), 3)
    noise, means = (values - means)[steps], means[steps]
    inner = ndimage.binary_erosion(mask[steps], iterations=3)
    if int(inner.sum()) < 200:
        return np.empty(0), 0.0, 0.0
    terms = quadratic(*(np.linspace(-1, 1, length) for length in inner.shape))[:, inner].T
    smoothed = means[inner].astype(np.float64)
    fitted = terms @ weighted_fit(terms, smoothed, np.ones(len(smoothed)))
    return smoothed - fitted, float(noise[inner].std()), float(np.median(smoothed))
