"""Texts of the panel about a second result of the open study."""

from __future__ import annotations

from dataclasses import dataclass

from lesionlens.analysis.evaluation.agreement import Agreement, Disagreement, RegionAgreement
from lesionlens.base.records.findings import Point
from lesionlens.napari.model.state.second import SecondResult
from lesionlens.napari.model.wording.candidates import volume_text


@dataclass(frozen=True, slots=True)
class ShownSecond:
    """A second result in the panel."""

    title: str
    agreement: tuple[str, ...]
    """Notices on a segmentation, one line per region, one for parts too thin to be listed."""
    lines: tuple[tuple[Point, str, str], ...]
    """Position, number and description of each disagreement."""


def shown_second(second: SecondResult) -> ShownSecond:
    """Return a second result for the panel."""
    sides = sides_text(second.first_side, second.side)
    rows = (*second.notices, *filter(None, (sides,)))
    rows += tuple(map(_agreement_text, second.agreement.regions))
    thin = small_differences_text(second.agreement)
    rows += (thin,) if thin else ()
    parts = second.agreement.disagreements
    lines = tuple((part.point_mm, str(part.number), disagreement_text(part)) for part in parts)
    return ShownSecond(f"Light blue: {second.name}", rows, lines)


def sides_text(here: str, there: str) -> str:
    """State that two results lie on opposite sides; empty otherwise.

    Examples
    --------
    >>> sides_text("left", "right")
    'All on the left in this result, all on the right in the other: one of them may be mirrored'
    """
    if not here or not there or here == there:
        return ""
    return (
        f"All on the {here} in this result, all on the {there} in the other: one of them may be "
        "mirrored"
    )


def _agreement_text(row: RegionAgreement) -> str:
    if not row.first_ml and not row.second_ml:
        return f"{row.region.display_name}: in neither"
    first, second = volume_text(row.first_ml), volume_text(row.second_ml)
    return f"{row.region.display_name}: {first} here, {second} there, Dice {row.dice:.2f}"


def small_differences_text(agreement: Agreement) -> str:
    """Describe parts that only one of them outlines, too thin to be listed; empty without any.

    Examples
    --------
    >>> import numpy
    >>> small_differences_text(Agreement((), (), numpy.zeros((1, 1, 1), "i4"), 0.42))
    '0.42 ml in parts that are one voxel thick, such as a stroke on one slice'
    """
    if not agreement.unlisted_ml:
        return ""
    qualifier = "more " if agreement.disagreements else ""
    return (
        f"{volume_text(agreement.unlisted_ml)} {qualifier}in parts that are one voxel thick, "
        "such as a stroke on one slice"
    )


def disagreement_text(part: Disagreement) -> str:
    """Describe a disagreement.

    Examples
    --------
    >>> disagreement_text(Disagreement(1, False, 2.31, (0.0, 0.0, 0.0)))
    '2.3 ml outlined only there'
    """
    location = "here" if part.by_first else "there"
    return f"{volume_text(part.volume_ml)} outlined only {location}"
