"""The shipped U-Nets (`network.folded_unet`), run by torch or onnxruntime.

Both use the same shipped weights; the logits agree to .01. Torch is used if an engine has imported
it already, or if onnxruntime is not installed, so that engines without torch do not need it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from lesionlens.base.errors import MissingPluginError, WeightsError
from lesionlens.base.geometry import Floats
from lesionlens.base.provenance import sha256_of

UNet = Callable[[Sequence[Floats]], Iterator[Floats]]
"""Maps (C, I, J, K) images to (I, J, K) logits; axes are multiples of `MULTIPLE`."""
MULTIPLE = 16


def load_shipped_unet(name: str, channels: int) -> UNet:
    """Load a shipped U-Net by the name of its files, without ending.

    Raises
    ------
    MissingPluginError
        Neither torch nor onnxruntime is installed.
    WeightsError
        The weights are missing or altered.
    """
    if "torch" not in sys.modules and find_spec("onnxruntime") is not None:
        return by_onnxruntime(name)
    if find_spec("torch") is None:
        raise MissingPluginError(
            found="neither torch nor onnxruntime, one of which is needed to find the brain",
            expected="one of them",
            next_step='Install one: pip install torch, or pip install "lesionlens[onnx]"',
        )
    return by_torch(name, channels)


def shipped_file(name: str, key: str) -> Path:
    """Return the path of shipped weights, checked against the hash beside them.

    `key` is that of its SHA-256 in the JSON file of the same name.

    Raises
    ------
    WeightsError
        The file is missing or altered.
    """
    path = Path(str(files("lesionlens.network.weight_files") / name))
    record_path = path.with_suffix(".json")
    expected = json.loads(record_path.read_text("utf-8"))[key] if record_path.is_file() else None
    if not path.is_file() or sha256_of(path) != expected:
        raise WeightsError(
            found=f"a missing or altered {path.name}",
            expected="the weights as shipped",
            next_step="Install LesionLens again",
        )
    return path


@cache
def by_torch(name: str, channels: int) -> UNet:
    """Load a shipped U-Net with torch; see `load_shipped_unet`."""
    import torch  # noqa: PLC0415  loaded only where it takes part

    from lesionlens.network.concurrent_passes import run_concurrently  # noqa: PLC0415
    from lesionlens.network.folded_unet import load_folded_unet  # noqa: PLC0415

    network = load_folded_unet(shipped_file(f"{name}.safetensors", "sha256"), channels)

    @torch.inference_mode()
    def run(image: Floats) -> Floats:
        x = torch.from_numpy(np.ascontiguousarray(image))[None]
        logit = network(x.contiguous(memory_format=torch.channels_last_3d))[0, 0]
        return np.asarray(logit.numpy(), np.float32)

    return partial(run_concurrently, run)


@cache
def by_onnxruntime(name: str) -> UNet:
    """Load a shipped U-Net with onnxruntime; see `load_shipped_unet`."""
    from lesionlens.network.onnx_session import OnnxSession  # noqa: PLC0415

    shipped_file(f"{name}.safetensors", "sha256")  # the ONNX file refers to these weights
    session = OnnxSession(shipped_file(f"{name}.onnx", "onnx_sha256"))

    def run(image: Floats) -> Floats:
        return np.asarray(session.run({"image": image[None]}, ["logit"])[0][0, 0])

    return partial(session.map, run)
