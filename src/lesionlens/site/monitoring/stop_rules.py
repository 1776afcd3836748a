"""Stop rules: bounds that a site defines beforehand, with a reason in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lesionlens.site.monitoring.statistics import MIN_VALUES, Drift, Group, ScoreReliability


@dataclass(frozen=True, slots=True)
class StopBounds:
    """A site's bounds."""

    least_acceptance: float = 0.5
    """Minimum share of verdicts that accept or edit a candidate; each reader's counts."""
    most_candidates: float = 3.0
    """Maximum candidates per study, averaged over a week."""
    most_calibration_error: float = 0.2
    """Maximum mean gap between scores and accepted shares."""
    most_drift: float = 0.25
    """Maximum population stability index; above 0.25 is a large shift."""


_SIGNIFICANCE_LEVEL = 0.01
"""Significance level of the gap between scores and verdicts; for drift, over all compared figures
(Bonferroni)."""
MIN_COUNT = 10  # studies or verdicts below which no rule is evaluated


def violated_rules(
    weeks: Sequence[Group],
    calibration: ScoreReliability,
    drifts: Sequence[Drift],
    bounds: StopBounds,
) -> tuple[str, ...]:
    """Return the violated rules in words, for the latest week."""
    sentences = []
    if weeks:
        last = weeks[-1]
        _, high = last.acceptance.interval
        if last.verdicts >= MIN_COUNT and high < bounds.least_acceptance:
            sentences.append(
                f"{last.name}: {last.acceptance.count} of {last.acceptance.total} verdicts "
                f"accepted or edited a candidate; significantly fewer than "
                f"{100 * bounds.least_acceptance:g}%"
            )
        mean = last.candidates / max(last.studies, 1)
        if last.studies >= MIN_COUNT and mean > bounds.most_candidates:
            sentences.append(
                f"{last.name}: {mean:.4g} candidates per study, more than "
                f"{bounds.most_candidates:g}"
            )
    judged = [
        (drift.name, drift.stability, drift.p)
        for drift in drifts
        if drift.stability is not None and drift.p is not None
    ]
    error, chance = calibration.error, calibration.p
    above = error is not None and error > bounds.most_calibration_error
    if (
        above
        and calibration.judged >= MIN_COUNT
        and chance is not None
        and chance < _SIGNIFICANCE_LEVEL
    ):
        sentences.append(f"Scores differ from verdicts by {error:.2f} in the mean, p {chance:.2g}")
    sentences += [
        f"{name} has shifted: stability index {stability:.2f}, p {p:.2g}"
        for name, stability, p in judged
        if stability > bounds.most_drift and p < _SIGNIFICANCE_LEVEL / len(judged)
    ]
    return tuple(sentences)


def not_evaluated(
    weeks: Sequence[Group], calibration: ScoreReliability, drifts: Sequence[Drift]
) -> tuple[str, ...]:
    """Return the rules that cannot be evaluated yet, in words."""
    last = weeks[-1] if weeks else None
    verdicts, studies = (last.verdicts, last.studies) if last else (0, 0)
    rules = (
        (verdicts, f"acceptance: {verdicts} of {MIN_COUNT} verdicts in the latest week"),
        (studies, f"candidates per study: {studies} of {MIN_COUNT} studies in the latest week"),
        (calibration.judged, f"scores: {calibration.judged} of {MIN_COUNT} verdicts"),
    )
    pending = [text for count, text in rules if count < MIN_COUNT]
    if not any(drift.stability is not None for drift in drifts):
        pending.append("drift: too few studies before or after the baseline")
    elif few := [d.name for d in drifts if d.stability is None and (d.before or d.after)]:
        pending.append(
            f"drift of {', '.join(few)}: fewer than {MIN_VALUES} values before or after the "
            "baseline"
        )
    return tuple(pending)
