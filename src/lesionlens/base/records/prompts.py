"""Prompts of a reader, the request to an engine, and its response."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from typing import Annotated, Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lesionlens.base.arguments import brief
from lesionlens.base.errors import UnusableInputError
from lesionlens.base.geometry import Affine, Box, Shape3, nearest, winding_numbers
from lesionlens.base.labels import PromptKind, Region
from lesionlens.base.model import STRICT, Decimals, stored_as
from lesionlens.base.records.arrays import Volume, frozen

T = TypeVar("T")
Voxel = tuple[int, int, int]
Points = NDArray[np.int64]
CORRECTION_RADIUS_MM = 48.0
"""A correction changes voxels within this distance of its prompts, along each axis."""
_MIN_CORNERS, _LASSO_POINTS, _MEDIAL_FRACTION, _RING_DISTANCE_VOX = 3, 24, 0.7, 3
_MAX_VOXELS = 20_000
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
                tuple((_voxel(voxel), foreground) for voxel, foreground in _with_kinds(points)),
                tuple(
                    (tuple(map(_voxel, line)), foreground)
                    for line, foreground in _with_kinds(scribbles)
                ),
                None if box is None else _box_corners(tuple(map(_voxel, box))),
                _checked_lasso(tuple(map(_voxel, lasso))),
                None if region is None else Region(region),
            )
        except (TypeError, ValueError, OverflowError) as error:
            raise _unreadable(str(error)) from error

    def voxels(self, *, foreground: bool) -> Points:
        """Return the (N, 3) foreground voxels, or the background ones.

        A box or a lasso marks its centre as foreground and its frame as background.
        """
        voxels = [voxel for voxel, is_foreground in self.points if is_foreground == foreground]
        voxels += [
            voxel
            for line, is_foreground in self.scribbles
            if is_foreground == foreground
            for voxel in line
        ]
        if self.box is not None:
            voxels += _box_voxels(self.box, foreground=foreground)
        if self.lasso:
            voxels += _lasso_voxels(self.lasso, foreground=foreground)
        if len(voxels) > _MAX_VOXELS:
            raise UnusableInputError(
                f"The prompts mark {len(voxels)} voxels; at most {_MAX_VOXELS} are taken.",
                hint="Give an outline as `start` instead of a scribble over all of it.",
            )
        return np.array(list(dict.fromkeys(voxels)), np.int64).reshape(-1, 3)

    def moved(self, index_map: Affine) -> Prompts:
        """Return the prompts in voxels of another grid whose voxels coincide with these."""

        def to_other_grid(voxel: Voxel) -> Voxel:
            i, j, k = nearest(index_map, voxel).tolist()
            return i, j, k

        return Prompts(
            tuple((to_other_grid(voxel), foreground) for voxel, foreground in self.points),
            tuple(
                (tuple(map(to_other_grid, line)), foreground) for line, foreground in self.scribbles
            ),
            None if self.box is None else (to_other_grid(self.box[0]), to_other_grid(self.box[1])),
            tuple(map(to_other_grid, self.lasso)),
            self.region,
        )

    def as_json(self) -> dict[str, Any]:
        """Return what `from_json` reads."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: object) -> Prompts:
        """Read what `as_json` wrote.

        Raises
        ------
        UnusableInputError
            `values` are not prompts, or a value is not a valid voxel, box or region.
        """
        fields: Mapping[str, Any] = values if isinstance(values, Mapping) else {}
        missing = {"points", "scribbles", "box", "region"} - set(fields)
        if missing:
            raise _unreadable(f"without {', '.join(sorted(missing))}")
        lasso = fields.get("lasso", ())
        return cls.of(fields["points"], fields["scribbles"], fields["box"], lasso, fields["region"])


def _unreadable(reason: str) -> UnusableInputError:
    return UnusableInputError(
        f"These prompts cannot be read: {reason}.",
        hint="Give voxels of the reference grid, counted from 0: points=[((i, j, k), True)], "
        "scribbles=[([(i, j, k), ...], True)], box=((i, j, k), (i, j, k)), lasso=[(i, j, k), ...] "
        "on one slice, region 'wt', 'tc' or 'et'.",
    )


def _voxel(index: Sequence[int]) -> Voxel:
    try:
        numbers = tuple(index)
        i, j, k = map(int, numbers)
        if (i, j, k) == numbers:
            return i, j, k
    except (TypeError, ValueError, OverflowError):
        pass
    raise ValueError(f"{brief(index)}, is not a voxel")


def _with_kinds(prompts: Iterable[tuple[T, bool]]) -> Iterator[tuple[T, bool]]:
    """Yield points or lines, each with True or False.

    Raises
    ------
    ValueError
        An item is not such a pair.
    """
    for item in prompts:
        try:
            prompt, foreground = item
        except (TypeError, ValueError) as error:
            raise ValueError(f"{brief(item)}, does not come with True or False") from error
        yield prompt, _kind(foreground)


def _kind(foreground: object) -> bool:
    """Return True or False; refuse text, as bool("no") is True."""
    if not isinstance(foreground, (bool, np.bool_, int, np.integer)) or foreground not in (0, 1):
        raise ValueError(f"{foreground!r} is neither True nor False")
    return bool(foreground)


