"""report.html: one self-contained page, as a radiologist would hand it to a colleague.

Text is escaped by Jinja2's autoescape; nothing is loaded from elsewhere and no script runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from lesionlens.base.labels import RESEARCH_USE_NOTICE, LesionClass, MrSequence, Region
from lesionlens.explain import shapley
from lesionlens.export import pictures
from lesionlens.export.pictures import CandidatePictures, Picture
from lesionlens.export.run import run_file
from lesionlens.export.slices import SliceScene
from lesionlens.export.tables import file_of, findings_file
from lesionlens.records.analysis import Analysis
from lesionlens.records.attention import AttentionMaps, MapChecks
from lesionlens.records.files import CandidateRow, FindingsFile, RunFile
from lesionlens.records.findings import SEQUENCE_KEYS, UNSURE, Agreement, resemblance_words
from lesionlens.records.study import Study

UNKNOWN = "\u2013"
"""Stands where a value could not be computed; the warnings say why."""


@dataclass(frozen=True, slots=True)
class ReportBar:
    """One signed bar of the sequence relevance; start and length in percent of the width.

    `alone` and `left_out` are the scores with the sequence alone and with all but it.
    """

    name: str
    value: float | None
    start: float
    percent: float
    alone: float | None = None
    left_out: float | None = None


@dataclass(frozen=True, slots=True)
class SequenceLine:
    """One sequence as found and prepared."""

    words: str
    reference: bool
    file: str
    detected_by: str
    voxels: str
    edges: str


@dataclass(frozen=True, slots=True)
class CandidateSection:
    """All that the page shows of one candidate; an attention map that is not `trusted` hides."""

    row: CandidateRow
    place: str
    pictures: CandidatePictures
    bars: tuple[ReportBar, ...]
    deciding: str
    trusted: bool
    attention: str

    @property
    def measured(self) -> str:
        """What the two diameters are of."""
        return "enhancing part" if self.row.volume_ml[Region.ET] else "whole region"


@dataclass(frozen=True, slots=True, eq=False)
class Page:
    """All that a report shows, whatever it is written as; `overview` only without a candidate.

    `trust` holds the attention maps' checks, empty where none was made; `reviewed` how far the
    review is, empty without a candidate.
    """

    study: Study
    content: FindingsFile
    run: RunFile
    blocks: tuple[CandidateSection, ...]
    overview: tuple[Picture, ...]
    sequences: tuple[SequenceLine, ...]
    trust: Mapping[Region, MapChecks]
    warnings: tuple[str, ...]
    reviewed: str


def number(value: float | None, digits: int = 1, unit: str = "") -> str:
    """Write a number with its unit, or a dash where there is none.

    Examples
    --------
    >>> number(41.26, 1, "mm"), number(None) == UNKNOWN
    ('41.3 mm', True)
    """
    if value is None:
        return UNKNOWN
    return f"{value:.{digits}f} {unit}".strip()


def volume(value: float | None) -> str:
    """Write ml with the digits that they deserve.

    Examples
    --------
    >>> volume(61.23), volume(0.094), volume(0.0)
    ('61.2 ml', '0.09 ml', '0 ml')
    """
    if value == 0:
        return "0 ml"
    return number(value, 1 if value is not None and value >= 1 else 2, "ml")


def moment(text: str) -> str:
    """Write an ISO 8601 time to the minute, in UTC; another text stays as it is.

    Examples
    --------
    >>> moment("2026-01-05T11:15:00+01:00"), moment("some day")
    ('2026-01-05 10:15 UTC', 'some day')
    """
    try:
        return datetime.fromisoformat(text).astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
    except ValueError:
        return text


def sequence_words(key: str) -> str:
    """Write a sequence's key as a radiologist does."""
    return MrSequence(key).words


def yes_no(value: bool | None) -> str:
    """Write a truth value in words."""
    return UNKNOWN if value is None else ("yes" if value else "no")


