"""Segment from prompts: crop around them, run the prompt network, restrict the change.

An existing outline changes only in voxels connected to a contradicting prompt, in the direction of
that prompt and within its reach, so that it is not altered elsewhere. Without an outline, the
response is the component at the foreground prompts. Prompts are binding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from scipy.special import expit

from lesionlens.base.geometry import (
    Box,
    Floats,
    Mask,
    bounding_box,
    clipped_box,
    covering,
    is_inside,
    overlap,
    relative,
)
from lesionlens.base.labels import Region
from lesionlens.base.numerics import logit
from lesionlens.base.records.prompts import (
    CORRECTION_RADIUS_MM,
    Points,
    PromptRequest,
    PromptResponse,
)
from lesionlens.engines import separable
from lesionlens.engines.prompting.crop_pass import CropResult, PromptPass, region_index
from lesionlens.engines.prompting.regions import (
    SMALL,
    EnclosedRegion,
    enclosed_region,
    updated_region,
)
from lesionlens.engines.prompting.rules import (
    Error,
    changeable_voxels,
    components_at,
    connected_component,
    connected_to,
    contradicting_prompts,
    errors,
    lowered_threshold,
    mark_voxels,
    outside_brain,
    refused,
)
from lesionlens.engines.prompting.similarity import propagated_corrections, shifted_logits
from lesionlens.engines.prompting.small_objects import small_object
from lesionlens.engines.prompting.study_features import FLAGGED, PromptStudy
from lesionlens.network.prompt.crop import Crop
from lesionlens.network.prompt.model import PromptNetwork

_CORRECTION_VOX, _FIRST_OUTLINE_VOX = 48, 64  # crop edge in voxels, with and without an outline
_MIN_SPACING_MM, _MAX_SPACING_MM = 1.0, 3.0  # mm
_MIN_MARGIN_MM = 16.0  # minimum margin of a crop around the prompts of a correction
_RELATIVE_SIZE = 1.3  # crop size relative to the object
_MIN_PROBABILITY, _MIN_ANALYSIS_PROBABILITY = 1e-4, 1e-3  # floors of the networks' probabilities
_DEFAULT_SPACING_MM = 1.25  # crop edge if the object's size is unknown
_MAX_GROUP_MM = 32.0  # prompts closer than this share a crop
_MAX_FACE_FRACTION = 0.01
"""Fraction of the crop's faces that a response may touch before the crop is enlarged."""
_MAX_SIMILARITY_DEPTH_MM = 2.5
"""Maximum depth of an error for the similarity model without a named region."""
_SIMILARITY_WEIGHT: dict[Region | None, float] = {
    Region.WT: 0.3, Region.TC: 0.5, Region.ET: 0.7, None: 0.5}  # fmt: skip
"""Weight of the similarity model in a correction, by the prompted region."""
_UNNAMED_CARRY_WEIGHT = 0.5  # share of a correction that is propagated if no region is named
_ANALYSIS_WEIGHT = 0.6  # weight of the analysis in a first outline of a named region
_BIAS = (0.0, 0.6, 0.6)
"""Added to the analysis's logits of WT, TC and ET in a first outline: it thresholds cores lower."""
_NEAR_MM = 5.0  # along each axis: a flagged lesion so near to a prompt is part of a named region
_MIN_CERTAINTY = 0.88  # mean probability of a response below which a watershed may replace it


