r"""Compare the class probabilities of the network between tumour candidates and others.

    python -m research.kinds.class_probabilities --data CASES --weights synthetic --patients 60 \
        --kept OUT.jsonl

Synthetic heads with seeds not used in training, generated as for calibration (many lack sequences),
and real cases by four subsets of their sequences. OUT.jsonl gets one line per scan; scans in it are
not measured again. Printed: for each bound on the probability of tumour, the numbers of tumours
and of false candidates at or below it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lesionlens.analysis.evaluation.label_conventions import read_conventions
from lesionlens.analysis.findings.class_probabilities import of_component
from lesionlens.analysis.findings.component_scores import score_components
from lesionlens.analysis.findings.components import CandidateCriteria, segment_components
from lesionlens.base.labels import LesionClass, MrSequence
from lesionlens.base.records.study import PreparedStudy
from lesionlens.base.run_context import SILENT
from lesionlens.engines import native_grid
from lesionlens.engines.lens.engine import LensEngine
from lesionlens.imaging.preparation.prepare import prepare
from lesionlens.imaging.reading.readers import open_study
from lesionlens.network.synth.generator import GeneratorConfig, draw
from lesionlens.training.config import DataConfig
from lesionlens.training.data import sample_presence
from lesionlens.training.references import find_real_cases
from research.common.cases import resample_labels, restricted_to, sequence_files, subset_name
from research.training.calibration.calibrate import FIRST_SEED, prepared_of

ALL = frozenset(MrSequence)
SUBSETS = (ALL, ALL - {MrSequence.T1C}, frozenset({MrSequence.FLAIR}), frozenset({MrSequence.T2}))
WITHOUT_TUMOUR = ("healthy", "non_tumour_ms")
MIN_TUMOUR_FRACTION = 0.1
BOUNDS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5)
Rows = list[dict[str, Any]]
Scan = tuple[str, Callable[[], Rows]]


def candidate_rows(engine: LensEngine, study: PreparedStudy, reference: NDArray[np.bool_]) -> Rows:
    """Return a row for each candidate, flagged or not."""
    prediction = engine.predict(study, context=SILENT)
    probability = native_grid.resample_regions(prediction.probability, study, nested=True)
    segmented = segment_components(
        probability, study.native, CandidateCriteria(prediction.thresholds)
    )
    unperturbed = prediction.unperturbed
    if unperturbed is None or not segmented.count:
        return []
    scores = score_components(
        unperturbed, segmented.voxels_on(unperturbed.grid), prediction.scoring
    )[0]
    rows = []
    for component in segmented.parts():
        kinds = of_component(component, prediction.class_probabilities)
        score = float(scores[component.index])
        rows.append(
            {
                "score": round(score, 4),
                "flagged": score >= prediction.scoring.floor,
                "ml": round(component.volume_ml, 2),
                "tumour": bool(
                    reference[component.box][component.mask].mean() >= MIN_TUMOUR_FRACTION
                ),
                "kinds": {k.value: round(v, 4) for k, v in kinds.items()} if kinds else kinds,
            }
        )
    return rows


def synthetic_rows(engine: LensEngine, number: int) -> Rows:
    """Return the candidate rows of a synthetic head."""
    seed = FIRST_SEED + 10_000 + number
    batch = draw(GeneratorConfig((92, 112, 88), (2.0, 2.0), tumour_free=0.3), [seed])
    present = sample_presence(np.random.default_rng(seed), DataConfig())
    reference = batch.labels[0, 0].cpu().numpy() > 0
    return candidate_rows(engine, prepared_of(batch, present), reference)


def real_scans(engine: LensEngine, data: Path) -> Iterator[Scan]:
    """Yield the name and the measurement of every subset of every real case."""
    root = data / "tumour"
    cases = {c.name: c for c in find_real_cases(root, convention=read_conventions(None, root).of)}
    folders = [root / name for name in cases]
    folders += [path for name in WITHOUT_TUMOUR for path in sorted((data / name).iterdir())]
    for folder in folders:
        files = sequence_files(folder)
        cached: dict[str, Any] = {}

        def measure_scan(
            subset: frozenset[MrSequence], folder: Path, files: Any, cached: Any
        ) -> Rows:
            if not cached:
                cached["study"] = study = prepare(open_study(folder, named=files), SILENT)
                cached["reference"] = np.zeros(study.native.shape, bool)
                if folder.name in cases:
                    values, grid = cases[folder.name].reference()
                    cached["reference"] = resample_labels(values, grid, study.native) > 0
            return candidate_rows(
                engine, restricted_to(cached["study"], subset), cached["reference"]
            )

        for subset in dict.fromkeys(s & frozenset(files) for s in SUBSETS):
            name = f"{folder.name}, {subset_name(subset)}"
            yield name, partial(measure_scan, subset, folder, files, cached)


def table(rows_by_scan: dict[str, Rows], *, flagged: bool) -> str:
    """Return how many tumours and false candidates lie at or below each bound, in Markdown."""
    lines = ["| probability of tumour | tumours | false candidates |", "|---|---|---|"]
    selected = [row for rows in rows_by_scan.values() for row in rows if row["flagged"] == flagged]
    with_probabilities = [row for row in selected if row["kinds"]]
    for bound in (*BOUNDS, 1.0):
        at_or_below = [
            row["tumour"]
            for row in with_probabilities
            if row["kinds"][LesionClass.TUMOUR.value] <= bound
        ]
        lines.append(f"| <= {bound} | {sum(at_or_below)} | {len(at_or_below) - sum(at_or_below)} |")
    others = [row["tumour"] for row in selected if not row["kinds"]]
    lines.append(f"| no class probabilities | {sum(others)} | {len(others) - sum(others)} |")
    return "\n".join(lines)


def main() -> None:
    """Measure every scan; print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", default="synthetic")
    parser.add_argument("--patients", type=int, default=60)
    parser.add_argument("--kept", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows_by_scan: dict[str, Rows] = {}
    if options.kept.is_file():
        lines = options.kept.read_text().splitlines()
        rows_by_scan = {record["scan"]: record["rows"] for record in map(json.loads, lines)}
    engine = LensEngine("cpu", options.weights)
    heads: list[Scan] = [
        (f"synthetic {n}", partial(synthetic_rows, engine, n)) for n in range(options.patients)
    ]
    for name, measure_scan in (*heads, *real_scans(engine, options.data)):
        if name not in rows_by_scan:
            rows_by_scan[name] = measure_scan()
            with options.kept.open("a") as stream:
                stream.write(json.dumps({"scan": name, "rows": rows_by_scan[name]}) + "\n")
    for kind in ("synthetic", "real"):
        selected = {
            n: r
            for n, r in rows_by_scan.items()
            if n.startswith("synthetic") == (kind == "synthetic")
        }
        for flagged in (True, False):
            heading = "flagged" if flagged else "below the threshold"
            print(
                f"\n{kind}, {len(selected)} scans, {heading}:\n\n{table(selected, flagged=flagged)}"
            )


if __name__ == "__main__":
    main()
