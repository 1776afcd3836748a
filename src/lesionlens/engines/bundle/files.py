"""Load a MONAI bundle without executing any of its code.

A bundle's configuration may contain Python (`$...`) and name any class, and its weights are a
pickle. Therefore only the network definition is used, only classes of `monai.networks.nets` are
instantiated, expressions are refused, and weights are loaded with `weights_only=True`.
"""

from __future__ import annotations

import inspect
import io
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
    is_out_of_memory,
)
from lesionlens.base.labels import MrSequence, Region
from lesionlens.base.provenance import sha256_of
from lesionlens.base.records.study import PreparedStudy
from lesionlens.base.text import joined_with_and
from lesionlens.engines.bundle import transforms

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
_INFERERS = ("SlidingWindowInferer", "SlidingWindowInfererAdapt", "SimpleInferer", "")
"""Classes; the last one is the default."""
_MAX_WINDOW_VOX = 1024
_MAX_ENTRIES = 100_000
"""Limit of the entries of a configuration; bundles have some hundreds."""
_DOWNLOADED = "path_or_repo_id"
"""Parameter of networks that always download weights."""
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

    @property
    def unsegmented(self) -> tuple[Region, ...]:
        """The regions without an output channel."""
        return tuple(r for r in Region if r not in self.regions)

    def notices(self, prepared: PreparedStudy) -> tuple[str, ...]:
        """Report sequences that the bundle expects and the study lacks, and regions it lacks."""
        missing = [s.display_name for s in self.sequences if s not in prepared.sequences]
        notices = []
        if missing:
            notices.append(
                f"The bundle expects {', '.join(missing)}, which this study lacks: it received "
                f"an empty image instead, and its result may be wrong"
            )
        if self.unsegmented:
            regions = " or the ".join(region.display_name for region in self.unsegmented)
            notices.append(f"The bundle does not segment the {regions}")
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
    _load_weights(network, weights)
    data = _table(metadata.get("network_data_format"))
    input_entry = _single_entry(_table(data.get("inputs")), "input")
    output_entry = _single_entry(_table(data.get("outputs")), "output")
    preprocessing = transforms.preprocessing(inference)
    sequences = _sequences(input_entry, definition.get("in_channels"))
    _check_order(preprocessing, sequences)
    regions = _regions(output_entry)
    _check_overlapping(transforms.postprocessing(inference), output_entry)
    return Bundle(
        name=str(metadata.get("name", folder.name)),
        version=str(metadata.get("version", "unknown")),
        network=network.eval(),
        sequences=sequences,
        regions=regions,
        window=_window(inference),
        spacing_mm=transforms.spacing_mm(preprocessing),
        sha256=sha256_of(weights),
        fixed="img_size" in definition,
        cavity=next(
            (n for n, channel in enumerate(_channel_names(output_entry)) if channel in _CAVITY),
            None,
        ),
    )


def _config(folder: Path, name: str) -> dict[str, Any]:
    for suffix in (".json", ".yaml", ".yml"):
        path = folder / "configs" / f"{name}{suffix}"
        if path.is_file():
            try:
                content = ConfigParser.load_config_file(str(path))
            except (ValueError, OSError, RecursionError, YAMLError) as error:
                raise _not_a_bundle(folder, f"a broken {path.name}") from error
            if not isinstance(content, Mapping) or _is_oversized(content):
                raise _not_a_bundle(folder, f"a broken {path.name}")
            return dict(content)
    raise _not_a_bundle(folder, f"no configs/{name}.json")


def _is_oversized(content: Any) -> bool:
    """Return whether a configuration has too many entries, as from nested aliases in YAML."""
    pending, count = [content], 0
    while pending and count <= _MAX_ENTRIES:
        value = pending.pop()
        parts = value.values() if isinstance(value, Mapping) else value
        if isinstance(value, Mapping | list | tuple):
            pending.extend(parts)
            count += len(value)
    return count > _MAX_ENTRIES


