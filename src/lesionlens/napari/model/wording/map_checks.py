"""Texts of the panel about the checks of the shown map."""

from __future__ import annotations

from lesionlens.analysis.explain.faithfulness import too_coarse
from lesionlens.base.records.analysis import Analysis
from lesionlens.base.records.attention import MapChecks
from lesionlens.napari.model.choices.choices import Choices, SecondOpinion
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
    if _shows_contribution(state.choices):
        return False
    maps = None if state.analysis is None else state.analysis.maps
    checks = None if maps is None else maps.checks.get(state.choices.region)
    return checks is not None and checks.reliable is False and not state.choices.unreliable


def verdict(analysis: Analysis, state: State) -> Fact | None:
    """Return the outcome of the shown map's checks."""
    choices = state.choices
    checks = None if analysis.maps is None else analysis.maps.checks.get(choices.region)
    if state.overlays is not None and state.overlays.probe is not None:
        return Fact(
            "probe: not checked on its own", None, "Only the maps of the regions are checked."
        )
    if _shows_contribution(choices):
        return Fact(EXACT, None, EXACT_IN_FULL)
    if checks is None or checks.reliable is None:
        return _too_coarse(checks)
    part = _unchecked(choices)
    if part and checks.reliable:
        text = f"The map of all layers and all candidates: {checks.verdict}"
        return Fact(f"{part}: not checked on its own", None, text)
    text = "map passed its checks" if checks.reliable else "map not reliable here"
    return Fact(text, checks.reliable, checks.verdict)


def _too_coarse(checks: MapChecks | None) -> Fact | None:
    """Return the statement on a map too coarse to be judged; None if it was not checked."""
    if checks is None or not too_coarse(checks):
        return None
    return Fact("map too coarse to be judged", None, checks.verdict)


def _shows_contribution(choices: Choices) -> bool:
    """Whether a contribution map is shown, which the attention's checks do not cover."""
    return isinstance(choices.layer, SecondOpinion) and choices.layer.sequence is not None


def _unchecked(choices: Choices) -> str:
    """Return the name of a shown part of the checked map; empty for the whole map."""
    if isinstance(choices.layer, SecondOpinion):
        return "second opinion"
    if choices.layer is not None:
        return "one layer"
    return "one candidate's part" if choices.only_focused and choices.candidate is not None else ""
