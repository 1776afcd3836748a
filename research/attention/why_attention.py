r"""Compare the hybrid network, one without attention and one of attention alone, trained alike.

    python -m research.attention.why_attention --out runs/why --data CASES \
        --results research/RESULTS.md

All three have about as many parameters, are trained on the same synthetic volumes in the same
order, with the same number of steps and the same optimiser, and are scored on the same held-out
synthetic volumes and, with `--data`, on the same real cases (`quality/development_cases.py`). An
interrupted run resumes from the last checkpoint. The training is far too short for good weights;
only the ranking of the three is of interest.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lesionlens.analysis.evaluation.summary import interval
from lesionlens.network import weights
from lesionlens.network.model import LensNetwork
from lesionlens.network.normalise import with_presence
from lesionlens.network.synth.generator import GeneratorConfig, draw
from lesionlens.training.config import TrainConfig, parse_config
from lesionlens.training.data import FIRST_VALIDATION_SEED
from lesionlens.training.loop import train
from lesionlens.training.validate import dice
from research.attention.variants import CNN_ONLY, TRANSFORMER_ONLY
from research.common.cases import segmented_cases
from research.common.page import write_block
from research.common.progress import print_progress
from research.quality import development_cases

NETWORKS = ("base", CNN_ONLY, TRANSFORMER_ONLY)
REGIONS = ("wt", "tc", "et")
MARKER = "why attention"
_SUBSETS = ("all", "flair", "t1c")
_FIRST_SEED = FIRST_VALIDATION_SEED + 100_000
_SPACING = 3.0
_SHAPE = (56, 70, 56)


def training_config(network: str, steps: int, seed: int) -> TrainConfig:
    """Return the training configuration: 3 mm, whole brains, one process: the same data for all."""
    stage = {"steps": steps, "shape": list(_SHAPE), "spacing_mm": [2.7, 3.4], "batch": 2}
    return parse_config(
        {
            "network": network,
            "seed": seed,
            "checkpoint_minutes": 5.0,
            "validation_volumes": 0,
            "data": {"workers": 0},
            "optimiser": {"rate": 3e-3, "average": 0.98},
            "loss": {"lesions": 0.0},  # the variants have no lesion queries
            "stages": [stage | {"rate": [1.0, 0.05]}],
        }
    )


def train_network(network: str, options: argparse.Namespace) -> dict[str, Any]:
    """Train one network, resuming an interrupted run; return its weights and CPU seconds."""
    out = options.out / f"{network}-{options.seed}"
    clock = out / "cpu.json"
    cpu_seconds = json.loads(clock.read_text("utf-8")) if clock.is_file() else 0.0
    started = time.process_time()
    config = training_config(network, options.steps, options.seed)
    summary = train(
        config, out, on_step=lambda e: print_progress(f"{network}: {e.step}, {e.loss:.3f}")
    )
    cpu_seconds += time.process_time() - started
    clock.write_text(json.dumps(cpu_seconds), "utf-8")
    return {"weights": summary.weights, "steps": summary.step, "cpu_seconds": cpu_seconds}


@torch.no_grad()
def evaluate_synthetic(network: LensNetwork, volumes: int) -> dict[str, list[float]]:
    """Return the Dice of each region on held-out synthetic volumes with tumour."""
    grid = GeneratorConfig(shape=_SHAPE, spacing_mm=(_SPACING, _SPACING), tumour_free=0.0)
    scores: dict[str, list[float]] = {region: [] for region in REGIONS}
    for index in range(volumes):
        batch = draw(grid, [_FIRST_SEED + index])
        x = with_presence(batch.zscored, torch.ones(1, 4), batch.brain)
        with torch.autocast("cpu", torch.bfloat16):
            masks = network(x.contiguous(memory_format=torch.channels_last_3d)).logits[0] > 0
        reference = batch.labels[0] > 0
        for number, region in enumerate(REGIONS):
            scores[region].append(dice(masks[number], reference[number]))
    return scores


def evaluate_real(network: LensNetwork, data: Path) -> dict[str, dict[str, list[float]]]:
    """Return the Dice of each real case, by subset of the sequences and region."""
    cases = segmented_cases(data)
    out = {}
    for name in _SUBSETS:
        rows = [
            development_cases.score(network, f, [_SPACING], development_cases.SUBSETS[name], 0.5)
            for f in cases
        ]
        out[name] = {region: [float(row[region]) for row in rows] for region in REGIONS}
    return out


def mean_text(values: list[float]) -> str:
    """Return a mean with its confidence interval."""
    bounds = interval(values)
    bounds_text = f" ({bounds.low:.2f} to {bounds.high:.2f})" if bounds else ""
    return f"{np.mean(values):.3f}{bounds_text}"


def table(results: dict[str, dict[str, Any]], options: argparse.Namespace) -> str:
    """Return both tables in Markdown."""
    head = (
        f"{options.steps} steps of two volumes at about 3 mm, seed {options.seed}, "
        "the same volumes for all; "
        f"scored on {options.volumes} synthetic volumes with tumour, with all sequences. "
        "Mean Dice, 95% "
        "bootstrap interval over volumes; the difference is paired, volume by volume."
    )
    lines = [head, "", "| network | M par. | CPU s a step | WT | TC | ET |"]
    lines += ["|---|---:|---:|---|---|---|"]
    for name, result in results.items():
        cells = [mean_text(result["drawn"][region]) for region in REGIONS]
        figures = (
            f"{result['parameters'] / 1e6:.2f} | {result['cpu_seconds'] / result['steps']:.2f}"
        )
        lines.append(f"| {name} | {figures} | {' | '.join(cells)} |")
    first = results[NETWORKS[0]]["drawn"]
    for name in NETWORKS[1:]:
        gain = [
            mean_text([x - y for x, y in zip(first[r], results[name]["drawn"][r], strict=True)])
            for r in REGIONS
        ]
        lines.append(f"| {NETWORKS[0]} minus {name} | | | {' | '.join(gain)} |")
    if "real" in results[NETWORKS[0]]:
        lines += ["", "Real development cases, mean Dice at 1 mm:", ""]
        lines += ["| network | sequences | WT | TC | ET |", "|---|---|---:|---:|---:|"]
        for name, result in results.items():
            for subset, by_region in result["real"].items():
                cells = [f"{np.mean(by_region[region]):.3f}" for region in REGIONS]
                if subset == "flair":
                    cells[2] = ""
                lines.append(f"| {name} | {subset} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Train, evaluate, print."""
    shape = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=shape)
    parser.add_argument("--out", type=Path, required=True, help="folder for the three runs")
    parser.add_argument("--data", type=Path, help="real cases, as for development_cases.py")
    parser.add_argument("--results", type=Path, help="page that gets the table")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--volumes", type=int, default=60)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    results: dict[str, dict[str, Any]] = {}
    for name in NETWORKS:
        training = train_network(name, options)
        network, _ = weights.load(training.pop("weights"))
        count = sum(p.numel() for p in network.parameters())
        results[name] = training | {
            "parameters": count,
            "drawn": evaluate_synthetic(network, options.volumes),
        }
        if options.data is not None:
            results[name]["real"] = evaluate_real(network, options.data)
        (options.out / "found.json").write_text(json.dumps(results, indent=1), "utf-8")
        means = {r: round(float(np.mean(v)), 3) for r, v in results[name]["drawn"].items()}
        print_progress(f"{name}: {means}")
    text = table(results, options)
    print(text)
    if options.results is not None:
        write_block(options.results, MARKER, text)


if __name__ == "__main__":
    main()
