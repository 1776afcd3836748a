"""Any trained nnU-Net v2 folder as an engine; nnunetv2 is imported when one is made."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
from collections.abc import Mapping, Sequence
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
_REGIONS: Mapping[str, Region] = {
    **dict.fromkeys(("wholetumor", "wholetumour", "wt"), Region.WT),
    **dict.fromkeys(("tumorcore", "tumourcore", "tc"), Region.TC),
    **dict.fromkeys(("enhancingtumor", "enhancingtumour", "et"), Region.ET),
}
_PARTS: Mapping[str, tuple[Region, ...]] = {
    **dict.fromkeys(("edema", "oedema", "ed", "peritumoraledema", "snfh"), (Region.WT,)),
    **dict.fromkeys(
        ("necrosis", "ncr", "netc", "nonenhancing", "nonenhancingtumor"), (Region.WT, Region.TC)
    ),
    **dict.fromkeys(
        ("enhancing", "enhancingtumor", "enhancingtumour", "et"),
        (Region.WT, Region.TC, Region.ET),
    ),
}
_CAVITY = frozenset({"resectioncavity", "cavity", "rc"})


class NnUNetEngine:
    """Runs a trained nnU-Net v2 folder on a prepared study.

    Parameters
    ----------
    device : str
        As for `--device`.
    weights : str or Path
        Folder with `dataset.json`, `plans.json` and `fold_*`.

    Raises
    ------
    WeightsError
        It is no such folder.
    UnusableInputError
        Its channels or labels are not recognised.
    """

    def __init__(self, device: str = "auto", weights: str | Path | None = None) -> None:
        folder = Path(weights or "")
        folds = sorted(folder.glob(f"fold_*/{CHECKPOINT}")) if weights else []
        if not folds or not (folder / "dataset.json").is_file():
            raise WeightsError(
                found=f"{folder.name!r}, no trained folder of nnU-Net",
                expected=f"a folder with dataset.json, plans.json and fold_*/{CHECKPOINT}",
                next_step="Name the folder that nnUNetv2_train wrote as the weights",
            )
        dataset = json.loads((folder / "dataset.json").read_text("utf-8"))
        self._sequences = _sequences(dataset["channel_names"])
        self._regions, self._cavity = _regions(dataset["labels"]), _cavity(dataset["labels"])
        self._device = choose_device(device)
        self._predictor = _predictor(self._device, folder, [p.parent.name for p in folds])
        digest = hashlib.sha256()
        for path in folds:
            digest.update(path.read_bytes())
        self.info = EngineInfo(
            name="nnunet",
            version=version("nnunetv2"),
            weights_sha256=digest.hexdigest(),
            device=describe_device(self._device),
        )

    def predict(self, prepared: PreparedStudy, *, context: RunContext) -> Prediction:
        """Predict on the working grid; see `lesionlens.plugin.Engine.predict`."""
        context.check(STAGE)
        missing = [s.display_name for s in self._sequences if s not in prepared.sequences]
        if missing:
            raise UnusableInputError(
                found=f"a study without {', '.join(missing)}",
                expected=f"all that this network reads: "
                f"{', '.join(s.display_name for s in self._sequences)}",
                next_step="Add the sequence, or use the engine lens, which reads any subset",
            )
        order = [list(MrSequence).index(s) for s in self._sequences]
        image = _as_itk(prepared.channels[order] * prepared.brain)
        spacing = [float(edge) for edge in prepared.working.spacing_mm[::-1]]
        with interruptible(self._predictor.network, STAGE, context), _quiet():
            _, probability = self._predictor.predict_single_npy_array(
                image, {"spacing": spacing}, save_or_return_probabilities=True
            )
        channels = _from_itk(probability)
        cavity = None if self._cavity is None else channels[self._cavity].clip(0, 1)
        return Prediction(self._nested(channels, prepared), self.info, cavity=cavity)

    def _nested(self, channels: Floats, prepared: PreparedStudy) -> dict[Region, Floats]:
        """Sum the channels of each region; a region is at most its enclosing one."""
        enclosing = prepared.brain.astype(np.float32)
        nested: dict[Region, Floats] = {}
        for region in Region:
            total = channels[self._regions[region]].sum(axis=0, dtype=np.float32)
            enclosing = np.minimum(enclosing, total.clip(0, 1))
            nested[region] = enclosing
        return nested


def _predictor(device: Any, folder: Path, folds: Sequence[str]) -> Any:
    with _quiet():
        from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

        predictor = nnUNetPredictor(
            use_mirroring=False,
            perform_everything_on_device=device.type != "cpu",
            device=device,
            allow_tqdm=False,
        )
        names = [fold.removeprefix("fold_") for fold in folds]
        numbers = [name if name == "all" else int(name) for name in names]
        predictor.initialize_from_trained_model_folder(str(folder), tuple(numbers), CHECKPOINT)
    predictor.network.eval()
    return predictor


@contextlib.contextmanager
def _quiet() -> Any:
    """Discard what nnU-Net prints: it would be in the output of a command."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield


