"""Small MONAI bundles, made by MONAI's own `init_bundle`; import only if MONAI is installed."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from monai.bundle import init_bundle
from monai.networks import nets

SHAPE = {"in_channels": 4, "out_channels": 3}
SEGRESNET = SHAPE | {"_target_": "SegResNet", "spatial_dims": 3, "init_filters": 8,
    "blocks_down": [1, 1], "blocks_up": [1]}  # fmt: skip
SWINUNETR = SHAPE | {"_target_": "SwinUNETR", "feature_size": 12, "depths": [2, 1, 1, 1],
    "num_heads": [1, 1, 1, 1], "window_size": [4, 4, 4], "use_flash_attention": True}  # fmt: skip
VIT = SHAPE | {"_target_": "ViTAutoEnc", "img_size": [32] * 3, "patch_size": [4] * 3,
    "hidden_size": 24, "mlp_dim": 32, "num_layers": 2, "num_heads": 2}  # fmt: skip
INPUTS = {"0": "T1c", "1": "T1", "2": "T2", "3": "FLAIR"}
OUTPUTS = {"0": "Tumor core", "1": "Whole tumor", "2": "Enhancing tumor"}
ZSCORE = {"_target_": "NormalizeIntensityd", "keys": "image", "nonzero": True, "channel_wise": True}


def network_of(definition: Mapping[str, Any], seed: int = 0) -> torch.nn.Module:
    """Return a network of random weights by its definition."""
    torch.manual_seed(seed)
    options = {key: value for key, value in definition.items() if key != "_target_"}
    made: torch.nn.Module = getattr(nets, definition["_target_"])(**options)
    return made.eval()


def write_bundle(
    folder: Path,
    definition: Mapping[str, Any] = SEGRESNET,
    *,
    inputs: Mapping[str, str] = INPUTS,
    outputs: Mapping[str, str] = OUTPUTS,
    state: Any = None,
    window: int = 40,
    spacing_mm: float = 4.0,
    edit: Callable[[dict[str, Any], dict[str, Any]], None] | None = None,
) -> Path:
    """Make a bundle and fill in what `init_bundle` leaves open; return its folder.

    `edit` changes metadata and inference configuration before they are written.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    state = network_of(definition).state_dict() if state is None else state
    weights = folder.parent / "weights.pt"
    torch.save(state, weights)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        init_bundle(str(folder), ckpt_file=str(weights))
    files = [folder / "configs" / f"{name}.json" for name in ("metadata", "inference")]
    metadata, inference = (json.loads(file.read_text()) for file in files)
    metadata |= {"name": "a small one", "version": "0.5.4"}
    metadata["network_data_format"] = {
        "inputs": {"image": {"channel_def": inputs}},
        "outputs": {"pred": {"channel_def": outputs}},
    }
    spacing = {"_target_": "Spacingd", "keys": "image", "pixdim": [spacing_mm] * 3}
    sigmoid = {"_target_": "Activationsd", "keys": "pred", "sigmoid": True}
    inference |= {
        "network_def": dict(definition),
        "inferer": {"_target_": "SlidingWindowInferer", "roi_size": [window] * 3},
        "preprocessing": {"_target_": "Compose", "transforms": [ZSCORE, spacing]},
        "postprocessing": {"_target_": "Compose", "transforms": [sigmoid]},
    }
    if edit is not None:
        edit(metadata, inference)
    for file, config in zip(files, (metadata, inference), strict=True):
        file.write_text(json.dumps(config))
    return folder
