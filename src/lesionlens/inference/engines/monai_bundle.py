"""Any MONAI bundle that segments brain tumours, as an engine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from monai.inferers import SlidingWindowInferer
from numpy.typing import NDArray
from torch import Tensor

from lesionlens.base.errors import UnusableInputError
from lesionlens.base.grid import Grid
from lesionlens.base.labels import MrSequence, Region
from lesionlens.base.stages import NEVER, Cancel, Progress, check, no_progress
from lesionlens.inference import device as devices
from lesionlens.inference import gradcam, ready, separable
from lesionlens.inference.engine import Target
from lesionlens.inference.engines import bundle_files
from lesionlens.inference.watch import watched
from lesionlens.records.arrays import Volume
from lesionlens.records.prediction import Capability, EngineInfo, Prediction, Trace
from lesionlens.records.study import PreparedStudy

LOOK = "running the bundle's network"
EXPLAIN = "asking which features mattered"
_CAM_MM = 2.0
_CAM_STRIDE = 4
METHOD = (
    "Grad-CAM of the bundle's network at a quarter of its resolution: not attention, but which "
    "features made it draw the region"
)


class BundleEngine:
    """Runs a bundle's network on a prepared study.

    Inputs are z-scored in the brain, as `NormalizeIntensityd(nonzero=True)` does it.

    Parameters
    ----------
    device : str
        "auto", "cpu", "cuda" or "cuda:N".
    bundle : Path
        The bundle's folder.

    Raises
    ------
    UnusableInputError
        It is no bundle that can be used here.
    WeightsError
        Its weights cannot be loaded safely.
    """

    def __init__(self, device: str = "auto", *, bundle: Path) -> None:
        self._device = devices.choose(device)
        self._bundle = bundle_files.read(bundle)
        self._network = self._bundle.network.to(self._device)

    @property
    def info(self) -> EngineInfo:
        """Name, version, SHA-256 of the weights, capabilities, device."""
        return EngineInfo(
            name=f"monai-bundle {self._bundle.name}",
            version=self._bundle.version,
            weights_sha256=self._bundle.sha256,
            capabilities=frozenset({Capability.SEGMENT, Capability.ATTEND}),
            device=devices.describe(self._device),
        )

    def predict(self, prepared: PreparedStudy, *, progress: Progress, cancel: Cancel) -> Prediction:
        """Answer on the working grid; see `inference.engine.Engine.predict`."""
        study = ready.make_ready(prepared, self._bundle.spacing_mm, self._device)
        x = self._input(study)
        window = SlidingWindowInferer(self._bundle.window, overlap=0.5, mode="gaussian")
        with watched(self._network, LOOK, progress, cancel), torch.inference_mode():
            logits = window(x, self._network)
        if not isinstance(logits, Tensor):
            raise UnusableInputError(
                found="several outputs of the bundle's network",
                expected="one volume of logits",
                next_step="Use a bundle for plain segmentation",
            )
        check(cancel, EXPLAIN)
        progress(EXPLAIN, 0.0)
        shares = torch.sigmoid(logits[0].float())
        trace = self._explain(prepared, shares[self._channels()[Region.WT]], study.grid)
        progress(EXPLAIN, 1.0)
        return Prediction(
            probability=self._probability(shares, study.grid, prepared),
            engine=self.info,
            trace=trace,
            notices=self._notices(prepared),
        )

    def attribute(self, prepared: PreparedStudy, target: Target, method: str) -> Volume:
        """Explain by "grad-cam"; see `inference.engine.Engine.attribute`."""
        if method != "grad-cam":
            raise UnusableInputError(
                found=f"the attribution method {method!r}",
                expected="grad-cam",
                next_step="Choose grad-cam for a bundle's network",
            )
        found = self.predict(prepared, progress=no_progress, cancel=NEVER).trace
        if found is None or target.region not in found.cross:
            raise UnusableInputError(
                found=f"no output of the bundle for the {target.region.words}",
                expected="a region that it draws",
                next_step="Choose the whole tumour",
            )
        return Volume(found.cross[target.region], prepared.working)

    def _input(self, study: ready.Ready) -> Tensor:
        order = [list(MrSequence).index(sequence) for sequence in self._bundle.sequences]
        return study.channels[:, order]

    def _channels(self) -> dict[Region, int]:
        regions = self._bundle.regions
        return {region: regions.index(region) for region in Region if region in regions}

    def _probability(
        self, shares: Tensor, grid: Grid, prepared: PreparedStudy
    ) -> dict[Region, NDArray[np.float32]]:
        """Bring output channels to the working grid, nested; zero for a region it lacks."""
        out: dict[Region, NDArray[np.float32]] = {}
        inside = np.ones(prepared.working.shape, np.float32)
        for region in Region:
            channel = self._channels().get(region)
            if channel is None:
                out[region] = np.zeros(prepared.working.shape, np.float32)
                continue
            found = _onto_working(shares[channel], grid, prepared)
            inside = np.minimum(inside, found)
            out[region] = inside
        return out

    def _explain(self, prepared: PreparedStudy, whole: Tensor, grid: Grid) -> Trace:
        """Draw Grad-CAM: at 2 mm, or in one window where the network reads no other size."""
        if self._bundle.fixed:
            study = ready.make_ready(prepared, self._bundle.spacing_mm, self._device)
            place = _about_peak(whole, self._bundle.window)
        else:
            study = ready.make_ready(prepared, _CAM_MM, self._device)
            i, j, k = study.grid.shape
            place = slice(0, i), slice(0, j), slice(0, k)
            grid = study.grid
        x = _padded(self._input(study)[(slice(None), slice(None), *place)])
        layer = gradcam.last_convolution_below(self._network, _CAM_STRIDE, x)
        cams = gradcam.maps(self._network, layer, x, self._channels())
        size = [side.stop - side.start for side in place]
        cross = {}
        for region, cam in cams.items():
            spread = torch.zeros(grid.shape, device=self._device)
            spread[place] = cam[: size[0], : size[1], : size[2]]
            found = _onto_working(spread, grid, prepared)
            cross[region] = found / np.float32(max(float(found.sum(dtype=np.float64)), 1e-12))
        name = next((n for n, m in self._network.named_modules() if m is layer), "")
        return Trace(cross, METHOD, (name,))

    def _notices(self, prepared: PreparedStudy) -> tuple[str, ...]:
        there = {s for s, here in zip(MrSequence, prepared.present, strict=True) if here}
        missing = [s.words for s in self._bundle.sequences if s not in there]
        lacking = [r.words for r in Region if r not in self._bundle.regions]
        said = []
        if missing:
            said.append(
                f"The bundle expects {', '.join(missing)}, which this study lacks: it was shown "
                "an empty image instead, and its answer may be wrong"
            )
        if lacking:
            said.append(f"The bundle does not draw the {' or the '.join(lacking)}")
        return tuple(said)


def _onto_working(values: Tensor, grid: Grid, prepared: PreparedStudy) -> NDArray[np.float32]:
    """Bring one (I, J, K) map to the whole working grid; zero outside the brain."""
    box = ready.brain_box(prepared)
    along = separable.matrices(grid, ready.box_grid(prepared, box), antialias=False)
    out = np.zeros(prepared.working.shape, np.float32)
    out[box] = separable.apply(values, along).cpu().numpy() * prepared.brain[box]
    return out


def _about_peak(whole: Tensor, window: tuple[int, int, int]) -> tuple[slice, slice, slice]:
    """Return the window about the surest voxel, within the volume; a short axis whole."""
    peak = np.unravel_index(int(whole.argmax()), tuple(whole.shape))
    sides = []
    for at, size, length in zip(peak, window, whole.shape, strict=True):
        start = min(max(int(at) - size // 2, 0), max(length - size, 0))
        sides.append(slice(start, min(start + size, length)))
    return sides[0], sides[1], sides[2]


def _padded(x: Tensor, multiple: int = 32) -> Tensor:
    """Pad the high ends to a multiple that any network's strides divide."""
    amounts = [n for size in reversed(x.shape[2:]) for n in (0, -size % multiple)]
    return torch.nn.functional.pad(x, amounts)
