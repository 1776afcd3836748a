"""Check that a change leaves results equal: compare result folders bit by bit.

    lesionlens analyze STUDY --out before/a      # at the commit before
    lesionlens analyze STUDY --out after/a       # with the change
    python -m research.quality.same_results before after   # folders of results, or single results

Voxels, affines and findings.json must be equal to the last bit; pages and times may differ.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import nibabel as nib
import numpy as np


def differences(before: Path, after: Path) -> list[str]:
    """Return a line for each difference between two results."""
    lines = []
    names = {p.name for folder in (before, after) for p in folder.glob("*.nii.gz")}
    for name in sorted(names):
        if not (before / name).is_file() or not (after / name).is_file():
            lines.append(f"{name} is in one result only")
            continue
        old, new = nib.load(before / name), nib.load(after / name)
        if not np.array_equal(old.affine, new.affine):
            lines.append(f"{name}: the affine differs")
        a, b = np.asanyarray(old.dataobj), np.asanyarray(new.dataobj)
        if a.dtype != b.dtype or a.shape != b.shape:
            lines.append(f"{name}: {a.dtype} {a.shape} became {b.dtype} {b.shape}")
        elif not np.array_equal(a, b):
            lines.append(f"{name}: {np.count_nonzero(a != b)} voxels differ")
    old, new = (
        json.loads((folder / "findings.json").read_text("utf-8")) for folder in (before, after)
    )
    return lines + [
        f"findings.json: {key}" for key in old.keys() | new.keys() if old.get(key) != new.get(key)
    ]


def pairs(before: Path, after: Path) -> list[tuple[Path, Path]]:
    """Return the results to compare: the folders themselves, or those of equal name in them."""
    if (before / "findings.json").is_file():
        return [(before, after)]
    return [(p.parent, after / p.parent.name) for p in sorted(before.glob("*/findings.json"))]


def main() -> int:
    """Compare and print; return 1 if anything differs, 2 if there is no result."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    arguments = parser.parse_args()
    compared = pairs(arguments.before, arguments.after)
    if not compared:
        print(f"no findings.json in {arguments.before}")
        return 2
    status = 0
    for before, after in compared:
        lines = differences(before, after)
        status = status or int(bool(lines))
        print(f"{before.name}: {'; '.join(lines) or 'equal to the last bit'}")
    return status


if __name__ == "__main__":
    sys.exit(main())
