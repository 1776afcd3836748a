"""Read results and reviews for monitoring, without patient names.

Images are opened only if their folder is named, for contrast, noise and voxel size.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from lesionlens.analysis.evaluation.cases import by_case
from lesionlens.base.arguments import check_folder
from lesionlens.base.errors import LesionLensError, ReadError, UnusableInputError, os_reason
from lesionlens.base.files import reachable
from lesionlens.base.files.bounded_read import read_json
from lesionlens.base.files.journal import PREFIX, recover
from lesionlens.base.files.manifest import rows_in
from lesionlens.base.labels import ReviewAct, ReviewState, Source
from lesionlens.base.provenance import sha256_of
from lesionlens.base.records.parts import ORIGINAL, AlteredResultError
from lesionlens.base.records.prediction import MASK
from lesionlens.base.records.study import StepName
from lesionlens.base.run_context import SILENT, RunContext
from lesionlens.base.text import abbreviated_list
from lesionlens.imaging.reading.image_features import image_features
from lesionlens.results.review.saved_parts import check_owner, inputs_sha256
from lesionlens.site.cohort.studies import study_paths_by_name
from lesionlens.site.monitoring.records import MonitoredCandidate, MonitoredStudy, PromptEffort

_TEST_RESULTS = {
    "acceptance.json": ("results", "the results of an acceptance test"),
    "begun.json": ("held_out", "the results by which `learn` compares weights"),
}
"""Marker file of an output folder: its sub-folder of results that must not be monitored, and what
these are."""


def gather(folder: Path) -> tuple[list[MonitoredStudy], list[str]]:
    """Read every result below a folder, except in hidden folders, which a killed run may leave.

    Results of a test are skipped with a notice, unless the folder of the test is named itself.
    Copies of one analysis, such as each reader's or those that `export` writes, are counted as one
    study with the decisions of all copies.

    Returns
    -------
    list of MonitoredStudy
        Studies by day.
    list of str
        Notices about folders that could not be read or whose files do not belong together, opened
        segmentations, and copies.

    Raises
    ------
    UnusableInputError
        There is no such folder, or no result in it.
    """
    check_folder(folder, "a folder of results, as `lesionlens batch` writes it")
    analyses: dict[tuple[str, ...], list[_SavedFiles]] = {}
    notices, n_copies = [], 0

    def note_skipped(error: OSError) -> None:
        notices.append(f"{Path(error.filename).name} was skipped: {error.strerror}")

    for path, folders, files in _walk(folder, note_skipped):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        if Path(path) != folder:
            notices += _remove_test_results(Path(path).name, folders, files)
        links = (name for name in folders if Path(path, name).is_symlink())
        notices += [f"{name} was skipped: a link to another folder" for name in links]
        if "findings.json" not in files or "run.json" not in files:
            continue
        try:
            saved = _SavedFiles.read(Path(path))
            same_analysis = analyses.setdefault(saved.key, [])
            _study([saved])  # raises if it is damaged
        except ReadError as error:
            notices.append(f"{Path(path).name} was skipped: {error.found}")
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            notices.append(f"{Path(path).name} was skipped: {type(error).__name__}: {error}")
        else:
            n_copies += bool(same_analysis)
            same_analysis.append(saved)
    studies = [_study(same_analysis) for same_analysis in analyses.values() if same_analysis]
    if not studies:
        reasons = f" that can be counted: {abbreviated_list(notices, 3, '; ')}" if notices else ""
        raise UnusableInputError(
            found=f"no result in {folder.name!r}{reasons}",
            expected="folders written by `lesionlens analyze` or `batch`",
            next_step="Name the folder that contains them",
        )
    if n_copies:
        notices.append(
            f"Copies of other results were found: {n_copies}; each study is counted once"
        )
    return sorted(studies, key=lambda study: (study.day, study.name)), notices


def _walk(
    folder: Path, onerror: Callable[[OSError], None]
) -> Iterator[tuple[str, list[str], list[str]]]:
    """Walk as `os.walk` does, completing or reverting interrupted replacements of results."""
    for path, folders, files in os.walk(folder, onerror=onerror):
        is_interrupted = any(name.startswith(PREFIX) for name in folders)
        if is_interrupted:
            recover(Path(path))
        yield path, folders, [p.name for p in Path(path).iterdir()] if is_interrupted else files


def _remove_test_results(name: str, folders: list[str], files: Sequence[str]) -> list[str]:
    """Remove a test's results from the folders to be read; return notices about them."""
    notices = []
    for marker, (results_folder, kind) in _TEST_RESULTS.items():
        if marker in files and results_folder in folders:
            folders.remove(results_folder)
            notices.append(f"{name}/{results_folder} was skipped: {kind}")
    return notices


