"""The options that choose an engine, shared by every command that analyses."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from typing_extensions import override

from lesionlens.cli import options
from lesionlens.cli.option_groups import Group
from lesionlens.engines import EngineChoice

DEFAULT_ENGINE = EngineChoice()
MAX_THREADS = 4096


@dataclass(frozen=True, slots=True)
class ComputeOptions:
    """Device of the built-in network; each field is an option."""

    device: options.Device = "auto"
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
        return EngineChoice(device=self.device, threads=self.threads)


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
            threads=self.threads,
        )


Compute = Annotated[EngineChoice, Group(ComputeOptions)]
Engine = Annotated[EngineChoice, Group(EngineOptions)]
