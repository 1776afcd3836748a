"""The training configuration: one typed TOML file; unknown keys are errors."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from lesionlens.base.errors import ConfigError
from lesionlens.base.files import read_toml
from lesionlens.base.text import counted
from lesionlens.network.lens_net import BASE, TINY
from lesionlens.network.recipe_types import Count, EdgeRange, GridShape, Seed, Share
from lesionlens.network.synth.generator import GeneratorConfig

RECIPES = Path(__file__).parent / "recipes"
_ZERO_OR_MORE = (0, math.inf)
_ROUNDING = 1e-9  # of a sum of shares
_GRID_KEYS = {"shape", "spacing_mm"}
_RECIPES_HINT = "Start from a built-in one: `lesionlens sample DIR` writes them into DIR/recipes"

SIZES = {"tiny": TINY, "base": BASE}
"""Networks by name."""


@dataclass(frozen=True, slots=True)
class PatchConfig:
    """Patches of finer voxels mixed into a stage, as used by patch refinement."""

    share: Share
    """Share of the batches."""
    shape: GridShape
    spacing_mm: EdgeRange
    window: GridShape
    """As in `StageConfig`."""


@dataclass(frozen=True, slots=True)
class StageConfig:
    """One training stage: grid, batch size and number of steps."""

    steps: Count
    """Optimiser steps of this stage."""
    shape: GridShape
    spacing_mm: EdgeRange
    """Grid of the synthetic volumes, before they are cropped to the brain."""
    batch: Count = 2
    """Volumes per step."""
    rate: tuple[float, float] = (1.0, 1.0)
    """(2,) float: factor on `OptimiserConfig.rate` at the start and end of the stage; linear in
    between.
    """
    window: GridShape | None = None
    """(3,) int or None: train on windows of this size, most of them at a tumour, instead of whole
    brains.
    """
    patches: PatchConfig | None = None


@dataclass(frozen=True, slots=True)
class OptimiserConfig:
    """Muon for matrices, AdamW for the rest, with the same learning rate."""

    rate: float = 2e-3
    weight_decay: float = 0.01
    clip: float = 3.0
    """Learning rate, decoupled weight decay, maximum gradient norm."""
    warmup: int = 40
    average: Share = 0.998
    """Decay of the moving average of the weights, which is saved for use."""
    matrix: bool = True
    """Orthogonalise updates of matrices and kernels (Muon); otherwise AdamW for everything."""


@dataclass(frozen=True, slots=True)
class LossConfig:
    """Weights of the loss terms."""

    regions: tuple[float, float, float] = (1.0, 1.0, 1.2)
    """(3,) float: WT, TC, ET."""
    scales: tuple[float, float, float] = (1.0, 0.4, 0.2)
    """(3,) float: mask logits at 1/1, 1/2, 1/4."""
    overlap: float = 1.0
    voxel: float = 3.0
    """Soft Dice and cross-entropy."""
    each_lesion: float = 0.0
    """The same terms in a box around each lesion, all lesions weighted equally: improves detection
    of small ones, but outlines faint ones too large.
    """
    attention: float = 0.03
    """Attention mass inside the region; presence of the region."""
    lesions: float = 0.1
    """Set prediction of the lesion queries."""


@dataclass(frozen=True, slots=True)
class DataConfig:
    """How batches are built from synthetic volumes."""

    workers: int = 1
    """Generator processes; 0 generates in the training process and is exactly reproducible."""
    pool: Count = 160
    """Volumes kept in the pool for reuse."""
    paintings: Count = 2
    """Contrasts per geometry."""
    complete: Share = 0.5
    """Share of volumes with all four sequences."""
    single: tuple[Share, Share, Share, Share] = (0.05, 0.08, 0.05, 0.08)
    """(4,) float: shares with only T1, T1c, T2 or FLAIR; the remainder gets a random subset."""
    without_t1: Share = 0.0
    """Share of the complete ones from which T1 is dropped."""
    without_t1c: Share = 0.0
    """Share of volumes with T1, T2 and FLAIR, as examined without contrast agent."""
    held_out: Share = 0.2
    """With real cases: share of held-out patients; 0 trains on all of them, for weights whose
    quality was shown by other runs of the same configuration.
    """
    drawn_share: Share = 0.0
    """With real cases: share of synthetic batches."""
    drawn_kept: Count = 100
    """With real cases: number of synthetic brains, generated once for each grid."""


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """The complete training configuration."""

    stages: tuple[StageConfig, ...]
    network: str | None = None
    """A preset; None uses the network of `init`, or "base" without one."""
    seed: Seed = 0
    autocast: bool = True
    checkpoint_minutes: float = 4.0
    validation_volumes: int = 6
    init: str | None = None
    """Initial weights, safetensors."""
    cavity: bool = False
    """Also outline the resection cavity, as a fourth channel. Set by real cases whose references
    have one; initial weights that outline it continue to do so.
    """
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    data: DataConfig = field(default_factory=DataConfig)
    draw: GeneratorConfig = field(default_factory=GeneratorConfig)

    @property
    def steps(self) -> int:
        """Total number of steps."""
        return sum(stage.steps for stage in self.stages)

    def stage_at(self, step: int) -> tuple[int, int]:
        """Return the stage and the step within it; later steps belong to the last stage."""
        for index, stage in enumerate(self.stages[:-1]):
            if step < stage.steps:
                return index, step
            step -= stage.steps
        return len(self.stages) - 1, step


def _recipe_error(key_path: str, found: str, expected: str) -> ConfigError:
    return ConfigError(
        found=f"{found} in {key_path}",
        expected=expected,
        next_step="Correct the recipe and start again",
    )


def _tuple_of(kind: Any, value: Any, key_path: str) -> tuple[Any, ...]:
    item_kinds = typing.get_args(kind)
    if not isinstance(value, list):
        raise _recipe_error(key_path, repr(value), "a list")
    if item_kinds[-1] is Ellipsis:
        return tuple(_typed(item_kinds[0], item, key_path) for item in value)
    if len(item_kinds) != len(value):
        raise _recipe_error(key_path, counted(len(value), "entry", "entries"), str(len(item_kinds)))
    pairs = zip(item_kinds, value, strict=True)
    return tuple(_typed(item_kind, item, key_path) for item_kind, item in pairs)


def _typed(kind: Any, value: Any, key_path: str) -> Any:
    """Convert a value to a type; raises ConfigError with its key."""
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return _record(kind, value, key_path)
    bounds: tuple[float, float] = _ZERO_OR_MORE
    if typing.get_origin(kind) is Annotated:
        kind, bounds = typing.get_args(kind)
    origin = typing.get_origin(kind)
    if origin is tuple:
        return _tuple_of(kind, value, key_path)
    if origin in (typing.Union, types.UnionType):
        return _typed(typing.get_args(kind)[0], value, key_path)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise _recipe_error(key_path, repr(value), f"a value of type {kind.__name__}")
    if kind in (int, float):
        _check_bounds(value, bounds, key_path)
    return value


def _check_bounds(value: float, bounds: tuple[float, float], key_path: str) -> None:
    """Refuse a number that is not finite or beyond its bounds."""
    minimum, maximum = bounds
    if not minimum <= value <= maximum or value == math.inf:
        upper = "or more" if math.isinf(maximum) else f"to {maximum:g}"
        raise _recipe_error(key_path, repr(value), f"{minimum:g} {upper}")


def _record(kind: type[Any], table: Any, key_path: str) -> Any:
    if not isinstance(table, Mapping):
        raise _recipe_error(key_path, repr(table), "a table")
    hints = typing.get_type_hints(kind, include_extras=True)
    for key in table:
        if key not in hints:
            raise _recipe_error(key_path, f'unknown key "{key}"', f"one of {', '.join(hints)}")
    values = {key: _typed(hints[key], value, f"{key_path}.{key}") for key, value in table.items()}
    missing = dataclasses.MISSING
    for entry in dataclasses.fields(kind):
        is_required = entry.default is missing and entry.default_factory is missing
        if is_required and entry.name not in values:
            raise _recipe_error(key_path, f'no "{entry.name}"', f"a value for {entry.name}")
    if "spacing_mm" in values and values["spacing_mm"][0] > values["spacing_mm"][1]:
        raise _recipe_error(
            f"{key_path}.spacing_mm", str(list(values["spacing_mm"])), "the smaller edge first"
        )
    return kind(**values)


def _check_shares(config: TrainConfig, table: Mapping[str, Any]) -> None:
    """Refuse a share that the shares before it, of the same volumes, leave no room for.

    Only those that the recipe names: `complete = 1.0` alone leaves nothing for the default of
    `single`, as intended.
    """
    data, kinds, draw = config.data, config.draw.kinds, table.get("draw", {})
    sequences = {
        "complete": data.complete, "single": sum(data.single), "without_t1c": data.without_t1c,
    }  # fmt: skip
    tumours = {"metastases": kinds.metastases, "meningioma": kinds.meningioma}
    for key_path, named, shares in (
        ("recipe.data", table.get("data", {}), sequences),
        ("recipe.draw.kinds", draw.get("kinds", {}), tumours),
    ):
        remaining, earlier = 1.0, list[str]()
        for key, share in shares.items():
            if key in named and share > remaining + _ROUNDING:
                expected = f"{max(remaining, 0.0):g} or less beside {' and '.join(earlier)}"
                raise _recipe_error(f"{key_path}.{key}", f"a share of {share:g}", expected)
            remaining -= share
            earlier.append(key)


def parse_config(table: Mapping[str, Any]) -> TrainConfig:
    """Build a configuration from parsed TOML.

    Raises
    ------
    ConfigError
        An unknown key, a wrong type, a number beyond its bounds, shares that sum to more than 1, an
        unknown network, no stage, or a grid under `draw`, which would be that of no stage.
    """
    config: TrainConfig = _record(TrainConfig, table, "recipe")
    for key in _GRID_KEYS & table.get("draw", {}).keys():
        raise _recipe_error("recipe.draw", f'"{key}"', "the grid under [[stages]] alone")
    _check_shares(config, table)
    if not config.stages:
        raise _recipe_error("recipe", "no stage", "at least one [[stages]]")
    if config.network is not None and config.network not in SIZES:
        raise _recipe_error("recipe.network", repr(config.network), f"one of {', '.join(SIZES)}")
    return config


def read_config(recipe: Path | str) -> TrainConfig:
    """Read a configuration from a TOML file, or a shipped one by name; see `parse_config`.

    A file has precedence over a name.
    """
    path, shipped = Path(recipe), {file.stem: file for file in sorted(RECIPES.glob("*.toml"))}
    if not path.is_file():
        path = shipped.get(str(recipe), path)
    try:
        table = read_toml(path)
    except FileNotFoundError as error:
        raise ConfigError(
            found=f"no file {path.name}",
            expected=f"a recipe in TOML, or a built-in one: {', '.join(shipped)}",
            next_step=_RECIPES_HINT,
        ) from error
    except (OSError, ValueError) as error:
        raise ConfigError(
            found=f"{path.name}, which is not TOML ({error})",
            expected="a recipe in TOML",
            next_step=_RECIPES_HINT,
        ) from error
    return parse_config(table)
