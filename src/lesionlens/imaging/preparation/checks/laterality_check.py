"""Check the sides: sequences mirrored relative to the others, and a head turned by half a turn.

The reference is registered to its own mirror image once, which gives the plane of symmetry. Every
two sequences are then compared as they are and with one mirrored at that plane: where one has
swapped sides, they fit better mirrored. All pairs are judged together, because a tumour may be
more like its mirror image in one of them. If all sequences are mirrored, this cannot be detected.

Arrays that were saved with a made-up affine, such as an identity, often lie half a turn from what
their headers say. Two axes are then reversed, left and right among them, and no sequence
contradicts another one: the shape of the brain shows it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import cache
from itertools import combinations, product

import numpy as np
from scipy import ndimage

from lesionlens.base.geometry import Affine, Floats, Mask, centre_mm
from lesionlens.base.grid import Grid
from lesionlens.base.labels import MrSequence
from lesionlens.base.numerics import dice
from lesionlens.base.records.study import Images, QualityCheck, failed_check, passed_check
from lesionlens.base.run_context import SILENT, RunContext
from lesionlens.base.shipped_arrays import shipped_arrays
from lesionlens.imaging.preparation.registration import register_coarsely, single_level_pyramid
from lesionlens.imaging.preparation.resampling import HALF, block_means, resample

BINS = 32
BLOCK = (3, 3, 3)
"""Voxels of the working grid averaged along each axis."""
MIRRORED_ABOVE = 0.0
"""Gain of the mirror image above which the sides of two images are considered to differ."""
MIN_INFORMATION_RATIO = 0.01
"""Minimum ratio of the information of a mirrored pair to that of the pair as it is."""
HALF_TURN_ABOVE = 0.02
"""Gain in Dice from which a half turn is reported.

Measured with seventeen people: at most -.04 as they lie, so at least .04 after half a turn; at most
-.02 with a fifth of the brain cut off or tilted by 15 degrees, and .01 tilted by 30.
"""
HALF_TURNS = {
    (0, 1): "left and right, front and back",
    (0, 2): "left and right, top and bottom",
    (1, 2): "front and back, top and bottom",
}
"""Reversed axes of each half turn."""
_POINTS = 40
"""Samples along each axis."""
_ENDS = (0.2, 99.8)
"""Percentiles at which the brain ends: single voxels beyond do not count."""
Gains = Mapping[tuple[MrSequence, MrSequence], float]


def sides(
    channels: Images,
    reference: MrSequence,
    brain: Mask,
    grid: Grid,
    *,
    context: RunContext = SILENT,
) -> QualityCheck | None:
    """Check whether left and right agree between the sequences; None with fewer than two.

    The others are compared with the reference; the grid is axis-aligned RAS+ and isotropic.
    """
    if len(channels) < 2:
        return None
    coarse = {s: block_means(values, grid, BLOCK) for s, values in channels.items()}
    fixed, coarse_grid = coarse[reference]
    inside = block_means(brain.astype(np.float32), grid, BLOCK)[0] > HALF
    reflection = symmetry(fixed, coarse_grid, context=context)
    order = (reference, *(s for s in channels if s is not reference))
    gains = {
        (first, second): mirror_gain(
            coarse[first][0], coarse[second][0], inside, coarse_grid, reflection
        )
        for first, second in combinations(order, 2)
    }
    swapped = mirrored(order, gains)
    listed = ", ".join(_gain_text(s, order, gains, swapped) for s in order[1:])
    if not swapped:
        message = (
            f"Left and right agree between the sequences (change in fit if mirrored: {listed})."
        )
        return passed_check("sides", message)
    most_swapped = 2 * len(swapped) > len(order)
    names = ", ".join(s.display_name for s in order if (s in swapped) is not most_swapped)
    return failed_check(
        "sides",
        f"{names}: left and right seem swapped, relative to the other sequences (change in fit if "
        f"mirrored, with {reference.display_name}: {listed}). Check the sides before you rely on "
        "them.",
    )


def mirrored(order: Sequence[MrSequence], gains: Gains) -> frozenset[MrSequence]:
    """Return the sequences whose sides differ from those of the first, as all pairs fit best.

    Parameters
    ----------
    order : sequence of MrSequence
        The first is the reference.
    gains : mapping of (MrSequence, MrSequence) to float
        For every two in that order, the gain when one of them is mirrored.

    Notes
    -----
    Measured on eighteen people, unchanged: -0.05 to -0.82 by pair, but +0.12 and -0.05 for T1c and
    T2 of one diffuse tumour, whose T2 fits FLAIR by -0.82. With one series mirrored 0.22 to 2.4; on
    thick slices that were not registered again -0.04 and 0.01.
    """

    def fit(swapped: tuple[bool, ...]) -> float:
        signs = (1, *(-1 if is_swapped else 1 for is_swapped in swapped))
        sign = dict(zip(order, signs, strict=True))
        return -sum(
            sign[first] * sign[second] * float(np.log(max(1.0 + gain, MIN_INFORMATION_RATIO)))
            for (first, second), gain in gains.items()
        )

    best = max(product((False, True), repeat=len(order) - 1), key=fit)
    return frozenset(s for s, swapped in zip(order[1:], best, strict=True) if swapped)


def _gain_text(
    sequence: MrSequence, order: Sequence[MrSequence], gains: Gains, swapped: Collection[MrSequence]
) -> str:
    """Return a sequence's gain with the reference, or if that is outvoted the clearest other."""

    def agrees(pair: tuple[MrSequence, MrSequence]) -> bool:
        differ = (pair[0] in swapped) is not (pair[1] in swapped)
        return (gains[pair] > MIRRORED_ABOVE) is differ

    pair = (order[0], sequence)
    if agrees(pair):
        return f"{sequence.display_name} {gains[pair]:+z.0%}"
    other_pairs = [p for p in gains if sequence in p and p != pair]
    clearest = max(other_pairs, key=lambda p: abs(gains[p]) if agrees(p) else 0.0, default=pair)
    other = next(s for s in clearest if s is not sequence)
    return f"{sequence.display_name} {gains[clearest]:+z.0%} ({other.display_name})"


