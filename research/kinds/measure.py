"""Measure the candidates of synthetic scans (`kinds/synthetic_scans.py`), for `kinds/fit.py`.

    python -m research.kinds.measure SCANS

Writes beside each patient's file a JSON file of its candidates: kind, origin of the outline,
features. Patients that have one are not measured again.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lesionlens.analysis.findings import anatomy
from lesionlens.analysis.findings.components import merged, without_specks
from lesionlens.analysis.findings.kind_features import (
    CoarseBrain,
    Features,
    depth_of,
    features_of,
    lattice_of,
)
from lesionlens.base.geometry import bounding_box
from lesionlens.base.grid import Grid
from lesionlens.base.labels import LesionKind, MrSequence

SPACING_MM = 2.0
DISMISSED = 100
"""Added to the number of a component that scores below the engine's threshold."""
MIN_VOXELS = 12
MAX_PER_SORT = 5
_MIN_OVERLAP, _MAX_OVERLAP, _MERGE_MM = 0.3, 0.05, 3.0
SORTS = {
    "spots": LesionKind.PLAQUE,
    "plaques": LesionKind.PLAQUE,
    "cavity": LesionKind.CAVITY,
    "normal": LesionKind.OTHER,
    "blood": LesionKind.VASCULAR,
    "bleeding": LesionKind.VASCULAR,
    "infarct": LesionKind.VASCULAR,
}


@dataclass(frozen=True, slots=True)
class SyntheticPatientScans:
    """A patient, from a file of `kinds/synthetic_scans.py`."""

    scans: NDArray[np.float32]
    """(2, 4, I, J, K)."""
    brain: NDArray[np.bool_]
    outlines: dict[str, NDArray[np.bool_]]
    """Reference outlines by the name of the lesion, (I, J, K) each."""
    engine_components: NDArray[np.uint8]
    """(2, 2, I, J, K): number of the engine's component, by scan and by subset."""
    subsets: NDArray[np.bool_]
    """(2, 2, 4): sequences of each."""
    tumour: LesionKind
    """Kind of its tumours."""


def read_patient(file: Path) -> SyntheticPatientScans:
    """Read a patient."""
    with np.load(file) as stored:
        names = [n for n in stored.files if n.startswith("true_")]
        return SyntheticPatientScans(
            stored["scans"].astype(np.float32),
            stored["brain"],
            {name.removeprefix("true_"): stored[name] for name in names},
            stored["found"],
            stored["subsets"],
            LesionKind(str(stored["tumour"])),
        )


@dataclass(frozen=True, slots=True)
class Row:
    """One candidate."""

    kind: LesionKind
    sort: str
    """Origin of the outline: a reference outline, or a component of the engine."""
    features: Features


def coarse_brain(
    images: NDArray[np.float32], brain: NDArray[np.bool_], spacing_mm: float
) -> CoarseBrain:
    """Return a synthetic scan as the input of the features."""
    affine = np.diag([spacing_mm, spacing_mm, spacing_mm, 1.0])
    grid = Grid(brain.shape, affine)
    head = anatomy.find_head(brain, grid)
    if head is None:
        raise ValueError(brain.shape)
    image_by_sequence = dict(zip(MrSequence, images, strict=True))
    return CoarseBrain(image_by_sequence, brain, depth_of(brain, grid), grid, head, np.eye(4))


def numbered_components(mask: NDArray[np.bool_], grid: Grid) -> NDArray[np.int32]:
    """Return the numbered components of a mask, merged as candidates are."""
    components = np.zeros(mask.shape, np.int32)
    box = bounding_box(mask)
    if box is not None:
        components[box] = merged(without_specks(mask[box], MIN_VOXELS), grid, _MERGE_MM)[0]
    return components


def candidate_rows(file: Path) -> list[Row]:
    """Return the candidates of a synthetic patient."""
    patient = read_patient(file)
    rng = np.random.default_rng(int(file.stem))
    rows: list[Row] = []
    first = coarse_brain(patient.scans[0], patient.brain, SPACING_MM)
    for scan, images in enumerate(patient.scans):
        view = replace(first, images=dict(zip(MrSequence, images, strict=True)))
        rows += [
            Row(kind, sort, features)
            for sort, kind, numbers, selected in _outline_sets(patient, scan, view.grid)
            for features in _features_of(view, numbers, selected, rng)
        ]
    return rows


def _outline_sets(
    patient: SyntheticPatientScans, scan: int, grid: Grid
) -> Iterator[tuple[str, LesionKind, NDArray[np.int32], list[int]]]:
    sorts = {"tumour": patient.tumour, **SORTS}
    for sort, kind in sorts.items():
        if sort == ("blood", "bleeding")[scan]:
            continue
        if sort not in patient.outlines:
            continue
        numbers = numbered_components(patient.outlines[sort], grid)
        yield f"true {sort}", kind, numbers, list(range(1, int(numbers.max()) + 1))
    for n, components in enumerate(patient.engine_components[scan]):
        subset_name = "all" if n == 0 else "some"
        numbers = components.astype(np.int32)
        for sort_name, selected in (
            ("found", np.where(numbers < DISMISSED, numbers, 0)),
            ("dismissed", np.where(numbers > DISMISSED, numbers - DISMISSED, 0)),
        ):
            for number in range(1, int(selected.max()) + 1):
                kind_of_outline = _kind_of(selected == number, patient)
                if kind_of_outline is not None:
                    yield f"{sort_name} {subset_name}", kind_of_outline, selected, [number]


def _kind_of(mask: NDArray[np.bool_], patient: SyntheticPatientScans) -> LesionKind | None:
    overlaps = {name: float(true[mask].mean()) for name, true in patient.outlines.items()}
    if mask.sum() < MIN_VOXELS:
        return None
    if overlaps["tumour"] >= _MIN_OVERLAP:
        return patient.tumour
    for sort, kind in SORTS.items():
        is_mostly = overlaps.get(sort, 0.0) >= _MIN_OVERLAP and overlaps["tumour"] < _MAX_OVERLAP
        if is_mostly and kind is not LesionKind.OTHER:
            return kind
    lesion = sum(overlap for name, overlap in overlaps.items() if name != "normal")
    return LesionKind.OTHER if lesion < 2 * _MAX_OVERLAP else None


def _features_of(
    view: CoarseBrain, numbers: NDArray[np.int32], selected: list[int], rng: np.random.Generator
) -> Iterator[Features]:
    if not selected:
        return
    lattice = lattice_of(view, numbers)
    if len(selected) > MAX_PER_SORT:
        selected = rng.choice(selected, MAX_PER_SORT, replace=False).tolist()
    for number in selected:
        features = features_of(lattice, number)
        if features is not None:
            yield features


def main() -> None:
    """Measure the patients without a stored measurement."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("scans", type=Path)
    for file in sorted(parser.parse_args().scans.glob("????.npz")):
        output = file.with_suffix(".json")
        if not output.is_file():
            rows = [[r.kind.value, r.sort, r.features] for r in candidate_rows(file)]
            output.write_text(json.dumps(rows), encoding="utf-8")


if __name__ == "__main__":
    main()
