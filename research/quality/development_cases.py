r"""Score weights on real development cases, which are never trained on.

    python -m research.quality.development_cases WEIGHTS.safetensors \
        --data CASES [--spacing 2] [--subsets main] [--cases]
    python -m research.quality.development_cases WEIGHTS.safetensors --data CASES \
        --clear HEALTHY ...

A case is a folder with t1, t1c, t2, flair and seg as .nii.gz on one grid, skull-stripped. Dice is
computed on the native grid at 1 mm without parts below 0.1 ml; an empty result for an empty
reference counts 1.
"""

from __future__ import annotations

import argparse
import json
import time
from functools import lru_cache
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from nibabel.processing import resample_from_to
from scipy import ndimage
from torch.nn import functional

from lesionlens.base.masks import connected_parts, dice
from lesionlens.network import weights
from lesionlens.network.model import LensNetwork
from lesionlens.network.normalise import with_presence, zscore
from research.common.cases import segmented_cases

SEQUENCES = ("t1", "t1c", "t2", "flair")
REGIONS = ("wt", "tc", "et")
SUBSETS = {
    "all": (1, 1, 1, 1), "flair": (0, 0, 0, 1), "t1c": (0, 1, 0, 0), "t1c+flair": (0, 1, 0, 1),
    "t2": (0, 0, 1, 0), "t1": (1, 0, 0, 0), "no t1c": (1, 0, 1, 1),
    "no t1": (0, 1, 1, 1)}  # fmt: skip
MAIN_SUBSETS = ("all", "flair", "t1c", "t1c+flair")
SPECK_VOXELS = 100
Row = dict[str, Any]


def _volumes(paths: dict[str, Path]) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return arrays on the grid of the first file, in RAS, and its voxel edges in mm."""
    images = {name: nib.as_closest_canonical(nib.load(path)) for name, path in paths.items()}
    first = next(iter(images.values()))
    arrays = {}
    for name, image in images.items():
        same_grid = image.shape == first.shape and np.allclose(
            image.affine, first.affine, atol=1e-3
        )
        resampled = (
            image if same_grid else resample_from_to(image, first, order=0 if name == "seg" else 1)
        )
        arrays[name] = np.asarray(resampled.dataobj, dtype=np.float32)
    return arrays, np.asarray(first.header.get_zooms()[:3])


@lru_cache(maxsize=32)
def load_case(folder: Path) -> tuple[torch.Tensor, torch.Tensor, np.ndarray | None, np.ndarray]:
    """Return channels (4, I, J, K), presence (4,), labels (3, I, J, K) or None, and edges in mm.

    All are cropped to the brain.
    """
    names = (*SEQUENCES, "seg")
    paths = {s: folder / f"{s}.nii.gz" for s in names if (folder / f"{s}.nii.gz").exists()}
    present = torch.tensor([name in paths for name in SEQUENCES])
    volumes, edges = _volumes(paths)
    reference = next(iter(volumes.values()))
    image = np.stack([volumes.get(s, np.zeros_like(reference)) for s in SEQUENCES])
    brain = (image > 0).any(0)
    box = tuple(slice(max(0, a.min() - 2), a.max() + 3) for a in np.nonzero(brain))
    labels = None
    if "seg" in volumes:
        seg = volumes["seg"][box]
        labels = np.stack([seg > 0, (seg == 1) | (seg >= 3), seg >= 3])
    return torch.from_numpy(image[(slice(None), *box)]), present, labels, edges


def _grid(shape: tuple[int, ...], edges: np.ndarray, spacing: float) -> list[int]:
    return [max(8, int(np.ceil(n * e / spacing))) for n, e in zip(shape, edges, strict=True)]


def to_grid(volume: torch.Tensor, edges: np.ndarray, spacing: float) -> torch.Tensor:
    """Resample (C, I, J, K) at native edges to a centred grid, smoothed against aliasing."""
    sigma = [0.42 * spacing / e if spacing > 1.01 * e else 0 for e in edges]
    smooth = np.stack([ndimage.gaussian_filter(v.numpy(), sigma) for v in volume])
    shape = _grid(volume.shape[1:], edges, spacing)
    axes = [
        (torch.arange(n) - (n - 1) / 2) * spacing / float(e) * 2 / (m - 1)
        for n, e, m in zip(shape, edges, volume.shape[1:], strict=True)
    ]
    sampling_grid = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).flip(-1)
    return functional.grid_sample(
        torch.from_numpy(smooth)[None], sampling_grid[None], align_corners=True
    )[0]


def from_grid(
    volume: torch.Tensor, native: tuple[int, ...], edges: np.ndarray, spacing: float
) -> torch.Tensor:
    """Invert `to_grid`."""
    axes = [
        (torch.arange(m) - (m - 1) / 2) * float(e) / spacing * 2 / (n - 1)
        for n, e, m in zip(volume.shape[1:], edges, native, strict=True)
    ]
    sampling_grid = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).flip(-1)
    return functional.grid_sample(
        volume[None], sampling_grid[None], padding_mode="border", align_corners=True
    )[0]


@lru_cache(maxsize=64)
def prepared(folder: Path, spacing: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return z-scores (1, 4, ...), presence (1, 4) and brain (1, ...) on a grid."""
    image, present, _, edges = load_case(folder)
    brain = to_grid((image > 0).any(0)[None].float(), edges, spacing) > 0.5
    return zscore(to_grid(image, edges, spacing)[None], brain), present[None], brain


