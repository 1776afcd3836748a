"""Read results and reviews for monitoring, without patient names.

Images are opened only if their folder is named, for contrast, noise and voxel size.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from lesionlens.base.errors import LesionLensError, ReadError, UnusableInputError
from lesionlens.base.files.bounded_read import read_json
from lesionlens.base.files.manifest import rows_in
from lesionlens.base.labels import ReviewAct, ReviewState
from lesionlens.base.provenance import sha256_of
from lesionlens.base.records.parts import ORIGINAL, AlteredResultError
from lesionlens.base.records.study import StepName
from lesionlens.base.run_context import SILENT, RunContext
from lesionlens.imaging.reading.image_features import image_features
from lesionlens.results.review.saved_parts import check_owner, inputs_sha256
from lesionlens.site.cohort.studies import places_of
from lesionlens.site.monitoring.records import (
    SEEN_TRUE,
    VERDICTS,
    MonitoredCandidate,
    MonitoredStudy,
    PromptEffort,
)

_TESTED = {
    "acceptance.json": ("results", "the results of an acceptance test"),
    "begun.json": ("judged", "the results by which `learn` compares weights"),
}
"""File that marks an output folder, to its folder of results that are not of a model in use."""


def gather(folder: Path) -> tuple[list[MonitoredStudy], list[str]]:
    """Read every result below a folder; what a killed run left in hidden folders is none.

    Results of a test are skipped with a notice, unless the folder of the test is named itself.
    Copies of one analysis, as readers have or `export` writes, are one study with the decisions of
    all of them.

    Returns
    -------
    list of MonitoredStudy
        Studies by day.
    list of str
        Notices about folders that could not be read or whose files do not belong together, and
        copies.

    Raises
    ------
    UnusableInputError
        There is no result.
    """
    analyses: dict[tuple[str, ...], list[_SavedFiles]] = {}
    notices, copies = [], 0

    def skipped(error: OSError) -> None:
        notices.append(f"{Path(error.filename).name} was skipped: {error.strerror}")

    for place, folders, files in os.walk(folder, onerror=skipped):
        folders[:] = sorted(one for one in folders if not one.startswith("."))
        if Path(place) != folder:
            notices += _without_tests(Path(place).name, folders, files)
        links = (one for one in folders if Path(place, one).is_symlink())
        notices += [f"{one} was skipped: a link to another folder" for one in links]
        if "findings.json" not in files or "run.json" not in files:
            continue
        try:
            read = _SavedFiles.read(Path(place))
            of_one = analyses.setdefault(read.key, [])
            _study([read])  # raises if it is damaged
        except ReadError as error:
            notices.append(f"{Path(place).name} was skipped: {error.found}")
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            notices.append(f"{Path(place).name} was skipped: {type(error).__name__}: {error}")
        else:
            copies += bool(of_one)
            of_one.append(read)
    found = [_study(of_one) for of_one in analyses.values() if of_one]
    if not found:
        raise UnusableInputError(
            found=f"no result in {folder.name!r}",
            expected="folders written by `lesionlens analyze` or `batch`",
            next_step="Name the folder that contains them",
        )
    if copies:
        notices.append(f"{copies} copies of other results here: each study is counted once")
    return sorted(found, key=lambda one: (one.day, one.name)), notices


def _without_tests(name: str, folders: list[str], files: Sequence[str]) -> list[str]:
    """Remove the results of a test from the folders to be read, and say so."""
    notices = []
    for mark, (tested, what) in _TESTED.items():
        if mark in files and tested in folders:
            folders.remove(tested)
            notices.append(f"{name}/{tested} was skipped: {what}")
    return notices


def with_images(
    studies: Sequence[MonitoredStudy],
    folder: Path,
    *,
    context: RunContext = SILENT,
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
    stage, places = "looking at images", places_of(folder)
    found, notices, missing = [], [], 0
    for number, study in enumerate(studies):
        context.check(stage)
        context.progress(stage, number / len(studies))
        place = places.get(study.name)
        if place is None or not place.exists():
            missing += 1
            found.append(study)
            continue
        try:
            found.append(replace(study, images=image_features(place)))
        except LesionLensError as error:
            found.append(study)
            notices.append(f"The images of {study.name} were skipped: {error.found}")
    if missing == len(studies):
        raise UnusableInputError(
            found=f"no study in {folder.name!r} that has the name of a result",
            expected="the folder of studies that `lesionlens batch` analysed",
            next_step="Name that folder, or omit --studies",
        )
    if missing:
        notices.append(f"Images of {missing} of {len(studies)} studies are missing")
    return found, notices


@dataclass(frozen=True, slots=True)
class _SavedFiles:
    """The files of one result folder."""

    place: Path
    findings: Mapping[str, Any]
    """What the network found, before readers edited or merged outlines."""
    run: Mapping[str, Any]
    events: Sequence[Mapping[str, Any]]

    @classmethod
    def read(cls, path: Path) -> _SavedFiles:
        review = read_json(path / "review.json") if (path / "review.json").is_file() else {}
        findings, run = read_json(path / "findings.json"), read_json(path / "run.json")
        _check_digests(path, run)
        own = path / ORIGINAL / "findings.json"
        made = read_json(own) if own.is_file() else findings
        _check_review((*findings["candidates"], *made["candidates"]), run, review)
        return cls(path, made, run, review.get("events", []))

    @property
    def key(self) -> tuple[str, ...]:
        """What copies of one analysis share: when it was made, and of which files."""
        files = sorted(str(row["sha256"]) for row in self.run.get("inputs", ()))
        return (str(self.run["started"]), *(files or [str(self.place)]))


def _check_digests(path: Path, run: Mapping[str, Any]) -> None:
    """Refuse findings that were changed since; earlier releases listed no digests."""
    if run.get("files") is None:
        return
    listed = rows_in(run)
    for name in ("findings.json", f"{ORIGINAL}/findings.json"):
        if (path / name).is_file() and listed.get(name) != sha256_of(path / name):
            raise AlteredResultError((name,), "a file that was changed since")


def _check_review(
    rows: Sequence[Mapping[str, Any]], run: Mapping[str, Any], review: Mapping[str, Any]
) -> None:
    """Refuse a review of another study; a field that an earlier release did not write may lack."""
    if not review:
        return
    files = [(str(row["file"]), str(row["sha256"])) for row in run.get("inputs", ())]
    events = review.get("events", [])
    known = {row["tracking_uid"] for row in (*rows, *(e for e in events if e.get("added")))}
    named = {row["tracking_uid"] for row in (*events, *review.get("candidates", ()))}
    check_owner(
        (review.get("study_uid"), review.get("inputs_sha256")),
        (run.get("study_uid"), inputs_sha256(files)),
        named,
        known,
    )


def _study(copies: Sequence[_SavedFiles]) -> MonitoredStudy:
    """Return one analysis with the decisions in all copies of it."""
    findings, run, name = copies[0].findings, copies[0].run, copies[0].place.name
    rows, events = _merged(copies)
    verdicts, added = _verdicts(events)
    efforts = _efforts(events)
    ours = [r for r in rows if r.get("source", "network") == "network" and r["score"] is not None]
    flagged = [_candidate(one, verdicts, efforts) for one in ours]
    known = {one.tracking_uid for one in flagged}
    brought = [
        MonitoredCandidate(
            uid, 0.0, None, None, verdicts[uid], added_by=reader, pointed=efforts.get(uid, {})
        )
        for uid, reader in sorted(added.items())
        if uid not in known
        and SEEN_TRUE & set(verdicts[uid].values())  # otherwise it was removed later
    ]
    steps = run.get("preparation", [])
    registered = [s["figure"] for s in steps if s["step"] == StepName.REGISTER and s.get("figure")]
    brain = next((s.get("figure") for s in steps if s["step"] == StepName.BRAIN), None)
    return MonitoredStudy(
        name=name,
        day=datetime.fromisoformat(run["started"]).date(),
        engine=" ".join(
            (run["engine"], run["engine_version"], (run["weights_sha256"] or "")[:12])
        ).rstrip(),
        candidates=(*flagged, *brought),
        failed_checks=tuple(q["check"] for q in findings["quality"] if not q["passed"]),
        brain_ml=brain,
        registration=min(registered, default=None),
        seconds=float(run["seconds"]),
        started=str(run["started"]),
    )


def _merged(
    copies: Sequence[_SavedFiles],
) -> tuple[list[Mapping[str, Any]], list[Mapping[str, Any]]]:
    """Return each candidate once, and all decisions on them by time.

    Decisions of one copy stay in their order, also where the clock was set back between them. A
    copy that was compared with a prior has other tracking UIDs, and the same numbers.
    """
    rows: dict[Any, Mapping[str, Any]] = {}
    events: list[Mapping[str, Any]] = []
    times: list[str] = []
    for one in copies:
        names, time = {}, ""
        for row in one.findings["candidates"]:
            uid = row["tracking_uid"]
            key = row.get("id", uid) if row.get("source", "network") == "network" else uid
            known = rows.setdefault(key, row)
            names[uid] = known["tracking_uid"]
            if _decided(row) and not _decided(known):
                rows[key] = {**known, "review": row["review"]}
        for event in one.events:
            uid = event["tracking_uid"]
            named = {**event, "tracking_uid": names.get(uid, uid)}
            time = max(time, str(event.get("time", "")))
            if named not in events:  # a copy continues the review of another
                events.append(named)
                times.append(time)
    order = sorted(range(len(events)), key=times.__getitem__)
    return [*rows.values()], [events[n] for n in order]


def _decided(row: Mapping[str, Any]) -> bool:
    return ReviewState((row.get("review") or {}).get("state", "unreviewed")) in VERDICTS


def _candidate(
    row: Mapping[str, Any],
    verdicts: Mapping[str, Mapping[str, ReviewState]],
    efforts: Mapping[str, Mapping[str, PromptEffort]],
) -> MonitoredCandidate:
    states = dict(verdicts.get(row["tracking_uid"], {}))
    own = row.get("review") or {}
    if not states and _decided(row):
        states = {own.get("reader") or "": ReviewState(own["state"])}
    return MonitoredCandidate(
        tracking_uid=row["tracking_uid"],
        score=float(row["score"]),
        volume_ml=row["volume_ml"].get("wt"),
        uncertainty=row.get("uncertainty"),
        verdicts=states,
        pointed=efforts.get(row["tracking_uid"], {}),
        apart=bool(row.get("apart")),
    )


def _verdicts(
    events: Sequence[Mapping[str, Any]],
) -> tuple[dict[str, dict[str, ReviewState]], dict[str, str]]:
    """Return each reader's last decision on each candidate, and who added which candidates.

    What was split from a candidate was not added. Who undid an act, or placed diameters alone, made
    no decision by that: the act before stands, of whoever made it.
    """
    acts: dict[str, _Acts] = {}
    added: dict[str, str] = {}
    for event in events:
        uid = event["tracking_uid"]
        acts.setdefault(uid, _Acts()).take(event)
        if event.get("added") and not event.get("with_previous"):
            added.setdefault(uid, event.get("reader") or "")
    return {uid: one.verdicts for uid, one in acts.items()}, added


_KEPT = ("state", "reason", "outline")
_NONE: Mapping[str, Any] = {"state": ReviewState.UNREVIEWED}


class _Acts:
    """The valid acts on one candidate, in the order of the merged copies."""

    def __init__(self) -> None:
        self._done: list[tuple[Mapping[str, Any], bool]] = []
        self._undone: list[tuple[Mapping[str, Any], bool]] = []
        self._readers: dict[str, None] = {}

    def take(self, event: Mapping[str, Any]) -> None:
        """Add an act, or take back the one that an undo names by what stood before it."""
        act = ReviewAct(event.get("act", ReviewAct.MARK))
        if act is ReviewAct.UNDO and self._done:
            self._undone.append(self._done.pop(self._taken_back(event)))
        elif act is ReviewAct.REDO and self._undone:
            self._done.append(self._undone.pop())
        else:
            before = self._before(len(self._done))
            measures = before.get("diameters") != event.get("diameters")
            only_measures = measures and _is_same(before, event)
            self._done.append((event, only_measures))
            self._undone.clear()
            if not only_measures:
                self._readers.setdefault(event.get("reader") or "")

    def _before(self, number: int) -> Mapping[str, Any]:
        return self._done[number - 1][0] if number else _NONE

    def _taken_back(self, undo: Mapping[str, Any]) -> int:
        """Return the last act before which stood what an undo restored; else the last one."""
        numbers = range(len(self._done))
        fits = [n for n in numbers if _is_same(self._before(n), undo)]
        return fits[-1] if fits else numbers[-1]

    @property
    def verdicts(self) -> dict[str, ReviewState]:
        """Each reader's last decision; unreviewed if it was undone."""
        decided = {
            event.get("reader") or "": ReviewState(event["state"])
            for event, only_measures in self._done
            if not only_measures
        }
        return {one: decided.get(one, ReviewState.UNREVIEWED) for one in self._readers}


def _is_same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Return whether two acts leave the same decision."""
    return all(one.get(key) == other.get(key) for key in _KEPT)


def _efforts(events: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, PromptEffort]]:
    """Sum each reader's prompts for each candidate; a repeated outline counts again."""
    found: dict[str, dict[str, PromptEffort]] = {}
    for event in events:
        if event.get("prompts") and event.get("act", ReviewAct.MARK) == ReviewAct.MARK:
            mine = found.setdefault(event["tracking_uid"], {})
            reader, rounds = event.get("reader") or "", event["prompts"]
            before = mine.get(reader, PromptEffort(0, 0.0))
            seconds = before.seconds + float(rounds[-1]["seconds"])
            mine[reader] = PromptEffort(before.prompts + len(rounds), seconds)
    return found
