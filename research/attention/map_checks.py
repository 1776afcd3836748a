"""Measure the value of the attention maps of given weights; write figures and one picture.

    python -m research.attention.map_checks --data CASES --json OUT.json --plot OUT.png
    python -m research.attention.map_checks --label-randomisation 300 --json OUT.json --plot OUT.png

A case is a folder with any of t1, t1c, t2, flair and seg as .nii.gz. Measured for each: whether the
peak of a candidate's map lies inside it, the share of attention in the reference, insertion against
random and centred baselines, deletion, whether removing the most relevant sequence lowers the score
most, the cost of the explanations beside that of the network, and the time of a probe. Then sanity
checks after Adebayo et al. 2018 (arXiv:1810.03292): the map must change when weights are
randomised, part after part from the queries down (section 4.1), and when a network is trained on
labels of other brains (section 4.2, two tiny networks on synthetic brains at 4 mm); and it must
not change when the image is only slightly noisier.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import tempfile
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from scipy.stats import spearmanr
from typing_extensions import override

from lesionlens.analysis.explain import shapley
from lesionlens.base.labels import MrSequence, Region
from lesionlens.base.records.prediction import InputPerturbation
from lesionlens.base.records.study import PreparedStudy
from lesionlens.engines import network_input as ready
from lesionlens.engines.device import has_fast_bfloat16
from lesionlens.engines.lens.engine import LensEngine
from lesionlens.imaging.reading.readers import open_study
from lesionlens.network import weights as weight_files
from lesionlens.network.build import build
from lesionlens.network.model import LensNetwork, channels_last
from lesionlens.network.normalise import with_presence
from lesionlens.network.shipped_weights import shipped_path
from lesionlens.network.synth.generator import SyntheticBatch, draw
from lesionlens.results.lens import Lens
from lesionlens.results.result import Result
from lesionlens.training.config import DataConfig, StageConfig, TrainConfig
from lesionlens.training.data import FIRST_VALIDATION_SEED, Batch, SynthSource
from lesionlens.training.loop import TrainOptions, train
from lesionlens.training.trained_cases import TrainedCases
from research.common.cases import sequence_files

CPU = torch.device("cpu")
NOISE = (0.05, 0.1, 0.2, 0.4, 0.8)
"""Levels, in deviations of each sequence in the brain."""
PARTS = ("queries", "decoder", "encoder")
"""Randomised cumulatively, from the output towards the input."""
_TRUST_KEYS = ("kept", "kept_random", "kept_centre", "deletion")
_RANDOM_SEED = 1
_STAGE = StageConfig(steps=300, shape=(40, 48, 38), spacing_mm=(3.8, 4.2), batch=3)
_HELD_OUT = 24
_REGION_LABELS = {Region.WT: (1, 2, 3, 4), Region.TC: (1, 3, 4), Region.ET: (3, 4)}
"""Labels of BraTS, old and new."""


class TimedEngine:
    """An engine whose CPU seconds are counted; other load hardly changes them."""

    def __init__(self, engine: LensEngine) -> None:
        self._engine, self.network_s, self.perturbed_s = engine, 0.0, 0.0
        self.info, self.perturbation_grid = engine.info, engine.perturbation_grid
        self.attribute = engine.attribute

    def predict(self, *args: Any, **kwargs: Any) -> Any:
        """Predict with the engine, and count the time."""
        started = time.process_time()
        prediction = self._engine.predict(*args, **kwargs)
        self.network_s += time.process_time() - started
        return prediction

    def predict_perturbed(self, *args: Any, **kwargs: Any) -> Any:
        """Predict perturbed inputs with the engine, and count the time."""
        started = time.process_time()
        predictions = self._engine.predict_perturbed(*args, **kwargs)
        self.perturbed_s += time.process_time() - started
        return predictions


def attention_map(network: LensNetwork, x: torch.Tensor) -> np.ndarray:
    """Return the (I, J, K) whole-tumour attention for a (1, 8, I, J, K) input."""
    x = x.to(memory_format=torch.channels_last_3d)
    fast = has_fast_bfloat16(CPU)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=fast):
        attention: torch.Tensor = network(x).attention[0, 0]
        return attention.float().numpy()


def rank_correlation(first: np.ndarray, second: np.ndarray, brain: np.ndarray) -> float:
    """Return the rank correlation in the brain, over every second voxel along each axis."""
    stride = (slice(None, None, 2),) * 3
    inside = brain[stride]
    return float(spearmanr(first[stride][inside], second[stride][inside]).statistic)


def add_noise(study: ready.NetworkInput, level: float) -> torch.Tensor:
    """Return the input with Gaussian noise in the brain; z-scores have a deviation of one."""
    noise = torch.randn(study.channels.shape, generator=torch.Generator().manual_seed(0))
    channels = study.channels + level * noise * study.brain[:, None]
    x: torch.Tensor = dataclasses.replace(study, channels=channels).input_of(InputPerturbation())
    return x


def randomise_parts(network: LensNetwork) -> list[LensNetwork]:
    """Return copies of the network with more and more of `PARTS` as before training."""
    torch.manual_seed(_RANDOM_SEED)
    untrained = build(network.config).state_dict()
    state, networks = dict(network.state_dict()), []
    for part in PARTS:
        for name in state:
            is_remaining_query = part == "queries" and not name.startswith(PARTS[1:])
            if is_remaining_query or name.startswith(part):
                state[name] = untrained[name]
        network_copy = channels_last(build(network.config)).eval()
        network_copy.load_state_dict(state)
        networks.append(network_copy)
    return networks


def robustness(network: LensNetwork, prepared: PreparedStudy, spacing_mm: float) -> dict[str, Any]:
    """Return the map's rank correlation with those of noisier images and of random weights."""
    study = ready.make_network_input(prepared, spacing_mm, CPU)
    brain = study.brain[0].numpy()
    trained_map = attention_map(network, study.input_of(InputPerturbation()))
    random_networks = [
        attention_map(random_network, study.input_of(InputPerturbation()))
        for random_network in randomise_parts(network)
    ]
    return {
        "alike_noisy": [
            rank_correlation(trained_map, attention_map(network, add_noise(study, s)), brain)
            for s in NOISE
        ],
        "alike_random": [
            rank_correlation(trained_map, random_map, brain) for random_map in random_networks
        ],
    }


