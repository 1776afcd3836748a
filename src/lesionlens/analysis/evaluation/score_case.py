"""Score one case: its result, or a plain segmentation, against its reference segmentation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lesionlens.analysis.evaluation import metrics
from lesionlens.analysis.evaluation.cases import Case, read_volume
from lesionlens.analysis.evaluation.explanation_metrics import measures
from lesionlens.analysis.evaluation.label_conventions import region_mask, translate
from lesionlens.analysis.evaluation.lesionwise import PENALTY_MM, lesion_wise
from lesionlens.analysis.evaluation.scored_result import (
    SAME_MM,
    SEGMENTATION,
    UnscorableError,
    checked_folder,
    findings_of,
    is_result,
    is_reviewed,
    labels_of,
    of_tumour,
    run_of,
    volume_of,
    volume_on,
    without_additions,
)
from lesionlens.analysis.evaluation.summary import CaseScore
from lesionlens.base.errors import UnusableInputError
from lesionlens.base.grid import MIN_SHARE_BEYOND, Grid, share_beyond
from lesionlens.base.labels import MrSequence, Region
from lesionlens.base.provenance import sha256_of
from lesionlens.base.records.arrays import enhancing_as_core
from lesionlens.base.records.files import FindingsFile, trained_on_warning
from lesionlens.imaging.preparation.resampling import resample

_SLACK = 1e-4
_MAX_LOST = 0.5  # of the reference's voxels, outside the result: it is of other images
_NO_DIGESTS = "its run.json lists no digests: whether its files belong together was not checked"
_NO_IMAGE = "no image beside the reference: calibration was not measured"
_NO_T1C = "analysed without T1c: nothing is shown as enhancing, which counts as missed (Dice ET 0)"


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
    except UnscorableError as why:
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
    return _Truth(of_tumour(labels), header.grid, header.notices)


def _score(score: CaseScore, case: Case, result: Path, known: _Truth | None) -> None:
    if result.is_dir() and not is_result(result):
        raise UnscorableError("no result: its folder holds none, nor a single segmentation")
    run = run_of(result)
    own = checked_folder(result, run)
    labels, grid = labels_of(own)
    findings = findings_of(own)
    score.reviewed = is_reviewed(result, own, findings)
    if own == result:
        labels, findings = without_additions(score, result, labels, grid, findings)
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
    predicted = _score_regions(score, labels, truth, grid)
    _note_cut(score, predicted[Region.WT], grid, known)
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
    if run is not None:
        score.metrics |= measures(run, findings)
    _score_calibration(score, result, grid, truth, image)
    _score_attention(score, result, grid, truth, has_t1c=has_t1c)
    if not has_t1c and region_mask(truth, Region.ET).any():
        score.problems.append(_NO_T1C)
    if run is None or run.files is None:
        score.problems.append(_NO_DIGESTS)


def _score_plain(score: CaseScore, file: Path, known: _Truth | None) -> None:
    """Score a plain segmentation: no candidate scores, no maps, no calibration."""
    score.ranked = False
    voxels, grid = volume_of(file)
    try:
        labels = of_tumour(translate(voxels, score.convention, file.name))
    except UnusableInputError as why:
        raise UnscorableError(str(why)) from why
    truth = _onto(score, known, grid)
    if known is not None and not known.grid.matches(grid, SAME_MM):
        score.problems.append(f"{file.name} lies on another grid: compared by position")
    predicted = _score_regions(score, labels, truth, grid)
    _note_cut(score, predicted[Region.WT], grid, known)
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
    chosen = case.analysed(own_choice, score.inputs)
    if own_choice in case.several and sha256_of(chosen.path) not in score.inputs:
        names = ", ".join(path.name for path in case.several[own_choice])
        score.problems.append(
            f"several images of {own_choice.display_name} ({names}), and the result names none of "
            f"them: calibration was measured on {chosen.path.name}"
        )
    image, header = read_volume(chosen)
    if header.grid.storage_order(grid, SAME_MM) is None:
        raise UnscorableError(f"{SEGMENTATION} is not on the grid of {own_choice.display_name}")
    return resample(image.astype(np.float32), header.grid, grid, nearest=True)


def _onto(score: CaseScore, truth: _Truth | None, grid: Grid) -> NDArray[np.uint8]:
    """Resample a reference to the result's grid by nearest neighbour, if they differ.

    What lies outside that grid cannot be scored: a little is a problem of the case, most of it a
    reference of other images. Nor can a lesion between thick slices.
    """
    if truth is None:
        return np.zeros(grid.shape, np.uint8)
    if truth.grid.matches(grid, SAME_MM):
        return truth.labels
    lost = share_beyond(truth.labels > 0, truth.grid, grid)
    if lost > _MAX_LOST:
        raise UnscorableError(
            f"{lost:.0%} of the reference lesions lie outside {SEGMENTATION}: of other images?"
        )
    if lost > MIN_SHARE_BEYOND:
        score.problems.append(f"{lost:.1%} of reference lesions lie outside the result: ignored")
    numbers, counted = metrics.label_lesions(truth.labels > 0, truth.grid)
    there = resample(numbers.astype(np.float32), truth.grid, grid, nearest=True)
    gone = set(counted) - set(np.unique(there).astype(int).tolist())
    if gone and len(gone) == len(counted):
        raise UnscorableError(f"the reference lesions lie between the slices of {SEGMENTATION}")
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
    score: CaseScore, labels: NDArray[np.uint8], truth: NDArray[np.uint8], grid: Grid
) -> dict[Region, metrics.Mask]:
    """Add the overlap of each region; return the predicted masks."""
    predicted = {region: region_mask(labels, region) for region in Region}
    for key in () if score.healthy else score.regions:
        region = Region(key)
        mask = region_mask(truth, region)
        score.metrics[key] = metrics.dice(predicted[region], mask)
        score.metrics[f"hd95_{key}"] = metrics.hd95(predicted[region], mask, grid.spacing_mm)
        lesions = lesion_wise(predicted[region], mask, grid)
        score.metrics[f"lesion_dice_{key}"] = lesions.dice
        score.metrics[f"lesion_hd95_{key}"] = lesions.hd95_mm
        score.metrics[f"lesion_f1_{key}"] = lesions.f1
    return predicted


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
        predicted = volume_on(whole, grid)[head]
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
            point, mass = metrics.attention_measures(volume_on(path, grid), mask)
            score.metrics[f"point_{key}"], score.metrics[f"mass_{key}"] = point, mass
    if missing:
        score.problems.append(f"missing: {', '.join(missing)}")
