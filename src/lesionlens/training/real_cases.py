"""Real cases as a source of batches, split by patient."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lesionlens.analysis.evaluation.label_conventions import region_mask
from lesionlens.base.errors import ConfigError, ReadError, UnusableInputError
from lesionlens.base.files import read_json
from lesionlens.base.grid import fraction_beyond
from lesionlens.base.labels import Label, Region
from lesionlens.base.numerics import connected_parts
from lesionlens.base.records.study import PreparedStudy
from lesionlens.base.run_context import SILENT, RunContext
from lesionlens.base.storage import write_atomically
from lesionlens.engines.device import autocast
from lesionlens.engines.network_input import make_network_input
from lesionlens.imaging.preparation.prepare import prepare
from lesionlens.imaging.preparation.resampling import resample
from lesionlens.imaging.preparation.scan_digest import intensity_digest, scan_digest
from lesionlens.network.lens_net import LensNetwork
from lesionlens.network.normalise import with_presence
from lesionlens.network.synth.generator import GeneratorConfig
from lesionlens.network.synth.instances import CAVITY
from lesionlens.network.synth.tumour import MAX_LESIONS
from lesionlens.network.weights import FOLDER
from lesionlens.training.config import DataConfig, StageConfig, TrainConfig
from lesionlens.training.data import (
    FIRST_STORED_SEED,
    BatchSource,
    Packed,
    draw_packed,
    mixed,
    pack,
    patch_stage,
    windows_of,
)
from lesionlens.training.references import RealCase, Reference, naming_case, split
from lesionlens.training.stored_volumes import SUFFIX, FolderSource, keep, read
from lesionlens.training.trained_cases import TrainedCase, TrainedCases
from lesionlens.training.validate import REGIONS, cavity_dice, dice, mean_scores

SPLIT_NAME, CASES_NAME, DRAWN_NAME = "split.json", "cases", "drawn"
_SEED_OFFSET = 100_003  # distance between seeds of mixed sources
_CPU = torch.device("cpu")
_MAX_OUTSIDE_FRACTION = 0.5  # of a reference's voxels; above it the reference is of other images


@dataclass(frozen=True, slots=True)
class Parts:
    """Training and held-out cases."""

    training: tuple[RealCase, ...]
    validation: tuple[RealCase, ...]


def config_for_cases(config: TrainConfig, cases: Iterable[RealCase]) -> TrainConfig:
    """Return a configuration for real cases.

    It starts from the default weights if it names none, and outlines the resection cavity if the
    reference of any case does.
    """
    init = config.init or str(FOLDER / "default.safetensors")
    cavity = config.cavity or any(case.cavity for case in cases)
    return replace(config, init=init, cavity=cavity)


class RealCases:
    """Real cases instead of the generator; see `training.training_run.Cases`.

    Parameters
    ----------
    cases : sequence of RealCase
        From `find_real_cases`.
    out : Path
        The run's folder: receives `split.json` and the prepared `cases/`.
    recipe : TrainConfig
        Its seed determines the split.

    Raises
    ------
    ConfigError
        Fewer than two patients, an invalid split.json, or one scan on both sides of the split.
    """

    def __init__(
        self,
        cases: Sequence[RealCase],
        out: Path,
        recipe: TrainConfig,
        context: RunContext = SILENT,
    ) -> None:
        self._out, self._recipe = out, recipe
        self._context = context
        self.parts = split_recorded(cases, out, recipe.seed, recipe.data.held_out)
        self.repeated: list[tuple[str, str]] = []
        """Pairs of cases with one scan and two patients, on one side of the split."""
        self._compare_scans()

    def _compare_scans(self) -> None:
        """Record scans that occur in two cases; refuse one that is trained on and held out."""
        parts, owners = self.parts, dict[str, RealCase]()
        for case in (*parts.training, *parts.validation) if parts.validation else ():
            self._context.check("reading real cases")
            self._context.progress(f"reading {case.name}", 0.0)
            with naming_case(case.name):
                scans = _scans_of(case, self._out / CASES_NAME)
            others = dict.fromkeys(owners[scan] for scan in scans if scan in owners)
            owners |= {scan: case for scan in scans if scan not in owners}
            for other in (o for o in others if o.patient != case.patient):
                if case in parts.validation and other in parts.training:
                    raise _leakage_error(other, case)
                self.repeated.append((other.name, case.name))

    @property
    def training(self) -> TrainedCases:
        """The training cases."""
        folder = self._out / CASES_NAME
        return {
            case.name: TrainedCase(case.patient, case.key, tuple(_scans_of(case, folder)))
            for case in self.parts.training
        }

    def in_training_data(self, trained_on: Collection[str]) -> tuple[str, ...]:
        """Return the validation cases that were in the training data of earlier weights."""
        trained_scans, folder = frozenset(trained_on), self._out / CASES_NAME
        held_out = self.parts.validation if trained_scans else ()
        return tuple(c.name for c in held_out if not trained_scans.isdisjoint(_scans_of(c, folder)))

    def source(
        self, stage: StageConfig, config: DataConfig, seed: int, completed: int
    ) -> BatchSource:
        """Prepare the training cases for a stage once, and return their source.

        With a `drawn_share` synthetic volumes are mixed in, and patches come from both.
        """
        if stage.patches is None:
            return self._single_grid_source(stage, config, seed, completed)
        patches = patch_stage(stage, stage.patches)
        return mixed(
            lambda n: self._single_grid_source(stage, config, seed, n),
            lambda n: self._single_grid_source(patches, config, seed + _SEED_OFFSET, n),
            stage.patches.share,
            seed,
            completed,
        )

    def _single_grid_source(
        self, stage: StageConfig, config: DataConfig, seed: int, completed: int
    ) -> BatchSource:
        def real(returned: int) -> BatchSource:
            return FolderSource(files, stage, config, seed, returned, _spacing(stage))

        def drawn(returned: int) -> BatchSource:
            return FolderSource(self._synthetic_files(stage, config), stage, config, seed, returned)

        files = self._prepared_files(self.parts.training, stage)
        return mixed(real, drawn, config.drawn_share, seed + 2 * _SEED_OFFSET, completed)

    def validate(
        self,
        network: LensNetwork,
        stage: StageConfig,
        device: torch.device,
    ) -> dict[str, float]:
        """Return each region's mean Dice over the held-out patients, if there are any.

        The cavity's is over those who have one.
        """
        if not self.parts.validation:
            return {}
        network.eval()
        files = self._prepared_files(self.parts.validation, stage)
        means = mean_scores([_dice(network, read(file), device) for file in files])
        return {f"patients_{name}": mean for name, mean in means.items()}

    def _prepared_files(self, cases: Sequence[RealCase], stage: StageConfig) -> list[Path]:
        spacing = _spacing(stage)
        files = []
        for number, case in enumerate(cases):
            self._context.check("preparing real cases")
            self._context.progress(f"preparing {case.name}", number / len(cases))
            files.append(_prepare_once(case, spacing, self._out / CASES_NAME, self._context))
        return files

    def _synthetic_files(self, stage: StageConfig, config: DataConfig) -> list[Path]:
        """Generate and store synthetic volumes of a grid, unless they exist."""
        draw = replace(self._recipe.draw, shape=stage.shape, spacing_mm=stage.spacing_mm)
        key = hashlib.sha256(repr((draw, stage.window, config.paintings)).encode()).hexdigest()
        grid_folder = self._out / DRAWN_NAME / key[:12]
        folders = [grid_folder / f"{number:05d}" for number in range(config.drawn_kept)]
        for number, folder in enumerate(folders):
            self._context.check("drawing volumes")
            self._context.progress("drawing volumes", number / config.drawn_kept)
            _generate_once(folder, draw, stage, config.paintings)
        return [file for f in folders for file in sorted(f.glob(f"*{SUFFIX}"))]


def _generate_once(folder: Path, draw: GeneratorConfig, stage: StageConfig, paintings: int) -> None:
    """Generate the brain with the folder's number, with all contrasts, or windows of it."""
    if folder.is_dir():
        return
    shutil.rmtree(folder, ignore_errors=True)
    seed = FIRST_STORED_SEED + int(folder.name)
    rng = np.random.default_rng(seed)
    partial = folder.with_name(f".{folder.name}")
    shutil.rmtree(partial, ignore_errors=True)  # of a killed run: a file may be cut off
    partial.mkdir(parents=True)
    count = 0
    for packed in draw_packed(draw, seed, paintings):
        for cut in windows_of(packed, stage.window, rng):
            keep(cut, partial / f"{count:02d}{SUFFIX}")
            count += 1
    partial.replace(folder)


