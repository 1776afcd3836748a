"""The brain extraction network: one image of a head to the logit of brain.

The training follows SynthStrip (Hoopes et al., NeuroImage 2022, 260:119474): synthetic images of
random contrast generalise to all sequences.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from lesionlens.base.geometry import Floats

SPACING_MM = 2.5
"""Voxel edge of input and output."""
MULTIPLE = 16
"""Of which the axes of an input are multiples."""
BRAIN = "brain"


def scaled(image: Floats) -> Floats:
    """Scale a positive image to about 0-1.

    Examples
    --------
    >>> scaled(np.full((2, 2, 2), 7, np.float32)).max()
    np.float32(1.0)
    """
    values = image[image > 0]
    if not len(values):
        return image
    step = max(len(values) // 50_000, 1)
    top = max(np.quantile(values[::step], np.float32(0.98)), np.float32(1e-6))
    return (image / top).clip(0, 1.5)


def brain_logits(images: Sequence[Floats]) -> Iterator[Floats]:
    """Yield the logit of brain in each (I, J, K) image from `scaled`.

    Raises
    ------
    WeightsError
        The weights are missing or altered.
    """
    from lesionlens.network.folded_unet import load_shipped_unet  # torch, only for a skull

    return load_shipped_unet(BRAIN, 1)([image[None] for image in images])
