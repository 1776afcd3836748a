"""Detect an earlier examination that is mirrored relative to the current one.

Matching counts any overlap, and a lesion near the midline overlaps its mirror image. The check is
that of the sequences of one study (`imaging.preparation.laterality_check`), of one sequence at two
times.
"""

from __future__ import annotations

import numpy as np

from lesionlens.base.geometry import Affine
from lesionlens.base.labels import MrSequence
from lesionlens.base.records.study import PreparedStudy
from lesionlens.base.run_context import SILENT, RunContext
from lesionlens.imaging.preparation.laterality_check import (
    BLOCK,
    MIRRORED_ABOVE,
    gain_of_mirror,
    symmetry,
)
from lesionlens.imaging.preparation.resampling import HALF, block_means, resample

MIRRORED = (
    "The earlier examination seems mirrored, left and right swapped, against this one: check the "
    "sides of both before you trust any change"
)


def seems_mirrored(
    now: PreparedStudy,
    prior: PreparedStudy,
    moved: Affine,
    sequence: MrSequence,
    *,
    context: RunContext = SILENT,
) -> bool:
    """Return whether the earlier examination fits better mirrored.

    Parameters
    ----------
    moved : (4, 4) float64
        RAS+ mm of this examination to RAS+ mm of the earlier one.
    sequence : MrSequence
        A sequence that both have.
    """
    fixed, grid = block_means(now.images[sequence], now.working, BLOCK)
    inside = block_means(now.brain.astype(np.float32), now.working, BLOCK)[0] > HALF
    moving = resample(prior.images[sequence], prior.working, grid, moved=moved)
    reflection = symmetry(fixed, grid, context=context)
    return gain_of_mirror(fixed, moving, inside, grid, reflection) > MIRRORED_ABOVE
