r"""Train larger networks in short sittings on a borrowed GPU: pack, run, join.

    python research/gpu_training.py pack --data CASES --out PACK
    python research/gpu_training.py run --pack PACK --stage synthetic --network giant --out RUN
    python research/gpu_training.py run --pack PACK --stage mixed --network giant --out RUN --fold 0
    python research/gpu_training.py join RUN/parts --out weights.safetensors

`pack` prepares cases once, here, so that the machine with the GPU needs neither their files nor
what reads them: torch, numpy, scipy, safetensors and this package suffice. It takes no case that
weights may not be trained on. `run` trains for `--minutes`, checkpoints, goes on where it was, and
leaves its averaged weights as parts of a few MB, with what they were trained on by SHA-256. Give
the same command again for the next sitting. `--rehearse` takes 20 steps of tiny volumes on a CPU.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lesionlens.base import array_cache
from lesionlens.base.errors import UnusableInputError
from lesionlens.base.run_context import SILENT
from lesionlens.network.config import PRESETS, NetworkConfig
from lesionlens.training.config import DataConfig, StageConfig, TrainConfig, read_config
from lesionlens.training.data import BatchSource, SynthSource, mixed
from lesionlens.training.distributed import joined
from lesionlens.training.kept_volumes import FolderSource, Start
from lesionlens.training.loop import TrainOptions, train
from lesionlens.training.trained_cases import TrainedCase, TrainedCases

NUMBERS = (
    *("00006", "01476", "01478", "01479", "01480", "01481"),
    *("01482", "01483", "01484", "01657", "01659", "01661"),
)
MAY_BE_TRAINED_ON = tuple(f"BraTS2021_{number}" for number in NUMBERS)
"""Patients under CC BY 4.0; see the model card."""
GIANT = NetworkConfig(
    channels=(32, 64, 128, 256), blocks=(2, 2, 2), layers=6, heads=8, query_dim=128, lesions=16
)
"""14.1 million parameters: six times `base`, about twice `large`."""
SPACING_MM, FOLDS = 2.0, 4
PART_BYTES, PACK_BYTES = 4_000_000, 20_000_000
MANIFEST = "manifest.json"


def sha256(file: Path) -> str:
    """Return the SHA-256 of a file, in hex."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def pack(data: Path, out: Path, spacing_mm: float = SPACING_MM) -> int:
    """Prepare every case that may be trained on; return the bytes of all."""
    from lesionlens.analysis.evaluation.label_conventions import read_conventions  # noqa: PLC0415
    from lesionlens.imaging.preparation.prepare import prepare  # noqa: PLC0415
    from lesionlens.training.real_cases import pack_case  # noqa: PLC0415
    from lesionlens.training.references import find_real_cases  # noqa: PLC0415

    out.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    folders = [f for name in MAY_BE_TRAINED_ON if (f := data / name).is_dir()]
    if not folders:
        raise UnusableInputError(
            found=f"none of the cases that weights may be trained on in {data.name!r}",
            expected=f"folders such as {MAY_BE_TRAINED_ON[0]}",
            next_step="Name the folder that holds them",
        )
    cases = {c.name: c for c in find_real_cases(data, convention=read_conventions(None, data).of)}
    for folder in folders:
        case, file = cases[folder.name], out / f"{folder.name}{array_cache.SUFFIX}"
        prepared = prepare(case.study(), SILENT)
        packed = pack_case(prepared, case.truth(), spacing_mm)
        fields = {name: getattr(packed, name) for name in packed.__dataclass_fields__}
        array_cache.write(file, fields, packed=True)
        images = {f.name: sha256(f) for f in sorted(folder.glob("*.nii.gz"))}
        scans = sorted((*prepared.scans.values(), *prepared.intensities.values()))
        rows.append({"case": folder.name, "file": file.name, "sha256": images, "scans": scans})
        print(folder.name, file.stat().st_size, flush=True)
    content = {"spacing_mm": spacing_mm, "cases": rows}
    (out / MANIFEST).write_text(json.dumps(content, indent=1) + "\n")
    return sum(f.stat().st_size for f in out.iterdir())


class PackedCases:
    """Packed cases in the generator's place, drawn volumes among them.

    See `training.training_run.Cases`.

    Parameters
    ----------
    folder : Path
        From `pack`.
    fold : int or None
        Which fourth of the cases is left out; None leaves out none.
    recipe : TrainConfig
        Of the run.
    """

    def __init__(self, folder: Path, fold: int | None, recipe: TrainConfig) -> None:
        found = json.loads((folder / MANIFEST).read_text("utf-8"))
        self._spacing_mm, self._recipe = float(found["spacing_mm"]), recipe
        self.rows = [
            row for n, row in enumerate(found["cases"]) if fold is None or n % FOLDS != fold
        ]
        self._files = [folder / row["file"] for row in self.rows]

    @property
    def training(self) -> TrainedCases:
        """The training cases, each of a patient of its own."""
        return {
            row["case"]: TrainedCase(row["case"], row["file"], tuple(row["scans"]))
            for row in self.rows
        }

    def in_training_data(self, _: Collection[str]) -> tuple[str, ...]:
        """Name no case: none is held out here to judge."""
        return ()

    def source(self, stage: StageConfig, config: DataConfig, seed: int, done: int) -> BatchSource:
        """Serve whole brains at the packed spacing, real and drawn."""

        def real(handed: int) -> BatchSource:
            start = Start(seed, handed)
            return FolderSource(self._files, stage, config, start, self._spacing_mm)

        def drawn(handed: int) -> BatchSource:
            return SynthSource(self._recipe.draw, stage, config, seed, handed)

        return mixed(real, drawn, config.drawn_share, seed + 1, done)

    def validate(self, *_: Any) -> dict:
        """Judge nothing here: every second of the GPU goes into steps."""
        return {}


