r"""Train a network in short sessions on a borrowed GPU: pack, vary, run.

    python -m training.lens.gpu_training pack --data CASES --out PACK
    python -m training.lens.gpu_training vary --pack PACK --out VARIED --each 200
    python -m training.lens.gpu_training run --init synthetic.safetensors --minutes 9 --out RUN
    python -m training.lens.gpu_training run --init RUN/weights.safetensors --pack PACK \
        --varied VARIED --fold 0 --steps 300 --rate 8e-4 --out FOLD

`pack` prepares cases in advance, so that the machine with the GPU needs neither their files nor
the libraries that read them: torch, numpy, scipy and safetensors suffice. It refuses cases that
weights may not be trained on. `vary` augments them on the CPUs while the GPU trains on volumes that
it generates itself (`volumes`). `run` trains for `--minutes` or `--steps`, over which the
learning rate decreases, stores its state every two minutes, resumes from it, and writes averaged
weights with a record of their training data. `--device cpu --tiny` rehearses it.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
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
from training.lens.augmentation import augment
from training.lens.volumes import (
    FINE,
    SUFFIX,
    WHOLE,
    Blend,
    Grid,
    Mixture,
    Presence,
    StoredVolumes,
    SyntheticVolumes,
    first_seed,
    read,
    write,
)
from training.run import Run
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
_SEED = 91


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
            piece = augment(read(options.pack / row["file"]), SPACING_MM, rng)
            file.parent.mkdir(parents=True, exist_ok=True)
            write(piece, file)


def training_loss(output: LensOutput, batch: Batch) -> torch.Tensor:
    """Return the loss; of the lesion queries for one volume, as matching waits for the GPU."""
    loss = lens_loss(output._replace(lesions=None), batch)
    if output.lesions is not None:
        classes, boxes, (half, quarter) = output.lesions
        first = LesionOutput(classes[:1], boxes[:1], (half[:1], quarter[:1]))
        loss = loss + LESION_WEIGHT * set_loss(first, batch.instances[:1], batch.present[:1])
    return loss


def _tiny(grid: Grid) -> Grid:
    (i, j, k), (low_mm, high_mm) = grid.shape, grid.spacing_mm
    return dataclasses.replace(
        grid,
        shape=(i // 3, j // 3, k // 3),
        spacing_mm=(3 * low_mm, 3 * high_mm),
        geometries=1,
        window=grid.window and (32, 32, 32),
    )


def mixture(options: argparse.Namespace, cases: Sequence[str], session: int) -> Mixture:
    """Return the batches of a session of a run that has taken as many steps as its number."""
    device, config = torch.device(options.device), GeneratorConfig(kinds=KINDS)
    whole, fine = (_tiny(g) if options.tiny else g for g in (WHOLE, FINE))
    first = first_seed(_SEED + (options.fold or 0), session)
    synthetic = SyntheticVolumes(config, whole, first, device)
    fine_synthetic = SyntheticVolumes(config, fine, first + 500_000, device)
    if not cases:
        return Mixture((synthetic, fine_synthetic), (0.82, 0.18), session, DATA)
    blend = Blend(StoredVolumes(options.varied, cases, device), synthetic, 0.3)
    return Mixture((blend, fine_synthetic), (0.9, 0.1), session, DATA)


def train(options: argparse.Namespace) -> None:
    """Train, resuming an interrupted run."""
    torch.backends.cudnn.benchmark = True
    torch.manual_seed(_SEED)
    rows = [] if options.pack is None else packed_cases(options.pack, options.fold)
    cases = [row["case"] for row in rows]
    network, notes, parent = LensNetwork(BASE), WeightsNotes(), None
    data = "synthetic only"
    if options.init is not None:
        network, info = weights.load(options.init)
        notes, parent = WeightsNotes(**notes_of(info)), info.sha256
        data = str(notes.provenance.get("data", "unknown"))
    if rows:
        data = f"{data.removesuffix(' only')}, then {len(rows)} real cases of {len(rows)} patients"
    scans = {scan for row in rows for scan in row["scans"]} | set(notes.trained_on)
    network = network.to(options.device).train()
    run = Run(
        options.out, network, rate=options.rate, average=options.average,
        origin={"init": parent, "cases": cases},
    )  # fmt: skip
    batches = mixture(options, cases, run.step)

    def step_loss(_: int) -> torch.Tensor:
        batch = batches.batch(options.batch)
        x = with_presence(batch.channels, batch.present, batch.brain)
        with torch.autocast(torch.device(options.device).type, torch.bfloat16):
            output = network(
                x.contiguous(memory_format=torch.channels_last_3d), bounds=batch.bounds, maps=True
            )
        return training_loss(output, batch)

    def save_weights() -> None:
        provenance = {
            "data": data, "steps": run.step, "minutes": round(run.seconds / 60, 1),
            "parent_sha256": parent,
        }  # fmt: skip
        new = dataclasses.replace(
            notes, version="0", operating_points=(), trained_on=tuple(sorted(scans)),
            provenance=provenance,
        )  # fmt: skip
        if options.fold is not None:
            held_out = [
                row["case"] for row in packed_cases(options.pack, options.fold, left_out=True)
            ]
            split = {"training": cases, "validation": held_out}
            record = {side: {case: [case] for case in names} for side, names in split.items()}
            (options.out / "split.json").write_text(json.dumps(record, indent=1) + "\n")
        path = options.out / "weights.safetensors"
        weights.save(path, network.config, run.average, new, dtype=torch.half)

    run.train(
        step_loss, minutes=options.minutes, steps=options.steps, warmup=options.warmup,
        last_rate=0.015, save=save_weights,
    )  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Pack, vary or run."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    subparsers = parser.add_subparsers(dest="act", required=True)
    add = subparsers.add_parser("pack").add_argument
    add("--data", type=Path, required=True)
    add("--out", type=Path, required=True)
    add = subparsers.add_parser("vary").add_argument
    add("--pack", type=Path, required=True)
    add("--out", type=Path, required=True)
    add("--each", type=int, default=200, help="volumes of each case")
    add("--first", type=int, default=0)
    add("--every", type=int, default=1, help="for several processes at once")
    add = subparsers.add_parser("run").add_argument
    add("--init", type=Path, help="weights to start from; none: from scratch")
    add("--pack", type=Path, help="also train on these cases")
    add("--varied", type=Path)
    add("--fold", type=int, choices=range(FOLDS))
    add("--minutes", type=float, default=8.5)
    add("--steps", type=int, default=0, help="in place of minutes")
    add("--batch", type=int, default=4)
    add("--rate", type=float, default=1.5e-3)
    add("--warmup", type=int, default=100)
    add("--average", type=float, default=0.998)
    add("--out", type=Path, required=True)
    add("--device", default="cuda")
    add("--tiny", action="store_true", help="a rehearsal")
    options = parser.parse_args(arguments)
    if options.act == "run" and (options.pack is None) is not (options.varied is None):
        parser.error("--pack and --varied belong together: `vary` writes the volumes")
    if options.act == "pack":
        size = pack(options.data, options.out)
        print(f"{size / 1e6:.1f} MB of at most {PACK_BYTES / 1e6:.0f}")
        return int(size > PACK_BYTES)
    (augment_cases if options.act == "vary" else train)(options)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
