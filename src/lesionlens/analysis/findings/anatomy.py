"""Side and anatomical region of a candidate by approximate maps in MNI space.

The brain mask alone places the head: the mid-sagittal plane is the one at which the mask mirrored
fits itself best (so it follows a rotated or tilted head, and mass effect inside does not move it),
then the brain is rotated upright by it and scaled onto the MNI152 brain by width, length and top.
The lower end is not used, because a field of view often cuts it; if the front, the back or the top
is cut, no region is named. Deep structures, cerebellum, brainstem and ventricles are named by how
many of twenty heads show them there (`structures`); lobes, insula and corpus callosum by a few
planes and boxes, set by hand after the sulci in MNI152.
The region that contains most of a candidate is named, a second one if it spans two, and "uncertain"
is added if the heads of the map disagree there. This suffices for the text beside an image, not for
planning.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import product
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, optimize

from lesionlens.analysis.findings import structures
from lesionlens.base.geometry import Mask, bounding_box
from lesionlens.base.grid import Grid
from lesionlens.base.records.findings import BOTH_SIDES, OUTSIDE_BRAIN, UNCERTAIN_PLACE, Location
from lesionlens.base.records.study import PreparedStudy
from lesionlens.imaging.preparation.checks import SIDES, flat_sides
from lesionlens.imaging.preparation.resampling import cube_means, cut_grid

Points = NDArray[np.float64]

LOBES = ("frontal lobe", "parietal lobe", "temporal lobe", "occipital lobe", "insula")
REGIONS = (
    *LOBES,
    "corpus callosum",
    "deep white matter",
    *structures.STRUCTURES[2:],
    OUTSIDE_BRAIN,
)
_HALF_WIDTH, _FRONT, _BACK, _TOP = 70.0, 72.0, -106.0, 79.0
"""Extents of the MNI152 brain in MNI mm: |x|, y, y, z."""
_SCALE_ENDS = frozenset({"upper", "front", "back"})
"""Ends of the brain that the scale is taken from.

Of 320 balls in five heads .83 have their region named; .66 with 18 mm of the vertex cut off, .41
with 36 mm, .48 with 30 mm of the back, .83 with 30 mm of a side and .84 with 40 mm below.
"""
_MIN_SIDE_FRACTION, _MIDLINE_MM = 0.85, 3.0
"""Minimum share of a candidate on one side for that side alone to be named, and half the width of
the band around the midline that counts for neither: without the band, 17 of 840 balls on one side
of ten straight heads were placed on both, 2 with it.
"""
_NOD_ANGLES = (-30.0, -25.0, -20.0, 20.0, 25.0, 30.0)
"""Degrees by which a nodding head is rotated back.

Of 160 balls in five heads nodding by 20 degrees either way .86 have their region named with it,
.62 without; less than that costs nothing. None of 19 real heads, stripped, is rotated.
"""
_MIN_GAIN = 0.02
"""Minimum gain of overlap with the map's brain by turning; heads nodding by 20 degrees gain .03."""
_MIN_COMPARED_Z, _MAX_COMPARED = -45.0, 16000
"""MNI z above which the brain is compared, and the number of its points."""
_COARSE_MM = 4.0
_MIDLINE_BOUNDS = np.array([40.0, 0.6, 0.6])
"""Bounds of the midline: mm from the brain's centre, and slopes; 31 degrees."""
_START_SLOPES = (0.0, -0.2, 0.2, -0.4, 0.4)
_INITIAL_STEPS = np.array([3.0, 0.1, 0.1])
"""Slopes among which the search for the midline starts, and its first steps: mm, and slopes."""
_SLOPE_PENALTY = 0.05
"""Cost of a slope of 1, as a share of the brain: a slope that the mask does not show stays 0."""
_MIN_SECOND, _MIN_SECOND_RELATIVE, _MIN_SINGLE = 0.25, 0.6, 0.6
"""Minimum share of a second region, absolute or relative to the first; and the share above which
only the first is named.
"""
_MIN_CONCENTRATED = 0.34
"""Share of the first region below which deep white matter may also be named."""
_MIN_AGREEMENT, _MIN_FIRST = 0.7, 0.2
"""Minimum agreement of the heads, and minimum share of the first region, for a location to be
certain: 930 of 960 balls in twenty heads.
"""
_MIN_MENTIONED = 0.12  # minimum share of a region that is named second
_SHARPENING = 2
"""Exponent of the heads' shares at a point: structures in most heads have more weight."""
_MIN_BRAIN_FRACTION = 0.05  # share of heads with brain below which a point is outside the brain
_MAX_SAMPLES = 4000


