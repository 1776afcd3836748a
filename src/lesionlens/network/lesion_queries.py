"""Lesion queries: set prediction of lesions with class, box, mask and attention.

Set prediction after DETR (Carion et al. 2020) with masks and masked attention of Mask2Former (Cheng
et al. 2022): every query predicts one lesion, or none. They attend at 1/4 and 1/2 of the grid,
which is sufficient to separate and classify lesions; sharp outlines come from the region queries.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from typing_extensions import override

from lesionlens.base.labels import LesionClass
from lesionlens.network.config import NetworkConfig
from lesionlens.network.decoder import FeaturePyramid
from lesionlens.network.queries import QueryDecoder

_NOTHING = 1  # index of "no lesion", after the classes of `base.labels.LesionClass`
_HEADS = 2
_INITIAL_LOG_ODDS = -2.5  # initial log-odds of a lesion: most queries have none


class LesionOutput(NamedTuple):
    """Output of the lesion queries, (B, Q, ...)."""

    classes: Tensor
    """(B, Q, 4) float32 logits of each `LesionClass`, and of no lesion."""
    boxes: Tensor
    """(B, Q, 6) float32: centre and size along I, J, K relative to the padded grid."""
    masks: tuple[Tensor, Tensor]
    """Logits at 1/2 and 1/4 of the padded grid, (B, Q, I, J, K) float32 each."""
    attention: Tensor
    """(B, Q, I, J, K) attention weights of the last layer, at 1/2 of the padded grid; sum one."""

    def class_probabilities(self) -> Tensor:
        """Return class probabilities at each voxel of 1/2 of the padded grid, (B, 3, I, J, K).

        Class probabilities of each query are multiplied by its mask (MaskFormer, Cheng et al. 2021,
        section 3.4, semantic inference).
        """
        class_probability = self.classes.softmax(-1)[..., : len(LesionClass)]
        voxel_probability = torch.einsum(
            "bqc,bqijk->bcijk", class_probability, self.masks[0].sigmoid()
        )
        return voxel_probability.clamp(max=1.0)


class LesionQueries(nn.Module):
    """A set of lesion queries with their prediction heads."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        _, half, quarter, _ = config.channels
        dim = config.query_dim
        self.decoder = QueryDecoder(config.lesions, dim, ((quarter, _HEADS), (half, _HEADS)))
        self.norm = nn.LayerNorm(dim)
        self.classify = nn.Linear(dim, len(LesionClass) + _NOTHING)
        self.box = nn.Sequential(nn.Linear(dim, dim), nn.GELU(), nn.Linear(dim, 6))
        with torch.no_grad():
            self.classify.bias[:-1] = _INITIAL_LOG_ODDS

    @override
    def forward(self, pyramid: FeaturePyramid) -> LesionOutput:
        """Predict lesions from the decoded features."""
        outputs = self.decoder((pyramid.quarter, pyramid.half))
        query = self.norm(outputs.query)
        quarter, half = outputs.masks
        return LesionOutput(
            classes=self.classify(query).float(),
            boxes=self.box(query).float().sigmoid(),
            masks=(half, quarter),
            attention=outputs.attention,
        )
