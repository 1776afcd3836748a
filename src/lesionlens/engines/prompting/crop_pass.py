"""Run a prompt network on one crop of a study."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from lesionlens.base.geometry import Box, Floats, Mask, relative
from lesionlens.base.labels import Region
from lesionlens.base.records.prompts import Points, PromptRequest
from lesionlens.engines import separable
from lesionlens.engines.prompting.study_features import PromptStudy
from lesionlens.network.deterministic import with_threads
from lesionlens.network.prompt.crop import Crop, Question, Scene, network_input, paste, sample
from lesionlens.network.prompt.model import PromptInput, PromptNetwork, PromptOutput

THREADS = 2
"""Number of threads of a pass and of its input: fixed, so that the machine does not change results.
"""


class CropResult(NamedTuple):
    """The response of a prompt network in a box of the study."""

    box: Box
    probability: Floats
    """(I, J, K) float32 in the box."""
    attention: Floats
    """(I, J, K) float32 in the box; sums to one."""


class PromptPass:
    """One prompt network, in evaluation mode on one device."""

    def __init__(self, network: PromptNetwork) -> None:
        self._network = network

    def at(self, study: PromptStudy, request: PromptRequest, crop: Crop) -> CropResult:
        """Run the network on one crop."""
        spacing = float(crop.step[0, 0])
        images = sample(study.images, crop)
        brain = sample(study.brain[None], crop).round()
        probability = None if study.probability is None else sample(study.probability, crop)
        scene = Scene(images * brain, brain, study.present, probability, spacing)
        outline = None
        if request.outline is not None:
            outline = sample(request.outline[None], crop)[0].numpy() >= 0.5
        marks = _mark_points(request.foreground, crop), _mark_points(request.background, crop)
        output = self._run(scene, Question(*marks, outline, region_index(request)))
        box, logits = paste(output.logits[0, 0].float(), crop, study.brain.shape)
        predicted = (1 / (1 + np.exp(-logits))) * study.brain[box]
        attention = _resampled_attention(output, crop, study.brain, box)
        return CropResult(box, predicted.astype(np.float32), attention)

    @with_threads(THREADS)
    @torch.inference_mode()
    def _run(self, scene: Scene, question: Question) -> PromptOutput:
        device = next(self._network.parameters()).device
        maps, facts = network_input(scene, question)
        x = PromptInput(maps.to(device), facts.to(device))
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            output = self._network(x, trace=True)
        attention = output.attention
        return PromptOutput(
            output.logits.cpu(), None if attention is None else attention.float().cpu()
        )


def region_index(request: PromptRequest) -> int | None:
    """Return the position of the prompted region in `Region`."""
    return None if request.region is None else list(Region).index(request.region)


def _mark_points(points: Points, crop: Crop) -> Mask:
    out = np.zeros((crop.size,) * 3, bool)
    out[tuple(crop.inside(points).T)] = True
    return out


def _resampled_attention(output: PromptOutput, crop: Crop, brain: Mask, box: Box) -> Floats:
    """Resample the attention to the voxels of a box, with sum one."""
    out = np.zeros(brain[box].shape, np.float32)
    if output.attention is None:
        return out
    coarse = output.attention[0]
    step = crop.size / coarse.shape[0]
    covered, values = paste(coarse, Crop(crop.centre, crop.step * step, len(coarse)), brain.shape)
    out[relative(covered, box)] = values * brain[covered]
    return separable.with_sum_one(out)
