"""De-identify a result: names, files, times and tracking UIDs before it is written.

`deidentify` returns an analysis without them, which exporters write as usual; `finish` then cleans
the DICOM objects, whose other UIDs come from the study, and text that still has an original UID.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

from lesionlens.base.dates import ISO_DATE
from lesionlens.base.labels import REFERENCE_ORDER, Identity
from lesionlens.base.records.analysis import Analysis
from lesionlens.base.records.findings import Findings
from lesionlens.base.records.followup import Comparison, TimePoint
from lesionlens.base.records.response import SignedResponse, in_order
from lesionlens.base.records.review import NO_CANDIDATE, Review, ReviewEvent, UnaidedRead
from lesionlens.base.records.study import (
    PreparationStep,
    QualityCheck,
    Series,
    Study,
    StudyKind,
)
from lesionlens.imaging.deidentification.clean import (
    REMOVED,
    Cleaner,
    identifying_words,
    patient_id,
)
from lesionlens.imaging.deidentification.folder import deidentify_files
from lesionlens.imaging.deidentification.profile import Options
from lesionlens.imaging.deidentification.pseudonyms import Pseudonyms
from lesionlens.imaging.deidentification.vocabulary import is_plain
from lesionlens.imaging.reading.dicom.bounded import quiet_header
from lesionlens.results.export.names import names_of, replace_names

PICTURES_OF_THE_HEAD = (
    "The pictures in this result show slices of the head as scanned; they were not defaced "
    "(Clean Recognizable Visual Features, 113102, was not applied)"
)
Rules = Mapping[type[Any], Mapping[str, Callable[[Any], Any]]]
"""By class of a record and name of a field: returns the new value."""
_ORDER: Rules = {
    SignedResponse: {"measures": in_order},
    TimePoint: {"tangled": lambda uids: tuple(sorted(uids))},
}
"""Fields that are stored in the order of their tracking UIDs."""
_UID_FIELDS = frozenset({"tracking_uid", "uid", "tangled", "own_uids"})
"""Fields of records that hold tracking UIDs of candidates and marks."""
_TEXT_SUFFIXES = frozenset({".csv", ".html", ".json", ".tsv", ".txt"})
_QUOTED = re.compile(r'"[^"]*"|(?<!\w)\'(?:[^\'\\]|\\.)*\'(?!\w)')
"""Quoted text in a notice, which may be any name from the study; not an apostrophe."""


@dataclass(frozen=True, slots=True)
class Deidentified:
    """A de-identified analysis, and the cleaner for its files."""

    analysis: Analysis
    """The analysis with the same voxels, findings and decisions."""
    cleaner: Cleaner
    new_uids: Mapping[str, str]
    """Tracking UID in the analysis by the original one."""

    def finish(self, folder: Path) -> None:
        """Clean the DICOM objects of a staged result and UIDs that its text files still have."""
        deidentify_files(sorted((folder / "dicom").glob("*.dcm")), self.cleaner)
        for path in folder.rglob("*"):
            if path.suffix in _TEXT_SUFFIXES:
                text = path.read_text(encoding="utf-8")
                path.write_text(replace_names(text, self.new_uids), encoding="utf-8")


def deidentify(analysis: Analysis, pseudonyms: Pseudonyms, options: Options) -> Deidentified:
    """Remove what identifies the patient from an analysis.

    Names of the study, its files and series, readers' names and reasons, input digests and times
    are removed or replaced as in DICOM objects, including those in warnings, of earlier
    examinations and in a signed response.

    Parameters
    ----------
    pseudonyms, options
        The same as for the study itself, so that both remain consistent.
    """
    study = analysis.study
    patient, identifying = _patient_of(study)
    name, shift = pseudonyms.patient(patient), pseudonyms.date_shift_days(patient)
    days = 0 if options.full_dates else shift
    replacements = dict.fromkeys(names_of(study), name) | _session_names(analysis.followup)

    def clean(text: str) -> str:
        renamed_text = replace_names(_without_other_names(text, replacements), replacements)
        return _with_shifted_dates(renamed_text, days)

    def new_uid(uid: str | None) -> str | None:
        return uid if options.keep_uids or uid is None else pseudonyms.uid(uid)

    all_series = {
        key: _deidentified_series(series, key.value) for key, series in study.series.items()
    }
    notices = (PICTURES_OF_THE_HEAD, *map(clean, study.notices))
    nameless_study = replace(study, name=name, series=all_series, set_aside=(), notices=notices)
    new_uids = {uid: new_uid(uid) or uid for uid in tracking_uids(analysis)}
    pseudonym_uids = frozenset(new_uids.values())
    rules = _rules(clean, new_uid, days, _aliases(analysis.review))
    renamed = with_uids(analysis, new_uids).with_findings(lambda f: _rewritten(f, rules))
    run, prepared = renamed.run, analysis.prepared
    return Deidentified(
        replace(
            renamed,
            study=replace(nameless_study, uid=new_uid(study.uid), selected=None),
            prepared=replace(
                prepared,
                notices=tuple(map(clean, prepared.notices)),
                steps=_rewritten(prepared.steps, rules),
                quality=_rewritten(prepared.quality, rules),
            ),
            run=replace(
                run,
                inputs=(),
                series={},
                preparation=_rewritten(analysis.preparation, rules),
                notices=tuple(map(clean, run.notices)),
                started=_shift_time(run.started, days),
            ),
            options=replace(analysis.options, hidden=frozenset(Identity)),
            review=_rewritten(renamed.review, rules),
            followup=_rewritten(renamed.followup, rules),
        ),
        Cleaner(options, pseudonyms, identifying, pseudonym_uids, {study.uid or "": patient}),
        new_uids,
    )


def _patient_of(study: Study) -> tuple[str, frozenset[str]]:
    """Return the patient's identifier, or the study's name, and identifying words.

    The reference states the identifier, as the DICOM objects copy its header; without one it is the
    only identifier of the other images, as in `deidentify_folder`, or else the study's UID.
    """
    reference = next(study.series[s] for s in REFERENCE_ORDER if s in study.series)
    file = reference.files[0] if reference.uid else study.header_file
    if study.kind is not StudyKind.DICOM or file is None:
        return study.name, frozenset()
    patients = {
        file.patient for series in study.all_series for file in series.files if file.patient
    }
    ids = {patient.id for patient in patients if patient.id}
    with quiet_header(file.path, force=True) as header:
        known_id = patient_id(header) or (ids.pop() if len(ids) == 1 else "")
        return known_id or str(header.get("StudyInstanceUID") or ""), identifying_words(header)


def _deidentified_series(series: Series, key: str) -> Series:
    files = tuple(
        replace(file, name=f"{key}/{number:04d}") for number, file in enumerate(series.files, 1)
    )
    evidence = series.detected_by
    if not is_plain(evidence.replace("SeriesDescription", "").strip(" '")):
        evidence = "its header"
    return replace(series, files=files, description=key, detected_by=evidence)


def _rules(
    clean: Callable[[str], str],
    new_uid: Callable[[str | None], str | None],
    days: int,
    aliases: Mapping[str, str],
) -> Rules:
    """Return how fields with names, free text and dates are rewritten, other than tracking UIDs."""

    def cleaned(texts: Iterable[str]) -> tuple[str, ...]:
        return tuple(map(clean, texts))

    def moved(time: str) -> str:
        return _shift_time(time, days)

    def alias(reader: str | None) -> str | None:
        return aliases.get(reader or "")

    return {
        Findings: {"notices": cleaned},
        QualityCheck: {"message": clean},
        PreparationStep: {"message": clean},
        TimePoint: {"date": lambda day: _shift_date(day, days), "study_uid": new_uid},
        ReviewEvent: {"reader": alias, "reason": lambda _: None, "time": moved},
        UnaidedRead: {"reader": alias, "begun": moved, "time": moved, "statement": clean},
        SignedResponse: {
            "reader": lambda reader: aliases.get(reader, ""),
            "time": moved,
            "baseline": clean,
            "nadir": clean,
            "steps": cleaned,
        },
    }


def _aliases(review: Review) -> dict[str, str]:
    """Return the numbered alias of each reader."""
    statements: Iterable[Any] = (*review.unaided, *review.events, *review.responses)
    readers = dict.fromkeys(statement.reader for statement in statements if statement.reader)
    return {reader: f"reader {n}" for n, reader in enumerate(readers, 1)}


def _session_names(comparison: Comparison | None) -> dict[str, str]:
    """Return the ordinal of each examination that is called by a session name for want of a date.

    A signed response states these names too. Names of one or two characters identify nobody, and
    occur in other words.
    """
    points = enumerate(() if comparison is None else comparison.points, 1)
    return {
        point.date: f"examination {number}"
        for number, point in points
        if len(point.date) > 2 and not is_plain(point.date) and not ISO_DATE.match(point.date)
    }


def _without_other_names(text: str, known: Container[str]) -> str:
    """Remove quoted names that are not `known`, such as that of a series without usable images."""

    def cleaned(quoted: re.Match[str]) -> str:
        name = quoted[0][1:-1]
        return quoted[0] if name in known or is_plain(name) else f'"{REMOVED}"'

    return _QUOTED.sub(cleaned, text)


def _with_shifted_dates(text: str, days: int) -> str:
    """Shift every ISO 8601 date in a sentence back by days."""
    return ISO_DATE.sub(lambda day: _shift_date(day[0], days), text)


def _shift_date(day: str, days: int) -> str:
    """Shift an ISO 8601 date back by days; the name of an undated session becomes empty."""
    try:
        return (date.fromisoformat(day) - timedelta(days)).isoformat()
    except (ValueError, OverflowError):
        return ""


def _shift_time(time: str, days: int) -> str:
    """Shift an ISO 8601 time back by days; an invalid time becomes empty."""
    try:
        return (datetime.fromisoformat(time) - timedelta(days)).isoformat(timespec="seconds")
    except (ValueError, OverflowError):
        return ""


def tracking_uids(analysis: Analysis) -> frozenset[str]:
    """Return every tracking UID of candidates and marks, including earlier examinations'."""
    candidates = analysis.findings.candidates, analysis.network.findings.candidates
    uids = _uids_in((candidates, analysis.review, analysis.followup))
    return frozenset(uids) - NO_CANDIDATE


