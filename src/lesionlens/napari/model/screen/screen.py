"""From the state to the screen: pure, frozen, no Qt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from lesionlens.analysis.explain.shapley import deciding_text
from lesionlens.base.labels import MrSequence, Region, ReviewState, Source
from lesionlens.base.records.analysis import Analysis
from lesionlens.base.records.findings import OTHER_FINDINGS, Candidate, Considered, Point
from lesionlens.base.records.prediction import Capability
from lesionlens.base.records.study import Study
from lesionlens.napari.model.choices.choices import Choices, LayerChoice, Overlay, SecondOpinion
from lesionlens.napari.model.choices.tools import DRAWN_CAVITY, Tools
from lesionlens.napari.model.choices.views import ComparisonImages
from lesionlens.napari.model.geometry.planes import Plane
from lesionlens.napari.model.state.state import (
    Activity,
    Problem,
    State,
    compared_now,
    listed,
    shown_sequence,
)
from lesionlens.napari.model.wording.candidates import (
    Bar,
    Fact,
    bars_of,
    cavity_text,
    details,
    facts_of,
    no_bars_text,
    point_at,
    probe_text,
    score_text,
    short_location,
    size_cell,
    threshold_costs,
    threshold_source,
    threshold_text,
    volume_text,
)
from lesionlens.napari.model.wording.edits import (
    decision_obstacle,
    draft_text,
    outline_text,
    redrawn,
    why_not_added,
    why_not_merged,
)
from lesionlens.napari.model.wording.map_checks import verdict, withheld
from lesionlens.napari.model.wording.review_signs import STATE_COLOURS
from lesionlens.napari.model.wording.titles import (
    caption,
    notices_of,
    patient_text,
    sign_button_text,
    subtitle,
)
from lesionlens.results.export.report_texts import load


@dataclass(frozen=True, slots=True)
class ShownSequence:
    """One of the four sequences: whether present and shown, and how it was recognised."""

    sequence: MrSequence
    present: bool
    shown: bool
    evidence: str


@dataclass(frozen=True, slots=True)
class ShownCandidate:
    """One row of the table."""

    id: int
    place: str
    size: str
    volume: str
    score: str
    state: ReviewState
    focus: bool
    details: str
    heading: str = ""
    """Heading above this row."""

    @property
    def colour(self) -> str:
        """Colour of its state, as #rrggbb."""
        return STATE_COLOURS[self.state]


@dataclass(frozen=True, slots=True)
class ShownOutline:
    """Contours of the candidates: visibility, colour of each id, candidate with a box."""

    visible: bool
    region: Region
    colours: tuple[tuple[int, str], ...] = ()
    boxed: int | None = None
    original: int | None = None
    """Candidate whose original outline is shown beside the reader's."""
    preliminary: bool = False
    cavity: bool = True
    """Whether the resection cavity is outlined; not while it is drawn."""


@dataclass(frozen=True, slots=True)
class FocusedRegion:
    """Centroid and box of the candidate in focus (RAS+ mm)."""

    point_mm: Point
    box_mm: tuple[Point, Point]


@dataclass(frozen=True, slots=True)
class ShownScene:
    """Content of the viewer."""

    sequence: MrSequence | None = None
    outline: ShownOutline = ShownOutline(visible=False, region=Region.WT)
    attention: Region | None = None
    layer_choice: LayerChoice | None = None
    only: int | None = None
    uncertainty: bool = False
    probe: bool = False
    opacity: float = 0.6
    compared: ComparisonImages | None = None
    """Images shown instead of the sequence."""
    isolines: bool = False
    """Whether maps are drawn as isolines, which are not layers."""
    plane: Plane = Plane.AXIAL
    focus: FocusedRegion | None = None


