"""Results of the preparation as arrays in the user's cache, kept by the voxels they come from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lesionlens.base.grid import Grid
from lesionlens.imaging.preparation.bias_field import BiasField
from lesionlens.imaging.preparation.brain import BrainMask
from lesionlens.imaging.preparation.cache import ArrayForm
from lesionlens.imaging.preparation.registration import Registration

Arrays = Mapping[str, NDArray[Any]]


def _registration(kept: Arrays) -> Registration:
    shift, angle, information, pronounced = kept["figures"].tolist()
    return Registration(kept["moved"], shift, angle, information, pronounced)


def _of_registration(found: Registration) -> Arrays:
    figures = (found.shift_mm, found.angle_deg, found.information, found.pronounced)
    return {"moved": found.moved, "figures": np.array(figures)}


REGISTRATION = ArrayForm(frozenset({"moved", "figures"}), _registration, _of_registration)


def brain_form(frame_uid: str | None) -> ArrayForm[BrainMask]:
    """Return how brain masks are kept: packed, without the study's frame of reference."""

    def read(kept: Arrays) -> BrainMask:
        i, j, k = kept["shape"].tolist()
        grid = Grid((i, j, k), kept["affine"], frame_uid)
        mask = np.unpackbits(kept["mask"], count=i * j * k).astype(bool).reshape(grid.shape)
        method, doubtful = (str(text) for text in kept["words"])
        return BrainMask(mask, grid, method, doubtful or None)

    def write(found: BrainMask) -> Arrays:
        return {
            "mask": np.packbits(found.mask),
            "shape": np.array(found.grid.shape),
            "affine": found.grid.affine,
            "words": np.array([found.method, found.doubtful or ""]),
        }

    return ArrayForm(frozenset({"mask", "shape", "affine", "words"}), read, write)


def bias_form(frame_uid: str | None) -> ArrayForm[BiasField | None]:
    """Return how bias fields are kept, without the study's frame of reference."""

    def read(kept: Arrays) -> BiasField:
        strength, before, after = kept["figures"].tolist()
        log = kept["log"]
        grid = Grid((log.shape[0], log.shape[1], log.shape[2]), kept["affine"], frame_uid)
        return BiasField(log, grid, strength, (before, after))

    def write(found: BiasField | None) -> Arrays:
        if found is None:
            return {}
        figures = np.array([found.strength, *found.variation])
        return {"log": found.log, "affine": found.grid.affine, "figures": figures}

    return ArrayForm(frozenset({"log", "affine", "figures"}), read, write)
