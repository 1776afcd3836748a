"""Turn a run's averaged weights into weights of the package."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from lesionlens.base.errors import WeightsError
from lesionlens.network import weights
from lesionlens.network.model import LensNetwork
from lesionlens.network.notes import WeightsNotes


def mean_of(sources: Sequence[tuple[Path, float]]) -> LensNetwork:
    """Average weights of one network, which often do better than any of them.

    Weights that went apart from common ones lie in one valley of the loss, and their mean nearer
    to its middle (Wortsman et al. 2022, arXiv 2203.05482).

    Parameters
    ----------
    sources : sequence of (Path, float)
        Weights and their shares, which add up to one; the network is the first one's.

    Raises
    ------
    WeightsError
        They are of different networks.
    """
    network, info = weights.load(sources[0][0])
    total: dict[str, Tensor] = {}
    for path, share in sources:
        one, about = weights.load(path)
        if info.config != about.config:
            raise WeightsError(
                found=f"{path.name}, weights of another network than {sources[0][0].name}",
                expected="all of one network",
                next_step="Average weights that were trained on from the same ones",
            )
        state = one.state_dict()
        total = {n: total.get(n, torch.zeros(())) + share * state[n] for n in state}
    network.load_state_dict(total)
    return network


def release(
    source: Path, notes: WeightsNotes, folder: Path, name: str = weights.DEFAULT_NAME
) -> str:
    """Write ``NAME.safetensors`` (half precision) and ``NAME.json`` (its hash).

    Parameters
    ----------
    source : Path
        Weights of a training run.
    notes : WeightsNotes
        Grids, temperatures, operating points and provenance to ship with them.
    folder : Path
        ``src/lesionlens/network/weight_files`` of a checkout.
    name : str
        One of `network.weights.SHIPPED`.

    Returns
    -------
    str
        The SHA-256 of the file written.
    """
    network, _ = weights.load(source)
    path = folder / f"{name}.safetensors"
    digest = weights.save(path, network.config, network.state_dict(), notes, dtype=torch.float16)
    about = {"file": path.name, "sha256": digest, "version": notes.version}
    path.with_suffix(".json").write_text(json.dumps(about, indent=1) + "\n", "utf-8")
    return digest