@dataclass(frozen=True, slots=True)
class Screen:
    """Content of the panel and the viewer."""

    title: str = ""
    patient_text: str = ""
    subtitle: str = ""
    caption: str = ""
    sequences: tuple[ShownSequence, ...] = ()
    notices: tuple[str, ...] = ()
    """Of reading and, once it is shown, of the analysis."""
    exchanged: tuple[MrSequence, ...] = ()
    """Sequences whose names seem exchanged; more than two if it is unclear how."""
    quality: tuple[Fact, ...] = ()
    can_analyse: bool = False
    analysed: bool = False
    preliminary: bool = False
    activity: Activity | None = None
    problem: Problem | None = None
    message: str = ""
    declined: bool = False
    """Whether the message is the reason why an act was not done."""
    candidates: tuple[ShownCandidate, ...] = ()
    conclusion: str = ""
    cavity: str = ""
    """Volume of the resection cavity; empty if there is none."""
    threshold: float = 0.0
    threshold_text: str = ""
    threshold_source: str = ""
    threshold_costs: str = ""
    threshold_floor: float = 0.0
    below_threshold: int = 0
    considered: tuple[Considered, ...] = ()
    decision_obstacle: str = ""
    """Why no candidate can be decided or redrawn; empty if possible."""
    not_added: str = ""
    not_merged: str = ""
    editing: bool = False
    tools: Tools = field(default_factory=Tools)
    draft_text: str = ""
    """Question about strokes of an earlier session; empty if there are none."""
    outline_text: str = ""
    reason: str = ""
    can_undo: bool = False
    can_redo: bool = False
    overlay: Overlay = Overlay.OFF
    region: Region = Region.WT
    regions: tuple[Region, ...] = tuple(Region)
    """Selectable regions; no enhancing tumour without T1c."""
    attention_layers: tuple[tuple[str, int], ...] = ()
    second_opinions: tuple[SecondOpinion, ...] = ()
    layer: int | SecondOpinion | None = None
    head: int | None = None
    alone: bool = False
    opacity: float = 0.6
    has_attention: bool = False
    has_uncertainty: bool = False
    can_probe: bool = False
    reopened: bool = False
    """Whether the result comes from files, so that the network is not available."""
    verdict: Fact | None = None
    withheld: bool = False
    focus_title: str = ""
    facts: tuple[Fact, ...] = ()
    relevance: tuple[Bar, ...] = ()
    deciding: str = ""
    no_bars: str = ""
    """Why there are no bars."""
    probed: str = ""
    can_ask_without: bool = False
    without: str = ""
    reviewed: str = ""
    all_reviewed: bool = False
    sign_button_text: str = ""
    signed: bool = False
    can_export: bool = False
    scene: ShownScene = ShownScene()


def resolve(state: State) -> Screen:
    """Return the screen of a state."""
    names = ("activity", "problem", "message", "declined")
    job_fields = {name: getattr(state, name) for name in names}
    if state.study is None:
        return Screen(
            **job_fields,
            decision_obstacle=decision_obstacle(state),
            not_added=why_not_added(state),
            not_merged=why_not_merged(state),
        )
    study, analysis, choices = state.study, state.analysis, state.choices
    common: dict[str, Any] = job_fields | {
        "title": state.identity.study,
        "patient_text": patient_text(state.identity),
        "subtitle": subtitle(study, analysis, state),
        "caption": caption(state),
        "sequences": _sequences(study, choices.sequence),
        "notices": notices_of(study, analysis),
        "exchanged": state.exchanged,
        "can_analyse": bool(study.series) and state.activity is None,
        "region": choices.region,
        "opacity": choices.opacity,
        "threshold": choices.threshold,
        "decision_obstacle": decision_obstacle(state),
        "not_added": why_not_added(state),
        "not_merged": why_not_merged(state),
    }
    if analysis is None:
        scene = ShownScene(shown_sequence(state), compared=compared_now(state), plane=choices.plane)
        return Screen(scene=scene, **common)
    return _analysed(state, analysis, common)


def _analysed(state: State, analysis: Analysis, common: dict[str, Any]) -> Screen:
    choices = state.choices
    rows = listed(analysis, choices.threshold)
    focus = next((c for c in rows if c.id == choices.candidate), None)
    capabilities = {str(c) for c in analysis.run.engine.capabilities}
    uids = [c.tracking_uid for c in analysis.findings.candidates]
    total = len(uids)
    point = point_at(analysis.run.engine.operating_points, choices.threshold)
    return Screen(
        **common,
        analysed=True,
        quality=tuple(
            Fact(load("en").check(q.check), q.outcome, q.message) for q in analysis.findings.quality
        ),
        candidates=_rows(rows, state, focus),
        conclusion=analysis.findings.conclusion,
        cavity=cavity_text(analysis),
        threshold_text=threshold_text(choices.threshold),
        threshold_costs=threshold_costs(point),
        threshold_source=threshold_source(point, analysis.run.engine.floor),
        threshold_floor=analysis.run.engine.floor,
        below_threshold=total - len(rows),
        considered=analysis.findings.considered,
        **_edit_fields(state, analysis, focus),
        reason="" if focus is None else state.reason_of(focus.tracking_uid),
        can_undo=state.can_undo,
        can_redo=state.can_redo,
        overlay=choices.overlay,
        regions=analysis.prepared.regions,
        has_attention=bool(analysis.volumes.attention),
        has_uncertainty=analysis.volumes.uncertainty is not None,
        can_probe=str(Capability.PROBE) in capabilities,
        reopened=state.reopened,
        attention_layers=state.attention_layers,
        second_opinions=state.second_opinions,
        layer=choices.layer,
        head=choices.head,
        alone=choices.only_focused and focus is not None,
        verdict=verdict(analysis, state),
        withheld=choices.overlay is Overlay.MAP and withheld(state),
        **_focus_fields(state, focus, capabilities),
        probed="" if state.probed is None else probe_text(analysis, state.probed),
        reviewed=state.review.progress_text(uids),
        sign_button_text=sign_button_text(state, flagged=bool(uids)),
        signed=state.review.signed is not None,
        all_reviewed=bool(uids) and all(state.review.state_of(uid).decided for uid in uids),
        can_export=state.activity is None,
        scene=_scene(state, rows, focus),
    )


