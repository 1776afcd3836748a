r"""Calibrate a run's averaged weights on drawn patients and make them the default weights.

    lesionlens train configs/default.toml --out runs/default
    python bench/release_weights.py runs/default --version 1 --spacing 2 --patients 48 \
        --shift 0.7 0.5 0.8 --t1-in-reserve

Prints what was fitted; `src/lesionlens/weights/` holds the result.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import tempfile
from pathlib import Path

import torch

from lesionlens.network import weights
from lesionlens.network.weights import WeightsNotes
from lesionlens.synth.draw import DrawConfig
from lesionlens.training.calibrate import calibrate
from lesionlens.training.release import release, shift_logits

TARGET = Path(__file__).parents[1] / "src/lesionlens/weights"
_FIELD_MM = (168.0, 208.0, 168.0)


def main() -> None:
    """Calibrate and release."""
    shape = argparse.RawDescriptionHelpFormatter
    p = argparse.ArgumentParser(description=__doc__, formatter_class=shape)
    p.add_argument("run", type=Path)
    p.add_argument("--version", required=True)
    p.add_argument("--spacing", type=float, default=2.0)
    p.add_argument("--focus", type=float)
    p.add_argument("--patients", type=int, default=48)
    p.add_argument("--shift", type=float, nargs=3, default=(0.0, 0.0, 0.0), help="of the logits")
    p.add_argument("--t1-in-reserve", action="store_true", help="see NetworkConfig")
    p.add_argument("--target", type=Path, default=TARGET)
    p.add_argument("--threads", type=int, default=1)
    a = p.parse_args()
    torch.set_num_threads(a.threads)
    source = a.run / "weights.safetensors" if a.run.is_dir() else a.run
    network, info = weights.load(source)
    shift_logits(network, (a.shift[0], a.shift[1], a.shift[2]))
    about = WeightsNotes(
        version=a.version,
        spacing_mm=a.spacing,
        focus_spacing_mm=a.focus,
        provenance=dict(info.provenance)
        | {"recipe": "configs/default.toml", "shift": list(a.shift)},
        score=(0.0, 1.0, 0.0),
        score_floor=0.0,
    )
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / "plain.safetensors"
        sizes = dataclasses.replace(network.config, t1_in_reserve=a.t1_in_reserve)
        weights.save(plain, sizes, network.state_dict(), about)
        nodes = [round(mm / a.spacing) for mm in _FIELD_MM]
        grid = DrawConfig(shape=(nodes[0], nodes[1], nodes[2]), spacing_mm=(a.spacing, a.spacing))
        fitted = calibrate(plain, grid, a.patients, "cpu")
        notes = dataclasses.replace(
            about,
            temperature=fitted.temperature,
            score=fitted.score,
            score_floor=fitted.score_floor,
            operating_points=fitted.operating_points,
        )
        digest = release(plain, notes, a.target)
    sys.stdout.write(json.dumps(dataclasses.asdict(fitted) | {"sha256": digest}, indent=1) + "\n")


if __name__ == "__main__":
    main()
