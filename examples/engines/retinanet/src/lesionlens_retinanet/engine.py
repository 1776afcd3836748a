"""A RetinaNet in 3-D (monai.apps.detection) as an engine: boxes, outlined by brightness."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from typing_extensions import override

from lesionlens.plugin import (
    Box,
    Capability,
    EngineInfo,
    Grid,
    MrSequence,
    Prediction,
    PreparedStudy,
    Region,
    RunContext,
    UnusableInputError,
    WeightsError,
    choose_device,
    describe_device,
    interruptible,
    make_network_input,
)
from lesionlens_retinanet.outline import BRIGHT_IN, METHOD, outlines

STAGE = "finding boxes"
CONFIG, WEIGHTS = "detector.json", "detector.safetensors"


@dataclass(frozen=True, slots=True)
class DetectorConfig:
    """Content of `detector.json`."""

    sequences: tuple[str, ...] = ("t1c", "flair")
    """Channels of the image, in order; names of MrSequence."""
    spacing_mm: float = 2.0
    """Voxel edge of the input."""
    channels: tuple[int, ...] = (16, 32, 64)
    """Channels of each level of the pyramid; level n has strides of 2 ** (n + 1)."""
    anchor_vox: tuple[int, ...] = (6, 12)
    """Edges of the cubic anchors on the first level; doubled on each further level."""
    score_from: float = 0.3
    """Minimum score of a box."""
    overlap_to: float = 0.22
    """Maximum overlap of two boxes (intersection over union); else the lower one is dropped."""
    at_most: int = 32
    """Maximum number of boxes in a study."""


class Pyramid(nn.Module):
    """Convolutions that halve the volume, and a feature pyramid over them."""

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        self.out_channels = config.channels[0]
        in_channels = (len(config.sequences), *config.channels[:-1])
        self.down = nn.ModuleList(
            nn.Sequential(
                nn.Conv3d(n_in, n_out, 3, stride=2, padding=1),
                nn.InstanceNorm3d(n_out, affine=True),
                nn.ReLU(),
            )
            for n_in, n_out in zip(in_channels, config.channels, strict=True)
        )
        self.across = nn.ModuleList(nn.Conv3d(n, self.out_channels, 1) for n in config.channels)

    @override
    def forward(self, image: Tensor) -> list[Tensor]:
        """Return the (B, C, I', J', K') maps of all levels, the finest first."""
        features = []
        for layer in self.down:
            image = layer(image)
            features.append(image)
        maps = [across(level) for across, level in zip(self.across, features, strict=True)]
        for n in range(len(maps) - 2, -1, -1):
            maps[n] = maps[n] + nn.functional.interpolate(maps[n + 1], size=maps[n].shape[2:])
        return maps


def build(config: DetectorConfig) -> Any:
    """Return MONAI's detector with an untrained network; train it as in MONAI's tutorials."""
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
    """Detects boxes in a prepared study, and outlines the bright part of each.

    Parameters
    ----------
    device : str
        As for `--device`.
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
        self._device = choose_device(device)
        self._detector.to(self._device)
        self.info = EngineInfo(
            name="retinanet",
            version=version("monai"),
            weights_sha256=hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest(),
            capabilities=frozenset({Capability.SEGMENT}),
            device=describe_device(self._device),
        )

    def predict(self, prepared: PreparedStudy, *, context: RunContext) -> Prediction:
        """Predict on the working grid; see `lesionlens.plugin.Engine.predict`."""
        context.check(STAGE)
        missing = [s.display_name for s in self._sequences if s not in prepared.sequences]
        if missing or not set(prepared.sequences) & set(BRIGHT_IN):
            raise UnusableInputError(
                found=f"a study without {', '.join(missing) or 'FLAIR, T2 and T1c'}",
                expected=f"all that this network reads: "
                f"{', '.join(s.display_name for s in self._sequences)}; and one of FLAIR, T2, T1c",
                next_step="Add the sequence, or use the engine lens, which reads any subset",
            )
        boxes = self._boxes(prepared, context)
        present = prepared.present.tolist()
        probability = outlines(prepared.channels, present, prepared.brain, boxes)
        thresholds = dict.fromkeys(Region, self._config.score_from)
        return Prediction(
            dict(probability),
            self.info,
            notices=(METHOD,),
            thresholds=thresholds,
            unsegmented=() if prepared.has_t1c else (Region.TC, Region.ET),
        )

    def _boxes(self, prepared: PreparedStudy, context: RunContext) -> list[tuple[Box, float]]:
        """Return boxes in voxels of the working grid, with their scores."""
        network_input = make_network_input(prepared, self._config.spacing_mm, self._device)
        order = [list(MrSequence).index(s) for s in self._sequences]
        image = network_input.channels[0, order]
        with interruptible(self._detector, STAGE, context), torch.inference_mode():
            detections = self._detector([image], use_inferer=False)[0]
        boxes, scores = (
            detections[key].cpu().numpy()
            for key in (self._detector.target_box_key, self._detector.pred_score_key)
        )
        resampled = [_box_on(prepared.working, network_input.grid, corners) for corners in boxes]
        scored = zip(resampled, scores.tolist(), strict=True)
        return [(box, score) for box, score in scored if box is not None]


def _box_on(target: Grid, source: Grid, corners: Any) -> Box | None:
    """Return corners (i, j, k, i', j', k') on one grid as slices of another; None if empty.

    MONAI counts a box's corners from the outer edge of the first voxel.
    """
    edges = np.asarray(corners, np.float64).reshape(2, 3) - 0.5
    target_edges = target.to_voxel(source.to_mm(edges)) + 0.5
    low = np.clip(np.floor(target_edges.min(0)), 0, target.shape).astype(int)
    high = np.clip(np.ceil(target_edges.max(0)), 0, target.shape).astype(int)
    if (high - low < 2).any():
        return None
    i, j, k = (slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    return i, j, k