def score_words(calibrated: bool) -> str:
    """Say what a score is, and what it is not."""
    if calibrated:
        return (
            "The score is a probability that the region is tumour-like, calibrated on drawn "
            "brains, not on patients."
        )
    return "The score orders candidates; it is not a calibrated probability."


def uncertainty_words(value: float) -> str:
    """Say how sure the engine was.

    Examples
    --------
    >>> uncertainty_words(0.24)
    '0.24 (0 sure, 1 undecided)'
    """
    words = f"{value:.2f} (0 sure, 1 undecided)"
    if value < UNSURE:
        return words
    return f"{words}, high: asked in several ways, the engine stays near undecided about much of it"


def looks_like(shares: Mapping[LesionClass, float]) -> str:
    """Say what a candidate looks like to the engine, and what that is not."""
    return f"{resemblance_words(shares)} (the engine's own shares, not a diagnosis)"


def attention_words(row: Agreement, trust: MapChecks | None, times: float | None = None) -> str:
    """Say where the attention lies, and what is wrong with the map where something is.

    `times`, where it is known, is how much the candidate was looked at beside an even look.
    """
    if row.peak_inside is None:
        return "no map"
    where = "its peak lies " + ("in the region" if row.peak_inside else "elsewhere")
    if row.mass_inside is not None:
        whose = "it" if times is None else "what lies nearest"
        where += f", {100 * row.mass_inside:.0f} % of {whose} inside"
    if times is not None:
        amount = f"{times:.0f}" if times >= 10 else f"{times:.1f}"
        where += f"; looked at {amount} × as much as evenly"
    if trust is not None and trust.reliable is False:
        return f"{where}; {trust.words}"
    return where if row.peak_inside else f"{where}: not reliable here"


def scale_words(maps: AttentionMaps | None) -> str:
    """Say what the colours of the attention stand for."""
    scale = 0.0 if maps is None else maps.scale_of(Region.WT)
    return f"attention 1 to {scale:.0f} × even" if scale > 1 else "attention 0 to 1"


def _times_even(analysis: Analysis, number: int) -> float | None:
    """Return how much a candidate was looked at, as it is told where several share one look."""
    shown = analysis.volumes.attention.get(Region.WT)
    scale = 0.0 if analysis.maps is None else analysis.maps.scale_of(Region.WT)
    if shown is None or scale <= 1 or len(analysis.findings.candidates) < 2:
        return None
    return scale * float(shown.data[analysis.findings.components == number].mean())


def trust_words(trust: MapChecks) -> str:
    """Say what the checks of a whole map came to, with the figures that a reader can weigh.

    Examples
    --------
    >>> trust_words(MapTrust(True, 0.9, 0.1, deletion=0.1, deletion_random=0.8, words="passed"))
    'passed; hiding what it shows leaves 10 % of the probability, hiding as much at random 80 %'
    """
    if trust.deletion is None or trust.deletion_random is None:
        return trust.words
    return (
        f"{trust.words}; hiding what it shows leaves {100 * trust.deletion:.0f} % of the "
        f"probability, hiding as much at random {100 * trust.deletion_random:.0f} %"
    )


def bars_of(row: CandidateRow) -> tuple[ReportBar, ...]:
    """Return the bars of a candidate's sequence relevance; together they fill the width."""
    if row.sequence_relevance is None:
        return ()
    values = row.sequence_relevance
    known = [value for value in values.values() if value is not None]
    low, high = min(0.0, *known, 0.0), max(0.0, *known, 0.0)
    full = (high - low) or 1.0
    alone, left_out = row.score_alone or {}, row.score_left_out or {}
    words = {key.value: key.words for key in SEQUENCE_KEYS} | {"none": "without any"}
    return tuple(
        ReportBar(
            name,
            value := values[key],
            start=100 * (min(value or 0.0, 0.0) - low) / full,
            percent=100 * abs(value or 0.0) / full,
            alone=alone.get(key),
            left_out=left_out.get(key),
        )
        for key, name in words.items()
    )


