"""The panel: a column of blocks that shows view models and forwards the reader's acts."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from napari.components import ViewerModel
from napari.settings import get_settings
from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QDragEnterEvent, QDropEvent
from qtpy.QtWidgets import QApplication, QFrame, QMenu, QWidget

from lesionlens.base.labels import RESEARCH_USE_NOTICE
from lesionlens.base.records.study import Study
from lesionlens.napari.commands.command import Command, Commands
from lesionlens.napari.commands.study import OPENERS
from lesionlens.napari.commands.table import BY_NAME
from lesionlens.napari.controllers.actions import Actions
from lesionlens.napari.controllers.dialogs import Dialogs
from lesionlens.napari.model.acts.session import ReviewSession
from lesionlens.napari.model.screen.screen import Screen
from lesionlens.napari.model.screen.view_model import ViewModel
from lesionlens.napari.model.state.state import Query
from lesionlens.napari.model.studies import recent_paths
from lesionlens.napari.preferences import (
    read_preferences,
    use_for_folders,
    used_for_folders,
)
from lesionlens.napari.qt.drops import local_paths
from lesionlens.napari.qt.jobs import Jobs
from lesionlens.napari.qt.keyboard import WheelGuard
from lesionlens.napari.qt.latest_request import LatestRequest
from lesionlens.napari.qt.waiting import once_idle, when_idle
from lesionlens.napari.widgets.attention_block import AttentionBlock
from lesionlens.napari.widgets.candidate_block import CandidateBlock
from lesionlens.napari.widgets.considered_block import ConsideredBlock
from lesionlens.napari.widgets.dialogs import ask_name, ask_path, confirm, confirm_patient
from lesionlens.napari.widgets.followup_block import FollowupBlock
from lesionlens.napari.widgets.footer import Footer
from lesionlens.napari.widgets.keys_dialog import KeysDialog
from lesionlens.napari.widgets.pacs_dialog import PacsDialog
from lesionlens.napari.widgets.parts import (
    AnchoredScroll,
    label,
    scroll_into_view,
    show_text,
    stack,
)
from lesionlens.napari.widgets.read_block import ReadBlock
from lesionlens.napari.widgets.response_dialog import ResponseDialog
from lesionlens.napari.widgets.run_block import MessageBlock, ProblemBlock, RunBlock
from lesionlens.napari.widgets.sign_dialog import SignDialog
from lesionlens.napari.widgets.studies_dialog import StudiesDialog
from lesionlens.napari.widgets.study_block import (
    AssignmentEditor,
    QualityBlock,
    StudyBlock,
    empty_state,
)
from lesionlens.napari.widgets.study_menus import other_menu, recent_menu
from lesionlens.napari.widgets.style import is_light, style_sheet

WIDTH, PLAIN_PT = 372, 9.0
"""Minimum width of the panel, pixels, at napari's default font size."""
_HIDDEN = "The analysis is hidden during your own read"
_MENU = ("copy_study_sentence", "assess_response", "withdraw_response", "add_layers", "close")


