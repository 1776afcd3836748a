"""The networks: `LensNetwork` and its weights, the brain network, the search for small lesions.

Names load their module when they are first used, because torch takes a second.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lesionlens.base.lazy import lazy_exports

if TYPE_CHECKING:
    from lesionlens.network.lens_net import LensNetwork, LensOutput, NetworkConfig
    from lesionlens.network.normalise import with_presence, zscore
    from lesionlens.network.unet import brain_logits, lesion_logits
    from lesionlens.network.weights import WeightsInfo, load

__getattr__ = lazy_exports(
    __name__,
    {
        "lesionlens.network.lens_net": "LensNetwork LensOutput NetworkConfig",
        "lesionlens.network.normalise": "with_presence zscore",
        "lesionlens.network.unet": "brain_logits lesion_logits",
        "lesionlens.network.weights": "WeightsInfo load",
    },
)
__all__ = [
    "LensNetwork",
    "LensOutput",
    "NetworkConfig",
    "WeightsInfo",
    "brain_logits",
    "lesion_logits",
    "load",
    "with_presence",
    "zscore",
]
