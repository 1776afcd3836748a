"""The inference pipeline around the Lens network, independent of its runtime.

First pass over the whole brain as a small ensemble, patch refinement, attention, perturbed inputs.
Arrays are torch's or numpy's (`base.array_ops`), as returned by the runtime.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import replace
from functools import partial
from itertools import chain
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from lesionlens.base.array_ops import (
    Array,
    Device,
    device_of,
    floats,
    logit,
    namespace,
    sigmoid,
    to_device,
    to_numpy,
)
from lesionlens.base.errors import CancelledError
from lesionlens.base.geometry import Box
from lesionlens.base.grid import Grid
from lesionlens.base.labels import ComputePrecision, MrSequence, Region
from lesionlens.base.lazy_zeros import lazy_zeros
from lesionlens.base.records.prediction import (
    Capability,
    ClassProbabilities,
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
from lesionlens.base.records.study import PreparedStudy
from lesionlens.base.run_context import SILENT, Cancel, CancelWhen, RunContext
from lesionlens.engines import network_input, separable, windows
from lesionlens.engines.lens import (
    cavity,
    ensemble,
    outline_refinement,
    patch_refinement,
    small_lesions,
    thresholds,
)
from lesionlens.engines.lens.attention import METHOD, REFINED_METHOD, coarser, trace_of
from lesionlens.engines.lens.background import BackgroundTask
from lesionlens.engines.lens.pass_output import PassOutput
from lesionlens.engines.lens.small_lesions import T1C, SmallLesions
from lesionlens.engines.network_input import NetworkInput
from lesionlens.engines.pass_cache import PassCache
from lesionlens.engines.perturbation_order import for_relevance, for_uncertainty
from lesionlens.network import small_lesions as small_lesion_network
from lesionlens.network.notes import WeightsInfo

Floats = NDArray[np.float32]
_T = TypeVar("_T")
_R = TypeVar("_R")
PRELIMINARY, REFINEMENT = "predicting the whole brain", "refining candidates"
PERTURBATION = "predicting perturbed inputs"
SEARCH = "searching for small lesions"
EVERYTHING, MIRRORED = InputPerturbation(), InputPerturbation(mirrored=True)
_EDGE = 1e-6
_WINDOWS_BESIDE = 2
"""Windows refined by one thread each, beside other passes; further ones by two threads."""
_SCALE = 1.5
"""Spacing of perturbed inputs, as a multiple of the network's: at another scale false positives
seldom recur, and every subset of sequences can be predicted quickly.
"""
_UNFITTED_FLOOR = 0.2  # score threshold for weights that do not define one
_SLIGHT_ENHANCEMENT = SlightEnhancement(share=0.15, median=0.6)
"""True enhancement in the development cases has a median above .7; false rims and specks around
cysts are below this value (`research/experiments.md`, "Does it enhance at all?").
"""
_ATTENTION_BLUR_VOX = 0.7
"""On the network's grid: removes the checkerboard pattern from upsampling."""
_CAPABILITIES = frozenset(
    {Capability.SEGMENT, Capability.ATTEND, Capability.PROBE, Capability.PERTURB}
)


