"""Build a network from its configuration; the registry of architectures."""

from __future__ import annotations

from lesionlens.base.errors import ConfigError
from lesionlens.network.config import NetworkConfig, preset
from lesionlens.network.model import LensNetwork

DESIGNS: dict[str, type[LensNetwork]] = {"hybrid": LensNetwork}
"""Architecture name to class."""


def build(network: str | NetworkConfig) -> LensNetwork:
    """Build a network with fresh weights from a preset's name or a configuration.

    Raises
    ------
    ConfigError
        Unknown preset or architecture.
    """
    config = preset(network) if isinstance(network, str) else network
    if config.design not in DESIGNS:
        raise ConfigError(
            found=f'a network of design "{config.design}"',
            expected=f"one of {', '.join(DESIGNS)}",
            next_step="Choose a preset",
        )
    return DESIGNS[config.design](config)
