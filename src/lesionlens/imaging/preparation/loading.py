"""Load the sequences of a study: refuse implausible scans, standardise units, cap outliers."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from lesionlens.base.errors import unreadable
from lesionlens.base.labels import MrSequence
from lesionlens.base.records.study import Series
from lesionlens.base.run_context import RunContext
from lesionlens.base.scan_limits import check_grid, check_voxels
from lesionlens.imaging.preparation import brain, lost_slices
from lesionlens.imaging.preparation.checks import lost_signal
from lesionlens.imaging.preparation.draft import Draft, Loaded
from lesionlens.imaging.preparation.intensity_units import standard_units
from lesionlens.imaging.preparation.scan_digest import intensity_digest, scan_digest


def load(draft: Draft, context: RunContext) -> None:
    """Load every sequence in parallel; see `scan_limits` and `lost_signal` for refusals."""
    series = draft.study.series
    for sequence, item in series.items():
        check_grid(item.grid, _where(sequence, item))
    with ThreadPoolExecutor(max(draft.options.threads, 1)) as pool:
        jobs = {s: pool.submit(_load_one, s, item) for s, item in series.items()}
        for number, (sequence, job) in enumerate(jobs.items(), 1):
            draft.loaded[sequence], found = job.result()
            draft.notices.extend(found)
            context.check("load")
            context.progress("load", number / len(jobs))


def _where(sequence: MrSequence, series: Series) -> str:
    return f"{sequence.display_name} ({series.description!r})"


def _load_one(sequence: MrSequence, series: Series) -> tuple[Loaded, list[str]]:
    where = _where(sequence, series)
    try:
        raw = series.load()
    except OSError as error:  # a disk was removed, or the files, after the study was opened
        raise unreadable(error, sequence.display_name) from error
    scan, intensities = scan_digest(raw, series.grid), intensity_digest(raw)
    values, notice = lost_signal.finite(raw, series.grid, where)
    check_voxels(values, where)
    values = standard_units(values)
    values, lost = lost_slices.filled(values, series.grid, where)
    notices = [words for words in (notice, lost) if words]
    capped, share = _capped(values)
    if share:
        notices.append(f"{where}: {share} voxels far brighter than all others were capped.")
    stripped = brain.is_stripped(capped, series.grid)
    return Loaded(series, capped, stripped, scan=scan, intensities=intensities), notices


def _capped(values: NDArray[np.float32]) -> tuple[NDArray[np.float32], int]:
    """Cap single voxels ten times brighter than the 99.9th percentile; return their number too."""
    top = 10.0 * float(np.quantile(values[::2, ::2, ::2], 0.999))
    if top <= 0 or float(values.max()) <= top:
        return values, 0
    return np.minimum(values, np.float32(top)), int((values > top).sum())
