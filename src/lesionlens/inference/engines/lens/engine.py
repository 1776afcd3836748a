"""The Lens network as an engine: a first pass over the whole brain, then patch refinement."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lesionlens.base.errors import UnusableInputError
from lesionlens.base.geometry import Box
from lesionlens.base.grid import Grid
from lesionlens.base.labels import MrSequence, Region
from lesionlens.base.stages import Cancel, Progress
from lesionlens.inference import device as devices
from lesionlens.inference import gradcam, network_input, rollout, separable, windows
from lesionlens.inference.engine import Target
from lesionlens.inference.engines.lens import ensemble, patch_refinement
from lesionlens.inference.engines.lens.attention import (
    AttentionRollout,
    CrossAttentionMaps,
    coarser,
)
from lesionlens.inference.interruptible import interruptible
from lesionlens.inference.network_input import NetworkInput
from lesionlens.inference.pass_cache import PassCache
from lesionlens.network import weights as weight_files
from lesionlens.network.model import LensNetwork, LensOutput
from lesionlens.records.arrays import Volume
from lesionlens.records.prediction import (
    Capability,
    ClassProbabilities,
    EngineInfo,
    FirstLook,
    InputPerturbation,
    OperatingPoint,
    PerturbedPrediction,
    Prediction,
    Scoring,
    Trace,
)
from lesionlens.records.study import PreparedStudy

Floats = NDArray[np.float32]
FIRST_PASS, REFINEMENT = "predicting the whole brain", "refining candidates"
PERTURBATION = "predicting perturbed inputs"
_EVERYTHING = InputPerturbation()
_T1_SPARE = frozenset({MrSequence.T1C, MrSequence.FLAIR})
_EDGE = 1e-6
_SCALE = 1.5
"""Perturbed inputs are predicted at this many times the spacing: another scale, at which false
regions seldom show again, and quick enough for every subset of sequences."""
_UNFITTED_FLOOR = 0.2
"""Score from which a region is flagged, for weights that name none."""
_ATTENTION_BLUR_VOX = 0.7
"""On the network's grid: takes away the checkerboard of period two that upsampling leaves."""
_CAPABILITIES = frozenset(
    {Capability.SEGMENT, Capability.ATTEND, Capability.PROBE, Capability.PERTURB}
)
_ATTENDING = frozenset({Capability.ATTEND, Capability.PROBE})
METHOD = (
    "cross-attention of the region query to every voxel in the network's last layer, "
    "averaged over heads, smoothed over 0.7 voxels of the network's grid"
)
REFINED_METHOD = (
    f"{METHOD}; {10 * patch_refinement.SHARE:.0f} tenths of the enhancing tumour's map, "
    "as of its outline, are from patch refinement"
)


