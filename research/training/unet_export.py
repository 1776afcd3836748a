"""Export a small U-Net as an ONNX file that refers to its weights beside it."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import torch

from lesionlens.base.labels import WeightPrecision
from lesionlens.base.provenance import sha256_of
from lesionlens.network.folded_unet import FoldedUNet
from lesionlens.network.onnx_export import onnx_model, write_model
from lesionlens.network.shipped_unet import MULTIPLE


def export_unet(network: FoldedUNet, channels: int, weights: Path, format_name: str) -> Path:
    """Export a shipped U-Net: `image` (1, channels, I, J, K), multiples of 16, to `logit`.

    Parameters
    ----------
    network : FoldedUNet
        In evaluation mode.
    weights : Path
        Its weights in float16, safetensors. The ONNX file, which is written beside them, refers to
        them, so that the package holds them once.
    format_name : str
        Name of the format, for the metadata.
    """
    image = torch.zeros(1, channels, 5 * MULTIPLE, 3 * MULTIPLE, 4 * MULTIPLE)
    model = onnx_model(network, {"image": image}, ["logit"], MULTIPLE)
    path = weights.with_suffix(".onnx")
    metadata = {"format": format_name, "weights_sha256": sha256_of(weights)}
    write_model(model, path, metadata, WeightPrecision.FP16)
    refer_to_weights(path, weights)
    return path


def refer_to_weights(path: Path, weights: Path) -> None:
    """Replace the float16 weights inside an ONNX file by references to a file beside it.

    ONNX calls this external data: a file name, an offset and a length. safetensors stores each
    tensor as it is in memory, so both formats can share one file.

    Parameters
    ----------
    path : Path
        ONNX file with its weights inside; replaced.
    weights : Path
        The same weights as safetensors in the same folder.

    Raises
    ------
    ValueError
        A weight inside the ONNX file is not in `weights`, or differs.
    """
    data = weights.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    tensors = json.loads(data[8:start])
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        if tensor.data_type != onnx.TensorProto.FLOAT16:
            continue
        name = tensor.name.removesuffix(f".{WeightPrecision.FP16}")
        first, last = tensors.get(name, {"data_offsets": (0, 0)})["data_offsets"]
        if tensor.raw_data != data[start + first : start + last]:
            raise ValueError(f"{weights.name} does not hold {name} of {path.name}")
        onnx.external_data_helper.set_external_data(
            tensor, weights.name, offset=start + first, length=last - first
        )
        tensor.ClearField("raw_data")
    path.write_bytes(model.SerializeToString())
