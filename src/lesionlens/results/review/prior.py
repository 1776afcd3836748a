"""Find and open a prior examination: a saved result, a folder of results, or a study."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from lesionlens.analysis.followup import study_locations
from lesionlens.analysis.followup.patient import (
    Examination,
    Prior,
    check_same_patient,
    digests_of,
    examination_of,
    examination_of_result,
    input_rows,
    is_same_examination,
)
from lesionlens.base.errors import UnusableInputError
from lesionlens.base.files import read_object
from lesionlens.base.records.analysis import Analysis
from lesionlens.base.records.patient import IdentityMatch, PatientField
from lesionlens.base.records.study import Study
from lesionlens.base.run_context import RunContext
from lesionlens.base.storage import OLD, finish_in
from lesionlens.base.text import shown_day
from lesionlens.imaging.reading.open import SeveralStudiesError, UndecidedSeriesError, open_study
from lesionlens.results.review.pairing import OtherStudyError, paired
from lesionlens.results.review.reopen import (
    is_result,
    prepare_and_reopen,
    read_result,
    read_run,
    result_folder,
)

_NAME_PRIOR_STUDY = (
    "Name the folder of the images that the prior result was made of: --prior-study STUDY"
)
Analyse = Callable[[Study], Analysis]


class PriorImagesError(UnusableInputError):
    """The images of a prior result are no longer there; the user must provide their location."""


@dataclass(frozen=True, slots=True, eq=False)
class LocatedPrior:
    """A prior examination: its study, and its saved result if there is one."""

    examination: Examination
    study: Study
    result: Path | None
    confirmed: str = ""
    """What the user confirmed about the patient, for the record."""


class _SavedExamination(NamedTuple):
    """An examination of which a result was saved."""

    examination: Examination
    result: Path


def latest_result_before(
    folder: Path, now: Examination, digests: frozenset[str] = frozenset()
) -> Path:
    """Return the latest earlier result of the same patient below a folder.

    Of several results of that examination it is the one that was reviewed last.

    Parameters
    ----------
    folder : Path
        Folder with result folders, at most three levels deep.
    now : Examination
        This examination, with known patient and date. A result is of the same patient if no
        attribute contradicts.
    digests : frozenset of str
        SHA-256 of files of this examination: results of the same files are skipped.

    Raises
    ------
    UnusableInputError
        Patient or date are not known, there is no such result, or the latest is not known.
    """
    if not now.patient.known or not now.date:
        raise UnusableInputError(
            found="a study that names neither patient nor date",
            expected="a DICOM study, or BIDS names (sub-…_ses-…)",
            next_step="Name the prior result itself: --prior RESULT_DIR",
            in_window="Choose the folder of the prior result itself",
        )
    earlier = list(_earlier_examinations(folder, now, digests))
    matches = [
        saved
        for saved in earlier
        if saved.examination.patient.compared(now.patient).agreement is IdentityMatch.SAME
    ]
    if not matches:
        raise _no_earlier_result(now, earlier)
    latest = [
        saved
        for saved in matches
        if not any(other.examination.is_after(saved.examination) for other in matches)
    ]
    if not _are_one_examination(latest):
        raise UnusableInputError(
            found=f"several examinations of {shown_day(latest[0].examination.date)} there, whose "
            "order is unknown",
            expected="one that is the latest before this one",
            next_step="Name its result or study itself: --prior RESULT_DIR",
            in_window="Choose the folder of the prior result itself",
        )
    return max(
        (saved.result for saved in latest), key=lambda path: (_last_decision(path), str(path))
    )


def _are_one_examination(results: Sequence[_SavedExamination]) -> bool:
    """Return whether results are of one study, or without UIDs are linked by files in common.

    A result that names no files contradicts none.
    """
    if len({saved.examination.study_uid for saved in results}) > 1:
        return False
    if results[0].examination.study_uid is not None:
        return True
    separate: list[frozenset[str]] = []
    for digests in filter(None, (_input_digests(saved.result) for saved in results)):
        linked = [group for group in separate if group & digests]
        separate = [group for group in separate if not group & digests]
        separate.append(digests.union(*linked))
    return len(separate) <= 1


def _input_digests(result: Path) -> frozenset[str]:
    return frozenset(str(digest) for row in input_rows(result) if (digest := row.get("sha256")))


def _earlier_examinations(
    folder: Path, now: Examination, digests: frozenset[str]
) -> Iterator[_SavedExamination]:
    """Yield the saved examinations of any patient before this one; see `latest_result_before`."""
    for result in filter(is_result, _possible_results(folder)):
        examination = examination_of_result(result)
        is_same_study = examination.study_uid is not None and examination.study_uid == now.study_uid
        is_earlier = not is_same_study and examination.is_after(now) is False
        if is_earlier and digests.isdisjoint(_input_digests(result)):
            yield _SavedExamination(examination, result)


def _no_earlier_result(
    now: Examination, earlier: Iterable[_SavedExamination]
) -> UnusableInputError:
    """Return the error if no earlier result is of this patient."""
    compared = [saved.examination.patient.compared(now.patient) for saved in earlier]
    doubtful_count = sum(bool(c.conflicts) and PatientField.ID in c.agreeing for c in compared)
    found = "no earlier result of this patient there"
    if doubtful_count:
        found += f", only {doubtful_count} with this patient ID and another identity"
    return UnusableInputError(
        found=found,
        expected="one with the same patient ID (or BIDS subject), no contradicting name, "
        "birth date or sex, and an earlier day",
        next_step="Name the prior result or study itself: --prior RESULT_DIR",
        in_window="Choose the folder of the prior result itself",
    )


def find_prior(
    path: Path, current: Study, study: Path | None = None, *, same_patient: bool = False
) -> LocatedPrior:
    """Find a prior examination, without computing anything.

    Parameters
    ----------
    path : Path
        A result folder; a folder of results, of which the patient's latest earlier one is used; or
        a study.
    study : Path or None
        The study of the result, if it was moved since the analysis.
    same_patient : bool
        The user confirmed that both are of one patient, even if the files contradict.

    Raises
    ------
    PatientConflictError
        The prior is of another patient.
    UnusableInputError
        There is no prior, it is later or this examination itself (or a copy of it), or its study
        is not found, or the images are those of another.
    ReadError
        The result is damaged.
    """
    current_examination, path = examination_of(current), result_folder(path)
    if not is_result(path) and any(True for _ in _possible_results(path)):
        path = latest_result_before(path, current_examination, digests_of(current))
    result = path if is_result(path) else None
    if result is not None:
        opened = _study_of(result, study, same_patient=same_patient)
    elif study is None:
        with _about_prior("Name the folder of that one examination with --prior"):
            opened = open_study(path, same_patient=same_patient)
    else:
        raise UnusableInputError(
            found="a prior that is not a saved result, and a study of it",
            expected="a saved result and its study, or a study alone",
            next_step="Give the study with --prior, without --prior-study",
            in_window="Choose the folder of that examination's result",
        )
    prior_examination = examination_of(opened)
    if is_same_examination(current, opened):
        raise UnusableInputError(
            found="this same examination, or a copy of it, instead of an earlier one",
            expected="an earlier examination of the patient, with images of its own",
            next_step="Name the earlier one",
            in_window="Choose the earlier one",
        )
    confirmed = check_same_patient(
        current_examination, prior_examination, same_patient=same_patient
    )
    if result is not None:
        with _about_prior(_NAME_PRIOR_STUDY, *([PriorImagesError] if study is None else [])):
            paired(read_result(result, maps=False), opened)
    return LocatedPrior(prior_examination, opened, result, confirmed)


def open_prior(
    located: LocatedPrior,
    context: RunContext,
    analyse: Analyse | None = None,
) -> Prior:
    """Open a prior examination: prepare its images, read its result.

    Parameters
    ----------
    analyse : callable or None
        Analyses a study without a result; None if that is not possible.

    Raises
    ------
    UnusableInputError
        It has no result and cannot be analysed.
    ReadError
        The result is damaged, or of another study.
    """
    if located.result is not None:
        analysis = prepare_and_reopen(located.result, located.study, context)
        return Prior(located.examination, analysis, located.confirmed)
    if analyse is None:
        raise UnusableInputError(
            "The prior study was not analysed.", hint="Analyse the prior study first."
        )
    return Prior(located.examination, analyse(located.study), located.confirmed)


@contextmanager
def _about_prior(
    next_step: str, error_type: type[UnusableInputError] = UnusableInputError
) -> Iterator[None]:
    """Rewrite errors about images so that they name the option of the prior."""
    try:
        yield
    except (SeveralStudiesError, OtherStudyError, UndecidedSeriesError) as error:
        raise error_type(
            f"The images of the prior examination are not clear: {error.sentence}",
            hint=next_step,
            in_window="Compare again, and choose the folder of that examination's images",
        ) from error


def _possible_results(folder: Path) -> Iterator[Path]:
    """Yield folders with findings, recovered, at most three levels deep, none of them hidden."""
    for depth in ("*", "*/*", "*/*/*"):
        for parent in {path.parent for path in folder.glob(f"{depth[:-1]}.*{OLD}")}:
            finish_in(parent)
        for file in folder.glob(f"{depth}/findings.json"):
            if not any(part.startswith(".") for part in file.relative_to(folder).parts):
                yield file.parent


def _last_decision(result: Path) -> str:
    """Return the time of the last decision, ISO 8601; empty if there is none."""
    review = result / "review.json"
    events = read_object(review).get("events") if review.is_file() else None
    times = (event.get("time") for event in events or () if isinstance(event, dict))
    return max((time for time in times if isinstance(time, str)), default="")


def _study_of(result: Path, moved_to: Path | None, *, same_patient: bool) -> Study:
    """Open the study of a result from its stored or given location."""
    if moved_to is not None:
        uid = _uid_of(result)
        with _about_prior(_NAME_PRIOR_STUDY):
            return open_study(moved_to, study_uid=uid, same_patient=same_patient)
    recalled = study_locations.recall(read_run(result).inputs)
    if recalled is None:
        raise PriorImagesError(
            found="a prior result whose study is not where it was analysed, or was analysed "
            "elsewhere",
            expected="its images, which a result does not hold",
            next_step="Name their folder: --prior-study STUDY",
            in_window="Compare again, and choose the folder of that examination's images",
        )
    with _about_prior(_NAME_PRIOR_STUDY, PriorImagesError):
        return open_study(recalled[0], study_uid=recalled[1], same_patient=same_patient)


def _uid_of(result: Path) -> str | None:
    """Return the Study Instance UID that a result was made of."""
    uid = read_object(result / "run.json").get("study_uid")
    return None if uid is None else str(uid)
