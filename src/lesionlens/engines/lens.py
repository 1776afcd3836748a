"""The Lens network as an engine: a prepared study in, probabilities and attention out.

`LensEngine.predict` runs the network on the whole brain (`_first_pass`), refines what is small for
voxels of 2 mm (`engines.refinement`), and brings attention to the patient (`engines.attention`).
`predict_subsets` answers, at larger voxels, what it would outline without some of the sequences.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lesionlens.base.geometry import Floats
from lesionlens.base.labels import MrSequence, Region
from lesionlens.base.records.prediction import (
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
from lesionlens.base.run_context import RunContext
from lesionlens.engines import device as devices
from lesionlens.engines import refinement
from lesionlens.engines.attention import BLUR_VOX, region_attention, trace_of
from lesionlens.engines.grid import NetworkInput, make_network_input, resample, smooth
from lesionlens.engines.refinement import SmallLesion
from lesionlens.network import weights as weight_files
from lesionlens.network.lens_net import LensNetwork, LensOutput
from lesionlens.network.unet import SMALL_LESIONS_SPACING_MM

if TYPE_CHECKING:
    from lesionlens.base.records.prompts import PromptRequest, PromptResponse
    from lesionlens.engines.prompting import Prompter

WHOLE_BRAIN, SEARCH = "predicting the whole brain", "searching for small lesions"
WINDOWS, SUBSETS = "refining candidates", "predicting without sequences"
CAVITY_NOTICE = (
    "The resection cavity is outlined where its probability is at least .5; this probability is "
    "not calibrated"
)
SEARCH_NOTICE = (
    "The search for small enhancing lesions at higher resolution added to the outlines; the "
    "attention maps are from another network and may not show what it added"
)
_FLAIR = frozenset({MrSequence.FLAIR})
_WATER_SENSITIVE = frozenset({MrSequence.FLAIR, MrSequence.T2})
_CERTAIN, _MIN_CORE_THRESHOLD, _BINS = 0.8, 0.2, 200
_LOGIT_MARGIN = 1e-6  # of probabilities to 0 and 1, before their logit
_QUICK_RATIO = 1.5
"""Spacing of quick passes relative to the network's: at another scale false positives seldom recur,
and many subsets of the sequences can be predicted."""
_BATCH = 2
"""Quick inputs of a pass: a seventh less time than one by one; four overflow the cache."""
_MIN_FILLED = 0.2  # share of a larger voxel that a small lesion fills, to count there
_UNFITTED_FLOOR = 0.2  # score threshold for weights that do not define one
_SLIGHT_ENHANCEMENT = SlightEnhancement(share=0.15, median=0.6)
"""True enhancement in the development cases has a median above .7; false rims and specks around
cysts are below this value.
"""


class _View(NamedTuple):
    """One input of the network: the sequences that it shows, and whether it is mirrored."""

    shown: frozenset[MrSequence]
    mirrored: bool = False


@dataclass(slots=True)
class _QuickStudy:
    """The last study at the voxel size of quick passes, and its predictions there."""

    prepared: PreparedStudy
    network_input: NetworkInput
    predictions: dict[_View, Floats] = field(default_factory=dict)
    """(3, I, J, K) float32 each: probability of the regions."""


class _FirstPass(NamedTuple):
    """The network on the whole brain, averaged over the ensemble."""

    network_input: NetworkInput
    out: LensOutput
    """Of all sequences, traced."""
    logits: Tensor
    """(3, I, J, K): mean logits of the regions."""
    cavity: Tensor | None
    """(I, J, K): probability of a resection cavity; None from a network that outlines none."""


class LensEngine:
    """Runs the Lens network on a prepared study.

    Parameters
    ----------
    device : str
        As for `engines.device.choose`.
    weights : str, Path or None
        A weights file; "default" or "synthetic" for the shipped ones; None for the default.

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

    def __init__(self, device: str = "auto", weights: str | Path | None = None) -> None:
        self.placement = devices.Placement(device, self._move)
        self._network, self._weights = weight_files.load(weights)
        self._prompter: Prompter | None = None
        self._quick: _QuickStudy | None = None
        self.placement.run(lambda: self._move(self._device))

    def _move(self, device: torch.device) -> None:
        self._network.to(device)
        self.forget()

    def forget(self) -> None:
        """Release the last study; see `engines.engine.Engine`."""
        self._quick = self._prompter = None

    @property
    def _device(self) -> torch.device:
        return self.placement.device

    @property
    def network(self) -> LensNetwork:
        """The network in evaluation mode."""
        return self._network

    @property
    def info(self) -> EngineInfo:
        """Name, version, SHA-256 of the weights, device."""
        weights, floor = self._weights, self._scoring.floor
        searched = weight_files.shipped_scans("small_lesions") if self._searches else frozenset()
        return EngineInfo(
            name=self.name,
            version=weights.version,
            weights_sha256=weights.sha256,
            device=devices.describe(self._device),
            calibrated=weights.temperature != (1.0, 1.0, 1.0),
            operating_points=tuple(
                OperatingPoint(p["threshold"], p["sensitivity"], p["false_per_scan"])
                for p in weights.operating_points
                if not weights.agreement or p["threshold"] <= floor
            ),
            floor=floor,
            precision=devices.precision_of(self._device),
            threads=torch.get_num_threads() if self._device.type == "cpu" else None,
            trained_on=searched.union(weights.trained_on),
        )

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
        if self._prompter is None:
            from lesionlens.engines.prompting import Prompter

            self._prompter = Prompter()
            self._prompter.move(self._device)
        return self._prompter.prompt(prepared, request, probability, context=context)

    @devices.placed
    def predict(self, prepared: PreparedStudy, *, context: RunContext) -> Prediction:
        """Predict on the working grid; see `engines.engine.Engine.predict`."""
        first = self._first_pass(prepared, context)
        frame, notices = first.network_input.frame, self.placement.notices
        fine, lesions = self._search(first, context)
        refined = self._refine_enhancing(first, fine, context)
        logits = frame.to_box(first.logits)
        if refined is not None:
            logits[-1] += refined[0]
        nested = _nested(logits.sigmoid_()) * frame.brain_on(self._device)
        del logits
        probability = refinement.refine_outlines(
            nested.float().cpu().numpy(),
            prepared.channels[(slice(None), *frame.box)],
            prepared.present,
            prepared.brain[frame.box],
        )
        del nested
        whole, core, enhancing = self._weights.thresholds
        thresholds = {
            Region.WT: whole_tumour_threshold(prepared.sequences, whole),
            Region.TC: core_threshold(probability[1], core),
            Region.ET: enhancing,
        }
        if first.cavity is not None:
            notices = (*notices, CAVITY_NOTICE)
        if lesions:
            outlined = probability[0] >= thresholds[Region.WT]
            probability = refinement.add_small_lesions(probability, lesions, frame)
            if ((probability[0] >= thresholds[Region.WT]) & ~outlined).any():
                notices = (*notices, SEARCH_NOTICE)
        quick = self.predict_subsets(prepared, [InputPerturbation()], context=context)
        return Prediction(
            probability=dict(zip(Region, frame.pasted(probability), strict=True)),
            engine=self.info,
            trace=trace_of(first.out, frame, None if refined is None else refined[1]),
            notices=notices,
            unperturbed=_with_scores(quick, lesions),
            thresholds=thresholds,
            slight_enhancement=_SLIGHT_ENHANCEMENT,
            scoring=self._scoring,
            class_probabilities=_class_probabilities(first),
            cavity=None if first.cavity is None else frame.to_working(first.cavity),
        )

    @devices.placed
    def first_pass(self, prepared: PreparedStudy, *, context: RunContext) -> FirstPass:
        """Predict quickly, for preliminary candidates; `predict` uses the same passes.

        A faint tumour is less certain at larger voxels: the threshold is that of the highest
        expected Dice if it is lower, except where only nearly certain voxels count.
        """
        seen = self.predict_subsets(prepared, [InputPerturbation()], context=context)
        threshold = whole_tumour_threshold(prepared.sequences, self._weights.thresholds[0])
        if threshold < _CERTAIN:
            threshold = core_threshold(seen.probability[0], threshold)
        return FirstPass(seen, threshold, self._scoring)

    @devices.placed
    def predict_subsets(
        self,
        prepared: PreparedStudy,
        inputs: Sequence[InputPerturbation],
        *,
        context: RunContext,
    ) -> PerturbedPrediction:
        """Predict the whole tumour at 3 mm from subsets of the sequences; see `Engine`.

        Each is averaged over the ensemble, a mirrored one is not.
        """
        if self._quick is None or self._quick.prepared is not prepared:
            spacing_mm = _QUICK_RATIO * self._weights.spacing_mm
            self._quick = _QuickStudy(
                prepared, make_network_input(prepared, spacing_mm, self._device)
            )
        study, present = self._quick, frozenset(prepared.sequences)
        shown = [
            present & {s for s, keep in zip(MrSequence, item.keep, strict=True) if keep}
            for item in inputs
        ]
        groups = [
            [_View(shows, mirrored=True)] if item.mirrored else _ensemble(shows)
            for item, shows in zip(inputs, shown, strict=True)
        ]
        views = dict.fromkeys(view for group in groups for view in group)
        missing = [view for view in views if view not in study.predictions]
        batches = [missing[i : i + _BATCH] for i in range(0, len(missing), _BATCH)]
        with self._watched(SUBSETS, context, len(batches)):
            for batch in batches:
                tensors = [study.network_input.tensor(v.shown, mirrored=v.mirrored) for v in batch]
                probability = self._probability(self._pass(torch.cat(tensors)))
                for view, values in zip(batch, probability, strict=True):
                    upright = values.flip(1) if view.mirrored else values
                    study.predictions[view] = upright.cpu().numpy()
        means = [np.mean([study.predictions[view][0] for view in group], 0) for group in groups]
        default = self._weights.thresholds[0]
        return PerturbedPrediction(
            np.stack(means),
            study.network_input.grid,
            inner=np.stack([study.predictions[group[0]][1:] for group in groups]),
            thresholds=tuple(whole_tumour_threshold(shows, default) for shows in shown),
        )

    def _first_pass(self, prepared: PreparedStudy, context: RunContext) -> _FirstPass:
        """Run the ensemble: all sequences, these mirrored, and FLAIR alone for the whole tumour.

        Readers outline the whole tumour on FLAIR, and a sequence that does not show a faint lesion
        can suppress it. Averaging over mirrored inputs is test-time augmentation (Wang et al. 2019,
        doi:10.1016/j.neucom.2019.01.103). The network is trained on all of these inputs. A core
        predicted from all sequences is also whole tumour, whatever FLAIR alone predicts.
        """
        network_input = make_network_input(prepared, self._weights.spacing_mm, self._device)
        alone = _ensemble(frozenset(prepared.sequences))[1:]
        with self._watched(WHOLE_BRAIN, context, 2 + len(alone)):
            out = self._pass(network_input.tensor(), trace=True, lesions=True)
            mirrored = self._pass(network_input.tensor(mirrored=True))
            mean = (self._probability(out) + self._probability(mirrored).flip(2))[0] / 2
            cavity = None
            if out.logits.shape[1] > len(Region):  # the regions' temperatures do not apply to it
                sides = out.logits[0, -1].sigmoid(), mirrored.logits[0, -1].sigmoid().flip(0)
                cavity = (sides[0] + sides[1]) / 2
            del mirrored
            for view in alone:
                flair = self._probability(self._pass(network_input.tensor(view.shown)))[0, 0]
                mean[0] = (2 * mean[0] + flair) / 3
        mean[0] = torch.maximum(mean[0], mean[1])
        return _FirstPass(network_input, out, mean.logit(eps=_LOGIT_MARGIN), cavity)

    def _search(
        self, first: _FirstPass, context: RunContext
    ) -> tuple[NetworkInput | None, list[SmallLesion]]:
        """Return the input at the search's voxels, and the small lesions found; needs T1c."""
        prepared = first.network_input.frame.prepared
        if not self._searches or not prepared.has_t1c:
            return None, []
        context.check(SEARCH)
        context.progress(SEARCH, 0.0)
        fine = make_network_input(prepared, SMALL_LESIONS_SPACING_MM, self._device)
        logits = resample(first.logits[:2], first.network_input.grid, fine.grid)
        return fine, refinement.find_small_lesions(fine, logits.cpu().numpy())

    @property
    def _searches(self) -> bool:
        """Whether small lesions are searched for: only if the weights were trained on patients."""
        return bool(self._weights.trained_on)

    def _refine_enhancing(
        self, first: _FirstPass, fine: NetworkInput | None, context: RunContext
    ) -> Tensor | None:
        """Run the network on windows of finer voxels around suspected tumour.

        Returns
        -------
        (2, I, J, K) Tensor or None
            In the brain's box: what to add to the logits of enhancing tumour, and its attention.
            None without windows.
        """
        spacing_mm, frame = self._weights.focus_spacing_mm, first.network_input.frame
        if spacing_mm is None or not frame.prepared.has_t1c:
            return None
        if fine is None or fine.frame.spacing_mm != spacing_mm:
            fine = make_network_input(frame.prepared, spacing_mm, self._device)
        near, windows = refinement.enhancing_windows(first.logits[0], frame.grid, fine.grid)
        if not windows:
            return None
        outputs, region = [], len(Region) - 1
        with self._watched(WINDOWS, context, len(windows)):
            for window in windows:
                bounds = refinement.relative_bounds(window, fine.grid.shape, self._device)
                out = self._pass(fine.within(window).tensor(), bounds=bounds, maps=True)
                logits = self._calibrated(out)[0, region].clone()
                outputs.append((window, logits, region_attention(out)[region].clone()))
        maps = refinement.refine_enhancing(near, first.logits[-1], frame.grid, fine.grid, outputs)
        maps[1] = smooth(maps[1], BLUR_VOX)
        return fine.frame.to_box(maps)

    def _watched(
        self, stage: str, context: RunContext, passes: int
    ) -> AbstractContextManager[None]:
        return devices.interruptible(self._network, stage, context, passes, self._network.lesions)

    def _pass(
        self,
        x: Tensor,
        *,
        bounds: Tensor | None = None,
        maps: bool = False,
        trace: bool = False,
        lesions: bool = False,
    ) -> LensOutput:
        """Run the network on (B, 8, I, J, K); as `LensNetwork.forward`."""
        with torch.inference_mode(), devices.autocast(self._device):
            out: LensOutput = self._network(
                x, bounds=bounds, maps=maps, trace=trace, lesions=lesions
            )
        return out

    def _calibrated(self, out: LensOutput) -> Tensor:
        """Return (B, 3, I, J, K) logits of the regions over their temperatures."""
        temperature = out.logits.new_tensor(self._weights.temperature)
        return out.logits[:, : len(Region)].float() / temperature.view(-1, 1, 1, 1)

    def _probability(self, out: LensOutput) -> Tensor:
        return self._calibrated(out).sigmoid_()

    @property
    def _scoring(self) -> Scoring:
        weights = self._weights
        floor = weights.score_floor or _UNFITTED_FLOOR
        agreement = weights.agreement and ViewAgreement(*weights.agreement)
        return Scoring(*weights.score, floor, agreement)


