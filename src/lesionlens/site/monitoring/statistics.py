"""Monitoring statistics: rates by week and reader, agreement, calibration, drift."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from typing import NamedTuple

import numpy as np
from scipy import stats

from lesionlens.analysis.evaluation.metrics import reliability
from lesionlens.base.labels import ReviewState
from lesionlens.site.monitoring.records import MonitoredStudy

_FREQUENT_FRACTION = 0.1  # a value with a larger fraction of the data gets its own bin
_RESAMPLES = 1000  # of verdicts
MIN_VALUES = 20  # minimum number of values on either side for a drift test


@dataclass(frozen=True, slots=True)
class Rate:
    """A proportion with its 95% interval (Wilson 1927)."""

    count: int
    total: int

    @property
    def fraction(self) -> float | None:
        """The proportion; None without data."""
        return self.count / self.total if self.total else None

    @property
    def interval(self) -> tuple[float, float]:
        """Lower and upper bound; 0 and 1 without data."""
        if not self.total:
            return 0.0, 1.0
        limits = stats.binomtest(self.count, self.total).proportion_ci(0.95, method="wilson")
        return float(limits.low), float(limits.high)


@dataclass(frozen=True, slots=True)
class Group:
    """Counts of one week, reader or engine."""

    name: str
    studies: int
    candidates: int
    accepted: int
    edited: int
    rejected: int
    added: int
    pointed: int = 0
    """Outlines made or corrected with prompts."""
    prompts: float | None = None
    """Median number of their prompts."""
    prompt_seconds: float | None = None
    """Median seconds for them."""
    other: int = 0
    """Other findings: listed separately, counted nowhere else."""
    other_accepted: int = 0
    """Other findings that a reader accepted or edited, as tumour."""

    @property
    def verdicts(self) -> int:
        """The network's candidates with a verdict."""
        return self.accepted + self.edited + self.rejected

    @property
    def acceptance(self) -> Rate:
        """Accepted or edited candidates, of those with a verdict."""
        return Rate(self.accepted + self.edited, self.verdicts)

    @property
    def editing(self) -> Rate:
        """Edited candidates, of the accepted or edited."""
        return Rate(self.edited, self.accepted + self.edited)


def by_week(studies: Sequence[MonitoredStudy]) -> tuple[Group, ...]:
    """Count by ISO week."""
    weeks = sorted({study.week for study in studies})
    return tuple(_group(week, [s for s in studies if s.week == week]) for week in weeks)


def by_engine(studies: Sequence[MonitoredStudy]) -> tuple[Group, ...]:
    """Count by engine and weights."""
    engines = sorted({study.engine for study in studies})
    return tuple(_group(engine, [s for s in studies if s.engine == engine]) for engine in engines)


def by_reader(studies: Sequence[MonitoredStudy]) -> tuple[Group, ...]:
    """Count verdicts by reader; "" is an unnamed reader."""
    readers = sorted({r for s in studies for c in s.candidates for r in c.verdicts})
    groups = []
    for reader in readers:
        read = [s for s in studies if any(reader in c.verdicts for c in s.candidates)]
        groups.append(_group(reader, read, only_reader=reader))
    return tuple(groups)


def _group(
    name: str, studies: Sequence[MonitoredStudy], *, only_reader: str | None = None
) -> Group:
    """Count the candidates of some studies, and the acts of all readers or of one."""

    def counts(reader: str) -> bool:
        return only_reader is None or reader == only_reader

    candidates = [c for study in studies for c in study.candidates]
    flagged = [c for study in studies for c in study.flagged]
    other = [c for study in studies for c in study.other_findings]
    states = Counter(s for c in flagged for reader, s in c.verdicts.items() if counts(reader))
    efforts = [e for c in candidates for reader, e in c.prompt_efforts.items() if counts(reader)]
    return Group(
        name=name,
        studies=len(studies),
        candidates=len(flagged),
        accepted=states[ReviewState.ACCEPTED],
        edited=states[ReviewState.EDITED],
        rejected=states[ReviewState.REJECTED],
        added=sum(c.added_by is not None and counts(c.added_by) for c in candidates),
        pointed=len(efforts),
        prompts=_median([effort.prompts for effort in efforts]),
        prompt_seconds=_median([effort.seconds for effort in efforts]),
        other=len(other),
        other_accepted=sum(
            s.confirmed for c in other for reader, s in c.verdicts.items() if counts(reader)
        ),
    )


def _median(values: Sequence[float]) -> float | None:
    """Return the median; None without values."""
    return float(np.median(values)) if values else None


def kappa(pairs: Sequence[tuple[bool, bool]]) -> float | None:
    """Return Cohen's kappa of two readers; None if expected agreement is complete.

    Examples
    --------
    >>> kappa([(True, True), (False, False), (True, False), (False, True)])
    0.0
    """
    n = len(pairs)
    agreed = sum(a == b for a, b in pairs) / n
    first, second = sum(a for a, _ in pairs) / n, sum(b for _, b in pairs) / n
    chance = first * second + (1 - first) * (1 - second)
    return None if chance >= 1 else (agreed - chance) / (1 - chance)


class ReaderAgreement(NamedTuple):
    """Agreement of two readers on the candidates that both reviewed."""

    first: str
    second: str
    candidates: int
    kappa: float | None
    """Of accepted (edited or not) versus rejected; see `kappa`."""