def symmetry(values: Floats, grid: Grid, *, context: RunContext = SILENT) -> Affine:
    """Estimate the reflection that maps a head to itself.

    Returns
    -------
    (4, 4) float64
        RAS+ mm to RAS+ mm, of determinant -1: the left hemisphere's points go to the right's.
    """
    flip = np.eye(4)
    flip[0, 0], flip[0, 3] = -1.0, 2.0 * float(centre_mm(grid.affine, grid.shape)[0])
    moved = register_coarsely(
        single_level_pyramid(values, grid),
        single_level_pyramid(values[::-1], grid),
        context=context,
    )
    return np.asarray(flip @ moved)


def mirror_gain(
    fixed: Floats, moving: Floats, inside: Mask, grid: Grid, reflection: Affine
) -> float:
    """Return the relative gain in mutual information when a sequence is mirrored.

    Parameters
    ----------
    reflection : (4, 4) float64
        From `symmetry`.
    """
    mirrored = resample(moving, grid, grid, moved=reflection)
    visible = inside & (mirrored > 0) & (moving > 0)
    if int(visible.sum()) < BINS * BINS:
        return 0.0
    as_is, flipped = (mutual_information(fixed[visible], v[visible]) for v in (moving, mirrored))
    return flipped / as_is - 1.0 if as_is > 1e-6 else 0.0


def mutual_information(first: Floats, second: Floats, bins: int = BINS) -> float:
    """Return the mutual information of two equally long intensity vectors, in nats.

    Bins hold equally many voxels, so that outliers and units have no effect.

    Examples
    --------
    >>> ramp = np.arange(3200, dtype=np.float32)
    >>> 0.98 < mutual_information(ramp, -ramp) / float(np.log(BINS)) < 1.001
    True
    """
    inner = np.linspace(0, 1, bins + 1)[1:-1]
    first_bins, second_bins = (np.searchsorted(np.quantile(v, inner), v) for v in (first, second))
    counts = np.bincount(first_bins * bins + second_bins, minlength=bins * bins)
    joint = counts.reshape(bins, bins) / first_bins.size
    independent = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0, keepdims=True)
    occupied = joint > 0
    return float((joint[occupied] * np.log(joint[occupied] / independent[occupied])).sum())


def half_turn(brain: Mask) -> QualityCheck | None:
    """Compare a brain's shape with the template's after each half turn; None if it fits worse.

    Parameters
    ----------
    brain : (I, J, K) bool
        On an axis-aligned RAS+ grid.
    """
    if not brain.any():
        return None
    template, scaled = _scaled(template_brain()), _scaled(brain)
    gains = {
        axes: dice(template, np.flip(scaled, axes)) - dice(template, scaled) for axes in HALF_TURNS
    }
    best = max(gains, key=gains.__getitem__)
    if gains[best] <= HALF_TURN_ABOVE:
        return None
    return failed_check(
        "orientation",
        "The head seems to be rotated by half a turn relative to the headers "
        f"({HALF_TURNS[best]} swapped), as after saving with an arbitrary affine. Check the "
        "sides before you rely on them.",
    )


@cache
def template_brain() -> Mask:
    """Return the brain mask of the shipped MNI template, (I, J, K) bool, RAS+."""
    with shipped_arrays("lesionlens.imaging.preparation", "template.npz") as stored:
        return np.asarray(stored["maps"][2] > 255 * HALF)


def _scaled(mask: Mask) -> Mask:
    """Return a mask resampled to `_POINTS` cubed, from end to end along each axis."""
    counts = (mask.sum((1, 2)), mask.sum((0, 2)), mask.sum((0, 1)))
    ends = [np.percentile(np.repeat(np.arange(len(n)), n), _ENDS) for n in counts]
    lattice = np.meshgrid(*(np.linspace(low, high, _POINTS) for low, high in ends), indexing="ij")
    return np.asarray(ndimage.map_coordinates(mask.astype(np.float32), lattice, order=1) > HALF)
