"""From the state to the screen: pure, frozen, no Qt."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from lesionlens.base.labels import MrSequence, Region, ReviewState, Source
from lesionlens.base.records.analysis import Analysis
from lesionlens.base.records.findings import Candidate, Considered, PreliminaryCandidate
from lesionlens.base.text import counted
from lesionlens.napari.model.choices.choices import Choices, Overlay
from lesionlens.napari.model.choices.tools import DRAWN_CAVITY, Tools
from lesionlens.napari.model.choices.views import ComparisonImages
from lesionlens.napari.model.screen.map_layers import MapLayer, map_layers
from lesionlens.napari.model.screen.panel_blocks import (
    ShownFocus,
    ShownMapChoices,
    ShownSignature,
    ShownStudy,
    ShownThreshold,
    shown_focus,
    shown_map_choices,
    shown_signature,
    shown_study,
    shown_threshold,
)
from lesionlens.napari.model.state.state import (
    Activity,
    Problem,
    State,
    compared_now,
    shown_sequence,
)
from lesionlens.napari.model.wording.candidates import (
    cavity_text,
    details,
    score_text,
    short_location,
    size_cell,
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
from lesionlens.napari.model.wording.review_signs import STATE_COLOURS

_PRELIMINARY = (
    "Preliminary: from a first, coarser pass while the analysis runs. You can go to it but not "
    "decide on it yet."
)


@dataclass(frozen=True, slots=True)
class ShownCandidate:
    """One row of the table."""

    id: int
    location: str
    size: str
    volume: str
    score: str
    state: ReviewState
    focus: bool
    details: str

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
class ShownScene:
    """Content of the viewer."""

    sequence: MrSequence | None = None
    outline: ShownOutline = ShownOutline(visible=False, region=Region.WT)
    maps: tuple[MapLayer, ...] = ()
    """Maps over the image, topmost first."""
    choices: Choices = field(default_factory=Choices)
    compared: ComparisonImages | None = None
    """Images shown instead of the sequence."""
    focus: Candidate | PreliminaryCandidate | None = None
    """The candidate in focus."""

    def shows(self, role: str) -> bool:
        """Whether a map of a role is over the image."""
        return any(layer.role == role for layer in self.maps)


@dataclass(frozen=True, slots=True)
class Screen:
    """Content of the panel and the viewer."""

    study: ShownStudy = field(default_factory=ShownStudy)
    can_analyse: bool = False
    analysed: bool = False
    preliminary: bool = False
    can_export: bool = False
    activity: Activity | None = None
    problem: Problem | None = None
    message: str = ""
    declined: bool = False
    """Whether the message is the reason why an act was not done."""
    candidates: tuple[ShownCandidate, ...] = ()
    conclusion: str = ""
    cavity: str = ""
    """Volume of the resection cavity; empty if there is none."""
    considered: tuple[Considered, ...] = ()
    threshold: ShownThreshold = field(default_factory=ShownThreshold)
    maps: ShownMapChoices = field(default_factory=ShownMapChoices)
    focus: ShownFocus = field(default_factory=ShownFocus)
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
    signature: ShownSignature = field(default_factory=ShownSignature)
    scene: ShownScene = ShownScene()

    @property
    def choices(self) -> Choices:
        """The reader's choices."""
        return self.scene.choices


def resolve(state: State) -> Screen:
    """Return the screen of a state."""
    screen = Screen(
        activity=state.activity,
        problem=state.problem,
        message=state.message,
        declined=state.declined,
        decision_obstacle=decision_obstacle(state),
        not_added=why_not_added(state),
        not_merged=why_not_merged(state),
        scene=ShownScene(choices=state.choices),
    )
    study = state.study
    if study is None:
        return screen
    screen = replace(
        screen,
        study=shown_study(state, study),
        can_analyse=bool(study.series) and state.activity is None,
        scene=_scene(state),
    )
    if state.analysis is not None:
        return _with_analysis(screen, state, state.analysis)
    return screen if state.preliminary is None else _with_preliminary(screen, state)


