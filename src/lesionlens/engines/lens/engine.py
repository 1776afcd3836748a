"""The Lens network as a torch engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import override

from lesionlens.base.labels import ComputePrecision, Region
from lesionlens.base.process.retained_memory import trim_memory
from lesionlens.base.records.arrays import Volume
from lesionlens.base.records.prediction import Capability, EngineInfo
from lesionlens.base.records.prompts import PromptRequest, PromptResponse
from lesionlens.base.records.study import PreparedStudy
from lesionlens.base.run_context import Cancel, RunContext
from lesionlens.engines import device as devices
from lesionlens.engines import gradcam, separable
from lesionlens.engines.engine import Target, unknown_method
from lesionlens.engines.interruptible import exclude_from_progress, interruptible
from lesionlens.engines.lens.background import BackgroundTask
from lesionlens.engines.lens.method import CAPABILITIES, EVERYTHING, LensMethod
from lesionlens.engines.prompting.study_prompts import StudyPrompts
from lesionlens.network import weights as weight_files
from lesionlens.network.concurrent_passes import run_concurrently
from lesionlens.network.deterministic import (
    fixed_threads,
    set_threads_of_worker,
    thread_count,
    with_threads,
)
from lesionlens.network.model import LensNetwork, LensOutput
from lesionlens.network.pass_output import PassOutput
from lesionlens.network.pass_pool import R, T


class LensEngine(LensMethod):
    """Runs the Lens network on a prepared study.

    Parameters
    ----------
    device : str
        As for `engines.device.choose`.
    weights : str, Path or None
        A weights file; "default" or "synthetic" for the shipped ones; a version accepted on this
        machine, such as "v1"; None for the weights in use.
    precision : ComputePrecision or str
        As for `engines.device.choose_precision`.

    Raises
    ------
    WeightsError
        The weights are missing, altered or of another network.
    ResourceError
        The device is missing.
    UnusableInputError
        The device does not support the precision.
    """

    name = "lens"
    _batch_size = 2  # measured: a seventh less time than one by one; four do not fit into the cache

    def __init__(
        self,
        device: str = "auto",
        weights: str | Path | None = None,
        precision: ComputePrecision | str = ComputePrecision.AUTO,
    ) -> None:
        torch_device = devices.choose(device)
        self._precision = devices.choose_precision(torch_device, precision)
        self._network, weights_info = weight_files.load_chosen(weights, torch_device)
        self.placement = devices.DevicePlacement(torch_device, self._move)
        self._prompts = StudyPrompts(device=torch_device)
        super().__init__(weights_info, torch_device)

    def _move(self, device: torch.device) -> None:
        self._network.to(device)
        self._precision = devices.choose_precision(device)
        self._prompts.move(device)
        self._empty_caches(device)

    @override
    def forget(self) -> None:
        super().forget()
        self._prompts.forget()

    @property
    @override
    def info(self) -> EngineInfo:
        threads = thread_count() if self._device.type == "cpu" else None
        device = devices.describe(self._device, self._precision)
        capabilities = CAPABILITIES | {Capability.PROMPT}
        return self._info(device, threads, self._precision, capabilities)

    @devices.on_placement_device
    def answer_prompts(
        self,
        prepared: PreparedStudy,
        request: PromptRequest,
        probability: Mapping[Region, NDArray[np.float32]] | None,
        *,
        context: RunContext,
    ) -> PromptResponse:
        """Segment from prompts; see `engines.engine.SupportsPrompts`."""
        return self._prompts.answer_prompts(prepared, request, probability, context=context)

    @property
    @override
    def _device(self) -> torch.device:
        return self.placement.device

    @override
    def _map_passes(
        self, run: Callable[[T], R], inputs: Sequence[T], last_threads: int = 2
    ) -> Iterator[R]:
        if self._device.type == "cpu":
            trim_memory()  # of passes of other shapes
            return run_concurrently(run, inputs, last_threads)
        return super()._map_passes(run, inputs)

    @override
    def _in_background(self, function: Callable[[Cancel], None]) -> BackgroundTask:
        if self._device.type != "cpu" or thread_count() == 1:
            return BackgroundTask()
        return BackgroundTask(function, _limit_to_one_uncounted_thread)

    @property
    @override
    def _notices(self) -> tuple[str, ...]:
        return self.placement.notices

    @property
    def network(self) -> LensNetwork:
        """The network in evaluation mode."""
        return self._network

    first_pass = devices.on_placement_device(with_threads(1)(LensMethod.first_pass))
    predict = devices.on_placement_device(with_threads(1)(LensMethod.predict))
    predict_perturbed = devices.on_placement_device(with_threads(1)(LensMethod.predict_perturbed))

    @devices.on_placement_device
    @with_threads(gradcam.THREADS)
    def attribute(self, prepared: PreparedStudy, target: Target, method: str) -> Volume:
        """Return a "grad-cam" map as a second opinion; see `engines.engine.Engine.attribute`.

        Gradients instead of attention: which features, at half the network's resolution,
        contributed to the region. The weights sum to one over the brain.
        """
        if method != "grad-cam":
            raise unknown_method(
                method,
                "grad-cam; attention is in every result",
                "Request grad-cam, or use the attention maps of the result",
            )
        with fixed_threads(1):  # as in a prediction, which uses the same input
            network_input = self._fine_cache.input_for(prepared)
        x = network_input.input_of(EVERYTHING)
        channels = {target.region: list(Region).index(target.region)}
        layer = self._network.decoder.to_half
        cam = gradcam.maps(lambda x: self._network(x).logits, layer, x, channels)[target.region]
        weights = separable.with_sum_one(network_input.frame.to_working(cam))
        return Volume(weights, prepared.working)

    @override
    @contextmanager
    def _watch(self, stage: str, context: RunContext, passes: int) -> Iterator[None]:
        rarely_used = self._network.lesions
        trim_memory()
        with interruptible(self._network, stage, context, passes, rarely_used):
            yield
        trim_memory()

    @override
    def _pass(self, x: Tensor, *, bounds: Tensor | None = None, trace: bool = False) -> PassOutput:
        autocast = devices.autocast_for(self._precision, self._device)
        with torch.inference_mode(), autocast:
            out: LensOutput = self._network(x, bounds=bounds, trace=trace, lesions=trace)
        classes = None if out.lesions is None else out.lesions.class_probabilities()
        return PassOutput(out.logits, out.attention, out.trace, classes)


def _limit_to_one_uncounted_thread() -> None:
    set_threads_of_worker(1)
    exclude_from_progress()
