"""Make a U-Net's weights those of the package: half precision, the ONNX file, their hashes."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors.torch import save_file

from lesionlens.base.provenance import sha256_of
from lesionlens.network.folded_unet import FoldedUNet
from lesionlens.network.onnx_export import export_unet

WEIGHTS = Path(__file__).parents[1] / "src/lesionlens/network/weight_files"


def release_unet(
    network: FoldedUNet, channels: int, name: str, about: dict[str, object], kind: str
) -> None:
    """Write NAME.safetensors, NAME.onnx of the format `kind`, and NAME.json with `about`."""
    target = WEIGHTS / f"{name}.safetensors"
    save_file({k: v.half().contiguous() for k, v in network.state_dict().items()}, target)
    onnx = export_unet(network, channels, target, kind)
    for path in (target, onnx):
        path.chmod(0o644)
    hashes = {"sha256": sha256_of(target), "onnx_sha256": sha256_of(onnx)}
    record = {"file": target.name, **hashes, **about}
    target.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n", "utf-8")
