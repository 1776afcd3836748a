"""Texts of the panel about candidates: locations, sizes, volumes, scores, facts and bars."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lesionlens.analysis.explain.shapley import is_uninformative
from lesionlens.base.labels import Label, MrSequence, Region, Source
from lesionlens.base.records.analysis import Analysis
from lesionlens.base.records.findings import (
    SEQUENCE_KEYS,
    UNCERTAIN_PLACE,
    Candidate,
    Considered,
    class_probabilities_text,
)
from lesionlens.base.records.prediction import OperatingPoint
from lesionlens.base.text import iso_date, percent_digits, score_digits
from lesionlens.napari.model.overlays.maps import ATTENTION_MAP, GRAD_CAM_MAP
from lesionlens.results.export import wording


@dataclass(frozen=True, slots=True)
class Fact:
    """A short statement: True is good, False a warning, None neutral."""

    text: str
    good: bool | None
    tooltip: str = ""


@dataclass(frozen=True, slots=True)
class Bar:
    """Signed relevance of one sequence to the candidate in focus."""

    name: str
    value: float
    dice_without: float | None = None
    """Overlap with the outline without this sequence."""

    @property
    def details(self) -> str:
        """Text of the tooltip.

        Examples
        --------
        >>> Bar("FLAIR", 0.21, 0.96).details
        'FLAIR: +0.21; overlap without it 0.96'
        """
        figures = f"{self.name}: {self.value:+z.2f}"
        if self.dice_without is None:
            return figures
        return f"{figures}; overlap without it {self.dice_without:.2f}"


def details(candidate: Candidate, *, has_t1c: bool) -> str:
    """Return location and sizes of a candidate as text."""
    parts = [candidate.location.text, f"{size_text(candidate)} of the {candidate.measured}"]
    for region in Region:
        volume = candidate.volume_ml.get(region)
        text = volume_text(volume) if volume is not None else "–"
        if region is Region.TC and candidate.core_uncertain(has_t1c=has_t1c):
            text += ", uncertain without T1c"
        parts.append(f"{region.display_name}: {text}")
    if candidate.rano_measurable is not None:
        parts.append(f"{'' if candidate.rano_measurable else 'not '}measurable (RANO)")
    if candidate.source is Source.READER:
        parts.append("added by a reader")
    return "\n".join(parts)


def cavity_text(analysis: Analysis) -> str:
    """Return the volume of the resection cavity; empty if there is none."""
    cavity = analysis.volumes.cavity_ml
    if not cavity:
        return ""
    return f"{Label.CAVITY.display_name}: {volume_text(cavity)}, not counted as tumour"


def point_at(points: Sequence[OperatingPoint], threshold: float) -> OperatingPoint | None:
    """Return the measured operating point of a threshold; None outside the measured range."""
    reached = [point for point in points if point.threshold <= threshold + 1e-9]
    measured = any(point.threshold >= threshold - 1e-9 for point in points)
    return max(reached, key=lambda point: point.threshold) if measured and reached else None


def threshold_text(threshold: float) -> str:
    """Describe a threshold.

    Examples
    --------
    >>> threshold_text(0.25), threshold_text(0.0)
    ('score ≥ 0.25', 'all flagged')
    """
    return "all flagged" if threshold <= 0 else f"score ≥ {threshold:.2f}"


def threshold_costs(point: OperatingPoint | None) -> str:
    """Describe sensitivity and false candidates of an operating point.

    Examples
    --------
    >>> threshold_costs(OperatingPoint(0.3, 0.95, 0.214))
    'finds 95% of lesions, 0.2 false candidates per scan (test scans)'
    """
    if point is None:
        return ""
    percent, per_scan = 100 * point.sensitivity, point.false_per_scan
    return f"finds {percent:.0f}% of lesions, {per_scan:.1f} false candidates per scan (test scans)"


def threshold_source(point: OperatingPoint | None, floor: float) -> str:
    """Describe the data of an operating point, and the network's lowest score."""
    limit = f". Below {floor:.2f} nothing is flagged" if floor else ""
    if point is None:
        return f"List only candidates with at least this score{limit}"
    percent, per_scan = 100 * point.sensitivity, point.false_per_scan
    return (
        f"On test scans, synthetic and real, at threshold {point.threshold:.2f}: {percent:.0f}% "
        f"of lesions found, {per_scan:.2f} false candidates per scan{limit}"
    )


