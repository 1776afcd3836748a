"""Outline what a reader points at: `Prompter.prompt`.

A crop around the prompts goes through the prompt network. Its answer is blended with the analysis
and limited to what the prompts may change (`prompt_rules`), on voxels of 1 mm over the brain. A
network for small objects looks first at a crop of 32 mm: in a first crop of the general network,
80 mm wide, a metastasis is a few voxels.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from scipy.special import expit
from torch import Tensor, nn

from lesionlens.base import geometry
from lesionlens.base.geometry import Box, Floats, Mask, bounding_box, clipped_box, relative
from lesionlens.base.grid import Grid
from lesionlens.base.labels import Region
from lesionlens.base.numerics import logit
from lesionlens.base.provenance import version_of
from lesionlens.base.records.prompts import (
    CORRECTION_RADIUS_MM,
    Points,
    PromptRequest,
    PromptResponse,
)
from lesionlens.base.records.study import PreparedStudy
from lesionlens.base.run_context import SILENT, RunContext
from lesionlens.engines import prompt_rules as rules
from lesionlens.engines.grid import make_network_input
from lesionlens.imaging.preparation.resampling import cut_grid, resample, resample_mask_near
from lesionlens.network import prompt_net
from lesionlens.network.prompt_net import PromptInput, PromptOutput, Question, Scene, prompt_input

Errors = tuple[rules.Error, ...]
_FIRST_VOX, _CORRECTION_VOX, _SMALL_VOX = 64, 48, 32  # edges of a crop
_DEFAULT_SPACING_MM, _SPACING_MM = 1.25, (1.0, 3.0)  # of a first outline
_RELATIVE_SIZE, _MAX_FACE_SHARE = 1.3, 0.01  # of a crop and its object
_MIN_MARGIN_MM = 16.0  # around the prompts of a correction
_FLAGGED = 0.5
_SHARE_OF_ANALYSIS = 0.6  # in a first outline of a named region that was flagged
_BIAS = (0.0, 0.6, 0.6)  # of its logits: the analysis has lower thresholds for cores
_SHARE_IN_CORRECTION: dict[Region | None, float] = {
    Region.WT: 0.3, Region.TC: 0.5, Region.ET: 0.7, None: 0.5}  # fmt: skip
_MAX_UNNAMED_DEPTH_MM, _MAX_SMALL_VOX = 2.5, 4000
_MIN_SMALL_VOX, _SMALL_MARGIN_VOX, _MIN_CERTAINTY = 8, 5, 0.9


@dataclass(frozen=True, eq=False)
class PromptStudy:
    """A study on voxels of 1 mm over the brain."""

    images: Floats
    """(4, I, J, K): z-scored in the brain, zero outside and for absent sequences."""
    brain: Mask
    present: tuple[bool, ...]
    probability: NDArray[np.floating] | None = None
    """(3, I, J, K): of WT, TC and ET; None without an analysis."""

    @cached_property
    def smooth(self) -> Floats:
        """The images with less noise, so that one voxel shows its tissue; 50 MB."""
        return np.asarray(ndimage.gaussian_filter(self.images, (0, 0.8, 0.8, 0.8)), np.float32)

    def flags(self, points: Points) -> bool:
        """Return whether the analysis flags one of (N, 3) voxels."""
        values = () if self.probability is None else self.probability[0][tuple(points.T)]
        return bool(np.any(np.asarray(values) >= _FLAGGED))


class Crop(NamedTuple):
    """A cube of `size` voxels an edge; centre and voxel edge are in voxels of a volume."""

    centre: NDArray[np.float64]
    spacing: float
    size: int

    def voxels(self, points: Points) -> Points:
        """Return the (N, 3) nearest voxels of the crop; points outside are dropped."""
        index = np.rint((points - self.centre) / self.spacing + (self.size - 1) / 2)
        return index[((index >= 0) & (index < self.size)).all(1)].astype(np.int64)

    def sample(self, volume: NDArray[np.generic]) -> Tensor:
        """Interpolate (C, I, J, K) to (C, n, n, n) float32, zero outside the volume."""
        edges = self.spacing * (np.arange(self.size) - (self.size - 1) / 2)
        low, high = self.centre + edges[0] - 1, self.centre + edges[-1] + 1
        box = clipped_box(low, high, volume.shape[1:])
        part = torch.from_numpy(np.ascontiguousarray(volume[(slice(None), *box)], np.float32))
        return _along_axes(part, [edges + offset for offset in self.centre - _corner(box)])

    def paste(self, values: Tensor, shape: tuple[int, ...]) -> tuple[Box, Floats]:
        """Interpolate (n, n, n) to the voxels of a volume of this shape that the crop covers."""
        half = self.spacing * (self.size - 1) / 2
        first, last = np.ceil(self.centre - half), np.floor(self.centre + half)
        box = clipped_box(first, np.maximum(last, first - 1), shape)
        positions = [
            (np.arange(side.start, side.stop) - centre + half) / self.spacing
            for side, centre in zip(box, self.centre, strict=True)
        ]
        return box, _along_axes(values.float()[None], positions)[0].numpy()


def _along_axes(values: Tensor, positions: list[NDArray[np.float64]]) -> Tensor:
    """Interpolate (C, I, J, K) linearly at coordinates along each axis; zero outside."""
    for axis, position in enumerate(positions, 1):
        distance = np.abs(position[:, None] - np.arange(values.shape[axis]))
        weights = torch.from_numpy(np.clip(1 - distance, 0, None).astype(np.float32))
        values = (values.movedim(axis, -1) @ weights.T).movedim(-1, axis)
    return values


class Answer(NamedTuple):
    """What a network sees in a box of the study."""

    box: Box
    probability: Floats
    attention: Floats
    """Sums to one."""


class Prompter:
    """Answers prompts by the shipped networks; keeps the last study as the networks see it."""

    def __init__(self, networks: Sequence[nn.Module] = ()) -> None:
        """Run two networks, the general one and that for small objects; else the shipped ones."""
        self._device, self._made_by, self._networks = torch.device("cpu"), "", list(networks)
        self._last: tuple[PreparedStudy, object, Grid, PromptStudy] | None = None
        self._lock = threading.Lock()

    def forget(self) -> None:
        """Release the last study, at most 180 MB."""
        self._last = None

    def move(self, device: torch.device) -> None:
        """Run on another device from now on."""
        self._device = device
        for network in self._networks:
            network.to(device)

    def prompt(
        self,
        prepared: PreparedStudy,
        request: PromptRequest,
        probability: Mapping[Region, Floats] | None,
        *,
        context: RunContext = SILENT,
    ) -> PromptResponse:
        """Segment from prompts on the working grid; see `engines.engine.Engine`."""
        with self._lock:
            context.check("answering a prompt")
            last = self._last
            if last is None or last[0] is not prepared or last[1] is not probability:
                self._last = None  # not beside the next one
                last = (prepared, probability, *prompt_study(prepared, probability))
                self._last = last
            grid, study = last[2:]
            response = self.segment(study, _resampled_request(request, prepared, grid))
            response = _resampled_response(response, prepared, grid, request)
            return replace(response, made_by=self._made_by)

    def segment(self, study: PromptStudy, request: PromptRequest) -> PromptResponse:
        """Segment from prompts on voxels of 1 mm.

        Raises
        ------
        UnusableInputError
            Prompts contradict each other, are outside the brain, or nothing stands out there.
        """
        rules.check_prompts(request, study.brain)
        if not self._networks:
            self._load()
        answer = self._small_object(study, request)
        if request.outline is None:
            answer = answer or self._first_outline(study, request)
            settled = np.zeros(answer.probability.shape, bool)
        else:
            answer, settled = self._correction(study, request, request.outline, answer)
        for points, value in ((request.foreground, 1.0), (request.background, 0.0)):
            marked = rules.mark_voxels(points - _corner(answer.box), settled.shape)
            answer.probability[marked] = value
        return PromptResponse(*answer, settled)

    def _load(self) -> None:
        made_by = [f"LesionLens {version_of('lesionlens')}"]
        for name in (prompt_net.GENERAL, prompt_net.SMALL):
            network, notes, sha256 = prompt_net.load(name, self._device)
            self._networks.append(network)
            made_by.append(f"{name} {notes.version}, weights {sha256[:8]}")
        self._made_by = "; ".join(made_by)

    @torch.inference_mode()
    def _predict(
        self, network: nn.Module, study: PromptStudy, request: PromptRequest, crop: Crop
    ) -> Answer:
        """Run a network on a crop."""
        brain = crop.sample(study.brain[None]).round()
        known = None if study.probability is None else crop.sample(study.probability)
        scene = Scene(crop.sample(study.images) * brain, brain, study.present, known, crop.spacing)
        outline = request.outline
        marks = [
            rules.mark_voxels(crop.voxels(points), (crop.size,) * 3)
            for points in (request.foreground, request.background)
        ]
        drawn = None if outline is None else crop.sample(outline[None])[0].numpy() >= 0.5
        question = Question(marks[0], marks[1], drawn, _index(request))
        x = PromptInput(*(part.to(self._device) for part in prompt_input(scene, question)))
        with torch.autocast(self._device.type, torch.bfloat16, enabled=x.maps.is_cuda):
            output: PromptOutput = network(x, trace=True)
        shape = study.brain.shape
        box, logits = crop.paste(output.logits[0, 0].cpu(), shape)
        attention = np.zeros(logits.shape, np.float32)
        if output.attention is not None:
            tokens = output.attention[0].cpu()
            coarse = Crop(crop.centre, crop.spacing * crop.size / len(tokens), len(tokens))
            covered, weights = coarse.paste(tokens, shape)
            attention[relative(covered, box)] = weights * study.brain[covered]
        return Answer(box, expit(logits) * study.brain[box], _with_sum_one(attention))

    def _small_object(self, study: PromptStudy, request: PromptRequest) -> Answer | None:
        """Return the small object at the prompts, unless they name a region of a flagged lesion."""
        foreground, outline = request.foreground, request.outline
        if not len(foreground) or (request.region is not None and study.flags(foreground)):
            return None
        centre = (foreground.min(0) + foreground.max(0)) // 2 + 0.5  # its voxels are the study's
        crop = Crop(centre, 1.0, _SMALL_VOX)
        if np.ptp(foreground, axis=0).max() > _SMALL_VOX - 2 * _SMALL_MARGIN_VOX:
            return None
        sides = None if outline is None else bounding_box(outline)
        if outline is not None and sides is not None:
            ends = np.array([[side.start, side.stop - 1] for side in sides]).T
            if np.count_nonzero(outline) > _MAX_SMALL_VOX or len(crop.voxels(ends)) < 2:
                return None
        answer = self._predict(self._networks[1], study, request, crop)
        mask, corner = answer.probability >= 0.5, _corner(answer.box)
        mask[rules.mark_voxels(request.background - corner, mask.shape)] = False
        mask[rules.mark_voxels(foreground - corner, mask.shape)] = True
        part = rules.components_at(mask, foreground - corner)
        size, inner = np.count_nonzero(part), np.count_nonzero(part[1:-1, 1:-1, 1:-1])
        is_whole = size - inner <= 2 * _MAX_FACE_SHARE * size
        if not _MIN_SMALL_VOX <= size <= _MAX_SMALL_VOX or not is_whole:
            return None
        if answer.probability[part].mean(dtype=np.float64) < _MIN_CERTAINTY:
            return None
        return answer._replace(probability=rules.without(answer.probability, mask & ~part))

    def _first_outline(self, study: PromptStudy, request: PromptRequest) -> Answer:
        """Outline what the prompts point at; a second crop has the size of what was found."""
        crop = _first_crop(study, request)
        answer = self._in_first_crop(study, request, crop)
        better = _better_crop(answer, crop, request.foreground)
        if better is not None:
            answer = self._in_first_crop(study, request, better)
        box, probability, attention = answer
        foreground, lesion = request.foreground - _corner(box), None
        if study.probability is not None and _index(request):
            lesion = rules.components_at(study.probability[0][box] >= _FLAGGED, foreground)
        return Answer(box, rules.object_at(probability, foreground, lesion), attention)

    def _in_first_crop(self, study: PromptStudy, request: PromptRequest, crop: Crop) -> Answer:
        """Run the general network, and blend in the analysis of a named region that it flags."""
        answer, index = self._predict(self._networks[0], study, request, crop), _index(request)
        if index is None or study.probability is None or not study.flags(request.foreground):
            return answer
        analysis = logit(study.probability[index][answer.box].astype(np.float32), 1e-3)
        blended = _blended(answer.probability, analysis + _BIAS[index], _SHARE_OF_ANALYSIS)
        return answer._replace(probability=blended * study.brain[answer.box])

    def _correction(
        self, study: PromptStudy, request: PromptRequest, outline: Mask, answer: Answer | None
    ) -> tuple[Answer, Mask]:
        """Correct an outline at prompts that contradict it; return which voxels may not change."""
        wrong = rules.errors(outline, request)
        if answer is not None:  # a small object: its additions are taken over entirely
            removing = tuple(error for error in wrong if not error.is_foreground)
            allowed = rules.changeable(answer.probability, outline, removing, answer.box)
            if len(removing) < len(wrong):
                allowed |= ~outline[answer.box]
        else:
            points = np.concatenate(
                [error.points for error in wrong] or [request.foreground, request.background]
            )
            margin = max([_MIN_MARGIN_MM, *(error.reach_mm for error in wrong)])
            extent = float(np.ptp(points, axis=0).max()) + 2 * margin + 4
            centre = (points.min(0) + points.max(0)) / 2
            crop = Crop(centre, extent / (_CORRECTION_VOX - 1), _CORRECTION_VOX)
            answer = self._predict(self._networks[0], study, request, crop)
            answer = _with_analysis(answer, study, request, outline, wrong)
            allowed = rules.changeable(answer.probability, outline, wrong, answer.box)
        probability = np.where(allowed, answer.probability, outline[answer.box])
        return answer._replace(probability=probability.astype(np.float32)), ~allowed


def _index(request: PromptRequest) -> int | None:
    return None if request.region is None else list(Region).index(request.region)


def _corner(box: Box) -> Points:
    return np.array([side.start for side in box])


def _with_sum_one(weights: Floats) -> Floats:
    return np.asarray(weights / max(float(weights.sum(dtype=np.float64)), 1e-12), np.float32)


def _blended(probability: Floats, other_logits: Floats, share: float) -> Floats:
    logits = (1 - share) * logit(probability, 1e-4) + share * other_logits
    return np.asarray(expit(logits), np.float32)


def _with_analysis(
    answer: Answer, study: PromptStudy, request: PromptRequest, outline: Mask, wrong: Errors
) -> Answer:
    """Blend in the analysis, or of a small object the answer, shifted to follow the prompts."""
    box, index, reference = answer.box, _index(request), answer.probability
    if index is None:
        depth = max((error.depth_mm for error in wrong), default=0.0)
        if depth > _MAX_UNNAMED_DEPTH_MM or np.count_nonzero(outline) > _MAX_SMALL_VOX:
            return answer
    elif study.probability is not None:
        reference = study.probability[index][box].astype(np.float32)
    points = (request.foreground - _corner(box), request.background - _corner(box))
    smooth = study.smooth[(slice(None), *box)]
    shifted = rules.shifted_logits(reference, smooth, outline[box], *points)
    blended = _blended(answer.probability, shifted, _SHARE_IN_CORRECTION[request.region])
    return answer._replace(probability=blended * study.brain[box])


def _first_crop(study: PromptStudy, request: PromptRequest) -> Crop:
    """Choose the crop around the flagged object at the prompts, else around the prompts."""
    low, high = request.foreground.min(0), request.foreground.max(0)
    least_mm = float((high - low).max()) + 16.0
    spacing = max(_DEFAULT_SPACING_MM, least_mm / _FIRST_VOX)
    if study.probability is not None:  # every second voxel
        coarse = study.probability[_index(request) or 0, ::2, ::2, ::2] >= _FLAGGED
        flagged = bounding_box(rules.components_at(coarse, request.foreground // 2))
        if flagged is not None:
            low = np.minimum(low, [2 * side.start for side in flagged])
            high = np.maximum(high, [2 * side.stop - 1 for side in flagged])
            spacing = max(_RELATIVE_SIZE * float((high - low).max()), least_mm) / _FIRST_VOX
    return Crop((low + high) / 2, float(np.clip(spacing, *_SPACING_MM)), _FIRST_VOX)


def _better_crop(answer: Answer, crop: Crop, foreground: Points) -> Crop | None:
    """Return a larger crop if an object is cut off, a smaller one if it is small, else None."""
    corner = _corner(answer.box)
    mask = rules.components_at(answer.probability >= 0.5, foreground - corner)
    sides = bounding_box(mask)
    if sides is None:
        return None
    ends = np.array([[side.start, side.stop - 1] for side in sides]).T + corner
    faces = [mask.take(end, axis).mean() for axis in range(3) for end in (0, -1)]
    if max(faces) > _MAX_FACE_SHARE and crop.spacing < _SPACING_MM[1]:
        return Crop(ends.mean(0), min(1.5 * crop.spacing, _SPACING_MM[1]), crop.size)
    extent = float((ends[1] - ends[0]).max())
    spacing = max(_SPACING_MM[0], _RELATIVE_SIZE * extent / crop.size)
    return Crop(ends.mean(0), spacing, crop.size) if spacing < crop.spacing / 1.2 else None


def prompt_study(
    prepared: PreparedStudy, predicted: Mapping[Region, Floats] | None
) -> tuple[Grid, PromptStudy]:
    """Resample a study, and what was predicted on its working grid, to voxels of 1 mm."""
    x = make_network_input(prepared, 1.0, torch.device("cpu"))
    probability = None
    if predicted is not None:
        probability = np.zeros((len(Region), *x.grid.shape), np.float16)
        for n, region in enumerate(Region):
            if region in predicted:
                probability[n] = resample(predicted[region], prepared.working, x.grid)
    images, brain = x.channels[0].numpy(), x.brain[0].numpy()
    return x.grid, PromptStudy(images, brain, tuple(map(bool, prepared.present)), probability)


def _resampled_request(
    request: PromptRequest, prepared: PreparedStudy, grid: Grid
) -> PromptRequest:
    """Resample prompts, and the outline near them, from the working grid."""
    index_map = geometry.index_map(prepared.working.affine, grid.affine)
    foreground = geometry.nearest(index_map, request.foreground)
    background = geometry.nearest(index_map, request.background)
    inside = geometry.is_inside(background, grid.shape)  # the frame of a box may lie beyond
    if len(background) and not inside.any() and not len(foreground):
        raise rules.outside_brain()
    outline, background = request.outline, background[inside]
    if outline is not None:
        points = np.concatenate([foreground, background])
        outline = resample_mask_near(outline, prepared.working, grid, points, CORRECTION_RADIUS_MM)
    return PromptRequest(foreground, background, outline, request.region)


def _resampled_response(
    response: PromptResponse, prepared: PreparedStudy, grid: Grid, request: PromptRequest
) -> PromptResponse:
    """Resample a response to the working grid; what may not change keeps the outline there."""
    working = prepared.working
    to_working = geometry.index_map(grid.affine, working.affine)
    box = geometry.mapped_box(response.box, to_working, working.shape, 0.0)
    source, target = cut_grid(grid, response.box), cut_grid(working, box)
    probability = np.clip(resample(response.probability, source, target), 0, 1)
    settled = np.zeros(target.shape, bool)
    if request.outline is not None:
        settled = resample((~response.settled).astype(np.float32), source, target) <= 0
        probability = np.where(settled, request.outline[box], probability)
    attention = resample(response.attention, source, target) * prepared.brain[box]
    return PromptResponse(box, probability.astype(np.float32), _with_sum_one(attention), settled)
