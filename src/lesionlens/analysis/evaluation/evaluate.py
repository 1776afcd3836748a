"""Score result folders, or plain segmentations, against reference segmentations, case by case.

A case that failed or has no result counts as Dice 0 and sensitivity 0, so that a crash never
improves a mean. Of a reviewed result, what the network made is scored: its own outlines and
candidates, whatever readers edited, added or rejected.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lesionlens.analysis.evaluation import metrics
from lesionlens.analysis.evaluation.cases import (
    Case,
    read_volume,
    segmentation_of,
    segmentations_in,
)
from lesionlens.analysis.evaluation.explanation_metrics import measures
from lesionlens.analysis.evaluation.label_conventions import region_mask, translate
from lesionlens.analysis.evaluation.lesionwise import PENALTY_MM, lesion_wise
from lesionlens.analysis.evaluation.summary import CaseScore
from lesionlens.base.bounded_read import read_model, read_object
from lesionlens.base.errors import ReadError, UnusableInputError
from lesionlens.base.grid import MIN_SHARE_BEYOND, Grid, share_beyond
from lesionlens.base.labels import Label, MrSequence, Region, ReviewState, Source
from lesionlens.base.provenance import sha256_of
from lesionlens.base.records.arrays import enhancing_as_core
from lesionlens.base.records.files import FindingsFile, RunFile, trained_on_warning
from lesionlens.base.records.parts import (
    MAPS,
    MEASURED,
    ORIGINAL,
    AlteredResultError,
    check_parts,
)
from lesionlens.base.run_context import SILENT, RunContext
from lesionlens.base.scan_limits import check_shear
from lesionlens.imaging.preparation.resampling import resample

SEGMENTATION = "segmentation.nii.gz"
_MADE_HERE = ("findings.json", "run.json")
_SAME_MM, _SLACK = 2e-3, 1e-4
_MAX_LOST = 0.5  # of the reference's voxels, outside the result: it is of other images
_NO_DIGESTS = "its run.json lists no digests: whether its files belong together was not checked"
_NO_IMAGE = "no image beside the reference: calibration was not measured"
_NO_T1C = "analysed without T1c: nothing is shown as enhancing, which counts as missed (Dice ET 0)"
ConventionOf = Callable[[Case], str | None]


class _Unscorable(Exception):
    """A result cannot be scored; the message states the reason."""


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
    context : RunContext
        Called before each case.

    Raises
    ------
    UnusableInputError
        No case has a result, or a reference is invalid.
    """
    places = _places(predictions, cases)
    if not places:
        raise UnusableInputError(
            found=f"no result in {predictions.name!r} for any of {len(cases)} cases, such as "
            f"{cases[0].name!r}",
            expected=f"one folder a case with {SEGMENTATION}, or one segmentation a case such as "
            f"{cases[0].name}.nii.gz, named like the reference cases",
            next_step="Run `lesionlens batch` on the cases, and give its folder first",
        )
    plain = all(place.is_file() for place in places.values())
    scores = []
    for number, case in enumerate(cases):
        context.progress(f"scoring {case.name}", number / len(cases))
        place = places.get(case.name, predictions / case.name)
        scores.append(score_case(case, place, convention_of(case)))
        scores[-1].ranked &= not plain
    _note_repeated(scores)
    _note_exchanged(scores, cases)
    if len(cases) == 1:
        _note_other_name(scores[0], segmentations_in(predictions), places[cases[0].name])
    return scores


def _note_exchanged(scores: Sequence[CaseScore], cases: Sequence[Case]) -> None:
    """Name cases whose image was analysed for the result of another case, and not for their own."""
    owners = {digest: score.case for score in scores for digest in score.inputs}
    for score, case in zip(scores, cases, strict=True):
        if case.reference is None or not score.inputs:
            continue
        digest = sha256_of(case.images[case.reference].path)
        if digest in owners and digest not in score.inputs:
            score.problems.append(
                f"its image was analysed for the result of {owners[digest]}, not for its own: were "
                "names exchanged?"
            )


