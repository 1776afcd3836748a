"""Validation on synthetic volumes that are not used for training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from lesionlens.engines.device import autocast
from lesionlens.network.model import LensNetwork
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


def _picture(channels: Tensor, reference: Tensor, predicted: Tensor) -> Tensor:
    """Return T1c, reference and prediction side by side, in the slice with most tumour."""
    level = int(reference[0].sum((0, 1)).argmax())
    grey = ((channels[1, :, :, level] + 2.5) / 6).clamp(0, 1)
    overlays = [labels[:, :, :, level].float().sum(0) / 3 for labels in (reference, predicted)]
    return torch.cat([grey, *overlays], 1).cpu()


@torch.no_grad()
def validate_each(
    network: LensNetwork,
    config: GeneratorConfig,
    volumes: Sequence[int],
    device: torch.device,
) -> Iterator[tuple[dict[str, float], Tensor | None]]:
    """Yield the metrics of each synthetic volume, and an image of those with a tumour.

    Parameters
    ----------
    network : LensNetwork
        On `device`.
    volumes : sequence of int
        Numbers of the volumes, from 0; their seeds are not used for training.

    Yields
    ------
    figures : dict
        ``wt``, ``tc``, ``et`` (Dice) and ``peak`` (whether WT attention peaks inside); of a
        tumour-free brain only ``flagged_ml``; ``cavity`` (Dice) if there is one and the network
        outlines it.
    picture : (H, W) Tensor or None
        T1c, reference and prediction.
    """
    network.eval()
    for index in volumes:
        volume = draw(config, [FIRST_VALIDATION_SEED + index], str(device))
        x = with_presence(volume.zscored, torch.ones(1, 4, device=device), volume.brain)
        with autocast(device):
            output = network(x.contiguous(memory_format=torch.channels_last_3d))
        predicted, reference = output.logits[0] > 0, volume.labels[0] > 0
        scores = cavity_dice(predicted, volume.instances[0] == CAVITY)
        if not bool(reference.any()):
            edge = float(volume.spacing_mm[0])
            yield {"flagged_ml": float(predicted[0].sum()) * edge**3 / 1000, **scores}, None
            continue
        scores |= {name: dice(predicted[r], reference[r]) for r, name in enumerate(REGIONS)}
        scores["peak"] = float(reference[0].flatten()[int(output.attention[0, 0].argmax())])
        yield scores, _picture(volume.zscored[0], reference, predicted[: len(REGIONS)])


def validate(
    network: LensNetwork,
    config: GeneratorConfig,
    volumes: int,
    device: torch.device,
) -> tuple[dict[str, float], Tensor]:
    """Return mean Dice with all sequences, peak inside, and volume flagged in tumour-free brains.

    Returns
    -------
    metrics : dict
        Means over `validate_each`.
    picture : (H, W) Tensor
        Image of the last volume with a tumour.
    """
    rows, picture = list[dict[str, float]](), torch.zeros(1, 1)
    for metrics, image in validate_each(network, config, range(volumes), device):
        rows.append(metrics)
        picture = picture if image is None else image
    return mean_scores(rows), picture


def mean_scores(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the mean of each score over the volumes that have it, to four digits."""
    values = {name: [row[name] for row in rows if name in row] for name in _SCORES}
    return {name: round(sum(v) / len(v), 4) for name, v in values.items() if v}