def _plain(name: str) -> str:
    return "".join(c for c in name.lower() if c.isalnum())


def _sequences(names: Mapping[str, str]) -> list[MrSequence]:
    ordered = [names[key] for key in sorted(names, key=int)]
    unknown = [name for name in ordered if _plain(name) not in _CHANNELS]
    if unknown:
        raise UnusableInputError(
            found=f"channels named {', '.join(unknown)}",
            expected="T1, T1c, T2 or FLAIR",
            next_step="Name the channels so in dataset.json",
        )
    return [_CHANNELS[_plain(name)] for name in ordered]


def _cavity(labels: Mapping[str, int | Sequence[int]]) -> int | None:
    """Return the channel of a resection cavity; None without one."""
    names = _foreground_names(labels)
    cavity_name = next((name for name in names if _plain(name) in _CAVITY), None)
    if cavity_name is None:
        return None
    number = labels[cavity_name]
    by_region = any(isinstance(labels[name], list | tuple) for name in names)
    return names.index(cavity_name) if by_region or not isinstance(number, int) else number


def _foreground_names(labels: Mapping[str, int | Sequence[int]]) -> list[str]:
    return [name for name in labels if _plain(name) not in ("background", "ignore")]


def _regions(labels: Mapping[str, int | Sequence[int]]) -> dict[Region, list[int]]:
    """Return the output channels that form each region."""
    names = _foreground_names(labels)
    channels: dict[Region, list[int]] = {region: [] for region in Region}
    by_region = any(isinstance(labels[name], list | tuple) for name in names)
    for channel, name in enumerate(names):
        parts: tuple[Region, ...]
        if by_region:
            parts = (_REGIONS[_plain(name)],) if _plain(name) in _REGIONS else ()
        else:
            parts = _PARTS.get(_plain(name), ())
            channel = int(labels[name])  # type: ignore[arg-type]
        for region in parts:
            channels[region].append(channel)
    if not all(channels.values()):
        raise UnusableInputError(
            found=f"labels named {', '.join(names)}",
            expected="whole tumour, tumour core and enhancing tumour, or their parts",
            next_step="Name the labels so in dataset.json",
        )
    return channels


def _as_itk(channels: Floats) -> Floats:
    """Return (C, I, J, K) RAS+ as ITK reads an image stored in LPS: (C, K, J, I)."""
    flipped = channels[:, ::-1, ::-1]
    return np.ascontiguousarray(flipped.transpose(0, 3, 2, 1), dtype=np.float32)


def _from_itk(channels: NDArray[Any]) -> Floats:
    """Undo `_as_itk`."""
    return np.ascontiguousarray(channels.transpose(0, 3, 2, 1)[:, ::-1, ::-1], dtype=np.float32)
