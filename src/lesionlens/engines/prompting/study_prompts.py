"""Prompts on a prepared study, with the network input cached between prompts."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch

from lesionlens.base import geometry
from lesionlens.base.geometry import Floats
from lesionlens.base.labels import Region
from lesionlens.base.provenance import version_of
from lesionlens.base.records.prompts import CORRECTION_RADIUS_MM, PromptRequest, PromptResponse
from lesionlens.base.records.study import PreparedStudy
from lesionlens.base.run_context import SILENT, RunContext
from lesionlens.engines import separable
from lesionlens.engines.network_input import InputFrame, make_network_input
from lesionlens.engines.prompting.crop_pass import THREADS
from lesionlens.engines.prompting.prompts import Prompter
from lesionlens.engines.prompting.rules import outside_brain
from lesionlens.engines.prompting.study_features import PromptStudy
from lesionlens.imaging.preparation.resampling import cut_grid, resample, resample_mask_near
from lesionlens.network.deterministic import with_threads
from lesionlens.network.prompt.model import PromptNetwork
from lesionlens.network.prompt.weights import NAME, SMALL_NAME, load_shipped

Probabilities = Mapping[Region, Floats]
_SPACING_MM = 1.0
_FEATURES = "computing features for prompts"


class StudyPrompts:
    """Answers prompts; caches the network input of the last study, at most 180 MB.

    The first prompt loads the shipped networks onto `device`; None for the CPU.
    """

    def __init__(self, device: torch.device | None = None) -> None:
        self._networks: tuple[PromptNetwork, ...] = ()
        self._made_by = ""
        self._device = device or torch.device("cpu")
        self._cached: tuple[InputFrame, Probabilities | None, PromptStudy] | None = None
        self._lock = threading.Lock()

    def forget(self) -> None:
        """Release the last study."""
        self._cached = None

    def move(self, device: torch.device) -> None:
        """Run on another device from now on."""
        self._device = device
        for network in self._networks:
            network.to(device)

    def prompt(
        self,
        prepared: PreparedStudy,
        request: PromptRequest,
        probability: Probabilities | None,
        *,
        context: RunContext = SILENT,
    ) -> PromptResponse:
        """Segment from prompts on the working grid; see `engines.engine.Engine`."""
        with self._lock:
            context.check(_FEATURES)
            if not self._networks:
                self._load()
            frame, study = self._study_features(prepared, probability, context)
            context.check("answering a prompt")
            response = Prompter(*self._networks).answer(study, _resampled_request(request, frame))
            return replace(_resampled_response(response, frame, request), made_by=self._made_by)

    def _load(self) -> None:
        names = NAME, SMALL_NAME
        loaded = [load_shipped(self._device, name) for name in names]
        made_by = [f"LesionLens {version_of('lesionlens')}"]
        for name, (_, notes, sha256) in zip(names, loaded, strict=True):
            made_by.append(f"{name} {notes.version}, weights {sha256[:8]}")
        self._networks, self._made_by = tuple(entry[0] for entry in loaded), "; ".join(made_by)

    def _study_features(
        self, prepared: PreparedStudy, probability: Probabilities | None, context: RunContext
    ) -> tuple[InputFrame, PromptStudy]:
        cached = self._cached
        if cached is not None and cached[0].prepared is prepared and cached[1] is probability:
            return cached[0], cached[2]
        context.progress(_FEATURES, 0.0)
        self._cached = None  # not beside the next one
        frame, study = _prompt_study(prepared, probability)
        self._cached = (frame, probability, study)
        context.progress(_FEATURES, 1.0)
        return frame, study


@with_threads(THREADS)
def _prompt_study(
    prepared: PreparedStudy, predicted: Probabilities | None
) -> tuple[InputFrame, PromptStudy]:
    """Resample a study, and what an engine predicted of it, to the grid of the prompt network."""
    net_input = make_network_input(prepared, _SPACING_MM, torch.device("cpu"))
    probability = None
    if predicted is not None:
        probability = np.zeros((len(Region), *net_input.grid.shape), np.float16)
        for n, region in enumerate(Region):
            if region in predicted:  # without T1c there is no information on enhancement
                probability[n] = resample(predicted[region], prepared.working, net_input.grid)
    images, brain = net_input.channels[0].numpy(), net_input.brain[0].numpy()
    return net_input.frame, PromptStudy(images, brain, net_input.present, probability)


def _resampled_request(request: PromptRequest, frame: InputFrame) -> PromptRequest:
    """Resample prompts, and the outline near them, to the grid of the prompt network."""
    source, target = frame.prepared.working, frame.grid
    index_map = geometry.index_map(source.affine, target.affine)
    foreground = geometry.nearest(index_map, request.foreground)
    background = geometry.nearest(index_map, request.background)
    inside = geometry.is_inside(background, target.shape)
    if len(background) and not inside.any() and not len(foreground):
        raise outside_brain()
    outline = request.outline
    if outline is not None:
        points = np.concatenate([foreground, background[inside]])
        outline = resample_mask_near(outline, source, target, points, CORRECTION_RADIUS_MM)
    return PromptRequest(foreground, background[inside], outline, request.region)


def _resampled_response(
    response: PromptResponse, frame: InputFrame, request: PromptRequest
) -> PromptResponse:
    """Resample a response to the working grid; unchangeable voxels keep the previous outline."""
    prepared, grid = frame.prepared, frame.grid
    to_working = geometry.index_map(grid.affine, prepared.working.affine)
    box = geometry.mapped_box(response.box, to_working, prepared.working.shape, 0.0)
    source, target = cut_grid(grid, response.box), cut_grid(prepared.working, box)
    probability = np.clip(resample(response.probability, source, target), 0, 1)
    settled = np.zeros(target.shape, bool)
    if request.outline is not None:
        settled = resample((~response.settled).astype(np.float32), source, target) <= 0
        probability = np.where(settled, request.outline[box], probability).astype(np.float32)
    attention = resample(response.attention, source, target) * prepared.brain[box]
    return PromptResponse(
        box, probability.astype(np.float32), separable.with_sum_one(attention), settled
    )
