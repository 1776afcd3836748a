"""The network that searches for small enhancing lesions."""

from __future__ import annotations

from functools import cache

from lesionlens.base.geometry import Floats
from lesionlens.network.folded_unet import load_shipped_unet
from lesionlens.network.shipped_weights import shipped_record

NAME = "small_lesions"
CHANNELS = 5
"""Four images, in the order of `MrSequence`, and the brain."""
SPACING_MM = 1.3
"""Voxel edge of input and output."""


def lesion_logit(images: Floats) -> Floats:
    """Return the logit of a small enhancing lesion; raises as `load_shipped_unet`.

    Parameters
    ----------
    images : (5, I, J, K) float32
        z-scores in the brain, zero outside and of an absent sequence, and the brain as 0 or 1; axes
        are multiples of 16.

    Returns
    -------
    (I, J, K) float32
        Above zero in a lesion.
    """
    return next(iter(load_shipped_unet(NAME, CHANNELS)([images])))


@cache
def trained_on() -> frozenset[str]:
    """Return the digests of the scans that it was trained on (`scan_digest`)."""
    cases = shipped_record(NAME)["trained_on"].values()
    return frozenset(digest for case in cases for digest in case.values())
