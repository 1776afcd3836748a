"""What results hold of unread studies, and in which order reading them would teach most."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lesionlens.base.errors import LesionLensError, UnusableInputError
from lesionlens.base.labels import MrSequence, Region
from lesionlens.base.stages import NEVER, Cancel, Progress, check, no_progress
from lesionlens.imaging.reading.image_features import image_features
from lesionlens.results.review.reopen import SavedResult, results_in
from lesionlens.site.worklist.book import NAME as BOOK
from lesionlens.training.learning.order import Card, Suggestion, expected_loss, order
from lesionlens.training.learning.signed_reviews import read_signed, readers_of, studies_of

_DISPUTED = 0.5
"""Uncertainty from which a voxel counts as disputed: the views are nearer to a draw than to one
answer."""


@dataclass(frozen=True, slots=True)
class Suggested:
    """Unread studies in order; how many were read before; what could not be used, and why."""

    order: tuple[Suggestion, ...]
    read: int
    left_out: tuple[tuple[str, str], ...]


def suggest(
    results: Path,
    studies: Path | None = None,
    *,
    readers: Sequence[str] = (),
    progress: Progress = no_progress,
    cancel: Cancel = NEVER,
) -> Suggested:
    """Order the studies that nobody has signed.

    Parameters
    ----------
    results : Path
        One result folder a study, as `batch` writes them.
    studies : Path or None
        The studies, under the same names: their contrast, noise and voxels count too.
    readers : sequence of str
        See `learning.signed_reviews.gather`.
    progress, cancel
        Called, and polled for a stop, before each result.

    Raises
    ------
    UnusableInputError
        There is no result, or all are signed.
    """
    folders = results_in(results)
    known = studies is not None or (results / BOOK).is_file()
    places = studies_of(results, studies) if known else {}
    whose = (*readers, *readers_of(results))
    read: list[Card] = []
    unread: list[Card] = []
    left_out: list[tuple[str, str]] = []
    for number, folder in enumerate(folders):
        check(cancel, "looking at results")
        progress(f"looking at {folder.name}", number / len(folders))
        try:
            saved = read_signed(folder, whose)
            card = _card(saved, folder.name, places.get(folder.name))
        except LesionLensError as error:
            left_out.append((folder.name, error.found))
            continue
        (unread if saved.review.signed is None else read).append(card)
    if not unread:
        raise UnusableInputError(
            found=f"no unread study among {len(folders)} results in {results.name!r}",
            expected="results of `lesionlens batch` that nobody has signed yet",
            next_step="Analyse more studies, or name the folder that holds them",
        )
    return Suggested(order(unread, read), len(read), tuple(left_out))


def _card(saved: SavedResult, name: str, study: Path | None) -> Card:
    whole = saved.volumes.probability.get(Region.WT)
    if whole is None:
        raise UnusableInputError(
            found=f"no probability of the whole tumour in the result {name!r}",
            expected="that of an engine that gives one",
            next_step="Leave it to chance when it is read",
        )
    drawn = saved.volumes.labels.data > 0
    images = {} if study is None else image_features(study)
    return Card(
        name=name,
        unsure=expected_loss(whole.data, drawn, whole.grid.voxel_ml),
        disputed=_disputed(saved, drawn),
        features={**_result_features(saved, drawn), **images},
    )


def _disputed(saved: SavedResult, drawn: NDArray[np.bool_]) -> float:
    unsure = saved.volumes.uncertainty
    if unsure is None:
        return 0.0
    disputed = np.nan_to_num(unsure.data) >= _DISPUTED
    voxel_ml = unsure.grid.voxel_ml
    both = np.count_nonzero(disputed | drawn) * voxel_ml
    return np.count_nonzero(disputed) * voxel_ml / (both + 1.0)


def _result_features(saved: SavedResult, drawn: NDArray[np.bool_]) -> dict[str, float]:
    """Return how a study looks by what its result holds."""
    labels, grid = saved.volumes.labels.data, saved.volumes.labels.grid
    ml = np.bincount(labels.ravel(), minlength=4)[1:4] * grid.voxel_ml
    found = {f"log of ml, {what}": math.log1p(float(v)) for what, v in
             zip(("core", "oedema", "enhancing"), ml, strict=True)}  # fmt: skip
    found["candidates"] = float(len(saved.findings.candidates))
    if drawn.any():
        middle = grid.to_mm(np.argwhere(drawn)).mean(axis=0)
        found |= {"height of what is flagged (mm)": float(middle[2]),
                  "off the midline (mm)": abs(float(middle[0]))}  # fmt: skip
    found["slices (mm)"] = float(grid.spacing_mm.max())
    found["failed quality checks"] = float(sum(not q.passed for q in saved.findings.quality))
    for one in saved.findings.candidates[:1]:
        relevance = one.sequence_relevance or {}
        for sequence in MrSequence:
            weight = relevance.get(sequence.value)
            if weight is not None:
                found[f"weight of {sequence.words}"] = float(weight)
    return found