def add_image_features(
    studies: Sequence[MonitoredStudy], folder: Path, *, context: RunContext = SILENT
) -> tuple[list[MonitoredStudy], list[str]]:
    """Add image features of the studies that `batch` was given, by the names of their results.

    Returns
    -------
    list of MonitoredStudy
        All studies; without image features where images cannot be opened.
    list of str
        Notices about missing images, and images that could not be opened.

    Raises
    ------
    UnusableInputError
        The folder does not exist, or no study in it has the name of a result.
    """
    stage = "looking at images"
    paths_by_name = by_case(study_paths_by_name(folder), [study.name for study in studies])
    with_features, notices, n_missing = [], [], 0
    for number, study in enumerate(studies):
        context.check(stage)
        context.progress(stage, number / len(studies))
        path = paths_by_name.get(study.name)
        if path is None or not reachable.exists(path):
            n_missing += 1
            with_features.append(study)
            continue
        try:
            with_features.append(replace(study, images=image_features(path)))
        except (LesionLensError, OSError) as error:
            reason = error.found if isinstance(error, LesionLensError) else os_reason(error)
            with_features.append(study)
            notices.append(f"The images of {study.name} were skipped: {reason}")
    if n_missing == len(studies):
        raise UnusableInputError(
            found=f"no study in {folder.name!r} that has the name of a result",
            expected="the folder of studies that `lesionlens batch` analysed",
            next_step="Name that folder, or omit --studies",
        )
    if n_missing:
        notices.append(f"Images of {n_missing} of {len(studies)} studies are missing")
    return with_features, notices


@dataclass(frozen=True, slots=True)
class _SavedFiles:
    """The files of one result folder."""

    path: Path
    findings: Mapping[str, Any]
    """The network's findings, before readers edited or merged outlines."""
    run: Mapping[str, Any]
    events: Sequence[Mapping[str, Any]]

    @classmethod
    def read(cls, path: Path) -> _SavedFiles:
        review = read_json(path / "review.json") if (path / "review.json").is_file() else {}
        findings, run = read_json(path / "findings.json"), read_json(path / "run.json")
        _check_digests(path, run)
        _check_network(findings, run)
        original_path = path / ORIGINAL / "findings.json"
        original = read_json(original_path) if original_path.is_file() else findings
        _check_review((*findings["candidates"], *original["candidates"]), run, review)
        return cls(path, original, run, review.get("events", []))

    @property
    def key(self) -> tuple[str, ...]:
        """Key that is equal in copies of one analysis: its start, and the digests of its inputs."""
        files = sorted(str(row["sha256"]) for row in self.run.get("inputs", ()))
        return (str(self.run["started"]), *(files or [str(self.path)]))


def _check_digests(path: Path, run: Mapping[str, Any]) -> None:
    """Refuse findings that were altered after the run; earlier releases listed no digests."""
    if run.get("files") is None:
        return
    listed = rows_in(run)
    for name in ("findings.json", f"{ORIGINAL}/findings.json"):
        if (path / name).is_file() and listed.get(name) != sha256_of(path / name):
            raise AlteredResultError((name,), "a file that was changed since")


def _check_network(findings: Mapping[str, Any], run: Mapping[str, Any]) -> None:
    """Refuse a segmentation that was opened for review: no network flagged its regions."""
    sources = {row.get("source") for row in findings["candidates"]}
    if run["engine"] == MASK or Source.SEGMENTATION.value in sources:
        raise ReadError(
            found="a segmentation that was opened for review, no result of a network",
            expected="a result of `lesionlens analyze` or `batch`",
            next_step="Move it out of the folder",
        )