def _table(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _not_a_bundle(folder: Path, found: str) -> UnusableInputError:
    return UnusableInputError(
        found=f"{found} in {folder.name}",
        expected="a MONAI bundle: configs/metadata.json, configs/inference.json, models/model.pt",
        next_step="Give the bundle's own folder, as created by `python -m monai.bundle download`",
    )


def _definition(inference: Mapping[str, Any]) -> dict[str, Any]:
    for name in _DEFINITIONS:
        definition = inference.get(name)
        if isinstance(definition, Mapping) and "_target_" in definition:
            return dict(definition)
    raise UnusableInputError(
        found="an inference configuration without a definition of the network",
        expected='an entry "network_def" with a "_target_"',
        next_step="Use a bundle that defines its network in the usual way",
    )


def _options(network_class: type[nn.Module], definition: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a network, with downloads of pretrained weights disabled.

    Some networks download by default, so that options which the definition omits are disabled too.
    """
    named = {key: value for key, value in definition.items() if not key.startswith("_")}
    parameters = inspect.signature(network_class).parameters
    if _DOWNLOADED in parameters:
        raise UnusableInputError(
            found=f"the network {network_class.__name__}, which downloads weights",
            expected="a network that is built from its definition alone",
            next_step="Use a bundle with another network",
        )
    defaults = {name: parameter.default for name, parameter in parameters.items()}
    return named | {
        key: False if isinstance(value, bool) else None
        for key, value in (defaults | named).items()
        if key.startswith("pretrained") or key == "weights"
    }


def _build(definition: Mapping[str, Any]) -> nn.Module:
    """Build a class of `monai.networks.nets` from plain values."""
    target = str(definition["_target_"])
    parts = target.rpartition(".")
    is_supported_module = parts[0] == "" or parts[0].startswith("monai.networks.nets")
    network_class = getattr(nets, parts[2], None) if is_supported_module else None
    if not (isinstance(network_class, type) and issubclass(network_class, nn.Module)):
        raise UnusableInputError(
            found=f"the network {target!r}",
            expected="a network of monai.networks.nets",
            next_step="Provide other networks as an engine (entry point lesionlens.engines)",
        )
    options = _options(network_class, definition)
    if any(_is_code(value) for value in options.values()):
        raise UnusableInputError(
            found="Python code in the definition of the network",
            expected="plain values: code from a bundle is not run",
            next_step="Write the values out in configs/inference.json",
        )
    try:
        return network_class(**options)
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
        if is_out_of_memory(error):
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


def _load_weights(network: nn.Module, path: Path) -> None:
    stored = io.BytesIO(path.read_bytes())
    try:
        state = torch.load(stored, map_location="cpu", weights_only=True)
        for key in ("state_dict", "model"):
            state = state.get(key, state)
        network.load_state_dict({k.removeprefix("module."): v for k, v in state.items()})
    except (
        pickle.UnpicklingError, RuntimeError, LookupError, TypeError, ValueError, AttributeError,
        EOFError, OSError,
    ) as error:  # fmt: skip
        raise WeightsError(
            found=f"{path.name}, which contains something other than this network's tensors",
            expected="a state dictionary of plain tensors",
            next_step="Save the network's state_dict() alone; pickled objects are not loaded",
        ) from error
    if not all(bool(value.isfinite().all()) for value in network.state_dict().values()):
        raise WeightsError(
            found=f"{path.name}, with values that are not numbers",
            expected="finite weights",
            next_step="Train again, or download the bundle again",
        )


def _single_entry(entries: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    if len(entries) != 1:
        raise UnusableInputError(
            found=f"{len(entries)} {kind}s in the bundle's metadata",
            expected="one",
            next_step="Use a bundle for the segmentation of one image",
        )
    return _table(next(iter(entries.values())))


def _channel_names(entry: Mapping[str, Any]) -> list[str]:
    """Return the channels' names in order, without spaces and hyphens; refuse gaps in numbers."""
    name_by_key = {str(key): name for key, name in _table(entry.get("channel_def")).items()}
    keys = [str(number) for number in range(len(name_by_key))]
    if name_by_key.keys() != set(keys):
        raise UnusableInputError(
            found=f"channels numbered {', '.join(name_by_key)} in the bundle's metadata",
            expected="each channel of the network, from 0 on",
            next_step="Name all of them in network_data_format of configs/metadata.json",
        )
    return [_plain(str(name_by_key[key])) for key in keys]


def _plain(name: str) -> str:
    """Return a name in lower case, letters and digits only."""
    return "".join(c for c in name.lower() if c.isalnum())


def _sequences(entry: Mapping[str, Any], channel_count: Any) -> tuple[MrSequence, ...]:
    """Return the sequence of each input channel.

    `channel_count` is the number of channels of the network, if known.
    """
    channels = _channel_names(entry)
    if not channels or any(channel not in _SEQUENCES for channel in channels):
        raise UnusableInputError(
            found=f"input channels {channels}",
            expected="names of MR sequences: T1, T1c, T2, FLAIR",
            next_step="Name them in network_data_format of configs/metadata.json",
        )
    if isinstance(channel_count, int) and len(channels) != channel_count:
        raise UnusableInputError(
            found=f"{len(channels)} input channels in the bundle's metadata",
            expected=f"{channel_count}, as in the definition of its network",
            next_step="Name each of them in network_data_format of configs/metadata.json",
        )
    sequences = tuple(_SEQUENCES[channel] for channel in channels)
    _check_once(sequences, "input")
    return sequences


def _check_once(channels: Sequence[MrSequence | Region | None], kind: str) -> None:
    """Refuse a sequence or region of two channels: which one is meant is unknown."""
    assigned = [channel for channel in channels if channel is not None]
    duplicates = sorted(
        {channel.display_name for channel in assigned if assigned.count(channel) > 1}
    )
    if duplicates:
        raise UnusableInputError(
            found=f"two {kind} channels for {joined_with_and(duplicates)} in the bundle's metadata",
            expected="one for each",
            next_step="Correct network_data_format in configs/metadata.json",
        )


def _regions(entry: Mapping[str, Any]) -> tuple[Region | None, ...]:
    regions = tuple(_REGIONS.get(channel) for channel in _channel_names(entry))
    if Region.WT not in regions:
        raise UnusableInputError(
            found=f"output channels {_channel_names(entry)}",
            expected='one that is the "whole tumor"',
            next_step="Name them in network_data_format of configs/metadata.json",
        )
    if Region.ET in regions and Region.TC not in regions:
        raise UnusableInputError(
            found="an output for the enhancing tumour and none for the tumour core, which contains "
            "it, in the bundle's metadata",
            expected='one that is the "tumor core"',
            next_step="Give the output for enhancing tumour another name, so that it is ignored",
        )
    _check_once(regions, "output")
    return regions


def _window(inference: Mapping[str, Any]) -> tuple[int, int, int]:
    """Return the window size; 128 voxels if none is named."""
    inferer = inference.get("inferer", {})
    if isinstance(inferer, Mapping) and transforms.name_of(inferer) not in _INFERERS:
        raise UnusableInputError(
            found=f"the inferer {transforms.name_of(inferer):.50} in the bundle",
            expected="SlidingWindowInferer or SimpleInferer",
            next_step="Provide the network as an engine (entry point lesionlens.engines)",
        )
    sizes = inferer.get("roi_size", 128) if isinstance(inferer, Mapping) else inferer
    edges = sizes if isinstance(sizes, list | tuple) else (sizes,) * 3
    if len(edges) != 3 or not all(type(n) is int and 0 < n <= _MAX_WINDOW_VOX for n in edges):
        raise transforms.not_plain(f"the window {sizes!r:.100}", "three numbers of voxels above 0")
    return edges[0], edges[1], edges[2]


def _check_order(preprocessing: Sequence[Mapping[str, Any]], order: Sequence[MrSequence]) -> None:
    """Refuse metadata that name the channels in another order than the preprocessing has them."""
    for step in transforms.of_kind(preprocessing, "ConcatItems"):
        found = [_SEQUENCES.get(_plain(key)) for key in transforms.keys_of(step)]
        if None not in found and found != list(order):
            raise UnusableInputError(
                found=f"input channels in the order {', '.join(transforms.keys_of(step))} in the "
                f"bundle's preprocessing",
                expected=f"that of its metadata: {', '.join(s.display_name for s in order)}",
                next_step="Correct network_data_format in configs/metadata.json",
            )


def _check_overlapping(
    postprocessing: Sequence[Mapping[str, Any]], output_entry: Mapping[str, Any]
) -> None:
    """Refuse a network with mutually exclusive labels: their sigmoids are not probabilities."""
    signs = {
        option for step in postprocessing for option in ("softmax", "argmax") if step.get(option)
    }
    signs |= {"background"}.intersection(_channel_names(output_entry))
    if signs:
        raise UnusableInputError(
            found=f"outputs that exclude each other ({', '.join(sorted(signs))}) in the bundle",
            expected="one output for each region, which may overlap: a sigmoid of each",
            next_step="Provide the network as an engine (entry point lesionlens.engines)",
        )
