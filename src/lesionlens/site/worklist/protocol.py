"""Protocol of a reader study: readers, order of cases, arms.

Every reader reads every case once in every arm, in different sessions, with every arm equally often
in each session (fully crossed and counterbalanced; see Obuchowski, Radiology 2003;229:3-8). The
protocol sets the time between sessions. The order of cases of each reader and session is derived
from the seed by SHA-256: it is the same on any machine and in any release.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated

from pydantic import ConfigDict, Field, TypeAdapter
from pydantic.dataclasses import dataclass as checked

from lesionlens.base.errors import ReadError
from lesionlens.base.files import read_toml
from lesionlens.base.model import first_problem
from lesionlens.site.database.records import Arm, Read, ReadKey

FILE = "protocol.toml"


@checked(frozen=True, config=ConfigDict(extra="forbid"))
class ReadingProtocol:
    """Content of `protocol.toml` in a worklist's folder.

    Parameters
    ----------
    title : str
        Title of the study.
    seed : int
        Seed of the order.
    readers : tuple of str
        Names of the readers, as in their preferences.
    arms : tuple of Arm
        Arms to compare, each once.
    cases : tuple of str
        Names of studies in the list; empty for all.
    washout_days : int
        Minimum number of days from the end of one session to the next.
    require_rating : bool
        Whether every mark needs a rating.
    """

    title: str
    seed: int
    readers: Annotated[tuple[str, ...], Field(min_length=1)]
    arms: Annotated[tuple[Arm, ...], Field(min_length=1)] = tuple(Arm)
    cases: tuple[str, ...] = ()
    washout_days: Annotated[int, Field(ge=0, le=36_500)] = 28
    require_rating: bool = False

    def n_reads(self, n_listed: int) -> int:
        """Return the number of planned reads, given the number of studies in the list."""
        return len(self.readers) * len(self.arms) * (len(self.cases) or n_listed)

    def plans(self, key: ReadKey) -> bool:
        """Return whether a read is by one of the readers, in one of the arms, of one of the cases.

        Its arm may be another one than that of the assignment; see `check_unchanged`.
        """
        is_planned_case = not self.cases or key.study in self.cases
        return key.reader in self.readers and key.arm in self.arms and is_planned_case


def read_protocol(folder: Path) -> ReadingProtocol | None:
    """Return the protocol in a worklist's folder; None if there is none.

    Raises
    ------
    ReadError
        The file is not a protocol, or names a reader, an arm or a case twice.
    """
    try:
        table = read_toml(folder / FILE)
        protocol = TypeAdapter(ReadingProtocol).validate_python(table)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise _unusable(first_problem(error)) from error
    for name in ("readers", "arms", "cases"):
        values = getattr(protocol, name)
        if len(set(values)) < len(values):
            raise _unusable(f"{name}: one is named twice")
    return protocol


def assignments(
    protocol: ReadingProtocol, reader: str, cases: Sequence[str]
) -> tuple[ReadKey, ...]:
    """Return a reader's reads in their order.

    Raises
    ------
    ReadError
        The reader is not in the protocol, or a case of the protocol is not in the list.
    """
    if reader not in protocol.readers:
        raise ReadError(
            found=f"a reader study of {', '.join(protocol.readers)}, not of {reader!r}"
            if reader
            else f"no reader's name, in a reader study of {', '.join(protocol.readers)}",
            expected="one of its readers",
            next_step="Give --reader",
            in_window="Set your name in Preferences → LesionLens, and open the list again",
        )
    missing = [case for case in protocol.cases if case not in cases]
    if missing:
        raise _unusable(f"the case {missing[0]!r}, which is not in the list")
    ordered_cases = sorted(
        protocol.cases or cases, key=lambda case: _order_key(protocol, "cases", case)
    )
    reader_index, arms = protocol.readers.index(reader), protocol.arms
    plan: list[ReadKey] = []
    for session in range(len(arms)):
        keys = [
            ReadKey(case, reader, session + 1, arms[(n + session + reader_index) % len(arms)])
            for n, case in enumerate(ordered_cases)
        ]
        plan += sorted(keys, key=lambda key: _order_key(protocol, reader, str(session), key.study))
    return tuple(plan)


def check_unchanged(protocol: ReadingProtocol, cases: Sequence[str], reads: Iterable[Read]) -> None:
    """Refuse a plan that has changed since a reader began: cases would recur in other arms.

    Raises
    ------
    ReadError
        A case was read in a session or arm that the protocol no longer plans.
    """
    keys = [r.key for r in reads if r.key.session and r.key.reader in protocol.readers]
    readers = {key.reader for key in keys}
    planned = {key for reader in readers for key in assignments(protocol, reader, cases)}
    changed = next((key for key in keys if key not in planned), None)
    if changed is not None:
        raise ReadError(
            found=f"a reader study that was changed after {changed.reader} had begun: in session "
            f"{changed.session}, {changed.study!r} was read as {changed.arm.value!r}, which is no "
            "longer planned",
            expected="the same seed, cases, arms and order of readers as before",
            next_step=f"Undo the change of {FILE}. If studies were added to the list, name those "
            "of the reader study there: cases = […]. For another reader study, create a separate "
            "list",
        )


def _order_key(protocol: ReadingProtocol, *parts: str) -> bytes:
    return hashlib.sha256("\0".join((str(protocol.seed), *parts)).encode()).digest()


def _unusable(found: str) -> ReadError:
    return ReadError(
        found=f"a {FILE} that cannot be used ({found})",
        expected="title, seed, readers; optionally arms, cases, washout_days and require_rating",
        next_step="Correct it; see docs/how-to/reading.md",
    )
