"""Load a MONAI bundle without executing any of its code.

A bundle's configuration may contain Python (`$...`) and name any class, and its weights are a
pickle. Therefore only the network definition is used, only classes of `monai.networks.nets` are
instantiated, expressions are refused, and weights are loaded with `weights_only=True`.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser
from monai.networks import nets
from torch import nn
from yaml import YAMLError  # type: ignore[import-untyped]

from lesionlens.base.errors import (
    MissingPluginError,
    UnusableInputError,
    WeightsError,
    is_lack_of_memory,
)
from lesionlens.base.labels import MrSequence, Region
from lesionlens.base.provenance import sha256_of
from lesionlens.base.records.study import PreparedStudy
from lesionlens.base.text import joined_with_and
from lesionlens.network.weights import is_finite

_DEFINITIONS = ("network_def", "network")
_WEIGHTS = ("models/model.pt", "models/model.pth")
_SEQUENCES = {
    "t1c": MrSequence.T1C, "t1ce": MrSequence.T1C, "t1gd": MrSequence.T1C,
    "t1post": MrSequence.T1C, "flair": MrSequence.FLAIR, "t2flair": MrSequence.FLAIR,
    "t2f": MrSequence.FLAIR, "t2": MrSequence.T2, "t2w": MrSequence.T2, "t1": MrSequence.T1,
    "t1w": MrSequence.T1, "t1n": MrSequence.T1,
}  # fmt: skip
_REGIONS = {
    "wholetumor": Region.WT, "wholetumour": Region.WT, "wt": Region.WT, "tumor": Region.WT,
    "tumour": Region.WT, "lesion": Region.WT, "tumorcore": Region.TC, "tumourcore": Region.TC,
    "tc": Region.TC, "enhancingtumor": Region.ET, "enhancingtumour": Region.ET, "et": Region.ET,
}  # fmt: skip
_LARGEST_WINDOW, _EDGES_MM = 1024, (0.3, 10.0)
_CAVITY = frozenset({"resectioncavity", "surgicalcavity", "cavity", "rc"})


@dataclass(frozen=True, slots=True, eq=False)
class Bundle:
    """The parts of a bundle that are used."""

    name: str
    version: str
    """From its metadata."""
    network: nn.Module
    """With weights, in evaluation mode, on the CPU."""
    sequences: tuple[MrSequence, ...]
    """Sequence of each input channel."""
    regions: tuple[Region | None, ...]
    """Region of each output channel; None for an unused channel."""
    window: tuple[int, int, int]
    """(3,) int: window size in voxels."""
    spacing_mm: float
    """Voxel edge of the training data."""
    sha256: str
    """SHA-256 of the weights file."""
    fixed: bool = False
    """Whether the network requires exactly that window size (positional embedding)."""
    cavity: int | None = None
    """Output channel of the resection cavity."""

    def notices(self, prepared: PreparedStudy) -> tuple[str, ...]:
        """Report sequences that the bundle expects and the study lacks, and regions it lacks."""
        missing = [s.display_name for s in self.sequences if s not in prepared.sequences]
        lacking = [r.display_name for r in Region if r not in self.regions]
        notices = []
        if missing:
            notices.append(
                f"The bundle expects {', '.join(missing)}, which this study lacks: it was shown "
                "an empty image instead, and its answer may be wrong"
            )
        if lacking:
            notices.append(f"The bundle does not draw the {' or the '.join(lacking)}")
        return tuple(notices)


def read(folder: Path) -> Bundle:
    """Load a bundle folder.

    Raises
    ------
    UnusableInputError
        Not a bundle, or not for brain tumours in MRI.
    WeightsError
        The weights are missing, do not fit, or contain more than tensors.
    """
    metadata = _config(folder, "metadata")
    inference = _config(folder, "inference")
    definition = _definition(inference)
    network = _build(definition)
    weights = next((folder / name for name in _WEIGHTS if (folder / name).is_file()), None)
    if weights is None:
        raise WeightsError(
            found=f"no weights in {folder.name}",
            expected=f"one of {', '.join(_WEIGHTS)}",
            next_step="Download the bundle again, with its models folder",
        )
    _fill(network, weights)
    data = _table(metadata.get("network_data_format"))
    image = _only(_table(data.get("inputs")), "input")
    answer = _only(_table(data.get("outputs")), "output")
    sequences = _sequences(image, definition.get("in_channels"))
    regions = _regions(answer)
    return Bundle(
        name=str(metadata.get("name", folder.name)),
        version=str(metadata.get("version", "unknown")),
        network=network.eval(),
        sequences=sequences,
        regions=regions,
        window=_window(inference),
        spacing_mm=_spacing(inference),
        sha256=sha256_of(weights),
        fixed="img_size" in definition,
        cavity=next((n for n, word in enumerate(_channels(answer)) if word in _CAVITY), None),
    )


def _config(folder: Path, name: str) -> dict[str, Any]:
    for suffix in (".json", ".yaml", ".yml"):
        path = folder / "configs" / f"{name}{suffix}"
        if path.is_file():
            try:
                found = ConfigParser.load_config_file(str(path))
            except (ValueError, OSError, RecursionError, YAMLError) as error:
                raise _no_bundle(folder, f"a broken {path.name}") from error
            if not isinstance(found, Mapping):
                raise _no_bundle(folder, f"a broken {path.name}")
            return dict(found)
    raise _no_bundle(folder, f"no configs/{name}.json")


def _table(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _no_bundle(folder: Path, found: str) -> UnusableInputError:
    return UnusableInputError(
        found=f"{found} in {folder.name}",
        expected="a MONAI bundle: configs/metadata.json, configs/inference.json, models/model.pt",
        next_step="Give the bundle's own folder, as `python -m monai.bundle download` makes it",
    )


def _definition(inference: Mapping[str, Any]) -> dict[str, Any]:
    for name in _DEFINITIONS:
        found = inference.get(name)
        if isinstance(found, Mapping) and "_target_" in found:
            return dict(found)
    raise UnusableInputError(
        found="an inference configuration without a definition of the network",
        expected='an entry "network_def" with a "_target_"',
        next_step="Use a bundle that defines its network in the usual way",
    )


def _without_download(key: str, value: Any) -> Any:
    """Return a network option, with downloads of pretrained weights disabled."""
    if not key.startswith("pretrained"):
        return value
    return False if isinstance(value, bool) else None


def _build(definition: Mapping[str, Any]) -> nn.Module:
    """Build a class of `monai.networks.nets` from plain values."""
    target = str(definition["_target_"])
    parts = target.rpartition(".")
    known = parts[0] == "" or parts[0].startswith("monai.networks.nets")
    made = getattr(nets, parts[2], None) if known else None
    if not (isinstance(made, type) and issubclass(made, nn.Module)):
        raise UnusableInputError(
            found=f"the network {target!r}",
            expected="a network of monai.networks.nets",
            next_step="Provide other networks as an engine (entry point lesionlens.engines)",
        )
    options = {
        key: _without_download(key, value)
        for key, value in definition.items()
        if not key.startswith("_")
    }
    if any(_is_code(value) for value in options.values()):
        raise UnusableInputError(
            found="Python code in the definition of the network",
            expected="plain values: code from a bundle is not run",
            next_step="Write the values out in configs/inference.json",
        )
    try:
        return made(**options)
    except ImportError as error:
        raise MissingPluginError(
            found=f"{parts[2]}, which needs a package that is not installed",
            expected="the packages that MONAI's transformers use",
            next_step=f"Install it: pip install {error.name or 'PACKAGE'}",
        ) from error
    except (
        TypeError, ValueError, LookupError, AttributeError, ArithmeticError, AssertionError,
        RuntimeError,
    ) as error:  # fmt: skip
        if is_lack_of_memory(error):
            raise
        raise UnusableInputError(
            found=f"a definition of {parts[2]} that it does not accept ({error})",
            expected="its parameters in the installed version of MONAI",
            next_step="Install the version of MONAI that the bundle names",
        ) from error


def _is_code(value: Any) -> bool:
    if isinstance(value, str):
        return value.startswith(("$", "@", "%"))
    if isinstance(value, Mapping):
        return "_target_" in value or any(_is_code(item) for item in value.values())
    return isinstance(value, list | tuple) and any(_is_code(item) for item in value)


def _fill(network: nn.Module, path: Path) -> None:
    try:
        held = torch.load(path, map_location="cpu", weights_only=True)
        for key in ("state_dict", "model"):
            held = held.get(key, held)
        network.load_state_dict({k.removeprefix("module."): v for k, v in held.items()})
    except (
        pickle.UnpicklingError, RuntimeError, KeyError, TypeError, AttributeError, EOFError,
    ) as error:  # fmt: skip
        raise WeightsError(
            found=f"{path.name}, which holds more or other things than this network's tensors",
            expected="a state dictionary of plain tensors",
            next_step="Save the network's state_dict() alone; pickled objects are not loaded",
        ) from error
    if not is_finite(network):
        raise WeightsError(
            found=f"{path.name}, with values that are not numbers",
            expected="finite weights",
            next_step="Train again, or download the bundle again",
        )


def _only(entries: Mapping[str, Any], what: str) -> Mapping[str, Any]:
    if len(entries) != 1:
        raise UnusableInputError(
            found=f"{len(entries)} {what}s in the bundle's metadata",
            expected="one",
            next_step="Use a bundle for the segmentation of one image",
        )
    return _table(next(iter(entries.values())))


def _channels(entry: Mapping[str, Any]) -> list[str]:
    """Return the channels' names in order, without spaces and hyphens; refuse gaps in numbers."""
    named = {str(key): name for key, name in _table(entry.get("channel_def")).items()}
    order = [str(number) for number in range(len(named))]
    if named.keys() != set(order):
        raise UnusableInputError(
            found=f"channels numbered {', '.join(named)} in the bundle's metadata",
            expected="each channel of the network, from 0 on",
            next_step="Name all of them in network_data_format of configs/metadata.json",
        )
    return ["".join(c for c in str(named[key]).lower() if c.isalnum()) for key in order]


