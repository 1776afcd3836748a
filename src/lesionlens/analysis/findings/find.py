"""What a prediction flags: drawn on the native grid, scored, and dismissed where it scores low."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lesionlens.analysis.findings.component_scores import ComponentVoxels, score_components
from lesionlens.analysis.findings.components import (
    CandidateCriteria,
    ComponentMask,
    component_voxels,
    doubtful_ml,
    draw_components,
    keep,
)
from lesionlens.base.grid import Grid
from lesionlens.base.labels import Region
from lesionlens.base.records.prediction import PerturbedPrediction, Prediction, Scoring

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Flagged:
    """The components that a prediction flags, and those that it draws but scores too low."""

    marked: ComponentMask
    """What is flagged."""
    scores: Sequence[float] = ()
    """Of each component of `marked`, 0 to 1, by the engine's first pass; empty without one."""
    spots: Sequence[ComponentVoxels] = ()
    """Each component on the grid of the first pass; empty without one."""
    dismissed: ComponentMask | None = None
    """What scores too low; None if no first pass judged it."""
    dismissed_scores: Sequence[float] = ()
    """Of each component of `dismissed`."""
    notices: tuple[str, ...] = ()


def find(prediction: Prediction, probability: Mapping[Region, Floats], grid: Grid) -> Flagged:
    """Draw components on the native grid, and keep those that score enough.

    Parameters
    ----------
    prediction : Prediction
        Of the study: its thresholds, and the first pass that components are scored by.
    probability : mapping of Region to (I, J, K) float32
        0 to 1 on `grid`.
    grid : Grid
        Native.
    """
    criteria = CandidateCriteria(
        prediction.thresholds, slight_enhancement=prediction.slight_enhancement
    )
    found, seen = draw_components(probability, grid, criteria), prediction.unperturbed
    flagged = Flagged(found) if seen is None else judged(found, seen, prediction.scoring)
    enhancing = probability.get(Region.ET)
    ml = 0.0 if enhancing is None else doubtful_ml(flagged.marked, enhancing, criteria)
    if not ml:
        return flagged
    words = (
        f"{ml:.1f} ml of the tumour core may enhance, too doubtful to be outlined: look at "
        "T1c and at the probability of enhancing tumour"
    )
    return replace(flagged, notices=(words,))


def judged(found: ComponentMask, seen: PerturbedPrediction, scoring: Scoring) -> Flagged:
    """Part components into those that score enough in a first pass and those that do not."""
    spots = component_voxels(found, seen.grid)
    scores = score_components(seen, spots, scoring)[0]
    wanted = scores >= scoring.floor
    return Flagged(
        marked=keep(found, wanted.tolist()),
        scores=scores[wanted].tolist(),
        spots=[spot for spot, enough in zip(spots, wanted, strict=True) if enough],
        dismissed=keep(found, (~wanted).tolist()),
        dismissed_scores=scores[~wanted].tolist(),
    )
