"""Limit a result to an arm of a reader study; hidden parts are removed, so they cannot leak."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from lesionlens.base.records.analysis import Analysis
from lesionlens.base.records.findings import Candidate, MapAgreement
from lesionlens.base.records.prediction import Capability
from lesionlens.napari.model.overlays.maps import Overlays
from lesionlens.site.database.records import Arm


def shown_in(arm: Arm, result: Any, overlays: Overlays) -> tuple[Any, Overlays]:
    """Return a result and its overlays, limited to an arm.

    With candidates only, maps, uncertainty, sequence relevance, dismissed regions and the engine
    are removed.
    """
    if arm is not Arm.CANDIDATES:
        return result, overlays
    analysis = _without_maps(result.analysis)
    limited = SimpleNamespace(analysis=analysis, trace=None, engine=None)
    return limited, replace(overlays, attention={}, uncertainty=None, probe=None, layer_choice=None)


def _without_maps(analysis: Analysis) -> Analysis:
    empty: Mapping[Any, Any] = {}
    engine = replace(analysis.run.engine, capabilities=frozenset({Capability.SEGMENT}))
    return replace(
        analysis,
        maps=None,
        volumes=replace(
            analysis.volumes, attention=empty, uncertainty=None, evidence=None, doubtful=None
        ),
        findings=replace(
            analysis.findings,
            candidates=tuple(_without_reasons(c) for c in analysis.findings.candidates),
            considered=(),
            doubtful=None,
        ),
        run=replace(analysis.run, engine=engine),
    )


def _without_reasons(candidate: Candidate) -> Candidate:
    return replace(
        candidate,
        uncertainty=None,
        attention=MapAgreement(None, None),
        sequence_relevance=None,
        relevance_of=None,
        score_alone=None,
        score_left_out=None,
        resemblance=None,
        kind=None,
        apart=False,
    )
