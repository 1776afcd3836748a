"""The prompt network: from a crop with prompts to the outline of what they point at.

`load` returns a network and `prompt_input` makes its input. Prompts are maps, as in RITM (Sofiiuk
et al. 2021) and nnInteractive (Isensee et al. 2025), beside the sequences, the predicted
probabilities and the current outline. The features at the prompts also attend to the whole crop;
that query becomes the embedding of a mask, as in Mask2Former (Cheng et al. 2022).
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from lesionlens.base.geometry import Floats, Mask
from lesionlens.base.numerics import distances_to
from lesionlens.base.provenance import sha256_of
from lesionlens.network.blocks import Conv3d, Residual, fold, unfold
from lesionlens.network.lens_net import CrossAttention
from lesionlens.network.weights import (
    read_tensors,
    record_from_json,
    shipped_file,
    unusable,
    write_tensors,
)

GENERAL, SMALL = "prompt", "prompt_small"
"""Shipped weights: of the general network and of the one for small objects."""
FORMAT = "lesionlens-prompt-1"
MAPS, FACTS = 22, 11
TOKEN = 4
"""Voxels along an edge of an attention token; edges of a crop are multiples of twice that."""
_SEQUENCES, _ANALYSIS, _NAMED, _OUTLINE, _PROMPTS = slice(0, 4), slice(4, 7), 7, 8, slice(9, 13)
_SHARP_MM, _WIDE_MM, _AMPLITUDE = 1.5, 6.0, 4.0
_MAX_DIFFERENCE = 4.0
_INITIAL_LOGIT = 2.5  # without other evidence
_ANALYSIS_WEIGHT = 0.35  # of the analysis, if there is an outline
_MAX_PRIOR_LOGIT = 6.0  # the prior can be overruled


class PromptInput(NamedTuple):
    """Input of the network."""

    maps: Tensor
    """(B, `MAPS`, I, J, K) float32: z-scores; probabilities of WT, TC, ET and of the prompted
    region, -1 to 1; the current outline, -1 to 1; sharp and wide Gaussians of the foreground, then
    the background prompts; each sequence's difference from its value at the foreground and the
    background prompts; the brain."""
    facts: Tensor
    """(B, `FACTS`) float32: presence of four sequences, the prompted region (3), presence of an
    analysis, an outline, background prompts; logarithm of the voxel edge in mm."""


class PromptOutput(NamedTuple):
    """Output of the network."""

    logits: Tensor
    """(B, 1, I, J, K): of the prompted object."""
    attention: Tensor | None
    """(B, i, j, k): weights of the foreground prompts by token, sum one; None unless traced."""


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """A crop of a study, of n voxels along each edge."""

    images: Tensor
    """(4, n, n, n) z-scores, zero for absent sequences."""
    brain: Tensor
    """(1, n, n, n) 0 or 1."""
    present: tuple[bool, ...]
    probability: Tensor | None
    """(3, n, n, n) predicted probability of WT, TC and ET; None without an analysis."""
    spacing_mm: float


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """The prompts in a crop, (n, n, n) bool."""

    foreground: Mask
    background: Mask
    outline: Mask | None
    """The current outline; None to begin without one."""
    region: int | None
    """The prompted region's index in `Region`; None for the object at the prompts."""


def prompt_input(scene: Scene, question: Question) -> PromptInput:
    """Build the input of one crop, B = 1."""
    n = scene.images.shape[-1]
    with torch.device("cpu"):
        maps = torch.zeros(MAPS, n, n, n, dtype=torch.float32)
        facts = torch.zeros(FACTS, dtype=torch.float32)
        facts[:4] = torch.tensor(scene.present)
    maps[_SEQUENCES] = scene.images
    if question.region is not None:
        facts[4 + question.region] = 1
    if scene.probability is not None:
        facts[7] = 1
        maps[_ANALYSIS] = (2 * scene.probability - 1) * scene.brain
        if question.region is not None:
            maps[_NAMED] = 2 * scene.probability[question.region] - 1
    if question.outline is not None:
        facts[8] = 1
        maps[_OUTLINE] = 2 * torch.from_numpy(question.outline).float() - 1
    for index, marked in enumerate((question.foreground, question.background)):
        sharp, wide = torch.from_numpy(_gaussians(marked, scene.spacing_mm))
        maps[9 + 2 * index], maps[10 + 2 * index] = _AMPLITUDE * sharp, _AMPLITUDE * wide
        weight = _AMPLITUDE * sharp * scene.brain[0]
        if float(weight.sum()) >= 1e-3:
            reference = (scene.images * weight).sum((1, 2, 3)) / weight.sum()
            difference = (scene.images - reference[:, None, None, None]) * scene.brain
            difference = difference.clamp(-_MAX_DIFFERENCE, _MAX_DIFFERENCE) / 2
            maps[13 + 4 * index : 17 + 4 * index] = difference * facts[:4, None, None, None]
    facts[9] = float(question.background.any())
    facts[10] = float(np.log(scene.spacing_mm))
    maps[21] = scene.brain[0]
    return PromptInput(maps[None], facts[None])


