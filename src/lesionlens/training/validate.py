"""Validation on synthetic volumes that are not used for training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import cast

import torch
from torch import Tensor

from lesionlens.engines.device import autocast
from lesionlens.network.lens_net import LensNetwork
from lesionlens.network.normalise import with_presence
from lesionlens.network.synth.generator import GeneratorConfig, draw
from lesionlens.network.synth.instances import CAVITY
from lesionlens.training.data import FIRST_VALIDATION_SEED

REGIONS, _CAVITY = ("wt", "tc", "et"), "cavity"
_SCORES = (*REGIONS, _CAVITY, "peak", "flagged_ml")


def dice(predicted: Tensor, reference: Tensor) -> float:
    """Return the Dice of two bool tensors; 1 if both are empty."""
    total = int(predicted.sum()) + int(reference.sum())
    return 1.0 if total == 0 else 2 * int((predicted & reference).sum()) / total


def cavity_dice(predicted: Tensor, reference: Tensor) -> dict[str, float]:
    """Return the cavity's Dice by name; empty without a cavity, or if the network outlines none.

    Parameters
    ----------
    predicted : (R, I, J, K) bool Tensor
        All channels of the network.
    reference : (I, J, K) bool Tensor
    """
    has_cavity = len(predicted) > len(REGIONS) and bool(reference.any())
    return {_CAVITY: dice(predicted[len(REGIONS)], reference)} if has_cavity else {}


@torch.no_grad()
def validate_each(
    network: LensNetwork,
    config: GeneratorConfig,
    volumes: Sequence[int],
    device: torch.device,
) -> Iterator[dict[str, float]]:
    """Yield the metrics of each synthetic volume.

    Parameters
    ----------
    network : LensNetwork
        On `device`.
    volumes : sequence of int
        Numbers of the volumes, from 0; their seeds are not used for training.

    Yields
    ------
    dict
        ``wt``, ``tc``, ``et`` (Dice) and ``peak`` (whether WT attention peaks inside); of a
        tumour-free brain only ``flagged_ml``; ``cavity`` (Dice) if there is one and the network
        outlines it.
    """
    network.eval()
    for index in volumes:
        volume = draw(config, [FIRST_VALIDATION_SEED + index], str(device))
        x = with_presence(volume.zscored, torch.ones(1, 4, device=device), volume.brain)
        with autocast(device):
            output = network(x, trace=True)
        predicted, reference = output.logits[0] > 0, volume.labels[0] > 0
        scores = cavity_dice(predicted, volume.instances[0] == CAVITY)
        if not bool(reference.any()):
            edge = float(volume.spacing_mm[0])
            yield {"flagged_ml": float(predicted[0].sum()) * edge**3 / 1000, **scores}
            continue
        scores |= {name: dice(predicted[r], reference[r]) for r, name in enumerate(REGIONS)}
        attention = cast("Tensor", output.attention)[0, 0]
        scores["peak"] = float(reference[0].flatten()[int(attention.argmax())])
        yield scores


def validate(
    network: LensNetwork,
    config: GeneratorConfig,
    volumes: int,
    device: torch.device,
) -> dict[str, float]:
    """Return mean Dice with all sequences, peak inside, and volume flagged where no tumour is."""
    return mean_scores([*validate_each(network, config, range(volumes), device)])


def mean_scores(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the mean of each score over the volumes that have it, to four digits."""
    values = {name: [row[name] for row in rows if name in row] for name in _SCORES}
    return {name: round(sum(v) / len(v), 4) for name, v in values.items() if v}
