"""Checkpoints of a run: safetensors in parts of at most 15 MiB, and one record."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from lesionlens.base.storage import write_atomically

PART_BYTES = 15 * 2**20
_POINTER = "latest.json"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a run needs to resume."""

    tensors: Mapping[str, Tensor]
    meta: Mapping[str, Any]
    """JSON: `step` and the like."""

    def below(self, prefix: str) -> dict[str, Tensor]:
        """Return the tensors whose names begin with a prefix, named without it."""
        return {n.removeprefix(prefix): t for n, t in self.tensors.items() if n.startswith(prefix)}


def save(folder: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint, make it the latest, and delete the one before."""
    folder.mkdir(parents=True, exist_ok=True)
    before = {path for path in folder.glob("step-*") if path.is_dir()}
    name = f"step-{int(checkpoint.meta['step']):08d}"
    while folder / name in before:
        name += "-again"
    (folder / name).mkdir()
    groups: list[dict[str, Tensor]] = [{}]
    filled = 0
    for key, tensor in checkpoint.tensors.items():
        size = tensor.numel() * tensor.element_size() + 1024
        if filled and filled + size > PART_BYTES:
            groups.append({})
            filled = 0
        groups[-1][key] = tensor.detach().cpu().contiguous()
        filled += size
    for index, group in enumerate(groups):
        save_file(group, folder / name / f"part-{index:03d}.safetensors")
    (folder / name / "meta.json").write_text(json.dumps(dict(checkpoint.meta)), "utf-8")
    write_atomically(folder / _POINTER, json.dumps({"folder": name}))
    for path in before:
        shutil.rmtree(path)


def load(folder: Path) -> Checkpoint | None:
    """Read the latest checkpoint; None if there is none."""
    if not (folder / _POINTER).is_file():
        return None
    latest = folder / json.loads((folder / _POINTER).read_text("utf-8"))["folder"]
    tensors: dict[str, Tensor] = {}
    for part in sorted(latest.glob("part-*.safetensors")):
        tensors.update(load_file(part))
    return Checkpoint(tensors, json.loads((latest / "meta.json").read_text("utf-8")))