def _check_review(
    rows: Sequence[Mapping[str, Any]], run: Mapping[str, Any], review: Mapping[str, Any]
) -> None:
    """Refuse a review of another study; fields that earlier releases did not write are optional."""
    if not review:
        return
    files = [(str(row["file"]), str(row["sha256"])) for row in run.get("inputs", ())]
    events = review.get("events", [])
    known_uids = {
        row["tracking_uid"] for row in (*rows, *(event for event in events if event.get("added")))
    }
    reviewed_uids = {row["tracking_uid"] for row in (*events, *review.get("candidates", ()))}
    check_owner(
        (review.get("study_uid"), review.get("inputs_sha256")),
        (run.get("study_uid"), inputs_sha256(files)),
        reviewed_uids,
        known_uids,
    )


def _study(copies: Sequence[_SavedFiles]) -> MonitoredStudy:
    """Return one analysis with the decisions in all copies of it."""
    findings, run, name = copies[0].findings, copies[0].run, copies[0].path.name
    rows, events = _merge_copies(copies)
    acts, added = _acts(events)
    verdicts = {uid: candidate_acts.verdicts for uid, candidate_acts in acts.items()}
    efforts = {uid: candidate_acts.prompt_efforts for uid, candidate_acts in acts.items()}
    network_rows = [
        row
        for row in rows
        if row.get("source", "network") == "network" and row["score"] is not None
    ]
    flagged = [_candidate(row, verdicts, efforts) for row in network_rows]
    network_uids = {candidate.tracking_uid for candidate in flagged}
    added_by_readers = [
        MonitoredCandidate(
            uid,
            0.0,
            None,
            None,
            verdicts[uid],
            added_by=reader,
            prompt_efforts=efforts.get(uid, {}),
        )
        for uid, reader in sorted(added.items())
        if uid not in network_uids
        and any(state.confirmed for state in verdicts[uid].values())  # else it was removed later
    ]
    steps = run.get("preparation", [])
    registered = [
        figure
        for step in steps
        if step["step"] == StepName.REGISTER and (figure := step.get("figure")) is not None
    ]
    brain = next((step.get("figure") for step in steps if step["step"] == StepName.BRAIN), None)
    return MonitoredStudy(
        name=name,
        day=datetime.fromisoformat(run["started"]).date(),
        engine=" ".join(
            (run["engine"], run["engine_version"], (run["weights_sha256"] or "")[:12])
        ).rstrip(),
        candidates=(*flagged, *added_by_readers),
        failed_checks=tuple(check["check"] for check in findings["quality"] if not check["passed"]),
        brain_ml=brain,
        registration=min(registered, default=None),
        started=str(run["started"]),
    )


def _merge_copies(
    copies: Sequence[_SavedFiles],
) -> tuple[list[Mapping[str, Any]], list[Mapping[str, Any]]]:
    """Return each candidate once, and all decisions on them by time.

    Decisions of one copy stay in their order, even if the clock was set back between them. A copy
    that was compared with a prior has other tracking UIDs, but the same numbers.
    """
    rows: dict[Any, Mapping[str, Any]] = {}
    events: list[Mapping[str, Any]] = []
    times: list[str] = []
    for saved in copies:
        first_uids, time = {}, ""
        for row in saved.findings["candidates"]:
            uid = row["tracking_uid"]
            key = row.get("id", uid) if row.get("source", "network") == "network" else uid
            first_row = rows.setdefault(key, row)
            first_uids[uid] = first_row["tracking_uid"]
            if _has_verdict(row) and not _has_verdict(first_row):
                rows[key] = {**first_row, "review": row["review"]}
        for event in saved.events:
            uid = event["tracking_uid"]
            renamed = {**event, "tracking_uid": first_uids.get(uid, uid)}
            time = max(time, str(event.get("time", "")))
            if renamed not in events:  # a copy continues the review of another
                events.append(renamed)
                times.append(time)
    order = sorted(range(len(events)), key=times.__getitem__)
    return [*rows.values()], [events[index] for index in order]


def _has_verdict(row: Mapping[str, Any]) -> bool:
    return ReviewState((row.get("review") or {}).get("state", "unreviewed")).decided


