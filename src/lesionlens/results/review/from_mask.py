"""Build a reviewable result from any NIfTI segmentation.

Regions are measured and located like the network's; no network is needed. The meaning of the labels
is inferred: a single label is the whole lesion; 1, 2 and 3 are core, oedema and enhancing tumour
(BraTS 2023, LesionLens), with 4 beside 3 as the resection cavity (BraTS 2024); any others number
the lesions. 4 without 3 is the cavity in files of LesionLens, enhancing in BraTS's of 2017 to 2021,
known by their names, and else refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from lesionlens.analysis.evaluation.cases import convention_in_name
from lesionlens.analysis.findings.components import ComponentMask
from lesionlens.base.errors import ReadError
from lesionlens.base.files import read_model
from lesionlens.base.geometry import TOUCHING
from lesionlens.base.grid import MIN_FRACTION_BEYOND, Grid, fraction_beyond
from lesionlens.base.labels import AMBIGUOUS_CAVITY, Label, Region, has_ambiguous_cavity
from lesionlens.base.provenance import sha256_of, versions
from lesionlens.base.records.analysis import Analysis, RunInfo, Volumes
from lesionlens.base.records.arrays import Volume
from lesionlens.base.records.files import FindingsFile, read_run_file
from lesionlens.base.records.findings import LESION_PARTS
from lesionlens.base.records.prediction import MASK, EngineInfo
from lesionlens.base.records.study import PreparedStudy, Study, StudyKind
from lesionlens.imaging.preparation.resampling import HALF, resample
from lesionlens.imaging.reading.bids import is_of_other_study
from lesionlens.imaging.reading.input_files import InputFiles, identity_of, inputs_of
from lesionlens.imaging.reading.nifti import open_volume
from lesionlens.results.review.log import now
from lesionlens.results.review.segment_candidates import measure_mask

MAX_NUMBERS = 255
_STANDARD_SPACE_CODES = frozenset({3, 4, 5})
"""NIfTI's codes of Talairach, MNI and other template spaces."""
_MIXED_SPACES_NOTICE = (
    "By their headers either the mask or the reference is in a standard space (Talairach, MNI or "
    "another template), and the other is not. Do the outlines lie on the lesions?"
)
_RESAMPLED_NOTICE = "The mask is on another grid than the reference: it was resampled"
_NO_GRID_NOTICE = (
    "The mask is on the grid of no series of this study: it was resampled by its position. Is it a "
    "mask of this study?"
)
_OTHER_STUDY_NOTICE = (
    "The mask is in the folder of a result of other images. Is it a mask of this study?"
)
_TIE_TOLERANCE = np.float32(1 - 2 * HALF)
"""If two labels' fractions of a voxel differ by less, the larger label wins."""
_PARTS: Mapping[int, Label] = {1: Label.CORE, 2: Label.OEDEMA, 3: Label.ENHANCING}
_PARTS_BEFORE_2023 = {1: Label.CORE, 2: Label.OEDEMA, 4: Label.ENHANCING}
_OWN_NAME, _OWN_DESCRIPTION = "segmentation.nii.gz", "LesionLens"
_OWN_LABELS = (_OWN_NAME, "_dseg.nii.gz")
_OWN_NUMBERS = ("candidates.nii.gz", "_desc-candidates_dseg.nii.gz")
"""Endings of the names of a result's labels and numbered candidates, also in a BIDS derivative."""


class Meaning(StrEnum):
    """The meaning of a mask's labels."""

    WHOLE = "one number: lesions as a whole"
    PARTS = "1 core, 2 oedema, 3 (or 4) enhancing"
    TREATED = "1 core, 2 oedema, 3 enhancing, 4 resection cavity"
    LESIONS = "each number a lesion"


def meaning_of(numbers: frozenset[int]) -> Meaning:
    """Infer the meaning of a mask's non-zero labels, of which a 4 is the resection cavity.

    Examples
    --------
    >>> meaning_of(frozenset({7})).name, meaning_of(frozenset({1, 2, 3})).name
    ('WHOLE', 'PARTS')
    >>> meaning_of(frozenset({2, 3, 4})).name
    'TREATED'
    >>> meaning_of(frozenset({1, 2, 3, 4, 5})).name
    'LESIONS'
    """
    if len(numbers) <= 1:
        return Meaning.WHOLE
    if numbers <= set(_PARTS):
        return Meaning.PARTS
    return Meaning.TREATED if numbers <= {*_PARTS, Label.CAVITY} else Meaning.LESIONS


