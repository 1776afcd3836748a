"""One-page HTML comparison of proposed weights with those in use."""

from __future__ import annotations

from lesionlens.results.export.html import environment, number
from lesionlens.training.learning.proposal import HeldOutCase, MetricChange, Proposal

_MAX_CASES = 60
_VERDICTS = {1: "better", 0: "", -1: "worse"}


def compared_row(change: MetricChange) -> tuple[str, ...]:
    """Return a table row: title, cases, before, after, difference, interval, verdict."""
    figure = change.figure
    interval = "–" if change.interval is None else "{:+.3f} – {:+.3f}".format(*change.interval)
    verdict = _VERDICTS[figure.verdict(change.better)]
    return (change.title, str(change.cases), f"{change.before:.3f}", f"{change.after:.3f}",
            f"{figure.difference:+.3f}", interval, verdict)  # fmt: skip


def _case_row(case: HeldOutCase) -> tuple[str, ...]:
    formats = (("wt", ".3f"), ("found", ".0f"), ("fp", ".0f"))
    sides = (case.before, case.after)
    return (case.name, *(number(side.get(key), form) for key, form in formats for side in sides))


def html(proposal: Proposal) -> str:
    """Return the page as self-contained HTML."""
    counts = proposal.counts
    template = environment("lesionlens.training.learning").get_template("proposal.html.j2")
    return template.render(
        proposal=proposal,
        read=", ".join(f"{counts[k]} {k}" for k in counts if k not in ("studies", "patients")),
        patients=[compared_row(change) for change in proposal.patients],
        synthetic=[compared_row(change) for change in proposal.drawn],
        cases=[_case_row(case) for case in proposal.cases[:_MAX_CASES]],
        left_out=[(f"{name}: {reason}",) for name, reason in proposal.left_out],
    )
