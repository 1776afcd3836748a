"""`lesionlens export-model`: write the network as an ONNX file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lesionlens.base.errors import UnusableInputError
from lesionlens.base.labels import WeightPrecision
from lesionlens.cli import checks, options
from lesionlens.cli.console import CommandOutput, plain


def export_model(
    weights: options.Weights = None,
    precision: Annotated[
        WeightPrecision | None,
        typer.Option(
            help="How weights are stored; computation is float32.",
            show_default=WeightPrecision.FP16.value,
        ),
    ] = None,
    prompts: Annotated[
        bool,
        typer.Option(
            "--prompts",
            help="Export the general prompt network instead, without the one for small objects; "
            "needs --out.",
        ),
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Output file; default: where `analyze --engine onnx` looks for it.", metavar="FILE"
        ),
    ] = None,
) -> CommandOutput:
    """Write the network as one ONNX file, which `analyze --engine onnx` runs without torch."""
    from lesionlens.network.onnx_export import PROMPT_FORMAT, export_lens
    from lesionlens.network.shipped_weights import SHIPPED
    from lesionlens.network.weights import load_chosen
    from lesionlens.network.weights_metadata import ONNX_FORMAT

    checks.check_file(out, ONNX_FORMAT.encode(), PROMPT_FORMAT.encode())
    if prompts:
        checks.check_without("--prompts", {"--weights": weights, "--precision": precision})
        return _export_prompts(out)
    network, info = load_chosen(weights)
    if out is None:
        from lesionlens.engines.onnx.engine import exported_path

        out = exported_path(weights if weights in SHIPPED else "default")
        out.parent.mkdir(parents=True, exist_ok=True)
    export_lens(network, info, out, precision or WeightPrecision.FP16)
    size = out.stat().st_size / 1e6
    return CommandOutput((f"Wrote {plain(str(out))}: weights {info.version}, {size:.1f} MB",))


def _export_prompts(out: Path | None) -> CommandOutput:
    from lesionlens.network.onnx_export import export_prompt
    from lesionlens.network.prompt.weights import load_shipped

    if out is None:
        raise UnusableInputError(
            found="--prompts without --out",
            expected="the file to write",
            next_step="Name it: --out prompt.onnx",
        )
    network, info, digest = load_shipped()
    export_prompt(network, info, digest, out)
    size = out.stat().st_size / 1e6
    return CommandOutput(
        (
            f"Wrote {plain(str(out))}: general prompt network, weights {info.version}, "
            f"{size:.1f} MB",
            "The network for small objects, which is used first if no region is named, is not "
            "included",
        )
    )