def _gaussians(marked: Mask, spacing_mm: float) -> Floats:
    """Return a sharp and a wide Gaussian around marked voxels, (2, n, n, n), at most one."""
    if not marked.any():
        return np.zeros((2, *marked.shape), np.float32)
    distance_mm = distances_to(np.argwhere(marked), marked.shape) * np.float32(spacing_mm)
    edges_mm = max(_SHARP_MM, 0.9 * spacing_mm), _WIDE_MM
    return np.stack([np.exp(-(distance_mm**2) / np.float32(2 * mm**2)) for mm in edges_mm])


@dataclass(frozen=True, slots=True)
class PromptConfig:
    """Sizes of the network."""

    widths: tuple[int, int, int] = (24, 48, 96)
    """Channels at strides two, four and eight."""
    fine: int = 8
    """Channels at full resolution."""
    heads: int = 4


class PromptNetwork(nn.Module):
    """A small residual network from stride two to eight and back; see the module."""

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
        self.prior = nn.Parameter(torch.ones(2))
        nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]
        with torch.no_grad():
            self.last.weight.mul_(0.3)

    @override
    def forward(self, x: PromptInput, *, trace: bool = False) -> PromptOutput:
        """Predict; `trace` also returns the attention."""
        maps, facts = x
        near_code, middle_code = self.facts(facts)[..., None, None, None].split(
            self.config.widths[:2], 1
        )
        near = self.first(self.stem(fold(maps)) + near_code)
        middle = self.down(near) + middle_code
        deep = self.deeper(self.deep(middle))
        middle = self.up_middle(middle + _upsample(self.to_middle(deep)))
        prompted, attention = self._attend(maps, middle, trace=trace)
        summary = torch.cat([prompted, middle.mean((2, 3, 4))], 1)
        middle = middle + self.gathered(summary)[..., None, None, None]
        near = self.up_near(near + _upsample(self.to_near(middle)))
        mask = (near * self.embedding(prompted)[..., None, None, None]).sum(1, keepdim=True)
        full = [*range(4), _NAMED, _OUTLINE, _PROMPTS.start, _PROMPTS.start + 2]
        fine = torch.cat([unfold(self.open(near)), maps[:, full]], 1)
        logits = self.last(functional.silu(self.fine(fine))).float()
        logits = logits + _upsample(mask.float() / self.config.widths[0] ** 0.5)
        return PromptOutput(logits + self._prior(maps, facts), attention)

    def _prior(self, maps: Tensor, facts: Tensor) -> Tensor:
        """Return the logits to correct: those of the outline, else of the named region."""
        has_region, has_analysis, has_outline = (
            value.view(-1, 1, 1, 1, 1) for value in (facts[:, 4:7].sum(1), facts[:, 7], facts[:, 8])
        )
        named = has_region * has_analysis
        probability = (maps[:, _NAMED : _NAMED + 1] + 1) / 2
        analysed = torch.logit(probability, 1e-3).clamp(-_MAX_PRIOR_LOGIT, _MAX_PRIOR_LOGIT) * named
        outline = _INITIAL_LOGIT * maps[:, _OUTLINE : _OUTLINE + 1]
        corrected = self.prior[0] * outline + _ANALYSIS_WEIGHT * analysed
        first = self.prior[1] * analysed - _INITIAL_LOGIT * (1 - named)
        return corrected * has_outline + first * (1 - has_outline)

    def _attend(self, maps: Tensor, middle: Tensor, *, trace: bool) -> tuple[Tensor, Tensor | None]:
        """Return (B, 2 middle) features that both kinds of prompts attend to, and the map."""
        sharp = functional.avg_pool3d(maps[:, _PROMPTS.start : _PROMPTS.stop : 2], TOKEN).flatten(2)
        weights = sharp / sharp.sum(2, keepdim=True).clamp_min(1e-6)
        grid = middle.flatten(2).transpose(1, 2)
        prompted, attention = self.cross(weights.to(grid.dtype) @ grid, grid, trace=trace)
        if attention is not None:
            attention = attention.mean(1)[:, 0].view(-1, *middle.shape[2:])
        return prompted.flatten(1), attention


def _upsample(x: Tensor) -> Tensor:
    return functional.interpolate(x.float(), scale_factor=2, mode="trilinear")


@dataclass(frozen=True, slots=True)
class PromptNotes:
    """Provenance of weights."""

    version: str
    trained_on: str
    """In words: volumes and number of steps."""
    steps: int


def save(path: Path, network: PromptNetwork, notes: PromptNotes) -> str:
    """Write weights in half precision; return the file's SHA-256. Raise ResourceError."""
    records = {"network": json.dumps(asdict(network.config)), "notes": json.dumps(asdict(notes))}
    metadata = {"format": FORMAT, **records}
    return write_tensors(path, network.state_dict(), metadata, torch.float16)


def load(
    weights: Path | str = GENERAL, device: torch.device | str = "cpu"
) -> tuple[PromptNetwork, PromptNotes, str]:
    """Load a file, or `GENERAL` or `SMALL`, in evaluation mode; the SHA-256 comes third.

    Raises
    ------
    WeightsError
        The file cannot be read or is another network's, or shipped weights are altered.
    """
    path = shipped_file(weights) if isinstance(weights, str) else weights
    try:
        state, metadata = read_tensors(path)
        notes = record_from_json(PromptNotes, metadata["notes"])
        with torch.device("meta"):
            network = PromptNetwork(record_from_json(PromptConfig, metadata["network"]))
        network.load_state_dict(state, assign=True)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise unusable(path, error) from error
    network.to(device).to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    return network.eval(), notes, sha256_of(path)
