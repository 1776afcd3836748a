"""A TorchScript file, and a small JSON file that names its channels, as an engine."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.inferers import SlidingWindowInferer
from numpy.typing import NDArray

from lesionlens.plugin import (
    Capability,
    EngineInfo,
    Grid,
    MrSequence,
    Prediction,
    PreparedStudy,
    Region,
    RunContext,
    UnusableInputError,
    WeightsError,
    choose_device,
    describe_device,
    make_network_input,
    resample,
)

Floats = NDArray[np.float32]
STAGE = "the network's windows"


@dataclass(frozen=True, slots=True)
class Channels:
    """Content of the JSON file beside a network."""

    inputs: tuple[MrSequence, ...]
    """Sequence of each input channel."""
    outputs: tuple[Region | None, ...]
    """Region of each output channel; None for one that is not used."""
    window: tuple[int, int, int]
    """Voxels of a sliding window."""
    spacing_mm: float

    @classmethod
    def read(cls, path: Path) -> Channels:
        """Read the file.

        Raises
        ------
        UnusableInputError
            It names no sequence or region, or not all three regions.
        """
        try:
            content = json.loads(path.read_text("utf-8"))
            i, j, k = (int(edge) for edge in content.get("window", (128, 128, 128)))
            channels = cls(
                tuple(MrSequence(name) for name in content["inputs"]),
                tuple(None if name is None else Region(name) for name in content["outputs"]),
                (i, j, k),
                float(content.get("spacing_mm", 1.0)),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise UnusableInputError(
                found=f"a {path.name} without inputs and outputs ({error})",
                expected="sequences t1, t1c, t2, flair and regions wt, tc, et, in the network's "
                "order",
                next_step="Correct it",
            ) from error
        if not set(Region) <= set(channels.outputs):
            raise UnusableInputError(
                found=f"outputs {content['outputs']} in {path.name}",
                expected="all of wt, tc and et",
                next_step="Name the channel of each region",
            )
        return channels


class TorchScriptEngine:
    """Runs a TorchScript network on a prepared study.

    Parameters
    ----------
    device : str
        As for `--device`.
    weights : str or Path
        `network.ts`, with `network.json` beside it.

    Raises
    ------
    WeightsError
        One of the files is missing, or torch cannot load it.
    UnusableInputError
        The JSON names no sequence or region, or not all three regions.
    """

    def __init__(self, device: str = "auto", weights: str | Path | None = None) -> None:
        file = Path(weights or "network.ts")
        description = file.with_suffix(".json")
        if weights is None or not file.is_file() or not description.is_file():
            missing = f"no {file.name} with {description.name} beside it"
            raise WeightsError(
                found="no name of a TorchScript file" if weights is None else missing,
                expected="a TorchScript file, and a JSON file of the same name",
                next_step="Name the file as the weights; its README shows the JSON",
            )
        self._channels = Channels.read(description)
        self._device = choose_device(device)
        try:
            loaded = torch.jit.load(str(file), map_location=self._device)  # type: ignore[no-untyped-call]
            self._network = loaded.eval()
        except RuntimeError as error:
            raise WeightsError(
                found=f"{file.name}, which torch cannot load",
                expected="a file that torch.jit.save wrote",
                next_step="Export the network again",
            ) from error
        self._windows = SlidingWindowInferer(self._channels.window, overlap=0.25, mode="gaussian")
        self.info = EngineInfo(
            name="torchscript",
            version=file.stem,
            weights_sha256=hashlib.sha256(file.read_bytes()).hexdigest(),
            capabilities=frozenset({Capability.SEGMENT}),
            device=describe_device(self._device),
        )

    def predict(self, prepared: PreparedStudy, *, context: RunContext) -> Prediction:
        """Predict on the working grid; see `lesionlens.plugin.Engine.predict`."""
        network_input = make_network_input(prepared, self._channels.spacing_mm, self._device)
        order = [list(MrSequence).index(s) for s in self._channels.inputs]

        def run(window: torch.Tensor) -> torch.Tensor:
            context.check(STAGE)
            return torch.as_tensor(self._network(window))

        with context.stage(STAGE), torch.inference_mode():
            logits: Any = self._windows(network_input.channels[:, order], run)
        probability = torch.sigmoid(logits)[0].float().cpu().numpy()
        absent = [
            sequence.display_name
            for sequence, index in zip(self._channels.inputs, order, strict=True)
            if not network_input.present[index]
        ]
        notices = (f"The network saw zeros in place of {', '.join(absent)}",) if absent else ()
        nested = self._nested(probability, network_input.grid, prepared)
        return Prediction(nested, self.info, notices=notices)

    def _nested(
        self, probability: Floats, grid: Grid, prepared: PreparedStudy
    ) -> dict[Region, Floats]:
        """Resample the regions to the working grid, each at most its enclosing region."""
        enclosing = prepared.brain.astype(np.float32)
        nested: dict[Region, Floats] = {}
        for region in Region:
            channel = probability[self._channels.outputs.index(region)]
            resampled = resample(channel, grid, prepared.working)
            enclosing = np.minimum(enclosing, np.clip(resampled, 0, 1))
            nested[region] = enclosing
        return nested