def _meaning_in_file(path: Path, text: str, numbers: frozenset[int]) -> Meaning:
    is_own = text.startswith(_OWN_DESCRIPTION)
    if is_own and path.name.endswith(_OWN_NUMBERS):
        return Meaning.LESIONS
    if not has_ambiguous_cavity(numbers):
        return meaning_of(numbers)
    if is_own and path.name.endswith(_OWN_LABELS):
        return Meaning.TREATED
    if convention_in_name(path.name) or convention_in_name(path.parent.name):
        return Meaning.PARTS
    raise ReadError(
        found=f"{path.name!r} with {AMBIGUOUS_CAVITY}",
        expected="labels of which 3 is enhancing and 4 the resection cavity",
        next_step="Change 4 to 3 if it is enhancing; if it is a cavity, leave it out and draw it "
        "in LesionLens",
    )


def from_mask(path: Path, study: Study, prepared: PreparedStudy) -> Analysis:
    """Build a result from a NIfTI mask.

    Parameters
    ----------
    path : Path
        A file with integer labels, on any grid in patient coordinates.
    study : Study
        The opened study; its reference sequence gives the grid.

    Raises
    ------
    ReadError
        Not a mask: non-integer or too many labels; outside the study's images; or with a label 4
        of unknown meaning.
    """
    header = open_volume(path)
    values = _whole_numbers(header.load(), path.name)
    numbers = frozenset(int(n) for n in np.unique(values) if n)
    grid, inputs = prepared.native, inputs_of(study)
    meaning = _meaning_in_file(path, header.text, numbers)
    off_grid = not header.grid.matches(grid, tolerance_mm=1e-2)
    labels = _resample_labels(values, numbers, header.grid, grid) if off_grid else values
    if numbers and not labels.any():
        raise ReadError(
            found=f"{path.name!r}, whose labelled voxels all lie outside the "
            f"{prepared.reference.display_name}",
            expected="a mask of this study, in the patient's millimetres",
            next_step="Open the study that it was drawn on, or export it with its geometry",
        )
    fraction_outside = fraction_beyond(values > 0, header.grid, grid)
    has_parts = meaning in (Meaning.PARTS, Meaning.TREATED)
    cavity = Volume(labels == Label.CAVITY, grid) if meaning is Meaning.TREATED else None
    lesions = labels if cavity is None else np.where(cavity.data, 0, labels)
    components = _components(lesions, meaning, grid)
    unknown = _unknown_in_result(path) if has_parts else LESION_PARTS
    identity = f"a mask|{identity_of(study, inputs)}"
    findings = measure_mask(components, prepared, identity, unknown)
    header_notices = (f"The mask: {notice}" for notice in header.notices)
    notices = [
        f"Opened from a mask: {meaning.value}",
        *header_notices,
        *_other_study_notice(path, inputs),
        *_identity_notices(path, study, prepared, fraction_outside),
    ]
    if off_grid:
        codes = header.codes, study.series[prepared.reference].nifti_codes
        notices += _standard_space_notice(*codes)
        notices.append(_resampling_notice(header.grid, study))
        notices += _lost_regions_notice(_components(values, meaning, header.grid), labels, prepared)
    if components.count:
        notices.append(
            "A mask contains no score, attention, uncertainty or contributions of sequences"
        )
    return Analysis(
        study=study,
        prepared=prepared,
        maps=None,
        volumes=Volumes(Volume(components.labels, grid), {}, {}, cavity=cavity),
        findings=findings,
        run=_run(path, inputs, tuple(notices)),
    )


def _unknown_in_result(path: Path) -> frozenset[Region]:
    """Return the parts that a result's own segmentation does not distinguish, by its findings."""
    if path.name != _OWN_NAME:
        return frozenset()
    try:
        return read_model(path.with_name("findings.json"), FindingsFile).unknown_parts
    except (OSError, ValueError, ReadError):  # of another program, or alone
        return frozenset()


def _standard_space_notice(*codes: tuple[int, int]) -> tuple[str, ...]:
    """Return a notice if only some files lie in a standard space, by their sform or else qform."""
    standard = {(sform or qform) in _STANDARD_SPACE_CODES for sform, qform in codes}
    return (_MIXED_SPACES_NOTICE,) * (len(standard) > 1)


def _resampling_notice(grid: Grid, study: Study) -> str:
    """Return the notice about a mask on another grid, a question if no series has these voxels."""
    has_series = any(grid.storage_order(s.grid, tolerance_mm=1e-2) for s in study.all_series)
    return _RESAMPLED_NOTICE if has_series else _NO_GRID_NOTICE