def agreement(studies: Sequence[MonitoredStudy]) -> tuple[ReaderAgreement, ...]:
    """Compare each pair of readers who reviewed a common candidate.

    A lesion that has one tracking UID at several examinations is a candidate of each.
    """
    verdicts: dict[tuple[str, str], dict[str, bool]] = {}
    for study in studies:
        for candidate in study.flagged:
            votes = {r: v.confirmed for r, v in candidate.verdicts.items() if v.decided}
            verdicts.setdefault((study.started, candidate.tracking_uid), {}).update(votes)
    readers = sorted({reader for votes in verdicts.values() for reader in votes})
    results = []
    for a, b in combinations(readers, 2):
        pairs = [(votes[a], votes[b]) for votes in verdicts.values() if a in votes and b in votes]
        if pairs:
            results.append(ReaderAgreement(a, b, len(pairs), kappa(pairs)))
    return tuple(results)


@dataclass(frozen=True, slots=True)
class ScoreReliability:
    """Reliability of scores: bins of (mean score, accepted share, count), and the mean gap."""

    bins: tuple[tuple[float, float, int], ...]
    error: float | None
    judged: int
    p: float | None = None
    """How often the gap is as large by chance if every score is right; see `chance_of_gap`."""


def calibration(studies: Sequence[MonitoredStudy]) -> ScoreReliability:
    """Compare scores with verdicts in ten bins; several readers vote by majority."""
    scores, is_confirmed = [], []
    for study in studies:
        for candidate in study.flagged:
            votes = [state.confirmed for state in candidate.verdicts.values() if state.decided]
            if votes and sum(votes) * 2 != len(votes):
                scores.append(candidate.score)
                is_confirmed.append(sum(votes) * 2 > len(votes))
    if not scores:
        return ScoreReliability((), None, 0)
    curve = reliability(np.asarray(scores), np.asarray(is_confirmed))
    counts = zip(curve.count.tolist(), curve.confidence, curve.positive, strict=True)
    bins = tuple((float(c / n), float(p / n), int(n)) for n, c, p in counts if n)
    p = chance_of_gap(scores, curve.error)
    return ScoreReliability(bins, curve.error, len(scores), p)


def chance_of_gap(scores: Sequence[float], error: float) -> float:
    """Return the probability of this mean gap or more if every score is a right probability.

    Notes
    -----
    Verdicts are resampled with the scores as probabilities and a fixed seed (consistency
    resampling, Bröcker and Smith, 2007, DOI 10.1175/WAF993.1). With ten right scores between 0.2
    and 1 the mean gap is above 0.2 in four of five cases.

    Examples
    --------
    >>> chance_of_gap([0.9] * 12, 0.9) < 0.01 < chance_of_gap([0.3, 0.5, 0.7], 0.4)
    True
    """
    sorted_scores, rng = np.sort(np.asarray(scores, float)), np.random.default_rng(0)
    gaps = (
        reliability(sorted_scores, rng.random(len(sorted_scores)) < sorted_scores).error
        for _ in range(_RESAMPLES)
    )
    return (1 + sum(gap >= error for gap in gaps)) / (1 + _RESAMPLES)


@dataclass(frozen=True, slots=True)
class Drift:
    """Difference of a figure between later and first studies."""

    name: str
    before: int
    after: int
    """Number of values on either side."""
    stability: float | None
    """Population stability index over the deciles of the first; None with too few values."""
    p: float | None
    """p value of the Kolmogorov-Smirnov test."""


def drift(first: Sequence[MonitoredStudy], later: Sequence[MonitoredStudy]) -> tuple[Drift, ...]:
    """Compare inputs and outputs, and image features if available, of two sets of studies."""
    extractors: dict[str, Callable[[MonitoredStudy], Iterable[float | None]]] = {
        "brain volume (ml)": lambda s: [s.brain_ml],
        "registration, how pronounced": lambda s: [s.registration],
        "quality checks failed": lambda s: [float(len(s.failed_checks))],
        "candidates a study": lambda s: [float(len(s.flagged))],
        "score": lambda s: [c.score for c in s.flagged],
        "volume (ml)": lambda s: [c.volume_ml for c in s.flagged],
        "uncertainty": lambda s: [c.uncertainty for c in s.flagged],
    }
    for feature in sorted({name for study in (*first, *later) for name in study.images}):
        extractors[feature] = partial(_image_feature, feature)
    return tuple(
        _drift_of(name, _values(first, extract), _values(later, extract))
        for name, extract in extractors.items()
    )


def _image_feature(feature: str, study: MonitoredStudy) -> list[float | None]:
    return [study.images.get(feature)]


def _values(
    studies: Sequence[MonitoredStudy], extract: Callable[[MonitoredStudy], Iterable[float | None]]
) -> list[float]:
    return [value for study in studies for value in extract(study) if value is not None]


def _drift_of(name: str, before: list[float], after: list[float]) -> Drift:
    if min(len(before), len(after)) < MIN_VALUES:
        return Drift(name, len(before), len(after), None, None)
    p = float(stats.ks_2samp(before, after).pvalue)
    return Drift(name, len(before), len(after), stability_index(before, after), p)


def stability_index(before: Sequence[float], after: Sequence[float]) -> float:
    """Return the population stability index over the deciles of `before`.

    A frequent value gets its own bin.

    Examples
    --------
    >>> round(stability_index(range(100), range(100)), 3)
    0.0
    >>> stability_index([1.0] * 30, [3.0] * 30) > 1
    True
    """
    reference = np.asarray(before, float)
    edges = np.unique(np.quantile(reference, np.linspace(0.1, 0.9, 9)))
    frequent = [edge for edge in edges if (reference == edge).mean() > _FREQUENT_FRACTION]
    edges = np.unique([*edges, *np.nextafter(frequent, np.inf)])
    fractions = []
    for values in (before, after):
        counts = np.bincount(np.searchsorted(edges, values, side="right"), minlength=len(edges) + 1)
        fractions.append((counts + 0.5) / (len(values) + 0.5 * len(counts)))
    expected, observed = fractions
    return float(((observed - expected) * np.log(observed / expected)).sum())