@torch.no_grad()
def predict(
    network: LensNetwork, folder: Path, spacing: float, keep: tuple[int, ...]
) -> tuple[torch.Tensor, torch.Tensor, float]:
    """Return logits and attention on the grid, and seconds."""
    channels, present, brain = prepared(folder, spacing)
    x = with_presence(channels, present & torch.tensor(keep).bool(), brain)
    started = time.perf_counter()
    with torch.autocast("cpu", torch.bfloat16):
        output = network(x.contiguous(memory_format=torch.channels_last_3d))
    return output.logits[0], output.attention[0], time.perf_counter() - started


def drop_specks(mask: np.ndarray) -> np.ndarray:
    """Return a mask without connected components (by faces) below 0.1 ml."""
    numbers, sizes = connected_parts(mask, None)
    large: np.ndarray = (sizes >= SPECK_VOXELS)[numbers]
    return large


def segment(
    network: LensNetwork,
    folder: Path,
    spacings: list[float],
    keep: tuple[int, ...],
    threshold: float = 0.5,
) -> tuple[np.ndarray, list[torch.Tensor], float]:
    """Return nested masks (3, I, J, K) on the native grid, attention of each grid, seconds."""
    image, _, _, edges = load_case(folder)
    total, seconds, maps = torch.zeros(()), 0.0, []
    for spacing in spacings:
        logits, attention, pass_s = predict(network, folder, spacing, keep)
        total = total + from_grid(logits, image.shape[1:], edges, spacing) / len(spacings)
        maps.append(attention)
        seconds += pass_s
    level = float(np.log(threshold / (1 - threshold)))
    masks = (total.numpy() > level) & (image > 0).any(0).numpy()
    masks[1] &= masks[0]
    masks[2] &= masks[1]
    return np.stack([drop_specks(m) for m in masks]), maps, seconds


def score(
    network: LensNetwork,
    folder: Path,
    spacings: list[float],
    keep: tuple[int, ...],
    threshold: float,
) -> Row:
    """Return the row of one case: Dice, ml, and the attention in the reference, by region."""
    _, _, labels, edges = load_case(folder)
    assert labels is not None, folder
    masks, maps, seconds = segment(network, folder, spacings, keep, threshold)
    row: Row = {"case": folder.name, "seconds": seconds}
    for r, name in enumerate(REGIONS):
        row[name] = dice(masks[r], labels[r])
        row[f"{name}_ml"] = [round(float(m.sum()) / 1000, 1) for m in (labels[r], masks[r])]
        if labels[r].any():
            reference_map = to_grid(
                torch.from_numpy(labels[r][None].astype(np.float32)), edges, spacings[-1]
            )[0]
            attention = maps[-1][r]
            row[f"{name}_peak"] = float(reference_map.flatten()[int(attention.argmax())] > 0.25)
            row[f"{name}_mass"] = float((attention * (reference_map > 0.25)).sum())
    return row


def mean_line(rows: list[Row]) -> str:
    """Return the means over all cases in one line."""
    parts = []
    for name in REGIONS:
        peak = [r[f"{name}_peak"] for r in rows if f"{name}_peak" in r]
        mass = [r[f"{name}_mass"] for r in rows if f"{name}_mass" in r]
        mean = np.mean([r[name] for r in rows])
        parts.append(
            f"{name.upper()} {mean:.3f} "
            f"(peak {sum(peak):.0f}/{len(peak)}, mass {np.mean(mass):.2f})"
        )
    return "  ".join(parts)


def flagged_volumes(network: LensNetwork, folder: Path, spacings: list[float]) -> dict[str, str]:
    """Return the volume flagged in a brain without tumour, by subset of the sequences."""
    _, present, _, _ = load_case(folder)
    out = {}
    for name, keep in SUBSETS.items():
        if not (torch.tensor(keep).bool() & present).any() or (name != "all" and sum(keep) != 1):
            continue
        masks, _, _ = segment(network, folder, spacings, keep)
        count = ndimage.label(masks[0])[1]
        out[name] = f"{masks[0].sum() / 1000:.1f} ml in {count}"
    return out


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("weights", nargs="+", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--clear", type=Path, nargs="*", default=[])
    parser.add_argument(
        "--spacing", type=float, nargs="+", default=[2.0], help="several are averaged"
    )
    parser.add_argument("--subsets", choices=("one", "main", "every"), default="one")
    parser.add_argument("--threshold", type=float, default=0.5)
    parser.add_argument("--cases", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    names = {"one": ("all",), "main": MAIN_SUBSETS, "every": tuple(SUBSETS)}[options.subsets]
    results = []
    for path in options.weights:
        network, info = weights.load(path)
        print(f"{path} {dict(info.provenance)} at {options.spacing} mm")
        for name in names if options.data else ():
            folders = segmented_cases(options.data)
            rows = [
                score(network, f, options.spacing, SUBSETS[name], options.threshold)
                for f in folders
            ]
            results.append({"weights": str(path), "subset": name, "rows": rows})
            seconds = np.mean([row["seconds"] for row in rows])
            print(f"  {name:10s} {mean_line(rows)}  {seconds:.2f} s", flush=True)
            for row in rows if options.cases else ():
                cells = " ".join(f"{r} {row[r]:.2f} {row[r + '_ml']}" for r in REGIONS)
                print(f"      {row['case']:24s} {cells}")
        for folder in options.clear:
            volumes = flagged_volumes(network, folder, options.spacing)
            print(f"  tumour-free {folder.name}: {volumes}")
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
