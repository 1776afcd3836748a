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
from lesionlens.analysis.evaluation.label_conventions import is_undivided, region_mask, translate
from lesionlens.analysis.evaluation.lesionwise import PENALTY_MM, lesion_wise
from lesionlens.analysis.evaluation.scored_result import (
    SAME_MM,
    SEGMENTATION,
    ScoredResult,
    UnscorableError,
    of_tumour,
    read_result,
    volume_of,
)
from lesionlens.analysis.evaluation.summary import CaseScore
from lesionlens.base.errors import UnusableInputError
from lesionlens.base.geometry import Mask
from lesionlens.base.grid import MIN_FRACTION_BEYOND, Grid, fraction_beyond
from lesionlens.base.labels import MrSequence, Region
from lesionlens.base.numerics import dice
from lesionlens.base.provenance import sha256_of
from lesionlens.base.records.files import FindingsFile, RunFile, trained_on_warning
from lesionlens.base.text import abbreviated_list
from lesionlens.imaging.preparation.resampling import resample

_PROBABILITY_TOLERANCE = 1e-4
_MAX_OUTSIDE_FRACTION = 0.5  # of the reference's voxels, outside the result: it is of other images
_NO_IMAGE = "no image next to the reference: calibration was not measured"
_UNDIVIDED = (
    "its reference has the label 1 alone, taken as whole lesions: core and enhancing part are not "
    "scored. If 1 is the core, name the convention"
)
_UNREAD = (
    "no file is named as a segmentation: counted as healthy. If its reference is among {names}, "
    "rename it, such as to seg.nii.gz"
)
_CORE_ALONE = (
    "has the label 1 alone, taken as core: if it outlines whole lesions, ignore the figures of "
    "core and enhancing part"
)
_NO_T1C = "analysed without T1c: nothing is shown as enhancing, which counts as missed (Dice ET 0)"


def score_case(case: Case, result: Path, convention: str | None) -> CaseScore:
    """Score one case; a failure is recorded, not raised.

    `result` is a folder written by `analyze`, or a plain segmentation file, whose labels follow the
    convention of the reference. A folder whose files were changed since they were written is scored
    as it is, with a notice.

    Raises
    ------
    UnusableInputError
        The reference is unreadable or invalid.
    """
    reference = _read_reference(case, convention)
    healthy = reference is None or not reference.labels.any()
    score = CaseScore(case.name, healthy, convention)
    if case.unread:
        score.problems.append(_UNREAD.format(names=abbreviated_list(case.unread, 5)))
    if reference is not None:
        score.problems += reference.notices
    if reference is not None and not healthy:
        score.undivided = is_undivided(reference.labels, convention)
        score.problems += [_UNDIVIDED] if score.undivided else []
    try:
        if result.is_file():
            _score_plain(score, result, reference)
        else:
            _score_result(score, case, result, reference)
    except UnscorableError as error:
        score.failed = True
        score.problems.insert(0, str(error))
        score.metrics, score.hits, score.bins = {}, [], metrics.Bins()
        if reference is not None and not healthy:
            lesions = len(metrics.label_lesions(reference.labels > 0, reference.grid)[1])
            lesion_keys = [
                f"lesion_{metric}_{r}" for metric in ("dice", "f1") for r in score.regions
            ]
            score.metrics |= dict.fromkeys((*score.regions, "sensitivity", *lesion_keys), 0.0)
            score.metrics |= {f"lesion_hd95_{r}": PENALTY_MM for r in score.regions}
            score.metrics |= {"lesions": lesions, "found": 0}
    return score


@dataclass(frozen=True, slots=True, eq=False)
class _Reference:
    labels: NDArray[np.uint8]
    grid: Grid
    notices: tuple[str, ...]


def _read_reference(case: Case, convention: str | None) -> _Reference | None:
    if case.reference_path is None:
        return None
    voxels, header = read_volume(case.reference_path)
    labels = translate(voxels, convention, f"the reference of case {case.name}")
    notices = tuple(f"Reference: {notice}" for notice in header.notices)
    return _Reference(of_tumour(labels), header.grid, notices)


