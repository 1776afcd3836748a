"""Attention maps that were sent as DICOM Parametric Maps."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from lesionlens.base.errors import ReadError
from lesionlens.base.geometry import bounding_box
from lesionlens.base.grid import Grid
from lesionlens.base.labels import Region
from lesionlens.results.review.segments import MAX_OFFSET_VOX, plane_of, voxels_of
from lesionlens.results.review.sent_objects import map_label


def attention_maps(
    maps: tuple[Dataset, ...], grid: Grid
) -> tuple[dict[Region, NDArray[np.float32]], list[str]]:
    """Return the LesionLens attention maps on the grid, and a notice of those that are missing.

    Returns
    -------
    attention : dict of Region to (I, J, K) float32
        Real-world values, as they were exported.
    notices : list of str
        On maps that are missing, or on another grid.

    Raises
    ------
    ReadError
        A map cannot be read.
    """
    if not maps:
        return {}, ["The objects contain no attention map"]
    attention, omitted = {}, []
    for ds in maps:
        try:
            volume = _map_on_grid(ds, grid)
        except (AttributeError, LookupError, ValueError, TypeError, RuntimeError) as error:
            raise ReadError(
                found=f"a map {map_label(ds)!r} that cannot be read",
                expected="a Parametric Map as it was sent",
                next_step="Fetch the study with its results again, or take the map out of it",
            ) from error
        name = map_label(ds).removeprefix("attention_")
        region = next((r for r in Region if r.value == name), None)
        if region is None:
            continue
        if volume is None:
            omitted.append(region.display_name)
        else:
            attention[region] = volume
    names = ", ".join(omitted)
    if not names:
        return attention, []
    return attention, [f"Attention maps on another grid than the reference are not shown: {names}"]


def method_of(maps: tuple[Dataset, ...]) -> str:
    """Return the method of the maps as sent, in up to 64 characters; empty if none is stated."""
    if not maps:
        return ""
    mapping = maps[0].SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence[0]
    return str(mapping.get("LUTExplanation") or "").partition(": ")[2]


def _map_on_grid(ds: Dataset, grid: Grid) -> NDArray[np.float32] | None:
    """Return a map on the grid; None if it has other voxels."""
    shared = ds.SharedFunctionalGroupsSequence[0]
    slope = float(shared.RealWorldValueMappingSequence[0].RealWorldValueSlope)
    frames = np.asarray(ds.pixel_array).reshape(-1, ds.Rows, ds.Columns) * slope
    if not np.isfinite(frames).all():
        raise ValueError("values that are not numbers")
    volume, filled = np.zeros(grid.shape, np.float32), np.zeros(grid.shape, bool)
    for frame, groups in zip(frames, ds.PerFrameFunctionalGroupsSequence, strict=True):
        voxels = voxels_of(np.ones(frame.shape, bool), plane_of(groups, shared), grid)
        nearest = np.rint(voxels).astype(np.intp)
        if not grid.contains(nearest).all() or np.abs(voxels - nearest).max() > MAX_OFFSET_VOX:
            return None
        volume[tuple(nearest.T)], filled[tuple(nearest.T)] = frame.ravel(), True
    box = bounding_box(filled)  # with gaps if the map's voxels are larger than the grid's
    return volume if box is None or filled[box].all() else None
