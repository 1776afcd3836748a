"""A reading that is killed at any moment loses no act and leaves no broken file."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import textwrap
from contextlib import closing
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest
from tests.helpers import stored_drafts
from tests.phantoms.analysis import make_analysis, write_study

from lesionlens.base.labels import ReviewAct
from lesionlens.base.records.analysis import Analysis
from lesionlens.base.records.review import WHOLE_STUDY
from lesionlens.results.review import store
from lesionlens.site.database.records import ReadKey
from lesionlens.site.database.worklist_database import (
    NAME,
    existing_worklist_database,
    open_worklist_database,
)
from lesionlens.testing import Lesion, make_patient

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")

READINGS = textwrap.dedent(
    """
    import os, random, signal, sys, time
    from pathlib import Path
    import numpy as np
    from lesionlens.base.labels import ReviewState
    from lesionlens.base.records.review import Review
    from lesionlens.results.review import drafts, store
    from lesionlens.results.review.log import ReviewLog
    from tests.helpers import stored_drafts
    from tests.phantoms.analysis import make_analysis, write_study
    from lesionlens.testing import Lesion, make_patient
    from lesionlens.site.database.worklist_database import open_worklist_database
    from lesionlens.site.database.records import ReadKey
    from lesionlens.site.worklist.read_session import ReadSession

    def read(place, analysis):
        store.sessions_folder = lambda: place / "reviews"
        said = os.open(place / "said", os.O_WRONLY | os.O_CREAT)
        database = open_worklist_database(place)
        candidate = analysis.findings.candidates[0]
        drawn = np.zeros(analysis.prepared.working.shape, np.uint8)
        mark, number = None, 0
        while True:
            number += 1
            if number % 5 == 1:  # the case before is signed, and takes no more acts
                read_session = ReadSession(database, ReadKey(f"case {number // 5}", "A. Reader"))
                read_session.continue_from("analysis", Review())
                mark = read_session.mark((number, 0, 0), 50)
            elif number % 5 == 2:
                read_session.remove_mark(mark.uid)
            elif number % 5 == 3:
                uid = candidate.tracking_uid
                log = ReviewLog(read_session.review)
                log.decide(uid, ReviewState.ACCEPTED, reader="A. Reader", reason=str(number))
                read_session.store_decisions(log.review, {uid: (number, 0, 0)})
            elif number % 5 == 4:
                drawn[number // 5] = 1
                draft = drafts.OutlineDraft(candidate.tracking_uid, drawn)
                stored_drafts.write(analysis, draft, "A. Reader")
            else:
                read_session.sign(str(number))
            os.write(said, b"%d\\n" % number)

    head = make_patient(5, spacing_mm=6.0, lesions=(Lesion((-28.0, 8.0, 26.0), 15.0),))
    analysis = make_analysis(head, write_study(head, Path(sys.argv[4])))
    draw = random.Random(int(sys.argv[3]))
    for turn in range(int(sys.argv[2])):
        place = Path(sys.argv[1]) / str(turn)
        place.mkdir()
        reader = os.fork()
        if not reader:
            read(place, analysis)
        said, wanted = place / "said", draw.randint(1, 25)
        begun, acts = None, 0
        while acts < wanted:
            time.sleep(0.0005)
            acts = len(said.read_bytes().split()) if said.exists() else 0
            begun = begun or (time.monotonic() if acts else None)
        each = (time.monotonic() - begun) / max(acts - 1, 1)
        time.sleep(draw.uniform(0.0, 2 * each))
        os.kill(reader, signal.SIGKILL)
        os.waitpid(reader, 0)
    """
)
"""A reading goes on until it was told a drawn number of acts, then for up to about two acts more:
the kill falls into one act, or between two."""

READER = "A. Reader"
OF = {1: ReviewAct.PLACE_MARK, 2: ReviewAct.REMOVE_MARK, 3: ReviewAct.DECIDE, 0: ReviewAct.DECIDE}
"""Which act of the database is every first, second, third and fifth; the fourth is a stroke."""


@dataclass(frozen=True)
class Killed:
    """What a killed reading left: acts that were told to be kept, and those that were found."""

    told: int
    found: int


def in_book(place: Path) -> list[ReviewAct]:
    """Read the acts of the database, which must be whole, but for that it was begun."""
    database = open_worklist_database(place)
    acts = []
    for case in count():
        more = database.read(ReadKey(f"case {case}", READER)).acts
        acts += more
        if not more:
            break
    database.close()
    with closing(sqlite3.connect(place / NAME)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    reported = [act for act in acts if act.act is not ReviewAct.BEGIN]
    numbers = [n for n in range(1, 2 * len(reported) + 5) if n % 5 != 4][: len(reported)]
    for number, act in zip(numbers, reported, strict=True):
        assert act.act is OF[number % 5]
        if act.at_mm is not None:
            assert act.at_mm[0] == number
        if act.tracking_uid == WHOLE_STUDY:
            assert act.reason == str(number)
    return [act.act for act in reported]


def left_by(place: Path, analysis: Analysis) -> Killed:
    """Look at everything that a killed reading left; nothing that was told may be missing."""
    told = len((place / "said").read_text().split())
    acts = len(in_book(place))
    with existing_worklist_database(place) as database:
        logs = database.reviews("analysis")
    reasons = [event.reason for (review,) in logs.values() for event in review.events]
    assert sorted(map(int, reasons)) == [3 + 5 * n for n in range(len(reasons))]
    draft = stored_drafts.read(analysis, READER)
    strokes = 0 if draft is None else int(draft.drawn.any(axis=(1, 2)).sum())
    wanted = [sum(n % 5 == k for n in range(1, told + 1)) for k in (3, 4)]
    later = [sum(n % 5 == k for n in range(1, told + 2)) for k in (3, 4)]
    assert told - wanted[1] <= acts <= told + 1 - wanted[1]
    assert wanted[0] <= len(reasons) <= later[0]
    assert wanted[1] <= strokes <= later[1]
    return Killed(told, acts + strokes)


def killed_at_random(
    folder: Path, times: int, seed: int, monkeypatch: pytest.MonkeyPatch
) -> list[Killed]:
    """Kill a reading again and again, and look at what each left."""
    subprocess.run(
        [sys.executable, "-c", READINGS, str(folder), str(times), str(seed), str(folder / "head")],
        check=True,
    )
    head = make_patient(5, spacing_mm=6.0, lesions=(Lesion((-28.0, 8.0, 26.0), 15.0),))
    analysis = make_analysis(head, write_study(head, folder / "head"))
    found = []
    for turn in range(times):
        place = folder / str(turn)
        monkeypatch.setattr(store, "sessions_folder", lambda place=place: place / "reviews")
        found.append(left_by(place, analysis))
    return found


def test_no_act_is_lost_and_no_file_broken_when_a_reading_is_killed(tmp_path, monkeypatch):
    found = killed_at_random(tmp_path, 5, 1, monkeypatch)
    assert min(one.told for one in found) >= 1


@pytest.mark.slow
def test_no_act_is_lost_at_a_hundred_random_points(tmp_path, monkeypatch, record_property):
    found = killed_at_random(tmp_path, 110, 2, monkeypatch)
    assert sum(one.told >= 1 for one in found) >= 100
    acts = sum(one.told for one in found)
    record_property("acts told", acts)
    record_property("kept though not told yet", sum(one.found > one.told for one in found))
    assert acts >= 1000