def _ensemble(shown: frozenset[MrSequence]) -> list[_View]:
    """Return the inputs that are averaged for the whole tumour: FLAIR alone is one if it is shown.

    Examples
    --------
    >>> [len(view.shown) for view in _ensemble(frozenset(MrSequence))], len(_ensemble(_FLAIR))
    ([4, 1], 1)
    """
    return [_View(shown), _View(_FLAIR)] if shown > _FLAIR else [_View(shown)]


def _nested(probability: Tensor) -> Tensor:
    """Limit each region's (3, I, J, K) probability to that of its enclosing region."""
    for inner in (1, 2):  # much faster than `cummin` along an axis of three
        torch.minimum(probability[inner], probability[inner - 1], out=probability[inner])
    return probability


def _with_scores(quick: PerturbedPrediction, lesions: Iterable[SmallLesion]) -> PerturbedPrediction:
    """Add the scores of small lesions, which quick passes miss, to their prediction."""
    scores = np.zeros_like(quick.probability)
    for lesion in lesions:
        box, filled = refinement.onto(lesion.filled, lesion.grid, quick.grid)
        part = scores[0][box]
        np.maximum(part, np.float32(lesion.score), out=part, where=filled > _MIN_FILLED)
    return replace(quick, lesion_scores=scores if scores.any() else None)