def _spacing(stage: StageConfig) -> float:
    return round(sum(stage.spacing_mm) / 2, 3)


def split_recorded(
    cases: Sequence[RealCase], out: Path, seed: int, held_out_fraction: float = 0.2
) -> Parts:
    """Split cases by patient and record it in `split.json`; an earlier split is kept."""
    path = out / SPLIT_NAME
    earlier_split = read_split(path)
    counts = Counter(case.patient for case in cases)
    is_held_out = split(counts, fraction=held_out_fraction, seed=seed, earlier=earlier_split)
    names: dict[str, list[str]] = {}
    for case in cases:
        names.setdefault(case.patient, []).append(case.name)
    write_split(path, {p: is_held_out[p] for p in counts} | earlier_split, names)
    return Parts(
        tuple(c for c in cases if not is_held_out[c.patient]),
        tuple(c for c in cases if is_held_out[c.patient]),
    )


def write_split(
    path: Path, is_held_out: Mapping[str, bool], names: Mapping[str, Sequence[str]]
) -> None:
    """Write a `split.json`: on each side its patients, with the names of their cases."""
    record: dict[str, dict[str, list[str]]] = {"training": {}, "validation": {}}
    for patient, held_out in is_held_out.items():
        record["validation" if held_out else "training"][patient] = [*names.get(patient, ())]
    write_atomically(path, json.dumps(record, indent=1) + "\n")