def _note_other_name(score: CaseScore, named: Mapping[str, Path], place: Path) -> None:
    """Report if the only case is scored from a segmentation that is named after another."""
    if place in named.values() and named.get(score.case) != place:
        score.problems.append(f"scored from {place.name}, the only segmentation there")


def _note_repeated(scores: Sequence[CaseScore]) -> None:
    """Name cases that have an image of an earlier case: each of them counts in the means."""
    owners: dict[str, str] = {}
    for score in scores:
        other = next((owners[i] for i in sorted(score.inputs) if i in owners), None)
        if other is not None:
            score.problems.append(f"it has an image of the case {other}, and both are counted")
        owners |= dict.fromkeys(score.inputs - owners.keys(), score.case)


def without_truth(predictions: Path, cases: Sequence[Case]) -> tuple[str, ...]:
    """Return the names of results without a reference case, which `evaluate` ignores."""
    known = set(_places(predictions, cases).values())
    if predictions in known:
        return ()
    left = [p.name for p in sorted(predictions.iterdir()) if _is_result(p) and p not in known]
    plain = segmentations_in(predictions).values()
    return (*left, *(path.name for path in plain if path not in known))


def _places(predictions: Path, cases: Sequence[Case]) -> dict[str, Path]:
    """Return each case's result: a folder written by `analyze`, else a segmentation file."""
    side_by_side = segmentations_in(predictions)
    found = {}
    for case in cases:
        own = predictions / case.name
        if len(cases) == 1 and not own.is_dir() and case.name not in side_by_side:
            own = predictions
        if _is_result(own):
            found[case.name] = own
        elif own.is_dir() and (plain := segmentation_of(own)) is not None:
            found[case.name] = plain
        elif case.name in side_by_side:
            found[case.name] = side_by_side[case.name]
    return found


def _is_result(folder: Path) -> bool:
    return any((folder / name).is_file() for name in _MADE_HERE)


def score_case(case: Case, result: Path, convention: str | None) -> CaseScore:
    """Score one case; a failure is recorded, not raised.

    `result` is a folder written by `analyze`, or a plain segmentation file, whose labels follow the
    convention of the reference. A folder whose files were changed since they were written fails.

    Raises
    ------
    UnusableInputError
        The reference is unreadable or invalid.
    """
    truth = _truth(case, convention)
    healthy = truth is None or not truth.labels.any()
    score = CaseScore(case.name, healthy, convention)
    score.problems += truth.notices if truth is not None else ()
    try:
        if result.is_file():
            _score_plain(score, result, truth)
        else:
            _score(score, case, result, truth)
    except _Unscorable as why:
        score.failed = True
        score.problems.insert(0, str(why))
        if truth is not None and not healthy:
            lesions = len(metrics.label_lesions(truth.labels > 0, truth.grid)[1])
            nothing = [f"lesion_{what}_{r}" for what in ("dice", "f1") for r in score.regions]
            score.metrics |= dict.fromkeys((*score.regions, "sensitivity", *nothing), 0.0)
            score.metrics |= {f"lesion_hd95_{r}": PENALTY_MM for r in score.regions}
            score.metrics |= {"lesions": lesions, "found": 0}
    return score


@dataclass(frozen=True, slots=True, eq=False)
class _Truth:
    labels: NDArray[np.uint8]
    grid: Grid
    notices: tuple[str, ...]


def _truth(case: Case, convention: str | None) -> _Truth | None:
    if case.truth is None:
        return None
    voxels, header = read_volume(case.truth)
    labels = translate(voxels, convention, f"the reference of case {case.name}")
    return _Truth(_of_tumour(labels), header.grid, header.notices)