class LensEngine:
    """Runs the Lens network on a prepared study.

    Parameters
    ----------
    device : str
        As `inference.device.choose` reads it.
    weights : str, Path or None
        A weights file, or "synthetic" for the shipped ones that learnt from no patient; None for
        the default ones.

    Raises
    ------
    WeightsError
        The weights are missing, altered or made for another network.
    ResourceError
        The device is not there.
    """

    def __init__(self, device: str = "auto", weights: str | Path | None = None) -> None:
        place = devices.choose(device)
        self._network, self._about = weight_files.load_chosen(weights, place)
        self.placement = devices.Placement(place, self._move)
        self._memory = PassCache(_SCALE * self._about.spacing_mm, place)

    def _move(self, device: torch.device) -> None:
        self._network.to(device)
        self._memory = PassCache(_SCALE * self._about.spacing_mm, device)

    @property
    def _device(self) -> torch.device:
        return self.placement.device

    @property
    def info(self) -> EngineInfo:
        """Name, version, SHA-256 of the weights, capabilities, device."""
        return EngineInfo(
            name="lens",
            version=self._about.version,
            weights_sha256=self._about.sha256,
            capabilities=_CAPABILITIES if self._attends else _CAPABILITIES - _ATTENDING,
            device=devices.describe(self._device),
            calibrated=self._about.temperature != (1.0, 1.0, 1.0),
            operating_points=tuple(
                OperatingPoint(p["threshold"], p["sensitivity"], p["false_per_scan"])
                for p in self._about.operating_points
            ),
            floor=self._floor,
        )

    @property
    def _floor(self) -> float:
        """The score below which nothing is flagged."""
        return self._about.score_floor or _UNFITTED_FLOOR

    @property
    def _attends(self) -> bool:
        """Whether the weights are of a design that has attention to show."""
        return self._network.config.design != "cnn-only"

    @property
    def network(self) -> LensNetwork:
        """The network itself, in evaluation mode."""
        return self._network

    def first_look(
        self, prepared: PreparedStudy, *, progress: Progress, cancel: Cancel
    ) -> FirstLook:
        """Predict at the spacing of perturbed inputs; see `inference.engine.SupportsFirstLook`."""
        seen = self.predict_perturbed(prepared, [_EVERYTHING], progress=progress, cancel=cancel)
        return FirstLook(seen, self._about.thresholds[0], Scoring(*self._about.score, self._floor))

    @devices.on_its_device
    def predict(self, prepared: PreparedStudy, *, progress: Progress, cancel: Cancel) -> Prediction:
        """Answer on the working grid; see `inference.engine.Engine.predict`."""
        study = network_input.make_network_input(prepared, self._about.spacing_mm, self._device)
        out, logits = self._first_pass(study, progress, cancel)
        box, cut = study.box, study.cut
        along = separable.matrices(study.grid, cut, antialias=False)
        fine = separable.apply(logits, along)
        refined = self._refined(prepared, study, logits, progress, cancel)
        if refined is not None:
            fine[-1] += refined[0]
        brain = torch.from_numpy(prepared.brain[box].copy()).to(self._device)
        probability = _nested(fine) * brain
        trace = None
        if self._attends:
            softened = separable.smooth(out.attention[0], _ATTENTION_BLUR_VOX)
            attention = separable.add_up_to_one(separable.apply(softened, along) * brain)
            if refined is not None:
                attended = separable.add_up_to_one(refined[1:] * brain)[0]
                attention[-1] += patch_refinement.SHARE * (attended - attention[-1])
            method = METHOD if refined is None else REFINED_METHOD
            maps = _by_region(_whole(attention, prepared, box))
            trace = self._trace(out, maps, method, study.grid, prepared)
        return Prediction(
            probability=_by_region(_whole(probability, prepared, box)),
            engine=self.info,
            trace=trace,
            notices=self.placement.notices,
            unperturbed=self.predict_perturbed(
                prepared, [_EVERYTHING], progress=progress, cancel=cancel
            ),
            thresholds=dict(zip(Region, self._about.thresholds, strict=True)),
            scoring=Scoring(*self._about.score, self._floor),
            class_probabilities=_class_probabilities(out, study.grid),
        )

    def _first_pass(
        self, study: NetworkInput, progress: Progress, cancel: Cancel
    ) -> tuple[LensOutput, Tensor]:
        """Average the ensemble; return the pass with everything, and (3, I, J, K) mean logits.

        What everything shown calls core is whole tumour too, whatever FLAIR alone says of it.
        """
        shown = _shown(study.present)
        _, *others = ensemble.of_whole_tumour(shown)
        with interruptible(self._network, FIRST_PASS, progress, cancel, passes=1 + len(others)):
            out = self._pass(study.input_of(_EVERYTHING), trace=True)
            mean = torch.sigmoid(self._calibrated(out.logits)[0])
            for one in others:
                other = self._pass(study.input_of(InputPerturbation.showing(one)))
                mean[0] += torch.sigmoid(self._calibrated(other.logits)[0, 0])
        mean[0] = torch.maximum(mean[0] / (1 + len(others)), mean[1])
        return out, torch.logit(mean, eps=_EDGE)

    @devices.on_its_device
    def attribute(self, prepared: PreparedStudy, target: Target, method: str) -> Volume:
        """Give a second opinion by "grad-cam"; see `inference.engine.Engine.attribute`.

        Gradients instead of attention: which features, at half the network's resolution, made it
        draw the region. Weights that add up to one over the brain.
        """
        if method != "grad-cam":
            raise UnusableInputError(
                found=f"the attribution method {method!r}",
                expected="grad-cam; attention is in every result",
                next_step="Ask for grad-cam, or use the attention maps of the result",
            )
        study = network_input.make_network_input(prepared, self._about.spacing_mm, self._device)
        x = study.input_of(_EVERYTHING).to(memory_format=torch.channels_last_3d)
        channel = {target.region: list(Region).index(target.region)}
        layer = self._network.decoder.to_half
        cam = gradcam.maps(_logits_of(self._network), layer, x, channel)[target.region]
        along = separable.matrices(study.grid, study.cut, antialias=False)
        whole = _whole(separable.apply(cam[None], along), prepared, study.box)[0] * prepared.brain
        return Volume(whole / max(float(whole.sum(dtype=np.float64)), 1e-12), prepared.working)

    def perturbation_grid(self, prepared: PreparedStudy) -> Grid:
        """Return the grid of `predict_perturbed`."""
        return network_input.grid_at(prepared, _SCALE * self._about.spacing_mm)

    @devices.on_its_device
    def predict_perturbed(
        self,
        prepared: PreparedStudy,
        variants: Sequence[InputPerturbation],
        *,
        progress: Progress,
        cancel: Cancel,
    ) -> PerturbedPrediction:
        """Run one fast pass on each input; see `inference.engine.SupportsPerturbation`."""
        study = self._memory.of(prepared)
        groups = [self._ensemble(variant, study.present) for variant in variants]

        def take(one: InputPerturbation) -> Tensor:
            return torch.sigmoid(self._calibrated(self._pass(study.input_of(one)).logits)[0, 0])

        def watch(passes: int) -> AbstractContextManager[None]:
            return interruptible(self._network, PERTURBATION, progress, cancel, passes=passes)

        return self._memory.predict_perturbed(prepared, groups, take, watch)

    def _ensemble(
        self, variant: InputPerturbation, present: Sequence[bool]
    ) -> list[InputPerturbation]:
        """Return the inputs that are averaged for one, by what the network reads of them."""
        shown = _shown([a and b for a, b in zip(variant.keep, present, strict=True)])
        members = (shown,) if variant.alone else ensemble.of_whole_tumour(shown)
        return [
            replace(variant, keep=InputPerturbation.showing(self._read(one)).keep)
            for one in members
        ]

    def _read(self, shown: ensemble.Shown) -> ensemble.Shown:
        """Leave out what the network holds back, so that no pass is run twice."""
        held_back = self._network.config.t1_in_reserve and shown >= _T1_SPARE
        return shown - {MrSequence.T1} if held_back else shown

    def _pass(self, x: Tensor, *, place: Tensor | None = None, trace: bool = False) -> LensOutput:
        x = x.to(memory_format=torch.channels_last_3d)
        fast = devices.has_fast_bfloat16(self._device)
        with torch.inference_mode(), devices.autocast(self._device, fast):
            out: LensOutput = self._network(x, place=place, trace=trace)
        return out

    def _calibrated(self, logits: Tensor) -> Tensor:
        temperature = torch.tensor(self._about.temperature, device=logits.device)
        return logits.float() / temperature.view(-1, 1, 1, 1)

    def _refined(
        self,
        prepared: PreparedStudy,
        first: NetworkInput,
        logits: Tensor,
        progress: Progress,
        cancel: Cancel,
    ) -> Tensor | None:
        """Return `patch_refinement.refine` on the grid `first.cut`; None where nothing needs it."""
        spacing = self._about.focus_spacing_mm
        if spacing is None or MrSequence.T1C not in _shown(prepared.present.tolist()):
            return None
        fine = network_input.grid_at(prepared, spacing)
        chosen = patch_refinement.plan(logits[0], first.grid, fine)
        if not chosen.places:
            return None
        study = network_input.make_network_input(prepared, spacing, self._device)
        x = study.input_of(_EVERYTHING)

        def run(window: windows.Window, place: Tensor) -> tuple[Tensor, Tensor]:
            out = self._pass(x[(slice(None), slice(None), *window)], place=place)
            return self._calibrated(out.logits)[0, -1], out.attention[0, -1]

        with interruptible(self._network, REFINEMENT, progress, cancel, passes=len(chosen.places)):
            change, attended = patch_refinement.refine(chosen, logits[-1], study, run)
        both = torch.stack([change, separable.smooth(attended, _ATTENTION_BLUR_VOX)])
        return separable.apply(both, separable.matrices(study.grid, first.cut, antialias=False))

    def _trace(
        self,
        out: LensOutput,
        cross: Mapping[Region, Floats],
        method: str,
        grid: Grid,
        prepared: PreparedStudy,
    ) -> Trace:
        seen = out.trace.self_attention if out.trace else ()
        layers = (CrossAttentionMaps.names[-1],)
        if out.trace is None or not seen:
            return Trace(cross, method, layers)
        matrices = [rollout.layer_weights(layer.q[0], layer.k[0]) for layer in seen]
        maps = CrossAttentionMaps(out.trace.cross_attention, out.trace.padded, grid, prepared)
        return Trace(
            cross,
            method,
            layers,
            probe_row=AttentionRollout(matrices, seen[0].grid, grid, prepared),
            layer_attention=maps,
            attention_layers=tuple(zip(CrossAttentionMaps.names, maps.heads, strict=True)),
        )