def _box_voxels(box: tuple[Voxel, Voxel], *, foreground: bool) -> list[Voxel]:
    low = tuple(min(a, b) for a, b in zip(*box, strict=True))
    high = tuple(max(a, b) for a, b in zip(*box, strict=True))
    if foreground:
        i, j, k = ((a + b) // 2 for a, b in zip(low, high, strict=True))
        return [(i, j, k)]
    extended = [a != b for a, b in zip(low, high, strict=True)]  # a slice has no frame across it
    edges = [
        (a - 1, (a + b) // 2, b + 1) if is_wide else (a,)
        for a, b, is_wide in zip(low, high, extended, strict=True)
    ]
    centre = tuple(edge[len(edge) // 2] for edge in edges)
    return [(i, j, k) for i, j, k in product(*edges) if (i, j, k) != centre]


def _box_corners(corners: tuple[Voxel, ...]) -> tuple[Voxel, Voxel]:
    if len(corners) != 2:
        raise ValueError(f"a box has two opposite corners, not {len(corners)}")
    return corners


def _checked_lasso(line: tuple[Voxel, ...]) -> tuple[Voxel, ...]:
    if line and (len(set(line)) < _MIN_CORNERS or min(np.ptp(np.array(line), axis=0)) > 0):
        raise ValueError("a lasso has three corners or more, all on one slice")
    return line


def _lasso_voxels(line: tuple[Voxel, ...], *, foreground: bool) -> list[Voxel]:
    """Return the medial voxels inside a lasso, or a ring just outside.

    A straight line has no ring: it encloses nothing, and along an axis it lies on two slices.
    """
    corners = np.array(line)
    if not foreground and np.linalg.matrix_rank(corners - corners[0]) < 2:
        return []
    normal_axis = int(np.argmin(np.ptp(corners, axis=0)))
    axes = [axis for axis in range(3) if axis != normal_axis]
    origin = corners[:, axes].min(0) - _RING_DISTANCE_VOX - 1
    shape = np.ptp(corners[:, axes], axis=0) + 2 * _RING_DISTANCE_VOX + 3
    inside = _polygon_mask(corners[:, axes] - origin, (int(shape[0]), int(shape[1])))
    if foreground:
        depth = ndimage.distance_transform_edt(inside)
        selected = depth >= max(_MEDIAL_FRACTION * float(depth.max()), 1.0)
    else:
        dilated = ndimage.binary_dilation(inside, iterations=_RING_DISTANCE_VOX)
        selected = dilated & ~ndimage.binary_dilation(inside, iterations=_RING_DISTANCE_VOX - 1)
    pixels = np.argwhere(selected)[:: max(1, int(selected.sum()) // _LASSO_POINTS)] + origin
    voxels = np.insert(pixels, normal_axis, corners[0, normal_axis], axis=1)
    return [(i, j, k) for i, j, k in voxels.tolist()]


def _polygon_mask(corners: NDArray[np.int64], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Fill a closed line on a slice, also where it crosses or repeats itself; border included."""
    filled = np.asarray(winding_numbers(corners, shape), bool)
    for (a, b), (c, d) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        steps = int(max(abs(c - a), abs(d - b))) + 1
        pixels = np.rint(np.linspace((a, b), (c, d), steps)).astype(int)
        filled[tuple(pixels.T)] = True
    return filled


@dataclass(frozen=True, slots=True)
class PromptRound:
    """One prompt of a reader as it was given, in voxels of the working grid."""

    __pydantic_config__: ClassVar = STRICT | stored_as(foreground="wanted", background="unwanted")

    kind: PromptKind
    foreground: tuple[Voxel, ...]
    """Foreground voxels."""
    background: tuple[Voxel, ...]
    """Background voxels."""
    region: Region | None
    """The intended region; None for the object at the prompts."""
    paint: int
    """`base.labels.Label` for added voxels without a predicted label."""
    seconds: Annotated[float, Decimals(1, 0.0)]
    """Seconds since work on the outline started."""
    made_by: str = ""
    """As in `PromptResponse`."""


def prompts_text(edits: Sequence[Sequence[PromptRound]]) -> str:
    """Return number, kinds and duration of the prompts of all edits in words; empty for none.

    Examples
    --------
    >>> point = PromptRound(PromptKind.POINT, ((1, 2, 3),), (), Region.WT, 2, 4.5)
    >>> prompts_text([[point, point]])
    '2 prompts (2 point), 4.5 s, for the whole tumour'
    """
    rounds = [prompt_round for edit in edits for prompt_round in edit]
    if not rounds:
        return ""
    kinds = Counter(prompt_round.kind.value for prompt_round in rounds)
    counts = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
    regions = dict.fromkeys(
        prompt_round.region.display_name
        for prompt_round in rounds
        if prompt_round.region is not None
    )
    purpose = f", for the {' and the '.join(regions)}" if regions else ""
    plural = "" if len(rounds) == 1 else "s"
    seconds = round(sum(edit[-1].seconds for edit in edits if edit), 1)
    return f"{len(rounds)} prompt{plural} ({counts}), {seconds:g} s{purpose}"


@dataclass(frozen=True, slots=True, eq=False)
class PromptRequest:
    """A request to segment from prompts, in voxels of one grid."""

    foreground: Points
    """(N, 3): foreground."""
    background: Points
    """(M, 3): background."""
    outline: NDArray[np.bool_] | None = None
    """(I, J, K): the current outline; None to start without one."""
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
    """Release and networks, with their weights; others may return other voxels."""

    def mask_over(self, outline: NDArray[np.bool_] | None, shape: Shape3) -> NDArray[np.bool_]:
        """Return the mask on the whole grid; outside the box it is the previous outline."""
        mask = np.zeros(shape, bool) if outline is None else outline.copy()
        mask[self.box] = self.probability >= 0.5
        return mask


@dataclass(frozen=True, slots=True, eq=False, repr=False)
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
