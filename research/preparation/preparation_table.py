"""Measure the Dice that preparation costs: cases moved, rotated, with thick slices or a skull.

    python -m research.preparation.preparation_table DIR [--cases 3]

DIR holds folders of t1, t1c, t2, flair and seg, co-registered and skull-stripped. Every sequence
but the reference is moved by up to 15 mm and rotated by up to 15 degrees; all are resampled to
1 x 1 x 5 mm and get a skull-like rim. The result is scored on the original grid, on which 5 mm
slices cannot show a thin rim, and ("own") on its own grid, against the reference resampled to it.
"Ceiling" is the score of the reference itself on that grid, acquired as the images are, thresholded
at one half.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from unittest.mock import patch

import nibabel as nib
import numpy as np
from scipy import ndimage
from scipy.spatial.transform import Rotation

from lesionlens.analysis.findings.components import CandidateCriteria, segment_components
from lesionlens.base.grid import Grid
from lesionlens.base.labels import MrSequence, Region
from lesionlens.base.masks import dice
from lesionlens.base.records.study import PreparedStudy, Series, Study, StudyKind
from lesionlens.base.run_context import SILENT, RunContext
from lesionlens.engines import native_grid
from lesionlens.imaging.preparation import co_registration
from lesionlens.imaging.preparation.prepare import PrepareOptions, prepare
from lesionlens.imaging.preparation.registration import Registration, ResolutionPyramid, register
from lesionlens.imaging.preparation.resampling import resample
from lesionlens.imaging.reading.readers import open_study
from lesionlens.results.lens import Lens
from research.common.cases import resample_labels

REGIONS = {"WT": (1, 2, 3), "TC": (1, 3), "ET": (3,)}
SHELLS = {  # fluid, skull, scalp against the brain's median
    MrSequence.T1: (0.3, 0.12, 1.6),
    MrSequence.T1C: (0.3, 0.12, 1.7),
    MrSequence.T2: (1.8, 0.1, 0.8),
    MrSequence.FLAIR: (0.3, 0.12, 0.7),
}
VARIANTS = ("clean", "thick", "thick+moved", "thick+moved+rim")
Images = dict[MrSequence, tuple[np.ndarray, Grid]]


def with_head_rim(
    values: np.ndarray, outside_mm: np.ndarray, shells: tuple[float, ...]
) -> np.ndarray:
    """Add layers like fluid, skull and scalp to a stripped brain."""
    median = float(np.median(values[outside_mm == 0]))
    out = values.copy()
    for low, high, ratio in zip((0.0, 2.5, 8.0), (2.5, 8.0, 14.0), shells, strict=True):
        out[(outside_mm > low) & (outside_mm <= high)] = median * ratio
    rng = np.random.default_rng(0)
    return np.abs(out + rng.normal(0, 0.02 * median, out.shape)).astype(np.float32)


def thick_slices(
    values: np.ndarray, grid: Grid, motion: np.ndarray
) -> tuple[np.ndarray, Grid, np.ndarray]:
    """Resample to 1 x 1 x 5 mm slices of a moved head; return image, grid, true transform."""
    shape = (grid.shape[0], grid.shape[1], int(np.ceil(grid.shape[2] / 5)))
    affine = grid.affine @ np.diag([1.0, 1.0, 5.0, 1.0])
    affine[:3, 3] = grid.to_mm((0.0, 0.0, 2.0))
    thick_grid = Grid(shape, affine)
    return resample(values, grid, thick_grid, moved=motion), thick_grid, np.linalg.inv(motion)


def motion_of(rng: np.random.Generator, grid: Grid) -> np.ndarray:
    """Return a rigid motion of 5 to 15 mm and degrees about the centre of the grid, (4, 4)."""
    centre = grid.to_mm((np.asarray(grid.shape) - 1) / 2)
    axis, direction = rng.normal(size=(2, 3))
    angle = np.radians(rng.uniform(5, 15))
    motion = np.eye(4)
    motion[:3, :3] = Rotation.from_rotvec(axis / np.linalg.norm(axis) * angle).as_matrix()
    shift = direction / np.linalg.norm(direction) * rng.uniform(5, 15)
    motion[:3, 3] = centre + shift - motion[:3, :3] @ centre
    return motion


def make_variant(
    clean: Images, variant: str, seed: int
) -> tuple[Study, dict[MrSequence, np.ndarray]]:
    """Return a variant of a case, and the true transform of each sequence."""
    rng = np.random.default_rng(seed)
    brain = np.any([values != 0 for values, _ in clean.values()], axis=0)
    brain = ndimage.binary_fill_holes(brain)
    outside = ndimage.distance_transform_edt(~brain)
    series, true_transforms = {}, {}
    for sequence, (values, grid) in clean.items():
        is_fixed = sequence is MrSequence.T1C or "moved" not in variant
        motion = np.eye(4) if is_fixed else motion_of(rng, grid)
        image = with_head_rim(values, outside, SHELLS[sequence]) if "rim" in variant else values
        image_grid, true_transforms[sequence] = grid, np.linalg.inv(motion)
        if "thick" in variant:
            image, image_grid, true_transforms[sequence] = thick_slices(image, grid, motion)
        series[sequence] = Series(
            sequence, "bench", 1.0, image_grid, (), partial(np.asarray, image), "x"
        )
    return Study(variant, StudyKind.NIFTI, series, root=Path()), true_transforms


def segment(lens: Lens, prepared: PreparedStudy) -> np.ndarray:
    """Segment a prepared study; return labels on its native grid."""
    prediction = lens.engine.predict(prepared, context=SILENT)
    probability = native_grid.resample_regions(prediction.probability or {}, prepared, nested=True)
    marked = segment_components(
        {r: probability[r] for r in Region},
        prepared.native,
        CandidateCriteria(prediction.thresholds),
    )
    return marked.labels


def acquire_labels(seg: np.ndarray, grid: Grid, target: Grid) -> np.ndarray:
    """Resample labels to another grid by partial volumes, as a scanner would, cut at one half."""
    out = np.zeros(target.shape, np.uint8)
    for labels, value in zip(REGIONS.values(), (2, 1, 3), strict=True):
        out[resample(np.isin(seg, labels).astype(np.float32), grid, target) > 0.5] = value
    return out


def recorded_registration(motions: list[np.ndarray]) -> Callable[..., Registration]:
    """Return the registration function, which also appends every result to `motions`."""

    def register_and_record(*pair: ResolutionPyramid, context: RunContext) -> Registration:
        result = register(*pair, context=context)
        motions.append(result.reference_to_sequence)
        return result

    return register_and_record


def error_mm(estimated: np.ndarray, true: np.ndarray, points: np.ndarray) -> float:
    """Return the median distance between two transforms over points of the brain."""
    difference = points @ (estimated - true)[:3, :3].T + (estimated - true)[:3, 3]
    return float(np.median(np.linalg.norm(difference, axis=1)))


def label_dice(first: np.ndarray, second: np.ndarray, labels: tuple[int, ...]) -> float:
    """Return the Dice coefficient of the voxels with one of the labels."""
    return dice(np.isin(first, labels), np.isin(second, labels))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--cases", type=int, default=3)
    parser.add_argument("--variants", default=",".join(VARIANTS))
    arguments = parser.parse_args()
    lens = Lens("cpu")
    print(
        "case\tvariant\tWT\tTC\tET\tWT own\tTC own\tET own\tceiling WT\tTC\tET\t"
        "registration mm\tbrain Dice\tnotices"
    )
    for number, case in enumerate(sorted(arguments.folder.iterdir())[: arguments.cases]):
        opened = open_study(case)
        clean = {s: (item.load(), item.grid) for s, item in opened.series.items()}
        target = clean[MrSequence.T1C][1]
        seg = np.asarray(nib.load(case / "seg.nii.gz").dataobj)
        seg = np.where(seg == 4, 3, seg)  # BraTS until 2021
        brain = ndimage.binary_fill_holes(clean[MrSequence.T1C][0] != 0)
        points = target.to_mm(np.argwhere(brain)[::5000])
        for variant in arguments.variants.split(","):
            study, true_transforms = make_variant(clean, variant, number)
            motions: list[np.ndarray] = []
            # one thread, so that the transforms come in the order of the sequences
            one_by_one = PrepareOptions(cache=False, sides=False, threads=1)
            with patch.object(co_registration, "register", recorded_registration(motions)):
                prepared = prepare(study, RunContext(), one_by_one)
            mask = resample(prepared.brain.astype(np.float32), prepared.working, target) > 0.5
            native_labels = segment(lens, prepared)
            resampled = resample_labels(native_labels, prepared.native, target)
            native_seg = resample_labels(seg, target, prepared.native)
            best_labels = acquire_labels(seg, target, prepared.native)
            scores = [
                *(label_dice(resampled, seg, labels) for labels in REGIONS.values()),
                *(label_dice(native_labels, native_seg, labels) for labels in REGIONS.values()),
                *(label_dice(best_labels, native_seg, labels) for labels in REGIONS.values()),
            ]
            true_motions = [true_transforms[s] for s in study.series if s is not MrSequence.T1C]
            errors = [error_mm(m, t, points) for m, t in zip(motions, true_motions, strict=False)]
            row = [
                case.name,
                variant,
                *(f"{score:.3f}" for score in scores),
                " ".join(f"{error:.2f}" for error in errors) or "-",
                f"{dice(mask, brain):.3f}",
                " ".join(prepared.notices) or "-",
            ]
            print("\t".join(row), flush=True)


if __name__ == "__main__":
    main()
