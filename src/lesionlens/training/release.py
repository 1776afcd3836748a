"""Turn a run's averaged weights into weights of the package."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import torch

from lesionlens.base.errors import WeightsError
from lesionlens.network import weights
from lesionlens.network.model import LensNetwork
from lesionlens.network.weights import WeightsNotes


def mean_of(first: Path, second: Path, share: float) -> LensNetwork:
    """Average two weights of one network, which often do better than either.

    Weights that went apart from common ones lie in one valley of the loss, and their mean nearer
    to its middle (Wortsman et al. 2022, arXiv 2203.05482).

    Parameters
    ----------
    first, second : Path
        The network is the first one's.
    share : float
        Of the first; 1 is the first alone.

    Raises
    ------
    WeightsError
        They are of different networks.
    """
    network, info = weights.load(first)
    other, about = weights.load(second)
    alike = dataclasses.replace(about.config, t1_in_reserve=info.config.t1_in_reserve)
    if info.config != alike:
        raise WeightsError(
            found=f"{second.name}, weights of another network than {first.name}",
            expected="two of one network",
            next_step="Average weights that were trained on from the same ones",
        )
    away = other.state_dict()
    own = network.state_dict()
    network.load_state_dict({n: torch.lerp(away[n], own[n], share) for n in own})
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
        ``src/lesionlens/weights`` of a checkout.
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
