"""The shipped U-Nets (`network.folded_unet`), run by torch or onnxruntime.

Both use the same shipped weights; the logits agree to .01. Torch is used if an engine has imported
it already, or if onnxruntime is not installed, so that engines without torch do not need it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from importlib.util import find_spec

import numpy as np

from lesionlens.base.errors import MissingPluginError
from lesionlens.base.geometry import Floats
from lesionlens.network.shipped_weights import shipped_file

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


@cache
def by_torch(name: str, channels: int) -> UNet:
    """Load a shipped U-Net with torch; see `load_shipped_unet`."""
    import torch

    from lesionlens.network.concurrent_passes import run_concurrently
    from lesionlens.network.folded_unet import load_folded_unet

    network = load_folded_unet(shipped_file(name), channels)

    @torch.inference_mode()
    def run(image: Floats) -> Floats:
        x = torch.from_numpy(np.ascontiguousarray(image))[None]
        logit = network(x.contiguous(memory_format=torch.channels_last_3d))[0, 0]
        return np.asarray(logit.numpy(), np.float32)

    return partial(run_concurrently, run)


@cache
def by_onnxruntime(name: str) -> UNet:
    """Load a shipped U-Net with onnxruntime; see `load_shipped_unet`."""
    from lesionlens.network.onnx_session import OnnxSession

    shipped_file(name)  # the ONNX file refers to these weights
    session = OnnxSession(shipped_file(name, onnx=True))

    def run(image: Floats) -> Floats:
        return np.asarray(session.run({"image": image[None]}, ["logit"])[0][0, 0])

    return partial(session.map, run)
