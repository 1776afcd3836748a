"""Resample sequences and brain mask to the working grid: 1 mm RAS+, cropped to the brain."""

from __future__ import annotations

import numpy as np

from lesionlens.base.geometry import bounding_box, corners, ras_grid
from lesionlens.base.grid import Grid
from lesionlens.base.labels import MrSequence
from lesionlens.base.records.arrays import Volume
from lesionlens.base.records.study import StepName
from lesionlens.base.run_context import RunContext
from lesionlens.imaging.preparation.draft import Draft
from lesionlens.imaging.preparation.resampling import cut_grid, resample, resample_mask
from lesionlens.imaging.preparation.shading import remove_shading, shading_of
from lesionlens.imaging.preparation.thick_slices import divide_slices

MARGIN_VOX = 6


def resample_all(draft: Draft, context: RunContext) -> None:
    """Fill the channels of a draft; voxels outside the brain are kept."""
    mask, grid = draft.mask.data, draft.mask.grid
    working = draft.working = _working_grid(draft.mask, draft.native, draft.options.edge_mm)
    draft.brain = mask if grid.matches(working) else resample_mask(mask, grid, working)
    draft.channels = np.zeros((len(MrSequence), *working.shape), dtype=np.float32)
    for sequence, channel in draft.images.items():
        loaded = draft.loaded[sequence]
        values, grid = divide_slices(loaded.values, loaded.series.grid, min(working.spacing_mm))
        channel[...] = resample(values, grid, working, moved=loaded.reference_to_sequence)
        context.check("resample")
    _correct_shading(draft)


def _working_grid(mask: Volume, native: Grid, edge_mm: float) -> Grid:
    """Return an isotropic RAS+ grid around the brain, on the lattice of the field of view.

    Its margin may reach beyond the field of view, so that blank voxels around an image do not
    change where the grid begins.
    """
    affine, shape = ras_grid(native.affine, native.shape, edge_mm)
    lattice = Grid(shape, affine, native.frame_uid)
    box = bounding_box(mask.data) or tuple(slice(0, length) for length in mask.data.shape)
    brain_corners = corners([side.start - 0.5 for side in box], [side.stop - 0.5 for side in box])
    voxels = lattice.to_voxel(mask.grid.to_mm(brain_corners))
    first = np.floor(voxels.min(axis=0)).astype(int) - MARGIN_VOX
    last = np.ceil(voxels.max(axis=0)).astype(int) + MARGIN_VOX
    i, j, k = (slice(int(a), int(b) + 1) for a, b in zip(first, last, strict=True))
    return cut_grid(lattice, (i, j, k))


def _correct_shading(draft: Draft) -> None:
    """Correct strong shading of every affected sequence, in place."""
    for sequence, shading in shading_of(draft.images, draft.brain).items():
        if shading.field is None:
            continue
        values = draft.images[sequence]
        values[...] = remove_shading(values, shading)
        percent = f"{shading.corrected_fraction:.0%}"
        text = (
            f"Bias field of {shading.ratio:.1f} to 1 within the brain; {percent} of it was removed."
        )
        draft.add_step(StepName.BIAS, sequence, text, figure=shading.ratio)
        draft.notices.append(
            f"{sequence.display_name} has a bias field of {shading.ratio:.1f} to 1 within the "
            f"brain, as from a surface coil. {percent} of it was removed; check candidates on the "
            "bright side by eye."
        )
