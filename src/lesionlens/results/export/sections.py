"""Report sections of candidates, in one language."""

from __future__ import annotations

from dataclasses import dataclass

from lesionlens.analysis.explain import shapley
from lesionlens.base.labels import Identity, Region, Source
from lesionlens.base.records.analysis import Analysis
from lesionlens.base.records.attention import MapChecks
from lesionlens.base.records.files import CandidateRow, FindingsFile, ReviewRow
from lesionlens.base.records.findings import (
    SEQUENCE_KEYS,
    Candidate,
    MapAgreement,
    counts_as_tumour,
)
from lesionlens.base.text import isolated
from lesionlens.results.export import pictures
from lesionlens.results.export.pictures import CandidatePictures
from lesionlens.results.export.report_texts import ReportTexts, moment
from lesionlens.results.export.sentence import Sentences
from lesionlens.results.export.slices import SliceScene

MAX_DOUBTS = 5
"""Maximum number of doubtful parts listed per outline; findings.json lists all."""


@dataclass(frozen=True, slots=True)
class ReportBar:
    """One signed bar of the sequence relevance."""

    name: str
    value: float | None
    start: float
    percent: float
    """Start and length in percent of the width."""
    overlap_alone: float | None = None
    overlap_without: float | None = None
    """Overlap predicted from this sequence alone, and from all others."""


@dataclass(frozen=True, slots=True)
class CandidateSection:
    """Content of one candidate's section."""

    row: CandidateRow
    location: str
    state: str
    size: str
    """Both diameters."""
    measured_part: str
    """The part of the candidate that the diameters measure."""
    rano: str
    """Whether it is measurable by the RANO criteria."""
    summary: str
    """The candidate in one sentence."""
    facts: tuple[tuple[str, str], ...]
    """Tuple of (name, value), in order."""
    pictures: CandidatePictures
    bars: tuple[ReportBar, ...]
    deciding_sequence_text: str
    trusted: bool
    """Whether the attention map is shown."""


def sections_of(
    analysis: Analysis,
    content: FindingsFile,
    scene: SliceScene,
    sentences: Sentences,
    texts: ReportTexts,
) -> tuple[CandidateSection, ...]:
    """Return one section per candidate, with images."""
    return tuple(
        _candidate_section(analysis, scene, texts, row, candidate, sentences.of(candidate))
        for row, candidate in zip(content.candidates, analysis.findings.candidates, strict=True)
    )


def _candidate_section(
    analysis: Analysis,
    scene: SliceScene,
    texts: ReportTexts,
    row: CandidateRow,
    candidate: Candidate,
    sentence: str,
) -> CandidateSection:
    map_checks = None if analysis.maps is None else analysis.maps.checks.get(Region.WT)
    map_reliable = map_checks is None or map_checks.reliable is not False
    trusted = map_reliable and row.attention.peak_inside is not False
    measured = texts.measured_part(enhancing=candidate.has_enhancing)
    size = texts(
        "size_short",
        long=texts.number(row.longest_axial_diameter_mm, 0),
        short=texts.number(row.perpendicular_diameter_mm, 0, "mm"),
    )
    location = texts.location_text(candidate.location)
    state = texts.entry("states", row.review.state)
    if candidate.source is Source.READER:
        state = f"{state}, {texts('added')}"
    rano = texts.yes_no(row.rano_measurable)
    if not counts_as_tumour(candidate, row.review.state):
        state = f"{state}, {texts('apart')}"
        rano = texts("rano_apart") if row.rano_measurable else rano
    attention = attention_text(
        row.attention, map_checks, texts, _uniform_multiple(analysis, row.id)
    )
    volume = texts.volume(row.volume_ml[Region.WT])
    return CandidateSection(
        row=row,
        location=location,
        state=state,
        size=size,
        measured_part=measured,
        rano=rano,
        summary=texts(
            "line", place=location, size=size, measured=measured, volume=volume, state=state
        ),
        facts=(
            *_facts(row, candidate, attention, rano, texts, has_t1c=analysis.prepared.has_t1c),
            *_reader_fact(row.review, texts, dated=Identity.DATE not in analysis.options.hidden),
            *_doubts(analysis, candidate, texts),
            (texts("f_sentence"), sentence),
        ),
        pictures=pictures.candidate_pictures(
            scene, candidate.id, analysis.prepared.reference, texts, trusted=trusted
        ),
        bars=() if shapley.is_uninformative(row.sequence_relevance) else bars_of(row, texts),
        deciding_sequence_text=_deciding(candidate, texts),
        trusted=trusted,
    )


