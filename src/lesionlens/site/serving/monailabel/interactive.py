"""`/infer/` of the interactive models: points, a box, an outline to correct."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from lesionlens.analysis.findings.enhancement import without_t1_hyperintensity
from lesionlens.base.arguments import brief
from lesionlens.base.errors import UnusableInputError
from lesionlens.base.files import reachable
from lesionlens.base.files.file_state import file_state
from lesionlens.base.files.scratch import ScratchFolder
from lesionlens.base.grid import Grid
from lesionlens.base.labels import Label, Region
from lesionlens.base.process.fixed_arithmetic import fixed_arithmetic
from lesionlens.base.records.arrays import Volume
from lesionlens.base.records.prompts import PromptedVolume, PromptRequest, PromptResponse, Prompts
from lesionlens.base.records.study import PreparedStudy
from lesionlens.base.run_context import RunContext
from lesionlens.engines import native_grid
from lesionlens.engines.engine import as_promptable
from lesionlens.engines.plugin_engines import answer_prompts, predict
from lesionlens.engines.prompting.study_prompts import StudyPrompts
from lesionlens.imaging.preparation.prepare import prepare, reference_of
from lesionlens.imaging.reading.nifti.header import read_header
from lesionlens.imaging.reading.nifti.voxels import read_stored
from lesionlens.results import prompted
from lesionlens.results.export import nifti
from lesionlens.site.serving.monailabel.images import for_client, study_of
from lesionlens.site.serving.monailabel.inference import (
    Inference,
    InferenceRequest,
    Inferred,
    RequestedOutput,
)

SUFFIX = "-points"
"""Suffix of a model's name for the interactive model."""
LESION = "lesion"
"""Label of an object without a named region."""
REGIONS: dict[str, Region] = {
    Label.ENHANCING.name.lower(): Region.ET,
    **{name: region for region in Region for name in (region.value, region.display_name)},
}
"""Labels that name a region; any other label means the object at the prompts."""
_MAX_STUDIES, _MAX_POINTS = 4, 64
RequestParams = Mapping[str, Any]
Check = Callable[[Grid], None]
"""Refuses prompts that do not fit the reference grid, before a study is prepared for them."""


@dataclass(frozen=True, slots=True)
class PromptedStudy:
    """A study with prompts, and the network's prediction."""

    image: Path
    prepared: PreparedStudy
    probability: prompted.AnalysedProbability
    codes: tuple[int, int]
    """sform and qform codes of the reference, as in `results.export.nifti`."""
    notices: tuple[str, ...]
    """Notices of reading, preparation and prediction, then the failed checks of the images."""

    @property
    def bytes(self) -> int:
        """Memory held by the study."""
        images = self.prepared.channels.nbytes + self.prepared.brain.nbytes
        return int(images) + self.probability.bytes


