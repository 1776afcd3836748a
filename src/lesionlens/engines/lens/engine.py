"""The Lens network as an engine, and the inference pipeline around it.

First pass over the whole brain as a small ensemble, patch refinement, attention, perturbed inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lesionlens.base.errors import CancelledError
from lesionlens.base.geometry import Floats
from lesionlens.base.labels import MrSequence, Region
from lesionlens.base.records.prediction import (
    EngineInfo,
    FirstPass,
    InputPerturbation,
    OperatingPoint,
    PerturbedPrediction,
    Prediction,
    Scoring,
    SlightEnhancement,
    ViewAgreement,
)
from lesionlens.base.records.prompts import PromptRequest, PromptResponse
from lesionlens.base.records.study import PreparedStudy
from lesionlens.base.run_context import Cancel, CancelWhen, RunContext
from lesionlens.engines import device as devices
from lesionlens.engines import perturbation_order, separable, windows
from lesionlens.engines.interruptible import exclude_from_progress, interruptible
from lesionlens.engines.lens import (
    ensemble,
    outline_refinement,
    patch_refinement,
    small_lesions,
    thresholds,
)
from lesionlens.engines.lens.attention import (
    BLUR_VOX,
    METHOD,
    REFINED_METHOD,
    region_attention,
    trace_of,
)
from lesionlens.engines.lens.background import BackgroundTask
from lesionlens.engines.lens.ensemble import (
    CAVITY_NOTICE,
    EnsembleOutput,
    PassOutput,
    cavity_probability,
    class_probabilities,
)
from lesionlens.engines.lens.small_lesions import SEARCH_NOTICE, LastSearch, SmallLesions
from lesionlens.engines.network_input import InputFrame, NetworkInput, make_network_input
from lesionlens.engines.pass_cache import PassCache
from lesionlens.engines.perturbation_order import visible_sequences
from lesionlens.engines.prompting.study_prompts import StudyPrompts
from lesionlens.network import weights as weight_files
from lesionlens.network.concurrent_passes import run_concurrently
from lesionlens.network.deterministic import (
    set_threads_of_worker,
    thread_count,
    with_threads,
)
from lesionlens.network.lens_net import LensNetwork, LensOutput
from lesionlens.network.unet import SMALL_LESIONS_SPACING_MM

T = TypeVar("T")
R = TypeVar("R")
PRELIMINARY, REFINEMENT = "predicting the whole brain", "refining candidates"
PERTURBATION = "predicting perturbed inputs"
SEARCH = "searching for small lesions"
EVERYTHING, MIRRORED = InputPerturbation(), InputPerturbation(mirrored=True)
_LOGIT_MARGIN = 1e-6  # of probabilities to 0 and 1, before their logit
_CONCURRENT_WINDOWS = 2
"""Windows refined by one thread each, beside other passes; further ones by two threads."""
_PERTURBED_SPACING_RATIO = 1.5
"""Spacing of perturbed inputs relative to the network's: at another scale false positives seldom
recur, and every subset of sequences can be predicted quickly."""
_UNFITTED_FLOOR = 0.2  # score threshold for weights that do not define one
_SLIGHT_ENHANCEMENT = SlightEnhancement(share=0.15, median=0.6)
"""True enhancement in the development cases has a median above .7; false rims and specks around
cysts are below this value.
"""


class LensEngine:
    """Runs the Lens network on a prepared study.

    Parameters
    ----------
    device : str
        As for `engines.device.choose`.
    weights : str, Path or None
        A weights file; "default" or "synthetic" for the shipped ones; None for the
        default.

    Raises
    ------
    WeightsError
        The weights are missing, altered or of another network.
    ResourceError
        The device is missing.
    UnusableInputError
        Unknown type of device.
    """

    name = "lens"
    _batch_size = 2
    """Perturbed inputs of a pass: a seventh less time than one by one; four overflow the cache."""

    def __init__(
        self,
        device: str = "auto",
        weights: str | Path | None = None,
    ) -> None:
        self.placement = devices.Placement(device, self._move)
        self._network, self._weights_info = weight_files.load(weights, torch.device("cpu"))
        self._prompts = StudyPrompts()
        self.placement.run(lambda: self._move(self._device))

    def _move(self, device: torch.device) -> None:
        self._network.to(device)
        self._prompts.move(device)
        self._empty_caches(device)

    def _empty_caches(self, device: torch.device) -> None:
        spacing_mm = self._weights_info.spacing_mm
        self._coarse_cache, self._fine_cache = (
            PassCache(s * spacing_mm, device) for s in (_PERTURBED_SPACING_RATIO, 1.0)
        )
        self._last_search: LastSearch | None = None
        self._finer_input: NetworkInput | None = None

    def forget(self) -> None:
        """Release the last study; see `engines.engine.Engine`."""
        self._empty_caches(self._device)
        self._prompts.forget()

    @property
    def info(self) -> EngineInfo:
        """Name, version, SHA-256 of the weights, capabilities, device."""
        return EngineInfo(
            name=self.name,
            version=self._weights_info.version,
            weights_sha256=self._weights_info.sha256,
            device=devices.describe(self._device, thread_count()),
            calibrated=self._weights_info.temperature != (1.0, 1.0, 1.0),
            operating_points=tuple(
                OperatingPoint(p["threshold"], p["sensitivity"], p["false_per_scan"])
                for p in self._weights_info.operating_points
                if not self._weights_info.agreement or p["threshold"] <= self._floor
            ),
            floor=self._floor,
            precision=devices.precision_of(self._device),
            threads=thread_count() if self._device.type == "cpu" else None,
            trained_on=self._trained_on,
        )

    @property
    def _device(self) -> torch.device:
        return self.placement.device

    @property
    def network(self) -> LensNetwork:
        """The network in evaluation mode."""
        return self._network

    @devices.placed
    def prompt(
        self,
        prepared: PreparedStudy,
        request: PromptRequest,
        probability: Mapping[Region, NDArray[np.float32]] | None,
        *,
        context: RunContext,
    ) -> PromptResponse:
        """Segment from prompts; see `engines.engine.Engine`."""
        return self._prompts.prompt(prepared, request, probability, context=context)

    @property
    def _searches_small_lesions(self) -> bool:
        """Whether small lesions are searched for: only if the weights were trained on patients."""
        return bool(self._weights_info.trained_on)

    @property
    def _trained_on(self) -> frozenset[str]:
        own = frozenset(self._weights_info.trained_on)
        searches = self._searches_small_lesions
        return own | weight_files.shipped_scans("small_lesions") if searches else own

    @property
    def _floor(self) -> float:
        """Score below which nothing is flagged."""
        return self._weights_info.score_floor or _UNFITTED_FLOOR

    @devices.placed
    @with_threads(1)
    def predict(self, prepared: PreparedStudy, *, context: RunContext) -> Prediction:
        """Predict on the working grid; see `engines.engine.Engine.predict`."""
        first_pass = self._first_pass(self._fine_cache.input_for(prepared), context)
        searched: Future[SmallLesions | None] = Future()
        ahead = partial(self._predict_ahead, first_pass, searched, context)
        with self._in_background(ahead) as background:
            search_result = None
            try:
                search_result = self._search(first_pass, context)
            finally:
                searched.set_result(search_result)
            prediction = self._refined_prediction(first_pass, search_result, background, context)
        self._finer_input = None
        unperturbed = self.predict_subsets(prepared, [EVERYTHING], context=context)
        return replace(prediction, unperturbed=unperturbed)

    def small_lesions_of(self, prepared: PreparedStudy, context: RunContext) -> SmallLesions | None:
        """Return the search's result for a study; it is searched if it is not the last study."""
        if self._last_search is None or self._last_search.prepared is not prepared:
            if not self._searches_small_lesions or not prepared.has_t1c:
                return None
            first_pass = self._first_pass(self._fine_cache.input_for(prepared), context)
            self._search(first_pass, context)
            self._finer_input = None
        return self._last_search.result if self._last_search else None

    def _search(self, first_pass: EnsembleOutput, context: RunContext) -> SmallLesions | None:
        """Search for small lesions, also by the logits of the first pass."""
        prepared, result = first_pass.network_input.frame.prepared, None
        if self._searches_small_lesions and prepared.has_t1c:
            context.check(SEARCH)
            fine_input = self._input_at(prepared, SMALL_LESIONS_SPACING_MM)
            source = first_pass.network_input.grid
            matrices = separable.matrices(source, fine_input.grid, antialias=False)
            logits = separable.apply(first_pass.logits[:2], matrices).cpu().numpy()
            result = small_lesions.search(fine_input, logits)
        self._last_search = LastSearch(prepared, result)
        return result

    def _input_at(self, prepared: PreparedStudy, spacing_mm: float) -> NetworkInput:
        """Return the input at finer voxels, which the search and patch refinement may share."""
        cached = self._finer_input
        if (
            cached is None
            or cached.frame.prepared is not prepared
            or cached.frame.spacing_mm != spacing_mm
        ):
            self._finer_input = cached = make_network_input(prepared, spacing_mm, self._device)
        return cached

    def _refined_prediction(
        self,
        first_pass: EnsembleOutput,
        search_result: SmallLesions | None,
        background: BackgroundTask,
        context: RunContext,
    ) -> Prediction:
        """Refine the first pass; return the prediction, still without `unperturbed`."""
        frame, out = first_pass.network_input.frame, first_pass.all_sequences
        prepared, box = frame.prepared, frame.box
        refined = self._refined(first_pass, background, context)
        fine_logits = frame.to_box(first_pass.logits)
        if refined is not None:
            fine_logits[-1] += refined[0]
        nested = outline_refinement.nested_probabilities(fine_logits)
        nested = nested * frame.brain_on(self._device)
        del fine_logits
        probability = outline_refinement.refine(
            nested.float().cpu().numpy(),
            prepared.channels[(slice(None), *box)],
            prepared.present,
            prepared.brain[box],
        )
        del nested
        region_thresholds = self._thresholds(prepared.sequences, probability[1])
        cavity = first_pass.cavity_probability
        notices = self.placement.notices
        if cavity is not None:
            notices = (*notices, CAVITY_NOTICE)
        if search_result is not None:
            outlined = probability[0] >= region_thresholds[Region.WT]
            probability = search_result.added_to(probability)
            if ((probability[0] >= region_thresholds[Region.WT]) & ~outlined).any():
                notices = (*notices, SEARCH_NOTICE)
        probabilities = _by_region(frame.pasted(probability))
        del probability
        weights = cast("Tensor", out.attention)[0, : len(Region)]
        attention = region_attention(weights, frame, refined)
        method = METHOD if refined is None else REFINED_METHOD
        return Prediction(
            probability=probabilities,
            engine=self.info,
            trace=trace_of(
                out, _by_region(frame.pasted(attention.float().cpu().numpy())), method, frame
            ),
            notices=notices,
            thresholds=region_thresholds,
            slight_enhancement=_SLIGHT_ENHANCEMENT,
            scoring=self._scoring,
            class_probabilities=class_probabilities(out, frame.grid),
            cavity=None if cavity is None else frame.to_working(cavity[0]),
        )

    def _first_pass(self, network_input: NetworkInput, context: RunContext) -> EnsembleOutput:
        """Run the ensemble and average it; its single predictions are cached.

        Core predicted from all sequences is also whole tumour, whatever FLAIR alone predicts.
        """
        present = frozenset(network_input.frame.prepared.sequences)
        _, *other_views = ensemble.whole_tumour_views(present)
        inputs = [EVERYTHING, MIRRORED, *map(InputPerturbation.showing, other_views)]

        def run(perturbation: InputPerturbation) -> PassOutput:
            return self._pass(
                network_input.input_of(perturbation),
                trace=perturbation is EVERYTHING,
                lesions=perturbation is EVERYTHING,
            )

        with self._watch(PRELIMINARY, context, len(inputs)):
            out, mirrored, *other_outputs = self._map_passes(run, inputs)
        all_sequences = InputPerturbation.showing(present)
        original, reflected, *others = (
            self._calibrated(output.logits).sigmoid()[0]
            for output in (out, mirrored, *other_outputs)
        )
        reflected = reflected.flip(1)
        averaged = (all_sequences, replace(all_sequences, mirrored=True), *inputs[2:])
        for perturbation, probability in zip(averaged, (original, reflected, *others), strict=True):
            self._fine_cache.store(perturbation, probability)
        sums = original + reflected
        mean = sums / 2
        for other in others:
            sums[0] += other[0]
        mean[0] = torch.maximum(sums[0] / len(inputs), mean[1])
        cavity = cavity_probability(out, mirrored)
        return EnsembleOutput(network_input, out, mean.logit(eps=_LOGIT_MARGIN), cavity)

    def _thresholds(self, present: Collection[MrSequence], core: Floats) -> dict[Region, float]:
        """Return each region's threshold; `core` is the probability of the core."""
        _, inner, enhancing = self._weights_info.thresholds
        return {
            Region.WT: self._whole_tumour_threshold(present),
            Region.TC: thresholds.core_threshold(core, inner),
            Region.ET: enhancing,
        }

    def _whole_tumour_threshold(self, sequences: Collection[MrSequence]) -> float:
        return thresholds.whole_tumour_threshold(sequences, self._weights_info.thresholds[0])

    @property
    def _scoring(self) -> Scoring:
        info = self._weights_info
        return Scoring(*info.score, self._floor, info.agreement and ViewAgreement(*info.agreement))

    @devices.placed
    @with_threads(1)
    def first_pass(self, prepared: PreparedStudy, *, context: RunContext) -> FirstPass:
        """Predict at the spacing of perturbed inputs; see `analysis.findings.preliminary`."""
        seen = self._perturbed(prepared, [EVERYTHING], self._watch, context)
        default = self._whole_tumour_threshold(prepared.sequences)
        coarse = thresholds.coarse_whole_tumour_threshold(seen.probability[0], default)
        return FirstPass(seen, coarse, self._scoring)

    @devices.placed
    @with_threads(1)
    def predict_subsets(
        self,
        prepared: PreparedStudy,
        perturbations: Sequence[InputPerturbation],
        *,
        context: RunContext,
    ) -> PerturbedPrediction:
        """Run one fast pass on each input; see `engines.engine.Engine`."""
        predictions = self._perturbed(prepared, perturbations, self._watch, context)
        search_result = self.small_lesions_of(prepared, context)
        if search_result is None:
            return predictions
        return search_result.perturb(predictions, perturbations)

    def _perturbed(
        self,
        prepared: PreparedStudy,
        perturbations: Sequence[InputPerturbation],
        watch: Callable[[str, RunContext, int], AbstractContextManager[None]],
        context: RunContext,
    ) -> PerturbedPrediction:
        fine = any(perturbation.fine for perturbation in perturbations)
        cache = self._fine_cache if fine else self._coarse_cache
        network_input = cache.input_for(prepared)
        visible = [visible_sequences(p, prepared.sequences) for p in perturbations]
        groups = list(map(ensemble.members_of, perturbations, visible))

        def run(batch: Sequence[InputPerturbation]) -> Tensor:
            context.check(PERTURBATION)
            return self._calibrated(self._pass(network_input.batch_of(batch)).logits).sigmoid()

        def predict_missing(inputs: Sequence[InputPerturbation]) -> Iterator[Tensor]:
            size = 1 if fine else self._batch_size  # memory: two fine ones at once take 2 GB
            batches = [inputs[i : i + size] for i in range(0, len(inputs), size)]
            with watch(PERTURBATION, context, len(batches)):
                yield from chain.from_iterable(self._map_passes(run, batches, last_threads=1))

        wt_thresholds = tuple(map(self._whole_tumour_threshold, visible))
        prediction = cache.predict_perturbed(prepared, groups, predict_missing)
        return replace(prediction, thresholds=wt_thresholds)

    def _predict_ahead(
        self,
        first_pass: EnsembleOutput,
        searched: Future[SmallLesions | None],
        context: RunContext,
        closing: Cancel,
    ) -> None:
        """Predict the inputs of the explanations, in their order, so that the batches are equal.

        `searched` is set when the search has ended, and read only if it decides.
        """
        prepared = first_pass.network_input.frame.prepared
        present = prepared.sequences
        cancel = CancelWhen(lambda: context.cancel.is_set() or closing.is_set())
        quiet = replace(context.quiet(), cancel=cancel)

        def predict(inputs: Sequence[InputPerturbation]) -> PerturbedPrediction:
            return self._perturbed(prepared, inputs, lambda *_: nullcontext(), quiet)

        with suppress(CancelledError):
            quick = predict([EVERYTHING])
            predict(perturbation_order.for_uncertainty(present))
            if first_pass.shows_tumour or searched.result() is not None:
                threshold = self._whole_tumour_threshold(present)
                share = first_pass.share_outlined(quick, threshold)
                predict(perturbation_order.after_quick_passes(present, share))

    def _calibrated(self, logits: Tensor) -> Tensor:
        temperature = logits.new_tensor(self._weights_info.temperature)
        return logits[:, : len(Region)].float() / temperature.view(-1, 1, 1, 1)

    def _refined(
        self, first_pass: EnsembleOutput, background: BackgroundTask, context: RunContext
    ) -> Tensor | None:
        """Run patch refinement; return None if there is nothing to refine.

        Else (2, i, j, k) in the box of the brain: the correction of the enhancing tumour's logits,
        and its attention.
        """
        spacing, frame = self._weights_info.focus_spacing_mm, first_pass.network_input.frame
        prepared, logits = frame.prepared, first_pass.logits
        if spacing is None or not prepared.has_t1c:
            return None
        fine = InputFrame.over(prepared, spacing).grid
        plan = patch_refinement.plan(logits[0], frame.grid, fine)
        if not plan.windows:
            return None
        fine_input = self._input_at(prepared, spacing)

        def run(window: windows.Window) -> tuple[Tensor, Tensor]:
            bounds = windows.relative_bounds(window, fine_input.grid.shape, self._device)
            x = fine_input.within(window).input_of(EVERYTHING)
            out = self._pass(x, bounds=bounds, trace=True)
            attention = cast("Tensor", out.attention)[0, len(Region) - 1]
            return self._calibrated(out.logits)[0, -1], attention

        with self._watch(REFINEMENT, context, len(plan.windows)):
            # Two concurrent passes would take 2.2 GB.
            outputs = [run(window) for window in plan.windows[:_CONCURRENT_WINDOWS]]
            if remaining := plan.windows[_CONCURRENT_WINDOWS:]:
                background.close()
                outputs += [next(iter(self._map_passes(run, [window]))) for window in remaining]
        correction, attention = patch_refinement.refine(plan, logits[-1], fine_input, outputs)
        maps = [correction, separable.smooth(attention, BLUR_VOX)]
        return fine_input.frame.to_box(torch.stack(maps))

    def _map_passes(
        self, run: Callable[[T], R], inputs: Sequence[T], last_threads: int = 2
    ) -> Iterator[R]:
        """Yield results of independent passes; on a CPU in pairs, an odd last one alone."""
        if self._device.type == "cpu":
            return run_concurrently(run, inputs, last_threads)
        return map(run, inputs)

    def _in_background(self, function: Callable[[Cancel], None]) -> BackgroundTask:
        """Run `function` on a core that is idle within the block; its passes are only for later."""
        if self._device.type != "cpu" or thread_count() == 1:
            return BackgroundTask()
        return BackgroundTask(function, _limit_to_one_uncounted_thread)

    @contextmanager
    def _watch(self, stage: str, context: RunContext, passes: int) -> Iterator[None]:
        """Report progress of the passes within the block, and let them be cancelled."""
        with interruptible(self._network, stage, context, passes, self._network.lesions):
            yield

    def _pass(
        self, x: Tensor, *, bounds: Tensor | None = None, trace: bool = False, lesions: bool = False
    ) -> PassOutput:
        """Run the network on (1, 8, I, J, K); parameters as for `LensNetwork.forward`."""
        with torch.inference_mode(), devices.autocast(self._device):
            out: LensOutput = self._network(x, bounds=bounds, trace=trace, lesions=lesions)
        classes = None if out.lesions is None else out.lesions.class_probabilities()
        return PassOutput(out.logits, out.attention, out.trace, classes)


def _by_region(maps: Floats) -> dict[Region, Floats]:
    return dict(zip(Region, maps, strict=True))


def _limit_to_one_uncounted_thread() -> None:
    set_threads_of_worker(1)
    exclude_from_progress()
