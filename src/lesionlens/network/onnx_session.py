"""Run a network in an ONNX file by onnxruntime; needs no torch."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from lesionlens.base.errors import (
    MissingPluginError,
    ResourceError,
    UnusableInputError,
    WeightsError,
    is_out_of_memory,
)
from lesionlens.base.process.processors import usable_processors
from lesionlens.base.run_context import SILENT, RunContext, on_cancel
from lesionlens.base.text import is_writable
from lesionlens.network.pass_pool import MAX_CONCURRENT, R, T, run_in_pool

_TELEMETRY_OFF = "ORT_DISABLE_TELEMETRY"


def runtime() -> ModuleType:
    """Import onnxruntime with its telemetry off.

    Its own builds report the machine, the network's file name and run times to Microsoft since
    1.29, unless this variable is set while it is imported. The environment is restored.

    Raises
    ------
    MissingPluginError
        It is not installed.
    """
    earlier = os.environ.get(_TELEMETRY_OFF)
    os.environ[_TELEMETRY_OFF] = "1"
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingPluginError(
            found="no onnxruntime, which runs networks in the ONNX format",
            expected="the package onnxruntime",
            next_step='Install it: pip install "lesionlens[onnx]"',
        ) from error
    finally:
        if earlier is None:
            os.environ.pop(_TELEMETRY_OFF, None)  # another thread may have
        else:
            os.environ[_TELEMETRY_OFF] = earlier
    module: ModuleType = onnxruntime
    module.disable_telemetry_events()  # earlier builds for Windows, and imports by other packages
    return module


def _providers(requested: str, available: Sequence[str]) -> list[Any]:
    """Convert a device name to execution providers; a missing device is refused."""
    name = requested.strip().lower()
    if name == "auto":
        name = "cuda" if "CUDAExecutionProvider" in available else "cpu"
    match = re.fullmatch(r"cuda(?::(\d{1,3}))?", name)
    if name != "cpu" and match is None:
        raise UnusableInputError(
            found=f"the device {requested!r}",
            expected="auto, cpu, cuda or cuda:N for the engine onnx",
            next_step="Use --device auto to choose automatically",
            in_window="Choose auto in Preferences → LesionLens",
        )
    if match is None:
        return ["CPUExecutionProvider"]
    if "CUDAExecutionProvider" not in available:
        raise ResourceError(
            found="an onnxruntime without CUDA",
            expected=f"the device {name}",
            next_step="Install onnxruntime-gpu, or use --device cpu",
            in_window="Install onnxruntime-gpu, or choose cpu in Preferences → LesionLens",
        )
    return [("CUDAExecutionProvider", {"device_id": int(match[1] or 0)}), "CPUExecutionProvider"]


def _threads_of_environment() -> int:
    """Return the first of the numbers in `OMP_NUM_THREADS`, one for each level; 0 for all cores."""
    first = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return int(first) if first.isdecimal() else 0


class OnnxSession:
    """One loaded network.

    Parameters
    ----------
    path : Path
        An ONNX file; weights that it refers to lie in its folder.
    device : str
        "auto", "cpu", "cuda" or "cuda:N".

    Raises
    ------
    WeightsError
        The file is missing or not ONNX.
    MissingPluginError, ResourceError, UnusableInputError
        onnxruntime is not installed; the device is missing; or its name is unknown.
    """

    threads: ClassVar[int | None] = None
    """Passes at a time of sessions created from now on; None for `OMP_NUM_THREADS`, else one for
    each core."""

    def __init__(self, path: Path, device: str = "cpu") -> None:
        ort = runtime()
        if not path.is_file():
            raise WeightsError(
                found=f"no file {path.name}",
                expected="a network in the ONNX format",
                next_step="Write one with: lesionlens export-model; or name yours with --weights",
                in_window="Export the network first, as described on the page on ONNX",
            )
        if not is_writable(str(path)):
            raise WeightsError(
                found=f"{path.name!r} in a folder whose name is not UTF-8",
                expected="a path that onnxruntime can open",
                next_step="Copy the file to another folder",
            )
        chosen = _providers(device, ort.get_available_providers())
        settings = ort.SessionOptions()
        settings.intra_op_num_threads = 1  # another number changes the last digits
        settings.log_severity_level = 4
        self._ort = ort
        self._threads = self.threads or _threads_of_environment() or usable_processors()
        try:
            self._session = ort.InferenceSession(str(path), settings, providers=chosen)
        except Exception as error:  # onnxruntime's errors have no common base class
            if type(error).__module__.split(".")[0] != "onnxruntime":
                raise
            raise WeightsError(
                found=f"{path.name}, which onnxruntime cannot use ({str(error)[:200]})",
                expected="a network in the ONNX format",
                next_step="Write one with: lesionlens export-model; its --weights takes weights in "
                "another format",
                in_window="Export the network again, as described on the page on ONNX",
            ) from error

    @property
    def metadata(self) -> Mapping[str, str]:
        """Metadata in the file."""
        entries: Mapping[str, str] = self._session.get_modelmeta().custom_metadata_map
        return entries

    @property
    def inputs(self) -> dict[str, tuple[str, tuple[int | None, ...]]]:
        """Type and shape of each input; None for dimensions of any size."""
        return {
            i.name: (i.type, tuple(n if isinstance(n, int) else None for n in i.shape))
            for i in self._session.get_inputs()
        }

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the outputs."""
        return tuple(output.name for output in self._session.get_outputs())

    @property
    def thread_count(self) -> int | None:
        """Number of passes at a time, each in one thread; None on an accelerator."""
        on_cpu = self._session.get_providers()[0] == "CPUExecutionProvider"
        return self._threads if on_cpu else None

    @property
    def device_text(self) -> str:
        """The device in words."""
        first = self._session.get_providers()[0].removesuffix("ExecutionProvider").lower()
        return f"{first} (onnxruntime {self._ort.__version__})"

    def map(self, run: Callable[[T], R], inputs: Sequence[T]) -> Iterator[R]:
        """Yield `run` of each input, in order; several at a time if there are threads for it.

        Raises
        ------
        Exception
            The exception of a pass; passes not started are skipped, and none is running afterwards.
        """
        workers = min(self.thread_count or 1, len(inputs), MAX_CONCURRENT)
        return run_in_pool(run, inputs, workers) if workers > 1 else map(run, inputs)

    def run(
        self,
        inputs: Mapping[str, NDArray[np.float32]],
        outputs: Sequence[str],
        *,
        context: RunContext = SILENT,
        stage: str = "the network",
    ) -> list[NDArray[np.float32]]:
        """Compute the requested outputs.

        Raises
        ------
        CancelledError
            The user asked to stop; the pass ends within one layer.
        ResourceError
            Insufficient memory.
        """
        context.check(stage)
        options = self._ort.RunOptions()
        options.only_execute_path_to_fetches = True

        def terminate(_: threading.Event) -> None:
            options.terminate = True  # onnxruntime checks it before every layer

        try:
            with on_cancel(context.cancel, terminate):
                results: list[NDArray[np.float32]] = self._session.run(
                    list(outputs), dict(inputs), options
                )
        except Exception as error:
            context.check(stage)
            if not is_out_of_memory(error):
                raise
            raise ResourceError(
                found=f"too little memory during {stage}",
                expected="about 2 GB of free memory",
                next_step="Close other programs and start again",
            ) from error
        return results