def read_split(path: Path) -> dict[str, bool]:
    """Return whether each patient in a `split.json` is held out; empty without the file.

    Raises
    ------
    ConfigError
        It cannot be used, as with a misspelt side, whose patients would be trained on.
    """
    try:
        return _sides_in(read_json(path)) if path.is_file() else {}
    except (OSError, ValueError, AttributeError, TypeError, ReadError) as error:
        raise ConfigError(
            found=f"a {SPLIT_NAME} in {path.parent.name!r} that cannot be used",
            expected='lists of patients under "training" and "validation" alone, each patient once',
            next_step="Correct it, or choose another output folder",
        ) from error


def _sides_in(record: Any) -> dict[str, bool]:
    """Return whether each patient in a record is held out; ValueError if it is no split."""
    patients = [patient for side in record.values() for patient in side]
    is_side_text = any(isinstance(side, str) for side in record.values())
    has_other_sides = not record.keys() <= {"training", "validation"}
    if has_other_sides or is_side_text or len(patients) != len(set(patients)):
        raise ValueError("not a split")
    return {p: side == "validation" for side, names in record.items() for p in names}


def _prepare_once(case: RealCase, spacing_mm: float, folder: Path, context: RunContext) -> Path:
    """Prepare a case for a voxel size and store it."""
    file = folder / f"{_file_stem(case)}-{spacing_mm:g}mm{SUFFIX}"
    if file.is_file():
        return file
    with naming_case(case.name):
        prepared = prepare(case.study(), context.quiet())
        packed = pack_case(prepared, case.reference(), spacing_mm)
    _store_scans((*prepared.scans.values(), *prepared.intensities.values()), case, folder)
    keep(packed, file)
    return file


