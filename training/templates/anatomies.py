"""Make training/synth/anatomies.npz once from SynthSeg's label maps of whole heads.

    python -m training.templates.anatomies FOLDER

FOLDER holds head_01.nii.gz to head_20.nii.gz: `data/training_label_maps` of BBillot/SynthSeg
(Apache License 2.0). Each is cropped to the head and grouped to the classes of `synth.classes` at
the source's 1 mm; sulcal fluid within the brain's outline is separated from fluid beyond it. The
affine rotates each head so that its midsagittal plane is x = 0, with the origin in the middle of
the brain.
"""

from __future__ import annotations

import argparse
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage

from lesionlens.base.numerics import connected_parts
from training.synth import classes

TARGET = Path(__file__).parents[2] / "training/synth/anatomies.npz"
CLOSING_MM = 6.0
"""Sulci up to twice as wide lie within the brain's outline."""
LEFT, RIGHT = (2, 3, 7, 8, 10, 11, 12, 17), (41, 42, 46, 47, 49, 50, 51, 53)

SOURCE_VALUES: Mapping[int, tuple[int, ...]] = {
    classes.CORTEX: (3, 42, 17, 53, 18, 54, 136, 137, 163, 164),
    classes.WHITE: (2, 41, 25, 57),
    classes.FLUID: (24,),
    classes.VENTRICLE: (4, 43, 5, 44, 14, 15, 72),
    classes.THALAMUS: (10, 49),
    classes.STRIATUM: (11, 50, 12, 51, 26, 58),
    classes.PALLIDUM: (13, 52),
    classes.STEM: (16,),
    classes.DIENCEPHALON: (28, 60),
    classes.CHIASM: (85,),
    classes.CEREBELLAR_CORTEX: (8, 47),
    classes.CEREBELLAR_WHITE: (7, 46),
    classes.VESSEL: (30, 62),
    classes.SOFT: (507,),
    classes.BONE: (515,),
    classes.MARROW: (516,),
    classes.SKIN: (511,),
    classes.MUCOSA: (509,),
    classes.SINUS: (514,),
    classes.EYE: (506,),
    classes.OTHER: (502, 508, 530),
    classes.CORD: (512,),
}  # fmt: skip
"""FreeSurfer labels in the source, by class; labels from 502 are unnamed intensity classes, named
here by their position.
"""


def write(heads: Iterable[tuple[str, np.ndarray, np.ndarray]]) -> None:
    """Write the file from names, classes and affines."""
    with zipfile.ZipFile(TARGET, "w", zipfile.ZIP_LZMA) as archive:
        for name, labels, affine in heads:
            for part, array in (("labels", labels), ("affine", affine.astype(np.float32))):
                with archive.open(f"{name}.{part}.npy", "w") as stream:
                    np.lib.format.write_array(stream, np.ascontiguousarray(array))


def tissue_classes(values: np.ndarray) -> np.ndarray:
    """Map FreeSurfer labels to tissue classes, uint8."""
    table = np.full(600, classes.OTHER, dtype=np.uint8)
    table[0] = classes.AIR
    for name, source_labels in SOURCE_VALUES.items():
        table[list(source_labels)] = name
    classes_of_voxels: np.ndarray = table[values]
    return classes_of_voxels


def brain_outline(labels: np.ndarray) -> np.ndarray:
    """Return the mask of the brain and the fluid in its sulci."""
    tissue = np.isin(labels, classes.BRAIN) & (labels != classes.FLUID)
    parts, sizes = connected_parts(tissue, None)
    tissue = np.pad(parts == sizes.argmax(), 10)
    dilated = ndimage.distance_transform_edt(~tissue) <= CLOSING_MM
    closed = ndimage.distance_transform_edt(dilated) > CLOSING_MM
    filled: np.ndarray = ndimage.binary_fill_holes(closed | tissue)
    return filled[10:-10, 10:-10, 10:-10]


def split_fluid(labels: np.ndarray) -> np.ndarray:
    """Separate fluid outside the brain's outline; brain voxels outside of it become fluid, too."""
    inside = brain_outline(labels)
    out = labels.copy()
    out[~inside & np.isin(labels, classes.BRAIN)] = classes.OUTER_FLUID
    out[inside & ~np.isin(labels, classes.BRAIN)] = classes.FLUID
    return out


def upright_affine(values: np.ndarray, affine: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """Return the affine in which the plane between left and right structures is x = 0."""
    left, right = (np.argwhere(np.isin(values, side))[::7] @ affine[:3, :3].T + affine[:3, 3]
                   for side in (LEFT, RIGHT))  # fmt: skip
    covariance = np.cov(left.T) + np.cov(right.T)
    normal = np.linalg.solve(covariance, right.mean(0) - left.mean(0))
    normal /= np.linalg.norm(normal)
    if normal[0] < 0.9:
        raise ValueError(f"left and right are swapped, or the head is rotated too far: {normal}")
    axis = np.cross(normal, [1.0, 0.0, 0.0])
    skew = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    rotation = np.eye(3) + skew + skew @ skew / (1 + normal[0])
    rotated = np.eye(4)
    rotated[:3, :3] = rotation @ affine[:3, :3]
    rotated[:3, 3] = rotation @ (affine[:3, 3] - centre)
    midpoint = ((left.mean(0) + right.mean(0)) / 2 - centre) @ rotation.T
    rotated[0, 3] -= midpoint[0]
    return rotated


def read_head(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read a label map: classes (I, J, K) uint8 in RAS+ and their affine (4, 4)."""
    image = nib.as_closest_canonical(nib.load(path))
    values = np.asarray(image.dataobj).astype(np.int32)
    parts, sizes = connected_parts(values > 0, None)
    values[parts != sizes.argmax()] = 0
    voxels = np.argwhere(values > 0)
    low, high = voxels.min(0), voxels.max(0) + 1
    values = values[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
    affine = np.asarray(image.affine, dtype=np.float64).copy()
    affine[:3, 3] = affine[:3, :3] @ low + affine[:3, 3]
    labels = split_fluid(tissue_classes(values))
    brain = np.argwhere(np.isin(labels, classes.BRAIN))
    centre = affine[:3, :3] @ ((brain.min(0) + brain.max(0)) / 2) + affine[:3, 3]
    return labels, upright_affine(values, affine, centre)


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    paths = sorted(parser.parse_args().folder.glob("head_*.nii.gz"))
    write((path.name.split(".")[0], *read_head(path)) for path in paths)


if __name__ == "__main__":
    main()