def _class_probabilities(first: _FirstPass) -> ClassProbabilities | None:
    """Return class probabilities from the lesion queries, if the network has them."""
    if first.out.lesions is None:
        return None
    share = first.out.lesions.class_probabilities()[0].float().cpu().numpy()
    i, j, k = share.shape[1:]
    return ClassProbabilities(share, first.network_input.grid.scaled(2, (i, j, k)))


def whole_tumour_threshold(sequences: Collection[MrSequence], default: float) -> float:
    """Return the whole-tumour threshold; `default` if FLAIR or T2 is available.

    Without them oedema is only inferred from its position around a core, with a lower probability,
    so only nearly certain voxels are included.

    Examples
    --------
    >>> whole_tumour_threshold({MrSequence.T1C}, 0.5)
    0.8
    >>> whole_tumour_threshold({MrSequence.T1C, MrSequence.T2}, 0.5)
    0.5
    """
    return default if _WATER_SENSITIVE & set(sequences) else max(default, _CERTAIN)


def core_threshold(probability: NDArray[np.float32], default: float) -> float:
    """Return the threshold of the highest expected Dice, from 0.2 to `default`.

    It equals half of that Dice: an object that is uncertain as a whole gets a lower threshold, or
    only its most certain part would be included (Lipton et al. 2014, doi
    10.1007/978-3-662-44851-9_15, for F1, which is Dice).

    Parameters
    ----------
    probability : (I, J, K) float32
        0 to 1; values in the lowest of 200 bins are ignored.

    Examples
    --------
    >>> sure = np.repeat(np.float32([0, 1]), 500).reshape(10, 10, 10)
    >>> round(core_threshold(sure, 0.45), 2), round(core_threshold(sure * 0.4, 0.45), 2)
    (0.45, 0.29)
    """
    counted = probability[probability >= 1 / _BINS]  # most voxels are not
    counts = np.histogram(counted, _BINS, (0, 1))[0][:0:-1]
    centres = ((np.arange(_BINS) + 0.5) / _BINS)[:0:-1]
    expected_overlap, sizes = np.cumsum(counts * centres), np.cumsum(counts)
    best = float((expected_overlap / np.maximum(sizes + expected_overlap[-1], 1)).max())
    return min(default, max(_MIN_CORE_THRESHOLD, best))
