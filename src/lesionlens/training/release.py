"""Average the weights of several runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from lesionlens.base.errors import WeightsError
from lesionlens.network import weights
from lesionlens.network.model import LensNetwork


def mean_of(sources: Sequence[tuple[Path, float]]) -> LensNetwork:
    """Average weights of one architecture, which often performs better than any of them.

    Weights fine-tuned from common ones are in the same basin of the loss, and their mean is closer
    to its centre (Wortsman et al. 2022, arXiv 2203.05482).

    Parameters
    ----------
    sources : sequence of (Path, float)
        Weights and their coefficients, which sum to one; the configuration is the first one's.

    Raises
    ------
    WeightsError
        The networks differ.
    """
    network, info = weights.load(sources[0][0])
    total: dict[str, Tensor] = {}
    for path, coefficient in sources:
        loaded, other_info = weights.load(path)
        if info.config != other_info.config:
            raise WeightsError(
                found=f"{path.name}, weights of a different network from {sources[0][0].name}",
                expected="weights of one network",
                next_step="Average weights with the same initial weights",
            )
        state = loaded.state_dict()
        total = {n: total.get(n, torch.zeros(())) + coefficient * state[n] for n in state}
    network.load_state_dict(total)
    return network