def _sequences(analysis: Analysis) -> tuple[SequenceLine, ...]:
    lines = []
    for key in SEQUENCE_KEYS:
        series = analysis.study.series.get(key)
        if series is None:
            continue
        counts = "×".join(str(n) for n in series.grid.shape)
        edges = "×".join(f"{e:.2g}" for e in series.grid.spacing_mm)
        lines.append(
            SequenceLine(
                words=key.words,
                reference=key is analysis.prepared.reference,
                file=file_of(series),
                detected_by=series.detected_by,
                voxels=counts,
                edges=edges,
            )
        )
    return tuple(lines)


def _blocks(
    analysis: Analysis, content: FindingsFile, scene: SliceScene
) -> tuple[CandidateSection, ...]:
    reference = analysis.prepared.reference
    shown = None if analysis.maps is None else analysis.maps.trust.get(Region.WT)
    sound = shown is None or shown.reliable is not False
    blocks = []
    for row, candidate in zip(content.candidates, analysis.findings.candidates, strict=True):
        trusted = sound and row.attention.peak_inside is not False
        blocks.append(
            CandidateSection(
                row=row,
                place=candidate.location.words,
                pictures=pictures.candidate_pictures(
                    scene, candidate.id, reference, trusted=trusted
                ),
                bars=bars_of(row),
                deciding=shapley.deciding_words(candidate.sequence_relevance),
                trusted=trusted,
                attention=attention_words(row.attention, shown, _times_even(analysis, row.id)),
            )
        )
    return tuple(blocks)


def page_of(analysis: Analysis) -> Page:
    """Gather what a report shows; drawing the pictures takes most of its time."""
    content, scene = findings_file(analysis), SliceScene(analysis)
    blocks = _blocks(analysis, content, scene)
    said = {check.message for check in content.quality}
    reference = analysis.prepared.reference
    return Page(
        study=analysis.study,
        content=content,
        run=run_file(analysis),
        blocks=blocks,
        overview=() if blocks else pictures.overview_pictures(scene, reference),
        sequences=_sequences(analysis),
        trust={} if analysis.maps is None else analysis.maps.trust,
        warnings=tuple(warning for warning in content.warnings if warning not in said),
        reviewed=analysis.review.words([row.tracking_uid for row in content.candidates]),
    )


def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("lesionlens.export"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "number": number,
        "uncertainty": uncertainty_words,
        "looks_like": looks_like,
        "trust": trust_words,
        "volume": volume,
        "yes_no": yes_no,
        "moment": moment,
        "sequence": sequence_words,
    }
    return made


def report_html(analysis: Analysis) -> str:
    """Return the whole page.

    Parameters
    ----------
    analysis : Analysis
        With or without candidates, attention maps and a review.
    """
    page = page_of(analysis)
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            unknown=UNKNOWN,
            score_words=score_words(page.run.calibrated),
            notice=RESEARCH_USE_NOTICE,
            study=page.study,
            content=page.content,
            run=page.run,
            blocks=page.blocks,
            overview=page.overview,
            sequences=page.sequences,
            trust=page.trust,
            set_aside=[s.description for s in page.study.set_aside],
            absent=[s.words for s in MrSequence if s not in page.study.series],
            warnings=page.warnings,
            reviewed=page.reviewed,
            regions=[(r.words, pictures.REGION_COLOURS[r]) for r in Region],
            attention_colour=pictures.ATTENTION_COLOUR,
            heat_stops=pictures.HEAT_STOPS,
            scale_words=scale_words(analysis.maps),
            attention=analysis.maps,
            reference=analysis.prepared.reference,
        )
    )


class ReportExporter:
    """Writes report.html."""

    name = "report"

    def missing(self, analysis: Analysis) -> str | None:
        """Nothing is needed."""
        del analysis
        return None

    def write(self, analysis: Analysis, staged: Path) -> tuple[Path, ...]:
        """Write the page."""
        path = staged / "report.html"
        path.write_text(report_html(analysis), encoding="utf-8")
        return (path,)