class Prompter:
    """Answers prompts with networks on one device.

    Parameters
    ----------
    network : PromptNetwork
        In evaluation mode.
    small : PromptNetwork or None
        Answers first; its outline is used if it is small, unless the prompts name a region of a
        lesion that the analysis flags.
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
            return self._first_outline(study, request)
        return self._correction(study, request, request.outline)

    def _first_outline(self, study: PromptStudy, request: PromptRequest) -> PromptResponse:
        small_result = self._small_object(study, request)
        if small_result is not None:
            box, probability, attention = small_result
            return _response(
                box, probability, attention, np.zeros(probability.shape, bool), request
            )
        crop, excluded = _crop_for(study, request), _distant_lesions(study, request)
        box, probability, attention = self._region_in(study, request, crop, excluded)
        better_crop = _better_crop(probability, box, crop, request.foreground)
        if better_crop is not None:
            box, probability, attention = self._region_in(study, request, better_crop, excluded)
        if _is_unknown(study, request) and _certainty(probability) < _MIN_CERTAINTY:
            enclosed = enclosed_region(study, request)
            if enclosed is not None:
                crop_result = CropResult(box, probability, attention)
                return _region_response(crop_result, enclosed, request)
        foreground = request.foreground - [side.start for side in box]
        probability = connected_component(
            lowered_threshold(probability, foreground),
            foreground,
            _flagged_lesion(study, request, box),
        )
        return _response(box, probability, attention, np.zeros(probability.shape, bool), request)

    def _region_in(
        self, study: PromptStudy, request: PromptRequest, crop: Crop, excluded: Mask | None
    ) -> CropResult:
        """Run the network on one crop, with the analysis of a named region."""
        box, probability, attention = self._pass.at(study, request, crop)
        probability = _with_analysis(study, request, box, probability)
        if excluded is not None:
            probability = np.where(excluded[box], np.float32(0), probability)
        return CropResult(box, probability, attention)

    def _small_object(self, study: PromptStudy, request: PromptRequest) -> CropResult | None:
        return None if self._small is None else small_object(self._small, study, request)

    def _correction(
        self, study: PromptStudy, request: PromptRequest, outline: Mask
    ) -> PromptResponse:
        small_result = self._small_object(study, request)
        if small_result is not None:
            return _small_correction(small_result, request, outline)
        enclosed = updated_region(study, request, outline) if _is_unknown(study, request) else None
        if enclosed is not None:
            crop_result = self._pass.at(study, request, _crop_for(study, request))
            return _region_response(crop_result, enclosed, request)
        groups = list(_groups(request, outline))
        points = np.concatenate([request.foreground, request.background])
        region_box = clipped_box(
            points.min(0) - CORRECTION_RADIUS_MM,
            points.max(0) + CORRECTION_RADIUS_MM,
            outline.shape,
        )
        current, combined = outline.copy(), outline[region_box].astype(np.float32)
        attention, settled = np.zeros(combined.shape, np.float32), np.ones(combined.shape, bool)
        for group in groups:
            prompt_errors = errors(current, group, request)
            centre = (group.min(0) + group.max(0)) / 2
            reach = max(_MIN_MARGIN_MM, *(error.reach_mm for error in prompt_errors))
            extent = float(np.ptp(group, axis=0).max()) + 2 * reach + 4
            crop = Crop.straight(centre, extent / (_CORRECTION_VOX - 1), _CORRECTION_VOX)
            crop_result = self._pass.at(study, replace(request, outline=current), crop)
            box, probability, crop_attention = _cropped_to(region_box, crop_result)
            if (
                request.region is not None
                or max(error.depth_mm for error in prompt_errors) <= _MAX_SIMILARITY_DEPTH_MM
            ):
                probability = _with_similarity(study, request, current, box, probability)
            probability = _carried_on(study, request, current, prompt_errors, box, probability)
            adjustable = changeable_voxels(probability, current, prompt_errors, box)
            local_box = relative(box, region_box)
            attention[local_box] += crop_attention / len(groups)
            combined[local_box] = np.where(adjustable, probability, combined[local_box])
            settled[local_box] &= ~adjustable
            current[box] = combined[local_box] >= 0.5
        return _response(region_box, combined, attention, settled, request)


def _cropped_to(box: Box, result: CropResult) -> CropResult:
    """Crop a result to the part of its box that lies in another box.

    A crop is a cube: around a flat box or a long scribble it extends beyond the voxels that a
    correction may change.
    """
    part = overlap(result.box, box)
    inner = relative(part, result.box)
    attention = separable.with_sum_one(result.attention[inner])
    return CropResult(part, result.probability[inner], attention)


def _with_analysis(
    study: PromptStudy, request: PromptRequest, box: Box, probability: Floats
) -> Floats:
    """Blend in the analysis, if the prompts name a region and the analysis flags it there."""
    index = region_index(request)
    if index is None or study.probability is None or not study.flags(request.foreground):
        return probability
    analysis_logits = (
        logit(np.asarray(study.probability[index][box], np.float32), _MIN_ANALYSIS_PROBABILITY)
        + _BIAS[index]
    )
    return _blended(study.brain[box], probability, analysis_logits, _ANALYSIS_WEIGHT)


def _distant_lesions(study: PromptStudy, request: PromptRequest) -> Mask | None:
    """Return the (I, J, K) flagged lesions that a named region does not extend into.

    They lie apart from the prompts, at which the analysis flags nothing: what the prompts mean may
    touch such a lesion, as a ventricle does, without being a part of it.
    """
    if request.region is None or study.probability is None or study.flags(request.foreground):
        return None
    lesions, near = study.probability[0] >= FLAGGED, np.zeros(study.brain.shape, bool)
    for point in request.foreground:
        near[clipped_box(point - _NEAR_MM, point + _NEAR_MM, near.shape)] = True
    return np.asarray(lesions & ~connected_to(near, lesions), bool)


def _with_similarity(
    study: PromptStudy, request: PromptRequest, outline: Mask, box: Box, probability: Floats
) -> Floats:
    """Blend in the similarity model in a correction of a named region or of a small object."""
    index, reference = region_index(request), probability
    if index is not None and study.probability is not None:
        reference = np.asarray(study.probability[index][box], np.float32)
    elif np.count_nonzero(outline) > SMALL:
        return probability
    corner = [side.start for side in box]
    shifted = shifted_logits(
        reference,
        study.smooth[(slice(None), *box)],
        outline[box],
        (request.foreground - corner, request.background - corner),
    )
    return _blended(study.brain[box], probability, shifted, _SIMILARITY_WEIGHT[request.region])


def _carried_on(
    study: PromptStudy,
    request: PromptRequest,
    outline: Mask,
    prompt_errors: Sequence[Error],
    box: Box,
    probability: Floats,
) -> Floats:
    """Carry the correction on to similar voxels within the error."""
    logits = propagated_corrections(
        logit(probability, _MIN_PROBABILITY),
        study.smooth[(slice(None), *box)],
        outline[box],
        prompt_errors,
        np.array([side.start for side in box]),
        _UNNAMED_CARRY_WEIGHT if request.region is None else 1.0,
    )
    return np.asarray(study.brain[box] * expit(logits), np.float32)


def _blended(brain: Mask, probability: Floats, other_logits: Floats, weight: float) -> Floats:
    """Blend a probability with other logits in the brain."""
    logits = (1 - weight) * logit(probability, _MIN_PROBABILITY) + weight * other_logits
    return np.asarray(brain * expit(logits), np.float32)


def _small_correction(result: CropResult, request: PromptRequest, outline: Mask) -> PromptResponse:
    """Correct a small outline: additions are taken over entirely, removals follow the rules."""
    box, probability, attention = result
    prompt_errors = errors(outline, contradicting_prompts(request, outline), request)
    adjustable = changeable_voxels(
        probability, outline, [error for error in prompt_errors if not error.is_foreground], box
    )
    if any(error.is_foreground for error in prompt_errors):
        adjustable |= ~outline[box]
    changed = np.where(adjustable, probability, outline[box]).astype(np.float32)
    return _response(box, changed, attention, ~adjustable, request)


def _is_unknown(study: PromptStudy, request: PromptRequest) -> bool:
    """Return whether prompts name no region and the analysis flags nothing at them."""
    return (
        request.region is None
        and len(request.foreground) > 0
        and not study.flags(request.foreground)
    )


def _certainty(probability: Floats) -> float:
    """Return the mean probability of the voxels in a response."""
    mask = probability >= 0.5
    return float(probability[mask].mean()) if mask.any() else 0.0


def _region_response(
    crop_result: CropResult, region: EnclosedRegion, request: PromptRequest
) -> PromptResponse:
    """Respond with an enclosed region; the network's probability shows where it agrees."""
    whole = covering(crop_result.box, region.box)
    crop_box, region_box = relative(crop_result.box, whole), relative(region.box, whole)
    i, j, k = (side.stop - side.start for side in whole)
    outline = np.zeros((i, j, k), bool) if request.outline is None else request.outline[whole]
    new_outline = outline.copy()
    new_outline[region_box] = region.mask
    blended, attention = np.zeros((2, *new_outline.shape), np.float32)
    blended[crop_box] = np.minimum(crop_result.probability / 2, 0.49)
    blended += new_outline / np.float32(2)
    attention[crop_box] = crop_result.attention
    settled = (new_outline == outline) & (request.outline is not None)
    return _response(whole, np.where(settled, new_outline, blended), attention, settled, request)