def _with_preliminary(screen: Screen, state: State) -> Screen:
    """Add preliminary candidates while the analysis runs: rows without decisions."""
    rows = state.listed_preliminary
    return replace(
        screen,
        preliminary=True,
        candidates=tuple(_preliminary_row(c, focus=c.id == state.choices.candidate) for c in rows),
        conclusion=f"{counted(len(rows), 'preliminary candidate')} · still analysing",
    )


def _with_analysis(screen: Screen, state: State, analysis: Analysis) -> Screen:
    """Add what a result shows."""
    focus = state.focused
    return replace(
        screen,
        analysed=True,
        can_export=state.activity is None,
        candidates=_rows(state, analysis),
        conclusion=analysis.findings.conclusion,
        cavity=cavity_text(analysis),
        considered=analysis.findings.considered,
        threshold=shown_threshold(state, analysis),
        maps=shown_map_choices(state, analysis),
        focus=shown_focus(analysis, focus),
        editing=state.editing is not None,
        tools=state.tools,
        draft_text=draft_text(state, analysis),
        outline_text=outline_text(state, analysis, focus),
        reason="" if focus is None else state.reason_of(focus.tracking_uid),
        can_undo=state.log.can_undo,
        can_redo=state.log.can_redo,
        signature=shown_signature(state, analysis),
    )


def _scene(state: State) -> ShownScene:
    choices, focused = state.choices, state.focused
    focus = next((c for c in state.shown_candidates if c.id == choices.candidate), None)
    is_preliminary = state.analysis is None and state.preliminary is not None
    shows_overlay = choices.overlay is not Overlay.OFF and not choices.hidden
    return ShownScene(
        sequence=shown_sequence(state),
        outline=ShownOutline(
            visible=shows_overlay and (is_preliminary or state.analysis is not None),
            region=Region.WT if state.analysis is None else choices.region,
            colours=tuple(
                (c.id, STATE_COLOURS[_review_state(state, c)])
                for c in state.shown_candidates
                if c.id != state.editing
            ),
            boxed=None if focus is None or state.editing is not None else focus.id,
            original=focused.id
            if focused is not None and redrawn(state, focused)
            else state.editing or None,
            preliminary=is_preliminary,
            cavity=state.editing != DRAWN_CAVITY,
        ),
        maps=map_layers(state),
        choices=choices,
        compared=compared_now(state),
        focus=focus,
    )


def _review_state(state: State, candidate: Candidate | PreliminaryCandidate) -> ReviewState:
    """Return the decision on a candidate; none on a preliminary one."""
    if isinstance(candidate, PreliminaryCandidate):
        return ReviewState.UNREVIEWED
    return state.review.state_of(candidate.tracking_uid)


def _rows(state: State, analysis: Analysis) -> tuple[ShownCandidate, ...]:
    """Return the rows of the table."""
    focus, has_t1c = state.focused, analysis.prepared.has_t1c
    return tuple(_row(c, state, has_t1c=has_t1c, focus=c is focus) for c in state.listed)


def _row(candidate: Candidate, state: State, *, has_t1c: bool, focus: bool) -> ShownCandidate:
    event = state.review.decision_of(candidate.tracking_uid)
    review = state.review.state_of(candidate.tracking_uid)
    text = review.value if event is None else f"{review.value}, {event.reader or 'reader unnamed'}"
    if event is not None and event.reason:
        text += f": {event.reason}"
    return ShownCandidate(
        id=candidate.id,
        location=short_location(candidate),
        size=size_cell(candidate),
        volume=volume_text(candidate.volume_ml.get(Region.WT)),
        score="added" if candidate.source is Source.READER else score_text(candidate.score),
        state=review,
        focus=focus,
        details=details(candidate, has_t1c=has_t1c) + f"\n{text}",
    )


def _preliminary_row(candidate: PreliminaryCandidate, *, focus: bool) -> ShownCandidate:
    return ShownCandidate(
        id=candidate.id,
        location="preliminary",
        size="–",
        volume=volume_text(candidate.volume_ml),
        score=score_text(candidate.score),
        state=ReviewState.UNREVIEWED,
        focus=focus,
        details=_PRELIMINARY,
    )
