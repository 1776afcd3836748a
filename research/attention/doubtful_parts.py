r"""Measure the value of doubtful parts of outlines, against uncertainty alone and against chance.

    python -m research.attention.doubtful_parts --data CASES --weights synthetic \
        --results research/RESULTS.md

A part is wrong if it lies more than 5 mm outside the reference. For comparison, as many voxels of
each outline are taken by uncertainty alone (the most uncertain) and by chance (the expected share).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from scipy import ndimage

from lesionlens.base.geometry import bounding_box
from lesionlens.imaging.reading.readers import open_study
from lesionlens.results.lens import Lens
from lesionlens.results.result import Result
from research.common.cases import segmented_cases, sequence_files
from research.common.page import write_block

FAR_MM = 5.0
MARKER = "doubtful parts"
HEADINGS = (
    "| case | outline ml | wrong ml | parts | parts ml | wrong in parts "
    "| by uncertainty | by chance | correct in parts | by uncertainty | by chance |"
)


def measure_case(result: Result, reference: np.ndarray) -> list[float]:
    """Return one case's figures in the order of `HEADINGS`: ml, and the number of parts."""
    volumes, findings = result.analysis.volumes, result.analysis.findings
    assert volumes.uncertainty is not None
    outline = volumes.labels.data > 0
    box = bounding_box(outline | reference)
    grid = volumes.labels.grid
    outline, tumour = outline[box], reference[box]
    distance_mm = ndimage.distance_transform_edt(~tumour, sampling=grid.spacing_mm)
    false_positive, true_positive = outline & (distance_mm > FAR_MM), outline & tumour
    doubtful = (
        np.zeros_like(outline) if volumes.doubtful is None else volumes.doubtful.data[box] > 0
    )
    doubtful_voxels = int(doubtful.sum())
    uncertain = np.where(outline, volumes.uncertainty.data[box], -1.0)
    most_uncertain = np.zeros_like(outline)
    most_uncertain.ravel()[np.argsort(-uncertain, axis=None, kind="stable")[:doubtful_voxels]] = (
        True
    )
    random_fraction = doubtful_voxels / max(1, int(outline.sum()))
    counts = [
        outline.sum(), false_positive.sum(), doubtful_voxels,
        (doubtful & false_positive).sum(), (most_uncertain & false_positive).sum(),
        random_fraction * false_positive.sum(),
        (doubtful & true_positive).sum(), (most_uncertain & true_positive).sum(),
        random_fraction * true_positive.sum(),
    ]  # fmt: skip
    ml = [float(count) * grid.voxel_ml for count in counts]
    return [*ml[:2], len(findings.doubtful or ()), *ml[2:]]


def table(rows: dict[str, list[float]]) -> str:
    """Return a Markdown table of all cases and their sums."""
    lines = [HEADINGS, "|---" * 11 + "|"]
    rows = rows | {"all": np.sum(list(rows.values()), axis=0).tolist()}
    for name, row in rows.items():
        cells = (f"{value:.0f}" if n == 2 else f"{value:.1f}" for n, value in enumerate(row))
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Analyse every case; write the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", default="synthetic")
    parser.add_argument("--results", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    lens, rows = Lens("cpu", weights=options.weights), {}
    for folder in segmented_cases(options.data):
        reference = np.asarray(nib.load(folder / "seg.nii.gz").dataobj) > 0
        rows[folder.name] = measure_case(
            lens(open_study(folder, named=sequence_files(folder))), reference
        )
        print(folder.name, flush=True)
    text = table(rows)
    print(text)
    if options.results:
        write_block(options.results, MARKER, text)


if __name__ == "__main__":
    main()
