"""Texts of the panel about the checks of the shown map."""

from __future__ import annotations

from lesionlens.analysis.explain.checks import too_coarse
from lesionlens.base.records.analysis import Analysis
from lesionlens.base.records.attention import MapChecks
from lesionlens.napari.model.state.state import State
from lesionlens.napari.model.wording.candidates import Fact

EXACT = "exact shares of the first pass"
EXACT_IN_FULL = (
    "Average contribution of this sequence over all orders of the four sequences (Shapley value), "
    "at every voxel. Together with the other maps and the output without images it sums to the "
    "probability of the first pass, which is coarser than the outline. It describes the network, "
    "not the disease."
)


def withheld(state: State) -> bool:
    """Whether the region's map failed its checks and the reader did not request it."""
    if state.choices.evidence is not None:
        return False
    maps = None if state.analysis is None else state.analysis.maps
    checks = None if maps is None else maps.checks.get(state.choices.region)
    return checks is not None and checks.reliable is False and not state.choices.unreliable


def verdict(analysis: Analysis, state: State) -> Fact | None:
    """Return the outcome of the shown map's checks."""
    choices = state.choices
    checks = None if analysis.maps is None else analysis.maps.checks.get(choices.region)
    if choices.evidence is not None:
        return Fact(EXACT, None, EXACT_IN_FULL)
    if checks is None or checks.reliable is None:
        return _too_coarse(checks)
    text = "map passed its checks" if checks.reliable else "map not reliable here"
    return Fact(text, checks.reliable, checks.verdict)


def _too_coarse(checks: MapChecks | None) -> Fact | None:
    """Return the statement on a map too coarse to be judged; None if it was not checked."""
    if checks is None or not too_coarse(checks):
        return None
    return Fact("map too coarse to be judged", None, checks.verdict)
