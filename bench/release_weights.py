r"""Calibrate a run's averaged weights on drawn patients and make them the default weights.

    lesionlens train configs/default.toml --out runs/default
    python bench/release_weights.py runs/default --version 2 --patients 300 --workers 2 \
        --minutes 12 --focus 1.3 --t1-in-reserve

Goes on where it was stopped: what each patient showed is kept in RUN/calibration. `--minutes` ends
the looking, and the fit is made on the patients seen by then. Prints what was fitted, with the
reliability of candidates' scores on patients that the fit had not seen; `src/lesionlens/weights/`
gets the weights, and `bench/RESULTS.md` the table. `--dry` leaves both as they are.
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

from lesionlens.base.errors import LesionLensError
from lesionlens.benchmark.tables import put_between
from lesionlens.calibration import calibrate as fitting
from lesionlens.calibration.calibrate import Calibration, CalibrationEffort, CalibrationScan
from lesionlens.network import weights
from lesionlens.network.model import LensNetwork
from lesionlens.network.weights import WeightsNotes
from lesionlens.synth.draw import DrawConfig
from lesionlens.training.release import release

HERE = Path(__file__).resolve().parent
TARGET = HERE.parent / "src/lesionlens/weights"
_FIELD_MM = (168.0, 208.0, 168.0)


def options() -> argparse.Namespace:
    """Read the command line."""
    shape = argparse.RawDescriptionHelpFormatter
    p = argparse.ArgumentParser(description=__doc__, formatter_class=shape)
    p.add_argument("run", type=Path, help="folder of a training run, or its weights")
    p.add_argument("--version", required=True)
    p.add_argument("--spacing", type=float, default=2.0, help="mm, of the glance")
    p.add_argument("--focus", type=float, help="mm, of the second look; none without")
    p.add_argument("--patients", type=int, default=300)
    p.add_argument("--workers", type=int, default=1, help="processes of one thread")
    p.add_argument("--minutes", type=float, default=float("inf"), help="for the patients")
    p.add_argument("--thresholds", type=float, nargs=3, default=(0.5, 0.4, 0.3), help="WT, TC, ET")
    p.add_argument("--t1-in-reserve", action="store_true", help="see NetworkConfig")
    p.add_argument("--recipe", default="configs/default.toml", help="for the record")
    p.add_argument("--target", type=Path, default=TARGET)
    p.add_argument("--results", type=Path, default=HERE / "RESULTS.md")
    p.add_argument("--dry", action="store_true", help="fit and print only")
    return p.parse_args()


def adjusted(source: Path, a: argparse.Namespace) -> tuple[LensNetwork, WeightsNotes]:
    """Load a run's weights, and say what is known before anything is fitted."""
    network, info = weights.load(source)
    network.config = dataclasses.replace(network.config, t1_in_reserve=a.t1_in_reserve)
    about = dict(info.provenance) | {"recipe": a.recipe}
    notes = WeightsNotes(
        version=a.version,
        spacing_mm=a.spacing,
        focus_spacing_mm=a.focus,
        thresholds=(a.thresholds[0], a.thresholds[1], a.thresholds[2]),
        provenance=about,
        score=(0.0, 1.0, 0.0),
        score_floor=0.0,
    )
    return network, notes


def workplace(source: Path, a: argparse.Namespace) -> Path:
    """Return the folder of what was seen with exactly these weights and settings."""
    settings = repr((a.spacing, a.focus, tuple(a.thresholds), a.t1_in_reserve))
    key = hashlib.sha256(source.read_bytes() + settings.encode()).hexdigest()[:12]
    folder = source.parent / "calibration" / key
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def drawn_for(a: argparse.Namespace) -> DrawConfig:
    """Return the grid on which patients are drawn: as fine as the finest look."""
    spacing = min(a.spacing, a.focus or a.spacing)
    nodes = [round(mm / spacing) for mm in _FIELD_MM]
    return DrawConfig(shape=(nodes[0], nodes[1], nodes[2]), spacing_mm=(spacing, spacing))


