"""From sizes to a fresh network: the one registry of designs."""

from __future__ import annotations

from lesionlens.base.errors import ConfigError
from lesionlens.network.config import NetworkConfig, preset
from lesionlens.network.model import LensNetwork

DESIGNS: dict[str, type[LensNetwork]] = {"hybrid": LensNetwork}
"""Design to class; a script that compares designs adds its own, as `research/variants.py` does."""


def build(network: str | NetworkConfig) -> LensNetwork:
    """Make a fresh network from a preset's name or from sizes.

    Raises
    ------
    ConfigError
        No preset, or no design, has this name.
    """
    config = preset(network) if isinstance(network, str) else network
    if config.design not in DESIGNS:
        raise ConfigError(
            found=f'a network of design "{config.design}"',
            expected=f"one of {', '.join(DESIGNS)}",
            next_step="Choose a preset",
        )
    return DESIGNS[config.design](config)
