"""Counterfactuals: the prediction with one region occluded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lesionlens.analysis.findings.component_scores import (
    ComponentVoxels,
    score_components,
    score_segmented,
)
from lesionlens.base.errors import UnusableInputError
from lesionlens.base.geometry import TOUCHING
from lesionlens.base.labels import Region
from lesionlens.base.records.prediction import InputPerturbation, Prediction
from lesionlens.base.records.study import PreparedStudy
from lesionlens.base.run_context import RunContext
from lesionlens.base.text import score_digits
from lesionlens.engines.engine import SupportsPerturbation
from lesionlens.engines.plugin_engines import predict_perturbed

_MARGIN_MM = 3.0


@dataclass(frozen=True, slots=True)
class Counterfactual:
    """Scores with one region occluded."""

    before: tuple[float, ...]
    after: tuple[float, ...]
    """Scores of all candidates, in their order, without and with the occlusion; 0 if nothing is
    segmented.
    """
    hidden: int
    """Index of the occluded region."""
    text: str
    """One sentence for the reader."""
    base: float
    """Score of the region without any sequence; 0 if nothing is segmented."""


def without_candidate(
    engine: SupportsPerturbation,
    prepared: PreparedStudy,
    prediction: Prediction,
    components: Sequence[ComponentVoxels],
    index: int,
    context: RunContext,
) -> Counterfactual:
    """Occlude one candidate and predict again.

    Its voxels and a margin of 3 mm are set to the brain's mean in every sequence, so that no tissue
    is invented. A change in another candidate's score shows that it depended on this one.
    `components` are all candidates, on the grid of the first pass.

    Raises
    ------
    UnusableInputError
        The prediction has no first pass, or there is no such candidate.
    """
    first_pass = prediction.unperturbed
    if first_pass is None or not 0 <= index < len(components):
        raise UnusableInputError(
            found="a candidate that cannot be occluded",
            expected="one of this result, from an engine with the capability `perturb`",
            next_step="Choose one of the listed candidates",
        )
    mask = np.zeros(int(np.prod(first_pass.grid.shape)), dtype=bool)
    mask[components[index].voxels] = True
    iterations = max(1, round(_MARGIN_MM / float(first_pass.grid.spacing_mm[0])))
    hidden = ndimage.binary_dilation(
        mask.reshape(first_pass.grid.shape), TOUCHING, iterations=iterations
    )
    perturbed = predict_perturbed(
        engine,
        prepared,
        [InputPerturbation(hidden=hidden), InputPerturbation.showing(())],
        context=context,
    )
    before = score_components(first_pass, components, prediction.scoring)[0]
    threshold = prediction.thresholds[Region.WT]
    after, base = score_segmented(perturbed, components, prediction.scoring, threshold)
    text = _result_text(before, after, index, float(base[index]))
    return Counterfactual(
        tuple(before.tolist()), tuple(after.tolist()), index, text, float(base[index])
    )


def _result_text(
    before: NDArray[np.float64], after: NDArray[np.float64], index: int, base: float
) -> str:
    own_text = (
        f"score by the first pass: {score_digits(before[index])} as it is, "
        f"{_score_text(after[index])} with this region occluded "
        f"({_score_text(base)} without any image)"
    )
    dependent = [n for n in range(len(before)) if n != index and after[n] < 0.5 * before[n]]
    other_texts = (
        f"candidate {n + 1}: {score_digits(before[n])} as it is, {_score_text(after[n])} then"
        for n in dependent
    )
    return "; ".join((own_text, *other_texts))


def _score_text(score: float) -> str:
    return score_digits(score) if score > 0 else "nothing drawn"
