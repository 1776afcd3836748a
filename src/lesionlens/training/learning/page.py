"""The one-page comparison of proposed weights with those in use."""

from __future__ import annotations

from collections.abc import Sequence

from lesionlens.results.export.plain_page import heading, number, page, paragraph, table, warned
from lesionlens.training.learning.proposal import HeldOutCase, MetricChange, Proposal

_MOST_CASES = 60
_HEADS = ("", "cases", "before", "after", "difference", "95 % interval", "")
_CASE = ("case", "Dice WT before", "after", "found before", "after", "false before", "after")
_WORDS = {1: "better", 0: "", -1: "worse"}


def compared_row(one: MetricChange) -> tuple[str, ...]:
    """Return a row in words: title, cases, before, after, difference, interval, verdict."""
    figure = one.figure
    between = "–" if one.interval is None else "{:+.3f} – {:+.3f}".format(*one.interval)
    words = _WORDS[figure.surely(one.better)]
    return (one.title, str(one.cases), f"{one.before:.3f}", f"{one.after:.3f}",
            f"{figure.difference:+.3f}", between, words)  # fmt: skip


def _figures(rows: Sequence[MetricChange]) -> str:
    return table(_HEADS, [compared_row(one) for one in rows])


def _case(one: HeldOutCase) -> tuple[str, ...]:
    cells = [(side.get(key), form) for key, form in (("wt", ".3f"), ("found", ".0f"), ("fp", ".0f"))
             for side in (one.before, one.after)]  # fmt: skip
    return (one.name, *(number(value, form) for value, form in cells))


def html(proposal: Proposal) -> str:
    """Return the page; it opens offline."""
    counts = proposal.counts
    read = ", ".join(f"{counts[k]} {k}" for k in counts if k not in ("studies", "patients"))
    shown = proposal.cases[:_MOST_CASES]
    left = [f"{name}: {why}" for name, why in proposal.left_out]
    parts = [
        "<h1>Weights learnt from your reviews: a proposal</h1>",
        paragraph(
            f"Trained on for {proposal.steps} steps from {proposal.parent.version} (SHA-256 "
            f"{proposal.parent.sha256[:12]}…) to {proposal.proposed.version} (SHA-256 "
            f"{proposal.proposed.sha256[:12]}…), {proposal.made}. Signed reviews: {read}; "
            f"{counts['studies']} studies of {counts['patients']} patients."
        ),
        warned(
            "Weigh before you accept",
            proposal.cautions,
            "No figure is surely worse. That is no proof that nothing became worse.",
        ),
        heading("Patients who were held out, by the whole analysis"),
        _figures(proposal.patients),
        heading("Drawn brains that no training has seen: what was forgotten"),
        _figures(proposal.drawn),
        heading(f"Held-out cases ({len(shown)} of {len(proposal.cases)})"),
        table(_CASE, [_case(one) for one in shown]),
        paragraph(
            "Before: the weights that training began with. Intervals are of the mean difference, "
            "by bootstrap over cases; better and worse are stated for five cases or more where the "
            "whole interval lies on one side. The truth is what readers signed."
        ),
        heading("To accept, or not"),
        "<p>Nothing has changed yet. <code>lesionlens weights accept DIR --by NAME</code> keeps "
        "these weights as a new version and uses them from then on; <code>lesionlens weights back "
        "--by NAME</code> takes them back; <code>lesionlens weights list</code> shows all.</p>",
        *([heading("Results that teach nothing yet"), table(("",), [(x,) for x in left])]
          if left else []),
    ]  # fmt: skip
    return page("LesionLens: proposed weights", parts)
