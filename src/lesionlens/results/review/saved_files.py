"""Read the files of a result folder as records; each is checked by itself, without its study."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from numpy.typing import NDArray
from pydantic import BaseModel, TypeAdapter

from lesionlens.analysis.findings.edits import is_of_edits
from lesionlens.base.errors import GeometryError
from lesionlens.base.files.bounded_read import read_json, read_model
from lesionlens.base.grid import Grid
from lesionlens.base.labels import MrSequence, Region
from lesionlens.base.records.analysis import Document, RunInfo, Volumes
from lesionlens.base.records.arrays import Volume, without_cavity
from lesionlens.base.records.evidence import SequenceEvidence
from lesionlens.base.records.files import (
    CONSIDERED,
    DOUBTFUL,
    ConsideredFile,
    FindingsFile,
    RunFile,
    left_out_warning,
)
from lesionlens.base.records.findings import Candidate, Considered
from lesionlens.base.records.followup import Comparison
from lesionlens.base.records.parts import AlteredResultError, unreadable_part
from lesionlens.base.records.prediction import Capability, EngineInfo
from lesionlens.base.scan_limits import check_size
from lesionlens.results.review.saved_parts import check_measures

Model = TypeVar("Model", bound=BaseModel)

_REDRAWN_WARNING = "were drawn anew with another outline"
"""Part of the warning that earlier releases wrote instead of `RunInfo.redrawn`."""


class SavedOutlines(NamedTuple):
    """The candidates of a result and their voxels on the native grid, checked."""

    content: FindingsFile
    candidates: tuple[Candidate, ...]
    components: NDArray[np.int32]
    """(I, J, K) int32: id of the candidate at each voxel."""
    labels: Volume
    cavity: Volume | None


def read_outlines(folder: Path, subfolder: str = "") -> SavedOutlines:
    """Read findings.json, labels and ids of a result, or of the network's own in a subfolder."""
    content = _read_model(folder / subfolder / "findings.json", FindingsFile)
    labels, cavity_volume = without_cavity(
        _read_volume(folder / subfolder / "segmentation.nii.gz", np.uint8)
    )
    cavity = None if content.resection_cavity_ml is None else cavity_volume
    ids = _read_volume(folder / subfolder / "candidates.nii.gz", np.int32)
    candidates = tuple(row.candidate for row in content.candidates)
    check_measures(candidates, ids, labels, subfolder)
    return SavedOutlines(content, candidates, ids.data, labels, cavity)


def read_volumes(folder: Path, subfolder: str, outlines: SavedOutlines) -> Volumes:
    """Read the maps; the network's doubtful parts lie in the subfolder if outlines were edited."""
    return Volumes(
        labels=outlines.labels,
        probability=_read_regions(folder, "probability"),
        attention=_read_regions(folder, "attention"),
        uncertainty=read_optional_volume(folder / "uncertainty.nii.gz"),
        evidence=_read_evidence(folder),
        doubtful=read_optional_volume(folder / subfolder / DOUBTFUL, np.uint16)
        or read_optional_volume(folder / DOUBTFUL, np.uint16),
        cavity=outlines.cavity,
    )


def _read_model(path: Path, model: type[Model]) -> Model:
    try:
        return read_model(path, model)
    except (OSError, ValueError) as error:
        raise unreadable_part(path, error) from error


def _read_volume(path: Path, dtype: Any) -> Volume:
    if path.exists() and not path.is_file():
        raise unreadable_part(path)
    try:
        image: Any = nib.load(path)
        check_size(image.shape, path.name)
        stored: NDArray[Any] = np.asarray(image.dataobj)
        with np.errstate(invalid="ignore"):
            data: NDArray[Any] = stored.astype(dtype, copy=False)
        grid = Grid(data.shape, image.affine)
    except (OSError, EOFError, ValueError, zlib.error, ImageFileError, GeometryError) as error:
        raise unreadable_part(path, error) from error
    if not np.isfinite(stored).all() or (dtype is not np.float32 and (data != stored).any()):
        raise AlteredResultError((path.name,), "numbers that LesionLens never writes there")
    return Volume(data, grid)


def read_optional_volume(path: Path, dtype: Any = np.float32) -> Volume | None:
    """Read a volume of a result; None if it was not saved."""
    return _read_volume(path, dtype) if path.exists() else None


def _read_regions(folder: Path, kind: str) -> dict[Region, Volume]:
    volumes = {
        region: read_optional_volume(folder / f"{kind}_{region.value}.nii.gz") for region in Region
    }
    return {region: volume for region, volume in volumes.items() if volume is not None}


def _read_evidence(folder: Path) -> SequenceEvidence | None:
    """Read the sequence contributions at every voxel, if saved."""
    baseline = read_optional_volume(folder / "evidence_none.nii.gz")
    volumes = {s: read_optional_volume(folder / f"evidence_{s.value}.nii.gz") for s in MrSequence}
    contributions = {s: volume.data for s, volume in volumes.items() if volume is not None}
    return (
        SequenceEvidence(contributions, baseline.data, baseline.grid)
        if baseline and contributions
        else None
    )


def read_considered(folder: Path) -> tuple[Considered, ...]:
    """Read the dismissed regions, if saved."""
    path = folder / CONSIDERED
    rows = _read_model(path, ConsideredFile).considered if path.is_file() else ()
    return tuple(row.considered for row in rows)


def read_comparison(folder: Path) -> Comparison | None:
    """Read the comparison with earlier examinations, if saved."""
    path = folder / "followup.json"
    if not path.is_file():
        return None
    try:
        content = read_json(path)
        fields = {name: content[name] for name in ("points", "changes", "alignment")}
        fields["changes"] = [
            {name: row.get(name) for name in ("before", "now", "beside", "joint")}
            for row in fields["changes"]
        ]
        fields |= {"own_uids": content.get("own_uids", {}), "gone": content.get("gone", ())}
        return TypeAdapter(Comparison).validate_json(json.dumps(fields))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise unreadable_part(path, error) from error


def run_info_of(
    run: RunFile,
    candidates: Iterable[str],
    notices: tuple[str, ...] = (),
    documents: tuple[Document, ...] = (),
) -> RunInfo:
    """Return the record of run.json, without the warnings about its export and its edits.

    `candidates` are the tracking UIDs of a result whose release recorded no `redrawn`.
    """
    redrawn = run.redrawn
    if redrawn is None:  # an earlier release said so in a warning alone
        redrawn = tuple(candidates) if any(_REDRAWN_WARNING in w for w in run.warnings) else ()
    left_out = {left_out_warning(*item) for item in run.left_out.items()}  # only about that export
    warnings = (w for w in run.warnings if w not in left_out and not is_of_edits(w))
    return RunInfo(
        engine=EngineInfo(
            name=run.engine,
            version=run.engine_version,
            weights_sha256=run.weights_sha256,
            capabilities=frozenset({Capability.SEGMENT}),
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
        redrawn=frozenset(redrawn),
        omitted=run.omitted,
        omitted_decided=run.omitted_decided,
        preparation=run.preparation,
    )
