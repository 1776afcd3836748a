"""The prompt network: a small residual network on a crop around the prompts.

Its inputs are the four sequences, the predicted probabilities, the current outline and the prompts;
it outputs a correction of the outline. Prompts are maps, as in RITM (Sofiiuk et al. 2021) and
nnInteractive (Isensee et al. 2025). In addition, the features at the prompts attend to the whole
crop: this query becomes the embedding of a mask, as in Mask2Former.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from lesionlens.network.blocks import Conv3d, Residual, fold, unfold
from lesionlens.network.lens_net import CrossAttention

MULTIPLE = 8
"""The crop's axes must be multiples of this."""
TOKEN = 4
"""Voxels per attention token along each axis."""
SEQUENCES = slice(0, 4)
NAMED = 7
OUTLINE = 8
PROMPTS = slice(9, 13)
MAPS = 22
"""Channels of `PromptInput.maps`: z-scores; probabilities of WT, TC, ET and of the intended region,
-1 to 1; the current outline, -1 to 1; sharp and wide Gaussians of the foreground, then
background prompts; each sequence's difference from its value at the foreground and background
prompts; the brain.
"""
FACTS = 11
"""Values of `PromptInput.facts`: presence of four sequences, the intended region (3), whether there
are an analysis, an outline, background prompts, and the logarithm of the voxel edge in mm.
"""
_INITIAL_LOGIT = 2.5  # initial logit without other evidence
_ANALYSIS_WEIGHT = 0.35  # weight of the analysis if there is an outline
_MAX_PRIOR_LOGIT = 6.0  # limit of the prior's logits, so that it can be overruled


class PromptInput(NamedTuple):
    """Input of the network."""

    maps: Tensor
    """(B, `MAPS`, I, J, K) float32."""
    facts: Tensor
    """(B, `FACTS`) float32."""


class PromptOutput(NamedTuple):
    """Output of the network."""

    logits: Tensor
    """(B, 1, I, J, K): logits of the prompted object."""
    attention: Tensor | None
    """(B, i, j, k) attention weights of the prompts, `TOKEN` voxels per token, sum one."""


@dataclass(frozen=True, slots=True)
class PromptConfig:
    """Hyperparameters of the network."""

    widths: tuple[int, int, int] = (24, 48, 96)
    """(3,) int: channels at strides two, four and eight."""
    fine: int = 8
    """Channels at full resolution."""
    heads: int = 4


class PromptNetwork(nn.Module):
    """The prompt network; see the module."""

    def __init__(self, config: PromptConfig) -> None:
        super().__init__()
        self.config = config
        near, middle, far = config.widths
        self.facts = nn.Sequential(nn.Linear(FACTS, 48), nn.SiLU(), nn.Linear(48, near + middle))
        self.stem = Conv3d(8 * MAPS, near, 1)
        self.first = Residual(near, near)
        self.down = Residual(near, middle, 2)
        self.deep = Residual(middle, far, 2)
        self.deeper = Residual(far, far)
        self.to_middle = Conv3d(far, middle, 1)
        self.up_middle = Residual(middle, middle)
        self.cross = CrossAttention(middle, middle, config.heads)
        self.gathered = nn.Linear(3 * middle, middle)
        self.to_near = Conv3d(middle, near, 1)
        self.up_near = Residual(near, near)
        self.embedding = nn.Linear(2 * middle, near)
        self.open = Conv3d(near, 8 * config.fine // 2, 1)
        self.fine = Conv3d(config.fine // 2 + 8, config.fine, 3, padding=1)
        self.last = Conv3d(config.fine, 1, 3, padding=1)
        self.prior = nn.Parameter(torch.tensor([1.0, 1.0]))
        nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]
        with torch.no_grad():
            self.last.weight.mul_(0.3)

    @override
    def forward(self, x: PromptInput, *, trace: bool = False) -> PromptOutput:
        """Predict; `trace` also returns the attention, by the readable form."""
        maps, facts = x
        code_near, code_middle = self.facts(facts).split(self.config.widths[:2], 1)
        near = self.first(self.stem(fold(maps)) + code_near[..., None, None, None])
        middle = self.down(near) + code_middle[..., None, None, None]
        deep = self.deeper(self.deep(middle))
        middle = self.up_middle(middle + _upsample(self.to_middle(deep)))
        prompted, attention = self._prompt_attention(maps, middle, trace=trace)
        summary = torch.cat([prompted.flatten(1), middle.mean((2, 3, 4))], 1)
        middle = middle + self.gathered(summary)[..., None, None, None]
        near = self.up_near(near + _upsample(self.to_near(middle)))
        mask = (near * self.embedding(prompted.flatten(1))[..., None, None, None]).sum(
            1, keepdim=True
        )
        full_inputs = torch.cat([maps[:, SEQUENCES], maps[:, NAMED:PROMPTS.start + 1],
                           maps[:, PROMPTS.start + 2:PROMPTS.start + 3]], 1)  # fmt: skip
        fine = torch.cat([unfold(self.open(near)), full_inputs], 1)
        fine_logits = self.last(functional.silu(self.fine(fine)))
        logits = fine_logits.float() + _upsample(mask.float() / self.config.widths[0] ** 0.5)
        return PromptOutput(logits + self._prior(maps, facts), attention)

    def _prior(self, maps: Tensor, facts: Tensor) -> Tensor:
        """Return prior logits: the current outline, else the predicted probability."""
        outlined = facts[:, 8].view(-1, 1, 1, 1, 1)
        named = facts[:, 4:7].sum(1).view(-1, 1, 1, 1, 1) * facts[:, 7].view(-1, 1, 1, 1, 1)
        probability = (maps[:, NAMED : NAMED + 1] + 1) / 2
        analysed = torch.logit(probability, 1e-3).clamp(-_MAX_PRIOR_LOGIT, _MAX_PRIOR_LOGIT)
        outline = _INITIAL_LOGIT * maps[:, OUTLINE : OUTLINE + 1]
        uses_analysis = named * (1 - outlined)
        background = -_INITIAL_LOGIT * (1 - outlined) * (1 - uses_analysis)
        corrected = self.prior[0] * outline + _ANALYSIS_WEIGHT * analysed * named
        return corrected * outlined + self.prior[1] * analysed * uses_analysis + background

    def _prompt_attention(
        self, maps: Tensor, middle: Tensor, *, trace: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Return (B, 2, middle) features attended by the two kinds of prompts, and the map."""
        sharp = functional.avg_pool3d(maps[:, PROMPTS.start : PROMPTS.stop : 2], TOKEN)
        weights = sharp.flatten(2)
        weights = weights / weights.sum(2, keepdim=True).clamp_min(1e-6)
        grid = middle.flatten(2).transpose(1, 2)
        query = weights.to(grid.dtype) @ grid
        prompted, attention = self.cross(query, grid, trace=trace)
        if attention is None:
            return prompted, None
        i, j, k = middle.shape[2:]
        return prompted, attention.mean(1)[:, 0].view(-1, i, j, k)


def _upsample(x: Tensor) -> Tensor:
    return functional.interpolate(x.float(), scale_factor=2, mode="trilinear")