@dataclass(frozen=True, slots=True, eq=False)
class Head:
    """Transform from patient RAS mm to approximate MNI mm."""

    midline: Points
    """(3,) float64: a, b, c of the mid-sagittal plane x = a + b y + c z, RAS mm."""
    offset: Points
    scale: Points
    """(3,) float64: MNI = (p - offset) * scale, with x relative to the mid-sagittal plane."""
    whole: bool = True
    """Whether the front, back and top of the mask are those of the brain, not of a cut."""
    nod: Points | None = None
    """(3, 3) float64 or None: turn about the left-right axis, after which the head is upright."""

    def to_mni(self, points_mm: Points) -> Points:
        """Map (..., 3) RAS mm to approximate MNI mm."""
        return self.to_mni_of_upright(_upright(points_mm, self.midline))

    def to_mni_of_upright(self, upright_mm: Points) -> Points:
        """Map (..., 3) mm along the head's own axes, as `_upright` returns, to MNI mm."""
        rotated = upright_mm if self.nod is None else upright_mm @ self.nod.T
        return np.asarray((rotated - self.offset) * self.scale)


_head_by_study: WeakKeyDictionary[PreparedStudy, Head | None] = WeakKeyDictionary()
"""Cached, because every edit of an outline needs the transform and fitting takes .15 s."""


def head_of(prepared: PreparedStudy) -> Head | None:
    """Estimate the transform of a study; None if its brain is not outlined, or too small."""
    if not prepared.knows_brain:
        return None
    if prepared not in _head_by_study:
        _head_by_study[prepared] = find_head(prepared.brain, prepared.working)
    return _head_by_study[prepared]


def find_head(brain: Mask, grid: Grid) -> Head | None:
    """Estimate the transform from a brain mask.

    Parameters
    ----------
    brain : (I, J, K) bool
        On an axis-aligned RAS+ grid.

    Returns
    -------
    Head or None
        None if the mask is too small for a brain.
    """
    projection = brain.sum(axis=0)
    if np.count_nonzero(projection) < 50:
        return None
    cut = flat_sides(brain, float(grid.spacing_mm.min()))
    brain, grid = _cropped_at_cuts(cut, brain, grid)
    midline = _fit_midline(brain, grid)
    points = _upright(grid.to_mm(np.argwhere(brain[::2, ::2, ::2]) * 2), midline)
    upright_head = _scaled_head(midline, points, whole=not cut.keys() & _SCALE_ENDS)
    if upright_head is None or cut:
        return upright_head
    return _with_nod(upright_head, points, grid.volume_ml(brain))


def _scaled_head(
    midline: Points, points: Points, nod: Points | None = None, *, whole: bool = True
) -> Head | None:
    """Return the head of (N, 3) upright brain points; None if they are too few for a brain."""
    if nod is not None:
        points = points @ nod.T
    half_width = float(np.percentile(np.abs(points[:, 0]), 99.7))
    back_mm, front_mm = np.percentile(points[:, 1], (0.1, 99.9))
    top_mm = float(np.percentile(points[:, 2], 99.95))
    if half_width < 5 or front_mm - back_mm < 10:
        return None
    x_scale = _HALF_WIDTH / half_width
    y_scale = (_FRONT - _BACK) / (front_mm - back_mm)
    z_scale = (x_scale + y_scale) / 2
    offset = np.array([0.0, front_mm - _FRONT / y_scale, top_mm - _TOP / z_scale])
    return Head(midline, offset, np.array([x_scale, y_scale, z_scale]), whole, nod)


