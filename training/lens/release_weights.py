r"""Calibrate a run's averaged weights and add them to the package.

    python -m training.lens.release_weights runs/default --version 2 --patients 300 \
        --workers 2 --minutes 12 --focus 1.3

Scores are fitted on synthetic patients, and with `--folds` also on real ones, each examined with
the weights of a run that left the patient out:

    python -m training.lens.release_weights runs/fold? --mean-with synthetic.safetensors \
        --share 0.5 --folds runs/fold? --cases CASES --version 3

Several runs are averaged; their mean may in turn be averaged with the weights that they started
from. Resumes an interrupted calibration: the results of each patient are stored in RUN/calibration.
`--minutes` limits the examination; the fit uses the patients examined by then. Prints the fitted
values, with the reliability of candidates' scores on patients not fitted on. The weights are
written to `src/lesionlens/network/weight_files/`, but with `--dry`.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lesionlens.analysis.evaluation.label_conventions import read_conventions
from lesionlens.base.errors import LesionLensError, WeightsError
from lesionlens.base.run_context import RunContext
from lesionlens.network import weights
from lesionlens.network.lens_net import LensNetwork
from lesionlens.network.weights import DEFAULT_NAME, SHIPPED, WeightsNotes
from lesionlens.training.references import RealCase, find_real_cases
from training.common import print_progress
from training.lens import calibrate as fitting
from training.lens import scoring
from training.lens.calibrate import (
    Calibration,
    CalibrationEffort,
    CalibrationJob,
    ExaminedScan,
    Voxels,
)
from training.lens.held_out import SUBSETS, Fold, examine_folds
from training.synth.generator import GeneratorConfig

TARGET = Path(__file__).resolve().parents[2] / "src/lesionlens/network/weight_files"
_ONES = (1.0, 1.0, 1.0)
_FIELD_MM = (168.0, 208.0, 168.0)


def release(source: Path, notes: WeightsNotes, folder: Path, name: str = DEFAULT_NAME) -> str:
    """Write ``NAME.safetensors`` (half precision) and ``NAME.json`` (its hash).

    Parameters
    ----------
    folder : Path
        ``src/lesionlens/network/weight_files`` of a checkout.
    name : str
        One of `network.weights.SHIPPED`.

    Returns
    -------
    str
        The SHA-256 of the written file.
    """
    network, _ = weights.load(source)
    path = folder / f"{name}.safetensors"
    digest = weights.save(path, network.config, network.state_dict(), notes, dtype=torch.float16)
    record = {"file": path.name, "sha256": digest, "version": notes.version}
    path.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n", "utf-8")
    return digest


def parse_options() -> argparse.Namespace:
    """Read the command line."""
    shape = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=shape)
    parser.add_argument(
        "run", type=Path, nargs="+", help="folder of a training run, or its weights"
    )
    parser.add_argument("--version", required=True)
    parser.add_argument("--name", default="default", choices=SHIPPED)
    parser.add_argument("--spacing", type=float, default=2.0, help="mm, of the first pass")
    parser.add_argument("--focus", type=float, help="mm, of the refined patches; none by default")
    parser.add_argument(
        "--mean-with", type=Path, help="weights to average with, also for the folds"
    )
    parser.add_argument(
        "--share", type=float, default=0.5, help="weight of the runs in that average"
    )
    parser.add_argument(
        "--folds", type=Path, nargs="*", default=[], help="runs with held-out cases"
    )
    parser.add_argument("--cases", type=Path, help="folder of the cases of the folds")
    parser.add_argument("--patients", type=int, default=300)
    parser.add_argument(
        "--warm-up", type=int, default=fitting.TEMPERATURE_PATIENTS, help="for temperatures"
    )
    parser.add_argument(
        "--drawn-mm", type=float, help="voxels of synthetic patients; as the finest grid"
    )
    parser.add_argument("--workers", type=int, default=1, help="processes of one thread")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="for the patients")
    parser.add_argument(
        "--thresholds", type=float, nargs=3, default=(0.5, 0.4, 0.3), help="WT, TC, ET"
    )
    parser.add_argument(
        "--most-false", type=float, default=scoring.MAX_FALSE, help="false candidates per scan"
    )
    parser.add_argument("--recipe", default="default", help="for the record")
    parser.add_argument("--target", type=Path, default=TARGET)
    parser.add_argument("--dry", action="store_true", help="fit and print only")
    return parser.parse_args()


def weights_in(run: Path) -> Path:
    """Return the weights of a run's folder, or the file itself."""
    return run / "weights.safetensors" if run.is_dir() else run