def _uids_in(record: object, *, is_uid: bool = False) -> Iterator[str]:
    """Yield the tracking UIDs in a record and its parts; `is_uid`: whether texts are UIDs."""
    if isinstance(record, str):
        yield from (record,) * is_uid
    elif isinstance(record, Mapping):
        yield from _uids_in((*record.values(), *(record if is_uid else ())), is_uid=is_uid)
    elif isinstance(record, tuple):
        for item in record:
            yield from _uids_in(item, is_uid=is_uid)
    elif is_dataclass(record):
        for part in fields(record):
            yield from _uids_in(getattr(record, part.name), is_uid=part.name in _UID_FIELDS)


def with_uids(analysis: Analysis, new_uids: Mapping[str, str]) -> Analysis:
    """Return an analysis with other tracking UIDs; voxels, findings and decisions are the same.

    Parameters
    ----------
    new_uids : mapping of str to str
        The new UID of each of `tracking_uids`.
    """

    def new_uid(text: str) -> str:
        return new_uids.get(text, text)

    redrawn = frozenset(new_uids[uid] for uid in analysis.run.redrawn)
    return replace(
        analysis.with_findings(lambda findings: findings.renamed(new_uids)),
        run=replace(analysis.run, redrawn=redrawn),
        review=_rewritten(analysis.review.renamed(new_uids), _ORDER, new_uid),
        followup=_rewritten(analysis.followup, _ORDER, new_uid),
    )


def _rewritten(record: Any, rules: Rules, text: Callable[[str], str] = lambda text: text) -> Any:
    """Return a record with its text, and that of all its parts, rewritten; then by the rules."""
    if isinstance(record, str):
        return text(record)
    if isinstance(record, Mapping):
        items = record.items()
        return {_rewritten(k, rules, text): _rewritten(v, rules, text) for k, v in items}
    if isinstance(record, tuple):
        return tuple(_rewritten(item, rules, text) for item in record)
    if not is_dataclass(record) or isinstance(record, type):
        return record
    rewritten = {f.name: _rewritten(getattr(record, f.name), rules, text) for f in fields(record)}
    changes = rules.get(type(record), {})
    return replace(record, **rewritten | {n: rule(rewritten[n]) for n, rule in changes.items()})
