"""Time Lens, SegResNet and Swin UNETR in torch and, exported the same way, in onnxruntime.

    OMP_NUM_THREADS=1 python -m research.speed.onnx_networks CASE [--results research/RESULTS.md]

CASE is a folder of sequences on one grid. One pass of each is timed, without preparation and
assembly: Lens processes the whole brain at its own voxel size and SegResNet at 1 mm; Swin UNETR one
window of 96³, of which a brain at 1 mm takes the number in the table. MONAI's networks have random
weights, which take the same time as trained ones, and hence no Dice. Every measurement is a process
of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

MARKER = "onnx networks"
NETWORKS = ("ours", "SegResNet", "Swin UNETR")
BASELINES = {
    "ours": "Lens, as shipped",
    "SegResNet": "MONAI SegResNet",
    "Swin UNETR": "MONAI Swin UNETR",
}


def network_and_input(name: str, case: Path) -> tuple[Any, Any, int]:
    """Return a network, one input of it, and how many such passes a brain takes."""
    import math

    import torch

    from lesionlens import open_study
    from lesionlens.base.run_context import SILENT
    from lesionlens.imaging.preparation.prepare import prepare
    from research.speed.baselines import OVERLAP, all_baselines

    prepared = prepare(open_study(case), SILENT)
    device = torch.device("cpu")
    baseline = next(b for b in all_baselines(prepared, device) if b.name == BASELINES[name])
    x, passes = baseline.make_input().contiguous(), 1
    if baseline.window is not None:
        windows_per_axis = [1 + max(0, math.ceil((n - w) / (w * (1 - OVERLAP))))
              for n, w in zip(x.shape[2:], baseline.window, strict=True)]  # fmt: skip
        passes = math.prod(windows_per_axis)
        i, j, k = (slice((n - w) // 2, (n - w) // 2 + w)
                   for n, w in zip(x.shape[2:], baseline.window, strict=True))  # fmt: skip
        x = x[..., i, j, k].contiguous()
    torch.manual_seed(0)
    network = baseline.make()
    network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]  # no such stub
    return network, x, passes


def logits_of(output: Any) -> Any:
    """Return the logits of a network's output."""
    return getattr(output, "logits", output)


def export(name: str, case: Path, folder: Path) -> dict[str, Any]:
    """Write the network as ONNX, and an input with torch's logits beside it."""
    import onnx
    import torch
    from typing_extensions import override

    from lesionlens.base.labels import WeightPrecision
    from lesionlens.network.attention import Form
    from lesionlens.network.onnx_export import OPSET, shrink, with_short_sums
    from lesionlens.network.weights import load_shipped

    network, x, passes = network_and_input(name, case)
    if name == "ours":
        network = load_shipped()[0].eval()
        network.set_attention(Form.READABLE)
        network = with_short_sums(network)

    class Plain(torch.nn.Module):
        """The logits alone."""

        def __init__(self) -> None:
            super().__init__()
            self.network = network

        @override
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = logits_of(self.network(x))
            return logits

    with torch.inference_mode():
        np.savez(folder / "case.npz", x=x.numpy(), logits=Plain()(x).numpy())
    with warnings.catch_warnings(action="ignore"):
        program = torch.onnx.export(
            Plain().eval(), (x.clone(),), dynamo=True, opset_version=OPSET, verbose=False
        )
    assert program is not None
    sizes = {}
    for precision in WeightPrecision:
        model = onnx.ModelProto.FromString(program.model_proto.SerializeToString())
        if precision is not WeightPrecision.FP32:
            shrink(model, precision)
        file = folder / f"{precision.value}.onnx"
        file.write_bytes(model.SerializeToString())
        sizes[precision.value] = file.stat().st_size / 1e6
    return {"mb": sizes, "passes": passes}


