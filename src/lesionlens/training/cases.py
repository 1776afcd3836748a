"""Real cases for training: split by patient, prepared once, and kept beside the weights.

`TrainingCases` is what `finetune` uses. The output folder then holds patients' images.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import TypeAdapter

from lesionlens.base.errors import ConfigError, ReadError, UnusableInputError
from lesionlens.base.files import read_json
from lesionlens.base.grid import fraction_beyond
from lesionlens.base.labels import Label
from lesionlens.base.numerics import connected_parts
from lesionlens.base.records.study import PreparedStudy
from lesionlens.base.run_context import SILENT, RunContext
from lesionlens.base.storage import write_atomically
from lesionlens.engines.grid import make_network_input
from lesionlens.imaging.preparation.intensities import intensity_digest, scan_digest
from lesionlens.imaging.preparation.prepare import prepare
from lesionlens.imaging.preparation.resampling import resample
from lesionlens.training.augmentation import PreparedCase
from lesionlens.training.losses import CAVITY, MAX_LESIONS
from lesionlens.training.references import RealCase, Reference, naming_case

SPLIT_NAME = "split.json"
HELD_OUT = 0.25
"""Share of the patients that are held out."""
_SIDES = TypeAdapter(dict[Literal["training", "validation"], dict[str, Any] | list[str]])
_MAX_OUTSIDE = 0.5  # share of a reference's voxels beyond the images, above which it is of others


class TrainingCases:
    """Cases on both sides of the split.

    Parameters
    ----------
    cases : sequence of RealCase
    out : Path
        Receives `split.json` and `cases/`.
    spacings_mm : tuple of float
        Voxel sizes on which each case is prepared.

    Raises
    ------
    ConfigError
        There are fewer than two patients, split.json is invalid, or one scan is on both sides.
    """

    def __init__(
        self, cases: Sequence[RealCase], out: Path, spacings_mm: tuple[float, ...],
        context: RunContext = SILENT,
    ) -> None:  # fmt: skip
        self._folder, self.spacings_mm, self._context = out / "cases", spacings_mm, context
        held_out = recorded_split(cases, out / SPLIT_NAME)
        self.training = tuple(c for c in cases if not held_out[c.patient])
        self.held_out = tuple(c for c in cases if held_out[c.patient])
        owners: dict[str, RealCase] = {}
        for case in (*self.training, *self.held_out):
            for scan in self.scans(case):
                other = owners.setdefault(scan, case)
                if case in self.held_out and other in self.training:
                    raise ConfigError(
                        f"Case {case.name!r} is held out, but one of its scans is trained on as "
                        f"{other.name!r}.",
                        hint="Remove one of them, or name their patient in patients.tsv, and "
                        "choose another --out.",
                    )

    def among(self, digests: Collection[str]) -> tuple[str, ...]:
        """Return the held-out cases of which a scan is among these digests."""
        known = frozenset(digests)
        return tuple(c.name for c in self.held_out if not known.isdisjoint(self.scans(c)))

    def prepared(self, case: RealCase, spacing_mm: float) -> PreparedCase:
        """Return a case on a grid of one of the voxel sizes; it is prepared once for all."""
        files = {mm: self._folder / f"{_stem(case)}-{mm:g}mm.npz" for mm in self.spacings_mm}
        if not files[spacing_mm].is_file():
            self._context.check("preparing cases")
            self._context.progress(f"preparing {case.name}", 0.0)
            with naming_case(case.name):
                study, reference = prepare(case.study(), self._context.quiet()), case.reference()
                for mm, file in files.items():
                    buffer = io.BytesIO()
                    np.savez(buffer, **pack_case(study, reference, mm)._asdict())
                    write_atomically(file, buffer.getvalue())
        with np.load(files[spacing_mm], allow_pickle=False) as stored:
            return PreparedCase(**stored)

    def scans(self, case: RealCase) -> list[str]:
        """Return both digests of each of a case's scans."""
        path = self._folder / f"{_stem(case)}-scans.json"
        if path.is_file():
            return [str(scan) for scan in read_json(path)]
        self._context.check("reading cases")
        self._context.progress(f"reading {case.name}", 0.0)
        with naming_case(case.name):
            loaded = [(series.load(), series.grid) for series in case.study().series.values()]
        digests = {scan_digest(values, grid) for values, grid in loaded}
        digests |= {intensity_digest(values) for values, _ in loaded}
        self._folder.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps(sorted(digests)))
        return sorted(digests)


