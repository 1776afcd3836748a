"""Signed reviews as training cases."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from lesionlens.analysis.evaluation.cases import PATIENTS_NAME, by_case, patients_table
from lesionlens.analysis.findings.placed_outlines import place_outlines
from lesionlens.base.arguments import check_folder
from lesionlens.base.errors import ConfigError, UnusableInputError
from lesionlens.base.labels import ReviewState
from lesionlens.base.records.followup import compared_uids
from lesionlens.base.records.review import NO_CANDIDATE, Review, ReviewEvent, valid_and_undone
from lesionlens.base.text import counted, encodable
from lesionlens.results.review.outline_digests import is_signed_on_other_outlines, outlines_of
from lesionlens.results.review.reopen import read_result, results_in
from lesionlens.results.review.saved_result import SavedResult
from lesionlens.site.cohort.studies import study_paths_by_name
from lesionlens.site.database.records import StudyEntry
from lesionlens.site.database.worklist_database import (
    existing_worklist_database,
    is_worklist_folder,
)
from lesionlens.site.worklist.reader_log import logged_marks, logged_reviews
from lesionlens.training.references import RealCase, refuse_marks, reviewed_case

EMPTY_REFERENCE, ADDED, POINTED = "nothing seen", "added", "outlined by prompts"
OUTCOMES = ("accepted", "edited", ADDED, "rejected", EMPTY_REFERENCE, POINTED)


@dataclass(frozen=True, slots=True)
class SignedReview:
    """One signed study."""

    case: RealCase
    """Its images with the signed outlines as reference."""
    counts: Mapping[str, int]
    """Number of candidates by outcome, as in `OUTCOMES`; `EMPTY_REFERENCE` is 1 for a study with an
    empty reference, `POINTED` counts those of the first three whose outline was made with
    prompts.
    """
    weights_sha256: str
    """SHA-256 of the weights whose candidates were reviewed; empty for another engine."""
    drawn_by_weights: bool
    """Whether every remaining outline is unchanged from those weights."""
    study: Path
    """Folder of its images."""


@dataclass(frozen=True, slots=True)
class Gathered:
    """The signed reviews in a folder of results."""

    reviews: tuple[SignedReview, ...]
    """Sorted by name."""
    left_out: tuple[tuple[str, str], ...]
    """Name of a result and the reason why it is not used."""

    @property
    def counts(self) -> Mapping[str, int]:
        """Sums over all reviews."""
        total: Counter[str] = Counter()
        for review in self.reviews:
            total.update(review.counts)
        return {key: total[key] for key in OUTCOMES}


def gather(results: Path, studies: Path | None, readers: Sequence[str] = ()) -> Gathered:
    """Find the signed results below a folder.

    Parameters
    ----------
    results : Path
        One result folder per study, as written by `batch` or a worklist, which may name the
        patients; `patients.tsv` takes precedence.
    studies : Path or None
        The studies, under the same names; None if `results` is a worklist, which knows them.
    readers : sequence of str
        Further readers whose unexported decisions on this machine count, besides those of a
        worklist's readers and of an unnamed reader.

    Raises
    ------
    UnusableInputError
        There are no results, or none is signed.
    ConfigError
        There is no such folder.
    """
    check_folder(results, "results of `lesionlens batch` or of a worklist that a reader has signed")
    folders = results_in(results)
    names = [folder.name for folder in folders]
    patients = by_case(patients_table(results), names) if folders else {}
    sources = _ReviewSources(
        study_paths=studies_of(results, studies),
        patients=patients,
        entries=_entries_of(results),
        read=partial(read_signed, readers=(*readers, *readers_of(results))),
    )
    reviews: list[SignedReview] = []
    errors: dict[str, UnusableInputError] = {}
    unmatched_names = sorted(patients.keys() - set(names))
    left_out = [
        (name, f"{PATIENTS_NAME} names it, and no result has this name") for name in unmatched_names
    ]
    for folder in folders:
        name = encodable(folder.name)
        try:
            review = sources.signed_review(folder)
        except UnusableInputError as error:
            errors[name] = error
            left_out.append((name, error.found))
            continue
        if isinstance(review, str):
            left_out.append((name, review))
        else:
            reviews.append(review)
    gathered = Gathered(tuple(reviews), tuple(left_out))
    if not reviews or (left_out and len({review.case.patient for review in reviews}) < 2):
        raise _too_few(gathered, f"{counted(len(folders), 'result')} in {results.name!r}", errors)
    return gathered


@dataclass(frozen=True, slots=True)
class _ReviewSources:
    """What signed reviews are made of, by the name of a result."""

    study_paths: Mapping[str, Path]
    patients: Mapping[str, str]
    """From `patients.tsv`."""
    entries: Mapping[str, StudyEntry]
    """Of a worklist."""
    read: Callable[[Path], SavedResult]

    def signed_review(self, folder: Path) -> SignedReview | str:
        """Return the signed review of a result, or why it is not used.

        Raises
        ------
        UnusableInputError
            The result or its study cannot be used for training.
        """
        name = folder.name
        if name not in self.study_paths:
            return "its study is not in the list"
        saved = self.read(folder)
        if reason := _unsigned_reason(saved):
            return reason
        listed_patient = self.entries[name].patient if name in self.entries else ""
        case = reviewed_case(
            folder, self.study_paths[name], self.patients.get(name), self.read, listed_patient
        )
        review_readers = {event.reader for event in saved.review.events}
        refuse_marks(saved, name, logged_marks(saved.run, review_readers, folder.parent))
        return _signed_review(case, saved, self.study_paths[name])


def _too_few(
    gathered: Gathered, source: str, errors: Mapping[str, UnusableInputError]
) -> UnusableInputError:
    """Return the error of too few reviews, with the next step for the first unused result."""
    problem = "signed reviews of one patient" if gathered.reviews else "no signed review"
    name, reason = next(iter(gathered.left_out), ("", ""))
    found = f"{problem} among {source}" + (f"; {name} is not used: {reason}" if name else "")
    error = errors.get(name)
    if error is not None:
        return UnusableInputError(found=found, expected=error.expected, next_step=error.next_step)
    return UnusableInputError(
        found=found,
        expected="results of `lesionlens batch` or of a worklist that a reader has signed",
        next_step="Read them in napari and sign each; name the reader with --reader where they "
        "were not exported",
    )


def read_signed(folder: Path, readers: Sequence[str] = ()) -> SavedResult:
    """Read a result without its maps, with its last signed review: its own or one stored here.

    Parameters
    ----------
    folder : Path
        The result.
    readers : sequence of str
        Readers who may have signed, besides an unnamed one.
    """
    saved = read_result(folder, maps=False)
    candidate_uids = {candidate.tracking_uid for candidate in saved.findings.candidates}
    stored_reviews = logged_reviews(saved.run, (*readers, None), folder.parent)
    new_uids = compared_uids(saved.followup)
    stored = (r.renamed(new_uids).restricted_to(candidate_uids) for r in stored_reviews)
    reviews = (saved.review, *stored)
    uncontinued = [review for review in reviews if not _is_continued(review, reviews)]
    outlines = outlines_of(saved)
    signed = [review for review in uncontinued if review.signed is not None]
    valid = [review for review in signed if not is_signed_on_other_outlines(review, outlines)]
    if not signed:
        return replace(saved, review=uncontinued[0])
    latest = max(valid or signed, key=lambda signed_review: signed_review.events[-1].time)
    return replace(saved, review=latest)


def _unsigned_reason(saved: SavedResult) -> str:
    """Return the reason not to train on a review; empty if its outlines are signed."""
    if saved.review.signed is None:
        return "not signed"
    if is_signed_on_other_outlines(saved.review, outlines_of(saved)):
        return "signed before it was analysed again, with other outlines"
    return ""


def _is_continued(review: Review, others: Sequence[Review]) -> bool:
    """Return whether another review continues this one, and may have withdrawn its signature."""
    longer = (other for other in others if len(other.events) > len(review.events))
    return any(other.continues(review) for other in longer)


def studies_of(results: Path, studies: Path | None) -> dict[str, Path]:
    """Return the study of each result, from the input of `batch` or from a worklist.

    Raises
    ------
    ConfigError
        No folder was given, and the results are not a worklist.
    """
    if studies is not None:
        folders = list(results.iterdir()) if results.is_dir() else []
        study_paths = by_case(study_paths_by_name(studies), [entry.name for entry in folders])
        return {entry.name: study_paths.get(entry.name, studies / entry.name) for entry in folders}
    if not is_worklist_folder(results):
        raise ConfigError(
            found=f"results in {results.name!r}, which hold no images",
            expected="the folder of the studies that they were made of, or a worklist's folder",
            next_step="Name it with --studies",
        )
    return {entry.name: Path(entry.place) for entry in _entries_of(results).values() if entry.place}


def _entries_of(results: Path) -> Mapping[str, StudyEntry]:
    """Return the entries of a worklist by name; empty for other folders."""
    if not is_worklist_folder(results):
        return {}
    with existing_worklist_database(results, reading=True) as database:
        return {entry.name: entry for entry in database.entries()}


def readers_of(results: Path) -> tuple[str, ...]:
    """Return the readers of a worklist; empty for other folders."""
    if not is_worklist_folder(results):
        return ()
    with existing_worklist_database(results, reading=True) as database:
        return tuple(dict.fromkeys(read.key.reader for read in database.reads() if read.key.reader))


def _signed_review(case: RealCase, saved: SavedResult, path: Path) -> SignedReview:
    review, counts = saved.review, Counter[str]()
    placed = place_outlines(saved.findings, saved.volumes.labels, review, saved.run.omitted)
    merged_ids = {number for number, o in placed.outline_by_id.items() if o.is_empty}
    for candidate in saved.findings.candidates:
        if candidate.id not in merged_ids:
            counts[review.state_of(candidate.tracking_uid).value] += 1
    candidate_uids = {candidate.tracking_uid for candidate in saved.findings.candidates}
    added_uids = [
        uid
        for uid, number in placed.id_by_uid.items()
        if uid not in candidate_uids and number in placed.outline_by_id.keys() - merged_ids
    ]
    counts[ADDED] = sum(review.state_of(u) is not ReviewState.REJECTED for u in added_uids)
    accepted_count = counts["accepted"] + counts["edited"] + counts[ADDED]
    counts[EMPTY_REFERENCE] = int(not accepted_count)
    uids = (*candidate_uids, *added_uids)
    retained = {uid for uid in uids if review.state_of(uid) is not ReviewState.REJECTED}
    prompted = retained & _prompted_uids(review)
    counts[POINTED] = sum(not _is_emptied(review, review.of(u)) for u in prompted)
    redrawn = any(map(review.is_redrawn, {*review.outlined, *candidate_uids} - NO_CANDIDATE))
    return SignedReview(
        case,
        {key: counts[key] for key in OUTCOMES},
        saved.run.engine.weights_sha256 or "",
        drawn_by_weights=bool(accepted_count) and not redrawn,
        study=path,
    )


def _prompted_uids(review: Review) -> set[str]:
    """Return the candidates whose current outlines were made in part with prompts.

    A later brush stroke or a split leaves part of the prompted outline, and a candidate that
    another one was merged into takes over its outline.
    """
    valid, _ = valid_and_undone(review.events)
    prompted, previous_uid = set[str](), ""
    for event in valid:
        uid, is_linked = event.tracking_uid, event.with_previous
        if event.prompts or (is_linked and event.added is not None and previous_uid in prompted):
            prompted.add(uid)
        if is_linked and uid in prompted and _is_emptied(review, event):
            prompted.add(previous_uid)
        previous_uid = uid
    return prompted


def _is_emptied(review: Review, event: ReviewEvent | None) -> bool:
    """Return whether an event merged a candidate into another one."""
    outline = None if event is None else review.outlines.get(event.outline or "")
    return outline is not None and outline.is_empty