def _score_result(score: CaseScore, case: Case, folder: Path, reference: _Reference | None) -> None:
    """Score a result folder: candidates, outlines, calibration and attention maps."""
    result = read_result(folder)
    run, findings, grid = result.run, result.findings, result.grid
    score.reviewed = result.is_reviewed
    if result.has_edits:
        score.problems.append("readers edited outlines, and the network's own are not kept")
    if result.changed:
        score.problems.append(f"changed since it was written: {', '.join(result.changed)}")
    score.unsegmented = _unsegmented(findings)
    if run is not None:
        _note_run(score, run)
    image = _reference_image(score, case, findings, grid)
    reference_labels = _reference_on_grid(score, reference, grid)
    predicted = _score_regions(score, result.labels, reference_labels, grid)
    _note_outside(score, predicted[Region.WT], grid, reference)
    score.hits, counted = metrics.candidate_hits(
        findings.candidates, result.ids, region_mask(reference_labels, Region.WT), grid
    )
    score.ranked &= all(hit.score is not None for hit in score.hits)
    detected = {lesion for hit in score.hits for lesion in hit.lesions}
    score.metrics |= _detection_metrics(
        detected, counted, sum(hit.false_positive for hit in score.hits)
    )
    score.metrics["candidates"] = len(findings.candidates)
    score.metrics["flagged_ml"] = grid.volume_ml(predicted[Region.WT])
    _score_calibration(score, result, reference_labels, image)
    _score_attention(score, result, reference_labels)
    if not (result.has_t1c or score.unsegmented) and region_mask(reference_labels, Region.ET).any():
        score.problems.append(_NO_T1C)


def _unsegmented(findings: FindingsFile) -> frozenset[Region] | None:
    """Return the regions of which no candidate's volume is known; None without a candidate.

    Without T1c no engine outlines the enhancing part, which counts as missed.
    """
    if not findings.candidates:
        return None
    unknown = findings.unknown_parts
    is_without_t1c = Region.TC not in unknown and MrSequence.T1C not in findings.sequences
    return frozenset() if is_without_t1c else unknown


def _note_run(score: CaseScore, run: RunFile) -> None:
    """Note which engine made a result, from which files, and whether it was trained on them."""
    score.engine = " ".join(
        part for part in (run.engine, run.engine_version, run.weights_sha256) if part
    )
    score.inputs = frozenset(row.sha256 for row in run.inputs)
    if run.trained_on:
        score.problems.append(trained_on_warning(run.trained_on))


def _score_plain(score: CaseScore, file: Path, reference: _Reference | None) -> None:
    """Score a plain segmentation: no candidate scores, no maps, no calibration."""
    score.ranked, score.unsegmented = False, frozenset()
    voxels, grid = volume_of(file)
    try:
        labels = of_tumour(translate(voxels, score.convention, file.name))
    except UnusableInputError as error:
        raise UnscorableError(str(error)) from error
    if not (score.healthy or score.undivided) and is_undivided(labels, score.convention):
        score.problems.append(f"{file.name} {_CORE_ALONE}")
    reference_labels = _reference_on_grid(score, reference, grid)
    if reference is not None and not reference.grid.matches(grid, SAME_MM):
        score.problems.append(f"{file.name} lies on another grid: compared by position")
    predicted = _score_regions(score, labels, reference_labels, grid)
    _note_outside(score, predicted[Region.WT], grid, reference)
    hits = metrics.component_hits(
        predicted[Region.WT], region_mask(reference_labels, Region.WT), grid
    )
    score.metrics |= _detection_metrics(*hits)
    score.metrics["flagged_ml"] = grid.volume_ml(predicted[Region.WT])


def _detection_metrics(
    detected: set[int], counted: Sequence[int], false: int
) -> dict[str, float | None]:
    sensitivity = len(detected) / len(counted) if counted else None
    return {
        "lesions": len(counted), "found": len(detected), "sensitivity": sensitivity, "fp": false,
    }  # fmt: skip


def _reference_image(
    score: CaseScore, case: Case, findings: FindingsFile, grid: Grid
) -> NDArray[Any] | None:
    """Return the result's reference image in its storage order; None if missing.

    If the result was made without it, the case's image is used.
    """
    sequence = findings.reference if findings.reference in case.images else case.reference_sequence
    if sequence is None:
        score.problems.append(_NO_IMAGE)
        return None
    image_file = case.analysed(sequence, score.inputs)
    if sequence in case.alternatives and sha256_of(image_file.path) not in score.inputs:
        names = ", ".join(file.path.name for file in case.alternatives[sequence])
        score.problems.append(
            f"several images of {sequence.display_name} ({names}), and the result names none of "
            f"them: calibration was measured on {image_file.path.name}"
        )
    image, header = read_volume(image_file)
    if header.grid.storage_order(grid, SAME_MM) is None:
        raise UnscorableError(f"{SEGMENTATION} is not on the grid of {sequence.display_name}")
    return resample(image.astype(np.float32), header.grid, grid, nearest=True)


