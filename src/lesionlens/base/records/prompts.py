"""Prompts of a reader, the request to an engine, and its response."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Annotated, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lesionlens.base.errors import UnusableInputError
from lesionlens.base.files.file_fields import STRICT, Decimals, stored_as
from lesionlens.base.geometry import Affine, Box, Shape3, filled_polygon, nearest
from lesionlens.base.labels import PromptKind, Region
from lesionlens.base.records.arrays import Volume, frozen

Voxel = tuple[int, int, int]
Points = NDArray[np.int64]
LOOK_MM = 48.0
"""A correction changes voxels within this distance of its prompts, along each axis."""
_MIN_CORNERS, _OF_A_LASSO, _SPINE, _BESIDE_VOX = 3, 24, 0.7, 3
_LARGEST = 20_000
"""Maximum number of prompted voxels."""


@dataclass(frozen=True, slots=True)
class Prompts:
    """A reader's prompts in voxels of the reference grid; replaying them gives the same outline."""

    points: tuple[tuple[Voxel, bool], ...] = ()
    """Voxels, each with True (foreground) or False (background)."""
    scribbles: tuple[tuple[tuple[Voxel, ...], bool], ...] = ()
    """Lines of voxels, each with True (foreground) or False (background)."""
    box: tuple[Voxel, Voxel] | None = None
    """Opposite corners, both included, of a box around the object; may be one slice thick."""
    lasso: tuple[Voxel, ...] = ()
    """Corners of a closed line around the object on one slice in any of the three directions."""
    region: Region | None = None
    """Region to segment; None for whatever object is at the prompts."""

    @classmethod
    def of(
        cls,
        points: Sequence[tuple[Sequence[int], bool]] = (),
        scribbles: Sequence[tuple[Sequence[Sequence[int]], bool]] = (),
        box: Sequence[Sequence[int]] | None = None,
        lasso: Sequence[Sequence[int]] = (),
        region: Region | str | None = None,
    ) -> Prompts:
        """Build prompts from plain sequences.

        Raises
        ------
        UnusableInputError
            A value is not a valid voxel, box or region.
        """
        try:
            return cls(
                tuple((_voxel(at), _kind(yes)) for at, yes in points),
                tuple((tuple(map(_voxel, line)), _kind(yes)) for line, yes in scribbles),
                None if box is None else _corners(*map(_voxel, box)),
                _closed(tuple(map(_voxel, lasso))),
                None if region is None else Region(region),
            )
        except (TypeError, ValueError, OverflowError) as error:
            raise _unreadable(str(error)) from error

    def voxels(self, belongs: bool) -> Points:
        """Return the (N, 3) foreground voxels, or the background ones.

        A box or a lasso marks its middle as foreground and its frame as background.
        """
        found = [at for at, yes in self.points if yes == belongs]
        found += [at for line, yes in self.scribbles if yes == belongs for at in line]
        if self.box is not None:
            found += _of_box(self.box, belongs)
        if self.lasso:
            found += _of_lasso(self.lasso, belongs)
        if len(found) > _LARGEST:
            raise UnusableInputError(
                found=f"{len(found)} voxels pointed at",
                expected=f"at most {_LARGEST}",
                next_step="Give an outline as `start` instead of a scribble over all of it",
            )
        return np.array(list(dict.fromkeys(found)), np.int64).reshape(-1, 3)

    def moved(self, index_map: Affine) -> Prompts:
        """Return the prompts in voxels of another grid whose voxels coincide with these."""

        def there(at: Voxel) -> Voxel:
            i, j, k = nearest(index_map, at).tolist()
            return i, j, k

        return Prompts(
            tuple((there(at), yes) for at, yes in self.points),
            tuple((tuple(map(there, line)), yes) for line, yes in self.scribbles),
            None if self.box is None else (there(self.box[0]), there(self.box[1])),
            tuple(map(there, self.lasso)),
            self.region,
        )

    def as_json(self) -> dict[str, Any]:
        """Return what `from_json` reads."""
        return {
            "points": [[list(at), yes] for at, yes in self.points],
            "scribbles": [[[list(at) for at in line], yes] for line, yes in self.scribbles],
            "box": None if self.box is None else [list(corner) for corner in self.box],
            "lasso": [list(at) for at in self.lasso],
            "region": None if self.region is None else self.region.value,
        }

    @classmethod
    def from_json(cls, values: object) -> Prompts:
        """Read what `as_json` wrote.

        Raises
        ------
        UnusableInputError
            They are none, or a value is not a valid voxel, box or region.
        """
        held: Mapping[str, Any] = values if isinstance(values, Mapping) else {}
        missing = {"points", "scribbles", "box", "region"} - set(held)
        if missing:
            raise _unreadable(f"without {', '.join(sorted(missing))}")
        lasso = held.get("lasso", ())
        return cls.of(held["points"], held["scribbles"], held["box"], lasso, held["region"])


