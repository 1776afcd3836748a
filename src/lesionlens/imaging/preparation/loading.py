"""Load the sequences of a study: refuse implausible scans, standardise units, cap outliers."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from lesionlens.base.errors import unreadable
from lesionlens.base.geometry import Floats
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
        check_grid(item.grid, _label(sequence, item))
    with ThreadPoolExecutor(max(draft.options.threads, 1)) as pool:
        jobs = {s: pool.submit(_load_sequence, s, item) for s, item in series.items()}
        for number, (sequence, job) in enumerate(jobs.items(), 1):
            draft.loaded[sequence], notices = job.result()
            draft.notices.extend(notices)
            context.check("load")
            context.progress("load", number / len(jobs))


def _label(sequence: MrSequence, series: Series) -> str:
    name = f" ({series.description!r})" if series.description else ""
    return sequence.display_name + name


def _load_sequence(sequence: MrSequence, series: Series) -> tuple[Loaded, list[str]]:
    label = _label(sequence, series)
    try:
        raw = series.load()
    except OSError as error:  # a disk was removed, or the files, after the study was opened
        raise unreadable(error, sequence.display_name) from error
    scan, intensities = scan_digest(raw, series.grid), intensity_digest(raw)
    values, notice = lost_signal.replace_nonfinite(raw, series.grid, label)
    check_voxels(values, label)
    values = standard_units(values)
    values, gap_notice = lost_slices.interpolate_gaps(values, series.grid, label)
    notices = [text for text in (notice, gap_notice) if text]
    capped, capped_count = _cap_outliers(values)
    if capped_count:
        notices.append(
            f"{label}: voxels far brighter than all others were capped ({capped_count})."
        )
    stripped = brain.is_stripped(capped, series.grid)
    return Loaded(series, capped, stripped, scan_digest=scan, intensity_digest=intensities), notices


def _cap_outliers(values: Floats) -> tuple[Floats, int]:
    """Cap single voxels ten times brighter than the 99.9th percentile; return their number too."""
    limit = 10.0 * float(np.quantile(values[::2, ::2, ::2], 0.999))
    if limit <= 0 or float(values.max()) <= limit:
        return values, 0
    return np.minimum(values, np.float32(limit)), int((values > limit).sum())
