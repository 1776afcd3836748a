"""Open a saved result again.

A result folder contains no images: candidates, labels and maps are read from it, images and the
working grid from its study, whose identity is checked. Only the preparation is computed again;
probes, which need the network's trace, are not available.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from numpy.typing import NDArray
from pydantic import TypeAdapter

from lesionlens.analysis.findings.edits import applied, is_of_edits
from lesionlens.base.errors import GeometryError, ReadError
from lesionlens.base.files import read_json
from lesionlens.base.grid import Grid
from lesionlens.base.labels import MrSequence, Region
from lesionlens.base.records.analysis import Analysis, Document, RunInfo, Volumes
from lesionlens.base.records.arrays import Volume, without_cavity
from lesionlens.base.records.attention import AttentionMaps, SequenceEvidence
from lesionlens.base.records.export import ExportOptions
from lesionlens.base.records.files import (
    CONSIDERED,
    ORIGINAL,
    ConsideredFile,
    FindingsFile,
    RunFile,
    left_out_warning,
    read_part,
    read_run_file,
    unreadable_part,
)
from lesionlens.base.records.findings import Candidate, Considered, Findings
from lesionlens.base.records.followup import Comparison
from lesionlens.base.records.prediction import EngineInfo
from lesionlens.base.records.study import PreparedStudy, Study
from lesionlens.base.run_context import RunContext
from lesionlens.base.scan_limits import check_size
from lesionlens.base.storage import edited_since, finish, finish_in, listed
from lesionlens.base.text import joined_with_and
from lesionlens.imaging.preparation.prepare import DEFAULT_OPTIONS, PrepareOptions, prepare
from lesionlens.imaging.preparation.resampling import resample
from lesionlens.imaging.reading.dicom.files import sop_class
from lesionlens.imaging.reading.nifti import is_volume
from lesionlens.imaging.reading.sequences import is_label_name
from lesionlens.results.documents import documents_followed
from lesionlens.results.review import store
from lesionlens.results.review.pairing import OtherStudyError, paired
from lesionlens.results.review.saved_parts import AlteredResultError, check_measures, check_review
from lesionlens.results.review.saved_result import SavedResult


def is_result(folder: Path) -> bool:
    """Return whether a folder looks like a saved result, without reading files."""
    return (folder / "findings.json").is_file() and (folder / "run.json").is_file()


def result_folder(path: Path) -> Path:
    """Return the folder if the path is a result's `findings.json`, else the path itself.

    An interrupted replacement of the folder is completed or reverted first.
    """
    folder = path.parent if path.name == "findings.json" else path
    finish(folder)
    return folder if is_result(folder) else path


def existing_result(path: Path) -> Path:
    """Return the folder of a saved result; see `result_folder`.

    Raises
    ------
    ReadError
        There is none.
    """
    folder = result_folder(path)
    if not is_result(folder):
        raise ReadError(
            found=f"no result in {folder.name!r}",
            expected="a folder with findings.json and run.json, as `analyze` writes it",
            next_step="Check the path; DICOM objects alone also need the study",
        )
    return folder


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
    finish_in(folder)
    entries = sorted(folder.iterdir()) if folder.is_dir() else []
    return [entry for entry in entries if entry.is_dir() and is_result(entry)]


def is_mask(path: Path) -> bool:
    """Return whether a path is a mask or a DICOM Segmentation, by its name or header.

    A NIfTI file is a mask by its name ("seg", "mask", "label"…).
    """
    if is_volume(path):
        return is_label_name(path.name)
    from lesionlens.results.review.sent_objects import SEGMENTATIONS

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
    finish(folder)
    run = read_run_file(folder)
    edited = edited_since(folder)
    notices = (f"Edited since the result was written: {', '.join(edited)}",) * bool(edited)
    original = f"{ORIGINAL}/" if (folder / ORIGINAL).is_dir() else ""
    outlines = _read_outlines(folder, original)
    content = outlines.content
    tracking_uids = {candidate.tracking_uid for candidate in outlines.candidates}
    return SavedResult(
        findings=Findings(
            candidates=outlines.candidates,
            components=outlines.components,
            quality=content.quality,
            conclusion=content.conclusion,
            notices=content.warnings,
            considered=_considered(folder),
        ),
        volumes=_volumes(folder, outlines)
        if maps
        else Volumes(outlines.labels, {}, {}, cavity=outlines.cavity),
        review=store.load(folder, lambda review: check_review(review, run, tracking_uids)),
        run=_run(run, notices, documents_followed(folder)),
        reference=content.reference,
        attention=run.attention,
        followup=_followup(folder / original) or _followup(folder),
        options=ExportOptions(
            evidence=any((folder / n).is_file() for n in (CONSIDERED, "evidence_none.nii.gz"))
        ),
        has_t1c=MrSequence.T1C in content.sequences,
        sequences=content.sequences,
    )


def read_reviewed(folder: Path) -> SavedResult:
    """Read a result folder with its edits applied; needs no study. Raises as `read_result`."""
    saved = read_result(folder)
    if not (folder / ORIGINAL).is_dir():
        return saved
    edited = _read_outlines(folder)
    findings = replace(
        saved.findings,
        candidates=edited.candidates,
        components=edited.components,
        conclusion=edited.content.conclusion,
    )
    volumes = replace(
        saved.volumes,
        labels=edited.labels,
        cavity=edited.cavity,
    )
    return replace(saved, findings=findings, volumes=volumes, followup=_followup(folder))


class _Outlines(NamedTuple):
    """The candidates of a result and their voxels on the native grid, checked."""

    content: FindingsFile
    candidates: tuple[Candidate, ...]
    components: NDArray[np.int32]
    """(I, J, K) int32: id of the candidate at each voxel."""
    labels: Volume
    cavity: Volume | None


def _read_outlines(folder: Path, subfolder: str = "") -> _Outlines:
    """Read findings.json, labels and ids of a result, or of the network's own in a subfolder."""
    content = read_part(folder / subfolder / "findings.json", FindingsFile)
    labels, cavity_volume = without_cavity(
        _volume(folder / subfolder / "segmentation.nii.gz", np.uint8)
    )
    cavity = None if content.resection_cavity_ml is None else cavity_volume
    ids = _volume(folder / subfolder / "candidates.nii.gz", np.int32)
    candidates = tuple(row.candidate for row in content.candidates)
    check_measures(candidates, ids, labels, subfolder)
    return _Outlines(content, candidates, ids.data, labels, cavity)


