"""Make `imaging/deidentification/face.npz` once from the twenty heads of anatomies.npz.

    python -m research.make.face_template

Their brains are registered to each other (affinely, as `deidentification.face` registers the
template to a patient). The region to remove is defined by the position of the eyes: in front of
their posterior poles from the brow down, receding towards the throat; the brow above; the ears at
the sides.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from lesionlens.base.geometry import apply
from lesionlens.base.grid import Grid
from lesionlens.imaging.deidentification.face import FIT_MM, fit
from lesionlens.imaging.preparation.resampling import resample
from lesionlens.network.synth import classes

ROOT = Path(__file__).parents[2] / "src/lesionlens"
LOW, HIGH = np.array([-100.0, -130.0, -190.0]), np.array([100.0, 150.0, 120.0])
FIRST_HEAD = 6
"""The head that the others are first registered to: its pitch is average."""
EAR_X, EAR_Y, EAR_Z = 74.0, (-50.0, 25.0), (-55.0, 25.0)
"""Region of the ears: distance from the midline, and extent about the eyes, mm."""
BROW_MM, SLOPE = 50.0, 0.45


def template_grid() -> Grid:
    """Return the grid of the template, RAS+ mm."""
    affine = np.diag([FIT_MM, FIT_MM, FIT_MM, 1.0])
    affine[:3, 3] = LOW
    return Grid(tuple(np.rint((HIGH - LOW) / FIT_MM).astype(int)), affine)


def heads() -> list[tuple[np.ndarray, Grid]]:
    """Return labels and grid of the twenty heads."""
    stored = np.load(ROOT / "network/synth/anatomies.npz")
    label_maps = []
    for number in range(1, 21):
        labels = stored[f"head_{number:02d}.labels"]
        affine = stored[f"head_{number:02d}.affine"].astype(np.float64)
        label_maps.append((labels, Grid(labels.shape, affine)))
    return label_maps


def face_zone(grid: Grid, eyes_by_head: list[np.ndarray]) -> np.ndarray:
    """Return the mask to remove on a grid, given each head's eyes, (N, 3) mm of the template."""
    eyes = np.concatenate(eyes_by_head)
    back = float(np.quantile(eyes[:, 1], 0.03))
    top = float(np.quantile(eyes[:, 2], 0.97))
    bottom = float(np.median([np.quantile(head_eyes[:, 2], 0.03) for head_eyes in eyes_by_head]))
    index = np.indices(grid.shape).reshape(3, -1).T
    x, y, z = grid.to_mm(index).T
    front = back - 2.0 - SLOPE * np.clip(bottom - z, 0, None)
    face = (y > front) & (z < top + 4.0)
    brow = (y > back - 4.0) & (z >= top + 4.0) & (z < top + BROW_MM)
    centre_z = (bottom + top) / 2
    ear = (np.abs(x) > EAR_X) & (y > EAR_Y[0]) & (y < EAR_Y[1])
    ear &= (z > centre_z + EAR_Z[0]) & (z < centre_z + EAR_Z[1])
    print(f"eyes: back {back:.0f}, z {bottom:.0f} to {top:.0f}")
    return np.asarray((face | brow | ear).reshape(grid.shape))


def main() -> None:
    """Write the file."""
    argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0]).parse_args()
    grid, label_maps = template_grid(), heads()
    brains = [
        resample(np.isin(labels, classes.BRAIN).astype(np.float32), head_grid, grid)
        for labels, head_grid in label_maps
    ]
    model = brains[FIRST_HEAD - 1]
    fits = []
    for _ in range(2):
        fits = [fit(model, grid, brain, grid) for brain in brains]  # the model's mm to the head's
        aligned = [
            resample(brain, grid, grid, moved=affine)
            for brain, (affine, _) in zip(brains, fits, strict=True)
        ]
        model = np.mean(aligned, axis=0, dtype=np.float32)
    to_model = [np.linalg.inv(affine).astype(float) for affine, _ in fits]
    print("dice", np.round([dice for _, dice in fits], 3))
    eyes = [
        apply(transform, head_grid.to_mm(np.argwhere(labels == classes.EYE)[::5]))
        for (labels, head_grid), transform in zip(label_maps, to_model, strict=True)
    ]
    print("centres of the eyes", [np.round(e.mean(axis=0)).astype(int).tolist() for e in eyes])
    zone = face_zone(grid, eyes)
    np.savez_compressed(
        ROOT / "imaging/deidentification/face.npz",
        brain=np.rint(model * 255).astype(np.uint8),
        zone=np.packbits(zone),
        affine=grid.affine.astype(np.float32),
    )


if __name__ == "__main__":
    main()
