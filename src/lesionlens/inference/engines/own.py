"""The Lens network as an engine: glance over the whole brain, then focus on what it found."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from lesionlens.base.errors import UnusableInputError
from lesionlens.base.grid import Grid
from lesionlens.base.labels import Region
from lesionlens.base.stages import Cancel, Progress
from lesionlens.inference import device as devices
from lesionlens.inference import ready, rollout, separable, windows
from lesionlens.inference.engine import Target
from lesionlens.inference.ready import Ready
from lesionlens.inference.watch import watched
from lesionlens.network import weights as weight_files
from lesionlens.network.model import LensNetwork, LensOutput
from lesionlens.records.arrays import Volume
from lesionlens.records.prediction import (
    Capability,
    EngineInfo,
    Glance,
    Prediction,
    Scoring,
    Trace,
    Variant,
)
from lesionlens.records.study import PreparedStudy

Floats = NDArray[np.float32]
LOOK, FOCUS = "looking at the whole brain", "looking closely at candidates"
GLANCE = "glancing at variants"
_EVERYTHING = Variant((True, True, True, True))
_FOCUS_VOX = 96
_FOCUS_SHARE = 0.6
_FOCUS_FROM = 0.25
_FOCUS_MARGIN_MM = 6.0
_TOKEN_VOX = 8
_SCALE = 1.5
"""The glance is taken at this many times the spacing: a second look at another scale, in which
false regions seldom show again, and quick enough to be asked about every subset of sequences."""
_ATTENTION_BLUR_VOX = 0.7
"""Of the glance grid: takes away the checkerboard of period two that upsampling leaves."""
_CAPABILITIES = frozenset(
    {Capability.SEGMENT, Capability.ATTEND, Capability.PROBE, Capability.VARY}
)
METHOD = (
    "cross-attention of the region query to every voxel in the network's last layer, "
    "averaged over heads, smoothed over 0.7 voxels of the network's grid"
)


class LensEngine:
    """Runs the Lens network on a prepared study.

    Parameters
    ----------
    device : str
        "auto", "cpu", "cuda" or "cuda:N".
    weights : Path or None
        A weights file; None for those shipped with the package.

    Raises
    ------
    WeightsError
        The weights are missing, altered or made for another network.
    ResourceError
        The device is not there.
    """

    def __init__(self, device: str = "auto", weights: Path | None = None) -> None:
        self._device = devices.choose(device)
        if weights is None:
            self._network, self._about = weight_files.load_default(self._device)
        else:
            self._network, self._about = weight_files.load(Path(weights), self._device)
        self._last: tuple[PreparedStudy, Ready] | None = None

    @property
    def info(self) -> EngineInfo:
        """Name, version, SHA-256 of the weights, capabilities, device."""
        return EngineInfo(
            name="lens",
            version=self._about.version,
            weights_sha256=self._about.sha256,
            capabilities=_CAPABILITIES,
            device=devices.describe(self._device),
            calibrated=self._about.temperature != (1.0, 1.0, 1.0),
        )

    @property
    def network(self) -> LensNetwork:
        """The network itself, in evaluation mode."""
        return self._network

    def predict(self, prepared: PreparedStudy, *, progress: Progress, cancel: Cancel) -> Prediction:
        """Answer on the working grid; see `inference.engine.Engine.predict`."""
        study = ready.make_ready(prepared, self._about.spacing_mm, self._device)
        with watched(self._network, LOOK, progress, cancel):
            out = self._pass(study.input_of(_EVERYTHING), trace=True)
        logits = self._calibrated(out.logits)[0]
        box = ready.brain_box(prepared)
        cut = ready.box_grid(prepared, box)
        along = separable.matrices(study.grid, cut, antialias=False)
        fine = separable.apply(logits, along)
        if self._about.focus_spacing_mm is not None:
            fine = self._focus(prepared, fine, cut, progress, cancel)
        brain = torch.from_numpy(prepared.brain[box].copy()).to(self._device)
        probability = _nested(fine) * brain
        softened = separable.smooth(out.attention[0], _ATTENTION_BLUR_VOX)
        attention = separable.apply(softened, along) * brain
        return Prediction(
            probability=_by_region(_whole(probability, prepared, box)),
            engine=self.info,
            trace=self._trace(out, _whole(attention, prepared, box), study.grid, prepared),
            glance=self.glance(prepared, [_EVERYTHING], progress=progress, cancel=cancel),
            scoring=Scoring(*self._about.score, self._about.score_floor),
        )

    def attribute(self, prepared: PreparedStudy, target: Target, method: str) -> Volume:
        """Refuse: see `Engine.attribute`.

        Raises
        ------
        UnusableInputError
            Always, until a method is there.
        """
        del prepared, target
        raise UnusableInputError(
            found=f"the attribution method {method!r}",
            expected="attention, which every analysis holds",
            next_step="Use the attention maps of the result",
        )

    def glance_grid(self, prepared: PreparedStudy) -> Grid:
        """Return the grid on which `glance` answers."""
        return ready.grid_at(prepared, _SCALE * self._about.spacing_mm)

    def glance(
        self,
        prepared: PreparedStudy,
        variants: Sequence[Variant],
        *,
        progress: Progress,
        cancel: Cancel,
    ) -> Glance:
        """Look once at each variant; see `inference.engine.Varying.glance`."""
        study = self._ready(prepared)
        answers: list[Floats] = []
        with watched(self._network, GLANCE, progress, cancel, passes=len(variants)):
            for variant in variants:
                logits = self._calibrated(self._pass(study.input_of(variant)).logits)
                whole = torch.sigmoid(logits[0, 0])
                answers.append((whole.flip(0) if variant.mirrored else whole).cpu().numpy())
        return Glance(np.stack(answers), study.grid)

    def _ready(self, prepared: PreparedStudy) -> Ready:
        if self._last is None or self._last[0] is not prepared:
            study = ready.make_ready(prepared, _SCALE * self._about.spacing_mm, self._device)
            self._last = (prepared, study)
        return self._last[1]

    def _pass(self, x: Tensor, *, trace: bool = False) -> LensOutput:
        x = x.to(memory_format=torch.channels_last_3d)
        on_gpu = self._device.type == "cuda"
        with torch.inference_mode(), torch.autocast("cuda", torch.bfloat16, enabled=on_gpu):
            out: LensOutput = self._network(x, trace=trace)
        return out

    def _calibrated(self, logits: Tensor) -> Tensor:
        temperature = torch.tensor(self._about.temperature, device=logits.device)
        return logits.float() / temperature.view(-1, 1, 1, 1)

    def _focus(
        self, prepared: PreparedStudy, coarse: Tensor, cut: Grid, progress: Progress, cancel: Cancel
    ) -> Tensor:
        """Look again at a finer grid around what the glance suspects; (3, I, J, K) logits."""
        suspected = (torch.sigmoid(coarse[0]) >= _FOCUS_FROM).cpu().numpy()
        if not suspected.any():
            return coarse
        near = ndimage.distance_transform_edt(~suspected) <= _FOCUS_MARGIN_MM
        spacing = self._about.focus_spacing_mm or self._about.spacing_mm
        study = ready.make_ready(prepared, spacing, self._device)
        there = separable.matrices(cut, study.grid, antialias=False)
        wanted = separable.apply(torch.from_numpy(near).float(), there).numpy() > 0.5
        places = list(windows.over(wanted, (_FOCUS_VOX,) * 3))
        blend = windows.Blend(3, study.grid.shape, self._device)
        x = study.input_of(_EVERYTHING)
        with watched(self._network, FOCUS, progress, cancel, passes=len(places)):
            for place in places:
                seen = self._pass(x[(slice(None), slice(None), *place)])
                blend.add(place, self._calibrated(seen.logits)[0])
        known = separable.apply(coarse, there)
        change = blend.over(known, _FOCUS_SHARE) - known
        back = separable.matrices(study.grid, cut, antialias=False)
        soft = ndimage.gaussian_filter(near.astype(np.float32), 2.0)
        return coarse + separable.apply(change, back) * torch.from_numpy(soft).to(self._device)

    def _trace(
        self, out: LensOutput, attention: Floats, grid: Grid, prepared: PreparedStudy
    ) -> Trace:
        cross = _by_region(attention / np.maximum(attention.sum((1, 2, 3), keepdims=True), 1e-12))
        seen = out.trace.self_attention if out.trace else ()
        layers = ("query looks at 1/1",)
        if not seen:
            return Trace(cross, METHOD, layers)
        matrices = [rollout.layer_weights(layer.q[0], layer.k[0]) for layer in seen]
        asked = _Probe(matrices, seen[0].grid, grid, prepared)
        return Trace(cross, METHOD, layers, asked)


class _Probe:
    """Answers where the token of a working voxel attends."""

    def __init__(
        self,
        layers: list[Tensor],
        tokens: tuple[int, int, int],
        glance: Grid,
        prepared: PreparedStudy,
    ) -> None:
        affine = glance.affine.copy()
        affine[:3, :3] *= _TOKEN_VOX
        affine[:3, 3] = glance.to_mm([(_TOKEN_VOX - 1) / 2] * 3)
        self._layers, self._grid = layers, Grid(tokens, affine)
        self._working, self._brain = prepared.working, prepared.brain

    def __call__(self, voxel: tuple[int, int, int]) -> Floats:
        """Return the (I, J, K) rollout of one working voxel, maximum 1.

        Raises
        ------
        UnusableInputError
            The voxel lies outside the brain, where the network does not look.
        """
        inside = all(0 <= v < n for v, n in zip(voxel, self._brain.shape, strict=True))
        if not inside or not self._brain[voxel]:
            raise UnusableInputError(
                found="a voxel outside the brain",
                expected="one inside it, where the network looks",
                next_step="Click inside the brain",
            )
        place = np.rint(self._grid.to_voxel(self._working.to_mm(voxel))).astype(int)
        at = np.clip(place, 0, np.array(self._grid.shape) - 1)
        token = int(np.ravel_multi_index(tuple(at), self._grid.shape))
        weights = rollout.row(token, self._layers).view(1, *self._grid.shape)
        along = separable.matrices(self._grid, self._working, antialias=False)
        spread = separable.apply(weights, along)[0].cpu().numpy() * self._brain
        return np.asarray(spread / max(float(spread.max()), 1e-12), dtype=np.float32)


def _nested(logits: Tensor) -> Tensor:
    """Probabilities of (3, ...) logits, each at most that of the region round it."""
    return torch.cummin(torch.sigmoid(logits), dim=0).values


def _whole(cut: Tensor, prepared: PreparedStudy, box: ready.Box) -> Floats:
    """Put (R, i, j, k) maps of the brain's box back into the working grid; zero elsewhere."""
    out = np.zeros((cut.shape[0], *prepared.working.shape), np.float32)
    out[(slice(None), *box)] = cut.float().cpu().numpy()
    return out


def _by_region(maps: Floats) -> dict[Region, Floats]:
    return dict(zip(Region, maps, strict=True))
