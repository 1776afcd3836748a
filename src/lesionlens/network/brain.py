"""The brain extraction network, run by torch or onnxruntime.

Both use the same shipped weights; the logits agree to 1e-3. Torch is used if an engine has imported
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
from numpy.typing import NDArray

from lesionlens.base.array_ops import Array, namespace, quantiles
from lesionlens.base.errors import MissingPluginError, WeightsError
from lesionlens.base.provenance import sha256_of

SPACING_MM = 2.5
"""Voxel edge of input and output."""
MULTIPLE = 16
"""The input's axes must be multiples of this."""
ONNX_NAME = "brain.onnx"
BRAIN_FORMAT = "lesionlens-brain-1"
Floats = NDArray[np.float32]
BrainNetwork = Callable[[Sequence[Floats]], Iterator[Floats]]
"""Maps (I, J, K) images from `scaled` to brain logits."""


def scaled(image: Array) -> Array:
    """Scale positive images (B, 1, I, J, K), torch's or numpy's, to about 0-1.

    Examples
    --------
    >>> scaled(np.full((1, 1, 2, 2, 2), 7, np.float32)).max()
    np.float32(1.0)
    """
    out = []
    for one in image:
        seen = one[one > 0]
        if len(seen) == 0:
            out.append(0 * one)
            continue
        step = max(len(seen) // 50_000, 1)
        top = quantiles(seen[::step], (0.98,)).clip(1e-6)
        out.append((one / top).clip(0, 1.5))
    return namespace(image).stack(out)


def load_brain_network() -> BrainNetwork:
    """Load the shipped network.

    Raises
    ------
    MissingPluginError
        Neither torch nor onnxruntime is installed.
    WeightsError
        The weights are missing or altered.
    """
    if "torch" not in sys.modules and find_spec("onnxruntime") is not None:
        return _by_onnxruntime()
    if find_spec("torch") is None:
        raise MissingPluginError(
            found="neither torch nor onnxruntime, of which one finds the brain",
            expected="one of them",
            next_step='Install one: pip install torch, or pip install "lesionlens[onnx]"',
        )
    return _by_torch()


def shipped_file(name: str, key: str) -> Path:
    """Return the path of shipped weights, checked against the hash beside them.

    Parameters
    ----------
    name : str
        File name.
    key : str
        Key of its SHA-256 in the JSON file of the same name.

    Raises
    ------
    WeightsError
        The file is missing or altered.
    """
    path = Path(str(files("lesionlens.network.weight_files") / name))
    beside = path.with_suffix(".json")
    known = json.loads(beside.read_text("utf-8"))[key] if beside.is_file() else None
    if not path.is_file() or sha256_of(path) != known:
        raise WeightsError(
            found=f"a missing or altered {path.name}",
            expected="the weights of brain extraction as shipped",
            next_step="Install LesionLens again",
        )
    return path


@cache
def _by_torch() -> BrainNetwork:
    import torch  # noqa: PLC0415  loaded only where it takes part

    from lesionlens.network.brain_unet import load_brain_unet  # noqa: PLC0415
    from lesionlens.network.side_by_side import side_by_side  # noqa: PLC0415

    network = load_brain_unet(shipped_file("brain.safetensors", "sha256"))

    @torch.inference_mode()
    def run(image: Floats) -> Floats:
        x = torch.from_numpy(np.ascontiguousarray(image))[None, None]
        logit = network(x.contiguous(memory_format=torch.channels_last_3d))[0, 0]
        return np.asarray(logit.numpy(), np.float32)

    return partial(side_by_side, run)


@cache
def _by_onnxruntime() -> BrainNetwork:
    from lesionlens.network.onnx_session import OnnxSession  # noqa: PLC0415

    session = OnnxSession(shipped_file(ONNX_NAME, "onnx_sha256"))

    def run(image: Floats) -> Floats:
        return np.asarray(session.run({"image": image[None, None]}, ["logit"])[0][0, 0])

    return partial(map, run)
