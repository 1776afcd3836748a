"""The brain extraction network: one image of a head to the logit of brain.

The training follows SynthStrip (Hoopes et al., NeuroImage 2022, 260:119474): synthetic images of
random contrast generalise to all sequences.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lesionlens.base.array_ops import Array, namespace, quantiles
from lesionlens.base.geometry import Floats
from lesionlens.network.shipped_unet import load_shipped_unet

SPACING_MM = 2.5
"""Voxel edge of input and output."""
BRAIN = "brain"


def scaled(image: Array) -> Array:
    """Scale positive images (B, 1, I, J, K), torch's or numpy's, to about 0-1.

    Examples
    --------
    >>> import numpy as np
    >>> scaled(np.full((1, 1, 2, 2, 2), 7, np.float32)).max()
    np.float32(1.0)
    """
    out = []
    for volume in image:
        values = volume[volume > 0]
        if len(values) == 0:
            out.append(0 * volume)
            continue
        step = max(len(values) // 50_000, 1)
        top = quantiles(values[::step], (0.98,)).clip(1e-6)
        out.append((volume / top).clip(0, 1.5))
    return namespace(image).stack(out)


def brain_logits(images: Sequence[Floats]) -> Iterator[Floats]:
    """Yield the logit of brain in each (I, J, K) image from `scaled`.

    Raises
    ------
    MissingPluginError
        Neither torch nor onnxruntime is installed.
    WeightsError
        The weights are missing or altered.
    """
    return load_shipped_unet(BRAIN, 1)([image[None] for image in images])
