"""Whether a run in progress is still the one that its recipe began."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from typing import Any

from lesionlens.base.errors import WeightsError
from lesionlens.training.config import TrainConfig

_SHOWN = 4


def recipe_record(config: TrainConfig) -> dict[str, Any]:
    """Return a recipe as a checkpoint keeps it: plain JSON."""
    record: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(config), default=str))
    return record


def check_same_recipe(before: Mapping[str, Any], config: TrainConfig, step: int) -> None:
    """Refuse a recipe that differs from the one that a checkpoint was begun with.

    What was not trained yet may change: later stages, and the steps of the one under way.

    Parameters
    ----------
    before : mapping
        From `recipe_record`.
    config : TrainConfig
        Of now.
    step : int
        How far the checkpoint is.

    Raises
    ------
    WeightsError
        They differ; names what.
    """
    known = dict(_values(_begun(before, step)))
    now = dict(_values(_begun(recipe_record(config), step)))
    changed = sorted(name for name in known.keys() | now.keys() if known.get(name) != now.get(name))
    if not changed:
        return
    words = [f"{name} was {known.get(name)} and is {now.get(name)}" for name in changed[:_SHOWN]]
    more = f" and {len(changed) - _SHOWN} more" if len(changed) > _SHOWN else ""
    raise WeightsError(
        found=f"a changed recipe: {'; '.join(words)}{more}",
        expected=f"the recipe that this run began with, which is at step {step}",
        next_step="Choose another --out, change the recipe back, or begin anew with --fresh",
    )


def _begun(recipe: Mapping[str, Any], step: int) -> dict[str, Any]:
    """Return a recipe without what is still to come."""
    stages, left = [], step
    for stage in recipe["stages"]:
        if left <= stage["steps"]:
            stages.append({key: value for key, value in stage.items() if key != "steps"})
            break
        stages.append(stage)
        left -= stage["steps"]
    return {**recipe, "stages": stages}


def _values(node: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the single values of a recipe by their names, such as `optimiser.rate`."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield from _values(value, f"{name}.{key}" if name else key)
    elif isinstance(node, list) and any(isinstance(item, dict) for item in node):
        for number, item in enumerate(node, 1):
            yield from _values(item, f"{name}[{number}]")
    else:
        yield name, node
