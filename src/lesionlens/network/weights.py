"""Weights files: save, load, and find the shipped ones.

A file is safetensors with two JSON records in its metadata: the network's sizes and `WeightsNotes`.
Its identity is the SHA-256 of the file. Shipped files lie in `weight_files/`, each beside a JSON
record of its hash.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialised
from torch import Tensor

from lesionlens.base.errors import WeightsError
from lesionlens.base.files import parse_json
from lesionlens.base.provenance import sha256_of
from lesionlens.base.storage import write_atomically, write_error
from lesionlens.network.lens_net import LensNetwork, NetworkConfig

DEFAULT_NAME = "default"
SHIPPED = (DEFAULT_NAME, "synthetic")
"""Shipped weights of the Lens network; no patient was used for the second."""
FOLDER = Path(__file__).parent / "weight_files"
AGREEMENT = (-0.62, 0.55, 10.7, 17 / 18)
"""Of weights whose metadata lack it."""
_UNUSED = ("exists.weight", "exists.bias")  # a head that only training used
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class WeightsNotes:
    """What is stored with weights beside the sizes of the network."""

    version: str = "0"
    """Version of the weights, not of the package."""
    spacing_mm: float = 2.0
    """Voxel edge of the pass over the whole brain."""
    focus_spacing_mm: float | None = None
    """Voxel edge of the refinement in windows; None if it does not help."""
    temperature: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """(3,) float: logits of WT, TC, ET are divided by these before the sigmoid."""
    operating_points: tuple[Mapping[str, float], ...] = ()
    """By ascending sensitivity, each with ``threshold``, ``sensitivity``, ``false_per_scan``."""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """Data, recipe, steps, minutes."""
    score: tuple[float, float, float] = (-1.5, 0.36, 0.0)
    """(3,) float: intercept, slope of the mean logit, slope of the logarithm of the ml. A
    candidate's score is the sigmoid of their sum (`component_score`)."""
    score_floor: float = 0.2
    """Regions with a lower score are not flagged."""
    agreement: tuple[float, float, float, float] | None = AGREEMENT
    """(4,) float or None: fields of `base.records.prediction.ViewAgreement`."""
    thresholds: tuple[float, float, float] = (0.5, 0.5, 0.5)
    """(3,) float: probability from which a voxel is WT, TC, ET. The best expected Dice is at half
    of the achievable Dice (Lipton et al. 2014, doi:10.1007/978-3-662-44851-9_15)."""
    trained_on: tuple[str, ...] = ()
    """Training scans, by both digests of `imaging.preparation.intensities`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightsInfo(WeightsNotes):
    """Notes, sizes of the network and SHA-256 of loaded weights."""

    sha256: str
    config: NetworkConfig


def notes_of(notes: WeightsNotes) -> dict[str, Any]:
    """Return the fields of `WeightsNotes` by name, without those of `WeightsInfo`."""
    return {item.name: getattr(notes, item.name) for item in fields(WeightsNotes)}


def save(
    path: Path,
    config: NetworkConfig,
    state: Mapping[str, Tensor],
    notes: WeightsNotes,
    *,
    dtype: torch.dtype = torch.float32,
) -> str:
    """Write weights and all that is needed to use them, atomically; return the SHA-256.

    Raises
    ------
    ResourceError
        The file cannot be written; an earlier one is intact.
    """
    metadata = {
        "format": "lesionlens-weights-1",
        "network": json.dumps(dataclasses.asdict(config)),
        "notes": json.dumps(notes_of(notes)),
    }
    return write_tensors(path, state, metadata, dtype)


def write_tensors(
    path: Path, state: Mapping[str, Tensor], metadata: Mapping[str, str], dtype: torch.dtype
) -> str:
    """Write tensors and metadata as safetensors, atomically; raises and returns as `save`."""
    tensors = {name: value.detach().cpu().contiguous().to(dtype) for name, value in state.items()}
    try:
        write_atomically(path, serialised(tensors, dict(metadata)))
    except OSError as error:
        raise write_error("weights", path, error) from error
    return sha256_of(path)


def read_tensors(path: Path) -> tuple[dict[str, Tensor], Mapping[str, str]]:
    """Read tensors as float32, and metadata; of a damaged file raise the library's error.

    They are copied: the file may be replaced while the network is used.
    """
    with safe_open(path, framework="pt") as stream:
        names = stream.keys()
        state = {n: stream.get_tensor(n).to(torch.float32, copy=True) for n in names}
        return state, stream.metadata() or {}


def record_from_json(kind: Callable[..., _T], text: str) -> _T:
    """Read a record of tuples and numbers; raise TypeError or ValueError if it is another's."""
    table = parse_json(text)
    return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in table.items()})