def mean_of(sources: list[tuple[Path, float]]) -> LensNetwork:
    """Average weights of one architecture, which often performs better than any of them.

    Weights fine-tuned from common ones are in the same basin of the loss, and their mean is closer
    to its centre (Wortsman et al. 2022, arXiv 2203.05482).

    Parameters
    ----------
    sources : sequence of (Path, float)
        Weights and their coefficients, which sum to one; the configuration is the first one's.

    Raises
    ------
    WeightsError
        The networks differ.
    """
    network, info = weights.load(sources[0][0])
    total: dict[str, Tensor] = {}
    for path, coefficient in sources:
        loaded, other_info = weights.load(path)
        if info.config != other_info.config:
            raise WeightsError(
                found=f"{path.name}, weights of a different network from {sources[0][0].name}",
                expected="weights of one network",
                next_step="Average weights with the same initial weights",
            )
        state = loaded.state_dict()
        total = {n: total.get(n, torch.zeros(())) + coefficient * state[n] for n in state}
    network.load_state_dict(total)
    return network


def averaged_weights(
    runs: list[Path], arguments: argparse.Namespace
) -> tuple[LensNetwork, WeightsNotes]:
    """Return the runs' averaged weights, and their notes before the fit."""
    runs_weight = arguments.share if arguments.mean_with is not None else 1.0
    sources = [(weights_in(run), runs_weight / len(runs)) for run in runs]
    info = weights.load(sources[0][0])[1]
    provenance = dict(info.provenance) | {"recipe": arguments.recipe}
    if len(runs) > 1:
        provenance["runs"], provenance["data"] = len(runs), _trained_on(runs) or provenance["data"]
    if arguments.mean_with is not None:
        other_version = weights.load(arguments.mean_with)[1].version
        provenance["mean"] = (
            f"{runs_weight:g} of these runs, {1 - runs_weight:g} of version {other_version}"
        )
        sources.append((arguments.mean_with, 1 - runs_weight))
    network = mean_of(sources)
    notes = WeightsNotes(
        version=arguments.version,
        spacing_mm=arguments.spacing,
        focus_spacing_mm=arguments.focus,
        thresholds=(arguments.thresholds[0], arguments.thresholds[1], arguments.thresholds[2]),
        provenance=provenance,
        score=(0.0, 1.0, 0.0),
        score_floor=0.0,
    )
    return network, notes


def _trained_on(runs: list[Path]) -> str | None:
    """Return the number of real cases that runs were trained on, as text; None without."""
    splits = [run / "split.json" for run in runs]
    if not all(split.is_file() for split in splits):
        return None
    cases_by_patient: dict[str, list[str]] = {}
    for split in splits:
        cases_by_patient |= json.loads(split.read_text("utf-8"))["training"]
    cases = sum(len(names) for names in cases_by_patient.values())
    return f"synthetic, then {cases} real cases of {len(cases_by_patient)} patients"


def calibration_folder(runs: list[Path], arguments: argparse.Namespace) -> Path:
    """Return the folder of the examinations with exactly these weights and settings."""
    settings = repr((
        arguments.spacing, arguments.focus, tuple(arguments.thresholds), arguments.mean_with,
        arguments.share,
        arguments.folds, arguments.warm_up, arguments.drawn_mm,
    ))  # fmt: skip
    weights_bytes = b"".join(weights_in(run).read_bytes() for run in runs)
    key = hashlib.sha256(weights_bytes + settings.encode()).hexdigest()[:12]
    folder = weights_in(runs[0]).parent / "calibration" / key
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def generator_config(arguments: argparse.Namespace) -> GeneratorConfig:
    """Return the generator's configuration, with voxels as fine as the finest grid."""
    spacing = arguments.drawn_mm or min(arguments.spacing, arguments.focus or arguments.spacing)
    nodes = [round(mm / spacing) for mm in _FIELD_MM]
    return GeneratorConfig(shape=(nodes[0], nodes[1], nodes[2]), spacing_mm=(spacing, spacing))


def folds_of(arguments: argparse.Namespace, temperature: tuple[float, float, float]) -> list[Fold]:
    """Return each fold's weights, prepared as the released ones, and its held-out cases."""
    if not arguments.folds:
        return []
    cases = find_real_cases(
        arguments.cases, convention=read_conventions(None, arguments.cases).of
    ).cases
    folds = []
    for run in arguments.folds:
        network, notes = averaged_weights([run], arguments)
        path = calibration_folder([run], arguments) / "weights.safetensors"
        notes = dataclasses.replace(notes, temperature=temperature)
        weights.save(path, network.config, network.state_dict(), notes)
        folds.append(Fold(path, _left_out(run, cases)))
    return folds


def _left_out(run: Path, cases: tuple[RealCase, ...]) -> tuple[RealCase, ...]:
    patients = json.loads((run / "split.json").read_text("utf-8"))["validation"]
    return tuple(case for case in cases if case.patient in patients)