class LensMethod(ABC):
    """Steps of an engine around the Lens network; subclasses run the forward passes.

    Parameters
    ----------
    device : torch.device or None
        Device of the arrays; None for numpy.
    """

    name: str
    _together = 1
    """Number of perturbed inputs per forward pass."""

    def __init__(self, about: WeightsInfo, device: Device) -> None:
        self._about = about
        self._empty_caches(device)

    def _empty_caches(self, device: Device) -> None:
        spacing_mm = self._about.spacing_mm
        self._quick, self._fine = (PassCache(s * spacing_mm, device) for s in (_SCALE, 1.0))
        self._searched: tuple[PreparedStudy, SmallLesions | None] | None = None
        self._finer: tuple[PreparedStudy, float, NetworkInput] | None = None

    def forget(self) -> None:
        """Release the last study; see `engines.engine.SupportsForgetting`."""
        self._empty_caches(self._device)

    @property
    @abstractmethod
    def _device(self) -> Device:
        """Device of the arrays."""

    @property
    @abstractmethod
    def device_words(self) -> str:
        """The device in words, for the run's record."""

    @property
    def _precision(self) -> ComputePrecision:
        return ComputePrecision.FLOAT32

    @property
    @abstractmethod
    def _threads(self) -> int | None:
        """Number of CPU threads; None on an accelerator."""

    @property
    def _notices(self) -> tuple[str, ...]:
        """Notices about how it ran."""
        return ()

    @abstractmethod
    def _pass(self, x: Array, *, place: Array | None = None, trace: bool = False) -> PassOutput:
        """Run the network on (1, 8, I, J, K); `place` as for `LensNetwork.forward`."""

    @abstractmethod
    def _watch(self, stage: str, context: RunContext, passes: int) -> AbstractContextManager[None]:
        """Return a context in which passes report progress and can be cancelled."""

    def _each(self, run: Callable[[_T], _R], inputs: Sequence[_T], last: int = 2) -> Iterator[_R]:
        """Run independent passes, an odd last one with `last` threads; yield their results."""
        del last
        return map(run, inputs)

    def _in_background(self, act: Callable[[Cancel], None]) -> BackgroundTask:
        """Run `act`, whose passes are only for later, on a core that is idle within the block."""
        del act
        return BackgroundTask()

    @property
    def info(self) -> EngineInfo:
        """Name, version, SHA-256 of the weights, capabilities, device."""
        return EngineInfo(
            name=self.name,
            version=self._about.version,
            weights_sha256=self._about.sha256,
            capabilities=_CAPABILITIES,
            device=self.device_words,
            calibrated=self._about.temperature != (1.0, 1.0, 1.0),
            operating_points=tuple(
                OperatingPoint(p["threshold"], p["sensitivity"], p["false_per_scan"])
                for p in self._about.operating_points
                if not self._about.agreement or p["threshold"] <= self._floor
            ),
            floor=self._floor,
            precision=self._precision,
            threads=self._threads,
            trained_on=self._trained_on,
        )

    @property
    def _searches(self) -> bool:
        """Whether small lesions are searched for: not beside weights that saw no patient."""
        return bool(self._about.trained_on)

    @property
    def _trained_on(self) -> frozenset[str]:
        own = frozenset(self._about.trained_on)
        return own | small_lesion_network.trained_on() if self._searches else own

    @property
    def _floor(self) -> float:
        """Score below which nothing is flagged."""
        return self._about.score_floor or _UNFITTED_FLOOR

    def predict(self, prepared: PreparedStudy, *, context: RunContext) -> Prediction:
        """Predict on the working grid; see `engines.engine.Engine.predict`."""
        study = self._fine.of(prepared)
        first = self._first_pass(study, context)
        searched: Future[bool] = Future()
        with self._in_background(
            partial(self._predict_ahead, prepared, searched, context)
        ) as background:
            small = None
            try:
                small = self._search(prepared, study, first[1], context)
            finally:
                searched.set_result(small is not None or bool((first[1][0] > 0).any()))
            found = self._refined_prediction(prepared, study, first, small, background, context)
        self._finer = None
        seen = self.predict_perturbed(prepared, [EVERYTHING], context=context)
        return replace(found, unperturbed=seen)

    def small_lesions_of(
        self, prepared: PreparedStudy, context: RunContext = SILENT
    ) -> SmallLesions | None:
        """Return what the search finds in a study; it is searched if it is not the last one."""
        if self._searched is None or self._searched[0] is not prepared:
            if not self._searches or not prepared.has_t1c:
                return None
            study = self._fine.of(prepared)
            self._search(prepared, study, self._first_pass(study, context)[1], context)
            self._finer = None
        return self._searched[1] if self._searched else None

    def _search(
        self, prepared: PreparedStudy, study: NetworkInput, logits: Array, context: RunContext
    ) -> SmallLesions | None:
        """Search for small lesions beside the (3, I, J, K) logits of the first pass."""
        found = None
        if self._searches and prepared.has_t1c:
            context.check(SEARCH)
            spacing = small_lesion_network.SPACING_MM
            fine = self._input_at(prepared, spacing)
            along = separable.matrices(study.grid, fine.grid, antialias=False)
            known = to_numpy(floats(separable.apply(logits[:2], along)))
            found = small_lesions.search(fine, known)
        self._searched = (prepared, found)
        return found

    def _input_at(self, prepared: PreparedStudy, spacing_mm: float) -> NetworkInput:
        """Return the input at finer voxels, which the search and patch refinement may share."""
        if self._finer is None or self._finer[0] is not prepared or self._finer[1] != spacing_mm:
            made = network_input.make_network_input(prepared, spacing_mm, self._device)
            self._finer = (prepared, spacing_mm, made)
        return self._finer[2]

    def _refined_prediction(
        self,
        prepared: PreparedStudy,
        study: NetworkInput,
        first: tuple[PassOutput, Array, Array | None],
        small: SmallLesions | None,
        background: BackgroundTask,
        context: RunContext,
    ) -> Prediction:
        """Refine the first pass; return the prediction, still without `unperturbed`."""
        out, logits, hole = first
        box, cut = study.box, study.cut
        brain = to_device(prepared.brain[box].copy(), self._device)
        along = separable.matrices(study.grid, cut, antialias=False)
        fine = separable.apply(logits, along)
        refined = self._refined(prepared, study, logits, background, context)
        if hole is not None:
            hole = separable.apply(hole, along) * brain
        if refined is not None:
            fine[-1] += refined[0]
        probability = outline_refinement.refine(
            to_numpy(floats(_nested(fine) * brain)),
            prepared.channels[(slice(None), *box)],
            prepared.present,
            prepared.brain[box],
        )
        chosen = self._thresholds(study.present, probability[1])
        notices = self._notices if hole is None else (*self._notices, cavity.NOTICE)
        if small is not None:
            probability = small.added_to(probability, cut, prepared.channels[T1C][box])
            notices = (*notices, small.notice)
        softened = separable.smooth(out.attention[0, : len(Region)], _ATTENTION_BLUR_VOX)
        attention = separable.normalise_sums(separable.apply(softened, along) * brain)
        if refined is not None:
            attended = separable.normalise_sums(refined[1:] * brain)[0]
            attention[-1] += patch_refinement.SHARE * (attended - attention[-1])
        method = METHOD if refined is None else REFINED_METHOD
        maps = _by_region(whole(attention, prepared, box))
        return Prediction(
            probability=_by_region(whole(probability, prepared, box)),
            engine=self.info,
            trace=trace_of(out, maps, method, study.grid, prepared),
            notices=notices,
            thresholds=chosen,
            slight_enhancement=_SLIGHT_ENHANCEMENT,
            scoring=self._scoring,
            class_probabilities=_class_probabilities(out, study.grid),
            cavity=hole if hole is None else whole(hole, prepared, box)[0],
        )

    def _first_pass(
        self, study: NetworkInput, context: RunContext
    ) -> tuple[PassOutput, Array, Array | None]:
        """Average the ensemble.

        Return the pass with all sequences, (3, I, J, K) mean logits, and the (1, I, J, K)
        probability of a resection cavity, None from a network that outlines none. Core predicted
        from all sequences is also whole tumour, whatever FLAIR alone predicts.
        """
        _, *others = ensemble.whole_tumour_views(_shown(study.present))
        inputs = [EVERYTHING, MIRRORED, *map(InputPerturbation.showing, others)]

        def run(one: InputPerturbation) -> PassOutput:
            return self._pass(study.input_of(one), trace=one is EVERYTHING)

        with self._watch(PRELIMINARY, context, len(inputs)):
            out, mirrored, *more = self._each(run, inputs)
        shown = InputPerturbation.showing(_shown(study.present))
        for one, found in zip((shown, *inputs[2:]), (out, *more), strict=True):
            self._fine.note(one, sigmoid(self._calibrated(found.logits))[0])
        xp = namespace(out.logits)
        there, back = (sigmoid(self._calibrated(one.logits)[0]) for one in (out, mirrored))
        sums = there + xp.flip(back, (1,))
        mean = sums / 2
        for other in more:
            sums[0] += sigmoid(self._calibrated(other.logits)[0, 0])
        mean[0] = xp.maximum(sums[0] / len(inputs), mean[1])
        return out, logit(mean, _EDGE), cavity.mean_probability(out, mirrored)

    def _thresholds(self, present: Sequence[bool], core: Floats) -> dict[Region, float]:
        """Return each region's threshold; `core` is the probability of the core."""
        outer, inner, enhancing = self._about.thresholds
        return {
            Region.WT: thresholds.whole_tumour_threshold(_shown(present), outer),
            Region.TC: thresholds.core_threshold(core, inner),
            Region.ET: enhancing,
        }

    @property
    def _scoring(self) -> Scoring:
        agreement = self._about.agreement
        return Scoring(*self._about.score, self._floor, agreement and ViewAgreement(*agreement))

    def first_pass(self, prepared: PreparedStudy, *, context: RunContext) -> FirstPass:
        """Predict at the spacing of perturbed inputs; see `engines.engine.SupportsFirstPass`."""
        seen = self._perturbed(prepared, [EVERYTHING], self._watch, context)
        usual = self._about.thresholds[0]
        cut = thresholds.whole_tumour_threshold(prepared.sequences, usual)
        return FirstPass(seen, cut, self._scoring)

    def perturbation_grid(self, prepared: PreparedStudy) -> Grid:
        """Return the grid of `predict_perturbed`."""
        return network_input.grid_at(prepared, _SCALE * self._about.spacing_mm)

    def predict_perturbed(
        self,
        prepared: PreparedStudy,
        perturbations: Sequence[InputPerturbation],
        *,
        context: RunContext,
    ) -> PerturbedPrediction:
        """Run one fast pass on each input; see `engines.engine.SupportsPerturbation`."""
        found = self._perturbed(prepared, perturbations, self._watch, context)
        small = self.small_lesions_of(prepared, context)
        return found if small is None else small.perturb(found, perturbations)

    def _perturbed(
        self,
        prepared: PreparedStudy,
        perturbations: Sequence[InputPerturbation],
        watch: Callable[[str, RunContext, int], AbstractContextManager[None]],
        context: RunContext,
    ) -> PerturbedPrediction:
        fine = any(one.fine for one in perturbations)
        cache = self._fine if fine else self._quick
        study = cache.of(prepared)
        groups = [self._ensemble(perturbation, study.present) for perturbation in perturbations]

        def run(batch: Sequence[InputPerturbation]) -> Array:
            context.check(PERTURBATION)
            shown = [study.input_of(one) for one in batch]
            x = shown[0] if len(shown) == 1 else namespace(shown[0]).concatenate(shown)
            return sigmoid(self._calibrated(self._pass(x).logits))

        def answer(inputs: Sequence[InputPerturbation]) -> Iterator[Array]:
            size = 1 if fine else self._together  # memory: two fine ones at once take 2 GB
            batches = [inputs[i : i + size] for i in range(0, len(inputs), size)]
            with watch(PERTURBATION, context, len(batches)):
                yield from chain.from_iterable(self._each(run, batches, last=1))

        usual = self._about.thresholds[0]
        shown = [_shown_of(perturbation, study.present) for perturbation in perturbations]
        cut_at = tuple(thresholds.whole_tumour_threshold(one, usual) for one in shown)
        return replace(cache.predict_perturbed(prepared, groups, answer), thresholds=cut_at)

    def _predict_ahead(
        self, prepared: PreparedStudy, searched: Future[bool], context: RunContext, closing: Cancel
    ) -> None:
        """Predict what explanations will ask for, in their order, so that batches are theirs.

        `searched` tells, once the search has ended, whether anything may be flagged.
        """
        present = prepared.sequences
        stopped = CancelWhen(lambda: context.cancel.is_set() or closing.is_set())
        quiet = replace(context.quiet(), cancel=stopped)
        with suppress(CancelledError):
            for inputs in ([EVERYTHING], for_uncertainty(present)):
                self._perturbed(prepared, inputs, lambda *_: nullcontext(), quiet)
            if searched.result():
                self._perturbed(prepared, for_relevance(present), lambda *_: nullcontext(), quiet)

    def _ensemble(
        self, perturbation: InputPerturbation, present: Sequence[bool]
    ) -> list[InputPerturbation]:
        """Return the inputs that are averaged for one perturbation."""
        shown = _shown_of(perturbation, present)
        members = (shown,) if perturbation.alone else ensemble.whole_tumour_views(shown)
        return [replace(perturbation, keep=InputPerturbation.showing(one).keep) for one in members]

    def _calibrated(self, logits: Array) -> Array:
        temperature = np.asarray(self._about.temperature, np.float32).reshape(-1, 1, 1, 1)
        return floats(logits[:, : len(Region)]) / to_device(temperature, device_of(logits))

    def _refined(
        self,
        prepared: PreparedStudy,
        first: NetworkInput,
        logits: Array,
        background: BackgroundTask,
        context: RunContext,
    ) -> Array | None:
        """Run patch refinement on the grid `first.cut`; None if there is nothing to refine."""
        spacing = self._about.focus_spacing_mm
        if spacing is None or not prepared.has_t1c:
            return None
        fine = network_input.grid_at(prepared, spacing)
        chosen = patch_refinement.plan(logits[0], first.grid, fine)
        if not chosen.windows:
            return None
        study = self._input_at(prepared, spacing)

        def run(window: windows.Window) -> tuple[Array, Array]:
            place = windows.place_in(window, study.grid.shape, self._device)
            out = self._pass(study.within(window).input_of(EVERYTHING), place=place)
            return self._calibrated(out.logits)[0, -1], out.attention[0, len(Region) - 1]

        with self._watch(REFINEMENT, context, len(chosen.windows)):
            # Two concurrent passes would take 2.2 GB.
            answers = [run(window) for window in chosen.windows[:_WINDOWS_BESIDE]]
            if later := chosen.windows[_WINDOWS_BESIDE:]:
                background.close()
                answers += [next(iter(self._each(run, [window]))) for window in later]
        change, attended = patch_refinement.refine(chosen, logits[-1], study, answers)
        both = [change, separable.smooth(attended, _ATTENTION_BLUR_VOX)]
        along = separable.matrices(study.grid, first.cut, antialias=False)
        return separable.apply(namespace(change).stack(both), along)


