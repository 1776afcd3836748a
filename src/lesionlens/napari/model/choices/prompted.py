"""Voxels of a prompt that was drawn on a slice in any direction."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lesionlens.base.grid import Grid
from lesionlens.base.labels import PromptKind
from lesionlens.base.records.prompts import Points, Prompts
from lesionlens.napari.model.choices.gestures import Gesture

_MIN_LENGTH = 1e-9
_BOX_CORNERS, _MIN_CORNERS = 4, 3


def voxels_of(gesture: Gesture, grid: Grid) -> tuple[Points, Points]:
    """Return the foreground and the background voxels of a gesture, (N, 3) each, on a grid.

    Boxes and lassos lie on the slice that they were drawn on, also across the grid's axes. Voxels
    outside the grid are omitted. A lasso of one or two voxels is a scribble over them, and a
    straight one has no background.

    Raises
    ------
    UnusableInputError
        A lasso encloses nothing.
    """
    voxels = grid.nearest_voxel(gesture.path_mm)
    line: list[Any] = list(dict.fromkeys(map(tuple, voxels[grid.contains(voxels)].tolist())))
    lasso = gesture.kind is PromptKind.LASSO
    is_straight = lasso and _is_straight(gesture, grid)
    if gesture.kind is PromptKind.SCRIBBLE or (lasso and 0 < len(line) < _MIN_CORNERS):
        prompts = Prompts.of(scribbles=[(line, gesture.foreground)])
    elif gesture.kind is PromptKind.POINT:
        prompts = Prompts.of(points=[(voxel, gesture.foreground) for voxel in line[:1]])
    elif np.ptp(voxels, axis=0).min() > 0 and (lasso or len(voxels) >= _BOX_CORNERS):
        foreground, background = _oblique_voxels(gesture, grid)
        return foreground, background[:0] if is_straight else background
    elif gesture.kind is PromptKind.BOX:
        prompts = Prompts.of(box=(voxels.min(axis=0).tolist(), voxels.max(axis=0).tolist()))
    else:
        prompts = Prompts.of(lasso=voxels.tolist())
    foreground, background = prompts.voxels(foreground=True), prompts.voxels(foreground=False)
    if is_straight:
        background = background[:0]
    return _inside_grid(foreground, grid), _inside_grid(background, grid)


def _oblique_voxels(gesture: Gesture, grid: Grid) -> tuple[Points, Points]:
    """Return the voxels of a box or a lasso on a slice across the grid's axes."""
    path = np.asarray(gesture.path_mm, np.float64)
    origin, step_mm = path[0], float(grid.spacing_mm.min())
    if gesture.kind is PromptKind.LASSO:
        axes = np.linalg.svd(path - path.mean(axis=0), full_matrices=False)[2][:2]
    else:
        axes = _unit_vectors(path[[1, 3]] - origin)
    planar = np.rint((path - origin) @ axes.T / step_mm).astype(np.int64)
    on_slice = [(i, j, 0) for i, j in planar.tolist()]
    if gesture.kind is PromptKind.BOX:
        prompts = Prompts.of(box=(on_slice[0], on_slice[2]))
    elif len(set(on_slice)) < _MIN_CORNERS:
        prompts = Prompts.of(scribbles=[(on_slice, gesture.foreground)])
    else:
        prompts = Prompts.of(lasso=on_slice)
    by_side = []
    for is_foreground in (True, False):
        positions_mm = origin + step_mm * prompts.voxels(foreground=is_foreground)[:, :2] @ axes
        voxels = np.unique(grid.nearest_voxel(positions_mm), axis=0)
        by_side.append(_inside_grid(voxels, grid))
    foreground, background = by_side
    foreground_voxels = set(map(tuple, foreground.tolist()))
    is_background = [tuple(voxel) not in foreground_voxels for voxel in background.tolist()]
    return foreground, background[np.array(is_background, bool)]


def _is_straight(gesture: Gesture, grid: Grid) -> bool:
    """Return whether a gesture stays within half a voxel of a straight line."""
    path = np.asarray(gesture.path_mm, np.float64)
    offsets = path - path.mean(axis=0)
    along = np.linalg.svd(offsets, full_matrices=False)[2][0]
    distances = np.linalg.norm(offsets - np.outer(offsets @ along, along), axis=1)
    return bool(distances.max() < float(grid.spacing_mm.min()) / 2)


def _unit_vectors(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, _MIN_LENGTH))


def _inside_grid(voxels: Points, grid: Grid) -> Points:
    return voxels[grid.contains(voxels)]