def _score(score: CaseScore, case: Case, result: Path, known: _Truth | None) -> None:
    if result.is_dir() and not _is_result(result):
        raise _Unscorable("no result: its folder holds none, nor a single segmentation")
    run = _run_of(result)
    own = _checked(result, run)
    labels, grid = _labels(own)
    findings = _findings(own)
    score.reviewed = _is_reviewed(result, own, findings)
    if own == result:
        labels, findings = _without_additions(score, result, labels, grid, findings)
    has_t1c = MrSequence.T1C in findings.sequences
    if not has_t1c:  # earlier releases kept it
        labels = enhancing_as_core(labels)
    if run is not None:
        score.made_by = " ".join(
            part for part in (run.engine, run.engine_version, run.weights_sha256) if part
        )
        score.inputs = frozenset(row.sha256 for row in run.inputs)
        if run.trained_on:
            score.problems.append(trained_on_warning(run.trained_on))
    image = _reference(score, case, findings, grid)
    truth = _onto(score, known, grid)
    predicted = {region: region_mask(labels, region) for region in Region}
    _note_cut(score, predicted[Region.WT], grid, known)
    _score_regions(score, predicted, truth, grid)
    flagged = [one for one in findings.candidates if not one.apart]
    score.hits, counted = metrics.candidate_hits(
        flagged, predicted[Region.WT], region_mask(truth, Region.WT), grid
    )
    score.ranked &= all(hit.score is not None for hit in score.hits)
    found = {lesion for hit in score.hits for lesion in hit.lesions}
    score.metrics |= _detection_metrics(
        found, counted, sum(hit.false_positive for hit in score.hits)
    )
    score.metrics["candidates"] = len(flagged)
    score.metrics["other_findings"] = len(findings.candidates) - len(flagged)
    score.metrics["flagged_ml"] = grid.volume_ml(predicted[Region.WT])
    score.metrics |= measures(result, findings)
    _score_calibration(score, result, grid, truth, image)
    _score_attention(score, result, grid, truth, has_t1c=has_t1c)
    if not has_t1c and region_mask(truth, Region.ET).any():
        score.problems.append(_NO_T1C)
    if run is None or run.files is None:
        score.problems.append(_NO_DIGESTS)


def _score_plain(score: CaseScore, file: Path, known: _Truth | None) -> None:
    """Score a plain segmentation: no candidate scores, no maps, no calibration."""
    score.ranked = False
    voxels, grid = _read(file)
    try:
        labels = _of_tumour(translate(voxels, score.convention, file.name))
    except UnusableInputError as why:
        raise _Unscorable(str(why)) from why
    truth = _onto(score, known, grid)
    if known is not None and not known.grid.matches(grid, _SAME_MM):
        score.problems.append(f"{file.name} lies on another grid: compared by position")
    predicted = {region: region_mask(labels, region) for region in Region}
    _note_cut(score, predicted[Region.WT], grid, known)
    _score_regions(score, predicted, truth, grid)
    found, false, counted = metrics.part_hits(
        predicted[Region.WT], region_mask(truth, Region.WT), grid
    )
    score.metrics |= _detection_metrics(found, counted, false)
    score.metrics["flagged_ml"] = grid.volume_ml(predicted[Region.WT])


def _detection_metrics(
    found: set[int], counted: Sequence[int], false: int
) -> dict[str, float | None]:
    sensitivity = len(found) / len(counted) if counted else None
    return {
        "lesions": len(counted), "found": len(found), "sensitivity": sensitivity, "fp": false,
    }  # fmt: skip


def _checked(result: Path, run: RunFile | None) -> Path:
    """Return the folder of the network's own outlines, after a check of the files' digests."""
    listed = {row.file for row in (run and run.files) or ()}
    edited = (result / ORIGINAL).is_dir() or any(name.startswith(ORIGINAL) for name in listed)
    own = result / ORIGINAL if edited else result
    if run is None or run.files is None:
        return own
    try:
        check_parts(result, run, (*MEASURED, *MAPS))
    except AlteredResultError as why:
        names = ", ".join(why.names)
        raise _Unscorable(f"changed since the result was written: {names}") from why
    except ReadError as why:
        raise _Unscorable(f"run.json cannot be read: {why.found}") from why
    return own


