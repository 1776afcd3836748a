"""Anonymise a result: names, files, times and tracking UIDs before it is written.

`anonymous` returns an analysis without them, which exporters write as usual; `finish` then cleans
the DICOM objects, whose other UIDs come from the study, and text that still has an original UID.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from pathlib import Path

from lesionlens.base.labels import Identity
from lesionlens.base.records.analysis import Analysis
from lesionlens.base.records.findings import Findings
from lesionlens.base.records.followup import Change, Comparison, Measured, own_uids
from lesionlens.base.records.response import SignedResponse, in_order
from lesionlens.base.records.review import NO_CANDIDATE, Review, UnaidedRead
from lesionlens.base.records.study import Series, Study, StudyKind
from lesionlens.imaging.deidentification.clean import Cleaner, identifying_words
from lesionlens.imaging.deidentification.folder import FACES_REMAIN, deidentify_files
from lesionlens.imaging.deidentification.profile import Options
from lesionlens.imaging.deidentification.pseudonyms import Pseudonyms
from lesionlens.imaging.deidentification.vocabulary import is_plain
from lesionlens.imaging.reading.dicom.bounded import read_dicom
from lesionlens.results.export.names import names_of, replaced

_DAY = re.compile(r"\d{4}-\d\d-\d\d")
_TEXT = frozenset({".csv", ".html", ".json", ".tsv", ".txt"})


@dataclass(frozen=True, slots=True)
class Anonymous:
    """An anonymised analysis, and the cleaner for its files."""

    analysis: Analysis
    """The analysis with the same voxels, findings and decisions."""
    cleaner: Cleaner
    new_uids: Mapping[str, str]
    """Tracking UID in the analysis by the original one."""

    def finish(self, folder: Path) -> None:
        """Clean the DICOM objects of a staged result and UIDs that its text files still have."""
        deidentify_files(sorted((folder / "dicom").glob("*.dcm")), self.cleaner)
        for path in folder.rglob("*"):
            if path.suffix in _TEXT:
                text = path.read_text(encoding="utf-8")
                path.write_text(replaced(text, self.new_uids), encoding="utf-8")


def anonymous(analysis: Analysis, pseudonyms: Pseudonyms, options: Options) -> Anonymous:
    """Remove what identifies the patient from an analysis.

    Names of the study, its files and series, readers' names and reasons, input digests and times
    are removed or replaced as in DICOM objects, also in warnings, of earlier examinations and in a
    signed response.

    Parameters
    ----------
    pseudonyms, options
        The same as for the study itself, so that both remain consistent.
    """
    study = analysis.study
    patient, telling = _whose(study)
    name, shift = pseudonyms.patient(patient), pseudonyms.days(patient)
    days = 0 if options.full_dates else shift
    new = dict.fromkeys(names_of(study), name)

    def clean(text: str) -> str:
        return replaced(text, new)

    def renamed(uid: str | None) -> str | None:
        return uid if options.keep_uids or uid is None else pseudonyms.uid(uid)

    series = {key: _nameless(one, key.value) for key, one in study.series.items()}
    notices = (FACES_REMAIN, *map(clean, study.notices))
    hidden = replace(study, name=name, series=series, set_aside=(), notices=notices)
    prepared = analysis.prepared
    uids = {uid: renamed(uid) or uid for uid in tracking_uids(analysis)}
    named = with_uids(analysis, uids.__getitem__)
    run = named.run
    return Anonymous(
        replace(
            named,
            study=replace(hidden, uid=renamed(study.uid)),
            prepared=replace(
                prepared,
                notices=tuple(map(clean, prepared.notices)),
                steps=tuple(replace(s, message=clean(s.message)) for s in prepared.steps),
                quality=tuple(replace(q, message=clean(q.message)) for q in prepared.quality),
            ),
            run=replace(
                run,
                inputs=(),
                series={},
                notices=tuple(map(clean, run.notices)),
                started=_earlier(run.started, days),
            ),
            findings=_cleaned(named.findings, clean),
            original=None
            if named.original is None
            else replace(named.original, findings=_cleaned(named.original.findings, clean)),
            options=replace(analysis.options, hidden=frozenset(Identity)),
            review=_nobody(named.review, days),
            followup=_undated(named.followup, days, renamed),
        ),
        Cleaner(options, pseudonyms, telling, frozenset(uids.values())),
        uids,
    )


def _whose(study: Study) -> tuple[str, frozenset[str]]:
    """Return the patient's identifier, or the study's name, and identifying words."""
    if study.kind is not StudyKind.DICOM:
        return study.name, frozenset()
    path = next(iter(study.series.values())).files[0].path
    with warnings.catch_warnings(action="ignore"):
        header = read_dicom(path, stop_before_pixels=True, force=True)
        patient = header.get("PatientID") or header.get("StudyInstanceUID") or ""
        return str(patient), identifying_words(header)


def _nameless(series: Series, key: str) -> Series:
    files = tuple(
        replace(file, name=f"{key}/{number:04d}") for number, file in enumerate(series.files, 1)
    )
    evidence_words = series.detected_by
    evidence = (
        evidence_words
        if is_plain(evidence_words.replace("SeriesDescription", "").strip(" '"))
        else "its header"
    )
    return replace(series, files=files, description=key, detected_by=evidence)


def _cleaned(found: Findings, clean: Callable[[str], str]) -> Findings:
    """Return findings whose notices and quality checks name nobody."""
    quality = tuple(replace(q, message=clean(q.message)) for q in found.quality)
    return replace(found, notices=tuple(map(clean, found.notices)), quality=quality)


def _undated(
    found: Comparison | None, days: int, renamed: Callable[[str | None], str | None]
) -> Comparison | None:
    """Return a comparison whose examinations have shifted days and other Study Instance UIDs."""
    if found is None:
        return None
    points = tuple(
        replace(point, date=_day_earlier(point.date, days), study_uid=renamed(point.study_uid))
        for point in found.points
    )
    return replace(found, points=points)


def _nobody(review: Review, days: int) -> Review:
    """Return the decisions without readers' names and free text."""
    named = (
        *(u.reader for u in review.unaided),
        *(e.reader for e in review.events),
        *(r.reader for r in review.responses),
    )
    readers = dict.fromkeys(name for name in named if name)
    numbers = {reader: f"reader {n}" for n, reader in enumerate(readers, 1)}

    def signed(one: SignedResponse) -> SignedResponse:
        return replace(
            one,
            reader=numbers.get(one.reader, ""),
            time=_earlier(one.time, days),
            baseline=_DAY.sub(lambda day: _day_earlier(day[0], days), one.baseline),
            nadir=_DAY.sub(lambda day: _day_earlier(day[0], days), one.nadir),
            steps=tuple(_DAY.sub(lambda day: _day_earlier(day[0], days), s) for s in one.steps),
        )

    events = tuple(
        replace(
            e,
            reader=numbers.get(e.reader or ""),
            reason=None,
            time=_earlier(e.time, days),
            response=None if e.response is None else signed(e.response),
        )
        for e in review.events
    )
    unaided = tuple(
        replace(
            u,
            reader=numbers.get(u.reader or ""),
            begun=_earlier(u.begun, days),
            time=_earlier(u.time, days),
        )
        for u in review.unaided
    )
    responses = tuple(map(signed, review.responses))
    return replace(review, events=events, unaided=unaided, responses=responses)


