r"""Train a network in short sessions on a borrowed GPU: pack, vary, run.

    python -m training.lens.gpu_training pack --data CASES --out PACK
    python -m training.lens.gpu_training vary --pack PACK --out VARIED --each 200
    python -m training.lens.gpu_training run --init synthetic.safetensors --minutes 9 --out RUN
    python -m training.lens.gpu_training run --init RUN/weights.safetensors --pack PACK \
        --varied VARIED --fold 0 --steps 300 --rate 8e-4 --out FOLD

`pack` prepares cases in advance, so that the machine with the GPU needs neither their files nor
the libraries that read them: torch, numpy, scipy and safetensors suffice. It refuses cases that
weights may not be trained on. `vary` augments them on the CPUs while the GPU trains on volumes that
it generates itself (`gpu_batches`). `run` trains for `--minutes` or `--steps`, over which the
learning rate decreases, stores its state every two minutes, resumes from it, and writes averaged
weights with a record of their training data. `--device cpu --tiny` rehearses it.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lesionlens.base.errors import UnusableInputError
from lesionlens.base.provenance import sha256_of
from lesionlens.base.run_context import SILENT
from lesionlens.network import weights
from lesionlens.network.lens_net import BASE, LensNetwork, LensOutput, LesionOutput
from lesionlens.network.normalise import with_presence
from lesionlens.network.weights import WeightsNotes, notes_of
from lesionlens.training.losses import LESION_WEIGHT, Batch, lens_loss, set_loss
from training import common
from training.lens.augmentation import augment
from training.lens.gpu_batches import (
    FINE,
    WHOLE,
    Blend,
    Grid,
    Mixture,
    StoredVolumes,
    SyntheticVolumes,
)
from training.lens.volumes import SUFFIX, Presence, keep, read, stage_seed
from training.optimiser import Optimiser
from training.synth.generator import GeneratorConfig
from training.synth.other_lesions import LesionFrequencies

NUMBERS = (
    *("00006", "01476", "01478", "01479", "01480", "01481"),
    *("01482", "01483", "01484", "01657", "01659", "01661"),
)
MAY_BE_TRAINED_ON = tuple(f"BraTS2021_{number}" for number in NUMBERS)
"""Patients under CC BY 4.0; see the model card."""
SPACING_MM, FOLDS, PACK_BYTES = 2.0, 4, 20_000_000
MANIFEST = "manifest.json"
KINDS = LesionFrequencies(
    metastases=0.12, meningioma=0.06, haematoma=0.05, infarct=0.05, plaques=0.04
)
DATA = Presence(complete=0.5, single=(0.04, 0.07, 0.05, 0.08), without_t1=0.2, without_t1c=0.08)
_CHECKPOINT_S, _SEED = 120.0, 91


def pack(data: Path, out: Path, spacing_mm: float = SPACING_MM) -> int:
    """Prepare every case that may be trained on; return the size of all in bytes."""
    from lesionlens.analysis.evaluation.label_conventions import read_conventions
    from lesionlens.imaging.preparation.prepare import prepare
    from lesionlens.training.cases import pack_case
    from lesionlens.training.references import find_real_cases

    out.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    folders = [f for name in MAY_BE_TRAINED_ON if (f := data / name).is_dir()]
    if not folders:
        raise UnusableInputError(f"{data.name!r} holds no case that weights may be trained on.")
    cases = {
        c.name: c for c in find_real_cases(data, convention=read_conventions(None, data).of).cases
    }
    for folder in folders:
        case, file = cases[folder.name], out / f"{folder.name}{SUFFIX}"
        prepared = prepare(case.study(), SILENT)
        packed = pack_case(prepared, case.reference(), spacing_mm)
        np.savez_compressed(file, **packed._asdict())
        images = {f.name: sha256_of(f) for f in sorted(folder.glob("*.nii.gz"))}
        scans = sorted((*prepared.scans.values(), *prepared.intensities.values()))
        rows.append({"case": folder.name, "file": file.name, "sha256": images, "scans": scans})
        print(folder.name, file.stat().st_size, flush=True)
    content = {"spacing_mm": spacing_mm, "cases": rows}
    (out / MANIFEST).write_text(json.dumps(content, indent=1) + "\n")
    return sum(f.stat().st_size for f in out.iterdir())


def packed_cases(folder: Path, fold: int | None, *, left_out: bool = False) -> list[dict[str, Any]]:
    """Return the packed cases that a fold trains on, or its held-out ones; all if it is None."""
    rows = json.loads((folder / MANIFEST).read_text("utf-8"))["cases"]
    if fold is None:
        return [] if left_out else rows
    return [row for n, row in enumerate(rows) if (n % FOLDS == fold) is left_out]


def augment_cases(options: argparse.Namespace) -> None:
    """Write augmented volumes of every packed case, except existing ones."""
    torch.set_num_threads(1)
    rows = packed_cases(options.pack, None)
    for index in range(options.first, options.each, options.every):
        for row in rows:
            file = options.out / row["case"] / f"{index:04d}{SUFFIX}"
            if file.is_file():
                continue
            rng = np.random.default_rng((_SEED, index, int(row["case"][-5:])))
            packed = augment(read(options.pack / row["file"]), SPACING_MM, None, rng)
            file.parent.mkdir(parents=True, exist_ok=True)
            keep(packed, file)


def training_loss(output: LensOutput, batch: Batch) -> tuple[torch.Tensor, dict[str, float]]:
    """Return the loss; of the lesion queries for one volume, as matching waits for the GPU."""
    loss, terms = lens_loss(output._replace(lesions=None), batch)
    if output.lesions is not None:
        classes, boxes, (half, quarter) = output.lesions
        first = LesionOutput(classes[:1], boxes[:1], (half[:1], quarter[:1]))
        lesions = set_loss(first, batch.instances[:1], batch.present[:1])
        loss = loss + LESION_WEIGHT * lesions
        terms["lesions"] = float(lesions.detach())
    return loss, terms


def _tiny(grid: Grid) -> Grid:
    (i, j, k), (low_mm, high_mm) = grid.shape, grid.spacing_mm
    return dataclasses.replace(
        grid,
        shape=(i // 3, j // 3, k // 3),
        spacing_mm=(3 * low_mm, 3 * high_mm),
        geometries=1,
        window=grid.window and (32, 32, 32),
    )


class TrainingRun:
    """One run: network, optimiser, batches, and progress."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options, self._device = options, torch.device(options.device)
        self._rows = [] if options.pack is None else packed_cases(options.pack, options.fold)
        torch.manual_seed(_SEED)
        network, origin = LensNetwork(BASE), None
        self._notes = WeightsNotes(provenance={"data": "synthetic only"})
        if options.init is not None:
            network, info = weights.load(options.init)
            self._notes, origin = WeightsNotes(**notes_of(info)), info.sha256
        self._origin = {"init": origin, "cases": [row["case"] for row in self._rows]}
        self.network = network.to(self._device).train()
        self.network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        self._optimiser = Optimiser(self.network, rate=options.rate, average=options.average)
        self.step, self._spent = common.restore(
            options.out, self.network, self._optimiser, self._origin
        )
        self._batches = self._mixture()

    def _mixture(self) -> Mixture:
        draw = GeneratorConfig(kinds=KINDS)
        whole, fine = (_tiny(g) if self._options.tiny else g for g in (WHOLE, FINE))
        first = stage_seed(_SEED + (self._options.fold or 0), self.step, 0)
        synthetic = SyntheticVolumes(draw, whole, first, self._device)
        fine_synthetic = SyntheticVolumes(draw, fine, first + 500_000, self._device)
        if self._rows:
            cases = [row["case"] for row in self._rows]
            real = StoredVolumes(self._options.varied, cases, self._device)
            return Mixture(
                (Blend(real, synthetic, 0.3), fine_synthetic), (0.9, 0.1), self.step, DATA
            )
        return Mixture((synthetic, fine_synthetic), (0.82, 0.18), self.step, DATA)

    def save(self) -> None:
        """Write the state and the averaged weights."""
        out = self._options.out
        common.save(out, self.network, self._optimiser, self.step, self._spent, self._origin)
        scans = {scan for row in self._rows for scan in row["scans"]}
        data = str(self._notes.provenance.get("data", "unknown"))
        if self._rows:
            count = len(self._rows)
            data = f"{data.removesuffix(' only')}, then {count} real cases of {count} patients"
        notes = dataclasses.replace(
            self._notes, version="0", operating_points=(),
            trained_on=tuple(sorted(scans | set(self._notes.trained_on))),
            provenance={"data": data, "steps": self.step,
                        "minutes": round(self._spent / 60, 1),
                        "parent_sha256": self._origin["init"]},
        )  # fmt: skip
        weights.save(
            out / "weights.safetensors", self.network.config, self._optimiser.average, notes,
            dtype=torch.half,
        )  # fmt: skip

    def run(self) -> None:
        """Train until the time or the steps are used."""
        started = last_saved = time.monotonic()
        earlier_s, loss_values, window_start = self._spent, [], started
        while (progress := self._progress()) < 1:
            value, parts = self._train_step(progress)
            self.step += 1
            self._spent = earlier_s + time.monotonic() - started
            loss_values.append(value)
            if self.step % 50 == 0:
                time_now = time.monotonic()
                rate = len(loss_values) * self._options.batch / (time_now - window_start)
                terms = " ".join(f"{k} {v:.3f}" for k, v in parts.items())
                print(f"{self.step} {self._spent:.0f} s {np.nanmean(loss_values):.4f} {terms} "
                      f"{rate:.1f} volumes/s", flush=True)  # fmt: skip
                loss_values, window_start = [], time_now
            if time.monotonic() - last_saved > _CHECKPOINT_S:
                self.save()
                last_saved = time.monotonic()
        self.save()

    def _progress(self) -> float:
        if self._options.steps:
            return self.step / int(self._options.steps)
        return self._spent / (60 * float(self._options.minutes))

    def _train_step(self, progress: float) -> tuple[float, dict[str, float]]:
        batch = self._batches.batch(self._options.batch)
        x = with_presence(batch.channels, batch.present, batch.brain)
        x = x.contiguous(memory_format=torch.channels_last_3d)
        with torch.autocast(self._device.type, torch.bfloat16):
            output = self.network(x, bounds=batch.bounds, maps=True)
        loss, parts = training_loss(output, batch)
        value = float(loss.detach())
        if math.isfinite(value):
            warmup_factor = min(1.0, (self.step + 1) / self._options.warmup)
            rate_factor = warmup_factor * (
                0.015 + 0.985 * (1 + math.cos(math.pi * min(progress, 1))) / 2
            )
            parts["gradient"] = self._optimiser.step(loss, rate_factor, self.step)
        return value, parts


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    argument_parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    subparsers = argument_parser.add_subparsers(dest="act", required=True)
    command = subparsers.add_parser("pack")
    command.add_argument("--data", type=Path, required=True)
    command.add_argument("--out", type=Path, required=True)
    command = subparsers.add_parser("vary")
    command.add_argument("--pack", type=Path, required=True)
    command.add_argument("--out", type=Path, required=True)
    command.add_argument("--each", type=int, default=200, help="volumes of each case")
    command.add_argument("--first", type=int, default=0)
    command.add_argument("--every", type=int, default=1, help="for several processes at once")
    command = subparsers.add_parser("run")
    command.add_argument("--init", type=Path, help="weights to start from; none: from scratch")
    command.add_argument("--pack", type=Path, help="also train on these cases")
    command.add_argument("--varied", type=Path)
    command.add_argument("--fold", type=int, choices=range(FOLDS))
    command.add_argument("--minutes", type=float, default=8.5)
    command.add_argument("--steps", type=int, default=0, help="in place of minutes")
    command.add_argument("--batch", type=int, default=4)
    command.add_argument("--rate", type=float, default=1.5e-3)
    command.add_argument("--warmup", type=int, default=100)
    command.add_argument("--average", type=float, default=0.998)
    command.add_argument("--out", type=Path, required=True)
    command.add_argument("--device", default="cuda")
    command.add_argument("--tiny", action="store_true", help="a rehearsal")
    return argument_parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Pack, vary or run."""
    argument_parser = parser()
    options = argument_parser.parse_args(arguments)
    if options.act == "run" and (options.pack is None) is not (options.varied is None):
        argument_parser.error("--pack and --varied belong together: `vary` writes the volumes")
    if options.act == "pack":
        size = pack(options.data, options.out)
        print(f"{size / 1e6:.1f} MB of at most {PACK_BYTES / 1e6:.0f}")
        return int(size > PACK_BYTES)
    if options.act == "vary":
        augment_cases(options)
        return 0
    torch.backends.cudnn.benchmark = True
    TrainingRun(options).run()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