def _unreadable(why: str) -> UnusableInputError:
    return UnusableInputError(
        found=f"prompts that cannot be read ({why})",
        expected="points=[((i, j, k), True)], scribbles=[([(i, j, k), ...], True)], "
        "box=((i, j, k), (i, j, k)), lasso=[(i, j, k), ...] on one slice, region 'wt', "
        "'tc' or 'et'",
        next_step="Give voxels of the reference grid, counted from 0",
    )


def _voxel(at: Sequence[int]) -> Voxel:
    i, j, k = at
    if any(int(v) != v for v in (i, j, k)):
        raise ValueError(f"{tuple(at)} is no voxel")
    return int(i), int(j), int(k)


def _kind(foreground: object) -> bool:
    """Return True or False; a word such as "no" would be true."""
    if not isinstance(foreground, (bool, np.bool_, int, np.integer)) or foreground not in (0, 1):
        raise ValueError(f"{foreground!r} is neither True nor False")
    return bool(foreground)


def _of_box(box: tuple[Voxel, Voxel], belongs: bool) -> list[Voxel]:
    low = tuple(min(a, b) for a, b in zip(*box, strict=True))
    high = tuple(max(a, b) for a, b in zip(*box, strict=True))
    if belongs:
        i, j, k = ((a + b) // 2 for a, b in zip(low, high, strict=True))
        return [(i, j, k)]
    thick = [a != b for a, b in zip(low, high, strict=True)]  # a slice has no frame across it
    edges = [
        (a - 1, (a + b) // 2, b + 1) if wide else (a,)
        for a, b, wide in zip(low, high, thick, strict=True)
    ]
    middle = tuple(edge[len(edge) // 2] for edge in edges)
    return [(i, j, k) for i, j, k in product(*edges) if (i, j, k) != middle]


def _corners(one: Voxel, other: Voxel) -> tuple[Voxel, Voxel]:
    return one, other


def _closed(line: tuple[Voxel, ...]) -> tuple[Voxel, ...]:
    if line and (len(set(line)) < _MIN_CORNERS or min(np.ptp(np.array(line), axis=0)) > 0):
        raise ValueError("a lasso has three corners or more, all on one slice")
    return line


def _of_lasso(line: tuple[Voxel, ...], belongs: bool) -> list[Voxel]:
    """Return the medial voxels inside a lasso, or a ring just outside."""
    corners = np.array(line)
    across = int(np.argmin(np.ptp(corners, axis=0)))
    axes = [axis for axis in range(3) if axis != across]
    low = corners[:, axes].min(0) - _BESIDE_VOX - 1
    shape = np.ptp(corners[:, axes], axis=0) + 2 * _BESIDE_VOX + 3
    inside = _polygon(corners[:, axes] - low, (int(shape[0]), int(shape[1])))
    if belongs:
        deep = ndimage.distance_transform_edt(inside)
        chosen = deep >= max(_SPINE * float(deep.max()), 1.0)
    else:
        beside = ndimage.binary_dilation(inside, iterations=_BESIDE_VOX)
        chosen = beside & ~ndimage.binary_dilation(inside, iterations=_BESIDE_VOX - 1)
    places = np.argwhere(chosen)[:: max(1, int(chosen.sum()) // _OF_A_LASSO)] + low
    whole = np.insert(places, across, corners[0, across], axis=1)
    return [(i, j, k) for i, j, k in whole.tolist()]


def _polygon(corners: NDArray[np.int64], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Fill a closed line on a slice: even-odd rule at voxel centres, border included."""
    out = filled_polygon(corners, shape)
    for (a, b), (c, d) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        steps = int(max(abs(c - a), abs(d - b))) + 1
        along = np.rint(np.linspace((a, b), (c, d), steps)).astype(int)
        out[tuple(along.T)] = True
    return out


@dataclass(frozen=True, slots=True)
class PromptRound:
    """One prompt of a reader in the window, in voxels of the working grid."""

    __pydantic_config__: ClassVar = STRICT | stored_as(foreground="wanted", background="unwanted")

    kind: PromptKind
    foreground: tuple[Voxel, ...]
    """All foreground voxels so far that hold for the region."""
    background: tuple[Voxel, ...]
    """All background voxels so far that hold for the region."""
    region: Region | None
    """The intended region; None for the object at the prompts."""
    paint: int
    """`base.labels.Label` for added voxels without a predicted label."""
    seconds: Annotated[float, Decimals(1, 0.0)]
    """Seconds since the outline was begun."""
    made_by: str = ""
    """As in `PromptResponse`; empty in reviews of earlier releases."""


def prompts_in_words(rounds: Sequence[PromptRound]) -> str:
    """Return number, kinds and duration of the prompts in words; empty for none.

    Examples
    --------
    >>> one = PromptRound(PromptKind.POINT, ((1, 2, 3),), (), Region.WT, 2, 4.5)
    >>> prompts_in_words([one, one])
    '2 prompts (2 point), 4.5 s, for the whole tumour'
    """
    if not rounds:
        return ""
    kinds = Counter(one.kind.value for one in rounds)
    each = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
    named = dict.fromkeys(one.region.display_name for one in rounds if one.region is not None)
    meant = f", for the {' and the '.join(named)}" if named else ""
    plural = "" if len(rounds) == 1 else "s"
    return f"{len(rounds)} prompt{plural} ({each}), {rounds[-1].seconds:g} s{meant}"


@dataclass(frozen=True, slots=True, eq=False)
class PromptRequest:
    """A request to segment from prompts, in voxels of one grid."""

    foreground: Points
    """(N, 3): foreground."""
    background: Points
    """(M, 3): background."""
    outline: NDArray[np.bool_] | None = None
    """(I, J, K): the current outline; None to begin without one."""
    region: Region | None = None
    """The intended region; None for the object at the prompts."""


@dataclass(frozen=True, slots=True, eq=False)
class PromptResponse:
    """An engine's response on a box of the grid; outside it the outline does not change."""

    box: Box
    """The non-empty box of the grid that the arrays cover."""
    probability: NDArray[np.float32]
    """(i, j, k): 0 to 1; the mask is probability >= 0.5."""
    attention: NDArray[np.float32]
    """(i, j, k): cross-attention of the prompts, sum 1."""
    settled: NDArray[np.bool_]
    """(i, j, k): voxels that could not change because the outline there is kept."""
    made_by: str = ""
    """Release and networks that may answer, with their weights; others may answer otherwise."""

    def mask_over(self, outline: NDArray[np.bool_] | None, shape: Shape3) -> NDArray[np.bool_]:
        """Return the mask on the whole grid; outside the box it is the previous outline."""
        out = np.zeros(shape, bool) if outline is None else outline.copy()
        out[self.box] = self.probability >= 0.5
        return out


@dataclass(frozen=True, slots=True, eq=False)
class PromptedVolume(Volume):
    """The probability of the prompted object; the mask is `data >= 0.5`."""

    attention: Volume
    """Cross-attention of the prompts, 0 to 1, maximum 1."""
    prompts: Prompts
    """The prompts; with the same start they give the same voxels."""
    made_by: str = ""
    """As in `PromptResponse`."""

    @property
    def mask(self) -> NDArray[np.bool_]:
        """(I, J, K) bool."""
        return frozen(self.data >= 0.5)
