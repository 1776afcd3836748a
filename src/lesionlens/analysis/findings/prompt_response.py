"""Apply responses to prompts to labels: pure functions on the working grid."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lesionlens.analysis.findings.enhancement import enhancing_in
from lesionlens.base.labels import Label, Region
from lesionlens.base.records.analysis import Analysis
from lesionlens.base.records.prompts import PromptRequest, PromptResponse, PromptRound, Voxel
from lesionlens.imaging.preparation.resampling import cut_grid, resample_part

Labels = NDArray[np.uint8]
Mask = NDArray[np.bool_]
_ADDED: dict[Region | None, Label] = {Region.TC: Label.CORE, Region.ET: Label.ENHANCING}
_LEFT: dict[Region | None, Label] = {Region.TC: Label.OEDEMA, Region.ET: Label.CORE}
_NESTED = (None, *Region)
"""Every region lies within those before it."""


def region_of(labels: Labels, region: Region | None) -> Mask:
    """Return the mask of a region in an outline; None for the whole outline."""
    return labels > 0 if region is None else np.isin(labels, region.labels)


def question_of(labels: Labels, prompt_round: PromptRound) -> PromptRequest:
    """Build the request about an outline, which may be empty."""
    outline = region_of(labels, prompt_round.region)
    wanted, unwanted = (
        np.array(some, np.int64).reshape(-1, 3)
        for some in (prompt_round.foreground, prompt_round.background)
    )
    return PromptRequest(wanted, unwanted, outline if outline.any() else None, prompt_round.region)


def prompts_that_hold(
    rounds: Sequence[PromptRound], labels: Labels, region: Region | None
) -> tuple[tuple[Voxel, ...], tuple[Voxel, ...]]:
    """Return the foreground and background voxels of earlier rounds that hold for a region.

    What belongs to a region belongs to those around it, what does not to those within it.
    Voxels where the outline says otherwise were changed since, as by a brush, and do not hold.
    """
    outline, here = region_of(labels, region), _NESTED.index(region)
    foreground: dict[Voxel, None] = {}
    background: dict[Voxel, None] = {}
    for one in {past.region: past for past in rounds}.values():
        there = _NESTED.index(one.region)
        foreground |= dict.fromkeys(one.foreground if there >= here else ())
        background |= dict.fromkeys(one.background if there <= here else ())
    kept = tuple(at for at in foreground if outline[at])
    return kept, tuple(at for at in background if not outline[at])


def redrawn(
    labels: Labels, found: PromptResponse, prompt_round: PromptRound, free: Mask, parts: Labels
) -> Labels:
    """Return the labels after a response.

    Parameters
    ----------
    labels : (I, J, K) uint8
        Current `base.labels.Label`.
    prompt_round : PromptRound
        The prompt: its region, and the label for added voxels.
    free : (I, J, K) bool
        Voxels that may be labelled.
    parts : (i, j, k) uint8
        Predicted labels in the response's box; 0 if none.
    """
    now, mask = labels[found.box], found.probability >= 0.5
    inside = region_of(now, prompt_round.region)
    added = mask & ~inside & free[found.box]
    gone = inside & ~mask & ~found.settled
    paint = _ADDED.get(prompt_round.region)
    predicted = (parts > 0) & (prompt_round.paint != Label.CAVITY)
    new = np.where(predicted, parts, prompt_round.paint) if paint is None else np.uint8(paint)
    left = np.uint8(_LEFT.get(prompt_round.region, Label.BACKGROUND))
    out = labels.copy()
    out[found.box] = np.where(added, new, np.where(gone, left, now))
    return out


def parts_in(analysis: Analysis, found: PromptResponse) -> Labels:
    """Return core and enhancing labels in a response's box; 0 elsewhere.

    They are predicted ones. A lesion that the engine did not flag has none: what enhances more than
    its surroundings is labelled there.
    """
    prepared = analysis.prepared
    grid = cut_grid(prepared.working, found.box)
    predicted = {
        region: resample_part(volume.data, volume.grid, grid) >= 0.5
        for region, volume in analysis.volumes.probability.items()
    }
    out = np.zeros(grid.shape, np.uint8)
    for region, label in ((Region.TC, Label.CORE), (Region.ET, Label.ENHANCING)):
        if region in predicted and label in prepared.labels:
            out[predicted[region]] = label
    mask = found.probability >= 0.5
    flagged = predicted.get(Region.WT)
    known = 0 if flagged is None else np.count_nonzero(flagged & mask)
    if 2 * known < np.count_nonzero(mask):
        lesion = found.mask_over(None, prepared.working.shape)
        out[enhancing_in(lesion, prepared)[found.box]] = Label.ENHANCING
    return out
