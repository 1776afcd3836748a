"""Build a reviewable result from any NIfTI segmentation.

Regions are measured and located like the network's; no network is needed. The meaning of the labels
is inferred: a single label is the whole lesion; 1, 2 and 3 are core, oedema and enhancing tumour
(BraTS 2023, LesionLens), with 4 instead of 3 in earlier BraTS, and with 4 beside 3 as the resection
cavity (BraTS 2024); any others number the lesions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from enum import StrEnum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lesionlens.analysis.findings import anatomy
from lesionlens.analysis.findings.candidates import NO_T1C, Context, Evidence, describe
from lesionlens.analysis.findings.components import ComponentMask
from lesionlens.analysis.findings.kinds import with_kinds
from lesionlens.base.errors import ReadError
from lesionlens.base.geometry import TOUCHING
from lesionlens.base.grid import MIN_SHARE_BEYOND, Grid, share_beyond
from lesionlens.base.labels import Label, Source
from lesionlens.base.provenance import sha256_of, versions
from lesionlens.base.records.analysis import Analysis, RunInfo, Volumes
from lesionlens.base.records.arrays import Volume
from lesionlens.base.records.files import as_stored
from lesionlens.base.records.findings import Findings
from lesionlens.base.records.parts import read_run_file
from lesionlens.base.records.prediction import MASK, Capability, EngineInfo
from lesionlens.base.records.study import PreparedStudy, Study, StudyKind
from lesionlens.imaging.preparation.resampling import HALF, resample
from lesionlens.imaging.reading.nifti import names
from lesionlens.imaging.reading.nifti.header import read_header
from lesionlens.imaging.reading.nifti.voxels import read_voxels
from lesionlens.imaging.reading.readers import InputFiles, identity_of, inputs_of
from lesionlens.results.review.log import now

MAX_NUMBERS = 255
_NO_PARTS = (
    "The outlines do not tell core and enhancing part from the rest: their volumes and the RANO "
    "rule are left empty"
)
_STANDARD = frozenset({3, 4, 5})
"""NIfTI's codes of Talairach, MNI and other template spaces."""
_ONE_STANDARD = (
    "By their headers one of mask and reference lies in a standard space (Talairach, MNI or "
    "another template), the other does not. Do the marks lie on the lesions?"
)
_OTHER_FILES = (
    "The mask lies in a result that was made of other images. Is it a mask of this study?"
)
_TIE = np.float32(1 - 2 * HALF)
"""If two labels' shares of a voxel differ by less, the larger label wins."""
_PARTS: Mapping[int, Label] = {1: Label.CORE, 2: Label.OEDEMA, 3: Label.ENHANCING}
_PARTS_BEFORE_2023 = {1: Label.CORE, 2: Label.OEDEMA, 4: Label.ENHANCING}


class Meaning(StrEnum):
    """The meaning of a mask's labels."""

    WHOLE = "one number: lesions as a whole"
    PARTS = "1 core, 2 oedema, 3 (or 4) enhancing"
    TREATED = "1 core, 2 oedema, 3 enhancing, 4 resection cavity"
    LESIONS = "each number a lesion"


def meaning_of(numbers: frozenset[int]) -> Meaning:
    """Infer the meaning of a mask's non-zero labels.

    Examples
    --------
    >>> meaning_of(frozenset({7})).name, meaning_of(frozenset({1, 2, 4})).name
    ('WHOLE', 'PARTS')
    >>> meaning_of(frozenset({2, 3, 4})).name
    'TREATED'
    >>> meaning_of(frozenset({1, 2, 3, 4, 5})).name
    'LESIONS'
    """
    if len(numbers) <= 1:
        return Meaning.WHOLE
    if numbers <= set(_PARTS) or numbers <= set(_PARTS_BEFORE_2023):
        return Meaning.PARTS
    return Meaning.TREATED if numbers <= {*_PARTS, Label.CAVITY} else Meaning.LESIONS


