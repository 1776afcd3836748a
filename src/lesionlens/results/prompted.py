"""Answer prompts on the reference grid through the working grid."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from lesionlens.analysis import native_grid
from lesionlens.base.errors import UnusableInputError
from lesionlens.base.geometry import Floats, Mask, nearest
from lesionlens.base.grid import Grid
from lesionlens.base.labels import AMBIGUOUS_CAVITY, Label, Region, has_ambiguous_cavity
from lesionlens.base.records.arrays import Volume
from lesionlens.base.records.prompts import (
    CORRECTION_RADIUS_MM,
    Points,
    PromptedVolume,
    PromptRequest,
    PromptResponse,
    Prompts,
)
from lesionlens.base.records.study import PreparedStudy
from lesionlens.imaging.preparation.resampling import resample, resample_mask_near


class AnalysedProbability(Mapping[Region, Floats]):
    """Probability of each region on the working grid, resampled when it is read.

    It comes from the reference grid, as in files, so that the same prompts give the same voxels
    after a result was saved and reopened.

    Parameters
    ----------
    probability : mapping of Region to (I, J, K) float32
        0 to 1 on the reference grid.
    """

    def __init__(self, probability: Mapping[Region, Floats], prepared: PreparedStudy) -> None:
        self._probability, self._prepared = probability, prepared

    @override
    def __getitem__(self, region: Region) -> Floats:
        source, target = self._prepared.native, native_grid.working_in_native_frame(self._prepared)
        return resample(self._probability[region], source, target)

    @override
    def __contains__(self, region: object) -> bool:
        return region in self._probability

    @override
    def __iter__(self) -> Iterator[Region]:
        return iter(self._probability)

    @override
    def __len__(self) -> int:
        return len(self._probability)


def segment_prompts(
    prompts: Prompts,
    prepared: PreparedStudy,
    segment: Callable[[PromptRequest], PromptResponse],
    start: NDArray[Any] | Volume | None = None,
) -> PromptedVolume:
    """Segment from prompts on the reference grid.

    Parameters
    ----------
    prompts : Prompts
        In voxels of the reference grid.
    segment : callable
        Segments from prompts on the working grid.
    start : (I, J, K) array, Volume or None
        The initial outline on the reference grid, a mask or labels as in `segmentation.nii.gz`.
        An empty one is none.

    Raises
    ------
    UnusableInputError
        A prompt is outside the image or the brain, prompts contradict each other, nothing stands
        out there, or `start` is on another grid or neither a mask nor labels.
    """
    native = prepared.native
    voxels = [voxel for voxel, _ in prompts.points] + [*(prompts.box or ()), *prompts.lasso]
    voxels += [voxel for line, _ in prompts.scribbles for voxel in line]
    outside = np.array(voxels).reshape(-1, 3)
    outside = outside[~native.contains(outside)]
    if len(outside):
        raise UnusableInputError(
            f"The prompt at voxel {tuple(outside[0].tolist())} is outside the reference sequence.",
            hint=f"Count voxels from 0 along its axes, {native.shape}.",
        )
    foreground, background = (
        _prompted_voxels(prompts, native, is_foreground=kind) for kind in (True, False)
    )
    outline = None if start is None else _outline(start, native, prompts.region)
    if outline is not None and not outline.any():
        outline = None
    points = [
        native_grid.nearest_working_voxels(part, prepared) for part in (foreground, background)
    ]
    working_outline = None
    if outline is not None:
        source = native_grid.working_in_native_frame(prepared)
        working_outline = resample_mask_near(
            outline, native, source, np.concatenate(points), CORRECTION_RADIUS_MM
        )
    response = segment(PromptRequest(points[0], points[1], working_outline, prompts.region))
    probability = _native_probability(response, prepared, outline)
    for part, value in ((foreground, 1.0), (background, 0.0)):
        probability[tuple(part[native.contains(part)].T)] = value
    attention = _native_attention(response, prepared)
    return PromptedVolume(probability, native, attention, prompts, response.made_by)


def _native_probability(
    response: PromptResponse, prepared: PreparedStudy, start_outline: Mask | None
) -> Floats:
    """Resample a response to the reference grid; what is settled stays as in `start_outline`."""
    box, part = native_grid.part_to_native(response.probability, prepared, response.box)
    probability = np.zeros(prepared.native.shape, np.float32)
    if start_outline is not None:
        probability[...] = start_outline
        _, unsettled = native_grid.part_to_native(
            (~response.settled).astype(np.float32), prepared, response.box
        )
        part = np.where(unsettled > 0, part, start_outline[box])
    probability[box] = part
    return probability


def _prompted_voxels(prompts: Prompts, grid: Grid, *, is_foreground: bool) -> Points:
    """Return the (N, 3) prompted voxels, which do not depend on how the scan is stored.

    Rounding, such as of the centre of an even number of voxels, depends on the order of the axes:
    it is done in RAS+ order.
    """
    from_ras = grid.ras_order()
    return nearest(
        from_ras,
        prompts.moved(np.asarray(np.linalg.inv(from_ras))).voxels(foreground=is_foreground),
    )


def _outline(start: NDArray[Any] | Volume, grid: Grid, region: Region | None) -> Mask:
    """Return the mask of `start`; of labels the region, by default the whole tumour."""
    outline = np.asarray(start)
    if outline.shape != grid.shape or (isinstance(start, Volume) and not start.grid.matches(grid)):
        raise UnusableInputError(
            "The outline to start from is not on the grid of the reference sequence.",
            hint=f"Resample it to that grid, {grid.shape}.",
        )
    if outline.dtype.kind not in "biu" and not np.isin(outline, (0, 1)).all():
        raise UnusableInputError(
            "The outline to start from is not a mask.", hint="Give `probability >= 0.5`."
        )
    mask = outline.astype(bool, copy=False)
    numbers = set() if outline.dtype == bool else set(np.unique(outline[mask]).tolist())
    if not numbers <= set(Label):
        return mask
    if has_ambiguous_cavity(numbers):
        raise UnusableInputError(
            f"The outline to start from has {AMBIGUOUS_CAVITY}.",
            hint="Give a mask of the region: it is unknown whether 4 belongs to it.",
        )
    return mask if len(numbers) < 2 else np.isin(outline, (region or Region.WT).labels)


def _native_attention(response: PromptResponse, prepared: PreparedStudy) -> Volume:
    maximum = float(response.attention.max(initial=0.0))
    scaled = response.attention / np.float32(maximum) if maximum else response.attention
    box, part = native_grid.part_to_native(scaled, prepared, response.box)
    volume = np.zeros(prepared.native.shape, np.float32)
    volume[box] = part
    return Volume(volume, prepared.native)
