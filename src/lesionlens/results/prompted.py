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

PromptSegmenter = Callable[[PromptRequest], PromptResponse]


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

    @property
    def bytes(self) -> int:
        """Memory of the maps, bytes."""
        return sum(int(probability.nbytes) for probability in self._probability.values())

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
    segment: PromptSegmenter,
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
    check_within(prompts, prepared.native)
    foreground_voxels, background_voxels = (
        _prompted_voxels(prompts, prepared.native, is_foreground=is_foreground)
        for is_foreground in (True, False)
    )
    start_outline = None if start is None else _outline(start, prepared.native, prompts.region)
    if start_outline is not None and not start_outline.any():
        start_outline = None
    foreground, background = (
        native_grid.nearest_working_voxels(v, prepared)
        for v in (foreground_voxels, background_voxels)
    )
    start_mask = None
    if start_outline is not None:
        source = native_grid.working_in_native_frame(prepared)
        prompted = np.concatenate([foreground, background])
        start_mask = resample_mask_near(
            start_outline, prepared.native, source, prompted, CORRECTION_RADIUS_MM
        )
    response = segment(PromptRequest(foreground, background, start_mask, prompts.region))
    probability = _native_probability(response, prepared, start_outline)
    for voxels, value in ((foreground_voxels, 1.0), (background_voxels, 0.0)):
        probability[tuple(voxels[prepared.native.contains(voxels)].T)] = value
    attention = _normalised_attention(response, prepared)
    return PromptedVolume(probability, prepared.native, attention, prompts, response.made_by)


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


def check_within(prompts: Prompts, grid: Grid) -> None:
    """Check that all prompts are voxels of the reference grid.

    Raises
    ------
    UnusableInputError
        One of them is not.
    """
    voxels = [voxel for voxel, _ in prompts.points]
    voxels += [voxel for line, _ in prompts.scribbles for voxel in line]
    voxels += [*(prompts.box or ()), *prompts.lasso]
    for voxel in voxels:
        if not all(0 <= v < n for v, n in zip(voxel, grid.shape, strict=True)):
            raise UnusableInputError(
                found=f"a prompt at the voxel {voxel}",
                expected=f"voxels within {grid.shape}, the shape of the reference sequence",
                next_step="Count voxels from 0 along the axes of the reference sequence",
            )


def outline_in(labels: NDArray[Any], region: Region | None) -> Mask:
    """Return the outline of a region in a mask, or in labels as in `segmentation.nii.gz`.

    Of labels, the region is returned, by default the whole tumour, without the resection cavity.

    Raises
    ------
    UnusableInputError
        There is a label 4, but no 3; see `base.labels.has_ambiguous_cavity`.
    """
    mask = labels.astype(bool, copy=False)
    if labels.dtype == bool or not mask.any():
        return mask
    numbers = set(np.unique(labels[mask]).tolist())
    if not numbers <= set(Label):
        return mask
    if has_ambiguous_cavity(numbers):
        raise UnusableInputError(
            found=f"an outline to start from with {AMBIGUOUS_CAVITY}",
            expected="a mask, or labels of which 3 is enhancing and 4 the resection cavity",
            next_step="Pass a mask of the intended region: it is unknown whether 4 belongs to it",
        )
    return mask if len(numbers) == 1 else np.isin(labels, (region or Region.WT).labels)


def _outline(start: NDArray[Any] | Volume, grid: Grid, region: Region | None) -> Mask:
    start_grid = start.grid if isinstance(start, Volume) else grid
    if start_grid.shape == grid.shape and not start_grid.matches(grid):
        raise UnusableInputError(
            found="an outline to start from at another position in the patient",
            expected="voxels at the same positions as those of the reference sequence",
            next_step="Resample it to the grid of the reference sequence first",
        )
    outline = np.asarray(start)
    if isinstance(start, np.ma.MaskedArray) or outline.dtype.kind == "V":
        raise UnusableInputError(
            found="a masked or structured array as an outline to start from",
            expected="a mask: True or 1 inside",
            next_step="Give a plain array, such as `start.filled(0)` of a masked one",
        )
    if outline.shape != grid.shape:
        raise UnusableInputError(
            found=f"an outline of {outline.shape} voxels to start from",
            expected=f"one of {grid.shape}, the shape of the reference sequence",
            next_step="Resample it to the grid of the reference sequence first",
        )
    if outline.dtype.kind not in "biu" and not np.isin(outline, (0, 1)).all():
        raise UnusableInputError(
            found="an outline to start from with values other than 0 and 1, as in a probability",
            expected="a mask: True or 1 inside",
            next_step="Give `probability >= 0.5`",
        )
    return outline_in(outline, region)


def _normalised_attention(response: PromptResponse, prepared: PreparedStudy) -> Volume:
    maximum = float(response.attention.max(initial=0.0))
    scaled = response.attention / np.float32(maximum) if maximum else response.attention
    box, part = native_grid.part_to_native(scaled, prepared, response.box)
    volume = np.zeros(prepared.native.shape, np.float32)
    volume[box] = part
    return Volume(volume, prepared.native)
