"""Texts of the report in one language, with number and time formats.

A catalogue is a TOML file in `export/languages`, or one of the user's own with the same keys.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import cache, lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

from lesionlens.analysis.explain.faithfulness import faults_of, too_coarse
from lesionlens.base.errors import UnusableInputError
from lesionlens.base.files.bounded_read import read_toml
from lesionlens.base.labels import LesionClass, Source
from lesionlens.base.records.attention import MapChecks
from lesionlens.base.records.findings import (
    HIGH_UNCERTAINTY,
    MIN_MENTIONED_PROBABILITY,
    UNCERTAIN_PLACE,
    Appearance,
    Candidate,
    DoubtfulPart,
    Location,
)
from lesionlens.base.records.followup import change_text
from lesionlens.base.text import abbreviated_list, millilitres, percent_digits, score_digits
from lesionlens.results.export.language_checks import REASSURING_WORDS, differences, texts_of
from lesionlens.results.export.messages import Messages

LANGUAGES = ("en", "de")
"""Languages in the package."""
_MAX_LISTED_PROBLEMS = 5


class ReportTexts:
    """Texts of one language.

    Parameters
    ----------
    table : mapping
        Texts by key, with `{places}`, and tables of closed sets.

    Examples
    --------
    >>> load("de").step("baseline 2026-01-05: 61.2 → 30.0 ml, -51.0% (limit -65%)")
    'Ausgangswert 2026-01-05: 61,2 → 30,0 ml, -51,0 % (Grenze -65 %)'
    >>> load("de").step("no measurable enhancing disease on examination 2")
    'Keine messbare anreichernde Erkrankung (Untersuchung 2)'
    """

    def __init__(self, table: Mapping[str, Any]) -> None:
        self._table = table
        self.message = Messages(table.get("messages", {}), table["decimal"])
        """Translates a check, notice or step, which are stored in English."""
        self.reason = Messages(table.get("reasons", {}), table["decimal"]).entries
        """Translates reasons that the window offers or adds; other text is unchanged."""
        steps = table.get("response_steps", {})
        self.step = Messages(steps, table["decimal"], self._step_value).whole
        """Translates a line of a response's computation; an unknown line is unchanged."""

    def __call__(self, key: str, /, **values: object) -> str:
        """Return a text with its placeholders filled."""
        text: str = self._table[key]
        return text.format(**values) if values else text

    def number(self, value: float | None, digits: int = 1, unit: str = "") -> str:
        """Format a number with its unit, or a dash if there is none.

        Examples
        --------
        >>> load("en").number(41.26, 1, "mm"), load("de").number(41.26, 1, "mm")
        ('41.3 mm', '41,3 mm')
        >>> load("en").number(-0.4, 0)
        '0'
        """
        if value is None:
            return self("unknown")
        return f"{value:z.{digits}f} {unit}".strip().replace(".", self("decimal"))

    def volume(self, value: float | None) -> str:
        """Format ml with suitable digits, or a dash if the volume is unknown.

        Examples
        --------
        >>> [load("de").volume(value) for value in (61.23, 0.094, 0.004, 0.0)]
        ['61,2 ml', '0,09 ml', '<0,01 ml', '0 ml']
        """
        if value is None:
            return self("unknown")
        return f"{millilitres(value)} ml".replace(".", self("decimal"))

    def score(self, value: float | None) -> str:
        """Format a score, never as 0 or 1; a dash if there is none."""
        text = self("unknown") if value is None else score_digits(value)
        return text.replace(".", self("decimal"))

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
        """Return a candidate's location; an unknown region is unchanged.

        Examples
        --------
        >>> location = Location("left", "temporal lobe")
        >>> load("en").location_text(location), load("de").location_text(location)
        ('left temporal lobe', 'Temporallappen links')
        """
        lobe, side = self.lobe(location), self.side(location)
        parts = self("place", words=location.text, lobe=lobe, side=side).split()
        return " ".join(parts) or self("place_unknown")

    def side(self, location: Location) -> str:
        """Return a candidate's side; empty if unknown."""
        return "" if location.side is None else self.entry("sides", location.side)

    def lobe(self, location: Location) -> str:
        """Return a candidate's lobe or region; empty if unknown.

        Examples
        --------
        >>> load("de").lobe(Location("left", "temporal lobe and insula (uncertain)"))
        'Temporallappen und Insel (unsicher)'
        """
        region = location.region or ""
        names = region.removesuffix(UNCERTAIN_PLACE)
        joined = f" {self('and')} ".join(self.entry("lobes", name) for name in names.split(" and "))
        return f"{joined} ({self('uncertain_place')})" if names != region else joined

    def _step_value(self, name: str, value: str) -> str:
        """Translate a value of a computation line: location and diameters, a number, a date."""
        if name == "category":
            return f"{value} ({self.entry('responses', value)})"
        if name == "place":
            location, comma, size = value.rpartition(", ")
            if not comma or not size[:1].isdigit():
                return self.translated_location(value)
            return f"{self.translated_location(location)}, {size.replace('.', self('decimal'))}"
        if name in ("day", "days", "makers"):
            return self.days(value)
        return value.replace(".", self("decimal"))

    def days(self, text: str) -> str:
        """Translate names of examinations; those without a date of their own are numbered.

        Examples
        --------
        >>> load("de").days("2026-01-05 (examination 2), examination 3")
        '2026-01-05 (Untersuchung 2), Untersuchung 3'
        """
        return re.sub(
            r"\bexamination (\d+)", lambda match: self("fu_examination", n=match[1]), text
        )

    def translated_location(self, text: str) -> str:
        """Translate a location that is stored as text; an unknown one is unchanged.

        Examples
        --------
        >>> load("de").translated_location("left temporal and parietal lobes")
        'Temporallappen und Parietallappen links'
        >>> [load("de").translated_location(text) for text in ("both occipital lobes", "left")]
        ['Okzipitallappen beidseits', 'links']
        """
        locations: dict[str, Location] = {}
        names = list(self._table["lobes"])
        for region in [None, *names, *(f"{a} and {b}" for a in names for b in names if a != b)]:
            for side in (*self._table["sides"], None):
                location = Location(side, region)
                locations.setdefault(location.text, location)
        certain_text = text.removesuffix(UNCERTAIN_PLACE)
        if certain_text not in locations:
            return text
        location = locations[certain_text]
        return self.location_text(
            Location(location.side, location.region and location.region + text[len(certain_text) :])
        )

    def signed_percent(self, value: float | None, limits: tuple[float, float] | None = None) -> str:
        """Format a change in percent with its sign; on its side of `limits` that are shown too.

        Examples
        --------
        >>> [load("de").signed_percent(value) for value in (12.34, -3.21, -0.01, None)]
        ['+12 %', '-3,2 %', '+0,0 %', '–']
        >>> [load("en").signed_percent(value, (-50, 25)) for value in (24.6, 25.4)]
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
        >>> [load("de").percent_beside_limits(value, (-50, 25)) for value in values]
        ['+24,6 %', '+24,98 %', '-50,0 %', '–']
        """
        if value is None:
            return self("unknown")
        return self._in_percent(change_text(value, limits[value > 0], digits))

    def _listed_probability(self, table: str, name: str, probability: float) -> str:
        return f"{self.entry(table, name)} {self._in_percent(percent_digits(probability))}"

    def _in_percent(self, number: str) -> str:
        return self("in_percent", number=number.replace(".", self("decimal")))

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
        apart = sum(c.apart for c in all_candidates)
        count = len(all_candidates) - added - apart
        sentence = self("conclusion_one") if count == 1 else self("conclusion_many", n=count)
        rejected_count = sum(c.source is not Source.READER and not c.apart for c in rejected)
        if count == 0:
            key = "conclusion_rejected" if rejected_count else "conclusion_none"
            key = "conclusion_not_accepted" if omitted else key
            sentence = self(key, n=rejected_count + omitted)
        additions = [self("conclusion_added", n=added)] if added else []
        additions += [self("conclusion_apart", n=apart)] if apart else []
        return " ".join([f"{sentence.rstrip('.')}.", *additions]) if additions else sentence

    def uncertainty_text(self, value: float) -> str:
        """Return the engine's uncertainty in words.

        Examples
        --------
        >>> load("en").uncertainty_text(0.24)
        '0.24 (0 certain, 1 undecided)'
        """
        return self(
            "unsure" if value < HIGH_UNCERTAINTY else "very_unsure", value=self.number(value, 2)
        )

    def doubtful_part_text(self, part: DoubtfulPart) -> str:
        """Describe a doubtful part of an outline: size, position and reason.

        Examples
        --------
        >>> from lesionlens.base.labels import MrSequence
        >>> part = DoubtfulPart(1, 1, 2.04, (1, -20, 5), 0.7, (MrSequence.FLAIR,), (MrSequence.T2,))
        >>> load("en").doubtful_part_text(part)
        '2.0 ml about 1, -20, 5 mm: shown by FLAIR; T2 against it'
        """
        x, y, z = (self.number(value, 0) for value in part.centroid_mm)
        in_favour, against = (
            ", ".join(sequence.display_name for sequence in names)
            for names in (part.in_favour, part.against)
        )
        reason = self("doubt_shown", sequences=in_favour) if in_favour else self("doubt_none")
        if against:
            reason += self("doubt_against", sequences=against)
        return self("doubt", volume=self.volume(part.volume_ml), x=x, y=y, z=z, why=reason)

    def looks_like(self, kind: Appearance) -> str:
        """Return what a candidate looks like, with the likeliest kinds and a caution.

        Examples
        --------
        >>> from lesionlens.base.labels import LesionKind
        >>> probabilities = {kind: 0.04 for kind in LesionKind} | {LesionKind.GLIOMA: 0.76}
        >>> load("en").looks_like(Appearance(LesionKind.GLIOMA, probabilities))
        'glioma 76% (research use, not a diagnosis)'
        """
        listed = ", ".join(
            self._listed_probability("appearances", lesion_kind.value, probability)
            for lesion_kind, probability in kind.ranked
            if probability >= MIN_MENTIONED_PROBABILITY
        )
        return self("no_kind" if kind.looks_like is None else "kind", listed=listed)

    def class_probabilities_text(self, probabilities: Mapping[LesionClass, float]) -> str:
        """Return the engine's own class probabilities, highest first, with a caution."""
        ranked = sorted(probabilities.items(), key=lambda item: -item[1])
        listed = (
            self._listed_probability("kinds", lesion_class.value, probability)
            for lesion_class, probability in ranked
        )
        return self("resemblance", shares=", ".join(listed))

    def check(self, name: str) -> str:
        """Return the displayed name of an input check; "missing" would read like a failure."""
        label: str = self._table["checks"].get(name) or {"missing": "sequences"}.get(name, name)
        return label

    def verdict(self, checks: MapChecks) -> str:
        """Return the verdict on an attention map.

        Examples
        --------
        >>> load("en").verdict(MapChecks(False, 0.6, 0.02))
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
        >>> load("de").entry("responses", "PD"), load("en").entry("states", "edited")
        ('Progress', 'edited')
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


def load(language: str) -> ReportTexts:
    """Return a language's texts.

    Parameters
    ----------
    language : str
        A name of `LANGUAGES`, or the path of a TOML file with the keys of `languages/en.toml`.

    Raises
    ------
    UnusableInputError
        Unknown language, or the file lacks a key or has other placeholders.
    """
    if language in LANGUAGES:
        return _builtin_texts(language)
    path = Path(language)
    if path.suffix != ".toml" or not path.is_file():
        raise UnusableInputError(
            found=f"no language {language!r}",
            expected=f"{' or '.join(LANGUAGES)}, or a TOML file with the keys of en.toml",
            next_step="Copy en.toml from lesionlens/results/export/languages and translate it",
        )
    status = path.stat()
    return _own_texts(path, (status.st_mtime_ns, status.st_size))


@cache
def _builtin_texts(language: str) -> ReportTexts:
    return ReportTexts(_builtin_table(language))


@lru_cache(maxsize=4)
def _own_texts(path: Path, _version: tuple[int, int]) -> ReportTexts:
    """Return the texts of a file, which is read again after it was edited."""
    try:
        table = read_toml(path)
    except (OSError, ValueError) as error:
        raise _unusable(path, f"that is not a TOML file ({error})") from error
    unusable_keys = differences(table, _builtin_table("en"))
    if unusable_keys:
        listed = abbreviated_list(unusable_keys, _MAX_LISTED_PROBLEMS)
        problem = f"with missing, unknown or unusable texts, or other {{places}}, in: {listed}"
        raise _unusable(path, problem)
    if reassuring := REASSURING_WORDS.search("\n".join(texts_of(table))):
        raise _unusable(
            path, f"that says {reassuring[0]!r}", "words that exclude nothing: a result never does"
        )
    return ReportTexts(table)


def _builtin_table(language: str) -> dict[str, Any]:
    file = resources.files("lesionlens.results.export") / "languages" / f"{language}.toml"
    return tomllib.loads(file.read_text(encoding="utf-8"))


def _unusable(
    path: Path, problem: str, expected: str = "every key of en.toml, with its {places}"
) -> UnusableInputError:
    return UnusableInputError(
        found=f"a language file {path.name!r} {problem}",
        expected=expected,
        next_step="Compare it with en.toml in lesionlens/results/export/languages",
    )
