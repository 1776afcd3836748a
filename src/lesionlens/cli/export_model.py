"""`lesionlens export-model`: the network as one file for another runtime, or for a browser."""

from __future__ import annotations

import tempfile
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from lesionlens.base.errors import UnusableInputError
from lesionlens.cli import checks, options
from lesionlens.cli.console import Answer, plain


class ModelFormat(StrEnum):
    """Of the file."""

    ONNX = "onnx"
    WEB = "web"


class Storage(StrEnum):
    """The members of `network.onnx_export.Precision`, loaded when used."""

    FP32 = "fp32"
    FP16 = "fp16"
    INT8 = "int8"


def export_model(
    form: Annotated[ModelFormat, typer.Option("--format", help="Of the file.")] = ModelFormat.ONNX,
    weights: options.Weights = None,
    precision: Annotated[
        Storage, typer.Option("--precision", help="How weights are stored; computing is float32.")
    ] = Storage.FP16,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="File to write; of onnx else where `analyze --engine onnx` looks for it.",
            metavar="FILE",
        ),
    ] = None,
    debug: options.Debug = False,
) -> Answer:
    """Write the network as one file: ONNX, or a page that runs in a browser without a server.

    `analyze --engine onnx` runs the first without torch. The second opens by a double click, and
    nothing leaves it; npm fetches its parts once: `--format web --out lens.html`.
    """
    del debug
    from lesionlens.network.onnx_export import Precision, export_lens
    from lesionlens.network.weights import SHIPPED, load_chosen

    checks.check_file(out)
    if form is ModelFormat.WEB and (out is None or out.suffix.lower() not in (".html", ".htm")):
        raise UnusableInputError(
            found="a page without a name" if out is None else f"a page named {out.name}",
            expected="--out FILE.html, which browsers open",
            next_step="Name the file: lesionlens export-model --format web --out lens.html",
        )
    network, about = load_chosen(weights)
    if out is None:
        from lesionlens.engines.onnx.engine import exported_path

        out = exported_path(weights if weights in SHIPPED else "default")
        out.parent.mkdir(parents=True, exist_ok=True)
    if form is ModelFormat.WEB:
        from lesionlens.network.web_page import fetch_packages, write_page

        fetch_packages()  # what cannot be had is reported before the minutes of the export
        with tempfile.TemporaryDirectory(prefix="lesionlens-") as aside:
            exported = Path(aside) / "lens.onnx"
            export_lens(network, about, exported, Precision(precision.value))
            write_page(exported, about, out)
    else:
        export_lens(network, about, out, Precision(precision.value))
    size = out.stat().st_size / 1e6
    return Answer((f"Wrote {plain(str(out))}: weights {about.version}, {size:.1f} MB",))