def _class_probabilities(out: PassOutput, grid: Grid) -> ClassProbabilities | None:
    """Return class probabilities from the lesion queries, if the network has them."""
    lesions = out.lesions
    if lesions is None:
        return None
    share = to_numpy(floats(lesions.class_shares()[0]))
    i, j, k = share.shape[1:]
    return ClassProbabilities(share, coarser(grid, 2, (i, j, k)))


def _shown_of(perturbation: InputPerturbation, present: Sequence[bool]) -> ensemble.Shown:
    return _shown([a and b for a, b in zip(perturbation.keep, present, strict=True)])


def _shown(keep: Sequence[bool]) -> ensemble.Shown:
    return frozenset(s for s, there in zip(MrSequence, keep, strict=True) if there)


def _nested(logits: Array) -> Array:
    """Return probabilities of (3, I, J, K) logits, each at most that of its enclosing region."""
    outer, core, enhancing = sigmoid(logits)
    xp = namespace(logits)
    core = xp.minimum(core, outer)  # much faster than `cummin` along an axis of three
    return xp.stack([outer, core, xp.minimum(enhancing, core)])


def whole(cut: Array, prepared: PreparedStudy, box: Box) -> Floats:
    """Paste (R, i, j, k) maps of the brain's box into the working grid; zero elsewhere."""
    out: Floats = lazy_zeros((cut.shape[0], *prepared.working.shape), np.float32)
    out[(slice(None), *box)] = to_numpy(floats(cut))
    return out


def _by_region(maps: Floats) -> dict[Region, Floats]:
    return dict(zip(Region, maps, strict=True))
