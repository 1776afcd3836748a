"""Register a prior examination to the current one: rigid, by a common sequence."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from lesionlens.base.errors import UnusableInputError
from lesionlens.base.geometry import Affine
from lesionlens.base.labels import REFERENCE_ORDER, MrSequence
from lesionlens.base.records.analysis import Analysis
from lesionlens.base.records.arrays import Volume
from lesionlens.base.records.study import PreparedStudy
from lesionlens.base.run_context import SILENT, RunContext
from lesionlens.imaging.preparation.identity_checks import (
    BLOCK,
    MIRRORED_ABOVE,
    mirror_gain,
    symmetry,
)
from lesionlens.imaging.preparation.registration import (
    FINEST_MM,
    LEVELS_MM,
    Registration,
    pyramid,
    register,
)
from lesionlens.imaging.preparation.resampling import HALF, block_means, on_ras_grid, resample

CHANGED_MM = 6.0
"""Voxels this close to a lesion are excluded: they change or are displaced."""
MIRRORED = (
    "The earlier examination seems mirrored, left and right swapped, relative to this one: check "
    "the sides of both before you trust any change"
)
_GRID_MM = 3.0
_MIN_COMPARED_FRACTION = 0.3
"""Share of the brain that must be left; where lesions take more, everything is compared."""


def common_sequence(now: PreparedStudy, prior: PreparedStudy) -> MrSequence:
    """Return the sequence for registering two examinations: the first common reference.

    Raises
    ------
    UnusableInputError
        They have no sequence in common.
    """
    for sequence in REFERENCE_ORDER:
        if sequence in now.sequences and sequence in prior.sequences:
            return sequence
    raise UnusableInputError(
        "The prior study has no sequence of this one.",
        hint="Choose another prior study.",
    )


def align(
    now: Analysis, prior: Analysis, *, context: RunContext = SILENT
) -> tuple[Registration, MrSequence]:
    """Register this examination to the prior one rigidly; return also the sequence used.

    Only the brain and its surroundings are compared, because jaw and neck move. Voxels in or near a
    candidate of either examination are excluded.
    """
    sequence = common_sequence(now.prepared, prior.prepared)
    fixed, moving = (
        pyramid(
            np.where(analysis.prepared.brain, analysis.prepared.images[sequence], np.float32(0.0)),
            analysis.prepared.working,
            excluded=changed(analysis),
            levels_mm=(*LEVELS_MM, FINEST_MM),
        )
        for analysis in (now, prior)
    )
    return register(fixed, moving, context=context), sequence


def changed(analysis: Analysis) -> Volume | None:
    """Return the mask around the candidates; None if there are none, or if too little remains."""
    prepared = analysis.prepared
    lesions = (analysis.findings.components > 0).astype(np.float32)
    inside, grid = on_ras_grid(lesions, prepared.native, _GRID_MM)
    is_outside = inside <= HALF
    if is_outside.all():
        return None
    near = ndimage.distance_transform_edt(is_outside, sampling=grid.spacing_mm) <= CHANGED_MM
    voxels = grid.nearest_voxel(prepared.working.to_mm(np.argwhere(prepared.brain)[::101]))
    is_inside = grid.contains(voxels)
    excluded_fraction = float(near[tuple(voxels[is_inside].T)].mean()) if is_inside.any() else 0.0
    return Volume(near, grid) if excluded_fraction <= 1 - _MIN_COMPARED_FRACTION else None


def seems_mirrored(
    now: PreparedStudy,
    prior: PreparedStudy,
    moved: Affine,
    sequence: MrSequence,
    *,
    context: RunContext = SILENT,
) -> bool:
    """Return whether the earlier examination fits better mirrored.

    Matching does not show it: a lesion near the midline overlaps its own mirror image.

    Parameters
    ----------
    moved : (4, 4) float64
        RAS+ mm of this examination to RAS+ mm of the earlier one.
    sequence : MrSequence
        A sequence that both have.
    """
    fixed, grid = block_means(now.images[sequence], now.working, BLOCK)
    inside = block_means(now.brain, now.working, BLOCK)[0] > HALF
    moving = resample(prior.images[sequence], prior.working, grid, moved=moved)
    reflection = symmetry(fixed, grid, context=context)
    return mirror_gain(fixed, moving, inside, grid, reflection) > MIRRORED_ABOVE
