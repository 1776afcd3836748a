"""Initial weights of a run: random, or loaded with their metadata."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch

from lesionlens.base.errors import ConfigError, WeightsError
from lesionlens.network import weights
from lesionlens.network.lens_net import LensNetwork, NetworkConfig
from lesionlens.network.weights import WeightsNotes, notes_of
from lesionlens.training.config import SIZES, TrainConfig

_REGION_TENSORS = ("queries.query", "refine.weight", "refine.bias")
"""Tensors with one row for each region query."""


def initial_network(config: TrainConfig) -> tuple[LensNetwork, WeightsNotes, str | None]:
    """Build the configured network, with the initial weights if any, their metadata and SHA-256.

    If they lack the query of a resection cavity, it is initialised randomly.

    Temperatures, thresholds and score are kept, so that new weights can be used immediately;
    measured false positive rates are not.

    Raises
    ------
    ConfigError
        There is no file of initial weights under the name in the recipe.
    WeightsError
        They cannot be read, or are of another network.
    """
    if config.init is None:
        return LensNetwork(_with_cavity(SIZES[name_of(config)], config)), WeightsNotes(), None
    if not Path(config.init).is_file():
        raise ConfigError(
            found=f"no file {config.init!r}, which the recipe names as its initial weights",
            expected="weights written by LesionLens (safetensors)",
            next_step="Put the file there, correct `init` in the recipe, or leave it out",
        )
    loaded, info = weights.load(Path(config.init))
    sizes = info.config if config.network is None else _compatible_config(info.config, config)
    network = LensNetwork(_with_cavity(sizes, config))
    state, new_state = loaded.state_dict(), network.state_dict()
    for name in _REGION_TENSORS:
        state[name] = torch.cat([state[name], new_state[name][len(state[name]) :]])
    network.load_state_dict(state, strict=sizes.lesions == info.config.lesions)
    notes = WeightsNotes(
        **notes_of(info)
        | {"operating_points": ()}
        | {"version": f"{info.version.partition('+')[0]}+tuned"}
    )
    return network, notes, info.sha256


def _with_cavity(sizes: NetworkConfig, config: TrainConfig) -> NetworkConfig:
    return dataclasses.replace(sizes, regions=4) if config.cavity else sizes


def name_of(config: TrainConfig) -> str:
    """Return the network's name as stored in checkpoints."""
    return config.network or ("base" if config.init is None else Path(config.init).stem)


def _compatible_config(loaded: NetworkConfig, config: TrainConfig) -> NetworkConfig:
    """Check that weights fit the network; missing lesion queries are initialised randomly."""
    configured = dataclasses.replace(SIZES[name_of(config)], regions=loaded.regions)
    expected = dataclasses.replace(configured, lesions=loaded.lesions)
    if loaded != expected or loaded.lesions not in (0, configured.lesions):
        raise WeightsError(
            found=f"weights of another network in {Path(config.init or '').name}",
            expected=f'those of a network "{config.network}", as in the recipe',
            next_step="Change `init` in the recipe, or leave `network` out",
        )
    return configured