def from_mask(path: Path, study: Study, prepared: PreparedStudy) -> Analysis:
    """Build a result from a NIfTI mask.

    Parameters
    ----------
    path : Path
        A file with integer labels, on any grid in patient coordinates.
    study : Study
        The opened study; its reference sequence gives the grid.
    prepared : PreparedStudy
        From `preparation.prepare.prepare`.

    Raises
    ------
    ReadError
        Not a mask: non-integer or too many labels; or outside the study's images.
    """
    header = read_header(path)
    values = _whole_numbers(read_voxels(path, header.grid.shape), path.name)
    numbers = frozenset(int(n) for n in np.unique(values) if n)
    grid, meaning, inputs = prepared.native, meaning_of(numbers), inputs_of(study)
    moved = not header.grid.matches(grid, tolerance_mm=1e-2)
    onto = _onto(values, numbers, header.grid, grid) if moved else values
    if numbers and not onto.any():
        raise ReadError(
            found=f"{path.name!r}, whose marks all lie outside the "
            f"{prepared.reference.display_name}",
            expected="a mask of this study, in the patient's millimetres",
            next_step="Open the study that it was drawn on, or export it with its geometry",
        )
    lost = share_beyond(values > 0, header.grid, grid)
    parted = meaning in (Meaning.PARTS, Meaning.TREATED)
    cavity = Volume(onto == Label.CAVITY, grid) if meaning is Meaning.TREATED else None
    marked = _components(onto if cavity is None else np.where(cavity.data, 0, onto), meaning, grid)
    findings = describe(
        marked,
        Evidence([None] * marked.count),
        Context(
            whole_tumour=None,
            head=(head := anatomy.head_of(prepared)),
            has_t1c=parted and prepared.has_t1c,
            identity=f"a mask|{identity_of(study, inputs)}",
            quality=prepared.quality,
        ),
    )
    if not parted:
        findings = without_parts(findings)
    theirs = (replace(one, source=Source.SEGMENTATION) for one in findings.candidates)
    named = with_kinds(tuple(theirs), findings.components, prepared, head)
    said = (notice.replace(path.name, "the mask") for notice in header.notices)
    notices = [
        f"Opened from a mask: {meaning.value}",
        *said,
        *_made_elsewhere(path, inputs),
        *_doubts(path, study, prepared, lost),
        *_spaces(header.codes, study.series[prepared.reference].nifti_codes) * moved,
    ]
    notices += ["The mask lies on other voxels than the reference: resampled"] * moved
    notices += ["A mask gives no score"] * bool(marked.count)
    return Analysis(
        study=study,
        prepared=prepared,
        maps=None,
        volumes=Volumes(Volume(marked.labels, grid), {}, {}, cavity=cavity),
        findings=as_stored(replace(findings, candidates=named)),
        run=_run(path, inputs, tuple(notices)),
    )


def _spaces(*codes: tuple[int, int]) -> tuple[str, ...]:
    """Return a notice if of files some lie in a standard space, by their sform or else qform."""
    standard = {(sform or qform) in _STANDARD for sform, qform in codes}
    return (_ONE_STANDARD,) * (len(standard) > 1)


def _doubts(path: Path, study: Study, prepared: PreparedStudy, lost: float) -> list[str]:
    """Return notices if a mask may be of another study, by its name or its share outside."""
    notices = []
    files = [series.files[0].path for series in study.series.values()]
    another = names.of_another(path.name, [file.name for file in files])
    another = another or names.in_folder_of_another(path, files)
    if study.kind is StudyKind.NIFTI and another:
        notices.append(
            "The mask, or its folder, is named for another examination. Is it a mask of this study?"
        )
    if lost > MIN_SHARE_BEYOND:
        outside = (
            f"{lost:.1%} of the mask's voxels lie outside the {prepared.reference.display_name}"
        )
        notices.append(f"{outside}: left out. Is it a mask of this study?")
    return notices


