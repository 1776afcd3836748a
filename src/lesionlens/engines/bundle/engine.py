"""Engine for MONAI bundles that segment brain tumours."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from monai.inferers import SlidingWindowInferer
from torch import Tensor

from lesionlens.base.errors import UnusableInputError, is_out_of_memory
from lesionlens.base.geometry import Floats
from lesionlens.base.grid import Grid
from lesionlens.base.labels import ComputePrecision, MrSequence, Region
from lesionlens.base.records.prediction import (
    EngineInfo,
    InputPerturbation,
    PerturbedPrediction,
    Prediction,
    QuestionTime,
    Trace,
)
from lesionlens.base.records.study import PreparedStudy
from lesionlens.base.run_context import SILENT, RunContext, TimeLimit
from lesionlens.engines import device as devices
from lesionlens.engines import gradcam
from lesionlens.engines.bundle import attention as bundle_attention
from lesionlens.engines.bundle import files
from lesionlens.engines.bundle import maps as bundle_maps
from lesionlens.engines.bundle.maps import Probe, Reader, window_about_peak
from lesionlens.engines.engine import in_turn
from lesionlens.engines.interruptible import interruptible
from lesionlens.engines.network_input import NetworkInput, make_network_input
from lesionlens.engines.pass_cache import PassCache
from lesionlens.engines.perturbation_order import visible_sequences
from lesionlens.network.deterministic import with_threads

RUN = "running the bundle's network"
EXPLAIN = "explaining the bundle's prediction"
PERTURBATION = "predicting perturbed inputs"
GRAD_CAM, ATTENTION = "grad-cam", "attention"
PATIENCE_S = 120.0
"""Default time limit in seconds for explanations and perturbed predictions of a study."""
_THREADS = 4
"""Fixed number of threads on any CPU: another number would change the last digits, because the
summation order within a bundle's network cannot be controlled.
"""
_OVERLAP = 0.5
_CAM_MM = 2.0
_CAM_STRIDE = 4
_STRIDES = 32  # window sizes are multiples of this, which suits all of MONAI's networks
METHODS = {
    GRAD_CAM: "Grad-CAM of the bundle's network at a quarter of its resolution: not attention, "
    "but the features that led it to segment the region",
    ATTENTION: "self-attention of the bundle's network: rolled out through the blocks of each "
    "stage from the tokens that lie in the region, heads and stages averaged",
}


def _is_of_shapes(error: Exception) -> bool:
    """Return whether a network's error is of its input, not of memory or the device."""
    is_plain = type(error) in (RuntimeError, ValueError, AssertionError)
    return is_plain and not is_out_of_memory(error) and "CUDA" not in str(error)


@dataclass(frozen=True, slots=True, eq=False)
class _Examined:
    """One study and the network's prediction: (R, I, J, K) probabilities on the input's grid."""

    network_input: NetworkInput
    probabilities: Tensor

    @property
    def prepared(self) -> PreparedStudy:
        """The study."""
        return self.network_input.frame.prepared