def _is_reviewed(result: Path, own: Path, findings: FindingsFile) -> bool:
    """Return whether readers decided on candidates, edited outlines or signed."""
    if own != result or findings.signed is not None:
        return True
    decided = any(row.review.state is not ReviewState.UNREVIEWED for row in findings.candidates)
    return decided or bool(read_object(result / "review.json").get("events"))


def _without_additions(
    score: CaseScore,
    result: Path,
    labels: NDArray[np.uint8],
    grid: Grid,
    findings: FindingsFile,
) -> tuple[NDArray[np.uint8], FindingsFile]:
    """Omit readers' additions of a result without the outlines of the network.

    Such a result was made of DICOM objects; what readers edited there cannot be told apart.
    """
    rows = findings.candidates
    if any(row.review.state is ReviewState.EDITED for row in rows):
        score.problems.append("readers edited outlines, and the network's own are not kept")
    added = [row.id for row in rows if row.source is Source.READER]
    if not added:
        return labels, findings
    theirs = np.isin(_read_on(result / "candidates.nii.gz", grid), added)
    kept = tuple(row for row in rows if row.id not in added)
    return np.where(theirs, 0, labels).astype(np.uint8), findings.model_copy(
        update={"candidates": kept}
    )


def _labels(result: Path) -> tuple[NDArray[np.uint8], Grid]:
    voxels, grid = _read(result / SEGMENTATION)
    if not set(np.unique(voxels).tolist()) <= set(Label):
        raise _Unscorable(f"{SEGMENTATION} has labels beyond 0 to {max(Label)}")
    return _of_tumour(voxels), grid


def _of_tumour(labels: NDArray[Any]) -> NDArray[np.uint8]:
    """Return labels without the resection cavity, which is not scored."""
    return np.where(labels == Label.CAVITY, 0, labels).astype(np.uint8)


def _read(path: Path) -> tuple[NDArray[Any], Grid]:
    if not path.is_file():
        raise _Unscorable(f"no result: {path.name} is not there")
    try:
        voxels, header = read_volume(path)
        check_shear(header.grid, path.name)
    except UnusableInputError as error:
        raise _Unscorable(f"{path.name} cannot be used: {error.found}") from error
    return voxels, header.grid


def _read_on(path: Path, grid: Grid) -> NDArray[Any]:
    voxels, found = _read(path)
    if not found.matches(grid, _SAME_MM):
        raise _Unscorable(f"{path.name} is not on the grid of {SEGMENTATION}")
    return voxels


def _findings(result: Path) -> FindingsFile:
    try:
        return read_model(result / "findings.json", FindingsFile)
    except (OSError, ValueError, ReadError) as error:
        raise _Unscorable("findings.json cannot be read") from error


def _run_of(result: Path) -> RunFile | None:
    try:
        return read_model(result / "run.json", RunFile)
    except (OSError, ValueError, ReadError):
        return None


def _reference(
    score: CaseScore, case: Case, findings: FindingsFile, grid: Grid
) -> NDArray[Any] | None:
    """Return the result's reference image in its storage order; None if missing.

    If the result was made without it, the case's image is used.
    """
    own_choice = findings.reference if findings.reference in case.images else case.reference
    if own_choice is None:
        score.problems.append(_NO_IMAGE)
        return None
    image, header = read_volume(case.images[own_choice])
    if header.grid.storage_order(grid, _SAME_MM) is None:
        raise _Unscorable(f"{SEGMENTATION} is not on the grid of {own_choice.display_name}")
    return resample(image.astype(np.float32), header.grid, grid, nearest=True)