def _lost_regions_notice(
    drawn: ComponentMask, labels: NDArray[np.int32], prepared: PreparedStudy
) -> tuple[str, ...]:
    """Return a notice if regions of a mask have no voxel among the resampled `labels`.

    Each resampled voxel is of the region with the nearest voxel of the mask.
    """
    voxels, resampled = np.argwhere(drawn.components), np.argwhere(labels)
    if not len(voxels):
        return ()
    tree = cKDTree(drawn.grid.to_mm(voxels))
    nearest = voxels[tree.query(prepared.native.to_mm(resampled))[1]]
    lost = drawn.count - len(np.unique(drawn.components[tuple(nearest.T)]))
    if not lost:
        return ()
    return (
        f"{lost} of {drawn.count} regions of the mask are too small for the voxels of the "
        f"{prepared.reference.display_name}, or lie between or beyond them: left out",
    )


def _identity_notices(
    path: Path, study: Study, prepared: PreparedStudy, fraction_outside: float
) -> list[str]:
    """Return notices if name or position suggest that a mask is of another study."""
    notices = []
    files = [series.files[0].path for series in study.series.values()]
    if study.kind is StudyKind.NIFTI and is_of_other_study(path, files):
        notices.append(
            "The mask, or its folder, is named for another examination. Is it a mask of this study?"
        )
    if fraction_outside > MIN_FRACTION_BEYOND:
        reference = prepared.reference.display_name
        summary = f"{fraction_outside:.1%} of the mask's voxels lie outside the {reference}"
        notices.append(f"{summary}: left out. Is it a mask of this study?")
    return notices


def _other_study_notice(path: Path, inputs: InputFiles) -> tuple[str, ...]:
    """Return a notice if a mask is in the result of another study."""
    try:
        input_digests = {row.sha256 for row in read_run_file(path.parent).inputs}
    except ReadError:  # no result
        return ()
    return (_OTHER_STUDY_NOTICE,) * input_digests.isdisjoint(digest for _, digest in inputs.files)


def _whole_numbers(values: NDArray[np.float32], name: str) -> NDArray[np.int32]:
    problem = None
    if not np.isfinite(values).all():
        problem = "values that are not numbers"
    elif (values != np.rint(values)).any():
        problem = "fractions, as in an image or a probability map"
    elif values.min(initial=0.0) < 0 or values.max(initial=0.0) > np.iinfo(np.int32).max:
        problem = "negative or excessively large numbers"
    elif len(np.unique(values)) - 1 > MAX_NUMBERS:
        problem = f"more than {MAX_NUMBERS} different numbers, as in an image"
    if problem is not None:
        raise ReadError(
            found=f"{name!r} with {problem}",
            expected="a mask: 0 outside, whole numbers in the lesions",
            next_step="Choose the segmentation; make a mask of probabilities first",
        )
    return values.astype(np.int32)


def _resample_labels(
    values: NDArray[np.int32], numbers: frozenset[int], source: Grid, grid: Grid
) -> NDArray[np.int32]:
    """Return (I, J, K) int32 labels of voxels covered by half or more; the majority wins."""
    covered, best_fraction = np.zeros((2, *grid.shape), np.float32)
    labels = np.zeros(grid.shape, np.int32)
    for number in sorted(numbers):
        fraction = resample((values == number).astype(np.float32), source, grid)
        is_larger = fraction > best_fraction
        labels[is_larger], best_fraction[is_larger] = number, fraction[is_larger] - _TIE_TOLERANCE
        covered += fraction
    return np.where(covered > HALF, labels, 0)


def _components(values: NDArray[np.int32], meaning: Meaning, grid: Grid) -> ComponentMask:
    """Split the mask into lesions: by connectivity, unless labels number them."""
    if meaning is Meaning.LESIONS:
        numbers, component_index = np.unique(values, return_inverse=True)
        offset = 0 if numbers[0] == 0 else 1
        components = (component_index.reshape(values.shape) + offset).astype(np.int32)
        labels = np.where(components > 0, Label.OEDEMA, Label.BACKGROUND).astype(np.uint8)
        return ComponentMask(labels, components, len(numbers) - 1 + offset, grid)
    components, count = ndimage.label(values > 0, structure=TOUCHING)
    if meaning is Meaning.WHOLE:
        labels = np.where(values > 0, Label.OEDEMA, Label.BACKGROUND).astype(np.uint8)
    else:
        label_by_number = {**_PARTS, **_PARTS_BEFORE_2023} if meaning is Meaning.PARTS else _PARTS
        labels = np.zeros(values.shape, np.uint8)
        for number, label in label_by_number.items():
            labels[values == number] = label
    return ComponentMask(labels, components.astype(np.int32), count, grid)


def _run(path: Path, inputs: InputFiles, notices: tuple[str, ...]) -> RunInfo:
    return RunInfo(
        engine=EngineInfo(
            name=MASK,  # its file may be named after the patient
            version=sha256_of(path)[:12],
            weights_sha256=None,
        ),
        device="none: a mask was opened",
        stages=(),
        versions=versions(),
        inputs=inputs.files,
        series=inputs.series,
        started=now(),
        notices=notices,
    )
