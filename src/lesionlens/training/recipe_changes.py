"""Check that a resumed run still has its original configuration."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Any

from lesionlens.base.errors import WeightsError
from lesionlens.base.text import first_few
from lesionlens.training.config import TrainConfig

_SHOWN = 4


def recipe_record(config: TrainConfig) -> dict[str, Any]:
    """Return a configuration as stored in a checkpoint: plain JSON."""
    record: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(config), default=str))
    return record


def check_same_recipe(before: Mapping[str, Any], config: TrainConfig, step: int) -> None:
    """Refuse a configuration that differs from the checkpoint's.

    Later stages, and the number of steps of the current one, may change; so may the folder of the
    initial weights, as on another machine.

    Parameters
    ----------
    before : mapping
        From `recipe_record`.
    config : TrainConfig
        The current configuration.
    step : int
        Step of the checkpoint.

    Raises
    ------
    WeightsError
        They differ; the message states where.
    """
    since = recipe_record(TrainConfig(stages=()))  # keys that an earlier release did not write
    known = dict(_values(_trained_part({**since, **before}, step)))
    now = dict(_values(_trained_part(recipe_record(config), step)))
    changed = sorted(name for name in known.keys() | now.keys() if known.get(name) != now.get(name))
    if not changed:
        return
    words = [f"{name} was {known.get(name)} and is {now.get(name)}" for name in changed]
    raise WeightsError(
        found=f"a changed recipe: {first_few(words, _SHOWN, '; ')}",
        expected=f"the recipe that this run began with, which is at step {step}",
        next_step="Choose another --out, change the recipe back, or begin anew with --fresh",
    )


def _trained_part(recipe: Mapping[str, Any], step: int) -> dict[str, Any]:
    """Return a configuration without the parts that are not trained yet."""
    stages, left = [], step
    for stage in recipe["stages"]:
        if left <= stage["steps"]:
            stages.append({key: value for key, value in stage.items() if key != "steps"})
            break
        stages.append(stage)
        left -= stage["steps"]
    return {**recipe, "stages": stages, "init": PurePath(recipe["init"] or "").name}


def _values(node: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the single values of a configuration by name, such as `optimiser.rate`."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield from _values(value, f"{name}.{key}" if name else key)
    elif isinstance(node, list) and any(isinstance(item, dict) for item in node):
        for number, item in enumerate(node, 1):
            yield from _values(item, f"{name}[{number}]")
    else:
        yield name, node
