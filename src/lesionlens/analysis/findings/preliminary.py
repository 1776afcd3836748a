"""Preliminary candidates of an engine's first pass, shown while the analysis runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from lesionlens.analysis import native_grid
from lesionlens.analysis.findings.component_scores import score_by_all_views
from lesionlens.analysis.findings.components import CandidateCriteria, Component, segment_components
from lesionlens.analysis.findings.find import split_by_score
from lesionlens.analysis.findings.measure import bounding_box_mm
from lesionlens.base.geometry import as_vec3
from lesionlens.base.labels import Region
from lesionlens.base.records.findings import PreliminaryCandidate, PreliminaryFindings
from lesionlens.base.records.prediction import FirstPass
from lesionlens.base.records.study import PreparedStudy
from lesionlens.base.run_context import RunContext
from lesionlens.engines.engine import Engine

Listener = Callable[[PreliminaryFindings], None]
"""Called once, from the analysis thread; must return quickly."""


def notify(
    engine: Engine, prepared: PreparedStudy, context: RunContext, listener: Listener | None
) -> None:
    """Pass the preliminary candidates to a listener, if the engine has a first pass."""
    if listener is not None and hasattr(engine, "first_pass"):
        with context.stage("first pass"):
            listener(flag(engine, prepared, context))


def flag(engine: Any, prepared: PreparedStudy, context: RunContext) -> PreliminaryFindings:
    """Segment and score the candidates of an engine's first pass.

    Returns
    -------
    PreliminaryFindings
        On the native grid; scored like final candidates, segmented from the coarse pass.
    """
    coarse: FirstPass = engine.first_pass(prepared, context=context)
    whole = native_grid.to_native(coarse.seen.probability[0], prepared, coarse.seen.grid)
    empty = np.zeros(whole.shape, np.float32)
    criteria = CandidateCriteria({**dict.fromkeys(Region, 1.0), Region.WT: coarse.threshold})
    regions = {Region.WT: whole, Region.TC: empty, Region.ET: empty}
    marked = segment_components(regions, prepared.native, criteria)
    flagged = split_by_score(marked, coarse.seen, coarse.scoring)
    parts = tuple(flagged.components.parts())
    scores = score_by_all_views(flagged.scores, None, coarse.scoring)
    order = np.argsort(-np.array(flagged.scores), kind="stable")
    candidates = tuple(_candidate(n, scores[i], parts[i]) for n, i in enumerate(order, start=1))
    numbers = np.zeros(len(parts) + 1, np.int32)
    numbers[order + 1] = np.arange(1, len(parts) + 1)
    return PreliminaryFindings(candidates, numbers[flagged.components.components], prepared.native)


def _candidate(number: int, score: float, part: Component) -> PreliminaryCandidate:
    low, high = bounding_box_mm(part.mask, part.grid)
    return PreliminaryCandidate(
        id=number,
        score=score,
        volume_ml=part.volume_ml,
        centroid_mm=as_vec3(part.points_mm().mean(axis=0)),
        bounding_box_mm=(as_vec3(low), as_vec3(high)),
    )
