"""Turn a run's averaged weights into the default weights of the package."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from lesionlens.network import weights
from lesionlens.network.weights import WeightsNotes


def release(source: Path, notes: WeightsNotes, folder: Path) -> str:
    """Write ``default.safetensors`` (half precision) and ``default.json`` (its hash).

    Parameters
    ----------
    source : Path
        Weights of a training run.
    notes : WeightsNotes
        Grids, temperatures, operating points and provenance to ship with them.
    folder : Path
        ``src/lesionlens/weights`` of a checkout.

    Returns
    -------
    str
        The SHA-256 of the file written.
    """
    network, _ = weights.load(source)
    path = folder / f"{weights.DEFAULT_NAME}.safetensors"
    digest = weights.save(path, network.config, network.state_dict(), notes, dtype=torch.float16)
    about = {"file": path.name, "sha256": digest, "version": notes.version}
    path.with_suffix(".json").write_text(json.dumps(about, indent=1) + "\n", "utf-8")
    return digest