def recipe_of(stage: str, network: str, rehearse: bool, init: Path | None) -> TrainConfig:
    """Return the recipe of a stage; for a rehearsal 20 steps of tiny volumes."""
    found = read_config("default" if stage == "synthetic" else "mixed")
    data = replace(found.data, workers=0 if rehearse else 12)
    found = replace(
        found,
        network=network if init is None else None,
        init=None if init is None else str(init),
        data=data,
        validation_volumes=0,
        checkpoint_minutes=2.0,
    )
    if not rehearse:
        stages = [replace(s, batch=4 * s.batch, patches=None) for s in found.stages]
        return replace(found, stages=tuple(stages))
    tiny = replace(
        found.stages[0], steps=20, shape=(24, 28, 24), spacing_mm=(7.0, 8.0), batch=1, patches=None
    )
    return replace(found, stages=(tiny,), data=replace(data, pool=4, paintings=1))


def in_parts(file: Path, out: Path, about: dict[str, Any]) -> None:
    """Split a file into parts of a few MB, with its SHA-256 and what it was trained on."""
    out.mkdir(parents=True, exist_ok=True)
    for old in out.glob("*.part"):
        old.unlink()
    content = file.read_bytes()
    names = []
    for number, start in enumerate(range(0, len(content), PART_BYTES)):
        names.append(f"{number:02d}.part")
        (out / names[-1]).write_bytes(content[start : start + PART_BYTES])
    record = about | {"sha256": hashlib.sha256(content).hexdigest(), "parts": names}
    (out / MANIFEST).write_text(json.dumps(record, indent=1) + "\n")


def join(parts: Path, out: Path) -> None:
    """Put a file together again; a part that is missing or altered is refused."""
    about = json.loads((parts / MANIFEST).read_text("utf-8"))
    content = b"".join((parts / name).read_bytes() for name in about["parts"])
    if hashlib.sha256(content).hexdigest() != about["sha256"]:
        raise UnusableInputError(
            found=f"parts in {parts.name!r} that are not those of one file",
            expected=f"SHA-256 {about['sha256']}",
            next_step="Fetch them again",
        )
    out.write_bytes(content)


def run(options: argparse.Namespace) -> None:
    """Train for a while, leave the weights in parts."""
    PRESETS["giant"] = GIANT
    recipe = recipe_of(options.stage, options.network, options.rehearse, options.init)
    cases = None
    if options.stage == "mixed":
        cases = PackedCases(options.pack, options.fold, recipe)
    device = "cpu" if options.rehearse else "cuda"
    with joined(device) as processes:
        done = train(
            recipe,
            options.out,
            TrainOptions(options.minutes, processes=processes, cases=cases),
            on_step=lambda e: print(f"{e.step}/{e.steps} loss {e.loss:.3f}", flush=True),
        )
    trained_on = [] if cases is None else cases.rows
    about = {"stage": options.stage, "fold": options.fold, "steps": done.step, "of": done.steps}
    in_parts(done.weights, options.parts or options.out / "parts", about | {"cases": trained_on})
    print(f"{done.step} of {done.steps} steps, {done.minutes:.1f} minutes, loss {done.loss:.3f}")


def parser() -> argparse.ArgumentParser:
    """Return the arguments."""
    made = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    acts = made.add_subparsers(dest="act", required=True)
    one = acts.add_parser("pack")
    one.add_argument("--data", type=Path, required=True)
    one.add_argument("--out", type=Path, required=True)
    one = acts.add_parser("run")
    one.add_argument("--pack", type=Path)
    one.add_argument("--stage", choices=("synthetic", "mixed"), required=True)
    one.add_argument("--network", default="large")
    one.add_argument("--init", type=Path, help="weights to go on from")
    one.add_argument("--fold", type=int, choices=range(FOLDS))
    one.add_argument("--minutes", type=float, default=8.5)
    one.add_argument("--out", type=Path, required=True)
    one.add_argument("--parts", type=Path, help="folder for the parts, such as one that comes back")
    one.add_argument("--rehearse", action="store_true")
    one = acts.add_parser("join")
    one.add_argument("parts", type=Path)
    one.add_argument("--out", type=Path, required=True)
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Pack, run or join."""
    options = parser().parse_args(arguments)
    if options.act == "join":
        join(options.parts, options.out)
    elif options.act == "run":
        run(options)
    else:
        size = pack(options.data, options.out)
        print(f"{size / 1e6:.1f} MB of at most {PACK_BYTES / 1e6:.0f}")
        return int(size > PACK_BYTES)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