def _day_earlier(day: str, days: int) -> str:
    """Shift an ISO 8601 date back by days; a session of another name becomes empty."""
    try:
        return (date.fromisoformat(day) - timedelta(days)).isoformat()
    except (ValueError, OverflowError):
        return ""


def _earlier(time: str, days: int) -> str:
    """Shift an ISO 8601 time back by days; an invalid time becomes empty."""
    try:
        return (datetime.fromisoformat(time) - timedelta(days)).isoformat(timespec="seconds")
    except (ValueError, OverflowError):
        return ""


NewUid = Callable[[str], str]
"""Returns the new tracking UID for an old one, the same for the same."""


def tracking_uids(analysis: Analysis) -> frozenset[str]:
    """Return every tracking UID of candidates and marks, also of earlier examinations."""
    review, original = analysis.review, analysis.original
    found = [analysis.findings, *([] if original is None else [original.findings])]
    known = {c.tracking_uid for findings in found for c in findings.candidates}
    known |= {e.tracking_uid for e in review.events} - NO_CANDIDATE
    known |= {o.tracking_uid for o in review.outlines.values()} - NO_CANDIDATE
    known |= {mark.uid for read in review.unaided for mark in read.marks}
    known |= {m.tracking_uid for r in _responses(review) for m in r.measures} - NO_CANDIDATE
    followup = analysis.followup
    known |= {uid for pair in own_uids(followup).items() for uid in pair}
    if followup is not None:
        known |= {uid for p in followup.points for uid in p.tangled}
        known |= {m.tracking_uid for p in followup.points for m in p.lesions}
        known |= {one.tracking_uid for one in followup.gone}
        sides = (m for c in followup.changes for m in (c.before, c.now))
        known |= {m.tracking_uid for m in sides if m is not None}
    return frozenset(known)