def _flagged_lesion(study: PromptStudy, request: PromptRequest, box: Box) -> Mask | None:
    """Return voxels that need not be connected: the flagged lesion under the prompts."""
    if study.probability is None or not region_index(request):
        return None
    lesion = study.probability[0][box] >= FLAGGED
    return components_at(lesion, request.foreground - [side.start for side in box])


def _check(study: PromptStudy, request: PromptRequest) -> None:
    if not len(request.foreground) and request.outline is None:
        raise refused(
            "no foreground prompt" if len(request.background) else "no prompt",
            "at least one point or scribble inside the structure, or an outline to correct",
        )
    if not len(request.foreground) and not len(request.background):
        raise refused("an outline without a prompt", "a point or scribble where it is wrong")
    contradictory = set(map(tuple, request.foreground.tolist())) & set(
        map(tuple, request.background.tolist())
    )
    if contradictory:
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
    points = list(contradicting_prompts(request, outline))
    while points:
        group = [p for p in points if np.abs(p - points[0]).max() <= _MAX_GROUP_MM / 2]
        points = [p for p in points if np.abs(p - points[0]).max() > _MAX_GROUP_MM / 2]
        yield np.array(group)


def _crop_for(study: PromptStudy, request: PromptRequest) -> Crop:
    """Choose the first crop: the flagged object at the prompts, else around the prompts."""
    low, high = request.foreground.min(0), request.foreground.max(0)
    min_extent_mm = float((high - low).max()) + 16.0
    extent = _flagged_extent(study, request)
    if extent is None:
        spacing = max(_DEFAULT_SPACING_MM, min_extent_mm / _FIRST_OUTLINE_VOX)
        return Crop.straight((low + high) / 2, min(spacing, _MAX_SPACING_MM), _FIRST_OUTLINE_VOX)
    first, last = np.minimum(extent[0], low), np.maximum(extent[1], high)
    required_mm = (
        max(_RELATIVE_SIZE * float((last - first).max()), min_extent_mm) / _FIRST_OUTLINE_VOX
    )
    return Crop.straight(
        (first + last) / 2,
        float(np.clip(required_mm, _MIN_SPACING_MM, _MAX_SPACING_MM)),
        _FIRST_OUTLINE_VOX,
    )


