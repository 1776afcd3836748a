"""Find, verify and load weights; safetensors only, verified by SHA-256."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialised
from torch import Tensor, nn

from lesionlens.base.errors import WeightsError
from lesionlens.base.files.atomic_file import write_atomically, write_error
from lesionlens.base.provenance import sha256_of
from lesionlens.network.build import build
from lesionlens.network.config import NetworkConfig
from lesionlens.network.model import LensNetwork, channels_last
from lesionlens.network.shipped_weights import DEFAULT_NAME, SHIPPED, shipped_file
from lesionlens.network.weights_metadata import (
    WeightsInfo,
    WeightsNotes,
    from_json,
    notes_of,
    sizes_from_json,
)


def save(
    path: Path,
    config: NetworkConfig,
    state: Mapping[str, Tensor],
    notes: WeightsNotes,
    *,
    dtype: torch.dtype = torch.float32,
) -> str:
    """Write weights and everything needed to use them; return the SHA-256.

    The file is written atomically. Of loaded weights (`WeightsInfo`) only the metadata are written;
    configuration and hash are those of the new file.

    Raises
    ------
    ResourceError
        The disk is full or cannot be written.
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
    """Write tensors and metadata as safetensors, atomically; return the SHA-256.

    Raises
    ------
    ResourceError
        The disk is full or cannot be written.
    """
    tensors = {name: value.detach().cpu().contiguous().to(dtype) for name, value in state.items()}
    # Not by `save_file`: its temporary file has another name, which a killed process leaves behind.
    content = _with_sorted_metadata(serialised(tensors, dict(metadata)))
    try:
        write_atomically(path, content)
    except OSError as error:
        raise write_error("weights", path, error) from error
    return sha256_of(path)


def read_tensors(path: Path) -> tuple[dict[str, Tensor], Mapping[str, str]]:
    """Read tensors as float32, and metadata, from safetensors; damage raises the library's errors.

    They are copied: the file may be replaced while the network is used.
    """
    with safe_open(path, framework="pt") as stream:
        names = stream.keys()
        state = {n: stream.get_tensor(n).to(torch.float32, copy=True) for n in names}
        return state, stream.metadata() or {}


def _with_sorted_metadata(content: bytes) -> bytes:
    """Sort the metadata in the header, which safetensors writes in random order.

    Equal weights then have equal files, and one SHA-256.
    """
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    return content if len(text) > size else content[:8] + text.ljust(size) + content[8 + size :]


def _unreadable(path: Path, reason: object) -> WeightsError:
    return WeightsError(
        found=f"{path.name}, which cannot be used ({' '.join(str(reason).split())[:200]})",
        expected="weights written by LesionLens (safetensors)",
        next_step="Train again, or leave --weights out to use the default weights",
        in_window="Train again, or use the default weights",
    )


def load(path: Path, device: torch.device | str = "cpu") -> tuple[LensNetwork, WeightsInfo]:
    """Load a network in evaluation mode, channels last, and its metadata.

    Raises
    ------
    WeightsError
        The file is missing, unreadable or of another network.
    """
    if not path.is_file():
        raise WeightsError(
            found=f"no file {path.name}",
            expected="weights (safetensors)",
            next_step="Check the path, or leave --weights out to use the default weights",
            in_window="Check the path, or use the default weights",
        )
    sha256 = sha256_of(path)
    try:
        state, metadata = read_tensors(path)
        config = sizes_from_json(metadata["network"])
        notes = from_json(WeightsNotes, metadata["notes"])
        network = _with_tensors(config, state)
    except KeyError as error:
        raise _unreadable(path, f"without the metadata {error}") from error
    except (SafetensorError, TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise _unreadable(path, error) from error
    if not is_finite(network):
        raise _unreadable(path, "with values that are not numbers")
    network = channels_last(network.to(device)).eval()
    return network, WeightsInfo(sha256=sha256, config=config, **notes_of(notes))


def _with_tensors(config: NetworkConfig, state: Mapping[str, Tensor]) -> LensNetwork:
    """Build a network of these tensors; sizes that are not theirs are refused, not allocated."""
    layers = config.layers + sum(config.blocks)
    if layers > len(state):
        raise ValueError(f"{layers} layers in {len(state)} tensors")
    with torch.device("meta"):
        network = build(config)
    network.load_state_dict(state, assign=True)
    return network


def is_finite(network: nn.Module) -> bool:
    """Return whether all parameters and buffers are finite, in the precision of the network."""
    return all(bool(value.isfinite().all()) for value in network.state_dict().values())


def load_shipped(
    name: str = DEFAULT_NAME, device: torch.device | str = "cpu"
) -> tuple[LensNetwork, WeightsInfo]:
    """Load one of the sets in `SHIPPED`; raises as `shipped_file`."""
    return load(shipped_file(name), device)


def load_chosen(
    chosen: str | Path | None, device: torch.device | str = "cpu"
) -> tuple[LensNetwork, WeightsInfo]:
    """Load the user's choice; see `chosen_path`, and raises as `load`."""
    return load(chosen_path(chosen), device)


def chosen_path(chosen: str | Path | None) -> Path:
    """Return the file of the user's choice: a file, a name in `SHIPPED`, or None for the default.

    A name wins over a file that is called the same; ``./synthetic`` is the file.

    Raises
    ------
    WeightsError
        Shipped weights are missing or altered.
    """
    if chosen is None or chosen in SHIPPED:
        return shipped_file(str(chosen or DEFAULT_NAME))
    return Path(chosen)
