"""Signed reviews as training cases."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from lesionlens.analysis.evaluation.cases import PATIENTS_NAME, patients_table
from lesionlens.base.errors import ConfigError, UnusableInputError
from lesionlens.base.labels import ReviewState
from lesionlens.base.records.followup import compared_uids
from lesionlens.base.records.review import NO_CANDIDATE, Review, ReviewEvent, valid_and_undone
from lesionlens.results.review.reopen import read_result, results_in
from lesionlens.results.review.saved_result import SavedResult
from lesionlens.results.review.seen import outlines_of, signed_on_others
from lesionlens.site.cohort.studies import places_of
from lesionlens.site.database.records import StudyEntry
from lesionlens.site.database.worklist_database import existing_worklist_database, is_list
from lesionlens.site.worklist.own_log import marks_kept, reviews_kept
from lesionlens.training.references import RealCase, refuse_marks, reviewed_case

NOTHING_SEEN, ADDED, POINTED = "nothing seen", "added", "outlined by prompts"
COUNTED = ("accepted", "edited", ADDED, "rejected", NOTHING_SEEN, POINTED)


@dataclass(frozen=True, slots=True)
class SignedReview:
    """One signed study."""

    case: RealCase
    """Its images with the signed outlines as reference."""
    counts: Mapping[str, int]
    """Number of candidates by outcome, as in `COUNTED`; `NOTHING_SEEN` is 1 for a study with an
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
        for one in self.reviews:
            total.update(one.counts)
        return {key: total[key] for key in COUNTED}


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
    if not results.is_dir():
        raise ConfigError(
            found=f"no folder {results.name!r}",
            expected="results of `lesionlens batch` or of a worklist that a reader has signed",
            next_step="Check the path",
        )
    folders = results_in(results)
    patients = patients_table(results) if folders else {}
    entries = _entries_of(results)
    places = studies_of(results, studies)
    read = partial(read_signed, readers=(*readers, *readers_of(results)))
    reviews: list[SignedReview] = []
    unknown = sorted(patients.keys() - {folder.name for folder in folders})
    left_out = [
        (name, f"{PATIENTS_NAME} names it, and no result has this name") for name in unknown
    ]
    for folder in folders:
        if folder.name not in places:
            left_out.append((folder.name, "its study is not in the list"))
            continue
        try:
            saved = read(folder)
            unsigned = _why_unsigned(saved)
            if unsigned:
                left_out.append((folder.name, unsigned))
                continue
            place = places[folder.name]
            listed = entries[folder.name].patient if folder.name in entries else ""
            case = reviewed_case(folder, place, patients.get(folder.name), read, listed)
            own = {event.reader for event in saved.review.events}
            refuse_marks(saved, folder.name, marks_kept(saved.run, own, folder.parent))
        except UnusableInputError as error:
            left_out.append((folder.name, error.found))
            continue
        reviews.append(_signed(case, saved, place))
    if not reviews or (left_out and len({one.case.patient for one in reviews}) < 2):
        found = "no signed review" if not reviews else "signed reviews of one patient"
        raise UnusableInputError(
            found=f"{found} among {len(folders)} results in {results.name!r}"
            + "".join(f"; {name} is not used: {why}" for name, why in left_out[:1]),
            expected="results of `lesionlens batch` or of a worklist that a reader has signed",
            next_step="Read them in napari and sign each; name the reader with --reader where they "
            "were not exported",
        )
    return Gathered(tuple(reviews), tuple(left_out))


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
    known = {one.tracking_uid for one in saved.findings.candidates}
    kept = reviews_kept(saved.run, (*readers, None), folder.parent)
    compared = compared_uids(saved.followup)
    found = (saved.review, *(one.renamed(compared).restricted_to(known) for one in kept))
    last = [one for one in found if not _went_on(one, found)]
    outlines = outlines_of(saved)
    signed = [one for one in last if one.signed is not None]
    valid = [one for one in signed if not signed_on_others(one, outlines)]
    if not signed:
        return replace(saved, review=last[0])
    latest = max(valid or signed, key=lambda review: review.events[-1].time)
    return replace(saved, review=latest)


