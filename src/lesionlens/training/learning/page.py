"""One-page HTML comparison of proposed weights with those in use."""

from __future__ import annotations

from lesionlens.results.export.html import environment, number
from lesionlens.training.learning.proposal import HeldOutCase, MetricChange, Proposal

_MAX_CASES = 60
_WORDS = {1: "better", 0: "", -1: "worse"}


def compared_row(one: MetricChange) -> tuple[str, ...]:
    """Return a table row: title, cases, before, after, difference, interval, verdict."""
    figure = one.figure
    between = "–" if one.interval is None else "{:+.3f} – {:+.3f}".format(*one.interval)
    words = _WORDS[figure.surely(one.better)]
    return (one.title, str(one.cases), f"{one.before:.3f}", f"{one.after:.3f}",
            f"{figure.difference:+.3f}", between, words)  # fmt: skip


def _case(one: HeldOutCase) -> tuple[str, ...]:
    forms = (("wt", ".3f"), ("found", ".0f"), ("fp", ".0f"))
    cells = [(side.get(key), form) for key, form in forms for side in (one.before, one.after)]
    return (one.name, *(number(value, form) for value, form in cells))


def html(proposal: Proposal) -> str:
    """Return the page as self-contained HTML."""
    counts = proposal.counts
    template = environment("lesionlens.training.learning").get_template("proposal.html.j2")
    return template.render(
        proposal=proposal,
        read=", ".join(f"{counts[k]} {k}" for k in counts if k not in ("studies", "patients")),
        patients=[compared_row(one) for one in proposal.patients],
        synthetic=[compared_row(one) for one in proposal.drawn],
        cases=[_case(one) for one in proposal.cases[:_MAX_CASES]],
        left_out=[(f"{name}: {why}",) for name, why in proposal.left_out],
    )