def short_location(candidate: Candidate) -> str:
    """Return a short location for a narrow table; the tooltip has the full one."""
    text = candidate.location.text.replace(" lobes", "").replace(" lobe", "")
    return text.replace(UNCERTAIN_PLACE, "?")


def score_text(score: float | None) -> str:
    """Return a score as text, never 0 or 1; a dash if there is none.

    Examples
    --------
    >>> score_text(0.974), score_text(0.998), score_text(0.004), score_text(None)
    ('0.97', '>0.99', '<0.01', '–')
    """
    return "–" if score is None else score_digits(score)


def size_text(candidate: Candidate, digits: int = 1) -> str:
    """Return both diameters as text; a dash if unknown."""
    long, short = candidate.longest_axial_diameter_mm, candidate.perpendicular_diameter_mm
    if long is None:
        return "–"
    longest = f"{long:.{digits}f}"
    return f"{longest} mm" if short is None else f"{longest} × {short:.{digits}f} mm"


def size_cell(candidate: Candidate) -> str:
    """Return both diameters and their region for the table, whose header has the unit."""
    size = size_text(candidate, 0).removesuffix(" mm")
    return size if size == "–" else f"{size} {'enh.' if candidate.has_enhancing else 'whole'}"


def date_text(date: str) -> str:
    """Return a DICOM date in ISO 8601; an invalid one is unchanged.

    Examples
    --------
    >>> date_text("20260105"), date_text(""), date_text("1997.04")
    ('2026-01-05', 'date unknown', '1997.04')
    """
    return iso_date(date) or date or "date unknown"


def volume_text(volume_ml: float | None) -> str:
    """Return a volume as text, with the digits of the report; a dash if unknown.

    Examples
    --------
    >>> [volume_text(volume) for volume in (61.23, 0.094, 0.004, 0.0, None)]
    ['61.2 ml', '0.09 ml', '<0.01 ml', '0 ml', '–']
    """
    return wording.volume(volume_ml)


def considered_text(region: Considered) -> str:
    """Return location and volume of a dismissed region."""
    return f"{region.location.text}, {volume_text(region.volume_ml)}"


def facts_of(candidate: Candidate, map_name: str = ATTENTION_MAP) -> tuple[Fact, ...]:
    """Return facts that support or question a candidate; `map_name` is what its map is called."""
    facts: list[Fact] = []
    inside, mass = candidate.attention.peak_inside, candidate.attention.mass_inside
    if inside is not None:
        name = map_name if map_name == GRAD_CAM_MAP else map_name.lower()
        text = f"{name} peaks inside" if inside else f"{name} peaks outside"
        tip = (
            "Position of the map's maximum. Inside means that the map agrees with the outline, not "
            "that this is a tumour."
        )
        facts.append(Fact(text, None if inside else False, tip))
    if mass is not None:
        tip = "Fraction of the map nearest to this candidate that lies within it."
        facts.append(Fact(f"{100 * mass:.0f}% of it inside", None, tip))
    if candidate.class_probabilities is not None:
        kind, share = max(candidate.class_probabilities.items(), key=lambda item: item[1])
        classes = class_probabilities_text(candidate.class_probabilities)
        tip = f"The network's own classes, not a diagnosis: {classes}."
        facts.append(Fact(f"{kind.display_name} {percent_digits(share)}%", None, tip))
    return tuple(facts)


def bars_of(candidate: Candidate) -> tuple[Bar, ...]:
    """Return one bar per sequence, its relevance; none if words suffice (`no_bars_text`)."""
    if is_uninformative(candidate.sequence_relevance):
        return ()
    relevance = candidate.sequence_relevance or {}
    bars = [
        Bar(
            sequence.display_name,
            float(value),
            (candidate.dice_without or {}).get(sequence.value),
        )
        for sequence in SEQUENCE_KEYS
        if (value := relevance.get(sequence.value)) is not None
    ]
    return tuple(sorted(bars, key=lambda bar: -abs(bar.value)))


def no_bars_text(candidate: Candidate) -> str:
    """Return why there are no bars; empty if there are some, or nothing was computed."""
    relevance = candidate.sequence_relevance
    if relevance is None or not is_uninformative(relevance):
        return ""
    single = sum(relevance.get(sequence.value) is not None for sequence in MrSequence) < 2
    return wording.ADDS_SINGLE if single else wording.ADDS_EQUAL
