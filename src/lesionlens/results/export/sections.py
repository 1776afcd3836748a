"""Report sections of candidates, in one language."""

from __future__ import annotations

from dataclasses import dataclass

from lesionlens.analysis.explain import shapley
from lesionlens.base.labels import Region, Source
from lesionlens.base.records.analysis import Analysis
from lesionlens.base.records.attention import MapChecks
from lesionlens.base.records.files import CandidateRow, FindingsFile
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
    words: ReportTexts,
) -> tuple[CandidateSection, ...]:
    """Return one section per candidate, with images."""
    return tuple(
        _candidate_section(analysis, scene, words, row, candidate, sentences.of(candidate))
        for row, candidate in zip(content.candidates, analysis.findings.candidates, strict=True)
    )


def _candidate_section(
    analysis: Analysis,
    scene: SliceScene,
    words: ReportTexts,
    row: CandidateRow,
    candidate: Candidate,
    sentence: str,
) -> CandidateSection:
    map_checks = None if analysis.maps is None else analysis.maps.checks.get(Region.WT)
    map_reliable = map_checks is None or map_checks.reliable is not False
    trusted = map_reliable and row.attention.peak_inside is not False
    size, measured = _size_text(row, words), words.measured_part(enhancing=candidate.has_enhancing)
    location, state = words.location_text(candidate.location), words.state(row.review.state)
    if candidate.source is Source.READER:
        state = f"{state}, {words('added')}"
    if candidate.apart:
        state = f"{state}, {words('apart')}"
    rano = words.yes_no(row.rano_measurable)
    if row.rano_measurable and not counts_as_tumour(candidate, row.review.state):
        rano = words("rano_apart")
    attention = attention_text(
        row.attention, map_checks, words, _uniform_multiple(analysis, row.id)
    )
    volume = words.volume(row.volume_ml[Region.WT])
    return CandidateSection(
        row=row,
        location=location,
        state=state,
        size=size,
        measured_part=measured,
        rano=rano,
        summary=words(
            "line", place=location, size=size, measured=measured, volume=volume, state=state
        ),
        facts=(
            *_facts(row, candidate, attention, rano, words),
            *_doubts(analysis, candidate, words),
            (words("f_sentence"), sentence),
        ),
        pictures=pictures.candidate_pictures(
            scene, candidate.id, analysis.prepared.reference, words, trusted=trusted
        ),
        bars=() if shapley.is_uninformative(row.sequence_relevance) else bars_of(row, words),
        deciding_sequence_text=_deciding(candidate, words),
        trusted=trusted,
    )


def _size_text(row: CandidateRow, words: ReportTexts) -> str:
    return words(
        "size_short",
        long=words.number(row.longest_axial_diameter_mm, 0),
        short=words.number(row.perpendicular_diameter_mm, 0, "mm"),
    )


def _facts(
    row: CandidateRow, candidate: Candidate, attention: str, rano: str, words: ReportTexts
) -> tuple[tuple[str, str], ...]:
    volumes = {region.value: words.volume(row.volume_ml[region]) for region in Region}
    if candidate.core_uncertain:
        volumes["tc"] = words("uncertain_core", volume=volumes["tc"])
    size = words("sizes", long=words.number(row.longest_axial_diameter_mm, 1),
                 short=words.number(row.perpendicular_diameter_mm, 1, "mm"),
                 rano=rano)  # fmt: skip
    x, y, z = (words.number(value, 0) for value in row.centroid_mm)
    facts = [
        (words("f_size", measured=words.measured_part(enhancing=candidate.has_enhancing)), size),
        (words("f_volume"), words("volumes", **volumes)),
        (words("f_centre"), words("centre", x=x, y=y, z=z)),
        (words("f_attention"), attention),
    ]
    if row.kind is not None:
        facts.append((words("f_kind"), words.looks_like(row.kind)))
    if row.apart and row.resemblance is not None:
        facts.append((words("f_resemblance"), words.class_probabilities_text(row.resemblance)))
    if row.uncertainty is not None:
        facts.append((words("f_uncertainty"), words.uncertainty_text(row.uncertainty)))
    review = row.review
    if review.reader or review.reason:
        name = isolated(review.reader or words("not_named"))
        reader_parts = [name, moment(review.time) if review.time else ""]
        reason = f": {isolated(words.reason(review.reason))}" if review.reason else ""
        reader_line = ", ".join(filter(None, reader_parts)) + reason
        facts.append((words("f_reader"), reader_line))
    return tuple(facts)


def _doubts(
    analysis: Analysis, candidate: Candidate, words: ReportTexts
) -> tuple[tuple[str, str], ...]:
    """Return the doubtful parts of a candidate's outline, largest first."""
    parts = analysis.findings.doubtful_of(candidate)
    return tuple(
        (words("f_doubtful"), words.doubtful_part_text(part)) for part in parts[:MAX_DOUBTS]
    )


def _deciding(candidate: Candidate, words: ReportTexts) -> str:
    """Return the deciding sequence, or why there is none; empty without a comparison."""
    relevance = candidate.sequence_relevance
    if relevance is None:
        return ""
    if not shapley.deciding_text(relevance):
        return words("adds_single")
    if shapley.is_uninformative(relevance):
        return words("adds_equal")
    first = shapley.deciding_sequence(relevance)
    return words("decides_none") if first is None else words("decides", sequence=first.display_name)


def attention_text(
    row: MapAgreement, map_checks: MapChecks | None, words: ReportTexts, times: float | None = None
) -> str:
    """Describe where the attention is, and why the map is unreliable, if it is.

    `times`, if known, is the candidate's attention in multiples of uniform attention.
    """
    if row.peak_inside is None:
        return words("no_map")
    parts = [words("peak_in" if row.peak_inside else "peak_out")]
    if row.mass_inside is not None:
        key = "mass_in" if times is None else "mass_in_nearest"
        parts.append(words(key, percent=words.percent(row.mass_inside)))
    text = ", ".join(parts)
    if times is not None:
        amount = words.number(times, 0 if times >= 10 else 1)
        text += f"; {words('looked_at', times=amount)}"
    if map_checks is not None and map_checks.reliable is False:
        return f"{text}; {words.verdict(map_checks)}"
    return text if row.peak_inside else f"{text}: {words('not_reliable')}"


def _uniform_multiple(analysis: Analysis, number: int) -> float | None:
    """Return a candidate's attention in multiples of uniform attention, if several share a map."""
    attention_map = analysis.volumes.attention.get(Region.WT)
    scale = 0.0 if analysis.maps is None else analysis.maps.scale_of(Region.WT)
    if attention_map is None or scale <= 1 or len(analysis.findings.candidates) < 2:
        return None
    return scale * float(attention_map.data[analysis.findings.components == number].mean())


def bars_of(row: CandidateRow, words: ReportTexts) -> tuple[ReportBar, ...]:
    """Return the bars of a candidate's sequence relevance; together they fill the width."""
    if row.sequence_relevance is None:
        return ()
    values = row.sequence_relevance
    present_values = [value for value in values.values() if value is not None]
    low, high = min(0.0, *present_values, 0.0), max(0.0, *present_values, 0.0)
    value_range = (high - low) or 1.0
    alone, left_out = row.score_alone or {}, row.score_left_out or {}
    names = {key.value: key.display_name for key in SEQUENCE_KEYS} | {"none": words("without_any")}
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