def _stem(case: RealCase) -> str:
    """Return the start of the names of a case's files."""
    return hashlib.sha256(f"{case.name}\0{case.key}".encode()).hexdigest()[:24]


def pack_case(prepared: PreparedStudy, reference: Reference, spacing_mm: float) -> PreparedCase:
    """Resample a case and its reference to the network's grid.

    Each voxel gets the label at its centre, so that thin rims keep their volume.

    Raises
    ------
    UnusableInputError
        Most of the reference lies outside the images.
    """
    network_input = make_network_input(prepared, spacing_mm, torch.device("cpu"))
    values, grid = reference
    outside = fraction_beyond(values > 0, grid, network_input.grid)
    if outside > _MAX_OUTSIDE:
        raise UnusableInputError(
            f"{outside:.0%} of the reference lies outside the images.",
            hint="Check that it is of these images.",
        )
    labels = resample(values.astype(np.float32), grid, network_input.grid, nearest=True)
    levels = np.zeros(256, np.uint8)
    levels[[Label.OEDEMA, Label.CORE, Label.ENHANCING]] = 1, 2, 3
    brain = network_input.brain[0].numpy()
    labels = np.where(brain, labels, 0).astype(np.uint8)
    code = levels[labels] + brain
    instances = np.where(labels == Label.CAVITY, np.uint8(CAVITY), number_lesions(code))
    inside = np.argwhere(brain)
    i, j, k = (slice(a, b + 1) for a, b in zip(inside.min(0), inside.max(0), strict=True))
    return PreparedCase(
        network_input.channels[0, :, i, j, k].half().numpy(),
        code[i, j, k].astype(np.uint8),
        instances[i, j, k].astype(np.uint8),
        np.asarray(prepared.present),
    )


def number_lesions(code: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return numbers of the largest separate tumours of `PreparedCase.code`; 26-connectivity."""
    parts, sizes = connected_parts(code > 1)
    rank = np.zeros(len(sizes), np.uint8)
    largest = np.argsort(-sizes[1:], kind="stable")[:MAX_LESIONS]
    rank[largest + 1] = np.arange(1, len(largest) + 1)
    return np.asarray(rank[parts])


def recorded_split(cases: Sequence[RealCase], path: Path) -> dict[str, bool]:
    """Return whether each patient is held out, and record it; an earlier split is kept."""
    earlier = read_split(path)
    held_out = split((case.patient for case in cases), earlier)
    record: dict[str, dict[str, list[str]]] = {"training": {}, "validation": {}}
    for patient, is_held_out in (earlier | held_out).items():
        names = [case.name for case in cases if case.patient == patient]
        record["validation" if is_held_out else "training"][patient] = names
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(record, indent=1) + "\n")
    return held_out


def read_split(path: Path) -> dict[str, bool]:
    """Return whether each patient in a `split.json` is held out; empty without the file.

    Raises
    ------
    ConfigError
        It is damaged, or misspells a side, whose patients would be trained on.
    """
    try:
        record = _SIDES.validate_python(read_json(path) if path.is_file() else {})
        patients = [patient for side in record.values() for patient in side]
        if len(patients) > len(set(patients)):
            raise ValueError("a patient is listed twice")  # noqa: TRY301
    except (OSError, ValueError, ReadError) as error:
        raise ConfigError(
            f"{SPLIT_NAME} in {path.parent.name!r} cannot be used.",
            hint='It lists patients under "training" and "validation", each patient once.',
        ) from error
    return {p: side == "validation" for side, names in record.items() for p in names}


def split(patients: Iterable[str], earlier: Mapping[str, bool]) -> dict[str, bool]:
    """Return whether each patient is held out: a share of `HELD_OUT`, at least one.

    Raises
    ------
    ConfigError
        One side would be empty.

    Examples
    --------
    >>> sum(split((str(n) for n in range(12)), {}).values())
    3
    """
    names = sorted(set(patients))
    held_out = {p: earlier[p] for p in names if p in earlier}
    missing = max(1, round(HELD_OUT * len(names))) - sum(held_out.values())
    order = sorted(
        (p for p in names if p not in earlier),
        key=lambda p: hashlib.sha256(f"1:{p}".encode()).digest(),
    )
    held_out |= {p: rank < missing for rank, p in enumerate(order)}
    if len(set(held_out.values())) < 2:
        raise ConfigError(
            "Both training and validation need a patient.",
            hint="Add cases of another patient, or choose another --out.",
        )
    return held_out
