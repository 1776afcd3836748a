"""Apply responses to prompts to labels: pure functions on the working grid."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lesionlens.analysis.findings.enhancement import enhancing_in
from lesionlens.base.geometry import Labels, Mask
from lesionlens.base.labels import Label, Region
from lesionlens.base.records.analysis import Analysis
from lesionlens.base.records.prompts import PromptRequest, PromptResponse, PromptRound, Voxel
from lesionlens.engines.prompt_rules import connected_to, mark_voxels
from lesionlens.imaging.preparation.resampling import cut_grid, resample

_ADDED_LABEL: dict[Region | None, Label] = {Region.TC: Label.CORE, Region.ET: Label.ENHANCING}
_REMAINING_LABEL: dict[Region | None, Label] = {Region.TC: Label.OEDEMA, Region.ET: Label.CORE}
_NESTED_REGIONS = (None, *Region)
"""From outermost to innermost."""
_CONTRADICTION_VOX = 1


def region_of(labels: Labels, region: Region | None) -> Mask:
    """Return the mask of a region in an outline; None for the whole outline."""
    return labels > 0 if region is None else np.isin(labels, region.labels)


def prompt_request(labels: Labels, rounds: Sequence[PromptRound]) -> PromptRequest:
    """Build the request of the last prompt about an outline, which may be empty."""
    *earlier, last = rounds
    outline = region_of(labels, last.region)
    foreground, background = (
        np.array(voxels, np.int64).reshape(-1, 3)
        for voxels in valid_prompts(earlier, labels, last.region, last)
    )
    known_outline = outline if outline.any() else None
    return PromptRequest(foreground, background, known_outline, last.region)


def valid_prompts(
    rounds: Sequence[PromptRound],
    labels: Labels,
    region: Region | None,
    last: PromptRound | None = None,
) -> tuple[tuple[Voxel, ...], tuple[Voxel, ...]]:
    """Return the foreground and background voxels of earlier rounds that hold for a region.

    Foreground of a region is also foreground of the regions that enclose it; background is also
    background of those within it. A prompt that a later one contradicts within a voxel, or the
    current outline, as after a brush stroke, was superseded and is omitted. Those of `last`, the
    next prompt, follow.
    """
    outline, level = region_of(labels, region), _NESTED_REGIONS.index(region)
    foreground: dict[Voxel, None] = {}
    background: dict[Voxel, None] = {}
    for past in (*rounds, *(() if last is None else (last,))):
        if past is last:  # it may say the opposite of the outline
            foreground = {voxel: None for voxel in foreground if outline[voxel]}
            background = {voxel: None for voxel in background if not outline[voxel]}
        other_level = _NESTED_REGIONS.index(past.region)
        wanted = past.foreground if other_level >= level else ()
        unwanted = past.background if other_level <= level else ()
        foreground = _without_near(foreground, unwanted) | dict.fromkeys(wanted)
        background = _without_near(background, wanted) | dict.fromkeys(unwanted)
    if last is None:
        foreground = {voxel: None for voxel in foreground if outline[voxel]}
        background = {voxel: None for voxel in background if not outline[voxel]}
    return tuple(foreground), tuple(background)


def _without_near(held: dict[Voxel, None], opposite: Sequence[Voxel]) -> dict[Voxel, None]:
    if not held or not opposite:
        return held
    others = np.array(opposite)
    return {v: None for v in held if np.abs(others - v).max(axis=1).min() > _CONTRADICTION_VOX}


def redrawn(
    labels: Labels,
    response: PromptResponse,
    prompt_round: PromptRound,
    allowed: Mask,
    parts: Labels,
) -> Labels:
    """Return the labels after a response.

    Nothing is added that is connected to the outline or to a foreground prompt only through voxels
    that may not be labelled, such as those of another candidate.

    Parameters
    ----------
    labels : (I, J, K) uint8
        Current `base.labels.Label`.
    prompt_round : PromptRound
        The prompt: its region, and the label for added voxels.
    allowed : (I, J, K) bool
        Voxels that may be labelled.
    parts : (i, j, k) uint8
        Predicted labels in the response's box; 0 if none.
    """
    current, mask = labels[response.box], response.probability >= 0.5
    inside = region_of(current, prompt_round.region)
    corner = [side.start for side in response.box]
    prompted = np.array(prompt_round.foreground, np.int64).reshape(-1, 3) - corner
    held = (current > 0) | mark_voxels(prompted, current.shape)
    added = _reachable(mask & ~inside, allowed[response.box], held)
    removed = inside & ~mask & ~response.settled
    paint = _ADDED_LABEL.get(prompt_round.region)
    predicted = (parts > 0) & (prompt_round.paint != Label.CAVITY)
    label = prompt_round.paint if paint is None else paint
    added_label = np.where(predicted, parts, label) if paint is None else np.uint8(label)
    remaining_label = np.uint8(_REMAINING_LABEL.get(prompt_round.region, Label.BACKGROUND))
    out = labels.copy()
    out[response.box] = np.where(added, added_label, np.where(removed, remaining_label, current))
    return out


def _reachable(added: Mask, allowed: Mask, held: Mask) -> Mask:
    """Return the allowed added voxels, without what only blocked ones connect to `held`."""
    blocked, reachable = added & ~allowed, added & allowed
    if not blocked.any():
        return reachable
    apart = reachable & ~connected_to(held, reachable | held)
    return reachable & ~connected_to(blocked, apart | blocked)


def predicted_parts(analysis: Analysis, response: PromptResponse) -> Labels:
    """Return core and enhancing labels in a response's box; 0 elsewhere.

    They are predicted labels. For a lesion that the engine did not flag, voxels that enhance more
    than its surroundings are labelled as enhancing.
    """
    prepared = analysis.prepared
    grid = cut_grid(prepared.working, response.box)
    predicted = {
        region: resample(volume.data, volume.grid, grid) >= 0.5
        for region, volume in analysis.volumes.probability.items()
    }
    out = np.zeros(grid.shape, np.uint8)
    for region, label in ((Region.TC, Label.CORE), (Region.ET, Label.ENHANCING)):
        if region in predicted and label in prepared.labels:
            out[predicted[region]] = label
    mask = response.probability >= 0.5
    flagged = predicted.get(Region.WT)
    flagged_count = 0 if flagged is None else np.count_nonzero(flagged & mask)
    if 2 * flagged_count < np.count_nonzero(mask):
        lesion = response.mask_over(None, prepared.working.shape)
        out[enhancing_in(lesion, prepared)[response.box]] = Label.ENHANCING
    return out
