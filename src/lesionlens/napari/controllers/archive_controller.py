"""Acts of the archive's dialog: search, retrieve and open, send a result, make a worklist.

No request is sent before the user asks for one. Jobs run in a thread; an incomplete study is
deleted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from qtpy.QtCore import QObject

from lesionlens.base.errors import CancelledError, LesionLensError, PatientConflictError
from lesionlens.base.run_context import RunContext
from lesionlens.base.text import counted
from lesionlens.napari.controllers.dialogs import AskPatient
from lesionlens.napari.model.studies import archive
from lesionlens.napari.qt.jobs import Jobs, problem_of
from lesionlens.site.pacs import credentials
from lesionlens.site.pacs.connect import connect
from lesionlens.site.pacs.server import Server

_SENDING = "Sending"
_CONFIRM_PATIENT = "Nothing is retrieved or sent until you confirm that it is one patient."


class ArchiveController:
    """Runs the acts of one dialog.

    Parameters
    ----------
    open_study : callable
        Opens a folder in the window; returns False if the window reports why it cannot now.
    ask_patient : callable
        Asks whether contradicting files are of one patient, and calls back if confirmed.
    """

    def __init__(
        self, open_study: Callable[[Path], bool], ask_patient: AskPatient, parent: QObject
    ) -> None:
        self.session = archive.ArchiveSession()
        self.jobs = Jobs(self.session, parent)
        self._open_study, self._ask_patient = open_study, ask_patient
        self._is_close_noticed = False
        """Whether closing the window was refused because of what is being sent."""

    def accept(self, server: Server, password: str) -> bool:
        """Check and remember a server, its password in the keyring; report if that fails."""
        if self.jobs.running or not server.address:
            return False
        try:
            server.check()
            if password:
                credentials.keep(server.address, server.user, password)
        except LesionLensError as error:
            self.session.failed(problem_of(error))
            return False
        archive.keep_server(server)
        return True

    def search(self, server: Server, fields: Mapping[str, str]) -> None:
        """Query the archive for the studies that match a form."""
        try:
            query = archive.query_of(fields)
        except LesionLensError as error:
            self.session.failed(problem_of(error))
            return
        self.session.found(())
        self.jobs.start(
            "Searching",
            lambda context: connect(server).find(query, context=context),
            self.session.found,
        )

    def retrieve(self, server: Server) -> None:
        """Retrieve the selected study and open it."""
        study = self.session.chosen
        if study is not None:
            target = archive.free_folder(self.session.state.folder, study)

            def task(context: RunContext, *, same_patient: bool) -> Path:
                peer = connect(server)
                peer.get(
                    study.study_uid,
                    target,
                    listed=study.patient,
                    same_patient=same_patient,
                    context=context,
                )
                return target

            self._run("Retrieving", task, self._opened)

    def send(self, server: Server, result: Path) -> None:
        """Send the DICOM objects of a result."""

        def task(context: RunContext, *, same_patient: bool) -> str:
            from lesionlens.site.pacs.send_result import (
                SendOptions,
                send_result,
            )

            peer = connect(server)
            options = SendOptions(same_patient=same_patient)
            report, notices = send_result(
                peer, result, server.address, options=options, context=context
            )
            report.check()
            n_present, objects = report.n_present, counted(len(report.stored), "object")
            before = f", {n_present} of them already there" if n_present else ""
            summary = f"{objects} stored in {server.address}{before}."
            return "\n".join((summary, *notices))

        self._is_close_noticed = False
        self._run(_SENDING, task, str)

    @property
    def sending(self) -> bool:
        """Whether a result is being sent, and nobody has stopped that."""
        activity = self.session.state.activity
        return activity is not None and activity.name == _SENDING and not activity.stopping

    def may_close(self) -> bool:
        """Whether the window may close, which stops what is being sent; else refuse once."""
        refused = self.sending and not self._is_close_noticed
        self._is_close_noticed |= refused
        return not refused

    def _opened(self, folder: Path) -> str:
        if self._open_study(folder):
            return f"Retrieved completely into {folder}. It opens in the window."
        return f"Retrieved completely into {folder}. It is not opened: the window states why."

    def _run(
        self,
        name: str,
        task: Callable[..., Any],
        on_result: Callable[[Any], str],
        *,
        same_patient: bool = False,
    ) -> None:
        """Run a task in a thread; on contradicting patient data, again if a person confirms.

        `task(context, same_patient=…)` takes whether a person confirmed that contradicting data
        are of one patient.
        """

        def on_error(error: BaseException) -> None:
            if isinstance(error, PatientConflictError):
                self.session.ended(_CONFIRM_PATIENT)
                self._ask_patient(
                    error, lambda: self._run(name, task, on_result, same_patient=True)
                )
            elif not isinstance(error, CancelledError):
                self.session.failed(problem_of(error))

        self.jobs.start(name, partial(task, same_patient=same_patient), on_result, on_error)
