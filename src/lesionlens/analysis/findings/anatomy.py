"""Side and anatomical region of a candidate by approximate maps in MNI space.

The brain mask alone places the head: the mid-sagittal plane is the one at which the mask mirrored
fits itself best (so it follows a turned or tilted head, and mass effect inside does not move it),
then the brain is turned upright by it and scaled onto the MNI152 brain by width, length and top.
The lower end is not used, because a field of view often cuts it; if the front, the back or the top
is cut, no region is named. Deep structures, cerebellum, brainstem and ventricles are named by how
many of twenty heads show them there (`structures`); lobes, insula and corpus callosum by a few
planes and boxes, set by hand after the sulci in MNI152.
What holds most of a candidate is named, a second place where it spans two, and "uncertain" where
the heads of the map disagree about what lies there: good for words beside a picture, not for
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
from lesionlens.base.geometry import bounding_box
from lesionlens.base.grid import Grid
from lesionlens.base.records.findings import BOTH_SIDES, OUTSIDE_BRAIN, UNCERTAIN_PLACE, Location
from lesionlens.base.records.study import PreparedStudy
from lesionlens.imaging.preparation.checks.quality import SIDES, flat_sides
from lesionlens.imaging.preparation.resampling import cube_means, cut_grid

Mask = NDArray[np.bool_]
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
_SET_THE_SCALE = frozenset({"upper", "front", "back"})
"""Ends of the brain that the scale is taken from.

Of 320 balls in five heads .83 have their region named; .66 with 18 mm of the vertex cut off, .41
with 36 mm, .48 with 30 mm of the back, .83 with 30 mm of a side and .84 with 40 mm below.
"""
_ONE_SIDE, _MIDLINE_MM = 0.85, 3.0
"""Minimum share of a candidate on one side for that side alone to be named, and half the width of
the band around the midline that counts for neither: without the band, 17 of 840 balls on one side
of ten straight heads were placed on both, 2 with it.
"""
_NODS = (-30.0, -25.0, -20.0, 20.0, 25.0, 30.0)
"""Degrees by which a nodding head is turned back.

Of 160 balls in five heads nodding by 20 degrees either way .86 have their region named with it,
.62 without; less than that costs nothing. None of 19 real heads, stripped, is turned.
"""
_MIN_GAIN = 0.02
"""Minimum gain of overlap with the map's brain by turning; heads nodding by 20 degrees gain .03."""
_FITTED_ABOVE, _COMPARED = -45.0, 16000
"""MNI z above which the brain is compared, and the number of its points."""
_COARSE_MM = 4.0
_FARTHEST = np.array([40.0, 0.6, 0.6])
"""Bounds of the midline: mm from the brain's centre, and slopes; 31 degrees."""
_TRIED = (0.0, -0.2, 0.2, -0.4, 0.4)
_FIRST_STEPS = np.array([3.0, 0.1, 0.1])
"""Slopes among which the search for the midline starts, and its first steps: mm, and slopes."""
_STIFF = 0.05
"""Cost of a slope of 1, as a share of the brain: a slope that the mask does not show stays 0."""
_BOTH, _BESIDE, _ALONE = 0.25, 0.6, 0.6
"""Minimum share of a second region, absolute or relative to the first; and the share above which
only the first is named.
"""
_SPREAD = 0.34
"""Share of the first region below which deep white matter may also be named."""
_AGREED, _MIN_SHARE = 0.7, 0.2
"""Minimum agreement of the heads, and minimum share of the first region, for a location to be
certain: 930 of 960 balls in twenty heads.
"""
_MENTIONED = 0.12  # minimum share of a region that is named second
_SHARPER = 2
"""Exponent of the heads' shares at a point: structures in most heads have more weight."""
_MIN_BRAIN_SHARE = 0.05  # share of heads with brain below which a point is outside the brain
_SAMPLES = 4000