def _made_elsewhere(path: Path, inputs: InputFiles) -> tuple[str, ...]:
    """Return a notice if a mask lies in a result that was made of none of a study's files."""
    try:
        made_of = {row.sha256 for row in read_run_file(path.parent).inputs}
    except ReadError:  # no result
        return ()
    return (_OTHER_FILES,) * made_of.isdisjoint(digest for _, digest in inputs.files)


def without_parts(found: Findings) -> Findings:
    """Return findings of outlines of whole lesions; what only their parts would show is empty."""
    candidates = tuple(c.without_parts() for c in found.candidates)
    kept = tuple(notice for notice in found.notices if notice != NO_T1C)
    return replace(found, candidates=candidates, notices=(_NO_PARTS, *kept) if candidates else ())


def _whole_numbers(values: NDArray[np.float32], name: str) -> NDArray[np.int32]:
    found = None
    if not np.isfinite(values).all():
        found = "values that are no numbers"
    elif (values != np.rint(values)).any():
        found = "fractions, as in an image or a probability map"
    elif values.min(initial=0.0) < 0 or values.max(initial=0.0) > np.iinfo(np.int32).max:
        found = "numbers below 0 or beyond counting"
    elif len(np.unique(values)) - 1 > MAX_NUMBERS:
        found = f"more than {MAX_NUMBERS} different numbers, as in an image"
    if found is not None:
        raise ReadError(
            found=f"{name!r} with {found}",
            expected="a mask: 0 outside, whole numbers in the lesions",
            next_step="Choose the segmentation; make a mask of probabilities first",
        )
    return values.astype(np.int32)


def _onto(
    values: NDArray[np.int32], numbers: frozenset[int], source: Grid, grid: Grid
) -> NDArray[np.int32]:
    """Return (I, J, K) int32 labels on `grid`, each resampled by itself; the majority wins."""
    most = np.full(grid.shape, np.float32(HALF))
    found = np.zeros(grid.shape, np.int32)
    for number in sorted(numbers):
        share = resample((values == number).astype(np.float32), source, grid)
        better = share > most
        found[better], most[better] = number, share[better] - _TIE
    return found


def _components(values: NDArray[np.int32], meaning: Meaning, grid: Grid) -> ComponentMask:
    """Split the mask into lesions: by connectivity, unless labels number them."""
    if meaning is Meaning.LESIONS:
        numbers, flat = np.unique(values, return_inverse=True)
        offset = 0 if numbers[0] == 0 else 1
        components = (flat.reshape(values.shape) + offset).astype(np.int32)
        labels = np.where(components > 0, Label.OEDEMA, Label.BACKGROUND).astype(np.uint8)
        return ComponentMask(labels, components, len(numbers) - 1 + offset, grid)
    components, count = ndimage.label(values > 0, structure=TOUCHING)
    if meaning is Meaning.WHOLE:
        labels = np.where(values > 0, Label.OEDEMA, Label.BACKGROUND).astype(np.uint8)
    else:
        known = {**_PARTS, **_PARTS_BEFORE_2023} if meaning is Meaning.PARTS else _PARTS
        labels = np.zeros(values.shape, np.uint8)
        for number, label in known.items():
            labels[values == number] = label
    return ComponentMask(labels, components.astype(np.int32), count, grid)


def _run(path: Path, inputs: InputFiles, notices: tuple[str, ...]) -> RunInfo:
    return RunInfo(
        engine=EngineInfo(
            name=MASK,  # its file may be named after the patient
            version=sha256_of(path)[:12],
            weights_sha256=None,
            capabilities=frozenset({Capability.SEGMENT}),
        ),
        device="none: a mask was opened",
        stages=(),
        versions=versions(),
        inputs=inputs.files,
        series=inputs.series,
        started=now(),
        notices=notices,
    )
