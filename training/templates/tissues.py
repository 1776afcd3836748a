"""Make `synth/tissues.npz` and `imaging/preparation/template.npz` from MNI152 maps of nilearn.

    python -m training.templates.tissues

Seven maps at 2 mm as uint8 (255 = 1): cortex, white matter, outer CSF, ventricle, deep grey matter,
brain mask, cerebellum. CSF is the brain without grey and white matter. The template, to
which preparation registers a head, has grey matter, white matter and brain mask at 4 mm.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from scipy import ndimage

TOP = Path(__file__).parents[2]
TARGET = TOP / "training/synth/tissues.npz"
TEMPLATE = TOP / "src/lesionlens/imaging/preparation/template.npz"
RESOLUTION_MM = 2


def _ventricle_core(csf: np.ndarray, depth: np.ndarray, mm: np.ndarray) -> np.ndarray:
    """Return deep CSF near the midline in components above 0.3 ml, bool (I, J, K)."""
    x, _, z = mm
    core = (csf > 0.4) & (depth > 14) & (np.abs(x) < 38) & (z > -32) & (z < 36)
    parts, count = ndimage.label(core)
    volume = ndimage.sum(core, parts, range(1, count + 1)) * RESOLUTION_MM**3
    return np.isin(parts, 1 + np.flatnonzero(volume > 300))


def tissue_maps() -> tuple[np.ndarray, np.ndarray]:
    """Return the maps, (7, I, J, K) float64 0-1 in RAS, and their affine (4, 4)."""
    from nilearn import datasets

    grey_image = datasets.load_mni152_gm_template(resolution=RESOLUTION_MM)
    affine = np.asarray(grey_image.affine)
    grey = grey_image.get_fdata()
    white = datasets.load_mni152_wm_template(resolution=RESOLUTION_MM).get_fdata()
    mask = datasets.load_mni152_brain_mask(resolution=RESOLUTION_MM).get_fdata() > 0.5
    mask = ndimage.binary_fill_holes(ndimage.binary_closing(mask, iterations=2))
    grey, white = np.clip(grey, 0, 1) * mask, np.clip(white, 0, 1) * mask
    csf = np.clip(1 - grey - white, 0, 1) * mask
    total = grey + white + csf + 1e-6
    grey, white, csf = grey / total, white / total, csf / total
    depth = ndimage.distance_transform_edt(mask) * RESOLUTION_MM
    index = np.indices(grey.shape)
    mm = np.einsum("ab,bijk->aijk", affine[:3, :3], index) + affine[:3, 3, None, None, None]
    x, y, z = mm
    core = ndimage.binary_dilation(_ventricle_core(csf, depth, mm)).astype(float)
    ventricle = csf * np.clip(ndimage.gaussian_filter(core, 0.7), 0, 1)
    box = (np.abs(x) < 38) & (y > -38) & (y < 26) & (z > -16) & (z < 24) & (depth > 22)
    deep = grey * ndimage.gaussian_filter(box.astype(float), 1.5)
    behind = (z < -14 + 0.25 * (y + 60)) & (y < -28) & mask
    cerebellum = ndimage.gaussian_filter(behind.astype(float), 1.0)
    maps = [grey - deep, white, csf - ventricle, ventricle, deep, mask.astype(float), cerebellum]
    return np.stack(maps), affine


def coarse_template(maps: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return grey matter, white matter and brain mask at 4 mm, (3, I, J, K), and their affine."""
    cortex, white, _, _, deep, mask, _ = maps.astype(np.float32)
    fine = np.stack([cortex + deep, white, mask])
    i, j, k = (n // 2 for n in fine.shape[1:])
    blocks = fine[:, : 2 * i, : 2 * j, : 2 * k].reshape(3, i, 2, j, 2, k, 2)
    coarse_affine = affine.astype(np.float64)
    coarse_affine[:3, 3] += coarse_affine[:3, :3] @ np.full(3, 0.5)
    coarse_affine[:3, :3] *= 2
    return blocks.mean(axis=(2, 4, 6)), coarse_affine


def main() -> None:
    """Write both files."""
    argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0]).parse_args()
    maps, affine = tissue_maps()
    stored, affine = np.round(np.clip(maps, 0, 1) * 255).astype(np.uint8), affine.astype(np.float32)
    np.savez_compressed(TARGET, maps=stored, affine=affine)
    coarse, coarse_affine = coarse_template(stored, affine)
    coarse = np.round(np.clip(coarse, 0, 255)).astype(np.uint8)
    np.savez_compressed(TEMPLATE, maps=coarse, affine=coarse_affine)


if __name__ == "__main__":
    main()
