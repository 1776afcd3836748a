"""Answer prompts on the reference grid through the working grid."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from lesionlens.base.errors import UnusableInputError
from lesionlens.base.geometry import nearest
from lesionlens.base.grid import Grid
from lesionlens.base.labels import Label, Region
from lesionlens.base.records.arrays import Volume
from lesionlens.base.records.prompts import (
    LOOK_MM,
    Points,
    PromptedVolume,
    PromptRequest,
    PromptResponse,
    Prompts,
)
from lesionlens.base.records.study import PreparedStudy
from lesionlens.engines import native
from lesionlens.imaging.preparation.resampling import resample, resample_mask_near
from lesionlens.results.export.nifti import rounded

Mask = NDArray[np.bool_]
Floats = NDArray[np.float32]
Ask = Callable[[PromptRequest], PromptResponse]


class AnalysedProbability(Mapping[Region, Floats]):
    """Probability of each region on the working grid, resampled when it is read.

    It comes from the reference grid, rounded as in files: a result that was saved and opened again
    holds nothing else, and the same prompts give the same voxels there.

    Parameters
    ----------
    probability : mapping of Region to (I, J, K) float32
        0 to 1 on the reference grid.
    """

    def __init__(self, probability: Mapping[Region, Floats], prepared: PreparedStudy) -> None:
        self._probability, self._prepared = probability, prepared

    @property
    def bytes(self) -> int:
        """Memory held by the maps."""
        return sum(int(one.nbytes) for one in self._probability.values())

    @override
    def __getitem__(self, region: Region) -> Floats:
        prepared, held = self._prepared, rounded(self._probability[region])
        return resample(held, prepared.native, native.source_grid(prepared))

    @override
    def __contains__(self, region: object) -> bool:
        return region in self._probability

    @override
    def __iter__(self) -> Iterator[Region]:
        return iter(self._probability)

    @override
    def __len__(self) -> int:
        return len(self._probability)


def ask(
    prompts: Prompts,
    prepared: PreparedStudy,
    answer: Ask,
    start: NDArray[Any] | Volume | None = None,
) -> PromptedVolume:
    """Segment from prompts on the reference grid.

    Parameters
    ----------
    prompts : Prompts
        In voxels of the reference grid.
    answer : callable
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
    _check_within(prompts, prepared.native)
    wanted, unwanted = (_marked(prompts, prepared.native, belongs) for belongs in (True, False))
    outline = None if start is None else _outline(start, prepared.native, prompts.region)
    if outline is not None and not outline.any():
        outline = None
    here, away = (native.working_voxels(v, prepared) for v in (wanted, unwanted))
    inside = None
    if outline is not None:
        source = native.source_grid(prepared)
        every = np.concatenate([here, away])
        inside = resample_mask_near(outline, prepared.native, source, every, LOOK_MM)
    found = answer(PromptRequest(here, away, inside, prompts.region))
    box, part = native.resample_part(found.probability, prepared, found.box)
    probability = np.zeros(prepared.native.shape, np.float32)
    if outline is not None:
        probability[...] = outline
        _, free = native.resample_part((~found.settled).astype(np.float32), prepared, found.box)
        part = np.where(free > 0, part, outline[box])
    probability[box] = part
    for voxels, value in ((wanted, 1.0), (unwanted, 0.0)):
        probability[tuple(voxels[prepared.native.contains(voxels)].T)] = value
    attention = _shown(found, prepared)
    return PromptedVolume(probability, prepared.native, attention, prompts, found.made_by)


def replay(
    rounds: Sequence[Prompts],
    prompt: Callable[[Prompts, Mask | None], PromptedVolume],
    start: Mask | None = None,
) -> PromptedVolume:
    """Replay rounds of prompts, each starting from the previous mask.

    Raises
    ------
    UnusableInputError
        There are no rounds, or one cannot be answered.
    """
    if not rounds:
        raise UnusableInputError(
            found="no prompts",
            expected="at least one round of them",
            next_step="Point at something",
        )
    found = prompt(rounds[0], start)
    for one in rounds[1:]:
        found = prompt(one, found.mask)
    return found


def _marked(prompts: Prompts, grid: Grid, belongs: bool) -> Points:
    """Return the (N, 3) prompted voxels, the same ones however the scan is stored.

    The middle of an even number of voxels, and which voxels of a lasso are taken, follow an order.
    """
    to_own = grid.ras_order()
    return nearest(to_own, prompts.moved(np.asarray(np.linalg.inv(to_own))).voxels(belongs))


def _check_within(prompts: Prompts, grid: Grid) -> None:
    voxels = [at for at, _ in prompts.points]
    voxels += [at for line, _ in prompts.scribbles for at in line]
    voxels += [*(prompts.box or ()), *prompts.lasso]
    for at in voxels:
        if not all(0 <= v < n for v, n in zip(at, grid.shape, strict=True)):
            raise UnusableInputError(
                found=f"a prompt at the voxel {at}",
                expected=f"voxels within {grid.shape}, the shape of the reference sequence",
                next_step="Count voxels from 0 along the axes of the reference sequence",
            )


def outline_in(labels: NDArray[Any], region: Region | None) -> Mask:
    """Return the outline that a mask, or labels as in `segmentation.nii.gz`, hold of a region.

    Of labels it is the region, by default the whole tumour: the resection cavity is no part of it.

    Raises
    ------
    UnusableInputError
        There is a label 4, but no 3: it is the enhancing part in files from before BraTS 2023.
    """
    inside = labels.astype(bool, copy=False)
    if labels.dtype == bool or not inside.any():
        return inside
    numbers = set(np.unique(labels[inside]).tolist())
    if len(numbers) == 1 or not numbers <= set(Label):
        return inside
    if Label.CAVITY in numbers and Label.ENHANCING not in numbers:
        raise UnusableInputError(
            found="an outline to start from with label 4, but no 3",
            expected="a mask, or labels of which 3 is enhancing and 4 the resection cavity",
            next_step="Give the mask of what is meant: whether 4 is a part of it is not known",
        )
    return np.isin(labels, (region or Region.WT).labels)


def _outline(start: NDArray[Any] | Volume, grid: Grid, region: Region | None) -> Mask:
    placed = start.grid if isinstance(start, Volume) else grid
    if placed.shape == grid.shape and not placed.matches(grid):
        raise UnusableInputError(
            found="an outline to start from that lies elsewhere in the patient",
            expected="voxels at the positions of the reference sequence's",
            next_step="Bring it to the grid of the reference sequence first",
        )
    outline = np.asarray(start)
    if outline.shape != grid.shape:
        raise UnusableInputError(
            found=f"an outline of {outline.shape} voxels to start from",
            expected=f"one of {grid.shape}, the shape of the reference sequence",
            next_step="Bring it to the grid of the reference sequence first",
        )
    if outline.dtype.kind not in "biu" and not np.isin(outline, (0, 1)).all():
        raise UnusableInputError(
            found="an outline to start from with values other than 0 and 1, as in a probability",
            expected="a mask: True or 1 inside",
            next_step="Give `probability >= 0.5`",
        )
    return outline_in(outline, region)


def _shown(found: PromptResponse, prepared: PreparedStudy) -> Volume:
    high = float(found.attention.max(initial=0.0))
    scaled = found.attention / np.float32(high) if high else found.attention
    box, part = native.resample_part(scaled, prepared, found.box)
    out = np.zeros(prepared.native.shape, np.float32)
    out[box] = part
    return Volume(out, prepared.native)
