"""`/infer/`: the whole analysis, as label map, figures or DICOM Segmentation."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from lesionlens.base.errors import CancelledError, ResourceError, UnusableInputError
from lesionlens.base.files.scratch import ScratchFolder
from lesionlens.base.labels import TUMOUR_LABELS
from lesionlens.base.records.analysis import Analysis
from lesionlens.base.records.study import StudyKind
from lesionlens.base.run_context import RunContext
from lesionlens.engines.engine import Engine
from lesionlens.results.export import nifti, tables
from lesionlens.results.export.dicom.exporter import NOT_DICOM, DicomExporter
from lesionlens.results.lens import Lens
from lesionlens.site.serving.job_queue import Job
from lesionlens.site.serving.monailabel.images import for_client, study_of

LABELS = {label.name.lower(): int(label) for label in TUMOUR_LABELS}


class RequestedOutput(StrEnum):
    """Values of MONAI Label's `output`."""

    IMAGE = "image"
    JSON = "json"
    ALL = "all"
    DICOM_SEG = "dicom_seg"


@dataclass(frozen=True, slots=True)
class Inferred:
    """Result of an inference: figures, and a file if requested."""

    params: dict[str, Any]
    file_name: str = ""
    content: bytes = b""


@dataclass(frozen=True, slots=True)
class InferenceRequest:
    """An inference request about an image."""

    engine: Engine
    image: Path
    """Path of the image, as for `images.study_of`."""
    request_params: Mapping[str, Any]
    output: RequestedOutput


class Inference:
    """The analysis of one image, as a queued job."""

    def __init__(self, request: InferenceRequest) -> None:
        self._request = request
        self._result: Inferred | None = None
        self.on_start: Callable[[], None] = lambda: None
        """Called when its turn comes."""
        self.job = Job(self._work)

    @property
    def result(self) -> Inferred:
        """The result of a completed job.

        Raises
        ------
        LesionLensError
            As raised by `Lens`, or the image cannot be opened.
        """
        if self.job.error is not None or self._result is None:
            raise self.job.error or CancelledError()
        return self._result

    def _work(self, job: Job) -> bytes:
        self.on_start()
        with ScratchFolder() as scratch_folder:
            self._result = self._run(scratch_folder, job.context)
        return b"done"

    def _run(self, scratch_folder: Path, context: RunContext) -> Inferred:
        request = self._request
        study = study_of(request.image, request.request_params, scratch_folder, context)
        if request.output is RequestedOutput.DICOM_SEG and study.kind is not StudyKind.DICOM:
            raise _no_segmentation(NOT_DICOM)
        start = time.perf_counter()
        result = Lens(engine=request.engine)(study, context=context)
        return _inferred(result.analysis, request.output, time.perf_counter() - start)


def _inferred(analysis: Analysis, output: RequestedOutput, seconds: float) -> Inferred:
    findings = tables.findings_json(analysis)
    params = {
        "label_names": {label.name.lower(): int(label) for label in analysis.labels},
        "latencies": {"total": round(seconds, 2)},
        "findings": findings,
        "notices": for_client(analysis.warnings),
        "device": analysis.run.device,
    }
    if output is RequestedOutput.JSON:
        return Inferred(params)
    with ScratchFolder() as folder:
        if output is RequestedOutput.DICOM_SEG:
            return Inferred(params, "seg.dcm", _dicom_segmentation(analysis, folder))
        path = folder / "label.nii.gz"
        nifti.write_volume(path, analysis.volumes.all_labels, codes=nifti.codes_of(analysis))
        return Inferred(params, path.name, path.read_bytes())


def _dicom_segmentation(analysis: Analysis, folder: Path) -> bytes:
    exporter = DicomExporter()
    reason = exporter.missing(analysis)
    if reason is None and not analysis.findings.candidates:
        reason = "no region is flagged, and a segmentation without a segment is invalid"
    if reason is not None:
        raise _no_segmentation(reason)
    exporter.write(analysis, folder)
    path = next(folder.rglob("seg.dcm"), None)
    if path is None:
        raise ResourceError(
            found="no DICOM Segmentation that could be written",
            expected="one",
            next_step="Request output=image",
        )
    return path.read_bytes()


def _no_segmentation(reason: str) -> UnusableInputError:
    return UnusableInputError(
        found=f"no DICOM Segmentation: {reason}",
        expected="a DICOM study with a flagged region",
        next_step="Request output=image or output=json",
    )
