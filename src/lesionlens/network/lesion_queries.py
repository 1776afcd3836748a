"""Lesion queries: a set of lesions, each with class, box, mask and attention of its own.

Set prediction after DETR (Carion et al. 2020) with the masks and the masked attention of
Mask2Former (Cheng et al. 2022): every query may take one lesion, or none. They attend at 1/4 and
1/2 of the grid, for they separate and classify lesions; the sharp outline is the region queries'.
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

_NOTHING = 1  # the last class logit stands for nothing, after those of `base.labels.LesionClass`
_HEADS = 2
_FEW = -2.5  # log-odds of a lesion that a fresh query starts from: most queries have none


class LesionOutput(NamedTuple):
    """What the lesion queries found, (B, Q, ...)."""

    classes: Tensor
    """(B, Q, 4) float32 logits of each `LesionClass`, and of nothing."""
    boxes: Tensor
    """(B, Q, 6) float32: centre and edges along I, J, K as shares of the padded grid."""
    masks: tuple[Tensor, Tensor]
    """Logits at 1/2 and 1/4 of the padded grid, (B, Q, I, J, K) float32 each."""
    attention: Tensor
    """(B, Q, I, J, K) weights of the last layer, at 1/2 of the padded grid; add up to one."""

    def class_shares(self) -> Tensor:
        """Class probabilities at each voxel of 1/2 of the padded grid, (B, 3, I, J, K).

        Each query gives its class probabilities to its mask (MaskFormer, Cheng et al. 2021,
        section 3.4, semantic inference).
        """
        named = self.classes.softmax(-1)[..., : len(LesionClass)]
        shares = torch.einsum("bqc,bqijk->bcijk", named, self.masks[0].sigmoid())
        return shares.clamp(max=1.0)


class LesionQueries(nn.Module):
    """A set of queries and the heads that read them."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        _, half, quarter, _ = config.channels
        dim = config.query_dim
        self.decoder = QueryDecoder(config.lesions, dim, ((quarter, _HEADS), (half, _HEADS)))
        self.norm = nn.LayerNorm(dim)
        self.classify = nn.Linear(dim, len(LesionClass) + _NOTHING)
        self.box = nn.Sequential(nn.Linear(dim, dim), nn.GELU(), nn.Linear(dim, 6))
        with torch.no_grad():
            self.classify.bias[:-1] = _FEW

    @override
    def forward(self, pyramid: FeaturePyramid) -> LesionOutput:
        """Find lesions in the decoded features."""
        answers = self.decoder((pyramid.quarter, pyramid.half), trace=False)
        query = self.norm(answers.query)
        quarter, half = answers.masks
        return LesionOutput(
            classes=self.classify(query).float(),
            boxes=self.box(query).float().sigmoid(),
            masks=(half, quarter),
            attention=answers.attention,
        )
