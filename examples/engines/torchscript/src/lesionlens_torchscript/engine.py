"""A TorchScript file, and a small JSON file that names its channels, as an engine."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from monai.inferers import SlidingWindowInferer
from numpy.typing import NDArray

from lesionlens.base.errors import UnusableInputError, WeightsError
from lesionlens.base.grid import Grid
from lesionlens.base.labels import MrSequence, Region
from lesionlens.base.records.prediction import Capability, EngineInfo, Prediction
from lesionlens.base.records.study import PreparedStudy
from lesionlens.base.run_context import RunContext
from lesionlens.engines import device as devices
from lesionlens.engines.engine import Target
from lesionlens.engines.network_input import make_network_input
from lesionlens.imaging.preparation.resampling import resample
from lesionlens.network.deterministic import with_threads

Floats = NDArray[np.float32]
STAGE = "the network's windows"
_THREADS = 4  # by any number of them the last digits would differ


class TorchScriptEngine:
    """Runs a TorchScript network on a prepared study.

    Parameters
    ----------
    device : str
        As `lesionlens.engines.device.choose` reads it.
    weights : str or Path
        `network.ts`, with `network.json` beside it.

    Raises
    ------
    WeightsError
        One of them is not there, or torch cannot load it.
    UnusableInputError
        The JSON names no sequence or region, or not all three regions.
    """

    def __init__(self, device: str = "auto", weights: str | Path | None = None) -> None:
        file = Path(weights or "network.ts")
        about = file.with_suffix(".json")
        if weights is None or not file.is_file() or not about.is_file():
            named = f"no {file.name} with {about.name} beside it"
            raise WeightsError(
                found="no name of a TorchScript file" if weights is None else named,
                expected="a TorchScript file, and a JSON file of the same name",
                next_step="Name the file as the weights; its README shows the JSON",
            )
        self._sequences, self._regions, window, self._spacing_mm = _channels(about)
        self._device = devices.choose(device)
        try:
            loaded = torch.jit.load(str(file), map_location=self._device)  # type: ignore[no-untyped-call]
            self._network = loaded.eval()
        except RuntimeError as error:
            raise WeightsError(
                found=f"{file.name}, which torch cannot load",
                expected="a file that torch.jit.save wrote",
                next_step="Export the network again",
            ) from error
        self._windows = SlidingWindowInferer(window, overlap=0.25, mode="gaussian")
        self.info = EngineInfo(
            name="torchscript",
            version=file.stem,
            weights_sha256=hashlib.sha256(file.read_bytes()).hexdigest(),
            capabilities=frozenset({Capability.SEGMENT}),
            device=devices.describe(self._device),
        )

    @with_threads(_THREADS)
    def predict(self, prepared: PreparedStudy, *, context: RunContext) -> Prediction:
        """Answer on the working grid; see `lesionlens.engines.engine.Engine.predict`."""
        read = make_network_input(prepared, self._spacing_mm, self._device)
        order = [list(MrSequence).index(s) for s in self._sequences]

        def asked(window: torch.Tensor) -> torch.Tensor:
            context.check(STAGE)
            return torch.as_tensor(self._network(window))

        with context.stage(STAGE), torch.inference_mode():
            shares: Any = self._windows(read.channels[:, order], asked)
        found = torch.sigmoid(shares)[0].float().cpu().numpy()
        absent = [
            s.display_name for s in self._sequences if not read.present[list(MrSequence).index(s)]
        ]
        notices = (f"The network saw zeros in place of {', '.join(absent)}",) if absent else ()
        return Prediction(self._nested(found, read.grid, prepared), self.info, notices=notices)

    def _nested(self, shares: Floats, grid: Grid, prepared: PreparedStudy) -> dict[Region, Floats]:
        """Lay the regions on the working grid, each at most that of the region round it."""
        outer = prepared.brain.astype(np.float32)
        found: dict[Region, Floats] = {}
        for region in Region:
            there = resample(shares[self._regions.index(region)], grid, prepared.working)
            outer = np.minimum(outer, np.clip(there, 0, 1))
            found[region] = outer
        return found

    def attribute(self, prepared: PreparedStudy, target: Target, method: str) -> NoReturn:
        """Refuse: it has no method of attribution."""
        del prepared, target
        raise UnusableInputError(
            found=f"the attribution method {method!r}",
            expected="none: this engine explains nothing",
            next_step="Use the engine lens for attention",
        )


def _channels(
    about: Path,
) -> tuple[list[MrSequence], list[Region | None], tuple[int, int, int], float]:
    try:
        named = json.loads(about.read_text("utf-8"))
        sequences = [MrSequence(name) for name in named["inputs"]]
        regions = [None if name is None else Region(name) for name in named["outputs"]]
        i, j, k = (int(edge) for edge in named.get("window", (128, 128, 128)))
        spacing_mm = float(named.get("spacing_mm", 1.0))
    except (ValueError, KeyError, TypeError) as error:
        raise UnusableInputError(
            found=f"a {about.name} without inputs and outputs ({error})",
            expected="sequences t1, t1c, t2, flair and regions wt, tc, et, in the network's order",
            next_step="Correct it",
        ) from error
    if not set(Region) <= set(regions):
        raise UnusableInputError(
            found=f"outputs {named['outputs']} in {about.name}",
            expected="all of wt, tc and et",
            next_step="Name the channel of each region",
        )
    return sequences, regions, (i, j, k), spacing_mm
