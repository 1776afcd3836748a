"""Colours and signs of review states."""

from __future__ import annotations

from lesionlens.base.labels import ReviewState

STATE_COLOURS = {
    ReviewState.UNREVIEWED: "#E69F00",
    ReviewState.ACCEPTED: "#009E73",
    ReviewState.REJECTED: "#8C8C8C",
    ReviewState.DEFERRED: "#56B4E9",
    ReviewState.EDITED: "#8060FF",
}
"""Okabe and Ito; never the only sign of a state (see STATE_SIGNS)."""

STATE_SIGNS = {
    ReviewState.UNREVIEWED: "○",
    ReviewState.ACCEPTED: "✓",
    ReviewState.REJECTED: "✕",
    ReviewState.DEFERRED: "…",
    ReviewState.EDITED: "✎",
}
