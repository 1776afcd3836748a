"""Compare the intensities of synthetic and real brains: z-scores by tissue.

    python -m research.preparation.tissue_table --data CASES [--volumes 40]

Only medians over tissue classes leave the cases. Cells: real median [lowest, highest] | synthetic
median [5%, 95%] | share of real cases outside the synthetic 2 to 98%. Healthy tissue of the real
cases comes from the atlas scaled to the brain's bounding box: crude, but enough for a median.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage

from lesionlens.network.synth.atlas import AVERAGE, load_atlas
from lesionlens.network.synth.generator import GeneratorConfig, generate_geometry, paint
from research.common.cases import segmented_cases
from research.quality.development_cases import SEQUENCES, load_case, prepared, to_grid

SPACING = 2.0
LESIONS = {"oedema": (1, 0), "core without uptake": (1, 1), "enhancing": (1, 1, 1)}


def measure(
    x: np.ndarray, brain: np.ndarray, classes: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Return medians of each sequence by class, lesion spread, and white-matter roughness."""
    out = {
        k: np.array([np.median(v[m]) if m.sum() > 15 else np.nan for v in x])
        for k, m in classes.items()
    }
    for name in LESIONS:
        mask = classes[name]
        out[f"spread of {name}"] = np.array(
            [v[mask].std() if mask.sum() > 50 else np.nan for v in x]
        )
    white = classes["white"]
    rough = [v - ndimage.gaussian_filter(v, 1.0) for v in x]
    out["roughness of white"] = np.array(
        [r[white].std() if white.sum() > 15 else np.nan for r in rough]
    )
    rim = brain & ~ndimage.binary_erosion(brain)
    out["outer rim"] = np.array([np.median(v[rim]) for v in x])
    return out


def lesion_classes(labels: np.ndarray) -> dict[str, np.ndarray]:
    """Return masks of oedema, core without uptake and enhancement of soft labels (3, I, J, K)."""
    wt, tc, et = labels
    return {"oedema": wt - tc > 0.9, "core without uptake": tc - et > 0.9, "enhancing": et > 0.85}


def real_medians(folder: Path) -> dict[str, np.ndarray]:
    """Return the medians of one real case."""
    _, _, labels, edges = load_case(folder)
    assert labels is not None, folder
    channels, _, brain = prepared(folder, SPACING)
    x, mask = channels[0].numpy(), brain[0].numpy()
    lesion = to_grid(torch.from_numpy(labels.astype(np.float32)), edges, SPACING).numpy()
    maps = load_atlas(AVERAGE, SPACING, torch.device("cpu")).maps[:7].numpy()
    inside, brain_voxels = np.argwhere(maps[5] > 0.5), np.argwhere(mask)
    grid = np.indices(mask.shape)
    low, high, mlow, mhigh = inside.min(0), inside.max(0), brain_voxels.min(0), brain_voxels.max(0)
    atlas_voxels = [
        (grid[i] - mlow[i]) / (mhigh[i] - mlow[i]) * (high[i] - low[i]) + low[i] for i in range(3)
    ]
    tissue = np.stack([ndimage.map_coordinates(m, atlas_voxels, order=1) for m in maps])
    clean = mask & ~ndimage.binary_dilation(lesion[0] > 0.1, iterations=3)
    deep = ndimage.binary_dilation(tissue[3] > 0.3, iterations=3) & clean
    fluid = deep & (x[2] > np.quantile(x[2][deep], 0.75)) & (x[0] < np.quantile(x[0][deep], 0.3))
    return measure(
        x,
        mask,
        {
            "white": clean & (tissue[1] > 0.85),
            "cortex": clean & (tissue[0] > 0.7),
            "deep grey": clean & (tissue[4] > 0.5),
            "ventricle": fluid,
            **lesion_classes(lesion),
        },
    )


def synthetic_medians(seed: int) -> dict[str, np.ndarray]:
    """Return the medians of one synthetic volume."""
    config = GeneratorConfig(shape=(84, 104, 84), spacing_mm=(SPACING, SPACING), tumour_free=0)
    geometry = generate_geometry(config, [seed])
    batch = paint(config, geometry, [seed])
    membership = geometry.membership[0].numpy()
    return measure(
        batch.zscored[0].numpy(),
        batch.brain[0].numpy(),
        {
            "white": membership[1] > 0.85,
            "cortex": membership[0] > 0.7,
            "deep grey": membership[4] > 0.5,
            "ventricle": membership[3] > 0.7,
            "oedema": membership[5] > 0.85,
            "core without uptake": membership[6] + membership[7] > 0.9,
            "enhancing": membership[8] > 0.85,
        },
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--volumes", type=int, default=40)
    options = parser.parse_args()
    torch.set_num_threads(1)
    folders = segmented_cases(options.data)
    real_cases = [real_medians(f) for f in folders]
    synthetic_cases = [synthetic_medians(1_900_000_000 + s) for s in range(options.volumes)]
    for name in real_cases[0]:
        cells = []
        for k, sequence in enumerate(SEQUENCES):
            r = np.array([q[name][k] for q in real_cases if not np.isnan(q[name][k])])
            s = np.array([q[name][k] for q in synthetic_cases if not np.isnan(q[name][k])])
            if not len(r) or not len(s):
                continue
            outside = np.mean((r < np.quantile(s, 0.02)) | (r > np.quantile(s, 0.98)))
            cells.append(
                f"{sequence} {np.median(r):+.2f} [{r.min():+.2f},{r.max():+.2f}] | "
                f"{np.median(s):+.2f} "
                f"[{np.quantile(s, 0.05):+.2f},{np.quantile(s, 0.95):+.2f}] | {outside:.0%}"
            )
        print(f"{name:24s}" + "   ".join(cells))


if __name__ == "__main__":
    main()
