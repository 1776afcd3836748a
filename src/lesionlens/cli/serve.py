"""`lesionlens serve`: serve this machine's network and GPU to other machines."""

from __future__ import annotations

import logging
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lesionlens.base.errors import MissingPluginError, UnusableInputError
from lesionlens.base.files.safe_paths import resolved
from lesionlens.base.process.streams import write_line
from lesionlens.base.run_context import RunContext
from lesionlens.cli.console import STOP, CommandOutput, plain, progress_bar
from lesionlens.cli.engine_options import (
    DEFAULT_ENGINE,
    SERVER,
    EngineOptions,
    Patience,
    patience_min,
)
from lesionlens.cli.option_groups import Group
from lesionlens.engines.engine_choice import EngineChoice

if TYPE_CHECKING:
    from lesionlens.engines.engine import Engine

Bundles = Annotated[
    list[Path] | None,
    typer.Option(
        help="MONAI bundle to serve instead of the built-in network; repeatable.", metavar="DIR"
    ),
]


def serve(
    host: Annotated[
        str, typer.Option(help="Address to listen on; 127.0.0.1 is this machine only.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(help="Port to listen on; 0 for any free port.", min=0, max=65535)
    ] = 8000,
    api_key_file: Annotated[
        Path | None,
        typer.Option(
            help="Text file of API keys, one per line; required for access from other machines.",
            metavar="FILE",
        ),
    ] = None,
    certificate: Annotated[
        Path | None, typer.Option(help="Certificate for https (PEM).", metavar="FILE")
    ] = None,
    certificate_key: Annotated[
        Path | None, typer.Option(help="Private key of the certificate (PEM).", metavar="FILE")
    ] = None,
    plain_http: Annotated[
        bool,
        typer.Option("--plain-http", help="Accept unencrypted connections from other machines."),
    ] = False,
    engine_choice: Annotated[
        EngineChoice, Group(EngineOptions, {"bundle", "patience", *SERVER})
    ] = DEFAULT_ENGINE,
    bundle: Bundles = None,
    patience: Patience = None,
    datastore: Annotated[
        Path | None,
        typer.Option(
            help="Folder of studies for MONAI Label clients, which also save labels there.",
            metavar="DIR",
        ),
    ] = None,
    memory: Annotated[
        float,
        typer.Option(help="Memory limit in GB for the studies of all clients.", min=0.1, max=1e6),
    ] = 8.0,
    heartbeat: Annotated[
        float,
        typer.Option(
            help="Seconds of inactivity after which a client and its study are discarded.",
            min=1.0,
            max=86_400.0,
        ),
    ] = 30.0,
) -> CommandOutput:
    """Serve this machine's network and GPU to LesionLens on other machines.

    Studies are kept in memory and discarded with their session. The MONAI Label API is
    supported too. Stop the server with Ctrl-C.
    """
    engine_choice = replace(engine_choice, patience_min=patience_min(patience, bundle or None))
    STOP.record_only()
    _check_installed()
    from lesionlens.engines.remote.address import read_keys
    from lesionlens.site.serving.admission import Admission
    from lesionlens.site.serving.app import make_app
    from lesionlens.site.serving.listen import BoundAddress, listen
    from lesionlens.site.serving.sessions import Limits, Sessions

    keys = () if api_key_file is None else read_keys(api_key_file)
    listening = BoundAddress(host, port, certificate, certificate_key, plain_http)
    listening.check(keys)
    if datastore is not None and not datastore.is_dir():
        raise UnusableInputError(
            found=f"no folder {datastore.name!r}",
            expected="a folder of studies",
            next_step="Create it first",
        )
    with progress_bar() as context:
        context.progress("loading the network", 0.0)
        models = load_models(engine_choice, bundle)
    limits = Limits(memory_bytes=int(memory * 2**30), heartbeat_s=heartbeat)
    log_requests()
    app = make_app(Sessions(models, limits), Admission(keys, listening.hosts), datastore)

    def report_address(address: str) -> None:
        devices = {model.info.device for model in models.values()}
        print_line(f"Serving {', '.join(models)} ({', '.join(devices)}) at {address}")

    listen(app, listening, report_address, RunContext(cancel=STOP))
    return CommandOutput((), ("the server has stopped and discarded all studies",))


def log_requests() -> None:
    """Write one line per request to stderr: route, status, time, bytes; no patient data."""
    from lesionlens.site.serving.middleware import requests

    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%S"))
    requests.handlers[:] = [handler]
    requests.propagate = False
    requests.setLevel(logging.INFO)


def print_line(line: str) -> None:
    """Print a line while the server runs."""
    write_line(plain(line), sys.stderr)


def load_models(engine_choice: EngineChoice, bundles: list[Path] | None) -> dict[str, Engine]:
    """Load the served models, by the names that clients use.

    Raises
    ------
    UnusableInputError
        A weights file beside bundles, bundles of one name, or a precision that the device or the
        engine does not have.
    """
    if not bundles:
        return {engine_choice.engine: engine_choice.load()}
    names = [resolved(folder).name for folder in bundles]
    duplicates = sorted({name for name in names if names.count(name) > 1})
    if duplicates:
        raise UnusableInputError(
            found=f"two bundles called {', '.join(duplicates)}",
            expected="names that differ: clients choose by a bundle's folder",
            next_step="Rename one of the folders",
        )
    choices = [replace(engine_choice, bundle=folder) for folder in bundles]
    return {name: choice.load() for name, choice in zip(names, choices, strict=True)}


def _check_installed() -> None:
    from importlib.util import find_spec

    required = ("fastapi", "uvicorn", "python_multipart")
    missing = [name for name in required if find_spec(name) is None]
    if missing:
        raise MissingPluginError(
            found=f"no {' and no '.join(missing)}, which the server needs",
            expected="all of the extra `serve`",
            next_step="Install them: pip install 'lesionlens[serve]'",
        )