class BundleEngine:
    """Runs a bundle's network on a prepared study.

    Inputs are z-scored in the brain as by MONAI's NormalizeIntensity(nonzero=True,
    channel_wise=True); absent ones are 0.

    Parameters
    ----------
    device : str
        As `engines.device.choose` reads it.
    patience_s : float
        Time limit in seconds for everything beyond the first pass (Grad-CAM, and up to 20 more
        passes, 21 in bfloat16); what exceeds it is skipped, with a notice.

    Raises
    ------
    UnusableInputError
        The bundle is not supported.
    WeightsError
        Its weights cannot be loaded safely.
    """

    def __init__(
        self,
        device: str = "auto",
        *,
        bundle: Path,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self.placement = devices.Placement(device, self._move)
        self._bundle = files.read(bundle)
        self._network = self._bundle.network
        self._has_attention = bundle_attention.has_blocks(self._network)
        self._reader = Reader(self._network, self._run, self._bundle.window)
        self._patience_s = patience_s
        self.placement.run(lambda: self._move(self.placement.device))

    def _move(self, device: torch.device) -> None:
        self._network.to(device)
        self._precision = devices.precision_of(device)
        """Of passes beyond the first, which is in float32."""
        self._cache = PassCache(self._bundle.spacing_mm, device, robust=False)
        self._last: _Examined | None = None

    def forget(self) -> None:
        """Release the last study; see `engines.engine.Engine`."""
        self._move(self._device)

    @property
    def _device(self) -> torch.device:
        return self.placement.device

    @property
    def info(self) -> EngineInfo:
        """Name, version, SHA-256 of the weights, capabilities, device."""
        return EngineInfo(
            name=f"monai-bundle {self._bundle.name}",
            version=self._bundle.version,
            weights_sha256=self._bundle.sha256,
            device=devices.describe(self._device, _THREADS),
            precision=self._precision,
            threads=_THREADS if self._device.type == "cpu" else None,
        )

    @devices.placed
    @with_threads(_THREADS)
    def predict(self, prepared: PreparedStudy, *, context: RunContext) -> Prediction:
        """Predict on the working grid; see `engines.engine.Engine.predict`."""
        started = time.perf_counter()
        examined = self._examine(prepared, context)
        pass_s = time.perf_counter() - started
        context.check(EXPLAIN)
        limit = TimeLimit(self._patience_s, context)
        trace = None
        with limit:
            trace = self._trace(examined, limit.context)
        unperturbed, pass_s = self._unperturbed(examined, pass_s, limit)
        omitted = () if trace is not None else (QuestionTime.left_out(["the attention maps"]),)
        return Prediction(
            probability=bundle_maps.nested(
                examined.probabilities, self._channels(), examined.network_input.frame
            ),
            engine=self.info,
            unsegmented=self._bundle.unsegmented,
            trace=trace,
            notices=(*self._bundle.notices(prepared), *omitted, *self.placement.notices),
            unperturbed=unperturbed,
            question_time=QuestionTime(limit.seconds_left, pass_s),
            cavity=None
            if self._bundle.cavity is None
            else examined.network_input.frame.to_working(
                examined.probabilities[self._bundle.cavity]
            ),
        )

    def _examine(self, prepared: PreparedStudy, context: RunContext) -> _Examined:
        """Run the network once on the whole study, as MONAI would; the last study is cached."""
        if self._last is None or self._last.prepared is not prepared:
            network_input = self._cache.input_for(prepared)
            passes = self._windows(network_input.grid)
            with interruptible(self._network, RUN, context, passes=passes):
                probabilities = self._probabilities(self._input(network_input))
            self._last = _Examined(network_input, probabilities)
        return self._last

    def _unperturbed(
        self, examined: _Examined, pass_s: float, limit: TimeLimit
    ) -> tuple[PerturbedPrediction, float]:
        """Return the unperturbed prediction for comparison, and the time of one such pass.

        It is computed with the same settings as perturbed predictions; the first pass is reused if
        the settings are equal, or if the time is up.
        """
        network_input = examined.network_input
        whole_tumour = examined.probabilities[self._whole_tumour_channel]
        if self._precision is ComputePrecision.FLOAT32:
            self._cache.store(
                self._reduced_perturbation(InputPerturbation(), network_input), whole_tumour[None]
            )
        elif pass_s <= limit.seconds_left:
            started = time.perf_counter()
            with limit:
                prediction = self.predict_subsets(
                    examined.prepared, [InputPerturbation()], context=limit.context
                )
                return prediction, time.perf_counter() - started
        return PerturbedPrediction(whole_tumour.cpu().numpy()[None], network_input.grid), pass_s

    def _trace(self, examined: _Examined, context: RunContext) -> Trace:
        """Return the attention maps, with the probe of a network with attention."""
        method = ATTENTION if self._has_attention else GRAD_CAM
        context.progress(EXPLAIN, 0.0)
        with interruptible(self._network, EXPLAIN, context.quiet()):
            cross, layer = self._explain(examined, method, tuple(self._channels()), context)
        context.progress(EXPLAIN, 1.0)
        if method != ATTENTION:
            return Trace(
                cross=cross,
                method=METHODS[method],
                layers=(layer,),
                spacing_mm=_CAM_STRIDE * max(_CAM_MM, self._bundle.spacing_mm),
            )
        frame = examined.network_input.frame
        probe = Probe(
            self._reader, lambda: self._input(self._cache.input_for(frame.prepared)), frame
        )
        edge = bundle_attention.token_edge(self._network, self._bundle.window)
        in_turn_ = in_turn(SILENT)  # another thread's pass would be recorded too
        return Trace(
            cross=cross,
            method=METHODS[method],
            layers=(layer,),
            probe_row=in_turn_(probe),
            spacing_mm=edge * self._bundle.spacing_mm,
        )

    @devices.placed
    @with_threads(_THREADS)
    def predict_subsets(
        self,
        prepared: PreparedStudy,
        perturbations: Sequence[InputPerturbation],
        *,
        context: RunContext,
    ) -> PerturbedPrediction:
        """Run the network on each perturbation; see `engines.engine.Engine`."""
        network_input = self._cache.input_for(prepared)
        groups = [
            [self._reduced_perturbation(perturbation, network_input)]
            for perturbation in perturbations
        ]

        def predict_missing(inputs: Sequence[InputPerturbation]) -> Iterator[Tensor]:
            passes = len(inputs) * self._windows(network_input.grid)
            with interruptible(self._network, PERTURBATION, context, passes=passes):
                for perturbation in inputs:
                    yield self._probabilities(self._input(network_input, perturbation), fast=True)[
                        self._whole_tumour_channel
                    ][None]

        return self._cache.predict_subsets(prepared, groups, predict_missing)

    def _reduced_perturbation(
        self, perturbation: InputPerturbation, network_input: NetworkInput
    ) -> InputPerturbation:
        """Return the equivalent perturbation, reduced to the sequences that the network reads."""
        visible = visible_sequences(perturbation, network_input.frame.prepared.sequences)
        read = visible.intersection(self._bundle.sequences)
        return replace(perturbation, keep=InputPerturbation.showing(read).keep)

    def _input(
        self, network_input: NetworkInput, perturbation: InputPerturbation | None = None
    ) -> Tensor:
        """Return the (1, C, I, J, K) input for a perturbation of the study."""
        reduced = self._reduced_perturbation(perturbation or InputPerturbation(), network_input)
        order = [list(MrSequence).index(sequence) for sequence in self._bundle.sequences]
        keep = torch.tensor(reduced.keep, device=network_input.channels.device)
        x: Tensor = (network_input.channels * keep[:, None, None, None])[:, order]
        if reduced.hidden is not None:
            x = x.masked_fill(torch.from_numpy(reduced.hidden).to(x.device), 0.0)
        return x.flip(2) if reduced.mirrored else x

    def _run(self, x: Tensor) -> Tensor:
        """Return the network's logits; some MONAI networks return further outputs."""
        try:
            outputs = self._network(x)
        except (RuntimeError, ValueError, AssertionError) as error:
            if not _is_of_shapes(error):
                raise
            raise UnusableInputError(
                found=f"a network of the bundle that does not accept a window of "
                f"{' x '.join(map(str, x.shape[2:]))} voxels ({error!s:.200})",
                expected="a network of volumes, and a window of which it can halve the sides",
                next_step="Correct network_def, or the inferer's roi_size, in "
                "configs/inference.json",
            ) from error
        logits = outputs[0] if isinstance(outputs, list | tuple) else outputs
        if isinstance(logits, Tensor) and logits.shape[1:] == (
            len(self._bundle.regions),
            *x.shape[2:],
        ):
            return logits
        raise UnusableInputError(
            found="an output of the bundle's network without a map for each region",
            expected=f"{len(self._bundle.regions)} volumes of the input's size, as its metadata "
            "says",
            next_step="Use a bundle for plain segmentation",
        )

    def _probabilities(self, x: Tensor, *, fast: bool = False) -> Tensor:
        """Return (R, I, J, K) probabilities of the whole input, by half-overlapping windows.

        `fast` uses bfloat16 if it was chosen: less than half the time on an accelerator, with
        probabilities that differ by up to 0.01. Channels-last would be faster still, but makes
        torch's group norm less exact.
        """
        inferer = SlidingWindowInferer(self._bundle.window, overlap=_OVERLAP, mode="gaussian")

        def run(part: Tensor) -> Tensor:
            with devices.autocast(self._device) if fast else nullcontext():
                return self._run(part)

        with torch.inference_mode():
            logits = inferer(x, run)
        return torch.sigmoid(torch.as_tensor(logits)[0].float())

    def _windows(self, grid: Grid) -> int:
        steps = [
            1 + max(0, math.ceil((n - w) / (w * (1 - _OVERLAP))))
            for n, w in zip(grid.shape, self._bundle.window, strict=True)
        ]
        return math.prod(steps)

    def _channels(self) -> dict[Region, int]:
        regions = self._bundle.regions
        return {region: regions.index(region) for region in Region if region in regions}

    @property
    def _whole_tumour_channel(self) -> int:
        return self._channels()[Region.WT]

    def _explain(
        self, examined: _Examined, method: str, regions: Sequence[Region], context: RunContext
    ) -> tuple[dict[Region, Floats], str]:
        """Return each region's weights on the working grid, and the names of the layers."""
        channels = {region: self._channels()[region] for region in regions}
        if method != ATTENTION:
            return self._grad_cam(examined, channels, context)
        probabilities = torch.stack(
            [examined.probabilities[channel] for channel in channels.values()]
        )
        x = self._input(examined.network_input)
        attention_maps = bundle_maps.attention(self._reader, x, probabilities)
        maps = dict(zip(channels, attention_maps, strict=True))
        return bundle_maps.weights(maps, examined.network_input.frame), "all transformer blocks"

    def _grad_cam(
        self, examined: _Examined, channels: Mapping[Region, int], context: RunContext
    ) -> tuple[dict[Region, Floats], str]:
        """Attribute at 2 mm or coarser, or in one window if the input size is fixed."""
        network_input = examined.network_input
        if self._bundle.fixed:
            box = window_about_peak(
                examined.probabilities[self._whole_tumour_channel], self._bundle.window
            )
        else:
            edge_mm = max(_CAM_MM, self._bundle.spacing_mm)
            network_input = make_network_input(
                examined.prepared, edge_mm, self._device, robust=False
            )
            i, j, k = network_input.grid.shape
            box = slice(0, i), slice(0, j), slice(0, k)
        x = self._input(network_input)[(slice(None), slice(None), *box)]
        edges = [-(-n // _STRIDES) * _STRIDES for n in x.shape[2:]]
        x = bundle_maps.padded(x, self._bundle.window if self._bundle.fixed else edges)
        layer = gradcam.last_convolution_below(self._network, _CAM_STRIDE, x)
        attributions = gradcam.maps(self._run, layer, x, channels, context)
        name = next((n for n, m in self._network.named_modules() if m is layer), "")
        size = [side.stop - side.start for side in box]
        maps = {}
        for region, attribution in attributions.items():
            maps[region] = torch.zeros(network_input.grid.shape, device=self._device)
            maps[region][box] = attribution[: size[0], : size[1], : size[2]]
        return bundle_maps.weights(maps, network_input.frame), name
