"""Outlines of candidates that a reader adds, merges or splits, on the native grid."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from lesionlens.analysis.findings.edits import outline_of
from lesionlens.analysis.findings.prompt_response import predicted_parts, prompt_request, redrawn
from lesionlens.base.errors import UnusableInputError
from lesionlens.base.geometry import Labels, Mask
from lesionlens.base.labels import Label, PromptKind
from lesionlens.base.records.analysis import Analysis
from lesionlens.base.records.findings import Candidate, Point
from lesionlens.base.records.prompts import PromptRequest, PromptResponse, PromptRound
from lesionlens.base.records.review import Outline

_MIN_VOXELS = 8
"""Minimum voxels of 1 mm of a lesion outlined by one prompt."""
_DRAWING_HINT = "Point at the middle of the lesion, or draw it with one stroke (Shift+L)."


def lesion_at(
    analysis: Analysis,
    respond: Callable[[PromptRequest], PromptResponse],
    allowed: NDArray[np.bool_],
    point_mm: Point,
) -> tuple[Labels, PromptRound]:
    """Outline the lesion at a reader's point by one prompt.

    Parameters
    ----------
    respond : callable
        Segments from prompts on the working grid.
    allowed : (I, J, K) bool
        Voxels of the working grid that may be labelled: tissue that nothing else holds.
    point_mm : (3,)
        RAS+ mm.

    Returns
    -------
    (I, J, K) uint8, PromptRound
        Labels on the working grid, and the record of the prompt.

    Raises
    ------
    UnusableInputError
        The point is where nothing may be labelled, or nothing around it looks like it.
    """
    working = analysis.prepared.working
    seed = working.nearest_voxel(point_mm)
    i, j, k = seed.tolist()
    if not working.contains(seed) or not allowed[i, j, k]:
        raise UnusableInputError(
            "The point is outside the head, in the resection cavity or in another candidate.",
            hint=_DRAWING_HINT,
        )
    prompt_round = PromptRound(
        PromptKind.POINT,
        foreground=((i, j, k),),
        background=(),
        region=None,
        paint=Label.OEDEMA,
        seconds=0.0,
    )
    empty = np.zeros(allowed.shape, np.uint8)
    response = respond(prompt_request(empty, [prompt_round]))
    labels = redrawn(empty, response, prompt_round, allowed, predicted_parts(analysis, response))
    if np.count_nonzero(labels) < _MIN_VOXELS:
        raise UnusableInputError("Nothing around this point resembles it.", hint=_DRAWING_HINT)
    return labels, replace(prompt_round, made_by=response.made_by)


def merged(analysis: Analysis, into: Candidate, other: Candidate) -> tuple[Outline, Outline]:
    """Return the outlines of two merged candidates: the union, and an empty one.

    Parameters
    ----------
    into, other : Candidate
        The one that is kept, and the one merged into it.
    """
    components = analysis.findings.components
    mask = (components == into.id) | (components == other.id)
    outline = _outline_within(mask, into.tracking_uid, analysis)
    return outline, Outline.empty(other.tracking_uid)


def _outline_within(mask: NDArray[np.bool_], uid: str, analysis: Analysis) -> Outline:
    return Outline.of(uid, np.where(mask, analysis.volumes.labels.data, np.uint8(0)))


def halves(
    analysis: Analysis,
    candidate: Candidate,
    second_uid: str,
    sides: tuple[Labels, Labels, Labels],
    by_hand: Mask | None = None,
) -> tuple[Outline, Outline]:
    """Return the outlines of the two halves of a split candidate, which lose none of its voxels.

    Parameters
    ----------
    candidate : Candidate
        Keeps the first half.
    second_uid : str
        Tracking UID of the second half, which is new.
    sides : three (I, J, K) uint8
        On the working grid: its current labels, and those of each half.
    by_hand : (I, J, K) bool or None
        Voxels that a stroke painted or erased; None for all.

    Raises
    ------
    UnusableInputError
        A half is empty on the native grid.
    """
    current, first, second = sides
    whole_outline = outline_of(analysis, candidate, current, np.maximum(first, second), by_hand)
    first_outline = outline_of(analysis, candidate, current, first, by_hand)
    labels = np.zeros(analysis.findings.components.shape, np.uint8)
    labels[whole_outline.box] = whole_outline.labels
    labels[first_outline.box][first_outline.labels > 0] = 0
    second_outline = Outline.of(second_uid, labels)
    if second_outline.is_empty:
        raise UnusableInputError(
            "One half would have no voxel of the scan.",
            hint="Split the outline elsewhere.",
        )
    return first_outline, second_outline