def _file_stem(case: RealCase) -> str:
    """Return the start of the names of a case's files: two cases may have one key."""
    return hashlib.sha256(f"{case.name}\0{case.key}".encode()).hexdigest()[:24]


def _scans_of(case: RealCase, folder: Path) -> list[str]:
    """Return the digests of a case's scans; they are read once."""
    path = folder / f"{_file_stem(case)}-scans.json"
    try:
        return [str(scan) for scan in read_json(path)]
    except (OSError, ValueError, TypeError, ReadError):
        loaded = [(series.load(), series.grid) for series in case.study().series.values()]
        scans = [scan_digest(values, grid) for values, grid in loaded]
        intensities = [intensity_digest(values) for values, _ in loaded]
        return _store_scans((*scans, *intensities), case, folder)


def _store_scans(scans: Iterable[str], case: RealCase, folder: Path) -> list[str]:
    digests = sorted(scans)
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / f"{_file_stem(case)}-scans.json", json.dumps(digests))
    return digests


def pack_case(prepared: PreparedStudy, reference: Reference, spacing_mm: float) -> Packed:
    """Resample a case and its reference to the training grid.

    Parameters
    ----------
    reference : Reference
        On its own grid in the same patient space.

    Raises
    ------
    UnusableInputError
        Most of the reference lies outside the images.

    Returns
    -------
    Packed
        Each voxel has the label at its centre, so that thin rims keep their volume.
    """
    study = make_network_input(prepared, spacing_mm, _CPU)
    values, grid = reference
    outside_fraction = fraction_beyond(values > 0, grid, study.grid)
    if outside_fraction > _MAX_OUTSIDE_FRACTION:
        raise UnusableInputError(
            found=f"a reference of which {outside_fraction:.0%} lies outside the images",
            expected="outlines in the same patient space",
            next_step="Check that the reference is of these images, and its geometry",
        )
    resampled = resample(values.astype(np.float32), grid, study.grid, nearest=True).astype(np.uint8)
    labels = torch.from_numpy(np.stack([region_mask(resampled, region) for region in Region]))
    cavity = (torch.from_numpy(resampled == Label.CAVITY) & study.brain[0]) * CAVITY
    packed = pack(study.channels[0], labels.to(torch.uint8), cavity.to(torch.uint8), study.brain[0])
    parts = np.where(packed.code > 1, lesions(packed.code), packed.instances).astype(np.uint8)
    return replace(packed, instances=parts, present=np.asarray(study.present))


def lesions(code: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Assign numbers to the largest separate tumours; 26-connectivity."""
    parts, sizes = connected_parts(code > 1)
    rank = np.zeros(len(sizes), np.uint8)
    largest = np.argsort(-sizes[1:], kind="stable")[:MAX_LESIONS]
    rank[largest + 1] = np.arange(1, len(largest) + 1)
    return np.asarray(rank[parts])


def _leakage_error(trained_on: RealCase, held_out: RealCase) -> ConfigError:
    return ConfigError(
        found=f"one scan in the cases {trained_on.name!r} (trained on) and {held_out.name!r} "
        "(held out)",
        expected="no held-out case among the training cases",
        next_step="Remove one of them, or give both one patient in patients.tsv, and choose a new "
        "output folder",
    )


@torch.no_grad()
def _dice(network: LensNetwork, packed: Packed, device: torch.device) -> dict[str, float]:
    code = torch.from_numpy(packed.code).to(device)
    channels = torch.from_numpy(packed.channels).float()[None].to(device)
    present = torch.from_numpy(packed.present)[None].to(device)
    x = with_presence(channels, present, (code > 0)[None])
    with autocast(device):
        logits = network(x.contiguous(memory_format=torch.channels_last_3d)).logits[0]
    predicted = (logits > 0) & (code > 0)
    regions = {name: dice(predicted[n], code > n + 1) for n, name in enumerate(REGIONS)}
    cavity = torch.from_numpy(packed.instances).to(device) == CAVITY
    return regions | cavity_dice(predicted, cavity)
