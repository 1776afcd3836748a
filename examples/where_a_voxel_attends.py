"""Ask the network where it looks from the middle of its first candidate, and save the answer.

python examples/where_a_voxel_attends.py sample_data/study attends.nii.gz
"""

from __future__ import annotations

import sys

import nibabel as nib
import numpy as np

from lesionlens import Lens, open_study


def main(path: str, out: str) -> None:
    """Write the map of one voxel."""
    result = Lens()(open_study(path))
    if not result.candidates:
        raise SystemExit("no candidate region")
    middle = result.labels.grid.to_voxel(result.candidates[0].centroid_mm)
    i, j, k = np.rint(middle).astype(int).tolist()
    attends = result.probe(voxel=(i, j, k))
    nib.save(nib.Nifti1Image(np.asarray(attends), attends.affine), out)


if __name__ == "__main__":
    main(*sys.argv[1:])