def load(
    weights: str | Path | None = None, device: torch.device | str = "cpu"
) -> tuple[LensNetwork, WeightsInfo]:
    """Load a network in evaluation mode, channels last, with its notes.

    Parameters
    ----------
    weights : str, Path or None
        As for `weights_path`.

    Raises
    ------
    WeightsError
        The file is missing, damaged or of another network, or shipped weights are altered.
    """
    path = weights_path(weights)
    if not path.is_file():
        raise WeightsError(f"There is no weights file {path.name}.", hint="Check --weights.")
    sha256 = sha256_of(path)
    try:
        state, metadata = read_tensors(path)
        network = _network_of(metadata["network"], state)
        notes = record_from_json(WeightsNotes, metadata["notes"])
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise unusable(path, error) from error
    network.to(device).to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    info = WeightsInfo(sha256=sha256, config=network.config, **notes_of(notes))
    return network.eval(), info


def unusable(path: Path, reason: object) -> WeightsError:
    """Return the error for a file that does not hold the weights of this network."""
    text = " ".join(str(reason).split())[:200]
    hint = "Train again, or use the default weights."
    return WeightsError(f"{path.name} does not hold weights of this network: {text}.", hint=hint)


def _network_of(sizes: str, state: dict[str, Tensor]) -> LensNetwork:
    """Build a network around tensors; sizes that are not theirs allocate nothing."""
    table = parse_json(sizes)
    table.pop("design", None)  # of earlier files: there is one design
    config = record_from_json(NetworkConfig, json.dumps(table))
    if config.layers + sum(config.blocks) > len(state):
        raise ValueError(f"{config.layers} layers in {len(state)} tensors")
    if not all(bool(value.isfinite().all()) for value in state.values()):
        raise ValueError("some values are not finite")
    with torch.device("meta"):
        network = LensNetwork(config)
    used = {name: value for name, value in state.items() if name not in _UNUSED}
    network.load_state_dict(used, assign=True)
    return network


def weights_path(weights: str | Path | None = None) -> Path:
    """Return the file of a choice: a path, a name in `SHIPPED`, or None for the default.

    A name wins over a file that is called the same; ``./synthetic`` is the file.

    Raises
    ------
    WeightsError
        Shipped weights are missing or altered.
    """
    if weights is None or weights in SHIPPED:
        return shipped_file(str(weights or DEFAULT_NAME))
    return Path(weights)


def shipped_record(name: str) -> dict[str, Any]:
    """Return the record of a shipped file: `sha256`, mostly also `version` and `trained_on`."""
    return dict(json.loads((FOLDER / f"{name}.json").read_text("utf-8")))


def shipped_file(name: str) -> Path:
    """Return the path of a shipped file, verified against its record.

    Raises
    ------
    WeightsError
        The file or its record is missing, or the file is altered.
    """
    path = FOLDER / f"{name}.safetensors"
    complete = path.is_file() and path.with_suffix(".json").is_file()
    if not complete or sha256_of(path) != shipped_record(name)["sha256"]:
        raise WeightsError(f"{path.name} is missing or altered.", hint="Install LesionLens again.")
    return path


def shipped_scans(name: str) -> frozenset[str]:
    """Return the digests of the scans that a shipped file was trained on (`scan_digest`)."""
    cases = shipped_record(name)["trained_on"].values()
    return frozenset(digest for case in cases for digest in case.values())
