"""Measure what the attention of the default weights is worth, on real development cases.

    python bench/attention_checks.py --data CASES [--weights W.safetensors] [--json OUT.json]

A case is a folder with any of t1, t1c, t2, flair and seg as .nii.gz. For each: does the peak of a
candidate's map lie inside it, how much of the attention lies in the drawn tumour, deletion and
insertion against random and centred baselines, whether removing the most relevant sequence hurts
the score most, what the explanations cost beside the network, and the time of a probe. Then two
sanity checks after Adebayo et al. 2018: the maps must change when the weights are random, and
must not when the image is only a little noisier.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import json
import sys
import time
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from scipy.stats import spearmanr

from lesionlens.base.labels import MrSequence, Region
from lesionlens.base.stages import NEVER, no_progress
from lesionlens.explain import maps, relevance
from lesionlens.explain.questions import present_in
from lesionlens.findings.components import marked_of, spots_of
from lesionlens.inference.engines.own import LensEngine
from lesionlens.lens import Lens, Result
from lesionlens.records.prediction import Variant
from lesionlens.records.study import PreparedStudy
from lesionlens.study.readers import open_study

NOISE = 0.05
"""Of each sequence's deviation in the brain."""
_RANDOM_SEED = 1


def whole_map(engine: LensEngine, prepared: PreparedStudy) -> np.ndarray:
    """(I, J, K) attention of the whole tumour, in multiples of an even look."""
    said = engine.predict(prepared, progress=no_progress, cancel=NEVER)
    return maps.relative(said.trace.cross[Region.WT], prepared.brain)


def alike(one: np.ndarray, two: np.ndarray, brain: np.ndarray) -> float:
    """Rank correlation in the brain, on every third voxel along each axis."""
    part = (slice(None, None, 3),) * 3
    inside = brain[part]
    return float(spearmanr(one[part][inside], two[part][inside]).statistic)


def noisier(prepared: PreparedStudy) -> PreparedStudy:
    """Return the study with a little Gaussian noise in the brain."""
    rng = np.random.default_rng(0)
    channels = prepared.channels.copy()
    for index in np.flatnonzero(prepared.present):
        deviation = float(channels[index][prepared.brain].std())
        noise = rng.normal(0, NOISE * deviation, channels[index].shape)
        channels[index] += (noise * prepared.brain).astype(np.float32)
    return dataclasses.replace(prepared, channels=channels)


def random_engine(engine: LensEngine) -> LensEngine:
    """Return the same engine with the weights as they are before training."""
    import torch  # noqa: PLC0415  (only this check needs it)

    from lesionlens.network.build import build  # noqa: PLC0415

    torch.manual_seed(_RANDOM_SEED)
    other = copy.copy(engine)
    fresh = build(engine.network.config).eval()
    other._network = fresh.to(memory_format=torch.channels_last_3d)  # noqa: SLF001
    other._last = None  # noqa: SLF001
    return other


def top_hurts_most(engine: LensEngine, result: Result) -> list[bool]:
    """Say for each candidate whether leaving out its most relevant sequence costs it most."""
    prepared = result.analysis.prepared
    present = present_in(prepared)
    if len(present) < 2 or not result.candidates:
        return []
    without = [Variant.showing(set(present) - {s}) for s in present]
    said = engine.glance(prepared, without, progress=no_progress, cancel=NEVER)
    spots = spots_of(marked_of(result.analysis.findings, prepared.native), said.grid)
    scoring = engine.predict(prepared, progress=no_progress, cancel=NEVER).scoring
    left = relevance.scores(said, spots, scoring)
    answers = []
    for n, candidate in enumerate(result.candidates):
        worth = [candidate.sequence_relevance[s.value] for s in present]
        answers.append(bool(left[int(np.argmax(worth)), n] <= left[:, n].min() + 1e-6))
    return answers