def top_sequence_checks(result: Result) -> list[dict[str, bool]]:
    """Return for each candidate whether omitting its most relevant sequence lowers its score most.

    And whether the report names that sequence as the deciding one.
    """
    rows = []
    for candidate in result.candidates:
        relevance, score_left_out = candidate.sequence_relevance, candidate.score_left_out
        if relevance is None or score_left_out is None:
            continue
        shares = {s: share for s in MrSequence if (share := relevance[s.value]) is not None}
        scores = {s: score for s in shares if (score := score_left_out[s.value]) is not None}
        if len(shares) < 2:
            continue
        top = max(shares, key=shares.__getitem__)
        hurts = scores[top] <= min(scores.values()) + 1e-6
        rows.append({"hurts": hurts, "named": shapley.deciding_sequence(relevance) is not None})
    return rows


def probe_ms(result: Result) -> float:
    """Return the median milliseconds of five probes, from native voxel to native map."""
    prepared = result.analysis.prepared
    voxels = np.argwhere(prepared.brain)
    times = []
    for n in np.linspace(0, len(voxels) - 1, 7).astype(int)[1:-1]:
        native_voxel = prepared.to_native @ np.append(voxels[n], 1)
        start = time.process_time()
        i, j, k = np.rint(native_voxel[:3]).astype(int).tolist()
        result.probe((i, j, k))
        times.append(1000 * (time.process_time() - start))
    return float(np.median(times))


def _map_agreement(attention: np.ndarray, mask: np.ndarray) -> tuple[float | None, bool | None]:
    """Return the share of a map inside a mask, and whether its peak is; None if it is empty."""
    if not mask.any():
        return None, None
    peak = np.unravel_index(int(attention.argmax()), attention.shape)
    return float(attention[mask].sum() / max(float(attention.sum()), 1e-9)), bool(mask[peak])


