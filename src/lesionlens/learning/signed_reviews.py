"""What readers signed, as cases to learn from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lesionlens.base.errors import UnusableInputError
from lesionlens.base.labels import ReviewState
from lesionlens.evaluation.cases import patients_table
from lesionlens.records.review import WHOLE_STUDY
from lesionlens.review.reopen import SavedResult, is_result, read_result
from lesionlens.training.references import RealCase, reviewed_case

NOTHING_SEEN, ADDED = "nothing seen", "added"
COUNTED = ("accepted", "edited", ADDED, "rejected", NOTHING_SEEN)


@dataclass(frozen=True, slots=True)
class SignedReview:
    """One signed study.

    Parameters
    ----------
    case : RealCase
        Its images, and the truth that the reader left.
    counts : mapping of str to int
        Candidates by what became of them, as in `COUNTED`; `NOTHING_SEEN` is 1 of a study whose
        truth is empty.
    weights_sha256 : str
        Of the weights whose candidates were reviewed; empty of another engine.
    drawn_by_weights : bool
        Whether every outline that stands is as those weights drew it.
    """

    case: RealCase
    counts: Mapping[str, int]
    weights_sha256: str
    drawn_by_weights: bool


@dataclass(frozen=True, slots=True)
class Gathered:
    """What a folder of results holds to learn from.

    Parameters
    ----------
    reviews : tuple of SignedReview
        By name.
    left_out : tuple of (str, str)
        Name of a result and why it teaches nothing yet.
    """

    reviews: tuple[SignedReview, ...]
    left_out: tuple[tuple[str, str], ...]

    @property
    def counts(self) -> Mapping[str, int]:
        """The sums over all reviews."""
        total: Counter[str] = Counter()
        for one in self.reviews:
            total.update(one.counts)
        return {key: total[key] for key in COUNTED}


def gather(results: Path, studies: Path) -> Gathered:
    """Read which results are signed, and what they teach.

    Parameters
    ----------
    results : Path
        One result folder a study, as `batch` writes them; `patients.tsv` may say whose they are.
    studies : Path
        The studies, under the same names.

    Raises
    ------
    UnusableInputError
        There is no result, or none that is signed.
    """
    folders = [p for p in sorted(results.iterdir()) if p.is_dir() and is_result(p)] \
        if results.is_dir() else []  # fmt: skip
    said = patients_table(results) if folders else {}
    reviews, left_out = [], []
    for folder in folders:
        saved = read_result(folder)
        if saved.review.signed is None:
            left_out.append((folder.name, "not signed"))
            continue
        try:
            case = reviewed_case(folder, studies, said.get(folder.name))
        except UnusableInputError as error:
            left_out.append((folder.name, error.found))
            continue
        reviews.append(_signed(case, saved))
    if not reviews:
        raise UnusableInputError(
            found=f"no signed review among {len(folders)} results in {results.name!r}",
            expected="results of `lesionlens batch` that a reader has signed",
            next_step="Read them in napari and sign each, then start again",
        )
    return Gathered(tuple(reviews), tuple(left_out))


def _signed(case: RealCase, saved: SavedResult) -> SignedReview:
    review, counts = saved.review, Counter[str]()
    for one in saved.findings.candidates:
        counts[review.state_of(one.tracking_uid).value] += 1
    own = {one.tracking_uid for one in saved.findings.candidates}
    kept = [u for u in review.added if u not in own and review.state_of(u).decided]
    counts[ADDED] = sum(review.state_of(u) is not ReviewState.REJECTED for u in kept)
    stands = counts["accepted"] + counts["edited"] + counts[ADDED]
    counts[NOTHING_SEEN] = int(not stands)
    redrawn = any(uid != WHOLE_STUDY for uid in review.outlined)
    return SignedReview(
        case,
        {key: counts[key] for key in COUNTED},
        saved.run.engine.weights_sha256 or "",
        drawn_by_weights=bool(stands) and not redrawn,
    )