class Panel(QWidget):
    """The whole panel of one viewer."""

    worklist_requested = Signal()
    """The worklist is to be shown beside the picture."""

    def __init__(self, viewer: ViewerModel, session: ReviewSession) -> None:
        super().__init__()
        self.setObjectName("lesionlens")
        self.setAcceptDrops(True)
        self.session = session
        self.jobs = Jobs(session, self)
        self.latest_request = LatestRequest(session, self)
        self.signing = SignDialog(self)
        self.response = ResponseDialog(self)
        self.actions_ = Actions(session, self.jobs, self.latest_request, viewer, self._dialogs())
        self.commands = Commands(BY_NAME, self.actions_, self._screen_now, session.decline)
        self.model = ViewModel()
        self.archive: PacsDialog | None = None
        self.studies = StudiesDialog(self, self.actions_.opener.choose_study, session.dismiss)
        self._study: Study | None = None
        self._build()
        self.show_theme(viewer.theme)

    def _dialogs(self) -> Dialogs:
        return Dialogs(
            ask_path=partial(ask_path, self),
            confirm=partial(confirm, self),
            ask_patient=partial(confirm_patient, self),
            ask_signature=self.signing.ask,
            ask_name=partial(ask_name, self),
            ask_response=self.response.ask,
            copy_text=QApplication.clipboard().setText,
            type_reason=self.type_reason,
            show_archive=self.show_archive,
            show_worklist=self.worklist_requested.emit,
            show_keys=lambda: KeysDialog(self).show(),
        )

    def _build(self) -> None:
        acts, run = self.actions_, self.commands.run
        self.study = StudyBlock(self._menu(), acts)
        self.empty = empty_state(
            [self._entry(command) for command in OPENERS if command.name != "compare"]
        )
        self.problem = ProblemBlock(self.session.dismiss)
        self.message = MessageBlock()
        self.assign = AssignmentEditor(acts.assign_sequences)
        self.quality = QualityBlock()
        self.run = RunBlock(partial(run, "analyse"), acts)
        self.read_block = ReadBlock(acts)
        self.candidates = CandidateBlock(acts, run)
        self.considered = ConsideredBlock(acts.go_to_point)
        self.followup = FollowupBlock(acts.go_to_candidate)
        self.attention = AttentionBlock(acts)
        self._site_problem = label("", "warn", wrap=True)
        self.show_site_problem()
        self.footer = Footer(run)
        self._lay_out()
        WheelGuard(self)
        self.set_tab_order()

    def _lay_out(self) -> None:
        """Arrange the blocks in a scrolling column; messages and the notice stay below it."""
        inner = QWidget()
        blocks = (
            self._site_problem,
            self.empty, self.study, self.quality, self.assign, self.run,
            self.read_block, self.candidates, self.considered, self.followup,
            self.attention,
        )  # fmt: skip
        notice = label(RESEARCH_USE_NOTICE, "notice", wrap=True)
        notice.setContentsMargins(12, 0, 12, 6)
        stack(inner, *blocks, None, margins=(12, 10, 12, 10), spacing=10)
        scroll = self._scroll = AnchoredScroll()
        scroll.setWidget(inner)
        scroll.setWidgetResizable(True)
        scroll.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        scroll.setFrameShape(QFrame.Shape.NoFrame)
        scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        stack(self, scroll, self.message, self.problem, self.footer, notice)

    def set_tab_order(self, *views: QWidget) -> None:
        """Set the tab order: views, sequences, *Analyse*, everything else."""
        stops = (*views, *self.study.stops(), *self.run.stops())
        for before, behind in itertools.pairwise(stops):
            QWidget.setTabOrder(before, behind)

    def _menu(self) -> QMenu:
        menu = QMenu(self)
        for command in (*OPENERS, *(BY_NAME[name] for name in _MENU)):
            title, run = self._entry(command)
            slot = partial(when_idle, run)  # once the menu is off the screen
            menu.addAction(title).triggered.connect(lambda _=False, slot=slot: slot())
        recent_studies = recent_menu(
            self, "Recent studies", recent_paths.STUDIES, self.actions_.open
        )
        menu.insertMenu(menu.actions()[2], recent_studies)
        menu.addMenu(other_menu(self, self.actions_))
        menu.addSeparator()
        folders = menu.addAction("Let napari open folders with LesionLens")
        folders.setCheckable(True)
        folders.setToolTip("Napari will no longer ask which reader to use for a folder")
        folders.triggered.connect(use_for_folders)
        menu.aboutToShow.connect(lambda: folders.setChecked(used_for_folders()))
        return menu

    def _entry(self, command: Command) -> tuple[str, Callable[[], object]]:
        return command.title, partial(self.commands.run, command.name)

    # --- shown ----------------------------------------------------------------------------

    def show_model(self, model: ViewModel) -> None:
        """Show a model."""
        self.model, screen = model, model.screen
        opened = model.study is not None
        if model.study is not self._study:
            self._study = model.study
            self.show_site_problem()
            self._scroll.verticalScrollBar().setValue(0)
        self.empty.setVisible(not opened and screen.activity is None)
        self.study.setVisible(opened)
        self.study.show_screen(screen, model.study)
        self.quality.show_screen(screen)
        self.problem.show_problem(screen.problem)
        self._ask(model.query)
        self.run.show_screen(screen)
        self.message.show_screen(screen, self.run)
        self.candidates.show_screen(screen)
        self.considered.show_screen(screen)
        self.followup.show_followup(model.followup)
        self.attention.show_screen(screen, model.map)
        self.footer.show_screen(screen)

    def _screen_now(self) -> Screen:
        """Return the screen; during an unaided read its reasons name that read."""
        screen = self.model.screen
        if not self.actions_.read_controller.closed:
            return screen
        return replace(screen, decision_obstacle=_HIDDEN, not_added=_HIDDEN, not_merged=_HIDDEN)

    def _ask(self, query: Query | None) -> None:
        """Ask for the study, or for the sequences of its series."""
        unknown = None if query is None else query.study
        self.assign.setVisible(unknown is not None)
        self.assign.show_study(unknown)
        self.studies.show_studies(() if query is None else query.studies)

    def show_theme(self, theme: str) -> None:
        """Apply the colours of a napari theme, and its font size."""
        size = float(get_settings().appearance.font_size)
        self.setStyleSheet(style_sheet(theme, size))
        self.candidates.model.show_on(light=is_light(theme))
        self.setMinimumWidth(round(WIDTH * (1 + 0.55 * max(size / PLAIN_PT - 1, 0.0))))

    def show_site_problem(self) -> None:
        """Warn of an unusable policy of the site."""
        show_text(self._site_problem, read_preferences().site_problem)

    def show_archive(self) -> None:
        """Show the archive's dialog; no request is sent yet."""
        if self.archive is None:
            self.archive = PacsDialog(self, self.actions_)
        self.archive.show()
        self.archive.raise_()

    # --- dialogs --------------------------------------------------------------------------

    def type_reason(self) -> None:
        """Put the cursor into the field for the reason, in sight; show why none is accepted."""
        reason = self.candidates.reason
        self.candidates.heading.setChecked(True)
        reason.setFocus(Qt.FocusReason.ShortcutFocusReason)
        once_idle(partial(scroll_into_view, reason), reason).start()
        if reason.refusing:
            self.actions_.review_controller.notify_obstacle()

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:
        """Accept local files and folders."""
        if local_paths(event.mimeData()):
            event.acceptProposedAction()

    def dropEvent(self, event: QDropEvent) -> None:
        """Open dropped paths."""
        paths = local_paths(event.mimeData())
        if paths:
            event.acceptProposedAction()
            self.actions_.open_dropped(paths)
