"""Small MONAI bundles, written with MONAI's tools; import only if MONAI is installed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser

SEGRESNET = {
    "_target_": "SegResNet",
    "spatial_dims": 3,
    "init_filters": 8,
    "in_channels": 4,
    "out_channels": 3,
    "blocks_down": [1, 1],
    "blocks_up": [1],
}
INPUTS = {"0": "T1c", "1": "T1", "2": "T2", "3": "FLAIR"}
OUTPUTS = {"0": "Tumor core", "1": "Whole tumor", "2": "Enhancing tumor"}


def write_bundle(
    folder: Path,
    definition: Any = SEGRESNET,
    *,
    inputs: Mapping[str, str] = INPUTS,
    outputs: Mapping[str, str] = OUTPUTS,
    state: Any = None,
    window: int = 32,
    spacing_mm: float = 4.0,
) -> Path:
    """Write a bundle with the layout of the published brats_mri_segmentation; return the folder."""
    (folder / "configs").mkdir(parents=True)
    (folder / "models").mkdir()
    metadata = {
        "version": "0.5.4",
        "name": "a small one",
        "network_data_format": {
            "inputs": {"image": {"num_channels": 4, "channel_def": inputs}},
            "outputs": {"pred": {"num_channels": 3, "channel_def": outputs}},
        },
    }
    inference = {
        "imports": ["$import glob"],
        "bundle_root": ".",
        "device": "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
        "network_def": definition,
        "network": "$@network_def.to(@device)",
        "preprocessing": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": "LoadImaged", "keys": "image"},
                {"_target_": "NormalizeIntensityd", "keys": "image"}
                | {"nonzero": True, "channel_wise": True},
                {"_target_": "Spacingd", "keys": "image", "pixdim": [spacing_mm] * 3},
            ],
        },
        "inferer": {"_target_": "SlidingWindowInferer", "roi_size": [window] * 3},
    }
    ConfigParser.export_config_file(metadata, str(folder / "configs" / "metadata.json"))
    ConfigParser.export_config_file(inference, str(folder / "configs" / "inference.json"))
    if state is None:
        torch.manual_seed(0)
        made = ConfigParser({"net": definition}).get_parsed_content("net")
        state = made.state_dict()
    torch.save(state, folder / "models" / "model.pt")
    return folder


def write_flagging_bundle(folder: Path, engine: Any, prepared: Any) -> Path:
    """Write an engine's network with a shifted bias, so that it flags a thirtieth of the brain."""
    with torch.inference_mode():
        study = engine._cache.input_for(prepared)
        shares = engine._probabilities(engine._input(study))[1][study.brain[0]]
        shift = -torch.logit(shares.quantile(1 - 1 / 30))
    state = engine._network.state_dict()
    last = [n for n in state if n.startswith("conv_final") and n.endswith("conv.bias")][-1]
    state[last] = state[last] + torch.tensor([0, float(shift), 0])
    return write_bundle(folder, state=state, spacing_mm=6.0)  # the brain fits into one window