def real_scans(
    arguments: argparse.Namespace, temperature: tuple[float, float, float]
) -> list[ExaminedScan]:
    """Return the examined scans of real patients, if there are folds."""
    cache = calibration_folder(arguments.run, arguments) / "real.jsonl"
    scans = list(fitting.read_scans(cache))
    if not scans:
        scans = [scan for scan, _ in examine_folds(folds_of(arguments, temperature))]
        fitting.append_scans(cache, scans)
    return scans


def temperatures(arguments: argparse.Namespace, folder: Path) -> tuple[float, float, float]:
    """Return the temperatures of an earlier run, or fit and store them."""
    path, temperature_path = folder / "weights.safetensors", folder / "temperature.json"
    if not temperature_path.is_file():
        network, notes = averaged_weights(arguments.run, arguments)
        weights.save(path, network.config, network.state_dict(), notes)
        real: list[Voxels] = [v for _, v in examine_folds(folds_of(arguments, _ONES), SUBSETS[:1])]
        job = CalibrationJob(path, generator_config(arguments))
        effort = CalibrationEffort(arguments.warm_up, arguments.workers)
        temperature_path.write_text(
            json.dumps(fitting.fit_temperatures(job, effort, real)), "utf-8"
        )
    whole, core, enhancing = json.loads(temperature_path.read_text("utf-8"))
    return whole, core, enhancing


def fitted_notes(arguments: argparse.Namespace) -> tuple[WeightsNotes, Calibration]:
    """Fit everything; return the notes for the weights, and the calibration."""
    network, notes = averaged_weights(arguments.run, arguments)
    folder = calibration_folder(arguments.run, arguments)
    notes = dataclasses.replace(notes, temperature=temperatures(arguments, folder))
    path = folder / "weights.safetensors"
    weights.save(path, network.config, network.state_dict(), notes)
    scans = fitting.examine(
        CalibrationJob(path, generator_config(arguments)),
        CalibrationEffort(arguments.patients, arguments.workers, arguments.minutes),
        folder / "patients.jsonl",
        RunContext(lambda stage, share: print_progress(f"{stage}: {share:.0%}")),
    )
    result = fitting.calibrate(
        scans + real_scans(arguments, notes.temperature), arguments.most_false
    )
    notes = dataclasses.replace(
        notes,
        score=result.score,
        score_floor=result.score_floor,
        operating_points=result.operating_points,
    )
    return notes, result


def table(result: Calibration, notes: WeightsNotes) -> str:
    """Return the fit, its reliability and its operating points in Markdown."""
    intercept, logit, volume = result.score
    whole, core, enhancing = notes.temperature
    even, odd = (np.round(score, 2).tolist() for score in result.cross_validation.score)
    scan_text, other_text = "all synthetic", "synthetic"
    if result.real:
        scan_text = f"synthetic but for those of {result.real} real patients, examined by folds"
        other_text = "synthetic and on the same real ones"
    lines = [
        f"Weights {notes.version}: {result.patients} held-out scans, {scan_text}; "
        f"{result.lesions} lesions, {result.candidates} candidates. Temperatures "
        f"{whole:.2f}/{core:.2f}/{enhancing:.2f} (WT/TC/ET), fitted on others that are "
        f"{other_text}; "
        f"calibration error of whole-tumour probability {result.voxel_error:.4f}. "
        f"A candidate's score is sigmoid({intercept:.2f} + {logit:.2f} mean logit + {volume:.2f} "
        f"ln ml); fitted on either half of the patients: {even}, {odd}. Below, each candidate is "
        f"scored by the fit on the other half: calibration error "
        f"{result.cross_validation.error:.3f}, Brier score {result.cross_validation.brier:.3f}.",
        "",
        "| score | candidates | predicted | true |",
        "|---|---:|---:|---:|",
    ]
    lines += [
        f"| {row['from']:.1f} to {row['to']:.1f} | {row['count']} "
        f"| {row['predicted']:.2f} | {row['true']:.2f} |"
        for row in result.cross_validation.bins
    ]
    lines += ["", "| score from | lesions found | false candidates per scan |", "|---|---:|---:|"]
    lines += [
        f"| {p['threshold']:.2f}{' (default)' if p['threshold'] == result.score_floor else ''} | "
        f"{p['sensitivity']:.2f} | {p['false_per_scan']:.2f} |"
        for p in result.operating_points
    ]
    return "\n".join(lines)


def main() -> None:
    """Calibrate and release."""
    arguments = parse_options()
    torch.set_num_threads(1)
    try:
        notes, result = fitted_notes(arguments)
    except LesionLensError as error:
        sys.exit(str(error))
    text = table(result, notes)
    print(text)
    if arguments.dry:
        return
    weights_path = calibration_folder(arguments.run, arguments) / "weights.safetensors"
    digest = release(weights_path, notes, arguments.target, arguments.name)
    print(f"\nReleased version {notes.version}, SHA-256 {digest}")


if __name__ == "__main__":
    main()