def _onto(score: CaseScore, truth: _Truth | None, grid: Grid) -> NDArray[np.uint8]:
    """Resample a reference to the result's grid by nearest neighbour, if they differ.

    What lies outside that grid cannot be scored: a little is a problem of the case, most of it a
    reference of other images. Nor can a lesion between thick slices.
    """
    if truth is None:
        return np.zeros(grid.shape, np.uint8)
    if truth.grid.matches(grid, _SAME_MM):
        return truth.labels
    lost = share_beyond(truth.labels > 0, truth.grid, grid)
    if lost > _MAX_LOST:
        raise _Unscorable(
            f"{lost:.0%} of the reference lesions lie outside {SEGMENTATION}: of other images?"
        )
    if lost > MIN_SHARE_BEYOND:
        score.problems.append(f"{lost:.1%} of reference lesions lie outside the result: ignored")
    numbers, counted = metrics.label_lesions(truth.labels > 0, truth.grid)
    there = resample(numbers.astype(np.float32), truth.grid, grid, nearest=True)
    gone = set(counted) - set(np.unique(there).astype(int).tolist())
    if gone and len(gone) == len(counted):
        raise _Unscorable(f"the reference lesions lie between the slices of {SEGMENTATION}")
    if gone:
        score.problems.append(
            f"{len(gone)} of {len(counted)} reference lesions lie between or beyond the slices "
            "of the result: not counted"
        )
    values = truth.labels.astype(np.float32)
    return resample(values, truth.grid, grid, nearest=True).astype(np.uint8)


def _note_cut(score: CaseScore, flagged: metrics.Mask, grid: Grid, truth: _Truth | None) -> None:
    """Report if a part of the flagged region lies outside the reference, such as a slab."""
    beyond = 0.0 if truth is None else share_beyond(flagged, grid, truth.grid)
    if beyond > MIN_SHARE_BEYOND:
        score.problems.append(
            f"{beyond:.1%} of what is flagged lies outside the reference: false there"
        )


def _score_regions(
    score: CaseScore,
    predicted: Mapping[Region, metrics.Mask],
    truth: NDArray[np.uint8],
    grid: Grid,
) -> None:
    for key in () if score.healthy else score.regions:
        region = Region(key)
        mask = region_mask(truth, region)
        score.metrics[key] = metrics.dice(predicted[region], mask)
        score.metrics[f"hd95_{key}"] = metrics.hd95(predicted[region], mask, grid.spacing_mm)
        lesions = lesion_wise(predicted[region], mask, grid)
        score.metrics[f"lesion_dice_{key}"] = lesions.dice
        score.metrics[f"lesion_hd95_{key}"] = lesions.hd95_mm
        score.metrics[f"lesion_f1_{key}"] = lesions.f1


def _score_calibration(
    score: CaseScore,
    result: Path,
    grid: Grid,
    truth: NDArray[np.uint8],
    image: NDArray[Any] | None,
) -> None:
    """Add calibration metrics; note a missing map."""
    whole = result / f"probability_{Region.WT.value}.nii.gz"
    if not whole.is_file():
        score.problems.append(f"{whole.name} is missing: calibration was not measured")
    elif image is not None:
        head = metrics.scored_head(image)
        predicted = _read_on(whole, grid)[head]
        if not (np.abs(predicted - 0.5) <= 0.5 + _SLACK).all():
            score.problems.append(f"{whole.name} leaves 0 to 1: calibration was not measured")
        else:
            true = region_mask(truth, Region.WT)[head]
            score.bins = metrics.reliability(np.clip(predicted, 0, 1), true)
            score.metrics["ece"] = score.bins.error


def _score_attention(
    score: CaseScore,
    result: Path,
    grid: Grid,
    truth: NDArray[np.uint8],
    *,
    has_t1c: bool,
) -> None:
    """Add attention metrics; note missing maps. Without T1c there is none of the enhancing part."""
    missing = []
    for key in score.regions:
        path, mask = result / f"attention_{key}.nii.gz", region_mask(truth, Region(key))
        if not path.is_file():
            missing += [path.name] * (has_t1c or key != Region.ET.value)
        elif mask.any():
            point, mass = metrics.attention_measures(_read_on(path, grid), mask)
            score.metrics[f"point_{key}"], score.metrics[f"mass_{key}"] = point, mass
    if missing:
        score.problems.append(f"missing: {', '.join(missing)}")
