"""Segment from prompts: crop around them, run the prompt network, restrict the change.

An existing outline changes only in voxels connected to a contradicting prompt, in the direction of
that prompt and within its reach, so that it is not altered elsewhere. Without an outline, the
response is the component at the foreground prompts. Prompts are binding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lesionlens.base.array_ops import logit, sigmoid
from lesionlens.base.geometry import Box, clipped_box, covering, overlap, relative
from lesionlens.base.labels import Region
from lesionlens.base.records.prompts import LOOK_MM, Points, PromptRequest, PromptResponse
from lesionlens.engines.prompting.crop_pass import Answered, PromptPass, region_index
from lesionlens.engines.prompting.likeness import carried_on, shifted_logits
from lesionlens.engines.prompting.regions import (
    SMALL,
    enclosed_again,
    enclosed_region,
)
from lesionlens.engines.prompting.rules import (
    Error,
    contradicting,
    errors,
    is_inside,
    joined,
    lowered_threshold,
    marks,
    may_change,
    outside_brain,
    part_of,
    refused,
)
from lesionlens.engines.prompting.small_objects import small_object
from lesionlens.engines.prompting.study_features import FLAGGED, PromptStudy
from lesionlens.network.prompt.crop import Crop
from lesionlens.network.prompt.model import PromptNetwork

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]
_CORRECTED, _ANEW = 48, 64  # crop edge in voxels, with and without an outline
_FINEST, _COARSEST = 1.0, 3.0  # mm
_MIN_SEEN_MM = 16.0  # minimum margin of a crop around the prompts of a correction
_ROOM = 1.3  # crop size relative to the object
_MIN_CHANCE, _MIN_ANALYSED = 1e-4, 1e-3  # floors of the networks' probabilities
_UNKNOWN_MM = 1.25  # crop edge if the object's size is unknown
_TOGETHER_MM = 32.0  # prompts closer than this share a crop
_CUT_OFF = 0.01  # share of the crop's faces that a response may touch before the crop is enlarged
_SLIGHT_MM = 2.5  # maximum depth of an error for the similarity model without a named region
_ALIKE: dict[Region | None, float] = {
    Region.WT: 0.3, Region.TC: 0.5, Region.ET: 0.7, None: 0.5}  # fmt: skip
"""Weight of the similarity model in a correction, by the prompted region."""
_CARRIED_UNNAMED = 0.5  # share of a correction carried on where no region is named
_ANALYSED = 0.6  # weight of the analysis in a first outline of a named region
_BIAS = (0.0, 0.6, 0.6)
"""Added to the analysis's logits of WT, TC and ET in a first outline: it thresholds cores lower."""
_CERTAIN = 0.88  # mean probability of a response below which a watershed may replace it


class Prompter:
    """Answers prompts with networks on one device.

    Parameters
    ----------
    network : PromptNetwork
        In evaluation mode.
    small : PromptNetwork or None
        Answers first where no region of what the analysis flags is named, if its outline is small.
    """

    def __init__(self, network: PromptNetwork, small: PromptNetwork | None = None) -> None:
        self._pass = PromptPass(network)
        self._small = None if small is None else PromptPass(small)

    def answer(self, study: PromptStudy, request: PromptRequest) -> PromptResponse:
        """Segment from prompts.

        Raises
        ------
        UnusableInputError
            There is no foreground prompt, prompts contradict each other or are outside the brain,
            or nothing stands out there.
        """
        _check(study, request)
        if request.outline is None:
            return self._anew(study, request)
        return self._corrected(study, request, request.outline)

    def _anew(self, study: PromptStudy, request: PromptRequest) -> PromptResponse:
        small = self._small_object(study, request)
        if small is not None:
            box, chance, attention = small
            return _region(box, chance, attention, np.zeros(chance.shape, bool), request)
        crop = _crop_for(study, request)
        box, chance, attention = self._pass.at(study, request, crop)
        chance = _with_analysis(study, request, box, chance)
        again = _better_crop(chance, box, crop, request.foreground)
        if again is not None:
            box, chance, attention = self._pass.at(study, request, again)
            chance = _with_analysis(study, request, box, chance)
        if _is_unknown(study, request) and _certainty(chance) < _CERTAIN:
            region = enclosed_region(study, request)
            if region is not None:
                return _of_region(box, chance, attention, *region, request)
        wanted = request.foreground - [side.start for side in box]
        chance = joined(lowered_threshold(chance, wanted), wanted, _kept_with(study, request, box))
        return _region(box, chance, attention, np.zeros(chance.shape, bool), request)

    def _small_object(self, study: PromptStudy, request: PromptRequest) -> Answered | None:
        return None if self._small is None else small_object(self._small, study, request)

    def _corrected(
        self, study: PromptStudy, request: PromptRequest, outline: Mask
    ) -> PromptResponse:
        small = self._small_object(study, request)
        if small is not None:
            return _of_small(*small, request, outline)
        region = enclosed_again(study, request, outline) if _is_unknown(study, request) else None
        if region is not None:
            answered = self._pass.at(study, request, _crop_for(study, request))
            return _of_region(*answered, *region, request)
        groups = list(_groups(request, outline))
        every = np.concatenate([request.foreground, request.background])
        whole = clipped_box(every.min(0) - LOOK_MM, every.max(0) + LOOK_MM, outline.shape)
        now, out = outline.copy(), outline[whole].astype(np.float32)
        attention, settled = np.zeros(out.shape, np.float32), np.ones(out.shape, bool)
        for group in groups:
            wrong = errors(now, group, request)
            middle = (group.min(0) + group.max(0)) / 2
            reach = max(_MIN_SEEN_MM, *(error.reach_mm for error in wrong))
            extent = float(np.ptp(group, axis=0).max()) + 2 * reach + 4
            crop = Crop.straight(middle, extent / (_CORRECTED - 1), _CORRECTED)
            answered = self._pass.at(study, replace(request, outline=now), crop)
            box, chance, seen = _within(whole, *answered)
            if request.region is not None or max(error.depth_mm for error in wrong) <= _SLIGHT_MM:
                chance = _with_alike(study, request, now, box, chance)
            chance = _carried_on(study, request, now, wrong, box, chance)
            free = may_change(chance, now, wrong, box)
            here = relative(box, whole)
            attention[here] += seen / len(groups)
            out[here] = np.where(free, chance, out[here])
            settled[here] &= ~free
            now[box] = out[here] >= 0.5
        return _region(whole, out, attention, settled, request)


