"""Compute the map of structures by which `findings.anatomy` names locations.

    python -m training.templates.anatomical_map FOLDER src/lesionlens/analysis/findings/places.npz

FOLDER holds label maps of whole heads (FreeSurfer numbers, any orientation). Each is registered to
MNI152 by the same registration that names candidates, so that the map contains its errors; left and
right are folded onto each other. Stored: the share of heads in which a structure lies at a voxel.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lesionlens.analysis.findings.anatomy import Head, find_head
from lesionlens.analysis.findings.structures import ORIGIN_MNI, SHAPE, STEP_MM, STRUCTURES
from lesionlens.base.grid import Grid

LABELS = {
    "white matter": (2, 41, 77, 85),
    "cortex": (3, 42),
    "thalamus": (10, 49, 28, 60),
    "basal ganglia": (11, 12, 13, 26, 50, 51, 52, 58),
    "hippocampus": (17, 18, 53, 54),
    "brainstem": (16,),
    "cerebellum": (7, 8, 46, 47),
    "ventricle": (4, 5, 14, 15, 43, 44),
}


def read_head(path: Path) -> tuple[NDArray[np.int16], Grid, Head | None]:
    """Return the labels of one head at 2 mm, their grid, and its registration to MNI152."""
    image = nib.as_closest_canonical(nib.load(path))
    labels = np.asarray(image.dataobj).astype(np.int16)[::2, ::2, ::2]
    affine = image.affine @ np.diag([2.0, 2.0, 2.0, 1.0])
    axis_aligned = np.diag([*np.abs(np.diag(affine)[:3]), 1.0])
    axis_aligned[:3, 3] = affine[:3, 3]
    labelled = np.isin(labels, [n for numbers in LABELS.values() for n in numbers])
    brain = ndimage.binary_fill_holes(ndimage.binary_closing(labelled, iterations=2)) | labelled
    grid = Grid(labels.shape, axis_aligned)
    return labels, grid, find_head(brain, grid)


def structure_counts(path: Path) -> np.ndarray:
    """Return the voxels of one head in each structure at each voxel of the map, left on right."""
    labels, grid, head = read_head(path)
    assert head is not None, path
    counts = np.zeros((len(STRUCTURES), *SHAPE), np.float32)
    for index, name in enumerate(STRUCTURES):
        mni = head.to_mni(grid.to_mm(np.argwhere(np.isin(labels, LABELS[name]))))
        mni[:, 0] = np.abs(mni[:, 0])
        voxels = np.rint((mni - ORIGIN_MNI) / STEP_MM).astype(int)
        inside = ((voxels >= 0) & (voxels < SHAPE)).all(axis=1)
        np.add.at(counts[index], tuple(voxels[inside].T), 1.0)
    return counts


def main() -> None:
    """Write the map."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, help="folder of label maps, .nii.gz")
    parser.add_argument("out", type=Path, help="places.npz")
    options = parser.parse_args()
    heads = sorted(options.folder.glob("*.nii.gz"))
    total = np.zeros((len(STRUCTURES), *SHAPE), np.float32)
    for path in heads:
        counts = structure_counts(path)
        total += counts / np.maximum(counts.sum(axis=0), 1.0)
    share = ndimage.gaussian_filter(total / len(heads), (0, 0.5, 0.5, 0.5))
    np.savez_compressed(options.out, share=np.rint(share * 15).astype(np.uint8))


if __name__ == "__main__":
    main()
