"""Outcome of each sent file: stored, already present, or refused with a reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lesionlens.base.errors import CancelledError, ExportError, LesionLensError, ResourceError
from lesionlens.base.run_context import RunContext
from lesionlens.site.pacs.files import Outgoing
from lesionlens.site.pacs.peer import UnreachableError

WAITS_S = (1.0, 2.0, 4.0, 8.0)
"""Waiting times before retries, if an archive is busy or the connection is lost."""
LONGEST_WAIT_S = 60.0


class BrokenOffError(UnreachableError):
    """The archive is busy or the connection was lost; a retry may succeed.

    Parameters
    ----------
    wait_s : float or None
        Waiting time requested by the archive, seconds.
    """

    def __init__(self, address: str, reason: str, wait_s: float | None = None) -> None:
        super().__init__(address, reason, "Try again later", wait_s)


@dataclass(frozen=True, slots=True)
class Refusal:
    """One file that the archive did not store."""

    item: Outgoing
    why: str


@dataclass(frozen=True, slots=True)
class Delivery:
    """Outcome of a delivery."""

    stored: tuple[Path, ...]
    """Files that the archive has now: sent, or already present."""
    before: int = 0
    """Number of files already present, which were not sent again."""
    refused: tuple[Refusal, ...] = ()
    unlisted: tuple[Outgoing, ...] = ()
    """Files that the archive reported as stored but does not list: a filter may discard them."""
    notices: tuple[str, ...] = ()

    def check(self) -> None:
        """Raise if the archive refused a file; all others are stored.

        Raises
        ------
        ExportError
            The archive refused files; the message gives kinds and reasons.
        """
        if not self.refused:
            return
        counted = Counter((one.item.class_words, one.why) for one in self.refused)
        listed = "; ".join(f"{n} × {words}: {why}" for (words, why), n in counted.items())
        raise ExportError(
            found=f"{len(self.refused)} of {len(self.refused) + len(self.stored)} files that the "
            f"archive refused ({listed}); it stored the other {len(self.stored)}",
            expected="all files to be stored",
            next_step="Ask the archive's administrator to accept these kinds of objects, or omit "
            "them with --only",
            in_window="Ask the archive's administrator to accept these kinds of objects",
        )


class Ledger:
    """Bookkeeping of a delivery in progress.

    Parameters
    ----------
    notices : tuple of str
        Notices known in advance.
    """

    def __init__(
        self, items: Sequence[Outgoing], context: RunContext, notices: tuple[str, ...] = ()
    ) -> None:
        self._items, self._progress, self._notices = items, context.progress, notices
        self._stored: set[str] = set()
        self._refused: dict[str, Refusal] = {}
        self._present: frozenset[str] = frozenset()
        self._unlisted: tuple[Outgoing, ...] = ()
        self._before = 0
        self.answered = False
        """Whether the archive has listed its objects, and so knows this machine."""

    @property
    def left(self) -> list[Outgoing]:
        """Return the files that are neither stored nor refused."""
        return [
            item
            for item in self._items
            if item.sop_instance not in self._stored and item.sop_instance not in self._refused
        ]

    @property
    def count(self) -> int:
        """Number of files that the archive has."""
        return sum(item.sop_instance in self._stored for item in self._items)

    @property
    def sent(self) -> bool:
        """Return whether a file was stored or refused since the delivery began."""
        return self.count > self._before or bool(self._refused)

    def store(self, item: Outgoing) -> None:
        """Record that the archive stored a file."""
        self._stored.add(item.sop_instance)
        self._report()

    def refuse(self, item: Outgoing, why: str) -> None:
        """Record that the archive refused a file."""
        self._refused[item.sop_instance] = Refusal(item, why)
        self._report()

    def record_present(self, listed: Callable[[str], Mapping[str, str]]) -> bool:
        """Record the files that the archive has already; False if it cannot list them.

        Parameters
        ----------
        listed : callable
            Returns the archive's objects of a study by SOP Instance UID.
        """
        left = self.left
        there = _listed_of(left, listed)
        if there is None:
            return False
        self.answered = True
        for item in left:
            if item.sop_instance in there:
                self.store(item)
        return True

    def record_unlisted(self, listed: Callable[[str], Mapping[str, str]]) -> bool:
        """Record the files that the archive reported as stored and does not list; True if any.

        What lists nothing of a study, as gateways do, cannot be checked.
        """
        sent = [item for item in self._items if item.sop_instance in self._stored - self._present]
        there = _listed_of(sent, listed) or {item.sop_instance for item in sent}
        self._unlisted = tuple(item for item in sent if item.sop_instance not in there)
        return bool(self._unlisted)

    def begin(self) -> None:
        """Record that all files stored so far were present before."""
        self._present = frozenset(self._stored)
        self._before = self.count
        self._progress("send", 0.0)

    def delivery(self) -> Delivery:
        """Return the outcome."""
        stored = [item.path for item in self._items if item.sop_instance in self._stored]
        refused, notices = tuple(self._refused.values()), self._notices
        if self._unlisted:
            counted = Counter(item.class_words for item in self._unlisted)
            listed = ", ".join(f"{n} × {words}" for words, n in counted.items())
            notices = (
                *notices,
                f"Of the files that the archive reported as stored it does not list {listed}: it "
                "stores them late, or discards them. Look for them there before you rely on it.",
            )
        return Delivery(tuple(stored), self._before, refused, self._unlisted, notices)

    def broken(self, error: UnreachableError, certain: bool) -> ResourceError:
        """Return the error of a failed delivery, with the number of stored files."""
        has = f"it has {self.count}" if certain else f"it confirmed {self.count}"
        return ResourceError(
            found=f"no usable answer from {error.address}: {error.reason}; "
            f"{has} of {len(self._items)} files",
            expected="an archive that stores all files",
            next_step="Send them again later: files that the archive lists by then are not resent",
        )

    def _report(self) -> None:
        done = len(self._items) - len(self.left)
        self._progress("send", done / max(len(self._items), 1))


def _listed_of(
    items: Sequence[Outgoing], listed: Callable[[str], Mapping[str, str]]
) -> set[str] | None:
    """Return the UIDs that the archive lists of the files' studies; None if it cannot list them."""
    try:
        return {uid for study in {item.identity()[0] for item in items} for uid in listed(study)}
    except CancelledError:
        raise
    except LesionLensError:
        return None


def deliver(
    ledger: Ledger,
    store: Callable[[], None],
    listed: Callable[[str], Mapping[str, str]],
    context: RunContext,
) -> Delivery:
    """Store the remaining files, with retries and without duplicates.

    Parameters
    ----------
    store : callable
        Sends the remaining files and records the outcomes; raises `BrokenOffError`.
    listed : callable
        Returns the archive's objects of a study by SOP Instance UID.
    """
    ledger.record_present(listed)
    ledger.begin()
    for attempt, wait in enumerate((*WAITS_S, None)):
        try:
            if ledger.left:
                store()
            break
        except UnreachableError as error:
            first = not attempt and not ledger.sent
            if first and not isinstance(error, BrokenOffError):
                raise  # nothing was sent yet: the error says what to change
            certain = ledger.record_present(listed)
            if not ledger.left:
                break
            if wait is None:
                raise ledger.broken(error, certain) from error
            context.pause("sending", min(error.wait_s or wait, LONGEST_WAIT_S))
    if ledger.record_unlisted(listed):  # some archives list a moment later
        context.pause("sending", WAITS_S[0])
        ledger.record_unlisted(listed)
    return ledger.delivery()