def fitted_notes(source: Path, a: argparse.Namespace) -> tuple[WeightsNotes, Calibration]:
    """Fit everything; the notes that the weights travel with."""
    network, notes = adjusted(source, a)
    folder = workplace(source, a)
    path, heat = folder / "weights.safetensors", folder / "temperature.json"
    if not heat.is_file():
        weights.save(path, network.config, network.state_dict(), notes)
        job = CalibrationScan(path, drawn_for(a))
        found = fitting.fit_temperatures(job, CalibrationEffort(fitting.WARM_UP, a.workers))
        heat.write_text(json.dumps(found), "utf-8")
    whole, core, enhancing = json.loads(heat.read_text("utf-8"))
    notes = dataclasses.replace(notes, temperature=(whole, core, enhancing))
    weights.save(path, network.config, network.state_dict(), notes)
    seen = fitting.examine(
        CalibrationScan(path, drawn_for(a)),
        CalibrationEffort(a.patients, a.workers, a.minutes),
        folder / "patients.jsonl",
        lambda stage, share: print_to_stderr(f"{stage}: {share:.0%}"),
    )
    result = fitting.calibrate(seen)
    notes = dataclasses.replace(
        notes,
        score=result.score,
        score_floor=result.score_floor,
        operating_points=result.operating_points,
    )
    return notes, result


def print_to_stderr(text: str) -> None:
    """Tell how far it is."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def table(result: Calibration, notes: WeightsNotes) -> str:
    """Return the fit, its reliability and its operating points in Markdown."""
    intercept, logit, volume = result.score
    whole, core, enhancing = notes.temperature
    even, odd = (np.round(score, 2).tolist() for score in result.trial.score)
    lines = [
        f"Weights {notes.version}: {result.patients} drawn patients that no step has seen, "
        f"{result.lesions} lesions, {result.candidates} candidates. Temperatures "
        f"{whole:.2f}/{core:.2f}/{enhancing:.2f} (WT/TC/ET), fitted on {fitting.WARM_UP} others; "
        f"calibration error of whole-tumour probability {result.voxel_error:.4f}. "
        f"A candidate's score is sigmoid({intercept:.2f} + {logit:.2f} mean logit + {volume:.2f} "
        f"ln ml); fitted on either half of the patients: {even}, {odd}. Below, each candidate is "
        f"judged by the half that it does not belong to: calibration error "
        f"{result.trial.error:.3f}, Brier score {result.trial.brier:.3f}.",
        "",
        "| score | candidates | said | true |",
        "|---|---:|---:|---:|",
    ]
    lines += [
        f"| {b['from']:.1f} to {b['to']:.1f} | {b['count']} | {b['said']:.2f} | {b['true']:.2f} |"
        for b in result.trial.bins
    ]
    lines += ["", "| score from | lesions found | false candidates a scan |", "|---|---:|---:|"]
    lines += [
        f"| {p['threshold']:.2f}{' (default)' if p['threshold'] == result.score_floor else ''} | "
        f"{p['sensitivity']:.2f} | {p['false_per_scan']:.2f} |"
        for p in result.operating_points
    ]
    return "\n".join(lines)


def main() -> None:
    """Calibrate and release."""
    a = options()
    torch.set_num_threads(1)
    source = a.run / "weights.safetensors" if a.run.is_dir() else a.run
    try:
        notes, result = fitted_notes(source, a)
    except LesionLensError as error:
        sys.exit(str(error))
    text = table(result, notes)
    sys.stdout.write(text + "\n")
    if a.dry:
        return
    plain = workplace(source, a) / "weights.safetensors"
    digest = release(plain, notes, a.target)
    put_between(a.results, "calibration", text)
    sys.stdout.write(f"\nReleased version {notes.version}, SHA-256 {digest}\n")


if __name__ == "__main__":
    main()