def run_pass(name: str, runtime: str, folder: Path) -> dict[str, Any]:
    """Run one pass; return seconds, memory, and the largest difference from torch."""
    stored = np.load(folder / "case.npz")
    run_network = _torch(name) if runtime == "torch" else _onnxruntime(folder / f"{runtime}.onnx")
    loaded = int(Path("/proc/self/statm").read_text("ascii").split()[1]) * resource.getpagesize()
    cpu, wall = time.process_time(), time.perf_counter()
    logits = run_network(stored["x"])
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    difference = np.abs(1 / (1 + np.exp(-logits)) - 1 / (1 + np.exp(-stored["logits"]))).max()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "cpu": cpu,
        "wall": wall,
        "loaded": loaded / 2**20,
        "peak": peak,
        "difference": float(difference),
    }


def _torch(name: str) -> Callable[[Any], Any]:
    import torch
    from monai.networks import nets

    from lesionlens.network.weights import load_shipped

    torch.manual_seed(0)
    if name == "ours":
        network = load_shipped()[0].eval()
    elif name == "SegResNet":
        network = nets.SegResNet(
            spatial_dims=3, init_filters=16, in_channels=4, out_channels=3, dropout_prob=0.2,
            blocks_down=(1, 2, 2, 4), blocks_up=(1, 1, 1),
        ).eval()  # fmt: skip
    else:
        network = nets.SwinUNETR(in_channels=4, out_channels=3, feature_size=48).eval()

    def run_network(x: Any) -> Any:
        with torch.inference_mode():
            return logits_of(network(torch.from_numpy(x))).numpy()

    return run_network


def _onnxruntime(file: Path) -> Callable[[Any], Any]:
    from lesionlens.network.onnx_session import runtime

    onnxruntime = runtime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS", "0"))
    session = onnxruntime.InferenceSession(str(file), options, ["CPUExecutionProvider"])
    entry = session.get_inputs()[0].name
    return lambda x: session.run(None, {entry: x})[0]


def run_in_process(*arguments: object) -> dict[str, Any]:
    """Run one measurement in a separate process."""
    command = [sys.executable, "-m", __spec__.name, "--child", *map(str, arguments)]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    if process.returncode:
        raise SystemExit(process.stderr)
    figures: dict[str, Any] = json.loads(process.stdout.splitlines()[-1])
    return figures


def table(case: Path, networks: Sequence[str]) -> str:
    """Measure and return the table."""
    threads = os.environ.get("OMP_NUM_THREADS", "all")
    lines = [
        f"One pass, {threads} thread(s); a brain takes as many passes as stated. Largest "
        "difference of probability from torch in float32.",
        "",
        "| network | run by | file MB | MiB loaded | peak MiB | CPU s | passes | difference |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name in networks:
        with tempfile.TemporaryDirectory() as folder:
            exported = run_in_process("export", name, case, folder)
            # smaller files are computed in float32, too: of MONAI's only their size is reported
            for runtime in ("torch", *exported["mb"]) if name == "ours" else ("torch", "fp32"):
                size = exported["mb"].get(runtime)
                figures = run_in_process("run", name, runtime, folder)
                lines.append(
                    f"| {name} | {runtime if size is None else f'onnxruntime, {runtime}'} | "
                    f"{'' if size is None else f'{size:.1f}'} | {figures['loaded']:.0f} | "
                    f"{figures['peak']:.0f} | {figures['cpu']:.2f} | {exported['passes']} | "
                    f"{figures['difference']:.1e} |"
                )
                print(lines[-1], flush=True)
            smaller = ", ".join(f"{key} {exported['mb'][key]:.1f}" for key in ("fp16", "int8"))
            print(f"{name}: {smaller} MB", flush=True)
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure and print the table, or run one measurement of it."""
    if sys.argv[1:2] == ["--child"]:
        action, name, *rest = sys.argv[2:]
        if action == "export":
            figures = export(name, Path(rest[0]), Path(rest[1]))
        else:
            figures = run_pass(name, rest[0], Path(rest[1]))
        print(json.dumps(figures))
        return
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("case", type=Path)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=NETWORKS)
    parser.add_argument("--results", type=Path, help="put the table into this Markdown page")
    options = parser.parse_args()
    text = table(options.case, options.networks)
    print(text)
    if options.results is not None:
        from research.common import page

        page.write_block(options.results, MARKER, text)


if __name__ == "__main__":
    main()