def _candidate(
    row: Mapping[str, Any],
    verdicts: Mapping[str, Mapping[str, ReviewState]],
    efforts: Mapping[str, Mapping[str, PromptEffort]],
) -> MonitoredCandidate:
    states = dict(verdicts.get(row["tracking_uid"], {}))
    review = row.get("review") or {}
    if not states and _has_verdict(row):
        states = {review.get("reader") or "": ReviewState(review["state"])}
    return MonitoredCandidate(
        tracking_uid=row["tracking_uid"],
        score=float(row["score"]),
        volume_ml=row["volume_ml"].get("wt"),
        uncertainty=row.get("uncertainty"),
        verdicts=states,
        prompt_efforts=efforts.get(row["tracking_uid"], {}),
        is_other_finding=bool(row.get("apart")),
    )


def _acts(
    events: Sequence[Mapping[str, Any]],
) -> tuple[dict[str, _CandidateActs], dict[str, str]]:
    """Return the acts on each candidate, and the reader who added each one.

    A part that was split off a candidate does not count as added. Undoing an act or placing only
    diameters is no decision: the preceding act remains valid, whoever made it.
    """
    acts: dict[str, _CandidateActs] = {}
    added: dict[str, str] = {}
    for event in events:
        uid = event["tracking_uid"]
        acts.setdefault(uid, _CandidateActs()).add(event)
        if event.get("added") and not event.get("with_previous"):
            added.setdefault(uid, event.get("reader") or "")
    return acts, added


_DECISION_KEYS = ("state", "reason", "outline")
_NO_DECISION: Mapping[str, Any] = {"state": ReviewState.UNREVIEWED}


class _CandidateActs:
    """The valid acts on one candidate, in the order of the merged copies."""

    def __init__(self) -> None:
        self._valid: list[tuple[Mapping[str, Any], bool]] = []
        self._undone: list[tuple[Mapping[str, Any], bool]] = []
        self._readers: dict[str, None] = {}

    def add(self, event: Mapping[str, Any]) -> None:
        """Add an act, or undo the one whose preceding decision an undo event restores."""
        act = ReviewAct(event.get("act", ReviewAct.DECIDE))
        if act is ReviewAct.UNDO and self._valid:
            self._undone.append(self._valid.pop(self._undone_index(event)))
        elif act is ReviewAct.REDO and self._undone:
            self._valid.append(self._undone.pop())
        else:
            previous = self._preceding(len(self._valid))
            has_new_diameters = previous.get("diameters") != event.get("diameters")
            only_measures = has_new_diameters and _is_same_decision(previous, event)
            self._valid.append((event, only_measures))
            self._undone.clear()
            if not only_measures:
                self._readers.setdefault(event.get("reader") or "")

    def _preceding(self, index: int) -> Mapping[str, Any]:
        return self._valid[index - 1][0] if index else _NO_DECISION

    def _undone_index(self, event: Mapping[str, Any]) -> int:
        """Return the index of the act that an undo event undoes.

        It is the last one whose preceding decision equals the restored one; else the last act.
        """
        indices = range(len(self._valid))
        matching = [index for index in indices if _is_same_decision(self._preceding(index), event)]
        return matching[-1] if matching else indices[-1]

    @property
    def verdicts(self) -> dict[str, ReviewState]:
        """Each reader's last decision; unreviewed if it was undone."""
        last_states = {
            event.get("reader") or "": ReviewState(event["state"])
            for event, only_measures in self._valid
            if not only_measures
        }
        return {reader: last_states.get(reader, ReviewState.UNREVIEWED) for reader in self._readers}

    @property
    def prompt_efforts(self) -> dict[str, PromptEffort]:
        """Sum of each reader's prompts for outlines that were not undone; one redone counts once.

        A second edit of the outline adds to the first.
        """
        efforts: dict[str, PromptEffort] = {}
        for event, _ in self._valid:
            if event.get("prompts") and event.get("act", ReviewAct.DECIDE) == ReviewAct.DECIDE:
                reader, rounds = event.get("reader") or "", event["prompts"]
                previous = efforts.get(reader, PromptEffort(0, 0.0))
                seconds = previous.seconds + float(rounds[-1]["seconds"])
                efforts[reader] = PromptEffort(previous.prompts + len(rounds), seconds)
        return efforts


def _is_same_decision(first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
    """Return whether two acts result in the same decision."""
    return all(first.get(key) == second.get(key) for key in _DECISION_KEYS)