def _flagged_extent(study: PromptStudy, request: PromptRequest) -> tuple[Points, Points] | None:
    """Return the corners of the flagged object under the prompts, on every second voxel."""
    if not study.flagged:
        return None
    parts = study.flagged[region_index(request) or 0]
    labels = set(np.unique(parts[tuple((request.foreground // 2).T)]).tolist()) - {0}
    if not labels:
        return None
    voxels = np.argwhere(np.isin(parts, list(labels)))
    return 2 * voxels.min(0), 2 * voxels.max(0) + 1


def _better_crop(probability: Floats, box: Box, crop: Crop, foreground: Points) -> Crop | None:
    """Return a larger crop if a response is cut off, a smaller one if it is small."""
    spacing = float(crop.step[0, 0])
    corner = np.array([side.start for side in box])
    mask = components_at(probability >= 0.5, foreground - corner)
    sides = bounding_box(mask)
    if sides is None:
        return None
    faces = [mask.take(end, axis).mean() for axis in range(3) for end in (0, -1)]
    low = corner + [side.start for side in sides]
    high = corner + [side.stop - 1 for side in sides]
    centre, extent = (low + high) / 2, float((high - low).max())
    if max(faces) > _MAX_FACE_FRACTION and spacing < _MAX_SPACING_MM:
        return Crop.straight(centre, min(1.5 * spacing, _MAX_SPACING_MM), crop.size)
    finer = max(_MIN_SPACING_MM, _RELATIVE_SIZE * extent / crop.size)
    return Crop.straight(centre, finer, crop.size) if finer < spacing / 1.2 else None


def _response(
    box: Box, probability: Floats, attention: Floats, settled: Mask, request: PromptRequest
) -> PromptResponse:
    """Build the response; prompts override the network."""
    for points, value in ((request.foreground, 1.0), (request.background, 0.0)):
        probability[mark_voxels(points - [side.start for side in box], probability.shape)] = value
    return PromptResponse(box, probability, attention, settled)
