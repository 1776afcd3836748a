"""The Lens network as an onnxruntime engine, without torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import numpy as np
from typing_extensions import override

from lesionlens.base.errors import UnusableInputError, WeightsError
from lesionlens.base.files import user_folders
from lesionlens.base.geometry import Floats
from lesionlens.base.labels import ComputePrecision
from lesionlens.base.provenance import sha256_of
from lesionlens.base.records.prediction import EngineInfo
from lesionlens.base.records.study import PreparedStudy
from lesionlens.base.run_context import SILENT, RunContext
from lesionlens.engines.engine import Target, unknown_method
from lesionlens.engines.lens.method import LensMethod
from lesionlens.network.onnx_session import OnnxSession
from lesionlens.network.pass_output import AttentionTrace, PassOutput, SelfTrace
from lesionlens.network.pass_pool import R, T
from lesionlens.network.weights_metadata import (
    ONNX_FORMAT,
    WeightsInfo,
    WeightsNotes,
    from_json,
    notes_of,
    sizes_from_json,
)

_STRIDE, _MIN_VOX = 8, 16
_INPUTS = {"x": ("tensor(float)", (1, 8, None, None, None)), "place": ("tensor(float)", (1, 3, 2))}
_OUTPUTS = ("logits", "attention")
_CROSS_ATTENTION_OUTPUTS = ("attention_quarter", "attention_half", "attention_full")
_WHOLE_BRAIN = np.array([[[-1.0, 1.0]] * 3], np.float32)


def exported_path(name: str = "default") -> Path:
    """Return the path of the file that `lesionlens export-model` writes."""
    return user_folders.data() / "models" / f"{name}.onnx"


class OnnxEngine(LensMethod):
    """Runs an exported Lens network on a prepared study.

    Parameters
    ----------
    device : str
        "auto", "cpu", "cuda" or "cuda:N"; CUDA needs onnxruntime-gpu.
    weights : str, Path or None
        A file written by `lesionlens export-model`; None for its latest export of the default
        weights, "synthetic" for that of the synthetic ones.
    precision : ComputePrecision or str
        "auto" or "float32"; other precisions are chosen at export.

    Raises
    ------
    WeightsError
        The file is missing or contains another network.
    MissingPluginError
        onnxruntime is not installed.
    ResourceError
        The device is missing.
    UnusableInputError
        Unsupported precision.
    """

    name = "onnx"

    def __init__(
        self,
        device: str = "auto",
        weights: str | Path | None = None,
        precision: ComputePrecision | str = ComputePrecision.AUTO,
    ) -> None:
        if precision not in (ComputePrecision.AUTO, ComputePrecision.FLOAT32):
            raise UnusableInputError(
                found=f"the precision {str(precision)!r} for the engine onnx",
                expected="float32, in which it computes",
                next_step="Leave out --precision",
                in_window="Leave the precision at auto",
            )
        is_default_export = weights is None or weights in ("default", "synthetic")
        path = exported_path(str(weights or "default")) if is_default_export else Path(str(weights))
        self._session = OnnxSession(path, device)
        super().__init__(_weights_info(path, self._session), None)
        self._stage: tuple[str, RunContext] | None = None
        self._completed_passes, self._total_passes = 0, 1

    @property
    @override
    def _device(self) -> None:
        return None

    @property
    @override
    def info(self) -> EngineInfo:
        return self._info(self._session.device_text, self._session.thread_count)

    def attribute(self, prepared: PreparedStudy, target: Target, method: str) -> NoReturn:
        """Refuse: an ONNX file has no gradients, hence no attribution method."""
        del prepared, target
        raise unknown_method(
            method,
            "none: this engine has no gradients; attention is in every result",
            "Use the attention maps of the result, or the engine lens for grad-cam",
        )

    @override
    @contextmanager
    def _watch(self, stage: str, context: RunContext, passes: int) -> Iterator[None]:
        context.check(stage)
        self._stage = stage, context
        self._completed_passes, self._total_passes = 0, max(passes, 1)
        try:
            yield
        finally:
            self._stage = None

    @override
    def _map_passes(
        self, run: Callable[[T], R], inputs: Sequence[T], last_threads: int = 2
    ) -> Iterator[R]:
        return self._session.map(run, inputs)

    @override
    def _pass(self, x: Floats, *, bounds: Floats | None = None, trace: bool = False) -> PassOutput:
        """Pad to the file's input size, run, crop."""
        shape = x.shape[2:]
        padding = [max(-n % _STRIDE, _MIN_VOX - n) for n in shape]
        padded = np.pad(x, [(0, 0), (0, 0), *((0, r) for r in padding)])
        available = self._session.outputs
        requested = [n for n in available if trace or n in _OUTPUTS]
        outputs = self._run(padded, _WHOLE_BRAIN if bounds is None else bounds, requested)
        i, j, k = shape
        cropped = np.s_[..., :i, :j, :k]
        attention = outputs["attention"][cropped]
        total = attention.sum((2, 3, 4), keepdims=True).clip(1e-12)
        return PassOutput(
            logits=outputs["logits"][cropped],
            attention=attention / total,
            trace=_trace_of(outputs, padded.shape[2:]) if trace else None,
            classes=outputs.get("classes"),
        )

    def _run(self, x: Floats, bounds: Floats, requested: list[str]) -> dict[str, Floats]:
        stage, context = self._stage or ("the network", SILENT)
        context.progress(stage, min(self._completed_passes / self._total_passes, 1.0))
        inputs = {"x": np.ascontiguousarray(x), "place": bounds}
        results = self._session.run(inputs, requested, context=context, stage=stage)
        self._completed_passes += 1
        context.progress(stage, min(self._completed_passes / self._total_passes, 1.0))
        return dict(zip(requested, results, strict=True))


def _trace_of(outputs: dict[str, Floats], padded: tuple[int, ...]) -> AttentionTrace:
    i, j, k = padded
    tokens = (i // _STRIDE, j // _STRIDE, k // _STRIDE)
    layers = zip(outputs.get("q", ()), outputs.get("k", ()), strict=True)
    return AttentionTrace(
        tuple(SelfTrace(q[None], k[None], tokens) for q, k in layers),
        tuple(outputs[name] for name in _CROSS_ATTENTION_OUTPUTS if name in outputs),
        (i, j, k),
    )


def _weights_info(path: Path, session: OnnxSession) -> WeightsInfo:
    if session.metadata.get("format") != ONNX_FORMAT or not {*_OUTPUTS} <= {*session.outputs}:
        raise _unusable_file(path, "of another network")
    if session.inputs != _INPUTS:
        raise _unusable_file(path, "whose inputs were changed")
    try:
        config = sizes_from_json(session.metadata["network"])
        notes = from_json(WeightsNotes, session.metadata["notes"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _unusable_file(path, "with damaged metadata") from error
    return WeightsInfo(sha256=sha256_of(path), config=config, **notes_of(notes))


def _unusable_file(path: Path, defect: str) -> WeightsError:
    return WeightsError(
        found=f"{path.name}, an ONNX file {defect}",
        expected="one that `lesionlens export-model` wrote without --prompts",
        next_step="Write it with: lesionlens export-model",
        in_window="Export the network as described on the page on ONNX",
    )
