"""Report sections of candidates."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from lesionlens.analysis.explain import shapley
from lesionlens.base.labels import Identity, MrSequence, Region, Source
from lesionlens.base.records.analysis import Analysis
from lesionlens.base.records.attention import MapChecks
from lesionlens.base.records.files import CandidateRow
from lesionlens.base.records.findings import (
    SEQUENCE_KEYS,
    MapAgreement,
)
from lesionlens.base.text import isolated
from lesionlens.results.export import pictures, wording
from lesionlens.results.export.pictures import CandidatePictures
from lesionlens.results.export.sentence import Sentences
from lesionlens.results.export.slices import SliceScene
from lesionlens.results.export.wording import moment


@dataclass(frozen=True, slots=True)
class ReportBar:
    """One signed bar of the sequence relevance."""

    name: str
    value: float | None
    start: float
    percent: float
    """Start and length in percent of the width."""
    """Overlap without this sequence."""


@dataclass(frozen=True, eq=False)
class CandidateSection:
    """Content of one candidate's section; each part is made once, when it is first read."""

    analysis: Analysis
    scene: SliceScene
    sentences: Sentences

    row: CandidateRow

    @property
    def location(self) -> str:
        """Where it is."""
        return wording.location_text(self.row.location)

    @property
    def state(self) -> str:
        """Review state, and whether a reader added it."""
        is_added = self.row.source is Source.READER
        state = self.row.review.state.value
        return f"{state}, added by a reader" if is_added else state

    @property
    def size(self) -> str:
        """Both diameters."""
        long, short = self._diameters
        return f"{long} × {short}"

    @property
    def _diameters(self) -> tuple[str, str]:
        """Both as text, to a tenth of a millimetre: whole ones hide which side of a limit."""
        row, number = self.row, wording.number
        long = number(row.longest_axial_diameter_mm, 1)
        return long, number(row.perpendicular_diameter_mm, 1, "mm")

    @property
    def measured_part(self) -> str:
        """The part of the candidate that the diameters measure."""
        return wording.measured_part(enhancing=self.row.has_enhancing)

    @property
    def rano(self) -> str:
        """Whether it is measurable by the RANO criteria."""
        return wording.yes_no(self.row.rano_measurable)

    @property
    def summary(self) -> str:
        """The candidate in one sentence."""
        whole = wording.volume(self.row.volume_ml[Region.WT])
        size = f"{self.size} ({self.measured_part})"
        return f"{self.location}: {size}, {whole} whole; {self.state}"

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
        return pictures.candidate_pictures(self.scene, self.row.id, reference, trusted=trusted)

    @property
    def bars(self) -> tuple[ReportBar, ...]:
        """The contribution of each sequence; empty if it tells nothing."""
        is_empty = shapley.is_uninformative(self.row.sequence_relevance)
        return () if is_empty else bars_of(self.row)

    @property
    def deciding_sequence_text(self) -> str:
        """The deciding sequence, or why there is none; empty without a comparison."""
        relevance = self.row.sequence_relevance
        if relevance is None:
            return ""
        if not shapley.deciding_text(relevance):
            return wording.ADDS_SINGLE
        if shapley.is_uninformative(relevance):
            return wording.ADDS_EQUAL
        first = shapley.deciding_sequence(relevance)
        if first is None:
            return "No single sequence decides."
        return f"{first.display_name} decides most."

    @cached_property
    def facts(self) -> tuple[tuple[str, str], ...]:
        """Tuple of (name, value), in order."""
        row = self.row
        long, short = self._diameters
        x, y, z = (wording.number(value, 0) for value in row.centroid_mm)
        facts = [
            (f"Size of the {self.measured_part}",
             f"{long} × {short}; RANO measurable: {self.rano}"),
            ("Volume", self._volumes),
            ("Centre", f"{x}, {y}, {z} mm (plus is right, anterior, superior)"),
            ("Attention", self._attention),
        ]  # fmt: skip
        if row.class_probabilities is not None:
            classes = wording.class_probabilities_text(row.class_probabilities)
            facts.append(("Class", classes))
        overlaps = [
            f"{MrSequence(key).display_name} {wording.number(value, 2)}"
            for key, value in (row.dice_without or {}).items()
            if value is not None
        ]
        if overlaps:
            facts.append(("Overlap (Dice) without", ", ".join(overlaps)))
        if row.uncertainty is not None:
            facts.append(("Uncertainty", wording.uncertainty_text(row.uncertainty)))
        if row.review.reader or row.review.reason:
            facts.append(("Reader", self._decision))
        return (*facts, ("Sentence to paste", self.sentences.of(row)))

    @property
    def _volumes(self) -> str:
        whole, core, enhancing = (wording.volume(self.row.volume_ml[region]) for region in Region)
        if self.row.core_uncertain(has_t1c=self.analysis.has_t1c):
            core = f"{core} (uncertain without T1c)"
        return f"{whole} whole, {core} core, {enhancing} enhancing"

    @property
    def _attention(self) -> str:
        times = _uniform_multiple(self.analysis, self.row.id)
        return attention_text(self.row.attention, self._map_checks, times)

    @property
    def _decision(self) -> str:
        """Reader, time and reason of the decision."""
        review = self.row.review
        is_dated = review.time and Identity.DATE not in self.analysis.options.hidden
        name = isolated(review.reader or "not named")
        parts = (name, moment(review.time or "") if is_dated else "")
        reason = f": {isolated(review.reason)}" if review.reason else ""
        return ", ".join(filter(None, parts)) + reason


def attention_text(
    row: MapAgreement, map_checks: MapChecks | None, times: float | None = None
) -> str:
    """Describe where the attention is, and why the map is unreliable, if it is.

    `times`, if known, is the candidate's attention in multiples of uniform attention.
    """
    if row.peak_inside is None:
        return "no map"
    parts = [("its peak lies in the region" if row.peak_inside else "its peak lies elsewhere")]
    if row.mass_inside is not None:
        part = "it" if times is None else "the attention nearest to it"
        parts.append(f"{wording.percent(row.mass_inside)}% of {part} inside")
    text = ", ".join(parts)
    if times is not None:
        amount = wording.number(times, 0 if times >= 10 else 1)
        text += f"; {amount} × uniform attention"
    if map_checks is not None and map_checks.reliable is False:
        return f"{text}; {map_checks.verdict}"
    return text if row.peak_inside else f"{text}: not reliable here"


def _uniform_multiple(analysis: Analysis, number: int) -> float | None:
    """Return a candidate's attention in multiples of uniform attention, if several share a map."""
    attention_map = analysis.volumes.attention.get(Region.WT)
    scale = 0.0 if analysis.maps is None else analysis.maps.scale_of(Region.WT)
    if attention_map is None or scale <= 1 or len(analysis.findings.candidates) < 2:
        return None
    return scale * float(attention_map.data[analysis.findings.components == number].mean())


def bars_of(row: CandidateRow) -> tuple[ReportBar, ...]:
    """Return the bars of a candidate's sequence relevance; together they fill the width."""
    if row.sequence_relevance is None:
        return ()
    values = row.sequence_relevance
    present_values = [value for value in values.values() if value is not None]
    low, high = min(0.0, *present_values, 0.0), max(0.0, *present_values, 0.0)
    value_range = (high - low) or 1.0
    names = {key.value: key.display_name for key in SEQUENCE_KEYS} | {"none": "without any"}
    return tuple(
        ReportBar(
            name,
            value := values[key],
            start=100 * (min(value or 0.0, 0.0) - low) / value_range,
            percent=100 * abs(value or 0.0) / value_range,
        )
        for key, name in names.items()
    )
