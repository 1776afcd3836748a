"""Make `imaging/preparation/template.npz` once from the tissue maps of `tissues.py`.

    python -m training.templates.brain_template

Three maps at 4 mm as uint8 (255 = 1): grey matter, white matter and brain mask, in MNI space,
RAS+. Preparation registers them to a head to find the brain within its skull.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[2] / "src/lesionlens"
FACTOR = 2


def halved(maps: np.ndarray) -> np.ndarray:
    """Return (C, I, J, K) averaged over blocks of 2 x 2 x 2 voxels."""
    even = maps[:, : maps.shape[1] // 2 * 2, : maps.shape[2] // 2 * 2, : maps.shape[3] // 2 * 2]
    c, i, j, k = even.shape
    blocks = even.reshape(c, i // 2, 2, j // 2, 2, k // 2, 2)
    return np.asarray(blocks.mean(axis=(2, 4, 6)))


def main() -> None:
    """Write the file."""
    argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0]).parse_args()
    with np.load(ROOT / "training/synth/tissues.npz") as stored:
        cortex, white, _, _, deep, mask, _ = stored["maps"].astype(np.float32)
        affine = stored["affine"].astype(np.float64)
    coarse = halved(np.stack([cortex + deep, white, mask]))
    coarse_affine = affine.copy()
    coarse_affine[:3, :3] *= FACTOR
    coarse_affine[:3, 3] += affine[:3, :3] @ np.full(3, 0.5)
    np.savez_compressed(
        ROOT / "imaging/preparation/template.npz",
        maps=np.round(np.clip(coarse, 0, 255)).astype(np.uint8),
        affine=coarse_affine,
    )


if __name__ == "__main__":
    main()