def check_case(engine: LensEngine, network: LensNetwork, spacing_mm: float, folder: Path
               ) -> dict[str, Any]:  # fmt: skip
    """Return everything measured on one case."""
    timed_engine = TimedEngine(engine)
    result = Lens(engine=timed_engine)(open_study(folder, named=sequence_files(folder)))
    prepared, analysis = result.analysis.prepared, result.analysis
    assert analysis.maps is not None
    checks = analysis.maps.checks[Region.WT]
    row: dict[str, Any] = {
        "case": folder.name,
        "candidates": len(result.candidates),
        "peaks_inside": [c.attention.peak_inside for c in result.candidates],
        **{
            k: v
            for k, v in dataclasses.asdict(checks).items()
            if k.startswith(("kept", "del", "r"))
        },
        "relevance": [dict(c.sequence_relevance or {}) for c in result.candidates],
        "top_sequence_hurts_most": top_sequence_checks(result),
        "score_left_out": [dict(c.score_left_out or {}) for c in result.candidates],
        "network_cpu_s": timed_engine.network_s,
        "looks_cpu_s": timed_engine.perturbed_s,
        "probe_ms": probe_ms(result),
    }
    if (folder / "seg.nii.gz").is_file():
        labels = np.asarray(nib.load(folder / "seg.nii.gz").dataobj)
        for region in Region:
            row[f"mass_in_{region.value}"], row[f"peak_in_{region.value}"] = _map_agreement(
                result.attention[region].data, np.isin(labels, _REGION_LABELS[region])
            )
        row["volume_share"] = float((labels > 0).sum() / max(1, int(prepared.brain.sum())))
    return row | robustness(network, prepared, spacing_mm)


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return figures over all cases."""
    peaks = [p for r in rows for p in r["peaks_inside"]]
    tops = [t for r in rows for t in r["top_sequence_hurts_most"]]
    is_clearly_better = [r["kept"] >= r["kept_random"] + 0.5 for r in rows if r["kept"] is not None]

    def mean(key: str) -> Any:
        values = [r[key] for r in rows if r.get(key) is not None]
        return np.round(np.mean(values, axis=0), 3).tolist() if values else None

    def share(flags: list[bool]) -> str:
        return f"{sum(flags)}/{len(flags)}"

    peaks_in = [f"peak_in_{region.value}" for region in Region]
    keys = ("mass_in_wt", "mass_in_tc", "mass_in_et", "volume_share",
            *_TRUST_KEYS, "probe_ms", "alike_noisy", "alike_random")  # fmt: skip
    return {
        "peak_inside": share(peaks),
        **{key: share([row[key] for row in rows if row.get(key) is not None]) for key in peaks_in},
        "kept_leads_random_by_half": share(is_clearly_better),
        "top_sequence_hurts_most": share([t["hurts"] for t in tops]),
        "top_sequence_hurts_most_where_named": share([t["hurts"] for t in tops if t["named"]]),
        "explanations_per_network_cpu": round(
            sum(r["looks_cpu_s"] for r in rows) / sum(r["network_cpu_s"] for r in rows), 2
        ),
        **{key: mean(key) for key in keys},
        "noise": NOISE,
        "made_random": PARTS,
    }


class _SyntheticCases:
    """Synthetic brains; with `mixed`, each with the tumour labels of another one."""

    def __init__(self, *, mixed: bool) -> None:
        self._mixed = mixed
        self.training: TrainedCases = {}

    def in_training_data(self, trained_on: Collection[str]) -> tuple[str, ...]:
        return ()

    def source(
        self, stage: StageConfig, config: DataConfig, seed: int, completed: int
    ) -> SynthSource:
        kind = _ShuffledLabels if self._mixed else SynthSource
        return kind(TrainConfig((stage,)).draw, stage, config, 7_000_000 + seed, completed)

    def validate(self, *_: Any) -> dict[str, float]:
        return {}


class _ShuffledLabels(SynthSource):
    @override
    def batch(self, size: int) -> Batch:
        batch = super().batch(size)
        inside = batch.brain.to(batch.labels.dtype)
        return batch._replace(
            labels=batch.labels.roll(1, 0) * inside[:, None],
            instances=batch.instances.roll(1, 0) * inside,
        )


def label_randomisation(steps: int) -> dict[str, Any]:
    """Train two tiny networks equally, one on labels of other brains; compare their maps."""
    stage = dataclasses.replace(_STAGE, steps=steps, rate=(1.0, 0.1))
    started = time.process_time()
    networks = {}
    for name, mixed in (("true_labels", False), ("labels_of_others", True)):
        config = TrainConfig((stage,), network="tiny", data=DataConfig(workers=0, complete=1.0))
        with tempfile.TemporaryDirectory() as out:
            training = train(config, Path(out), TrainOptions(cases=_SyntheticCases(mixed=mixed)))
            networks[name] = weight_files.load(training.weights)[0]
    torch.manual_seed(_RANDOM_SEED)
    networks["untrained"] = channels_last(build(networks["true_labels"].config)).eval()
    grid = dataclasses.replace(
        TrainConfig((stage,)).draw, shape=stage.shape, spacing_mm=stage.spacing_mm
    )
    rows = [
        row
        for seed in range(FIRST_VALIDATION_SEED, FIRST_VALIDATION_SEED + _HELD_OUT)
        if (row := _held_out(networks, draw(grid, [seed])))
    ]
    return {
        "steps": steps,
        "held_out_with_tumour": len(rows),
        **{key: round(float(np.mean([row[key] for row in rows])), 3) for key in rows[0]},
        "brains": rows,
        "cpu_s": round(time.process_time() - started),
    }


def _held_out(networks: dict[str, LensNetwork], batch: SyntheticBatch) -> dict[str, float] | None:
    """Return the share of each map in the tumour of a synthetic brain; None without a tumour."""
    inside, brain = batch.labels[0, 0].numpy() > 0, batch.brain[0].numpy()
    if not inside.any():
        return None
    x = with_presence(batch.zscored, torch.ones(1, 4, dtype=torch.bool), batch.brain)
    maps = {name: attention_map(network, x) for name, network in networks.items()}
    mass_by_network = {name: float(attention[inside].sum()) for name, attention in maps.items()}
    uniform_mass = float(inside.sum() / brain.sum())
    correlation = rank_correlation(maps["true_labels"], maps["labels_of_others"], brain)
    return {**mass_by_network, "even_look": uniform_mass, "alike": correlation}


def plot_label_randomisation(figures: dict[str, Any], path: Path) -> None:
    """Plot the share of each map in the tumour, a thin line for each brain; a small PNG."""
    figure = Figure(figsize=(5.4, 2.8), layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    keys = ("true_labels", "labels_of_others", "untrained", "even_look")
    for brain in figures["brains"]:
        axis.plot([brain[key] for key in keys], range(4), color="#bbbbbb", lw=0.8, marker=".")
    axis.plot([figures[key] for key in keys], range(4), color="#0072b2", marker="o", lw=0, ms=6)
    axis.set_yticks(range(4), ["true labels", "labels of others", "untrained", "uniform attention"])
    axis.invert_yaxis()
    axis.set(xlim=(0, 1), xlabel="share of the attention that lies in the tumour")
    axis.set_title(f"trained on {figures['steps']} steps of synthetic brains at 4 mm", fontsize=9)
    figure.savefig(path, dpi=100, format="png")


def plot_robustness(figures: dict[str, Any], rows: list[dict[str, Any]], path: Path) -> None:
    """Plot both curves of the maps' robustness, a thin line for each case; a small PNG."""
    figure = Figure(figsize=(7, 2.8), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, sharey=True)
    levels, parts = [0.0, *NOISE], ["trained", *(f"+ {part}" for part in PARTS)]
    for axis, key, positions in ((left, "alike_noisy", levels), (right, "alike_random", range(4))):
        for row in rows:
            axis.plot(positions, [1.0, *row[key]], color="#bbbbbb", lw=0.8)
        axis.plot(positions, [1.0, *figures[key]], color="#0072b2", marker="o", ms=4)
        axis.axhline(0, color="#777777", lw=0.6)
        axis.set_ylim(-0.4, 1.05)
    left.set(xlabel="noise (deviations in the brain)", ylabel="rank correlation of the map")
    left.set_title("noisier images: should stay near 1", fontsize=9)
    right.set_xticks(range(4), parts, fontsize=8)
    right.set_xlabel("made random, one after the other")
    right.set_title("random weights: should fall to 0", fontsize=9)
    figure.savefig(path, dpi=100, format="png")


def main() -> int:
    """Read the arguments, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--label-randomisation", type=int, metavar="STEPS")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    content: dict[str, Any] = {}
    if options.data:
        engine = LensEngine("cpu", options.weights)
        path = options.weights or shipped_path()
        network, info = weight_files.load(path)
        rows = []
        for folder in sorted(p for p in options.data.iterdir() if p.is_dir()):
            rows.append(check_case(engine, network, info.spacing_mm, folder))
            print(json.dumps(rows[-1]), flush=True)
        content |= {"weights": info.version, "cases": rows, "summary": summary(rows)}
        if options.plot:
            plot_robustness(content["summary"], rows, options.plot)
    if options.label_randomisation:
        content["label_randomisation"] = label_randomisation(options.label_randomisation)
        if options.plot and not options.data:
            plot_label_randomisation(content["label_randomisation"], options.plot)
    for name, section in content.items():
        if isinstance(section, dict):
            print(name, json.dumps({k: v for k, v in section.items() if k != "brains"}, indent=1))
    if options.json:
        options.json.write_text(json.dumps(content, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
