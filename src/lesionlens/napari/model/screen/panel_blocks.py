"""Blocks of the panel, computed from the state: study, threshold, maps, focus, signature.

Pure, frozen, no Qt.
"""

from __future__ import annotations

from dataclasses import dataclass

from lesionlens.analysis.explain.shapley import deciding_text
from lesionlens.base.labels import MrSequence, Region
from lesionlens.base.records.analysis import Analysis
from lesionlens.base.records.findings import Candidate
from lesionlens.base.records.study import Study
from lesionlens.napari.model.choices.choices import Overlay
from lesionlens.napari.model.overlays.maps import ATTENTION_MAP, map_name
from lesionlens.napari.model.state.state import State
from lesionlens.napari.model.wording.candidates import (
    Bar,
    Fact,
    bars_of,
    facts_of,
    no_bars_text,
    point_at,
    threshold_costs,
    threshold_source,
    threshold_text,
)
from lesionlens.napari.model.wording.map_checks import verdict, withheld
from lesionlens.napari.model.wording.titles import (
    caption,
    notices_of,
    patient_text,
    sign_button_text,
    subtitle,
)
from lesionlens.results.export import wording


@dataclass(frozen=True, slots=True)
class ShownSequence:
    """One of the four sequences: whether present and shown, and how it was recognised."""

    sequence: MrSequence
    present: bool
    shown: bool
    evidence: str


@dataclass(frozen=True, slots=True)
class ShownStudy:
    """The open study; empty if none is open."""

    title: str = ""
    patient: str = ""
    subtitle: str = ""
    caption: str = ""
    """Text over the image."""
    sequences: tuple[ShownSequence, ...] = ()
    notices: tuple[str, ...] = ()
    """Notices of reading and, once it is shown, of the analysis."""
    quality: tuple[Fact, ...] = ()
    """Checks of the images."""


@dataclass(frozen=True, slots=True)
class ShownThreshold:
    """The score threshold of the list, 0 to 1."""

    floor: float = 0.0
    """Lowest threshold: below it the network flags nothing."""
    text: str = ""
    source: str = ""
    """What it does, and on which scans its costs were measured."""
    costs: str = ""
    """False candidates and found lesions at this threshold; empty if not measured."""
    n_below: int = 0
    """Number of candidates below it, which are not listed."""


@dataclass(frozen=True, slots=True)
class ShownMapChoices:
    """Which maps the reader can choose, and the checks of the shown one."""

    regions: tuple[Region, ...] = tuple(Region)
    """Selectable regions; no enhancing tumour without T1c."""
    has_evidence: bool = False
    """Whether the contributions of sequences can be shown."""
    has_attention: bool = False
    other_method: str = ""
    """Method of the maps, if it is not attention; else empty."""
    verdict: Fact | None = None
    """Outcome of the checks of the map."""
    withheld: bool = False
    """Whether the map is not shown because it failed its checks."""


@dataclass(frozen=True, slots=True)
class ShownFocus:
    """The candidate in focus; empty if there is none."""

    title: str = ""
    facts: tuple[Fact, ...] = ()
    relevance: tuple[Bar, ...] = ()
    deciding: str = ""
    """Which sequences were decisive."""
    no_bars: str = ""
    """Why there are no bars."""


@dataclass(frozen=True, slots=True)
class ShownSignature:
    """How far the review is, and its signature."""

    progress: str = ""
    all_reviewed: bool = False
    button_text: str = ""
    signed: bool = False


def shown_study(state: State, study: Study) -> ShownStudy:
    """Return the block of the open study."""
    analysis = state.analysis
    checks = () if analysis is None else analysis.findings.quality
    return ShownStudy(
        title=state.identity.study,
        patient=patient_text(state.identity),
        subtitle=subtitle(study, analysis, state),
        caption=caption(state),
        sequences=_sequences(study, state.choices.sequence),
        notices=notices_of(study, analysis, state.review),
        quality=tuple(Fact(wording.check_name(c.check), c.outcome, c.message) for c in checks),
    )


def shown_threshold(state: State, analysis: Analysis) -> ShownThreshold:
    """Return the threshold of a result."""
    value, engine = state.choices.threshold, analysis.run.engine
    point = point_at(engine.operating_points, value)
    return ShownThreshold(
        floor=engine.floor,
        text=threshold_text(value),
        source=threshold_source(point, engine.floor),
        costs=threshold_costs(point),
        n_below=len(state.candidates) - len(state.listed),
    )


def shown_map_choices(state: State, analysis: Analysis) -> ShownMapChoices:
    """Return the block of the maps of a result."""
    choices = state.choices
    return ShownMapChoices(
        regions=analysis.prepared.regions,
        has_evidence=bool(state.evidence_sequences),
        has_attention=bool(analysis.volumes.attention),
        other_method=_other_method(analysis),
        verdict=verdict(analysis, state),
        withheld=choices.overlay is Overlay.MAP and withheld(state),
    )


def _other_method(analysis: Analysis) -> str:
    """Return the method of maps that their engine does not call attention, such as Grad-CAM."""
    if analysis.maps is None or map_name(analysis) == ATTENTION_MAP:
        return ""
    return analysis.maps.method


def shown_focus(analysis: Analysis, focus: Candidate | None) -> ShownFocus:
    """Return the block of the candidate in focus."""
    if focus is None:
        return ShownFocus()
    return ShownFocus(
        title=f"{focus.id} · {focus.location.text}",
        facts=facts_of(focus, map_name(analysis)),
        relevance=bars_of(focus),
        deciding=deciding_text(focus.sequence_relevance),
        no_bars=no_bars_text(focus),
    )


def shown_signature(state: State, analysis: Analysis) -> ShownSignature:
    """Return the block of the signature."""
    uids, review = [c.tracking_uid for c in analysis.findings.candidates], state.review
    n_omitted = analysis.run.omitted
    omitted = f"{n_omitted} more not in the DICOM objects" if n_omitted else ""
    return ShownSignature(
        progress=" · ".join(filter(None, (review.progress_text(uids), omitted))),
        all_reviewed=bool(uids) and all(review.state_of(uid).decided for uid in uids),
        button_text=sign_button_text(state, flagged=bool(uids)),
        signed=review.signed is not None,
    )


def _sequences(study: Study, shown: MrSequence | None) -> tuple[ShownSequence, ...]:
    rows = []
    for sequence in MrSequence:
        series = study.series.get(sequence)
        evidence = "not in this study"
        if series is not None:
            spacing = " × ".join(f"{edge:.3g}" for edge in series.grid.spacing_mm)
            name = series.description or "unnamed"
            evidence = f"{name}, recognised by {series.detected_by}; {spacing} mm"
        evidence = f"{sequence.display_name}: {evidence}"
        rows.append(ShownSequence(sequence, series is not None, sequence is shown, evidence))
    return tuple(rows)
