"""Measure how often the image of a single-sequence study contradicts its name, rightly and falsely.

    python -m research.preparation.single_names DATA/tumour DATA/healthy DATA/non_tumour_ms

Every image of every case is checked alone under each of the four names, as in `analyze`.
"""

from __future__ import annotations

import argparse
from collections import Counter
from dataclasses import replace
from pathlib import Path

from lesionlens.base.labels import MrSequence
from lesionlens.base.records.study import EvidenceKind
from lesionlens.imaging.preparation.checks import single_name
from lesionlens.imaging.preparation.intensity_units import standard_units
from lesionlens.imaging.reading.readers import open_study


def main() -> None:
    """Print how often each sequence is doubted under each name."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("groups", type=Path, nargs="+", help="folders of cases")
    groups = parser.parse_args().groups
    doubted: Counter[tuple[MrSequence, MrSequence]] = Counter()
    images: Counter[MrSequence] = Counter()
    cases = [case for group in groups for case in sorted(group.iterdir()) if case.is_dir()]
    for case in cases:
        for sequence, series in open_study(case).series.items():
            images[sequence] += 1
            values = standard_units(series.load())
            for name in MrSequence:
                renamed = replace(series, sequence=name, evidence_kind=EvidenceKind.USER)
                doubted[sequence, name] += single_name.check(renamed, values) is not None
    for sequence, name in ((s, n) for s in MrSequence for n in MrSequence):
        print(
            f"{sequence.display_name} called {name.display_name}: "
            f"{doubted[sequence, name]}/{images[sequence]}"
        )


if __name__ == "__main__":
    main()
