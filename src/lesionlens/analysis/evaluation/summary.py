"""Pooled figures over cases: means with intervals, FROC curve, reliability."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from lesionlens.analysis.evaluation.label_conventions import regions_of
from lesionlens.analysis.evaluation.metrics import Bins, Hit, reliability
from lesionlens.base.labels import Region

FROC_RATES = (0.125, 0.25, 0.5, 1.0, 2.0)
RESAMPLES = 2000
LEVEL = 0.95


@dataclass(slots=True)
class CaseScore:
    """All metrics of one case."""

    case: str
    healthy: bool
    """Whether its reference is empty or missing: there is nothing to find."""
    convention: str | None = None
    """Label convention of its reference."""
    metrics: dict[str, float | None] = field(default_factory=dict)
    """By name; None or missing if not applicable."""
    hits: list[Hit] = field(default_factory=list)
    """One per candidate."""
    bins: Bins = field(default_factory=Bins)
    """Whole-tumour probability in the head."""
    problems: list[str] = field(default_factory=list)
    """Notices for the reader of the table."""
    failed: bool = False
    """Whether there is no usable result; counts as Dice 0 and sensitivity 0."""
    ranked: bool = True
    """Whether candidates have scores; plain segmentations have none and are not in the FROC."""
    engine: str = ""
    """Engine name, version and SHA-256 of its weights; empty if unknown."""
    inputs: frozenset[str] = frozenset()
    """SHA-256 of the analysed files; empty if unknown."""
    undivided: bool = False
    """Whether its reference outlines lesions as a whole, without core and enhancing part."""
    unsegmented: frozenset[Region] | None = None
    """Regions that the engine does not segment; None if nothing shows it."""
    reviewed: bool = False
    """Whether readers reviewed the result; the network's own outlines are scored."""

    @property
    def regions(self) -> tuple[str, ...]:
        """The regions that the reference distinguishes."""
        regions = (Region.WT,) if self.undivided else regions_of(self.convention)
        return tuple(region.value for region in regions)

    def omit(self, regions: frozenset[Region]) -> None:
        """Remove the figures of regions that the engine does not segment, with a notice."""
        endings = tuple(region.value for region in Region if region in regions)
        omitted = {key for key in self.metrics if key.rpartition("_")[2] in endings}
        if omitted:
            names = " and ".join(Region(ending).display_name for ending in endings)
            self.metrics = {k: v for k, v in self.metrics.items() if k not in omitted}
            self.problems.append(f"its engine does not segment {names}: not scored")


class FrocPoint(NamedTuple):
    """One score threshold with its sensitivity and false positives."""

    threshold: float
    false_per_scan: float
    sensitivity: float


class Interval(NamedTuple):
    """A percentile bootstrap interval over cases."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Summary:
    """Pooled figures."""

    means: dict[str, float | None]
    medians: dict[str, float | None]
    intervals: dict[str, Interval]
    froc: list[dict[str, float | None]]
    curve: list[FrocPoint]
    voxels: Bins
    candidates: Bins


def column(scores: Sequence[CaseScore], key: str) -> list[float]:
    """Return a metric's values over the cases to which it applies."""
    return [value for s in scores if (value := s.metrics.get(key)) is not None]


def froc_curve(scores: Sequence[CaseScore]) -> list[FrocPoint]:
    """Return one point per threshold, descending; empty if there is nothing to find.

    Notes
    -----
    Bunch et al., 1977: sensitivity over all lesions against false positives per scan, including
    scans without a lesion. MONAI's curve omits the last point, which includes every candidate.
    The lesions of a failed case count as missed; the case is not counted as a scan.
    """
    total = sum(int(s.metrics.get("lesions") or 0) for s in scores if not s.healthy)
    if not total:
        return []
    points = []
    scans = sum(not s.failed for s in scores)
    hits = [(n, h, h.score) for n, s in enumerate(scores) for h in s.hits if h.score is not None]
    for threshold in sorted({score for *_, score in hits}, reverse=True):
        above_threshold = [(n, hit) for n, hit, score in hits if score >= threshold]
        detected = {(n, lesion) for n, hit in above_threshold for lesion in hit.lesions}
        false_positives = sum(hit.false_positive for _, hit in above_threshold)
        points.append(FrocPoint(threshold, false_positives / scans, len(detected) / total))
    return points


def froc_table(curve: Sequence[FrocPoint], *, any_lesion: bool) -> list[dict[str, float | None]]:
    """Return the best sensitivity at each of `FROC_RATES`; None if there is nothing to find."""
    rows: list[dict[str, float | None]] = []
    for rate in FROC_RATES:
        points = [p for p in curve if p.false_per_scan <= rate]
        best = max(points, key=lambda p: (p.sensitivity, p.threshold), default=None)
        default_sensitivity = 0.0 if any_lesion else None
        rows.append(
            {
                "fp_per_scan": rate,
                "sensitivity": best.sensitivity if best else default_sensitivity,
                "threshold": best.threshold if best else None,
            }
        )
    return rows


def interval(values: Sequence[float]) -> Interval | None:
    """Return the percentile bootstrap interval of a mean; None for fewer than two values.

    Notes
    -----
    Efron and Tibshirani, 1993, chapter 13; cases are resampled with replacement.

    Examples
    --------
    >>> interval([0.5, 0.5, 0.5])
    Interval(low=0.5, high=0.5)
    """
    if len(values) < 2:
        return None
    from scipy import stats

    bounds = stats.bootstrap(
        (values,), np.mean, n_resamples=RESAMPLES, confidence_level=LEVEL,
        method="percentile", rng=0,
    ).confidence_interval  # fmt: skip
    return Interval(float(bounds.low), float(bounds.high))


def summarise(scores: Sequence[CaseScore]) -> Summary:
    """Pool the cases; a metric is averaged over the cases to which it applies."""
    keys = sorted({key for s in scores for key in s.metrics})
    columns = {key: column(scores, key) for key in keys}
    for key in ("candidates", "flagged_ml"):
        columns[f"healthy_{key}"] = column([s for s in scores if s.healthy], key)
    means = {k: float(np.mean(v)) if v else None for k, v in columns.items()}
    means["failures"] = float(sum(s.failed for s in scores))
    means["problems"] = float(sum(len(s.problems) for s in scores))
    ranked = [s for s in scores if s.ranked]
    curve = froc_curve(ranked)
    hits = [hit for s in scores for hit in s.hits if hit.score is not None]
    any_lesion = any((s.metrics.get("lesions") or 0) > 0 for s in ranked if not s.healthy)
    return Summary(
        means=means,
        medians={k: float(np.median(v)) if v else None for k, v in columns.items()},
        intervals={k: bounds for k, v in columns.items() if (bounds := interval(v)) is not None},
        froc=froc_table(curve, any_lesion=any_lesion),
        curve=curve,
        voxels=sum((s.bins for s in scores), Bins()),
        candidates=reliability(
            np.array([hit.score for hit in hits], float),
            np.array([not hit.false_positive for hit in hits], bool),
        ),
    )
