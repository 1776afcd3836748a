"""Texts of the panel about dismissed regions."""

from __future__ import annotations

from dataclasses import dataclass

from lesionlens.base.records.analysis import Analysis
from lesionlens.base.records.findings import Point
from lesionlens.napari.model.wording.candidates import volume_words


@dataclass(frozen=True, slots=True)
class ShownConsidered:
    """One dismissed region: score, description and position (RAS+ mm)."""

    score: str
    text: str
    point_mm: Point


def shown_considered(analysis: Analysis) -> tuple[ShownConsidered, ...]:
    """Return the dismissed regions by falling score."""
    return tuple(
        ShownConsidered(
            f"{one.score:.2f}", f"{one.location.text}, {volume_words(one.volume_ml)}", one.peak_mm
        )
        for one in analysis.findings.considered
    )