def _within(whole: Box, box: Box, chance: Floats, attention: Floats) -> Answered:
    """Cut an answer to the part of its box that lies in another one.

    A crop is a cube: about a flat box or a long scribble it reaches beyond where a correction may
    change voxels.
    """
    part = overlap(box, whole)
    inner = relative(part, box)
    left = attention[inner]
    total = float(left.sum(dtype=np.float64))
    return part, chance[inner], left / total if total else left


def _with_analysis(study: PromptStudy, request: PromptRequest, box: Box, chance: Floats) -> Floats:
    """Blend in the analysis in a first outline of a named region of what it flags there."""
    index = region_index(request)
    if index is None or study.probability is None or not study.flags(request.foreground):
        return chance
    analysed = (
        logit(np.asarray(study.probability[index][box], np.float32), _MIN_ANALYSED) + _BIAS[index]
    )
    return _mixed(study.brain[box], chance, analysed, _ANALYSED)


def _with_alike(
    study: PromptStudy, request: PromptRequest, outline: Mask, box: Box, chance: Floats
) -> Floats:
    """Blend in the similarity model in a correction of a named region or of a small object."""
    index, known = region_index(request), chance
    if index is not None and study.probability is not None:
        known = np.asarray(study.probability[index][box], np.float32)
    elif np.count_nonzero(outline) > SMALL:
        return chance
    corner = [side.start for side in box]
    moved = shifted_logits(
        known,
        study.smooth[(slice(None), *box)],
        outline[box],
        (request.foreground - corner, request.background - corner),
    )
    return _mixed(study.brain[box], chance, moved, _ALIKE[request.region])


def _carried_on(
    study: PromptStudy,
    request: PromptRequest,
    outline: Mask,
    wrong: Sequence[Error],
    box: Box,
    chance: Floats,
) -> Floats:
    """Carry the correction on to similar voxels within the error."""
    logits = carried_on(
        logit(chance, _MIN_CHANCE),
        study.smooth[(slice(None), *box)],
        outline[box],
        wrong,
        np.array([side.start for side in box]),
        _CARRIED_UNNAMED if request.region is None else 1.0,
    )
    return np.asarray(study.brain[box] * sigmoid(logits), np.float32)


def _mixed(brain: Mask, chance: Floats, other: Floats, share: float) -> Floats:
    """Blend a probability with other logits in the brain."""
    logits = (1 - share) * logit(chance, _MIN_CHANCE) + share * other
    return np.asarray(brain * sigmoid(logits), np.float32)


def _of_small(
    box: Box, chance: Floats, attention: Floats, request: PromptRequest, outline: Mask
) -> PromptResponse:
    """Correct a small outline: what is added is added as a whole, what is removed by the rules."""
    wrong = errors(outline, contradicting(request, outline), request)
    free = may_change(chance, outline, [error for error in wrong if not error.belongs], box)
    if any(error.belongs for error in wrong):
        free |= ~outline[box]
    changed = np.where(free, chance, outline[box]).astype(np.float32)
    return _region(box, changed, attention, ~free, request)


def _is_unknown(study: PromptStudy, request: PromptRequest) -> bool:
    """Return whether prompts name no region and the analysis flags nothing at them."""
    return (
        request.region is None
        and len(request.foreground) > 0
        and not study.flags(request.foreground)
    )


def _certainty(chance: Floats) -> float:
    """Return the mean probability of the voxels in a response."""
    drawn = chance >= 0.5
    return float(chance[drawn].mean()) if drawn.any() else 0.0