def _edit_fields(state: State, analysis: Analysis, focus: Candidate | None) -> dict[str, Any]:
    return {
        "editing": state.editing is not None,
        "tools": state.tools,
        "draft_text": draft_text(state, analysis),
        "outline_text": outline_text(state, analysis, focus),
    }


def _focus_fields(state: State, focus: Candidate | None, capabilities: set[str]) -> dict[str, Any]:
    """Return the fields about the candidate in focus; empty if there is none."""
    if focus is None:
        return {}
    masked = state.masked_result
    return {
        "focus_title": f"{focus.id} · {focus.location.text}",
        "facts": facts_of(focus),
        "relevance": bars_of(focus),
        "deciding": deciding_text(focus.sequence_relevance),
        "no_bars": no_bars_text(focus),
        "can_ask_without": str(Capability.PERTURB) in capabilities and state.activity is None,
        "without": masked[1] if masked is not None and masked[0] == focus.id else "",
    }


def _scene(state: State, rows: tuple[Candidate, ...], focus: Candidate | None) -> ShownScene:
    choices = state.choices
    overlay_on = choices.overlay is not Overlay.OFF and not choices.hidden
    overlays = state.overlays
    probing = not choices.hidden and overlays is not None and overlays.probe is not None
    own_image = compared_now(state) is None  # maps do not belong on another image
    # one map at a time, none while drawing
    maps_allowed = own_image and not probing and state.editing is None
    return ShownScene(
        sequence=shown_sequence(state),
        outline=ShownOutline(
            visible=overlay_on,
            region=choices.region,
            colours=tuple(
                (c.id, STATE_COLOURS[state.review.state_of(c.tracking_uid)])
                for c in rows
                if c.id != state.editing
            ),
            boxed=None if focus is None or state.editing is not None else focus.id,
            original=focus.id
            if focus is not None and redrawn(state, focus)
            else state.editing or None,
            cavity=state.editing != DRAWN_CAVITY,
        ),
        attention=choices.region
        if overlay_on and maps_allowed and choices.overlay is Overlay.MAP and not withheld(state)
        else None,
        layer_choice=_layer_choice(choices, focus or next(iter(rows), None)),
        only=focus.id if choices.only_focused and focus is not None else None,
        uncertainty=overlay_on and maps_allowed and choices.uncertainty,
        probe=own_image and probing and state.editing is None,
        opacity=choices.opacity,
        compared=compared_now(state),
        isolines=choices.views.isolines,
        plane=choices.plane,
        focus=None if focus is None else FocusedRegion(focus.centroid_mm, focus.bounding_box_mm),
    )


def _layer_choice(choices: Choices, candidate: Candidate | None) -> LayerChoice | None:
    if choices.layer is None:
        return None
    rollout = choices.layer is SecondOpinion.ROLLOUT and candidate is not None
    at_mm = candidate.peak_mm if rollout and candidate is not None else None
    return LayerChoice(choices.region, choices.layer, choices.head, at_mm)


def _sequences(study: Study, shown: MrSequence | None) -> tuple[ShownSequence, ...]:
    rows = []
    for sequence in MrSequence:
        series = study.series.get(sequence)
        evidence = (
            f"{sequence.display_name}: not in this study"
            if series is None
            else (
                f"{sequence.display_name}: {series.description or 'unnamed'}, recognised by "
                f"{series.detected_by}; {' × '.join(f'{e:.3g}' for e in series.grid.spacing_mm)} mm"
            )
        )
        rows.append(ShownSequence(sequence, series is not None, sequence is shown, evidence))
    return tuple(rows)


def _rows(
    listed: Sequence[Candidate], state: State, focus: Candidate | None
) -> tuple[ShownCandidate, ...]:
    """Return the rows of the table; a heading precedes the candidates that are listed apart."""
    rows = [_row(candidate, state, focus=candidate is focus) for candidate in listed]
    first = next((n for n, candidate in enumerate(listed) if candidate.apart), None)
    if first is not None:
        rows[first] = replace(rows[first], heading=OTHER_FINDINGS)
    return tuple(rows)


def _row(candidate: Candidate, state: State, *, focus: bool) -> ShownCandidate:
    event = state.review.decision_of(candidate.tracking_uid)
    review = state.review.state_of(candidate.tracking_uid)
    text = review.value if event is None else f"{review.value}, {event.reader or 'reader unnamed'}"
    if event is not None and event.reason:
        text += f": {event.reason}"
    return ShownCandidate(
        id=candidate.id,
        place=short_location(candidate),
        size=size_cell(candidate),
        volume=volume_text(candidate.volume_ml.get(Region.WT)),
        score="added" if candidate.source is Source.READER else score_text(candidate.score),
        state=review,
        focus=focus,
        details=details(candidate, review) + f"\n{text}",
    )
