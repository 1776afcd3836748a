"""The options that choose an engine, shared by every command that analyses."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from typing_extensions import override

from lesionlens.base.labels import ComputePrecision
from lesionlens.cli import checks, options
from lesionlens.cli.option_groups import Group
from lesionlens.engines.engine_choice import EngineChoice

DEFAULT_ENGINE = EngineChoice()
MAX_THREADS = 4096


Patience = Annotated[
    float | None,
    typer.Option(
        help="Time limit in minutes for a bundle beyond its first pass (maps, uncertainty, "
        "sequence relevance, checks of the map); what does not fit is omitted.",
        metavar="MIN",
        min=0.0,
        show_default=f"{DEFAULT_ENGINE.patience_min:g}",
    ),
]


def patience_min(patience: float | None, bundle: object) -> float:
    """Return the time limit for a bundle, minutes; refuse one without a bundle."""
    checks.check_used("--bundle", bundle, {"--patience": patience})
    return DEFAULT_ENGINE.patience_min if patience is None else patience


@dataclass(frozen=True, slots=True)
class ComputeOptions:
    """Device of the built-in network; each field is an option."""

    device: options.Device = "auto"
    precision: Annotated[
        ComputePrecision,
        typer.Option(
            help="Numeric precision of the network; with auto an analysis uses float32 on a CPU, "
            "bfloat16 on an Nvidia, AMD or Intel GPU."
        ),
    ] = ComputePrecision.AUTO
    threads: Annotated[
        int | None,
        typer.Option(
            help="Number of CPU threads; the result of an analysis does not depend on it.",
            metavar="N",
            min=1,
            max=MAX_THREADS,
        ),
    ] = None

    def choice(self) -> EngineChoice:
        """Return the default weights, on this device."""
        return EngineChoice(device=self.device, precision=self.precision, threads=self.threads)


@dataclass(frozen=True, slots=True)
class EngineOptions(ComputeOptions):
    """Choice of the engine; each field is an option."""

    bundle: Annotated[
        Path | None,
        typer.Option(help="MONAI bundle to use instead of the built-in network.", metavar="DIR"),
    ] = None
    weights: options.Weights = None
    engine: Annotated[
        str,
        typer.Option(
            help="Engine to use: lens, or one from another package.",
            metavar="NAME",
        ),
    ] = "lens"
    patience: Patience = None

    @override
    def choice(self) -> EngineChoice:
        """Return the choice described by these options.

        Raises
        ------
        UnusableInputError
            The options contradict each other.
        """
        return EngineChoice(
            device=self.device,
            engine=self.engine,
            weights=self.weights,
            bundle=self.bundle,
            precision=self.precision,
            threads=self.threads,
            patience_min=patience_min(self.patience, self.bundle),
        )


Compute = Annotated[EngineChoice, Group(ComputeOptions)]
Engine = Annotated[EngineChoice, Group(EngineOptions)]
