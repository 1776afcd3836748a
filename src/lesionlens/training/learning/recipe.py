"""The built-in training configuration for fine-tuning on signed reviews."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

from lesionlens.training.config import (
    DataConfig,
    OptimiserConfig,
    PatchConfig,
    StageConfig,
    TrainConfig,
)

STEPS = 260
_SHAPE, _NEAR_SHAPE = (84, 104, 84), (132, 164, 132)
_DRAWN_SHARE, _DRAWN_KEPT, _PAINTINGS = 0.3, 45, 2
_TINY_STAGE_STEPS = 20


def learn_recipe(
    init: Path, site_recipe: TrainConfig | None = None, steps: int = STEPS
) -> TrainConfig:
    """Return the configuration: the built-in one or a site's own, with initial weights.

    Parameters
    ----------
    site_recipe : TrainConfig or None
        A site's own configuration without `init`; its share of synthetic brains must not be zero.
    steps : int
        Steps of the built-in configuration. No more brains are generated than these steps can use.
    """
    if site_recipe is not None:
        return dataclasses.replace(site_recipe, init=str(init))
    brain_count = min(_DRAWN_KEPT, max(2, math.ceil(steps * _DRAWN_SHARE / _PAINTINGS)))
    patches = PatchConfig(0.1, _NEAR_SHAPE, (1.2, 1.4), (88, 88, 88))
    stage = StageConfig(
        steps,
        _SHAPE,
        (1.9, 2.1),
        batch=1,
        rate=(1.0, 0.03),
        patches=patches if steps >= _TINY_STAGE_STEPS else None,
    )
    return TrainConfig(
        stages=(stage,),
        seed=1,
        checkpoint_minutes=3.0,
        validation_volumes=0,
        init=str(init),
        optimiser=OptimiserConfig(rate=8e-4, warmup=min(20, steps), average=0.99),
        data=DataConfig(
            workers=0,
            pool=80,
            paintings=_PAINTINGS,
            complete=0.55,
            single=(0.03, 0.08, 0.04, 0.08),
            without_t1=0.3,
            held_out=0.25,
            drawn_share=_DRAWN_SHARE,
            drawn_kept=brain_count,
        ),
    )
