"""What a run begins with: a fresh network, or weights and what goes with them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from lesionlens.base.errors import WeightsError
from lesionlens.network import weights
from lesionlens.network.build import build
from lesionlens.network.config import NetworkConfig, preset
from lesionlens.network.model import LensNetwork
from lesionlens.network.notes import WeightsNotes, notes_of
from lesionlens.training.config import TrainConfig


def initial_network(config: TrainConfig) -> tuple[LensNetwork, WeightsNotes]:
    """Make the recipe's network; it begins with the weights that the recipe names, if any.

    Their temperatures, cuts and score stay, so that new weights can be used at once; the rates of
    false candidates, which were measured with those, do not.
    """
    if config.init is None:
        return build(preset(name_of(config))), WeightsNotes()
    start, info = weights.load(Path(config.init))
    sizes = info.config if config.network is None else _like(info.config, config)
    network = build(sizes)
    network.load_state_dict(start.state_dict(), strict=sizes.lesions == info.config.lesions)
    notes = WeightsNotes(**notes_of(info) | {"version": "0", "operating_points": ()})
    return network, notes


def name_of(config: TrainConfig) -> str:
    """Name the recipe's network, as checkpoints do."""
    return config.network or ("base" if config.init is None else Path(config.init).stem)


def _like(given: NetworkConfig, config: TrainConfig) -> NetworkConfig:
    """Check that weights fit the recipe's network; lesion queries that they lack begin afresh."""
    own = preset(name_of(config))
    alike = dataclasses.replace(own, lesions=given.lesions)
    if given != alike or given.lesions not in (0, own.lesions):
        raise WeightsError(
            found=f"weights of another network in {Path(config.init or '').name}",
            expected=f'those of a network "{config.network}", as in the recipe',
            next_step="Change `init` in the recipe, or leave `network` out",
        )
    return own
