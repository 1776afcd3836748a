"""Any trained nnU-Net v2 folder as an engine; nnunetv2 is imported when one is made."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lesionlens.plugin import (
    EngineInfo,
    MrSequence,
    Prediction,
    PreparedStudy,
    Region,
    RunContext,
    UnusableInputError,
    WeightsError,
    choose_device,
    describe_device,
    interruptible,
)

Floats = NDArray[np.float32]
STAGE = "nnU-Net's windows"
CHECKPOINT = "checkpoint_final.pth"
_CHANNELS: Mapping[str, MrSequence] = {
    **dict.fromkeys(("t1", "t1w", "t1n"), MrSequence.T1),
    **dict.fromkeys(("t1c", "t1ce", "t1gd", "t1post"), MrSequence.T1C),
    **dict.fromkeys(("t2", "t2w"), MrSequence.T2),
    **dict.fromkeys(("flair", "t2f", "t2flair"), MrSequence.FLAIR),
}
_OEDEMA = ("edema", "oedema", "ed", "peritumoraledema", "snfh")
_CORE = ("necrosis", "ncr", "netc", "nonenhancing", "nonenhancingtumor")
_ENHANCING = ("enhancing", "enhancingtumor", "enhancingtumour", "et")
_CAVITY = ("resectioncavity", "cavity", "rc")
_PARTS = {Region.WT: (*_OEDEMA, *_CORE, *_ENHANCING), Region.TC: (*_CORE, *_ENHANCING),
    Region.ET: _ENHANCING}  # fmt: skip
"""Names of the labels that each region consists of."""
_REGIONS = {Region.WT: ("wholetumor", "wholetumour", "wt"),
    Region.TC: ("tumorcore", "tumourcore", "tc"), Region.ET: _ENHANCING}  # fmt: skip


class NnUNetEngine:
    """Runs a trained nnU-Net v2 folder: `weights`, with `dataset.json`, `plans.json`, `fold_*`."""

    def __init__(self, device: str = "auto", weights: str | Path | None = None) -> None:
        folder = Path(weights or "")
        folds = sorted(folder.glob(f"fold_*/{CHECKPOINT}")) if weights else []
        if not folds or not (folder / "dataset.json").is_file():
            raise WeightsError(
                f"{folder.name!r} is no trained folder of nnU-Net.",
                hint="Name the folder that nnUNetv2_train wrote as the weights.",
            )
        dataset = json.loads((folder / "dataset.json").read_text("utf-8"))
        self._sequences = sequences_of(dataset["channel_names"])
        self._regions, self._cavity = regions_of(dataset["labels"])
        place = choose_device(device)
        with _quiet():
            from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

            self._predictor: Any = nnUNetPredictor(
                use_mirroring=False,
                perform_everything_on_device=place.type != "cpu",
                device=place,
                allow_tqdm=False,
            )
            names = [path.parent.name.removeprefix("fold_") for path in folds]
            numbers = tuple(name if name == "all" else int(name) for name in names)
            self._predictor.initialize_from_trained_model_folder(str(folder), numbers, CHECKPOINT)
        self._predictor.network.eval()
        digest = hashlib.sha256(b"".join(path.read_bytes() for path in folds)).hexdigest()
        self.info = EngineInfo("nnunet", version("nnunetv2"), digest, describe_device(place))

    def predict(self, prepared: PreparedStudy, *, context: RunContext) -> Prediction:
        """Predict on the working grid; see `lesionlens.plugin.Engine.predict`."""
        context.check(STAGE)
        missing = [s.display_name for s in self._sequences if s not in prepared.sequences]
        if missing:
            raise UnusableInputError(
                f"This network needs {', '.join(missing)}, which the study lacks.",
                hint="Use the engine lens, which reads any subset.",
            )
        order = [list(MrSequence).index(s) for s in self._sequences]
        image = as_itk(prepared.channels[order] * prepared.brain)
        spacing = [float(edge) for edge in prepared.working.spacing_mm[::-1]]
        with interruptible(self._predictor.network, STAGE, context), _quiet():
            _, probability = self._predictor.predict_single_npy_array(
                image, {"spacing": spacing}, save_or_return_probabilities=True
            )
        channels = from_itk(probability)
        inside, nested = prepared.brain.astype(np.float32), dict[Region, Floats]()
        for region in Region:
            total = channels[self._regions[region]].sum(axis=0, dtype=np.float32)
            nested[region] = inside = np.minimum(inside, total.clip(0, 1))
        cavity = None if self._cavity is None else channels[self._cavity].clip(0, 1)
        return Prediction(nested, self.info, cavity=cavity)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Discard what nnU-Net prints: it would be in the output of a command."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield


def _plain(name: str) -> str:
    return "".join(c for c in name.lower() if c.isalnum())


def sequences_of(names: Mapping[str, str]) -> list[MrSequence]:
    """Return the sequence of each input channel by its name."""
    ordered = [_plain(names[key]) for key in sorted(names, key=int)]
    if not set(ordered) <= set(_CHANNELS):
        raise UnusableInputError(
            f"The channels are {', '.join(ordered)}, not T1, T1c, T2 or FLAIR.",
            hint="Name them so in dataset.json.",
        )
    return [_CHANNELS[name] for name in ordered]


def regions_of(
    labels: Mapping[str, int | Sequence[int]],
) -> tuple[dict[Region, list[int]], int | None]:
    """Return the output channels that form each region, and that of a resection cavity."""
    named = {_plain(name): value for name, value in labels.items()}
    named = {name: value for name, value in named.items() if name not in ("background", "ignore")}
    by_region = any(isinstance(value, list | tuple) for value in named.values())
    channels = {name: n if by_region else int(value)  # type: ignore[arg-type]
        for n, (name, value) in enumerate(named.items())}  # fmt: skip
    known = _REGIONS if by_region else _PARTS
    regions = {r: [n for name, n in channels.items() if name in known[r]] for r in Region}
    if not all(regions.values()):
        raise UnusableInputError(
            f"The labels are {', '.join(named)}, not whole tumour, core and enhancing.",
            hint="Name the regions or their parts so in dataset.json.",
        )
    return regions, next((n for name, n in channels.items() if name in _CAVITY), None)


def as_itk(channels: Floats) -> Floats:
    """Return (C, I, J, K) RAS+ as ITK reads an image stored in LPS: (C, K, J, I)."""
    flipped = channels[:, ::-1, ::-1]
    return np.ascontiguousarray(flipped.transpose(0, 3, 2, 1), dtype=np.float32)


def from_itk(channels: NDArray[Any]) -> Floats:
    """Undo `as_itk`."""
    return np.ascontiguousarray(channels.transpose(0, 3, 2, 1)[:, ::-1, ::-1], dtype=np.float32)
