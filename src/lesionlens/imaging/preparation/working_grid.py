"""Resample sequences and brain mask to the working grid: 1 mm RAS+, cropped to the brain."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lesionlens.base.geometry import bounding_box, clipped_box, corners, ras_grid
from lesionlens.base.grid import Grid
from lesionlens.base.labels import MrSequence
from lesionlens.base.records.study import PreparationStep, StepName
from lesionlens.base.run_context import RunContext
from lesionlens.imaging.preparation.draft import Draft
from lesionlens.imaging.preparation.resampling import cut_grid, resample, resample_mask
from lesionlens.imaging.preparation.shading import corrected_for, shading_of
from lesionlens.imaging.preparation.thick_slices import divided

MARGIN_VOX = 6
_MIN_SIDE_VOX = 8  # of a cropped grid; a smaller brain is none


def resample_all(draft: Draft, context: RunContext) -> None:
    """Fill the channels of a draft; voxels outside the brain are kept."""
    mask, where = draft.mask, draft.mask_grid
    working = draft.working = _working_grid(mask, where, draft.native, draft.options.edge_mm)
    draft.brain = mask if where.matches(working) else resample_mask(mask, where, working)
    draft.channels = np.zeros((len(MrSequence), *working.shape), dtype=np.float32)
    for sequence, out in draft.images.items():
        item = draft.loaded[sequence]
        values, grid = divided(item.values, item.series.grid, min(working.spacing_mm))
        out[...] = resample(values, grid, working, moved=item.moved)
        context.check("resample")
    _even_out(draft)


def _working_grid(mask: NDArray[np.bool_], where: Grid, native: Grid, edge_mm: float) -> Grid:
    """Return an isotropic RAS+ grid over the native field of view, cropped to the brain."""
    affine, shape = ras_grid(native.affine, native.shape, edge_mm)
    whole = Grid(shape, affine, native.frame_uid)
    box = bounding_box(mask) or tuple(slice(0, length) for length in mask.shape)
    outer = corners([side.start - 0.5 for side in box], [side.stop - 0.5 for side in box])
    found = whole.to_voxel(where.to_mm(outer))
    low = np.floor(found.min(axis=0)) - MARGIN_VOX
    high = np.ceil(found.max(axis=0)) + MARGIN_VOX
    cropped = cut_grid(whole, clipped_box(low, high, shape))
    return cropped if min(cropped.shape) >= _MIN_SIDE_VOX else whole


def _even_out(draft: Draft) -> None:
    """Correct strong shading of every affected sequence, in place."""
    for sequence, found in shading_of(draft.images, draft.brain).items():
        if found.field is None:
            continue
        values = draft.images[sequence]
        values[...] = corrected_for(values, found)
        part = f"{found.taken_out:.0%}"
        words = f"Shading of {found.ratio:.1f} to 1 within the brain, {part} taken out."
        draft.steps.append(PreparationStep(StepName.BIAS, sequence, True, words, found.ratio))
        draft.notices.append(
            f"{sequence.display_name} is shaded {found.ratio:.1f} to 1 within the brain, as by a "
            f"surface coil. {part} of that was taken out; check candidates on the bright side by "
            "eye."
        )