@dataclass(frozen=True, slots=True, eq=False)
class Head:
    """Transform from patient RAS mm to approximate MNI mm."""

    midline: Points
    """(3,) float64: a, b, c of the mid-sagittal plane x = a + b y + c z, RAS mm."""
    offset: Points
    scale: Points
    """(3,) float64: MNI = (p - offset) * scale, with x relative to the mid-sagittal plane."""
    whole: bool = True
    """Whether the brain's own front, back and top set the scale, not a cut that ends it there."""
    nod: Points | None = None
    """(3, 3) float64 or None: turn about the left-right axis, after which the head is upright."""

    def to_mni(self, points_mm: Points) -> Points:
        """Map (..., 3) RAS mm to approximate MNI mm."""
        return self.to_mni_of_upright(_upright(points_mm, self.midline))

    def to_mni_of_upright(self, upright_mm: Points) -> Points:
        """Map (..., 3) mm along the head's own axes, as `_upright` returns, to MNI mm."""
        turned = upright_mm if self.nod is None else upright_mm @ self.nod.T
        return np.asarray((turned - self.offset) * self.scale)

    def mirrored(self, points_mm: Points) -> Points:
        """Mirror (N, 3) RAS mm at the mid-sagittal plane."""
        return _mirrored(points_mm, self.midline)


_heads: WeakKeyDictionary[PreparedStudy, Head | None] = WeakKeyDictionary()
"""Of each prepared study in memory: every edit of an outline needs it, and fitting takes .15 s."""


def head_of(prepared: PreparedStudy) -> Head | None:
    """Estimate the transform of a study; None if its brain is not outlined, or too small."""
    if not prepared.knows_brain:
        return None
    if prepared not in _heads:
        _heads[prepared] = find_head(prepared.brain, prepared.working)
    return _heads[prepared]


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
    rows = brain.sum(axis=0)
    if np.count_nonzero(rows) < 50:
        return None
    cut = flat_sides(brain, float(grid.spacing_mm.min()))
    brain, grid = _up_to(cut, brain, grid)
    midline = _fit_midline(brain, grid)
    points = _upright(grid.to_mm(np.argwhere(brain[::2, ::2, ::2]) * 2), midline)
    straight = _scaled_head(midline, points, whole=not cut.keys() & _SET_THE_SCALE)
    if straight is None or cut:
        return straight
    return _lifted(straight, points, grid.volume_ml(brain))


def _scaled_head(
    midline: Points, points: Points, nod: Points | None = None, *, whole: bool = True
) -> Head | None:
    """Return the head of (N, 3) upright brain points; None if they are too few for a brain."""
    if nod is not None:
        points = points @ nod.T
    half_width = float(np.percentile(np.abs(points[:, 0]), 99.7))
    back, front = np.percentile(points[:, 1], (0.1, 99.9))
    top = float(np.percentile(points[:, 2], 99.95))
    if half_width < 5 or front - back < 10:
        return None
    wide = _HALF_WIDTH / half_width
    long = (_FRONT - _BACK) / (front - back)
    high = (wide + long) / 2
    offset = np.array([0.0, front - _FRONT / long, top - _TOP / high])
    return Head(midline, offset, np.array([wide, long, high]), whole, nod)


