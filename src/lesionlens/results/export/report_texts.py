"""Texts of the report, with number and time formats."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import cache
from importlib import resources
from typing import Any

from lesionlens.analysis.explain.faithfulness import faults_of, too_coarse
from lesionlens.base.labels import LesionClass, Source
from lesionlens.base.records.attention import MapChecks
from lesionlens.base.records.findings import (
    HIGH_UNCERTAINTY,
    Candidate,
    Location,
)
from lesionlens.base.records.followup import change_text
from lesionlens.base.text import millilitres, percent_digits, score_digits


class ReportTexts:
    """Texts by key, with `{places}`, and tables of closed sets."""

    def __init__(self, table: Mapping[str, Any]) -> None:
        self._table = table

    def __call__(self, key: str, /, **values: object) -> str:
        """Return a text with its placeholders filled."""
        text: str = self._table[key]
        return text.format(**values) if values else text

    def number(self, value: float | None, digits: int = 1, unit: str = "") -> str:
        """Format a number with its unit, or a dash if there is none.

        Examples
        --------
        >>> load().number(41.26, 1, "mm")
        '41.3 mm'
        >>> load().number(-0.4, 0)
        '0'
        """
        if value is None:
            return self("unknown")
        return f"{value:z.{digits}f} {unit}".strip()

    def volume(self, value: float | None) -> str:
        """Format ml with suitable digits, or a dash if the volume is unknown.

        Examples
        --------
        >>> [load().volume(value) for value in (61.23, 0.094, 0.004, 0.0)]
        ['61.2 ml', '0.09 ml', '<0.01 ml', '0 ml']
        """
        if value is None:
            return self("unknown")
        return f"{millilitres(value)} ml"

    def score(self, value: float | None) -> str:
        """Format a score, never as 0 or 1; a dash if there is none."""
        return self("unknown") if value is None else score_digits(value)

    def percent(self, fraction: float) -> str:
        """Format a fraction in percent, without the sign."""
        return self.number(100 * fraction, 0)

    def yes_no(self, value: bool | None) -> str:
        """Return a truth value in words."""
        return self("unknown") if value is None else self("yes" if value else "no")

    def measured_part(self, *, enhancing: bool) -> str:
        """Return the part that a candidate's diameters measure."""
        return self("measured_enhancing" if enhancing else "measured_whole")

    def location_text(self, location: Location) -> str:
        """Return a candidate's location."""
        return location.text or self("place_unknown")

    def signed_percent(self, value: float | None, limits: tuple[float, float] | None = None) -> str:
        """Format a change in percent with its sign; on its side of `limits` that are shown too.

        Examples
        --------
        >>> [load().signed_percent(value) for value in (12.34, -3.21, -0.01, None)]
        ['+12%', '-3.2%', '+0.0%', '–']
        >>> [load().signed_percent(value, (-50, 25)) for value in (24.6, 25.4)]
        ['+24.6%', '+25%']
        """
        if value is None:
            return self("unknown")
        digits = 0 if abs(value) >= 10 else 1
        if limits is not None:
            return self.percent_beside_limits(value, limits, digits)
        return self._in_percent(f"{value:+z.{digits}f}")

    def percent_beside_limits(
        self, value: float | None, limits: tuple[float, float], digits: int = 1
    ) -> str:
        """Format a change in percent so that it lies on its side of the limits shown beside it.

        Examples
        --------
        >>> values = (24.6, 24.98, -50.0, None)
        >>> [load().percent_beside_limits(value, (-50, 25)) for value in values]
        ['+24.6%', '+24.98%', '-50.0%', '–']
        """
        if value is None:
            return self("unknown")
        return self._in_percent(change_text(value, limits[value > 0], digits))

    def _listed_probability(self, table: str, name: str, probability: float) -> str:
        return f"{self.entry(table, name)} {self._in_percent(percent_digits(probability))}"

    def _in_percent(self, number: str) -> str:
        return self("in_percent", number=number)

    def conclusion(
        self, candidates: Iterable[Candidate], rejected: Iterable[Candidate] = (), omitted: int = 0
    ) -> str:
        """Return how many candidates were flagged and added; never a statement about disease.

        Parameters
        ----------
        rejected : iterable of Candidate
            Candidates that a reader rejected, if `candidates` are without them.
        omitted : int
            Number of candidates that imported DICOM objects omitted: see `RunInfo.omitted`.
        """
        all_candidates = list(candidates)
        added = sum(c.source is Source.READER for c in all_candidates)
        count = len(all_candidates) - added
        sentence = self("conclusion_one") if count == 1 else self("conclusion_many", n=count)
        rejected_count = sum(c.source is not Source.READER for c in rejected)
        if count == 0:
            key = "conclusion_rejected" if rejected_count else "conclusion_none"
            key = "conclusion_not_accepted" if omitted else key
            sentence = self(key, n=rejected_count + omitted)
        return f"{sentence.rstrip('.')}. {self('conclusion_added', n=added)}" if added else sentence

    def uncertainty_text(self, value: float) -> str:
        """Return the engine's uncertainty in words.

        Examples
        --------
        >>> load().uncertainty_text(0.24)
        '0.24 (0 certain, 1 undecided)'
        """
        return self(
            "unsure" if value < HIGH_UNCERTAINTY else "very_unsure", value=self.number(value, 2)
        )

    def class_probabilities_text(self, probabilities: Mapping[LesionClass, float]) -> str:
        """Return the engine's own class probabilities, highest first, with a caution."""
        ranked = sorted(probabilities.items(), key=lambda item: -item[1])
        listed = (
            self._listed_probability("kinds", lesion_class.value, probability)
            for lesion_class, probability in ranked
        )
        return self("classes", shares=", ".join(listed))

    def check(self, name: str) -> str:
        """Return the displayed name of an input check; "missing" would read like a failure."""
        label: str = {"missing": "sequences"}.get(name, name)
        return label

    def verdict(self, checks: MapChecks) -> str:
        """Return the verdict on an attention map.

        Examples
        --------
        >>> load().verdict(MapChecks(False, 0.6, 0.02))
        'not reliable here: its peak lies outside the flagged region'
        """
        if checks.peak_inside is None:
            return self("map_unchecked")
        faults = [self.entry("map_faults", fault) for fault in faults_of(checks)]
        if not faults and too_coarse(checks):
            return self("map_too_coarse", percent=self.percent(checks.attainable))
        if checks.reliable is False and not faults:  # by the checks of an earlier version
            return checks.verdict
        return self("map_unreliable", faults="; ".join(faults)) if faults else self("map_passed")

    def entry(self, table: str, key: str) -> str:
        """Return an entry of a table: a region's name, a review state, a label of a dialog.

        What the table lacks is unchanged.

        Examples
        --------
        >>> load().entry("responses", "PD")
        'progressive disease'
        """
        text: str = self._table[table].get(key, key)
        return text


def moment(text: str) -> str:
    """Format an ISO 8601 time to the minute, in UTC; other text is unchanged.

    Examples
    --------
    >>> moment("2026-01-05T11:15:00+01:00"), moment("some day")
    ('2026-01-05 10:15 UTC', 'some day')
    >>> moment("9999-12-31T23:00:00-05:00")
    '9999-12-31T23:00:00-05:00'
    """
    try:
        return datetime.fromisoformat(text).astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
    except (ValueError, OverflowError):
        return text


@cache
def load() -> ReportTexts:
    """Return the texts."""
    file = resources.files("lesionlens.results.export") / "report_texts.toml"
    return ReportTexts(tomllib.loads(file.read_text(encoding="utf-8")))