class PromptedStudies:
    """Cache of the last studies with prompts, for fast responses.

    A study is released when its image is removed. Thread-safe.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._cached: OrderedDict[tuple[object, ...], PromptedStudy] = OrderedDict()
        self.fallback_prompter = StudyPrompts()
        """Answers prompts for engines without prompt support."""

    def find(self, request: InferenceRequest, context: RunContext, check: Check) -> PromptedStudy:
        """Return a prepared and predicted study, cached; a new one after `check`."""
        sequence = repr(request.request_params.get("sequence"))
        key = (id(request.engine), _image_state(request.image), sequence)
        with self._lock:
            cached = self._cached.pop(key, None)
        cached = cached or _predict_study(request, context, check)
        with self._lock:
            self._cached[key] = cached
            total_bytes = sum(study.bytes for study in self._cached.values())
            while len(self._cached) > 1 and (
                len(self._cached) > _MAX_STUDIES or total_bytes > self._max_bytes
            ):
                total_bytes -= self._cached.popitem(last=False)[1].bytes
        return cached

    def drop_missing(self) -> list[Path]:
        """Release studies whose image was removed; return these images."""
        with self._lock:
            cached = [*self._cached.items()]
            missing = [key for key, study in cached if not reachable.exists(study.image)]
            images = [self._cached.pop(key).image for key in missing]
        if images:
            self.fallback_prompter.forget()
        return images


def _predict_study(request: InferenceRequest, context: RunContext, check: Check) -> PromptedStudy:
    """Prepare and predict a study; its probability is that of an analysis."""
    with ScratchFolder() as scratch_folder:
        study = study_of(request.image, request.request_params, scratch_folder, context)
        check(study.series[reference_of(study.series)].grid)
        prepared = prepare(study, context)
    prediction = predict(request.engine, prepared, context=context)
    probability = without_t1_hyperintensity(prediction, prepared).probability
    resampled = native_grid.resample_regions(probability, prepared, nested=True)
    stored = {r: nifti.as_stored(p, prepared.native).data for r, p in resampled.items()}
    failed = (check.message for check in prepared.quality if not check.passed)
    notices = (*study.notices, *prepared.notices, *prediction.notices, *failed)
    return PromptedStudy(
        request.image,
        prepared,
        prompted.AnalysedProbability(stored, prepared),
        study.series[prepared.reference].nifti_codes,
        tuple(dict.fromkeys(notices)),
    )


class PromptInference(Inference):
    """Prompts on one image, as a queued job.

    Parameters
    ----------
    start : bytes or None
        Label map (NIfTI) on the image's grid: the outline to correct.
    """

    def __init__(
        self, request: InferenceRequest, studies: PromptedStudies, start: bytes | None
    ) -> None:
        super().__init__(request)
        self._studies, self._start = studies, start

    @override
    @fixed_arithmetic()
    def _run(self, scratch_folder: Path, context: RunContext) -> Inferred:
        request, start = self._request, time.perf_counter()
        if request.output is RequestedOutput.DICOM_SEG:
            raise UnusableInputError(
                found="a request for a DICOM Segmentation with points",
                expected="output=image, json or all",
                next_step="Request the image, or the analysis of the whole study",
            )
        rounds = rounds_of(request.request_params)

        def check(native: Grid) -> None:
            prompted.check_within(rounds[-1], native)
            self._read_start(native, scratch_folder)

        study = self._studies.find(request, context, check)
        result = self._prompted_volume(rounds, study, scratch_folder, context)
        params = {
            "label_names": {str(request.request_params.get("label") or LESION): 1},
            "latencies": {"total": round(time.perf_counter() - start, 2)},
            "prompts": rounds[-1].as_json(),
            "made_by": result.made_by,
            "notices": for_client(study.notices),
            "device": request.engine.info.device,
        }
        if request.output is RequestedOutput.JSON:
            return Inferred(params)
        mask = Volume(result.mask.astype(np.uint8), result.grid)
        path = nifti.write_volume(scratch_folder / "label.nii.gz", mask, codes=study.codes)
        return Inferred(params, path.name, path.read_bytes())

    def _read_start(self, native: Grid, scratch_folder: Path) -> NDArray[Any] | None:
        """Return the label map to correct; None if there is none."""
        return None if self._start is None else _read_outline(self._start, native, scratch_folder)

    def _prompted_volume(
        self, rounds: list[Prompts], study: PromptedStudy, scratch_folder: Path, context: RunContext
    ) -> PromptedVolume:
        prepared = study.prepared
        prompter = as_promptable(self._request.engine) or self._studies.fallback_prompter

        def answer(request: PromptRequest) -> PromptResponse:
            context.check("answering points")
            return answer_prompts(prompter, prepared, request, study.probability, context=context)

        def ask(prompts: Prompts, start: NDArray[np.bool_] | None) -> PromptedVolume:
            return prompted.segment_prompts(prompts, prepared, answer, start)

        labels = self._read_start(prepared.native, scratch_folder)
        start = None if labels is None else prompted.outline_in(labels, rounds[0].region)
        return prompted.replay(rounds, ask, start)


def rounds_of(request_params: RequestParams) -> list[Prompts]:
    """Return a client's prompts as rounds with one more point each; a box is in all of them.

    Parameters
    ----------
    request_params : mapping
        `foreground` and `background`: lists of (i, j, k); `roi`: lowest and highest i, j and k;
        `label`: region of the prompts.

    Raises
    ------
    UnusableInputError
        There is no prompt, a point is invalid, or there are too many.

    Examples
    --------
    >>> [len(prompts.points) for prompts in rounds_of({"foreground": [[1, 2, 3], [4, 5, 6]]})]
    [1, 2]
    """
    prompts = Prompts.of(
        [
            (point, is_foreground)
            for name, is_foreground in _POINT_KEYS
            for point in _points_in(request_params, name)
        ],
        box=_box(request_params.get("roi")),
        region=REGIONS.get(str(request_params.get("label") or "").lower()),
    )
    if len(prompts.points) > _MAX_POINTS or not (prompts.points or prompts.box):
        raise UnusableInputError(
            found=f"{len(prompts.points)} points and no box",
            expected=f"1 to {_MAX_POINTS} points, or a box",
            next_step='Send "foreground": [[i, j, k]] in the params: voxels of the image',
        )
    n_first = 0 if prompts.box else 1
    counts = range(n_first, len(prompts.points) + 1)
    return [Prompts(prompts.points[:n], (), prompts.box, (), prompts.region) for n in counts]


_POINT_KEYS = (("foreground", True), ("background", False))


def _points_in(request_params: RequestParams, name: str) -> list[Any]:
    value = request_params.get(name)
    return [point for point in value or () if point] if isinstance(value, list | None) else [value]


def _box(roi: Any) -> Any:
    if not roi:
        return None
    if not isinstance(roi, list) or len(roi) != 6:
        raise UnusableInputError(
            found=f"{brief(roi)}, as a roi",
            expected="six whole numbers: the lowest and highest i, j and k",
            next_step='Send "roi": [i, i, j, j, k, k] in the params: voxels of the image',
        )
    return roi[::2], roi[1::2]


def _image_state(image: Path) -> tuple[object, ...]:
    """Return a key that changes with the image."""
    files = sorted(image.rglob("*")) if image.is_dir() else [image]
    return tuple((str(path), *file_state(path)) for path in files)


def _read_outline(content: bytes, grid: Grid, scratch_folder: Path) -> NDArray[Any]:
    """Read the label map to correct, (I, J, K).

    Raises
    ------
    UnusableInputError
        The label map is not NIfTI, or on another grid.
    """
    path = scratch_folder / ("start.nii.gz" if content[:2] == b"\x1f\x8b" else "start.nii")
    path.write_bytes(content)
    try:
        header = read_header(path)
        if header.grid.matches(grid, 0.01):
            return read_stored(path, grid.shape)
    except UnusableInputError as error:
        raise _outline_error(f"a label map that cannot be used: {error.found}") from None
    raise _outline_error(f"a label map of {header.grid.shape} voxels, or with another affine")


def _outline_error(found: str) -> UnusableInputError:
    return UnusableInputError(
        found=found,
        expected="NIfTI on the grid of the image",
        next_step="Send the label map unchanged from the server's response, or none",
    )