def probe_ms(result: Result) -> float:
    """Median milliseconds of five probes, from a native voxel to a native map."""
    prepared = result.analysis.prepared
    found = np.argwhere(prepared.brain)
    times = []
    for n in np.linspace(0, len(found) - 1, 7).astype(int)[1:-1]:
        place = prepared.to_native @ np.append(found[n], 1)
        start = time.perf_counter()
        result.probe(tuple(int(v) for v in np.rint(place[:3])))
        times.append(1000 * (time.perf_counter() - start))
    return float(np.median(times))


def check_case(lens: Lens, folder: Path) -> dict[str, Any]:
    """Everything measured on one case."""
    engine = lens.engine
    result = lens(open_study(folder, named={s: str(folder / f"{s}.nii.gz") for s in MrSequence
                                            if (folder / f"{s}.nii.gz").is_file()}))  # fmt: skip
    prepared, analysis = result.analysis.prepared, result.analysis
    seconds = {s.name: s.seconds for s in analysis.run.stages}
    trust = analysis.maps.trust[Region.WT]
    row: dict[str, Any] = {
        "case": folder.name,
        "candidates": len(result.candidates),
        "peaks_inside": [c.attention.peak_inside for c in result.candidates],
        "reliable": trust.reliable,
        "deletion": trust.deletion,
        "deletion_random": trust.deletion_random,
        "deletion_centre": trust.deletion_centre,
        "insertion": trust.insertion,
        "insertion_random": trust.insertion_random,
        "top_sequence_hurts_most": top_hurts_most(engine, result),
        "network_s": seconds["network"],
        "explanations_s": seconds["explanations"],
        "probe_ms": probe_ms(result),
    }
    if (folder / "seg.nii.gz").is_file():
        drawn = np.asarray(nib.load(folder / "seg.nii.gz").dataobj) > 0
        shown = result.attention[Region.WT].data
        row["mass_in_tumour"] = float(shown[drawn].sum() / max(float(shown.sum()), 1e-9))
        row["volume_share"] = float(drawn.sum() / max(1, int(prepared.brain.sum())))
    own = whole_map(engine, prepared)
    row["alike_noisy"] = alike(own, whole_map(engine, noisier(prepared)), prepared.brain)
    row["alike_random"] = alike(own, whole_map(random_engine(engine), prepared), prepared.brain)
    return row


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Figures over all cases."""
    peaks = [p for r in rows for p in r["peaks_inside"]]
    tops = [t for r in rows for t in r["top_sequence_hurts_most"]]
    halves = [
        r["deletion"] <= 0.5 * r["deletion_random"] for r in rows if r["deletion"] is not None
    ]

    def mean(key: str) -> float | None:
        values = [r[key] for r in rows if r.get(key) is not None]
        return round(float(np.mean(values)), 3) if values else None

    def share(flags: list[bool]) -> str:
        return f"{sum(flags)}/{len(flags)}"

    keys = ("mass_in_tumour", "volume_share", "deletion", "deletion_random", "deletion_centre",
            "insertion", "insertion_random", "probe_ms", "alike_noisy", "alike_random")  # fmt: skip
    return {
        "peak_inside": share(peaks),
        "deletion_at_most_half_of_random": share(halves),
        "top_sequence_hurts_most": share(tops),
        "explanations_per_network": round(
            sum(r["explanations_s"] for r in rows) / sum(r["network_s"] for r in rows), 2
        ),
        **{key: mean(key) for key in keys},
    }


def main() -> int:
    """Read the arguments, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    lens = Lens("auto", weights=options.weights)
    rows = []
    for folder in sorted(p for p in options.data.iterdir() if p.is_dir()):
        rows.append(check_case(lens, folder))
        print(json.dumps(rows[-1]), flush=True)
    found = summary(rows)
    print(json.dumps(found, indent=1))
    if options.json:
        options.json.write_text(json.dumps({"cases": rows, "summary": found}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