def _of_region(
    box: Box, chance: Floats, attention: Floats, part: Box, mask: Mask, request: PromptRequest
) -> PromptResponse:
    """Respond with a region; the network's probability shows where it agrees."""
    whole = covering(box, part)
    here, there = relative(box, whole), relative(part, whole)
    i, j, k = (side.stop - side.start for side in whole)
    outline = np.zeros((i, j, k), bool) if request.outline is None else request.outline[whole]
    drawn = outline.copy()
    drawn[there] = mask
    mixed, seen = np.zeros(drawn.shape, np.float32), np.zeros(drawn.shape, np.float32)
    mixed[here], seen[here] = np.minimum(chance / 2, 0.49), attention
    mixed += drawn / np.float32(2)
    settled = (drawn == outline) & (request.outline is not None)
    return _region(whole, np.where(settled, drawn, mixed), seen, settled, request)


def _kept_with(study: PromptStudy, request: PromptRequest, box: Box) -> Mask | None:
    """Return voxels that need not be connected: the flagged lesion under the prompts."""
    if study.probability is None or not region_index(request):
        return None
    lesion = study.probability[0][box] >= FLAGGED
    return part_of(lesion, request.foreground - [side.start for side in box])


def _check(study: PromptStudy, request: PromptRequest) -> None:
    if not len(request.foreground) and request.outline is None:
        raise refused(
            "no foreground prompt" if len(request.background) else "no prompt",
            "at least one point or scribble inside the structure, or an outline to correct",
        )
    if not len(request.foreground) and not len(request.background):
        raise refused("an outline without a prompt", "a point or scribble where it is wrong")
    both = set(map(tuple, request.foreground.tolist())) & set(
        map(tuple, request.background.tolist())
    )
    if both:
        raise refused(
            "a voxel prompted as both foreground and background",
            "one kind of prompt per voxel of 1 mm",
            "Leave one of them out, or move them apart",
        )
    shape = study.brain.shape
    for points in (request.foreground, request.background):
        if not is_inside(points, shape).all():
            raise outside_brain()
    if len(request.foreground) and not study.brain[tuple(request.foreground.T)].all():
        raise outside_brain()


def _groups(request: PromptRequest, outline: Mask) -> Iterator[Points]:
    """Group the prompts that contradict an outline by the crop they fit into."""
    wrong = list(contradicting(request, outline))
    while wrong:
        near = [p for p in wrong if np.abs(p - wrong[0]).max() <= _TOGETHER_MM / 2]
        wrong = [p for p in wrong if np.abs(p - wrong[0]).max() > _TOGETHER_MM / 2]
        yield np.array(near)


def _crop_for(study: PromptStudy, request: PromptRequest) -> Crop:
    """Choose the first crop: the flagged object at the prompts, else around the prompts."""
    low, high = request.foreground.min(0), request.foreground.max(0)
    least = float((high - low).max()) + 16.0
    known = _known_extent(study, request)
    if known is None:
        spacing = max(_UNKNOWN_MM, least / _ANEW)
        return Crop.straight((low + high) / 2, min(spacing, _COARSEST), _ANEW)
    first, last = np.minimum(known[0], low), np.maximum(known[1], high)
    wanted = max(_ROOM * float((last - first).max()), least) / _ANEW
    return Crop.straight((first + last) / 2, float(np.clip(wanted, _FINEST, _COARSEST)), _ANEW)


def _known_extent(study: PromptStudy, request: PromptRequest) -> tuple[Points, Points] | None:
    """Return the corners of the flagged object under the prompts, on every second voxel."""
    if not study.flagged:
        return None
    parts = study.flagged[region_index(request) or 0]
    half = np.minimum(request.foreground // 2, np.array(parts.shape) - 1)
    here = set(np.unique(parts[tuple(half.T)]).tolist()) - {0}
    if not here:
        return None
    places = np.argwhere(np.isin(parts, list(here)))
    return 2 * places.min(0), 2 * places.max(0) + 1


def _better_crop(chance: Floats, box: Box, crop: Crop, wanted: Points) -> Crop | None:
    """Return a larger crop if a response is cut off, a smaller one if it is small."""
    spacing = float(crop.step[0, 0])
    drawn = chance >= 0.5
    corner = np.array([side.start for side in box])
    if not drawn.any():
        return None
    drawn = part_of(drawn, wanted - corner)
    if not drawn.any():
        return None
    faces = [drawn.take(end, axis).mean() for axis in range(3) for end in (0, -1)]
    sides = ndimage.find_objects(drawn.astype(np.uint8))[0]
    low = corner + [side.start for side in sides]
    high = corner + [side.stop - 1 for side in sides]
    middle, extent = (low + high) / 2, float((high - low).max())
    if max(faces) > _CUT_OFF and spacing < _COARSEST:
        return Crop.straight(middle, min(1.5 * spacing, _COARSEST), crop.size)
    closer = max(_FINEST, _ROOM * extent / crop.size)
    return Crop.straight(middle, closer, crop.size) if closer < spacing / 1.2 else None


def _region(
    box: Box, chance: Floats, attention: Floats, settled: Mask, request: PromptRequest
) -> PromptResponse:
    """Build the response; prompts override the network."""
    for points, value in ((request.foreground, 1.0), (request.background, 0.0)):
        chance[marks(points - [side.start for side in box], chance.shape)] = value
    return PromptResponse(box, chance, attention, settled)
