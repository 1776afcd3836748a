"""A RetinaNet in 3-D (monai.apps.detection) as an engine: boxes, outlined by brightness."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from typing_extensions import override

from lesionlens.base.errors import UnusableInputError, WeightsError
from lesionlens.base.geometry import Box
from lesionlens.base.grid import Grid
from lesionlens.base.labels import MrSequence, Region
from lesionlens.base.provenance import sha256_of
from lesionlens.base.records.prediction import Capability, EngineInfo, Prediction
from lesionlens.base.records.study import PreparedStudy
from lesionlens.base.run_context import RunContext
from lesionlens.engines import device as devices
from lesionlens.engines.engine import Target
from lesionlens.engines.interruptible import interruptible
from lesionlens.engines.network_input import make_network_input
from lesionlens_retinanet.outline import BRIGHT_IN, METHOD, outlines

STAGE = "finding boxes"
CONFIG, WEIGHTS = "detector.json", "detector.safetensors"


@dataclass(frozen=True, slots=True)
class DetectorConfig:
    """What `detector.json` says."""

    sequences: tuple[str, ...] = ("t1c", "flair")
    """Channels of the image, in order; names of MrSequence."""
    spacing_mm: float = 2.0
    """Edge of the cubes that it reads."""
    channels: tuple[int, ...] = (16, 32, 64)
    """Of each level of the pyramid; level n has strides of 2 ** (n + 1)."""
    anchor_vox: tuple[int, ...] = (6, 12)
    """Edges of the cubes that boxes are told from, on the first level; doubled on each next."""
    score_from: float = 0.3
    """Boxes that score less are left out."""
    overlap_to: float = 0.22
    """Of two boxes that overlap by more (intersection over union), the lower goes."""
    at_most: int = 32
    """Boxes of one study."""


class Pyramid(nn.Module):
    """Convolutions that halve the volume, and a feature pyramid over them."""

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        self.out_channels = config.channels[0]
        before = (len(config.sequences), *config.channels[:-1])
        self.down = nn.ModuleList(
            nn.Sequential(
                nn.Conv3d(a, b, 3, stride=2, padding=1),
                nn.InstanceNorm3d(b, affine=True),
                nn.ReLU(),
            )
            for a, b in zip(before, config.channels, strict=True)
        )
        self.across = nn.ModuleList(nn.Conv3d(b, self.out_channels, 1) for b in config.channels)

    @override
    def forward(self, image: Tensor) -> list[Tensor]:
        """Return the (B, C, I', J', K') maps of all levels, the finest first."""
        seen = []
        for layer in self.down:
            image = layer(image)
            seen.append(image)
        maps = [across(one) for across, one in zip(self.across, seen, strict=True)]
        for n in range(len(maps) - 2, -1, -1):
            maps[n] = maps[n] + nn.functional.interpolate(maps[n + 1], size=maps[n].shape[2:])
        return maps


def build(config: DetectorConfig) -> Any:
    """Return MONAI's detector round an untrained network; train it as MONAI's tutorials do."""
    from monai.apps.detection.networks.retinanet_detector import RetinaNetDetector
    from monai.apps.detection.networks.retinanet_network import RetinaNet
    from monai.apps.detection.utils.anchor_utils import AnchorGeneratorWithAnchorShape

    levels = len(config.channels)
    anchors = AnchorGeneratorWithAnchorShape(
        feature_map_scales=[2**n for n in range(levels)],
        base_anchor_shapes=[[edge] * 3 for edge in config.anchor_vox],
    )
    network = RetinaNet(
        spatial_dims=3,
        num_classes=1,
        num_anchors=anchors.num_anchors_per_location()[0],
        feature_extractor=Pyramid(config),
        size_divisible=2**levels,
    )
    detector = RetinaNetDetector(network, anchors)
    detector.set_box_selector_parameters(
        score_thresh=config.score_from,
        nms_thresh=config.overlap_to,
        detections_per_img=config.at_most,
    )
    return detector.eval()


class RetinaNetEngine:
    """Finds boxes in a prepared study, and outlines what is bright in each.

    Parameters
    ----------
    device : str
        As `lesionlens.engines.device.choose` reads it.
    weights : str or Path
        Folder with `detector.json` (fields of `DetectorConfig`) and `detector.safetensors`
        (the state of `build(config).network`).

    Raises
    ------
    WeightsError
        It is no such folder.
    """

    def __init__(self, device: str = "auto", weights: str | Path | None = None) -> None:
        folder = Path(weights or "")
        try:
            text = (folder / CONFIG).read_text("utf-8") if weights else ""
            table: dict[str, Any] = json.loads(text)
            table = {k: tuple(v) if isinstance(v, list) else v for k, v in table.items()}
            self._config = DetectorConfig(**table)
            self._sequences = tuple(MrSequence(name) for name in self._config.sequences)
            self._detector = build(self._config)
            self._detector.network.load_state_dict(load_file(folder / WEIGHTS))
        except (OSError, ValueError, TypeError, RuntimeError) as error:
            raise WeightsError(
                found=f"{folder.name!r}, no trained detector ({str(error)[:200]})",
                expected=f"a folder with {CONFIG} and {WEIGHTS}",
                next_step="Name the folder of the trained detector as the weights",
            ) from error
        self._device = devices.choose(device)
        self._detector.to(self._device)
        self.info = EngineInfo(
            name="retinanet",
            version=version("monai"),
            weights_sha256=sha256_of(folder / WEIGHTS),
            capabilities=frozenset({Capability.SEGMENT}),
            device=devices.describe(self._device),
        )

    def predict(self, prepared: PreparedStudy, *, context: RunContext) -> Prediction:
        """Answer on the working grid; see `lesionlens.engines.engine.Engine.predict`."""
        context.check(STAGE)
        present = [bool(there) for there in prepared.present]
        there = {s for s, shown in zip(MrSequence, present, strict=True) if shown}
        missing = [s.display_name for s in self._sequences if s not in there]
        if missing or not there & set(BRIGHT_IN):
            raise UnusableInputError(
                found=f"a study without {', '.join(missing) or 'FLAIR, T2 and T1c'}",
                expected=f"all that this network reads: "
                f"{', '.join(s.display_name for s in self._sequences)}; and one of FLAIR, T2, T1c",
                next_step="Add the sequence, or use the engine lens, which reads any subset",
            )
        boxes = self._boxes(prepared, context)
        found = outlines(prepared.channels, present, prepared.brain, boxes)
        cut = dict.fromkeys(Region, self._config.score_from)
        return Prediction(dict(found), self.info, notices=(METHOD,), thresholds=cut)

    def _boxes(self, prepared: PreparedStudy, context: RunContext) -> list[tuple[Box, float]]:
        """Return boxes in voxels of the working grid, with their scores."""
        study = make_network_input(prepared, self._config.spacing_mm, self._device)
        order = [list(MrSequence).index(s) for s in self._sequences]
        image = study.channels[0, order]
        with interruptible(self._detector, STAGE, context), torch.inference_mode():
            found = self._detector([image], use_inferer=False)[0]
        boxes, scores = (
            found[key].cpu().numpy()
            for key in (self._detector.target_box_key, self._detector.pred_score_key)
        )
        scored = zip(boxes, scores, strict=True)
        turned = ((_on(prepared.working, study.grid, box), float(score)) for box, score in scored)
        return [(box, score) for box, score in turned if box is not None]

    def attribute(self, prepared: PreparedStudy, target: Target, method: str) -> NoReturn:
        """Refuse: it has no method of attribution."""
        del prepared, target
        raise UnusableInputError(
            found=f"the attribution method {method!r}",
            expected="none: this engine explains nothing",
            next_step="Use the engine lens for attention",
        )


def _on(working: Grid, read: Grid, corners: Any) -> Box | None:
    """Turn corners (i, j, k, i', j', k') on one grid into slices of another; None if empty.

    MONAI counts a box's corners from the outer edge of the first voxel.
    """
    edges = np.asarray(corners, np.float64).reshape(2, 3) - 0.5
    places = working.to_voxel(read.to_mm(edges)) + 0.5
    low = np.clip(np.floor(places.min(0)), 0, working.shape).astype(int)
    high = np.clip(np.ceil(places.max(0)), 0, working.shape).astype(int)
    if (high - low < 2).any():
        return None
    i, j, k = (slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    return i, j, k
