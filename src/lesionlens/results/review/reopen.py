"""Open a saved result again.

A result folder contains no images: candidates, labels and maps are read from it, images and the
working grid from its study, whose identity is checked. Only the preparation is computed again;
probes, which need the network's trace, are not available.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from lesionlens.analysis.findings.edits import applied
from lesionlens.base.files.journal import PREFIX, recover
from lesionlens.base.files.manifest import listed
from lesionlens.base.labels import MrSequence
from lesionlens.base.records.analysis import Analysis, RunInfo, Volumes
from lesionlens.base.records.attention import AttentionMaps
from lesionlens.base.records.export import ExportOptions
from lesionlens.base.records.files import CONSIDERED, DOUBTFUL, FindingsFile
from lesionlens.base.records.findings import Findings
from lesionlens.base.records.parts import MAPS, MEASURED, ORIGINAL, check_parts, read_run_file
from lesionlens.base.records.study import PreparedStudy, Study
from lesionlens.base.run_context import RunContext
from lesionlens.base.text import joined_with_and
from lesionlens.imaging.preparation.prepare import DEFAULT_OPTIONS, PrepareOptions, prepare
from lesionlens.imaging.preparation.resampling import resample
from lesionlens.imaging.reading.dicom.documents import documents_followed
from lesionlens.imaging.reading.dicom.scan import sop_class
from lesionlens.imaging.reading.nifti.folder import is_nifti
from lesionlens.imaging.reading.sequences import is_label_name
from lesionlens.results.review import store
from lesionlens.results.review.pairing import OtherStudyError, paired
from lesionlens.results.review.saved_files import (
    read_comparison,
    read_considered,
    read_optional_volume,
    read_outlines,
    read_volumes,
    run_info_of,
)
from lesionlens.results.review.saved_parts import check_review
from lesionlens.results.review.saved_result import SavedResult

_NO_DOUBTFUL_NOTICE = (
    "Doubtful parts of the outlines are unknown: the release that made this result did not look "
    "for them"
)


def is_result(folder: Path) -> bool:
    """Return whether a folder looks like a saved result, without reading files."""
    return (folder / "findings.json").is_file() and (folder / "run.json").is_file()


def result_folder(path: Path) -> Path:
    """Return the folder if the path is a result's `findings.json`, else the path itself.

    An interrupted replacement of the folder is completed or reverted first.
    """
    folder = path.parent if path.name == "findings.json" else path
    recover(folder)
    return folder if is_result(folder) else path


def result_of(paths: Sequence[Path]) -> Path | None:
    """Return the result that one path names, or whose files all paths are; None if there is none.

    Files are those listed in its `run.json`: its folder may contain other images.
    """
    if len(paths) == 1 and is_result(result_folder(paths[0])):
        return result_folder(paths[0])
    for folder in (paths[0].parent, paths[0].parent.parent) if paths else ():
        if is_result(folder):
            files = {folder / name for name in listed(folder, "run.json")}
            return folder if files.issuperset(paths) else None
    return None


def results_in(folder: Path) -> list[Path]:
    """Return the saved results directly below a folder, recovered and sorted by name."""
    entries = sorted(folder.iterdir()) if folder.is_dir() else []
    for entry in entries:
        if not is_result(entry) and any(entry.glob(f"{PREFIX}*")):
            recover(entry)
    return [entry for entry in entries if entry.is_dir() and is_result(entry)]


def is_mask(path: Path) -> bool:
    """Return whether a path is a mask or a DICOM Segmentation, by its name or header.

    A NIfTI file is a mask by its name ("seg", "mask", "label"…).
    """
    if is_nifti(path):
        return is_label_name(path.name)
    from lesionlens.results.review.sent_objects import SEGMENTATIONS  # noqa: PLC0415  (slow: pydicom)

    return path.is_file() and sop_class(path) in SEGMENTATIONS


def read_result(folder: Path, *, maps: bool = True) -> SavedResult:
    """Read a result folder.

    Parameters
    ----------
    maps : bool
        Whether to read maps too; labels and review alone take a tenth of the time.

    Raises
    ------
    ReadError
        A file is missing or was not written by LesionLens; the subclass `AlteredResultError` if it
        was not written with the others.
    """
    recover(folder)
    run = read_run_file(folder)
    notices = check_parts(folder, run, (*MEASURED, *MAPS) if maps else MEASURED)
    original = f"{ORIGINAL}/" if (folder / ORIGINAL).is_dir() else ""
    outlines = read_outlines(folder, original)
    content = outlines.content
    tracking_uids = {candidate.tracking_uid for candidate in outlines.candidates}
    return SavedResult(
        findings=Findings(
            candidates=outlines.candidates,
            components=outlines.components,
            quality=content.quality,
            conclusion=content.conclusion,
            notices=_warnings_of(content),
            considered=read_considered(folder),
            doubtful=content.doubtful,
        ),
        volumes=read_volumes(folder, original, outlines)
        if maps
        else Volumes(outlines.labels, {}, {}, cavity=outlines.cavity),
        review=store.load(folder, lambda review: check_review(review, run, tracking_uids)),
        run=run_info_of(run, tracking_uids, notices, documents_followed(folder)),
        reference=content.reference,
        attention=run.attention,
        followup=read_comparison(folder / original) or read_comparison(folder),
        has_evidence=(folder / CONSIDERED).is_file() or (folder / "evidence_none.nii.gz").is_file(),
        has_t1c=MrSequence.T1C in content.sequences,
        sequences=content.sequences,
    )


def _warnings_of(content: FindingsFile) -> tuple[str, ...]:
    """Return the warnings of a result, with one about what an earlier release did not measure."""
    if not content.candidates or "doubtful" in content.model_fields_set:
        return content.warnings
    return (*content.warnings, _NO_DOUBTFUL_NOTICE)


def read_reviewed(folder: Path) -> SavedResult:
    """Read a result folder with its edits applied; needs no study. Raises as `read_result`."""
    saved = read_result(folder)
    if not (folder / ORIGINAL).is_dir():
        return saved
    edited = read_outlines(folder)
    findings = replace(
        saved.findings,
        candidates=edited.candidates,
        components=edited.components,
        conclusion=edited.content.conclusion,
        doubtful=edited.content.doubtful,
    )
    volumes = replace(
        saved.volumes,
        labels=edited.labels,
        cavity=edited.cavity,
        doubtful=read_optional_volume(folder / DOUBTFUL, np.uint16),
    )
    return replace(saved, findings=findings, volumes=volumes, followup=read_comparison(folder))


def read_run(folder: Path) -> RunInfo:
    """Read engine and inputs of a result, without its volumes; raises as `read_result`."""
    recover(folder)
    return run_info_of(read_run_file(folder), ())


def reopen(saved: SavedResult, study: Study, prepared: PreparedStudy) -> Analysis:
    """Combine a saved result with its study as it was prepared.

    Parameters
    ----------
    study : Study
        With the series that were analysed; others beside them are tolerated.

    Raises
    ------
    ReadError
        It is not the result's study, or it was prepared with other series.
    """
    series = paired(saved, study).series
    other_names = [s.display_name for s in series if series[s] is not study.series.get(s)]
    if other_names:
        are = "is open from another series" if len(other_names) == 1 else "are open from others"
        raise OtherStudyError(f"{joined_with_and(other_names)} {are}")
    return _combine(saved, study, prepared)


def _combine(saved: SavedResult, study: Study, prepared: PreparedStudy) -> Analysis:
    if prepared.reference is not saved.reference:
        reference, saved_reference = prepared.reference.display_name, saved.reference.display_name
        raise OtherStudyError(f"its reference is {reference}, that of the result {saved_reference}")
    analysis = Analysis(
        study=study,
        prepared=replace(
            prepared,
            quality=saved.findings.quality,
            notices=(),  # those of the analysis are among its warnings
        ),
        maps=_maps(saved, prepared),
        volumes=saved.volumes,
        findings=saved.findings,
        run=saved.run,
        review=saved.review,
        followup=saved.followup,
        options=ExportOptions(evidence=saved.has_evidence),
    )
    return applied(analysis)


def prepare_and_reopen(
    path: Path, study: Study, context: RunContext, options: PrepareOptions = DEFAULT_OPTIONS
) -> Analysis:
    """Prepare a study, and combine it with a saved result or a segmentation.

    A result is combined with the series that it was made of, regardless of those chosen for the
    study, and keeps its reference. A result of another study, and a file that is neither a result
    nor a segmentation, are refused before the preparation. Images are checked for a segmentation
    only: a result contains its checks. `path` and errors are those of `reopen_folder`, `study` is
    that of `pairing.paired`.
    """
    path = result_folder(path)
    if not is_result(path):
        if not is_nifti(path):
            from lesionlens.results.review.sent_objects import find_objects  # noqa: PLC0415  (slow: pydicom)

            find_objects(path, study)
        return reopen_folder(path, study, prepare(study, context, options))
    saved = read_result(path)
    study = paired(saved, study)
    options = replace(options, checks=False)
    return _combine(saved, study, prepare(study, context, options))


def reopen_folder(folder: Path, study: Study, prepared: PreparedStudy) -> Analysis:
    """Combine a study, as for `reopen`, with a result folder, a mask, or DICOM objects.

    Parameters
    ----------
    folder : Path
        A result folder or its `findings.json`; a NIfTI mask; or a folder (or file) with a
        Segmentation of the study, from LesionLens or another program, and its report if there is
        one.

    Raises
    ------
    ReadError
        None of these, damaged, or of another study.
    """
    folder = result_folder(folder)
    if is_result(folder):
        return reopen(read_result(folder), study, prepared)
    if is_nifti(folder):
        from lesionlens.results.review.from_mask import from_mask  # noqa: PLC0415  (rarely needed)

        return from_mask(folder, study, prepared)
    from lesionlens.results.review.from_dicom import from_dicom  # noqa: PLC0415  (rarely needed)

    return from_dicom(folder, study, prepared)


def _maps(saved: SavedResult, prepared: PreparedStudy) -> AttentionMaps | None:
    attention = saved.attention
    if attention is None or not saved.volumes.attention:
        return None
    maps = {
        region: np.clip(resample(v.data, v.grid, prepared.working), 0.0, 1.0)
        for region, v in saved.volumes.attention.items()
    }
    return AttentionMaps(
        maps, attention.raw_range, attention.method, attention.layers, attention.trust
    )
