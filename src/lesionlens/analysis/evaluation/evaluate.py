"""Score result folders, or plain segmentations, against reference segmentations, case by case.

A case that failed or has no result counts as Dice 0 and sensitivity 0, so that a crash never
improves a mean. Of a reviewed result, the network's own outlines and candidates are scored, without
the edits, additions and rejections of readers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from lesionlens.analysis.evaluation.cases import (
    Case,
    by_case,
    segmentation_of,
    segmentations_in,
)
from lesionlens.analysis.evaluation.score_case import score_case
from lesionlens.analysis.evaluation.scored_result import SEGMENTATION, is_result
from lesionlens.analysis.evaluation.summary import CaseScore
from lesionlens.base.errors import UnusableInputError
from lesionlens.base.provenance import sha256_of
from lesionlens.base.records.files import ORIGINAL
from lesionlens.base.run_context import SILENT, RunContext

ConventionOf = Callable[[Case], str | None]


def evaluate(
    predictions: Path,
    cases: Sequence[Case],
    convention_of: ConventionOf,
    context: RunContext = SILENT,
) -> list[CaseScore]:
    """Score every case.

    Parameters
    ----------
    predictions : Path
        One folder per case, as `analyze` writes it, or one NIfTI segmentation per case; or those of
        a single case.
    cases : sequence of Case
        Cases with their reference; one without a reference, or an empty one, counts as tumour-free.
    convention_of : callable
        Returns the label convention of a case, None to infer it from the labels.

    Raises
    ------
    UnusableInputError
        No case has a result, a reference is invalid, or a case's result is its reference.
    """
    result_paths = _result_paths(predictions, cases)
    if not result_paths:
        raise UnusableInputError(
            f"{predictions.name!r} holds no result of a reference case, such as {cases[0].name!r}.",
            hint="Run `lesionlens batch` on the cases, and give its folder first.",
        )
    all_plain = all(result_path.is_file() for result_path in result_paths.values())
    scores = []
    for number, case in enumerate(cases):
        context.progress(f"scoring {case.name}", number / len(cases))
        result_path = result_paths.get(case.name, predictions / case.name)
        _refuse_reference(case, result_path)
        scores.append(score_case(case, result_path, convention_of(case)))
        scores[-1].ranked &= not all_plain
    _omit_unsegmented(scores)
    _note_other_images(scores, cases)
    return scores


def _omit_unsegmented(scores: Sequence[CaseScore]) -> None:
    """Leave out regions that an engine does not segment: Dice 0 would be no measurement.

    A result without a candidate does not show which these are, nor does a failed case: they are
    those of the engine's other results, or of all results.
    """
    known = [(score.engine, score.unsegmented) for score in scores if score.unsegmented is not None]
    for score in scores:
        regions = score.unsegmented
        if regions is None:
            same = [found for engine, found in known if score.failed or engine == score.engine]
            regions = frozenset.intersection(*same) if same else frozenset()
        score.omit(regions)


def _refuse_reference(case: Case, result_path: Path) -> None:
    """Refuse a reference that would be compared with itself."""
    reference, scored = case.reference_path, _scored_file(result_path)
    if reference is not None and scored.is_file() and scored.samefile(reference):
        raise UnusableInputError(
            f"The reference of case {case.name!r}, {reference.name}, was named as its result.",
            hint="Give the results a folder of their own, and name that first.",
        )


def _scored_file(result_path: Path) -> Path:
    """Return the segmentation of a result: itself, or in its folder, the network's own."""
    if not result_path.is_dir():
        return result_path
    original = result_path / ORIGINAL / SEGMENTATION
    return original if original.is_file() else result_path / SEGMENTATION


def _note_other_images(scores: Sequence[CaseScore], cases: Sequence[Case]) -> None:
    """Report cases whose image was analysed for the result of another case, not for their own.

    If the results of other cases were made from the cases' own files, a case of which no image was
    analysed is reported too.
    """
    case_by_digest = {digest: score.case for score in scores for digest in score.inputs}
    compared = [
        (score, case, sha256_of(case.analysed(sequence, score.inputs).path))
        for score, case in zip(scores, cases, strict=True)
        if (sequence := case.reference_sequence) is not None and score.inputs
    ]
    has_own = [
        digest in score.inputs
        or any(sha256_of(i.path) in score.inputs for i in case.images.values())
        for score, case, digest in compared
    ]
    for (score, _, digest), is_own in zip(compared, has_own, strict=True):
        if digest in case_by_digest and digest not in score.inputs:
            score.problems.append(
                f"its image was analysed for the result of {case_by_digest[digest]}, not for its "
                "own: were names swapped?"
            )
        elif any(has_own) and not is_own:
            score.problems.append(
                "its images are not the files that were analysed: if they were replaced since, "
                "analyse it again"
            )


def results_without_reference(predictions: Path, cases: Sequence[Case]) -> tuple[str, ...]:
    """Return the names of results without a reference case, which `evaluate` ignores."""
    scored_paths = set(_result_paths(predictions, cases).values())
    if predictions in scored_paths:
        return ()
    folders = [path for path in sorted(predictions.iterdir()) if is_result(path)]
    segmentations = segmentations_in(predictions).values()
    return tuple(p.name for p in (*folders, *segmentations) if p not in scored_paths)


def _result_paths(predictions: Path, cases: Sequence[Case]) -> dict[str, Path]:
    """Return each case's result: a folder written by `analyze`, else a segmentation file."""
    names, result_paths = [case.name for case in cases], {}
    paths = by_case({path.name: path for path in predictions.iterdir()}, names)
    files = by_case(segmentations_in(predictions), names)
    for name in names:
        folder = paths.get(name, predictions / name)
        if len(cases) == 1 and not folder.is_dir() and name not in files:
            folder = predictions
        if is_result(folder):
            result_paths[name] = folder
        elif folder.is_dir() and (segmentation := segmentation_of(folder)) is not None:
            result_paths[name] = segmentation
        elif name in files:
            result_paths[name] = files[name]
    return result_paths