def _volumes(folder: Path, outlines: _Outlines) -> Volumes:
    """Read the maps."""
    return Volumes(
        labels=outlines.labels,
        probability=_regions(folder, "probability"),
        attention=_regions(folder, "attention"),
        uncertainty=_optional(folder / "uncertainty.nii.gz"),
        evidence=_evidence(folder),
        cavity=outlines.cavity,
    )


def read_run(folder: Path) -> RunInfo:
    """Read engine and inputs of a result, without its volumes; raises as `read_result`."""
    finish(folder)
    return _run(read_run_file(folder), ())


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
        options=saved.options,
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
        if not is_volume(path):
            from lesionlens.results.review.sent_objects import find_objects

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
    if is_volume(folder):
        from lesionlens.results.review.from_mask import from_mask

        return from_mask(folder, study, prepared)
    from lesionlens.results.review.from_dicom import from_dicom

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


def _volume(path: Path, dtype: Any) -> Volume:
    if path.exists() and not path.is_file():
        raise unreadable_part(path)
    try:
        image: Any = nib.load(path)
        check_size(image.shape, path.name)
        is_map = dtype is np.float32
        stored: NDArray[Any] = (
            image.get_fdata("unchanged", dtype) if is_map else np.asarray(image.dataobj)
        )
        with np.errstate(invalid="ignore"):
            data: NDArray[Any] = stored.astype(dtype, copy=False)
        grid = Grid(data.shape, image.affine)
    except (OSError, EOFError, ValueError, zlib.error, ImageFileError, GeometryError) as error:
        raise unreadable_part(path, error) from error
    if not np.isfinite(stored).all() or (dtype is not np.float32 and (data != stored).any()):
        raise AlteredResultError((path.name,), "numbers that LesionLens never writes there")
    return Volume(data, grid)


def _optional(path: Path, dtype: Any = np.float32) -> Volume | None:
    return _volume(path, dtype) if path.exists() else None


def _regions(folder: Path, kind: str) -> dict[Region, Volume]:
    volumes = {region: _optional(folder / f"{kind}_{region.value}.nii.gz") for region in Region}
    return {region: volume for region, volume in volumes.items() if volume is not None}


def _evidence(folder: Path) -> SequenceEvidence | None:
    """Read the sequence contributions at every voxel, if saved."""
    baseline = _optional(folder / "evidence_none.nii.gz")
    volumes = {s: _optional(folder / f"evidence_{s.value}.nii.gz") for s in MrSequence}
    contributions = {s: volume.data for s, volume in volumes.items() if volume is not None}
    return (
        SequenceEvidence(contributions, baseline.data, baseline.grid)
        if baseline and contributions
        else None
    )


def _considered(folder: Path) -> tuple[Considered, ...]:
    """Read the dismissed regions, if saved."""
    path = folder / CONSIDERED
    rows = read_part(path, ConsideredFile).considered if path.is_file() else ()
    return tuple(row.considered for row in rows)


def _followup(folder: Path) -> Comparison | None:
    """Read the comparison with earlier examinations, if saved."""
    path = folder / "followup.json"
    if not path.is_file():
        return None
    try:
        content = read_json(path)
        fields = {name: content[name] for name in ("points", "changes", "alignment")}
        fields["changes"] = [
            {name: row.get(name) for name in ("before", "now", "beside")}
            for row in fields["changes"]
        ]
        fields |= {"own_uids": content.get("own_uids", {}), "gone": content.get("gone", ())}
        return TypeAdapter(Comparison).validate_json(json.dumps(fields))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise unreadable_part(path, error) from error


def _run(
    run: RunFile, notices: tuple[str, ...] = (), documents: tuple[Document, ...] = ()
) -> RunInfo:
    left_out = {left_out_warning(*item) for item in run.left_out.items()}  # only about that export
    warnings = (w for w in run.warnings if w not in left_out and not is_of_edits(w))
    return RunInfo(
        engine=EngineInfo(
            name=run.engine,
            version=run.engine_version,
            weights_sha256=run.weights_sha256,
            device=run.device,
            calibrated=run.calibrated,
            precision=run.precision,
            threads=run.threads,
        ),
        device=run.device,
        stages=run.stages,
        versions=run.versions,
        inputs=tuple((row.file, row.sha256) for row in run.inputs),
        started=run.started,
        notices=tuple(dict.fromkeys((*warnings, *notices))),
        trained_on=run.trained_on,
        series=run.series,
        documents=documents,
        redrawn=frozenset(run.redrawn),
        omitted=run.omitted,
        omitted_decided=run.omitted_decided,
        preparation=run.preparation,
    )
