"""Atomic training checkpoints, split into small files.

A checkpoint is a folder `step-00001234/` of safetensors parts, none above 15 MiB; `latest.json`
names it and the number of its parts. The folder is complete before it is named, and the previous
one is deleted only afterwards, even if both are of the same step.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from lesionlens.base.errors import ReadError, ResourceError, WeightsError
from lesionlens.base.files import parse_json, read_file, read_json
from lesionlens.base.storage import flush, write_atomically

PART_BYTES = 15 * 2**20
_POINTER = "latest.json"
_CHECKPOINT_NAME = re.compile(r"step-\d{8}(-again)*(\.part)?")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Everything that a run needs to resume."""

    tensors: Mapping[str, Tensor]
    meta: Mapping[str, Any]
    """JSON: step, minutes, network and the like."""

    def below(self, prefix: str) -> dict[str, Tensor]:
        """Return the tensors whose names begin with a prefix, named without it."""
        return {n.removeprefix(prefix): t for n, t in self.tensors.items() if n.startswith(prefix)}


def _parts(tensors: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
    """Group tensors in order into parts of at most `PART_BYTES`."""
    groups: list[dict[str, Tensor]] = [{}]
    filled = 0
    for name, tensor in tensors.items():
        size = tensor.numel() * tensor.element_size() + 1024
        if filled and filled + size > PART_BYTES:
            groups.append({})
            filled = 0
        groups[-1][name] = tensor.detach().cpu().contiguous()
        filled += size
    return groups


@contextmanager
def disk_errors(found: str) -> Iterator[None]:
    """Raise a ResourceError for a file beside the checkpoints that cannot be written."""
    try:
        yield
    except OSError as error:
        raise ResourceError(
            found=f"{found} ({error.strerror})",
            expected="free space for it",
            next_step="Free some space and start again; the last checkpoint is intact",
        ) from error


def save(folder: Path, checkpoint: Checkpoint) -> Path:
    """Write a checkpoint, make it the latest, and delete earlier ones, complete or not.

    Raises
    ------
    ResourceError
        The disk is full or not writable; the previous checkpoint is intact.
    """
    name = f"step-{int(checkpoint.meta['step']):08d}"
    while (folder / name).exists():  # may be the latest: it is kept until there is another
        name += "-again"
    target, partial = folder / name, folder / f"{name}.part"
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        groups = _parts(checkpoint.tensors)
        for index, group in enumerate(groups):
            save_file(group, partial / f"part-{index:03d}.safetensors")
        (partial / "meta.json").write_text(json.dumps(dict(checkpoint.meta), indent=1), "utf-8")
        for file in partial.iterdir():
            flush(file)
        partial.rename(target)
        write_atomically(folder / _POINTER, json.dumps({"folder": name, "parts": len(groups)}))
    except (OSError, SafetensorError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise ResourceError(
            found=f"a checkpoint that could not be written ({error})",
            expected=f"free space in {folder.name}",
            next_step="Free some space and start again; the last checkpoint is intact",
        ) from error
    for old in sorted(folder.glob("step-*"), reverse=True):  # `step-1.part` before `step-1`
        is_ours = _CHECKPOINT_NAME.fullmatch(old.name) and (
            old.suffix == ".part" or (old / "meta.json").is_file()
        )
        if old != target and is_ours:
            _delete(old)
    return target


def _delete(checkpoint: Path) -> None:
    """Delete a checkpoint; what a kill leaves of it is deleted by the next one."""
    with suppress(OSError):
        shutil.rmtree(checkpoint.rename(checkpoint.with_suffix(".part")), ignore_errors=True)


def forget(folder: Path) -> None:
    """Make a folder one without a latest checkpoint; `save` deletes the earlier ones."""
    (folder / _POINTER).unlink(missing_ok=True)


def _part_files(checkpoint: Path, count: int) -> list[Path]:
    """Return the parts; ValueError if some are missing."""
    parts = sorted(checkpoint.glob("part-*.safetensors"))
    if count != len(parts):
        raise ValueError(f"{len(parts)} of {count} parts")
    return parts


def load(folder: Path) -> Checkpoint | None:
    """Read the latest checkpoint; None if there is none.

    Raises
    ------
    WeightsError
        The checkpoint is damaged.
    """
    pointer = folder / _POINTER
    if not pointer.exists():
        return None
    try:
        latest = read_json(pointer)
        checkpoint = folder / latest["folder"]
        content = read_file(checkpoint / "meta.json")
        meta = parse_json(content, infinite=True)  # NaN before the first validation
        tensors: dict[str, torch.Tensor] = {}
        for part in _part_files(checkpoint, latest["parts"]):
            tensors.update(load_file(part))
    except (OSError, ValueError, KeyError, TypeError, SafetensorError, ReadError) as error:
        raise WeightsError(
            found=f"a damaged checkpoint in {folder.name} ({error})",
            expected="the parts it names",
            next_step="Choose another output folder, or delete this one",
        ) from error
    return Checkpoint(tensors, meta)
