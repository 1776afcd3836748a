"""Make the sample patient from one BraTS 2021 case, cropped to the brain and compressed.

python -m training.templates.sample CASE --out sample_data
"""

from __future__ import annotations

import argparse
import gzip
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

LEVELS = 500
"""Intensity levels below the 99th percentile of each sequence."""
MARGIN_VOX = 2
BRATS_ENHANCING, LESIONLENS_ENHANCING = 4, 3
"""BraTS 2021 calls the enhancing tumour 4, LesionLens 3."""
SEQUENCES = ("t1", "t1c", "t2", "flair")


def save(voxels: NDArray[Any], affine: NDArray[Any], path: Path) -> None:
    """Write a NIfTI file whose bytes depend only on its content."""
    image = nib.Nifti1Image(voxels, affine)
    image.header.set_xyzt_units("mm")
    image.header["descrip"] = b"CC BY 4.0, see README.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file, gzip.GzipFile("", "wb", 9, file, mtime=0) as packed:
        packed.write(image.to_bytes())


def main(case: Path, out: Path) -> None:
    """Crop, scale and write the four sequences and the reference."""
    images = {name: nib.load(case / f"{name}.nii.gz") for name in (*SEQUENCES, "seg")}
    voxels = {name: np.asarray(image.dataobj) for name, image in images.items()}
    inside = np.any([array != 0 for array in voxels.values()], axis=0)
    corners = [(max(w.min() - MARGIN_VOX, 0), w.max() + MARGIN_VOX + 1) for w in inside.nonzero()]
    box = tuple(slice(int(first), int(last)) for first, last in corners)
    affine = images["seg"].affine.copy()
    affine[:3, 3] = (affine @ [*(array.start for array in box), 1])[:3]
    for name in SEQUENCES:
        cropped = voxels[name][box]
        step = max(float(np.quantile(cropped[cropped > 0], 0.99)) / LEVELS, 1.0)
        save(np.rint(cropped / step).astype(np.int16), affine, out / "study" / f"{name}.nii.gz")
    labels = voxels["seg"][box].astype(np.uint8)
    labels[labels == BRATS_ENHANCING] = LESIONLENS_ENHANCING
    save(labels, affine, out / "study_reference" / "segmentation.nii.gz")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("case", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    main(options.case, options.out)
