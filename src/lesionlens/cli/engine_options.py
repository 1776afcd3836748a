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

SERVER = frozenset({"server", "api_key_file", "server_ca", "plain_http", "fall_back"})
"""Options of a remote server."""
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
        """Return the weights in use, on this device."""
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
            help="Engine to use: lens, onnx (without torch; see export-model), or one from another "
            "package.",
            metavar="NAME",
        ),
    ] = "lens"
    patience: Patience = None
    server: Annotated[
        str | None,
        typer.Option(
            help="Use the network of a `lesionlens serve` server; --engine then names one of its "
            "models. Only voxels of the brain are sent.",
            metavar="URL",
        ),
    ] = None
    api_key_file: Annotated[
        Path | None,
        typer.Option(
            help="File with the server's key; else LESIONLENS_API_KEY, if set.", metavar="FILE"
        ),
    ] = None
    server_ca: Annotated[
        Path | None,
        typer.Option(help="Certificates to trust instead of the usual ones (PEM).", metavar="FILE"),
    ] = None
    plain_http: Annotated[
        bool, typer.Option("--plain-http", help="Send scans unencrypted to a server (http).")
    ] = False
    fall_back: Annotated[
        bool,
        typer.Option("--fall-back", help="Analyse on this machine if the server does not respond."),
    ] = False

    @override
    def choice(self) -> EngineChoice:
        """Return the choice described by these options.

        Raises
        ------
        UnusableInputError
            The options contradict each other, the address or the key file cannot be used, or
            scans would be sent unencrypted.
        """
        server = None
        checks.check_used(
            "--server",
            self.server,
            {
                "--api-key-file": self.api_key_file,
                "--server-ca": self.server_ca,
                "--plain-http": self.plain_http,
                "--fall-back": self.fall_back,
            },
        )
        if self.server is not None:
            from lesionlens.engines.remote.address import ServerAddress, read_key

            key = None if self.api_key_file is None else read_key(self.api_key_file)
            server = ServerAddress(self.server, key, self.server_ca, self.plain_http)
        return EngineChoice(
            device=self.device,
            engine=self.engine,
            weights=self.weights,
            bundle=self.bundle,
            precision=self.precision,
            threads=self.threads,
            patience_min=patience_min(self.patience, self.bundle),
            server=server,
            fall_back=self.fall_back,
        )


Compute = Annotated[EngineChoice, Group(ComputeOptions)]
Engine = Annotated[EngineChoice, Group(EngineOptions)]