def _with_nod(upright_head: Head, points: Points, brain_ml: float) -> Head:
    """Return the head of (N, 3) upright brain points rotated back from a nod, if that fits better.

    The overlap of both brains is compared above the part that a field of view may cut off.
    """
    sample, reference_ml = points[:: max(1, len(points) // _MAX_COMPARED)], _map_brain_ml()

    def overlap(head: Head) -> float:
        mni = head.to_mni_of_upright(sample)
        mni = mni[mni[:, 2] > _MIN_COMPARED_Z]
        point_ml = brain_ml / len(sample) * float(head.scale.prod())
        shared_ml = point_ml * float(structures.shares_at(mni).sum())
        return 2 * shared_ml / (point_ml * len(mni) + reference_ml)

    best_nod, best_overlap = None, overlap(upright_head) + _MIN_GAIN
    for degrees in _NOD_ANGLES:
        c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
        nod = np.array([[1.0, 0.0, 0.0], [0.0, c, -s], [0.0, s, c]])
        head = _scaled_head(upright_head.midline, sample, nod)
        if head is not None and (value := overlap(head)) > best_overlap:
            best_nod, best_overlap = nod, value
    if best_nod is None:
        return upright_head
    return _scaled_head(upright_head.midline, points, best_nod) or upright_head


@cache
def _map_brain_ml() -> float:
    """Return the volume of the map's brain, both sides, that is compared."""
    positions = structures.grid_mni()
    total = structures.shares_at(positions[positions[:, 2] > _MIN_COMPARED_Z]).sum()
    return 2 * float(total) * structures.STEP_MM**3 / 1000


def _cropped_at_cuts(cut: Collection[str], brain: Mask, grid: Grid) -> tuple[Mask, Grid]:
    """Crop to the faces at which the brain is cut off, as `_fit_midline` expects them."""
    box = bounding_box(brain) if cut else None
    if box is None:
        return brain, grid
    i, j, k = (
        slice(side.start if low in cut else 0, side.stop if high in cut else size)
        for side, (low, high), size in zip(box, SIDES, grid.shape, strict=True)
    )
    return brain[i, j, k], cut_grid(grid, (i, j, k))


def _axes(midline: Points) -> Points:
    """Return unit vectors to the right, front and top of a head as rows of (3, 3)."""
    right = np.array([1.0, *-midline[1:]])
    right /= np.sqrt((right**2).sum())
    front = np.array([0.0, 1.0, 0.0]) - right[1] * right
    front /= np.sqrt((front**2).sum())
    return np.array([right, front, np.cross(right, front)])


def _upright(points_mm: Points, midline: Points) -> Points:
    """Turn (..., 3) RAS mm so that the first axis is the distance from the midline."""
    return np.asarray((points_mm - (midline[0], 0.0, 0.0)) @ _axes(midline).T)


def _mirrored(points_mm: Points, midline: Points) -> Points:
    right = _axes(midline)[0]
    distances = ((points_mm - (midline[0], 0.0, 0.0)) * right).sum(axis=1)
    return np.asarray(points_mm - 2 * distances[:, None] * right)


def _fit_midline(brain: Mask, grid: Grid) -> Points:
    """Fit x = a + b y + c z, mm, at which the mirrored brain overlaps the brain most.

    A brain that ends at a face of the grid is assumed to continue beyond it. In a low stack of
    slices a sideways tilt is poorly determined, so its penalty is higher.
    """
    edge = max(1, round(_COARSE_MM / float(grid.spacing_mm.max())))
    i, j, k = (slice(0, size) for size in grid.shape)
    fraction, coarse = cube_means(brain, grid, (i, j, k), edge)
    voxels = np.argwhere(fraction > 0)
    voxels = voxels[:: max(1, len(voxels) // _MAX_SAMPLES)]
    weights = fraction[tuple(voxels.T)]
    spacing, points = coarse.spacing_mm, voxels * coarse.spacing_mm
    centre = np.average(points, axis=0, weights=weights)
    points -= centre
    spread = np.sqrt(np.average(points**2, axis=0, weights=weights))
    penalty = _SLOPE_PENALTY * np.array([1.0, max(1.0, spread[0] / max(spread[2], 1.0)) ** 2])

    def cost(plane: Points) -> float:
        mirrored_voxels = (_mirrored(points, plane) + centre) / spacing
        mirrored = ndimage.map_coordinates(fraction, mirrored_voxels.T, order=1, mode="nearest")
        mismatch = 1 - np.minimum(mirrored, weights).sum() / weights.sum()
        return float(mismatch + (penalty * plane[1:] ** 2).sum())

    slope_pairs = product(_START_SLOPES, _START_SLOPES)
    rough = min((np.array([0.0, *slopes]) for slopes in slope_pairs), key=cost)
    simplex = rough + np.vstack([np.zeros(3), np.diag(_INITIAL_STEPS)])
    fit = optimize.minimize(
        cost,
        rough,
        method="Nelder-Mead",
        bounds=np.column_stack([-_MIDLINE_BOUNDS, _MIDLINE_BOUNDS]),
        options={"initial_simplex": simplex, "maxfev": 120, "xatol": 2e-3, "fatol": 1e-5},
    )
    slopes = fit.x[1:]
    centre += coarse.affine[:3, 3]
    return np.array([centre[0] + fit.x[0] - slopes @ centre[1:], *slopes])


def locate(points_mm: Points, head: Head | None) -> Location:
    """Return side and region that contain most of a candidate.

    Parameters
    ----------
    points_mm : (N, 3) float64
        Centres of its voxels, RAS mm; at least one.
    head : Head or None
        From `find_head`.

    Returns
    -------
    Location
        Both parts None without a head, the region None if the brain is not whole. Side is "left",
        "right" or, where less than 85% of what lies off the midline is on one, "both sides"; the
        patient's, as always in RAS: left is where x falls.
    """
    if head is None:
        return Location(None, None)
    step = max(1, len(points_mm) // _MAX_SAMPLES)
    mni = head.to_mni(np.asarray(points_mm[::step], dtype=np.float64))
    return Location(side_of(mni), region_text(*shares_of(mni)) if head.whole else None)


def side_of(mni_mm: Points) -> str:
    """Return the side of a set of points: left, right or both sides.

    Points within `_MIDLINE_MM` of the fitted mid-sagittal plane, its margin of error, count for
    neither side.

    Parameters
    ----------
    mni_mm : (N, 3) float64
        Approximate MNI152 mm; at least one.

    Examples
    --------
    >>> side_of(np.array([[-9.0, 0, 0], [-5, 0, 0], [1, 0, 0]])), side_of(np.array([[1.0, 0, 0]]))
    ('left', 'both sides')
    """
    left, right = (mni_mm[:, 0] < -_MIDLINE_MM).sum(), (mni_mm[:, 0] > _MIDLINE_MM).sum()
    if left + right < len(mni_mm) / 2 or max(left, right) < _MIN_SIDE_FRACTION * (left + right):
        return BOTH_SIDES
    return "left" if left > right else "right"


def shares_of(mni_mm: Points) -> tuple[dict[str, float], float]:
    """Return the shares of a set of points in each region, by the map of twenty heads.

    Parameters
    ----------
    mni_mm : (N, 3) float64
        Approximate MNI152 mm; at least one.

    Returns
    -------
    shares : dict of str to float
        Share of the points in each of `REGIONS`, largest first.
    agreement : float
        Mean agreement of the heads at the points: 0 to 1; 1 if all points are outside every head.
    """
    structure_fractions = structures.shares_at(mni_mm)
    brain, sharpened = structure_fractions.sum(axis=1), _sharpened(structure_fractions)
    weights = sharpened * np.minimum(brain, 1.0)[:, None]
    sums = dict.fromkeys(REGIONS, 0.0)
    cortical_index = cortical_of(mni_mm)
    for number, name in enumerate((*LOBES, *_WHITE_MATTER)):
        sums[name] = float(weights[cortical_index == number, 0].sum())
    for number, name in enumerate(structures.STRUCTURES[2:], start=1):
        sums[name] = float(weights[:, number].sum())
    inside = brain >= _MIN_BRAIN_FRACTION
    sums[OUTSIDE_BRAIN] = float((~inside).sum())
    total = sum(sums.values()) or 1.0
    ranked = sorted(sums.items(), key=lambda item: -item[1])
    agreement = float(sharpened[inside].max(axis=1).mean()) if inside.any() else 1.0
    return {name: value / total for name, value in ranked}, agreement


def _sharpened(fractions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return normalised shares (N, structures - 1), white matter with cortex first."""
    merged = np.column_stack([fractions[:, :2].sum(axis=1), fractions[:, 2:]]) ** _SHARPENING
    return np.asarray(merged / np.maximum(merged.sum(axis=1, keepdims=True), 1e-9))


def region_text(fractions: Mapping[str, float], agreement: float) -> str:
    """Return the region, or the two, that contain most of a candidate.

    Deep white matter between nuclei, which is in no lobe, is named only if it has the largest
    share. Ventricles, which an adjacent mass overlaps in the map, are second only from a quarter.
    `fractions` and `agreement` are those of `shares_of`.

    Examples
    --------
    >>> region_text({"temporal lobe": 0.5, "insula": 0.3, "ventricle": 0.2}, 0.9)
    'temporal lobe and insula'
    >>> region_text({"thalamus": 0.4, "deep white matter": 0.35, "ventricle": 0.25}, 0.9)
    'thalamus and ventricle'
    >>> region_text({"temporal lobe": 0.31, "frontal lobe": 0.15, "insula": 0.1}, 0.9)
    'temporal lobe'
    >>> region_text({"thalamus": 0.31, "hippocampus": 0.29, "deep white matter": 0.2}, 0.6)
    'thalamus and hippocampus (uncertain)'
    """
    ranked = [(name, fraction) for name, fraction in fractions.items() if fraction > 0]
    if ranked and ranked[0][1] >= _MIN_CONCENTRATED:
        ranked[1:] = [
            (name, fraction)
            for name, fraction in ranked[1:]
            if name != _DEEP_WHITE and (name != "ventricle" or fraction >= _MIN_SECOND)
        ]
    ranked += [(OUTSIDE_BRAIN, 0.0), ("", 0.0)]
    (first, first_fraction), (second, second_fraction), *_ = ranked
    min_second = min(_MIN_SECOND, max(_MIN_SECOND_RELATIVE * first_fraction, _MIN_MENTIONED))
    spans_two = first_fraction < _MIN_SINGLE and second_fraction >= min_second
    is_certain = agreement >= _MIN_AGREEMENT and first_fraction >= _MIN_FIRST
    text = f"{first} and {second}" if spans_two and OUTSIDE_BRAIN not in (first, second) else first
    return text if is_certain else text + UNCERTAIN_PLACE


_DEEP_WHITE = "deep white matter"
_WHITE_MATTER = ("corpus callosum", _DEEP_WHITE)
_SYLVIAN_END = 18.0
"""MNI z (mm) of the posterior end of the Sylvian fissure; behind it the temporal lobe ends at this
level.
"""


def cortical_of(mni_mm: Points) -> NDArray[np.intp]:
    """Return the lobe or region of white matter or cortex at (N, 3) MNI points, as an index.

    An index into `LOBES`, or beyond them corpus callosum and deep white matter; the first matching
    rule wins.

    Examples
    --------
    >>> [REGIONS[i] for i in cortical_of(np.array([[-44.0, 30, 30], [8, -88, 2], [2, 20, 12]]))]
    ['frontal lobe', 'occipital lobe', 'corpus callosum']
    """
    x, y, z = np.abs(mni_mm[:, 0]), mni_mm[:, 1], mni_mm[:, 2]
    sylvian_z = np.minimum(-8 - 0.55 * (y - 5), _SYLVIAN_END)
    arch = np.hypot((y + 4) / 40, (z - 2) / 24)
    rules = (
        ("corpus callosum", (x < 12) & (z > -4) & (arch > 0.72) & (arch < 1.05)),
        (_DEEP_WHITE, (x < 31) & (y > -36) & (y < 24) & (z > -12) & (z < 22)),
        ("insula", (x > 28) & (x < 49) & (y > -26) & (y < 26) & (z > -14) & (z < 20)),
        ("occipital lobe", y < -65 - 0.42 * z),
        ("temporal lobe", (x > 17) & (y < 22) & (z < sylvian_z)),
        ("frontal lobe", np.where(z > 5, y > 0.3 - 0.43 * z, y > -2)),
    )
    names = (*LOBES, *_WHITE_MATTER)
    index = np.full(len(mni_mm), names.index("parietal lobe"))
    for name, matches in reversed(rules):
        index[matches] = names.index(name)
    return index