def _sequences(entry: Mapping[str, Any], wanted: Any) -> tuple[MrSequence, ...]:
    """Return the sequence of each input channel; `wanted` is how many the network has, if known."""
    words = _channels(entry)
    if not words or any(word not in _SEQUENCES for word in words):
        raise UnusableInputError(
            found=f"input channels {words}",
            expected="names of MR sequences: T1, T1c, T2, FLAIR",
            next_step="Name them in network_data_format of configs/metadata.json",
        )
    if isinstance(wanted, int) and len(words) != wanted:
        raise UnusableInputError(
            found=f"{len(words)} input channels in the bundle's metadata",
            expected=f"{wanted}, as in the definition of its network",
            next_step="Name each of them in network_data_format of configs/metadata.json",
        )
    found = tuple(_SEQUENCES[word] for word in words)
    _check_once(found, "input")
    return found


def _check_once(channels: Sequence[MrSequence | Region | None], what: str) -> None:
    """Refuse a sequence or region of two channels: which one is meant is unknown."""
    named = [one for one in channels if one is not None]
    twice = sorted({one.display_name for one in named if named.count(one) > 1})
    if twice:
        raise UnusableInputError(
            found=f"two {what} channels for {joined_with_and(twice)} in the bundle's metadata",
            expected="one for each",
            next_step="Correct network_data_format in configs/metadata.json",
        )