def _facts(
    row: CandidateRow,
    candidate: Candidate,
    attention: str,
    rano: str,
    texts: ReportTexts,
    *,
    has_t1c: bool,
) -> tuple[tuple[str, str], ...]:
    volumes = {region.value: texts.volume(row.volume_ml[region]) for region in Region}
    if candidate.core_uncertain(has_t1c=has_t1c):
        volumes["tc"] = texts("uncertain_core", volume=volumes["tc"])
    size = texts("sizes", long=texts.number(row.longest_axial_diameter_mm, 1),
                 short=texts.number(row.perpendicular_diameter_mm, 1, "mm"),
                 rano=rano)  # fmt: skip
    x, y, z = (texts.number(value, 0) for value in row.centroid_mm)
    facts = [
        (texts("f_size", measured=texts.measured_part(enhancing=candidate.has_enhancing)), size),
        (texts("f_volume"), texts("volumes", **volumes)),
        (texts("f_centre"), texts("centre", x=x, y=y, z=z)),
        (texts("f_attention"), attention),
    ]
    if row.kind is not None:
        facts.append((texts("f_kind"), texts.looks_like(row.kind)))
    if row.apart and row.resemblance is not None:
        facts.append((texts("f_resemblance"), texts.class_probabilities_text(row.resemblance)))
    if row.uncertainty is not None:
        facts.append((texts("f_uncertainty"), texts.uncertainty_text(row.uncertainty)))
    return tuple(facts)


def _reader_fact(
    review: ReviewRow, texts: ReportTexts, *, dated: bool
) -> tuple[tuple[str, str], ...]:
    """Return reader, time and reason of a decision; empty if it has neither reader nor reason."""
    if not (review.reader or review.reason):
        return ()
    name = isolated(review.reader or texts("not_named"))
    parts = [name, moment(review.time) if review.time and dated else ""]
    reason = f": {isolated(texts.reason(review.reason))}" if review.reason else ""
    return ((texts("f_reader"), ", ".join(filter(None, parts)) + reason),)


def _doubts(
    analysis: Analysis, candidate: Candidate, texts: ReportTexts
) -> tuple[tuple[str, str], ...]:
    """Return the doubtful parts of a candidate's outline, largest first."""
    parts = analysis.findings.doubtful_of(candidate)
    return tuple(
        (texts("f_doubtful"), texts.doubtful_part_text(part)) for part in parts[:MAX_DOUBTS]
    )


def _deciding(candidate: Candidate, texts: ReportTexts) -> str:
    """Return the deciding sequence, or why there is none; empty without a comparison."""
    relevance = candidate.sequence_relevance
    if relevance is None:
        return ""
    if not shapley.deciding_text(relevance):
        return texts("adds_single")
    if shapley.is_uninformative(relevance):
        return texts("adds_equal")
    first = shapley.deciding_sequence(relevance)
    return texts("decides_none") if first is None else texts("decides", sequence=first.display_name)


def attention_text(
    row: MapAgreement, map_checks: MapChecks | None, texts: ReportTexts, times: float | None = None
) -> str:
    """Describe where the attention is, and why the map is unreliable, if it is.

    `times`, if known, is the candidate's attention in multiples of uniform attention.
    """
    if row.peak_inside is None:
        return texts("no_map")
    parts = [texts("peak_in" if row.peak_inside else "peak_out")]
    if row.mass_inside is not None:
        key = "mass_in" if times is None else "mass_in_nearest"
        parts.append(texts(key, percent=texts.percent(row.mass_inside)))
    text = ", ".join(parts)
    if times is not None:
        amount = texts.number(times, 0 if times >= 10 else 1)
        text += f"; {texts('looked_at', times=amount)}"
    if map_checks is not None and map_checks.reliable is False:
        return f"{text}; {texts.verdict(map_checks)}"
    return text if row.peak_inside else f"{text}: {texts('not_reliable')}"


def _uniform_multiple(analysis: Analysis, number: int) -> float | None:
    """Return a candidate's attention in multiples of uniform attention, if several share a map."""
    attention_map = analysis.volumes.attention.get(Region.WT)
    scale = 0.0 if analysis.maps is None else analysis.maps.scale_of(Region.WT)
    if attention_map is None or scale <= 1 or len(analysis.findings.candidates) < 2:
        return None
    return scale * float(attention_map.data[analysis.findings.components == number].mean())


def bars_of(row: CandidateRow, texts: ReportTexts) -> tuple[ReportBar, ...]:
    """Return the bars of a candidate's sequence relevance; together they fill the width."""
    if row.sequence_relevance is None:
        return ()
    values = row.sequence_relevance
    present_values = [value for value in values.values() if value is not None]
    low, high = min(0.0, *present_values, 0.0), max(0.0, *present_values, 0.0)
    value_range = (high - low) or 1.0
    alone, left_out = row.score_alone or {}, row.score_left_out or {}
    names = {key.value: key.display_name for key in SEQUENCE_KEYS} | {"none": texts("without_any")}
    return tuple(
        ReportBar(
            name,
            value := values[key],
            start=100 * (min(value or 0.0, 0.0) - low) / value_range,
            percent=100 * abs(value or 0.0) / value_range,
            overlap_alone=alone.get(key),
            overlap_without=left_out.get(key),
        )
        for key, name in names.items()
    )