def with_uids(analysis: Analysis, new: NewUid) -> Analysis:
    """Return an analysis with other tracking UIDs; voxels, findings and decisions are the same.

    Parameters
    ----------
    new : callable
        Returns the new UID of each of `tracking_uids`.
    """
    original, followup = analysis.original, analysis.followup
    return replace(
        analysis,
        findings=_findings(analysis.findings, new),
        original=None
        if original is None
        else replace(original, findings=_findings(original.findings, new)),
        run=replace(analysis.run, redrawn=frozenset(map(new, analysis.run.redrawn))),
        review=_review(analysis.review, {uid: new(uid) for uid in tracking_uids(analysis)}, new),
        followup=None if followup is None else _comparison(followup, new),
    )


def _responses(review: Review) -> Iterable[SignedResponse]:
    """Yield the signed responses, and those that events withdraw."""
    yield from review.responses
    yield from (e.response for e in review.events if e.response is not None)


def _findings(found: Findings, new: NewUid) -> Findings:
    candidates = (replace(c, tracking_uid=new(c.tracking_uid)) for c in found.candidates)
    return replace(found, candidates=tuple(candidates))


def _review(review: Review, names: dict[str, str], new: NewUid) -> Review:
    renamed = review.renamed(names)
    events = (
        e if e.response is None else replace(e, response=_response(e.response, new))
        for e in renamed.events
    )
    return replace(
        renamed,
        events=tuple(events),
        unaided=tuple(_read(one, new) for one in review.unaided),
        responses=tuple(_response(one, new) for one in review.responses),
    )


def _read(read: UnaidedRead, new: NewUid) -> UnaidedRead:
    return replace(read, marks=tuple(replace(m, uid=new(m.uid)) for m in read.marks))


def _response(one: SignedResponse, new: NewUid) -> SignedResponse:
    """Rename the measured lesions."""
    measures = (
        m if m.tracking_uid in NO_CANDIDATE else replace(m, tracking_uid=new(m.tracking_uid))
        for m in one.measures
    )
    return replace(one, measures=in_order(measures))


def _comparison(found: Comparison, new: NewUid) -> Comparison:
    def measured(one: Measured) -> Measured:
        return replace(one, tracking_uid=new(one.tracking_uid))

    def change(one: Change) -> Change:
        before = None if one.before is None else measured(one.before)
        return replace(one, before=before, now=None if one.now is None else measured(one.now))

    points = (
        replace(
            point,
            lesions=tuple(map(measured, point.lesions)),
            tangled=tuple(sorted(map(new, point.tangled))),
        )
        for point in found.points
    )
    return replace(
        found,
        points=tuple(points),
        changes=tuple(map(change, found.changes)),
        own_uids={new(prior): new(own) for prior, own in found.own_uids.items()},
        gone=tuple(replace(one, tracking_uid=new(one.tracking_uid)) for one in found.gone),
    )