def _reference_on_grid(
    score: CaseScore, reference: _Reference | None, grid: Grid
) -> NDArray[np.uint8]:
    """Resample a reference to the result's grid by nearest neighbour, if they differ.

    Reference voxels outside that grid, and lesions between thick slices, cannot be scored. A small
    part outside is reported; if most of it is outside, the reference is of other images.
    """
    if reference is None:
        return np.zeros(grid.shape, np.uint8)
    if reference.grid.matches(grid, SAME_MM):
        return reference.labels
    outside_fraction = fraction_beyond(reference.labels > 0, reference.grid, grid)
    if outside_fraction > _MAX_OUTSIDE_FRACTION:
        raise UnscorableError(
            f"{outside_fraction:.0%} of the reference lesions lie outside {SEGMENTATION}: does "
            "the reference belong to other images?"
        )
    if outside_fraction > MIN_FRACTION_BEYOND:
        score.problems.append(
            f"{outside_fraction:.1%} of reference lesions lie outside the result: ignored"
        )
    numbers, counted = metrics.label_lesions(reference.labels > 0, reference.grid)
    resampled_numbers = resample(numbers.astype(np.float32), reference.grid, grid, nearest=True)
    missed = set(counted) - set(np.unique(resampled_numbers).astype(int).tolist())
    if missed and len(missed) == len(counted):
        raise UnscorableError(f"the reference lesions lie between the slices of {SEGMENTATION}")
    if missed:
        score.problems.append(
            f"{len(missed)} of {len(counted)} reference lesions lie between or beyond the slices "
            "of the result: not counted"
        )
    values = reference.labels.astype(np.float32)
    return resample(values, reference.grid, grid, nearest=True).astype(np.uint8)


def _note_outside(
    score: CaseScore, flagged: Mask, grid: Grid, reference: _Reference | None
) -> None:
    """Report if a part of the flagged region lies outside the reference, such as a slab."""
    outside_fraction = 0.0 if reference is None else fraction_beyond(flagged, grid, reference.grid)
    if outside_fraction > MIN_FRACTION_BEYOND:
        score.problems.append(
            f"{outside_fraction:.1%} of the flagged volume lies outside the reference and counts "
            "as false"
        )


def _score_regions(
    score: CaseScore, labels: NDArray[np.uint8], reference_labels: NDArray[np.uint8], grid: Grid
) -> dict[Region, Mask]:
    """Add the overlap of each region; return the predicted masks."""
    predicted = {region: region_mask(labels, region) for region in Region}
    for key in () if score.healthy else score.regions:
        region = Region(key)
        mask = region_mask(reference_labels, region)
        score.metrics[key] = dice(predicted[region], mask)
        score.metrics[f"hd95_{key}"] = metrics.hd95(predicted[region], mask, grid.spacing_mm)
        lesions = lesion_wise(predicted[region], mask, grid)
        score.metrics[f"lesion_dice_{key}"] = lesions.dice
        score.metrics[f"lesion_hd95_{key}"] = lesions.hd95_mm
        score.metrics[f"lesion_f1_{key}"] = lesions.f1
    return predicted


def _score_calibration(
    score: CaseScore,
    result: ScoredResult,
    reference_labels: NDArray[np.uint8],
    image: NDArray[Any] | None,
) -> None:
    """Add calibration metrics; note a missing map."""
    name = f"probability_{Region.WT.value}.nii.gz"
    if not (result.folder / name).is_file():
        score.problems.append(f"{name} is missing: calibration was not measured")
    elif image is not None:
        head = metrics.scored_head(image)
        predicted = result.volume(name)[head]
        if not (np.abs(predicted - 0.5) <= 0.5 + _PROBABILITY_TOLERANCE).all():
            score.problems.append(f"{name} has values outside 0 to 1: calibration was not measured")
        else:
            positive = region_mask(reference_labels, Region.WT)[head]
            score.bins = metrics.reliability(np.clip(predicted, 0, 1), positive)
            score.metrics["ece"] = score.bins.error


def _score_attention(
    score: CaseScore, result: ScoredResult, reference_labels: NDArray[np.uint8]
) -> None:
    """Add attention metrics; note missing maps, except the enhancing part's without T1c."""
    missing = []
    for key in score.regions:
        name, mask = f"attention_{key}.nii.gz", region_mask(reference_labels, Region(key))
        if not (result.folder / name).is_file():
            if Region(key) in (score.unsegmented or ()):
                continue
            if result.has_t1c or key != Region.ET.value:
                missing.append(name)
        elif mask.any():
            peak_inside, mass = metrics.attention_measures(result.volume(name), mask)
            score.metrics[f"point_{key}"], score.metrics[f"mass_{key}"] = peak_inside, mass
    if missing:
        score.problems.append(f"missing: {', '.join(missing)}")