def _class_probabilities(out: LensOutput, grid: Grid) -> ClassProbabilities | None:
    """Return the classes by the lesion queries, where the network has them."""
    if out.lesions is None:
        return None
    share = out.lesions.class_shares()[0].float().cpu().numpy()
    i, j, k = share.shape[1:]
    return ClassProbabilities(share, coarser(grid, 2, (i, j, k)))


def _shown(keep: Sequence[bool]) -> ensemble.Shown:
    return frozenset(s for s, there in zip(MrSequence, keep, strict=True) if there)


def _logits_of(network: LensNetwork) -> Callable[[Tensor], Tensor]:
    def run(x: Tensor) -> Tensor:
        out: LensOutput = network(x)
        return out.logits

    return run


def _nested(logits: Tensor) -> Tensor:
    """Probabilities of (3, I, J, K) logits, each at most that of the region round it."""
    whole, core, enhancing = torch.sigmoid(logits)
    core = torch.minimum(core, whole)  # many times as fast as `cummin` along three
    return torch.stack([whole, core, torch.minimum(enhancing, core)])


def _whole(cut: Tensor, prepared: PreparedStudy, box: Box) -> Floats:
    """Put (R, i, j, k) maps of the brain's box back into the working grid; zero elsewhere."""
    out = np.zeros((cut.shape[0], *prepared.working.shape), np.float32)
    out[(slice(None), *box)] = cut.float().cpu().numpy()
    return out


def _by_region(maps: Floats) -> dict[Region, Floats]:
    return dict(zip(Region, maps, strict=True))
