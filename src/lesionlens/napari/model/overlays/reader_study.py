"""Limit a result to an arm of a reader study; hidden parts are removed, so they cannot leak."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from lesionlens.base.records.analysis import Analysis
from lesionlens.base.records.findings import Candidate, Findings, MapAgreement, conclusion_of
from lesionlens.napari.model.overlays.maps import Overlays
from lesionlens.site.database.records import Arm

if TYPE_CHECKING:
    from lesionlens.results.result import Result


def shown_in(arm: Arm, result: Result, overlays: Overlays) -> tuple[Result, Overlays]:
    """Return a result and its overlays, limited to an arm.

    With candidates only, maps, uncertainty, sequence relevance, dismissed regions and the engine
    are removed.
    """
    if arm is not Arm.CANDIDATES:
        return result, overlays
    from lesionlens.results.result import Result

    analysis = _without_maps(result.analysis)
    return Result(analysis), replace(overlays, attention={}, evidence=None)


def _without_maps(analysis: Analysis) -> Analysis:
    empty: Mapping[Any, Any] = {}
    original = analysis.original
    return replace(
        analysis,
        maps=None,
        volumes=replace(analysis.volumes, attention=empty, uncertainty=None, evidence=None),
        findings=_findings_alone(analysis.findings),
        original=None
        if original is None
        else replace(original, findings=_findings_alone(original.findings)),
    )


def _findings_alone(findings: Findings) -> Findings:
    candidates = tuple(_without_reasons(candidate) for candidate in findings.candidates)
    return replace(
        findings,
        candidates=candidates,
        conclusion=conclusion_of(candidates),
        considered=(),
        hides_reasons=True,
    )


def _without_reasons(candidate: Candidate) -> Candidate:
    return replace(
        candidate,
        uncertainty=None,
        attention=MapAgreement(None, None),
        class_probabilities=None,
        dice_without=None,
        sequence_relevance=None,
    )
