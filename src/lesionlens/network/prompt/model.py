"""A small residual network on a crop round the prompts.

It reads the four sequences, what the analysis says there, the outline so far and the prompts, and
answers with a correction of that outline. Prompts are maps, as in RITM (Sofiiuk et al. 2021) and
nnInteractive (Isensee et al. 2025). Besides, the place that was pointed at attends to the whole
crop: its query gathers what looks alike and becomes the embedding of a mask, as in Mask2Former.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from lesionlens.network.attention import GridCrossAttention
from lesionlens.network.brain_unet import fold, unfold
from lesionlens.network.convolution import Conv3d
from lesionlens.network.encoder import Residual

MULTIPLE = 8
"""The crop's axes must be multiples of this."""
TOKEN = 4
"""Voxels along an axis that one token of the attention stands for."""
SEQUENCES = slice(0, 4)
REGIONS = slice(4, 7)
NAMED = 7
OUTLINE = 8
PROMPTS = slice(9, 13)
LIKE_FOR = slice(13, 17)
LIKE_AGAINST = slice(17, 21)
BRAIN = 21
MAPS = 22
"""Channels of `PromptInput.maps`: z-scores; probabilities of WT, TC, ET and of the region that was
named, from -1 to 1; the outline so far, -1 to 1; sharp and wide Gaussians of the prompts for, then
against; how each sequence differs from where the prompts for, and those against, lie; the brain."""
FACTS = 11
"""Values of `PromptInput.facts`: presence of four sequences, the region that was named (3), whether
there are an analysis, an outline, prompts against, and the logarithm of the voxel edge in mm."""
_START = 2.5  # logits that a voxel has where nothing speaks for it
_BESIDE = 0.35  # what the analysis counts where there is an outline
_SHARPEST = 6.0  # a certain prior may be contradicted


class PromptInput(NamedTuple):
    """What the network reads."""

    maps: Tensor
    """(B, `MAPS`, I, J, K) float32."""
    facts: Tensor
    """(B, `FACTS`) float32."""


class PromptAnswer(NamedTuple):
    """What it answers."""

    logits: Tensor
    """(B, 1, I, J, K): of the thing that was pointed at."""
    attention: Tensor | None
    """(B, i, j, k) weights of the prompts' query, `TOKEN` voxels a token, adding up to one."""


@dataclass(frozen=True, slots=True)
class PromptConfig:
    """Sizes of the network."""

    widths: tuple[int, int, int] = (24, 48, 96)
    """(3,) int: features at cells of two, four and eight voxels."""
    fine: int = 8
    """Features at single voxels."""
    heads: int = 4


class PromptNetwork(nn.Module):
    """See the module."""

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
        self.cross = GridCrossAttention(middle, middle, config.heads)
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
    def forward(self, x: PromptInput, *, trace: bool = False) -> PromptAnswer:
        """Answer; `trace` requests the attention, by the readable form."""
        maps, facts = x
        code_near, code_middle = self.facts(facts).split(self.config.widths[:2], 1)
        near = self.first(self.stem(fold(maps)) + code_near[..., None, None, None])
        middle = self.down(near) + code_middle[..., None, None, None]
        deep = self.deeper(self.deep(middle))
        middle = self.up_middle(middle + _larger(self.to_middle(deep)))
        asked, kept = self._asked(maps, middle, trace)
        both = torch.cat([asked.flatten(1), middle.mean((2, 3, 4))], 1)
        middle = middle + self.gathered(both)[..., None, None, None]
        near = self.up_near(near + _larger(self.to_near(middle)))
        mask = (near * self.embedding(asked.flatten(1))[..., None, None, None]).sum(1, keepdim=True)
        shown = torch.cat([maps[:, SEQUENCES], maps[:, NAMED:PROMPTS.start + 1],
                           maps[:, PROMPTS.start + 2:PROMPTS.start + 3]], 1)  # fmt: skip
        fine = torch.cat([unfold(self.open(near)), shown], 1)
        drawn = self.last(functional.silu(self.fine(fine)))
        logits = drawn.float() + _larger(mask.float() / self.config.widths[0] ** 0.5)
        return PromptAnswer(logits + self._prior(maps, facts), kept)

    def _prior(self, maps: Tensor, facts: Tensor) -> Tensor:
        """Logits before anything was seen: the outline so far, else what the analysis says."""
        outlined = facts[:, 8].view(-1, 1, 1, 1, 1)
        named = facts[:, 4:7].sum(1).view(-1, 1, 1, 1, 1) * facts[:, 7].view(-1, 1, 1, 1, 1)
        chance = (maps[:, NAMED : NAMED + 1] + 1) / 2
        analysed = torch.logit(chance, 1e-3).clamp(-_SHARPEST, _SHARPEST)
        outline = _START * maps[:, OUTLINE : OUTLINE + 1]
        known = named * (1 - outlined)
        nothing = -_START * (1 - outlined) * (1 - known)
        corrected = self.prior[0] * outline + _BESIDE * analysed * named
        return corrected * outlined + self.prior[1] * analysed * known + nothing

    def _asked(self, maps: Tensor, middle: Tensor, trace: bool) -> tuple[Tensor, Tensor | None]:
        """Let the places of the prompts for and against attend; (B, 2, middle), and the map."""
        sharp = functional.avg_pool3d(maps[:, PROMPTS.start : PROMPTS.stop : 2], TOKEN)
        share = sharp.flatten(2)
        share = share / share.sum(2, keepdim=True).clamp_min(1e-6)
        grid = middle.flatten(2).transpose(1, 2)
        query = share.to(grid.dtype) @ grid
        free = torch.zeros(*query.shape[:2], grid.shape[1], device=grid.device)
        asked, kept = self.cross(query, grid, free, trace)
        if kept is None:
            return asked, None
        i, j, k = middle.shape[2:]
        return asked, kept.mean(1)[:, 0].view(-1, i, j, k)


def _larger(x: Tensor) -> Tensor:
    return functional.interpolate(x, scale_factor=2, mode="trilinear")