def _lifted(straight: Head, points: Points, brain_ml: float) -> Head:
    """Return the head of (N, 3) upright brain points turned back from a nod, if that fits better.

    Compared is the overlap of the brain with that of the map, above what a field of view cuts.
    """
    few, map_ml = points[:: max(1, len(points) // _COMPARED)], _map_ml()

    def overlap(head: Head) -> float:
        mni = head.to_mni_of_upright(few)
        mni = mni[mni[:, 2] > _FITTED_ABOVE]
        each_ml = brain_ml / len(few) * float(head.scale.prod())
        return 2 * each_ml * float(structures.shares_at(mni).sum()) / (each_ml * len(mni) + map_ml)

    best, most = None, overlap(straight) + _MIN_GAIN
    for degrees in _NODS:
        c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
        nod = np.array([[1.0, 0.0, 0.0], [0.0, c, -s], [0.0, s, c]])
        head = _scaled_head(straight.midline, few, nod)
        if head is not None and (found := overlap(head)) > most:
            best, most = nod, found
    lifted = None if best is None else _scaled_head(straight.midline, points, best)
    return lifted or straight


@cache
def _map_ml() -> float:
    """Return the volume of the map's brain, both sides, that is compared."""
    at = structures.grid_mni()
    in_map = structures.shares_at(at[at[:, 2] > _FITTED_ABOVE]).sum()
    return 2 * float(in_map) * structures.STEP_MM**3 / 1000


def _up_to(cut: Collection[str], brain: Mask, grid: Grid) -> tuple[Mask, Grid]:
    """Crop to the faces at which the brain is cut off, as `_fit_midline` expects them."""
    around = bounding_box(brain) if cut else None
    if around is None:
        return brain, grid
    i, j, k = (
        slice(found.start if low in cut else 0, found.stop if high in cut else size)
        for found, (low, high), size in zip(around, SIDES, grid.shape, strict=True)
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
    across = ((points_mm - (midline[0], 0.0, 0.0)) * right).sum(axis=1)
    return np.asarray(points_mm - 2 * across[:, None] * right)


def _fit_midline(brain: Mask, grid: Grid) -> Points:
    """Fit x = a + b y + c z, mm, at which the mirrored brain overlaps the brain most.

    A brain that ends at a face of the grid is assumed to go on beyond it. A tilt to the side shows
    little in a low stack of slices, so it must gain more there.
    """
    edge = max(1, round(_COARSE_MM / float(grid.spacing_mm.max())))
    i, j, k = (slice(0, size) for size in grid.shape)
    share, coarse = cube_means(brain, grid, (i, j, k), edge)
    voxels = np.argwhere(share > 0)
    voxels = voxels[:: max(1, len(voxels) // _SAMPLES)]
    held = share[tuple(voxels.T)]
    spacing, points = coarse.spacing_mm, voxels * coarse.spacing_mm
    centre = np.average(points, axis=0, weights=held)
    points -= centre
    spread = np.sqrt(np.average(points**2, axis=0, weights=held))
    stiff = _STIFF * np.array([1.0, max(1.0, spread[0] / max(spread[2], 1.0)) ** 2])

    def cost(plane: Points) -> float:
        at = (_mirrored(points, plane) + centre) / spacing
        there = ndimage.map_coordinates(share, at.T, order=1, mode="nearest")
        lost = 1 - np.minimum(there, held).sum() / held.sum()
        return float(lost + (stiff * plane[1:] ** 2).sum())

    rough = min((np.array([0.0, *slopes]) for slopes in product(_TRIED, _TRIED)), key=cost)
    start = rough + np.vstack([np.zeros(3), np.diag(_FIRST_STEPS)])
    found = optimize.minimize(
        cost,
        rough,
        method="Nelder-Mead",
        bounds=np.column_stack([-_FARTHEST, _FARTHEST]),
        options={"initial_simplex": start, "maxfev": 120, "xatol": 2e-3, "fatol": 1e-5},
    )
    slopes = found.x[1:]
    centre += coarse.affine[:3, 3]
    return np.array([centre[0] + found.x[0] - slopes @ centre[1:], *slopes])


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
        "right" or, where less than 85 % of what lies off the midline is on one, "both sides"; the
        patient's, as always in RAS: left is where x falls.
    """
    if head is None:
        return Location(None, None)
    step = max(1, len(points_mm) // _SAMPLES)
    mni = head.to_mni(np.asarray(points_mm[::step], dtype=np.float64))
    return Location(side_of(mni), region_words(*shares_of(mni)) if head.whole else None)


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
    if left + right < len(mni_mm) / 2 or max(left, right) < _ONE_SIDE * (left + right):
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
    shown = structures.shares_at(mni_mm)
    brain, sharpened = shown.sum(axis=1), _sharpened(shown)
    held = sharpened * np.minimum(brain, 1.0)[:, None]
    found = dict.fromkeys(REGIONS, 0.0)
    whose = cortical_of(mni_mm)
    for number, name in enumerate((*LOBES, *_WHITE)):
        found[name] = float(held[whose == number, 0].sum())
    for number, name in enumerate(structures.STRUCTURES[2:], start=1):
        found[name] = float(held[:, number].sum())
    inside = brain >= _MIN_BRAIN_SHARE
    found[OUTSIDE_BRAIN] = float((~inside).sum())
    total = sum(found.values()) or 1.0
    ranked = sorted(found.items(), key=lambda item: -item[1])
    agreement = float(sharpened[inside].max(axis=1).mean()) if inside.any() else 1.0
    return {name: share / total for name, share in ranked}, agreement


def _sharpened(shown: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return normalised shares (N, structures - 1), white matter with cortex first."""
    whole = np.column_stack([shown[:, :2].sum(axis=1), shown[:, 2:]]) ** _SHARPER
    return np.asarray(whole / np.maximum(whole.sum(axis=1, keepdims=True), 1e-9))


def region_words(shares: Mapping[str, float], agreement: float) -> str:
    """Return the region, or the two, that contain most of a candidate.

    Deep white matter between nuclei, which is in no lobe, is named only if it has the largest
    share. Ventricles, which an adjacent mass overlaps in the map, are second only from a quarter.

    Parameters
    ----------
    shares, agreement : mapping of str to float, and float
        As from `shares_of`.

    Examples
    --------
    >>> region_words({"temporal lobe": 0.5, "insula": 0.3, "ventricle": 0.2}, 0.9)
    'temporal lobe and insula'
    >>> region_words({"thalamus": 0.4, "deep white matter": 0.35, "ventricle": 0.25}, 0.9)
    'thalamus and ventricle'
    >>> region_words({"temporal lobe": 0.31, "frontal lobe": 0.15, "insula": 0.1}, 0.9)
    'temporal lobe'
    >>> region_words({"thalamus": 0.31, "hippocampus": 0.29, "deep white matter": 0.2}, 0.6)
    'thalamus and hippocampus (uncertain)'
    """
    ranked = [(name, share) for name, share in shares.items() if share > 0]
    if ranked and ranked[0][1] >= _SPREAD:
        ranked[1:] = [
            (name, share)
            for name, share in ranked[1:]
            if name != _DEEP and (name != "ventricle" or share >= _BOTH)
        ]
    (first, most), (second, next_most) = (*ranked, (OUTSIDE_BRAIN, 0.0), ("", 0.0))[:2]
    spans = most < _ALONE and next_most >= min(_BOTH, max(_BESIDE * most, _MENTIONED))
    sure = agreement >= _AGREED and most >= _MIN_SHARE
    words = f"{first} and {second}" if spans and OUTSIDE_BRAIN not in (first, second) else first
    return words if sure else words + UNCERTAIN_PLACE


_DEEP = "deep white matter"
_WHITE = ("corpus callosum", _DEEP)
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
    sylvian = np.minimum(-8 - 0.55 * (y - 5), _SYLVIAN_END)
    arch = np.hypot((y + 4) / 40, (z - 2) / 24)
    rules = (
        ("corpus callosum", (x < 12) & (z > -4) & (arch > 0.72) & (arch < 1.05)),
        (_DEEP, (x < 31) & (y > -36) & (y < 24) & (z > -12) & (z < 22)),
        ("insula", (x > 28) & (x < 49) & (y > -26) & (y < 26) & (z > -14) & (z < 20)),
        ("occipital lobe", y < -65 - 0.42 * z),
        ("temporal lobe", (x > 17) & (y < 22) & (z < sylvian)),
        ("frontal lobe", np.where(z > 5, y > 0.3 - 0.43 * z, y > -2)),
    )
    names = (*LOBES, *_WHITE)
    found = np.full(len(mni_mm), names.index("parietal lobe"))
    for name, holds in reversed(rules):
        found[holds] = names.index(name)
    return found