def _regions(entry: Mapping[str, Any]) -> tuple[Region | None, ...]:
    found = tuple(_REGIONS.get(word) for word in _channels(entry))
    if Region.WT not in found:
        raise UnusableInputError(
            found=f"output channels {_channels(entry)}",
            expected='one that is the "whole tumor"',
            next_step="Name them in network_data_format of configs/metadata.json",
        )
    _check_once(found, "output")
    return found


def _window(inference: Mapping[str, Any]) -> tuple[int, int, int]:
    """Return the window size; 128 voxels if none is named."""
    inferer = inference.get("inferer", {})
    sizes = inferer.get("roi_size", 128) if isinstance(inferer, Mapping) else inferer
    edges = sizes if isinstance(sizes, list | tuple) else (sizes,) * 3
    if len(edges) != 3 or not all(type(n) is int and 0 < n <= _LARGEST_WINDOW for n in edges):
        raise _not_plain(f"the window {sizes!r:.100}", "three numbers of voxels above 0")
    return edges[0], edges[1], edges[2]


def _not_plain(found: str, expected: str) -> UnusableInputError:
    return UnusableInputError(
        found=f"{found} in configs/inference.json",
        expected=f"{expected}, as plain values: code from a bundle is not run",
        next_step="Write the values out in configs/inference.json",
    )


def _spacing(inference: Mapping[str, Any]) -> float:
    """Return the voxel edge of Spacingd in the preprocessing; 1 mm if there is none."""
    steps = inference.get("preprocessing", {})
    steps = steps.get("transforms", ()) if isinstance(steps, Mapping) else steps
    if not isinstance(steps, list | tuple):
        raise _not_plain(f"the preprocessing {steps!r:.100}", "a list of transforms")
    for step in steps:
        if isinstance(step, Mapping) and str(step.get("_target_", "")).startswith("Spacing"):
            edges = step.get("pixdim", 1.0)
            edges = edges if isinstance(edges, list | tuple) else (edges,)
            if not all(
                type(e) in (int, float) and _EDGES_MM[0] <= e <= _EDGES_MM[1] for e in edges
            ):
                raise _not_plain(f"the voxel edges {edges!r:.100}", "millimetres from 0.3 to 10")
            if len(set(edges)) == 1:
                return float(edges[0])
            raise UnusableInputError(
                found=f"voxel edges {edges} in the bundle's preprocessing",
                expected="cubes",
                next_step="Use a bundle that was trained on isotropic voxels",
            )
    return 1.0
