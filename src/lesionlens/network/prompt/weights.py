"""Weights of the prompt network: safetensors with metadata, checked by SHA-256."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError

from lesionlens.base.errors import WeightsError
from lesionlens.base.provenance import sha256_of
from lesionlens.network.prompt.model import PromptConfig, PromptNetwork
from lesionlens.network.weights import (
    read_tensors,
    record_from_json,
    shipped_file,
    write_tensors,
)

NAME, SMALL_NAME = "prompt", "prompt_small"
"""Files of the general network and of the one for small objects (`prompting.small_objects`)."""
FORMAT = "lesionlens-prompt-1"


@dataclass(frozen=True, slots=True)
class PromptNotes:
    """Provenance of the weights."""

    version: str
    trained_on: str
    """In words: training volumes and number of steps."""
    steps: int


def save(path: Path, network: PromptNetwork, notes: PromptNotes) -> str:
    """Write weights and metadata as half-precision safetensors; return the SHA-256.

    Raises
    ------
    ResourceError
        The disk is full or cannot be written.
    """
    metadata = {
        "format": FORMAT,
        "network": json.dumps(asdict(network.config)),
        "notes": json.dumps(asdict(notes)),
    }
    return write_tensors(path, network.state_dict(), metadata, torch.float16)


def load_file(path: Path, device: str | torch.device = "cpu") -> tuple[PromptNetwork, PromptNotes]:
    """Load weights in evaluation mode.

    Raises
    ------
    WeightsError
        The file cannot be read, or belongs to another network.
    """
    try:
        state, metadata = read_tensors(path)
        notes = record_from_json(PromptNotes, metadata["notes"])
        with torch.device("meta"):  # draws no random numbers
            network = PromptNetwork(record_from_json(PromptConfig, metadata["network"]))
        network.load_state_dict(state, assign=True)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise WeightsError(
            found=f"{path.name}, which cannot be used ({' '.join(str(error).split())[:200]})",
            expected="weights of the prompt network",
            next_step="Install LesionLens again, or train again",
        ) from error
    network.to(device).to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    return network.eval(), notes


def load_shipped(
    device: str | torch.device = "cpu", name: str = NAME
) -> tuple[PromptNetwork, PromptNotes, str]:
    """Load shipped weights, `NAME` or `SMALL_NAME`; the SHA-256 comes third.

    Raises
    ------
    WeightsError
        The weights are missing or altered.
    """
    path = shipped_file(name)
    network, notes = load_file(path, device)
    return network, notes, sha256_of(path)
