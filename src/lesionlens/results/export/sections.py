"""Report sections of candidates."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from lesionlens.analysis.explain import shapley
from lesionlens.base.labels import Identity, Region, Source
from lesionlens.base.records.analysis import Analysis
from lesionlens.base.records.attention import MapChecks
from lesionlens.base.records.files import CandidateRow
from lesionlens.base.records.findings import (
    SEQUENCE_KEYS,
    MapAgreement,
)
from lesionlens.base.text import isolated
from lesionlens.results.export import pictures
from lesionlens.results.export.pictures import CandidatePictures
from lesionlens.results.export.report_texts import ReportTexts, moment
from lesionlens.results.export.sentence import Sentences
from lesionlens.results.export.slices import SliceScene


@dataclass(frozen=True, slots=True)
class ReportBar:
    """One signed bar of the sequence relevance."""

    name: str
    value: float | None
    start: float
    percent: float
    """Start and length in percent of the width."""
    dice_without: float | None = None
    """Overlap without this sequence."""


@dataclass(frozen=True, eq=False)
class CandidateSection:
    """Content of one candidate's section; each part is made once, when it is first read."""

    analysis: Analysis
    scene: SliceScene
    sentences: Sentences
    texts: ReportTexts
    row: CandidateRow

    @property
    def location(self) -> str:
        """Where it is."""
        return self.texts.location_text(self.row.location)

    @property
    def state(self) -> str:
        """Review state, and whether a reader added it."""
        texts, is_added = self.texts, self.row.source is Source.READER
        state = texts.entry("states", self.row.review.state)
        return f"{state}, {texts('added')}" if is_added else state

    @property
    def size(self) -> str:
        """Both diameters."""
        long, short = self._diameters
        return self.texts("size_short", long=long, short=short)

    @property
    def _diameters(self) -> tuple[str, str]:
        """Both as text, to a tenth of a millimetre: whole ones hide which side of a limit."""
        row, number = self.row, self.texts.number
        long = number(row.longest_axial_diameter_mm, 1)
        return long, number(row.perpendicular_diameter_mm, 1, "mm")

    @property
    def measured_part(self) -> str:
        """The part of the candidate that the diameters measure."""
        return self.texts.measured_part(enhancing=self.row.has_enhancing)

    @property
    def rano(self) -> str:
        """Whether it is measurable by the RANO criteria."""
        return self.texts.yes_no(self.row.rano_measurable)

    @property
    def summary(self) -> str:
        """The candidate in one sentence."""
        return self.texts(
            "line",
            place=self.location,
            size=self.size,
            measured=self.measured_part,
            volume=self.texts.volume(self.row.volume_ml[Region.WT]),
            state=self.state,
        )

    @property
    def _map_checks(self) -> MapChecks | None:
        return None if self.analysis.maps is None else self.analysis.maps.checks.get(Region.WT)

    @property
    def trusted(self) -> bool:
        """Whether the attention map is shown."""
        checks = self._map_checks
        is_reliable = checks is None or checks.reliable is not False
        return is_reliable and self.row.attention.peak_inside is not False

    @cached_property
    def pictures(self) -> CandidatePictures:
        """The images."""
        reference, trusted = self.analysis.reference, self.trusted
        return pictures.candidate_pictures(
            self.scene, self.row.id, reference, self.texts, trusted=trusted
        )

    @property
    def bars(self) -> tuple[ReportBar, ...]:
        """The contribution of each sequence; empty if it tells nothing."""
        is_empty = shapley.is_uninformative(self.row.sequence_relevance)
        return () if is_empty else bars_of(self.row, self.texts)

    @property
    def deciding_sequence_text(self) -> str:
        """The deciding sequence, or why there is none; empty without a comparison."""
        relevance, texts = self.row.sequence_relevance, self.texts
        if relevance is None:
            return ""
        if not shapley.deciding_text(relevance):
            return texts("adds_single")
        if shapley.is_uninformative(relevance):
            return texts("adds_equal")
        first = shapley.deciding_sequence(relevance)
        if first is None:
            return texts("decides_none")
        return texts("decides", sequence=first.display_name)

    @cached_property
    def facts(self) -> tuple[tuple[str, str], ...]:
        """Tuple of (name, value), in order."""
        texts, row = self.texts, self.row
        long, short = self._diameters
        x, y, z = (texts.number(value, 0) for value in row.centroid_mm)
        facts = [
            (texts("f_size", measured=self.measured_part),
             texts("sizes", long=long, short=short, rano=self.rano)),
            (texts("f_volume"), self._volumes),
            (texts("f_centre"), texts("centre", x=x, y=y, z=z)),
            (texts("f_attention"), self._attention),
        ]  # fmt: skip
        if row.class_probabilities is not None:
            classes = texts.class_probabilities_text(row.class_probabilities)
            facts.append((texts("f_classes"), classes))
        if row.uncertainty is not None:
            facts.append((texts("f_uncertainty"), texts.uncertainty_text(row.uncertainty)))
        if row.review.reader or row.review.reason:
            facts.append((texts("f_reader"), self._decision))
        return (*facts, (texts("f_sentence"), self.sentences.of(row)))

    @property
    def _volumes(self) -> str:
        texts = self.texts
        volumes = {region.value: texts.volume(self.row.volume_ml[region]) for region in Region}
        if self.row.core_uncertain(has_t1c=self.analysis.has_t1c):
            volumes["tc"] = texts("uncertain_core", volume=volumes["tc"])
        return texts("volumes", **volumes)

    @property
    def _attention(self) -> str:
        times = _uniform_multiple(self.analysis, self.row.id)
        return attention_text(self.row.attention, self._map_checks, self.texts, times)

    @property
    def _decision(self) -> str:
        """Reader, time and reason of the decision."""
        texts, review = self.texts, self.row.review
        is_dated = review.time and Identity.DATE not in self.analysis.options.hidden
        name = isolated(review.reader or texts("not_named"))
        parts = (name, moment(review.time or "") if is_dated else "")
        reason = f": {isolated(review.reason)}" if review.reason else ""
        return ", ".join(filter(None, parts)) + reason


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
    dice_without = row.dice_without or {}
    names = {key.value: key.display_name for key in SEQUENCE_KEYS} | {"none": texts("without_any")}
    return tuple(
        ReportBar(
            name,
            value := values[key],
            start=100 * (min(value or 0.0, 0.0) - low) / value_range,
            percent=100 * abs(value or 0.0) / value_range,
            dice_without=dice_without.get(key),
        )
        for key, name in names.items()
    )
