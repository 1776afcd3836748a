"""Measure how often the region and side named for a lesion are those of the underlying anatomy.

    python -m research.quality.location_accuracy FOLDER

FOLDER holds the label maps of whole heads (FreeSurfer numbers, any orientation) that
`make/anatomical_map.py` computed the map from. Each head is tested with the map of all others.
Balls of three sizes are placed in every structure; the structure that contains most of a ball in
the head's own labels is the reference, likewise the side. A ball may span two structures: "first"
counts the region named first, "named" either of two. Lobes are no labels: there a lobe, insula,
corpus callosum or deep white matter counts as right.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lesionlens.analysis.findings import anatomy, structures
from lesionlens.analysis.findings.anatomy import locate
from lesionlens.base.grid import Grid
from lesionlens.base.records.findings import BOTH_SIDES, UNCERTAIN_PLACE
from research.make.anatomical_map import LABELS, read_head, structure_counts

RADII_MM = (5.0, 10.0, 15.0)
BALLS = 2
"""Of each size, in each structure of each head."""
LEFT = (2, 3, 4, 5, 7, 8, 10, 11, 12, 13, 17, 18, 26, 28)
RIGHT = (41, 42, 43, 44, 46, 47, 49, 50, 51, 52, 53, 54, 58, 60)
LOBAR = (*anatomy.LOBES, "corpus callosum", "deep white matter")
MIN_SIDE_FRACTION = 0.85


def balls(labels: NDArray[np.int16], grid: Grid, seed: int) -> Iterator[NDArray[np.intp]]:
    """Yield the (N, 3) voxels of balls, the same number in each structure, cropped to the brain."""
    random = np.random.default_rng(seed)
    labelled = np.isin(labels, [n for numbers in LABELS.values() for n in numbers])
    spacing = np.array(grid.spacing_mm)
    for numbers in LABELS.values():
        inside = np.argwhere(np.isin(labels, numbers))
        for radius in RADII_MM:
            reach = np.ceil(radius / spacing).astype(int)
            offsets = np.argwhere(np.ones(2 * reach + 1)) - reach
            offsets = offsets[((offsets * spacing) ** 2).sum(1) <= radius**2]
            for centre in inside[random.integers(len(inside), size=BALLS)]:
                voxels = centre + offsets
                voxels = voxels[((voxels >= 0) & (voxels < labels.shape)).all(1)]
                yield voxels[labelled[tuple(voxels.T)]]


def reference_location(ball_labels: NDArray[np.int16]) -> tuple[str, str | None]:
    """Return the structure that contains most of a ball, and its side; None without a side."""
    counts = {name: int(np.isin(ball_labels, numbers).sum()) for name, numbers in LABELS.items()}
    lobar = counts.pop("white matter") + counts.pop("cortex")
    structure = max(counts | {"lobe": lobar}, key=lambda name: (counts | {"lobe": lobar})[name])
    left, right = int(np.isin(ball_labels, LEFT).sum()), int(np.isin(ball_labels, RIGHT).sum())
    if left + right < len(ball_labels) / 2:
        return structure, None
    if max(left, right) < MIN_SIDE_FRACTION * (left + right):
        return structure, BOTH_SIDES
    return structure, "left" if left > right else "right"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, help="folder of label maps, .nii.gz")
    paths = sorted(parser.parse_args().folder.glob("*.nii.gz"))
    shares = []
    for path in paths:
        counts = structure_counts(path)
        shares.append(counts / np.maximum(counts.sum(axis=0), 1.0))
    total = np.sum(shares, axis=0)
    rows: dict[str, list[tuple[bool, bool, bool]]] = defaultdict(list)
    sides: dict[tuple[str, str], int] = defaultdict(int)
    structure_map = patch.object(structures, "_structure_map").start()
    for number, path in enumerate(paths):
        other_heads = ndimage.gaussian_filter(
            (total - shares[number]) / (len(paths) - 1), (0, 0.5, 0.5, 0.5)
        )
        structure_map.return_value = np.rint(other_heads * 15).astype(np.uint8)
        labels, grid, head = read_head(path)
        for voxels in balls(labels, grid, number):
            structure, side = reference_location(labels[tuple(voxels.T)])
            location = locate(grid.to_mm(voxels), head)
            region_text = (location.region or "").removesuffix(UNCERTAIN_PLACE)
            named_regions = region_text.split(" and ")
            accepted = LOBAR if structure == "lobe" else (structure,)
            is_uncertain = (location.region or "").endswith(UNCERTAIN_PLACE)
            rows[structure].append(
                (
                    named_regions[0] in accepted,
                    any(n in accepted for n in named_regions),
                    is_uncertain,
                )
            )
            if side is not None:
                sides[side, location.side or "none"] += 1
    print("| structure | balls | named first | named | uncertain |\n|---|---|---|---|---|")
    for structure, ball_rows in (
        *rows.items(),
        ("all", [one for of in rows.values() for one in of]),
    ):
        cells = " | ".join(str(int(sum(column))) for column in zip(*ball_rows, strict=True))
        print(f"| {structure} | {len(ball_rows)} | {cells} |")
    print("\n| side by labels | named | balls |\n|---|---|---|")
    for (true_side, named_side), count in sorted(sides.items()):
        print(f"| {true_side} | {named_side} | {count} |")


if __name__ == "__main__":
    main()