def _why_unsigned(saved: SavedResult) -> str:
    """Return why a review may not be trained on; empty if its outlines are signed."""
    if saved.review.signed is None:
        return "not signed"
    if signed_on_others(saved.review, outlines_of(saved)):
        return "signed before it was analysed again, with other outlines"
    return ""


def _went_on(review: Review, others: Sequence[Review]) -> bool:
    """Return whether another review continues this one, and may have withdrawn its signature."""
    longer = (other for other in others if len(other.events) > len(review.events))
    return any(other.continues(review) for other in longer)


def studies_of(results: Path, studies: Path | None) -> dict[str, Path]:
    """Return the study of each result: from what `batch` was given, or from a worklist.

    Raises
    ------
    ConfigError
        No folder was given, and the results are not a worklist.
    """
    if studies is not None:
        folders = results.iterdir() if results.is_dir() else ()
        places = places_of(studies)
        return {one.name: places.get(one.name, studies / one.name) for one in folders}
    if not is_list(results):
        raise ConfigError(
            found=f"results in {results.name!r}, which hold no images",
            expected="the folder of the studies that they were made of, or a worklist's folder",
            next_step="Name it with --studies",
        )
    return {one.name: Path(one.place) for one in _entries_of(results).values() if one.place}


def _entries_of(results: Path) -> Mapping[str, StudyEntry]:
    """Return the entries of a worklist by name; empty for other folders."""
    if not is_list(results):
        return {}
    with existing_worklist_database(results, reading=True) as database:
        return {one.name: one for one in database.entries()}


def readers_of(results: Path) -> tuple[str, ...]:
    """Return the readers of a worklist; empty for other folders."""
    if not is_list(results):
        return ()
    with existing_worklist_database(results, reading=True) as database:
        return tuple(dict.fromkeys(read.key.reader for read in database.reads() if read.key.reader))


def _signed(case: RealCase, saved: SavedResult, path: Path) -> SignedReview:
    review, counts = saved.review, Counter[str]()
    for one in saved.findings.candidates:
        counts[review.state_of(one.tracking_uid).value] += 1
    own = {one.tracking_uid for one in saved.findings.candidates}
    kept = [
        u
        for u in review.added
        if u not in own and review.state_of(u).decided and not _is_gone(review, review.of(u))
    ]
    counts[ADDED] = sum(review.state_of(u) is not ReviewState.REJECTED for u in kept)
    stands = counts["accepted"] + counts["edited"] + counts[ADDED]
    counts[NOTHING_SEEN] = int(not stands)
    left = {u for u in (*own, *kept) if review.state_of(u) is not ReviewState.REJECTED}
    pointed = left & _pointed(review)
    counts[POINTED] = sum(not _is_gone(review, review.of(u)) for u in pointed)
    redrawn = any(uid not in NO_CANDIDATE for uid in review.outlined)
    return SignedReview(
        case,
        {key: counts[key] for key in COUNTED},
        saved.run.engine.weights_sha256 or "",
        drawn_by_weights=bool(stands) and not redrawn,
        study=path,
    )


def _pointed(review: Review) -> set[str]:
    """Return the candidates of whose current outlines prompts made a part.

    A brush that corrected it later leaves most of what they outlined, a split a part of it, and
    what is merged with it takes it over.
    """
    valid, _ = valid_and_undone(review.events)
    found, kept = set[str](), ""
    for event in valid:
        uid, follows = event.tracking_uid, event.with_previous
        if event.prompts or (follows and event.added is not None and kept in found):
            found.add(uid)
        if follows and uid in found and _is_gone(review, event):
            found.add(kept)
        kept = uid
    return found


def _is_gone(review: Review, event: ReviewEvent | None) -> bool:
    """Return whether an event gave all of a candidate's voxels to another one."""
    outline = None if event is None else review.outlines.get(event.outline or "")
    return outline is not None and outline.is_empty
