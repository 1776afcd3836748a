"""Brain masks that were found before, in the user's cache, by the voxels they were found in."""

from __future__ import annotations

import numpy as np

from lesionlens.base.grid import Grid
from lesionlens.imaging.preparation import cache
from lesionlens.imaging.preparation.brain import BrainMask

_KEYS = {"mask", "shape", "affine", "words"}


def recall(key: str, frame_uid: str | None) -> BrainMask | None:
    """Return the mask that was kept under a key of `cache.key_of`, None where none was.

    Parameters
    ----------
    key : str
        Of the images and the method.
    frame_uid : str or None
        Frame of reference of the study, which the cache does not keep.
    """
    kept = cache.load(key, _KEYS)
    if kept is None:
        return None
    i, j, k = kept["shape"].tolist()
    grid = Grid((i, j, k), kept["affine"], frame_uid)
    mask = np.unpackbits(kept["mask"], count=i * j * k).astype(bool).reshape(grid.shape)
    method, doubtful = (str(text) for text in kept["words"])
    return BrainMask(mask, grid, method, doubtful or None)


def keep(key: str, found: BrainMask) -> None:
    """Keep a mask for the next time."""
    arrays = {
        "mask": np.packbits(found.mask),
        "shape": np.array(found.grid.shape),
        "affine": found.grid.affine,
        "words": np.array([found.method, found.doubtful or ""]),
    }
    cache.save(key, arrays)
