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
MAX_WAIT_S = 60.0


class DeliveryInterruptedError(UnreachableError):
    """The archive is busy or the connection was lost; a retry may succeed.

    Parameters
    ----------
    wait_s : float or None
        Waiting time requested by the archive, seconds.
    """

    def __init__(self, address: str, reason: str, wait_s: float | None = None) -> None:
        super().__init__(address, reason, "Try again later", wait_s)


class DeliveryStoppedError(CancelledError):
    """The user stopped a delivery after it had begun.

    Parameters
    ----------
    n_confirmed, n_files : int
        Number of files that the archive confirmed, of those to be sent.
    """

    def __init__(self, n_confirmed: int, n_files: int) -> None:
        doubt = ", and may have received others" if n_confirmed < n_files else ""
        LesionLensError.__init__(
            self,
            found=f"a request to stop sending, when the archive had confirmed {n_confirmed} of "
            f"{n_files} files{doubt}",
            expected="nothing more",
            next_step="Send them again: files that the archive lists by then are not resent",
        )
        self.outcome = f"The archive had confirmed {n_confirmed} of {n_files} files{doubt}."


@dataclass(frozen=True, slots=True)
class Refusal:
    """One file that the archive did not store."""

    item: Outgoing
    reason: str


@dataclass(frozen=True, slots=True)
class Delivery:
    """Outcome of a delivery."""

    stored: tuple[Path, ...]
    """Files that the archive has now: sent, or already present."""
    n_present: int = 0
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
        counts = Counter((refusal.item.class_name, refusal.reason) for refusal in self.refused)
        summary = "; ".join(
            f"{n} × {class_name}: {reason}" for (class_name, reason), n in counts.items()
        )
        raise ExportError(
            found=f"{len(self.refused)} of {len(self.refused) + len(self.stored)} files that the "
            f"archive refused ({summary}); it stored the other {len(self.stored)}",
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
        self._n_present = 0
        self.has_listing = False
        """Whether the archive has listed its objects, so that it knows this machine."""
        self.has_begun = False
        """Whether files may have been sent."""

    @property
    def remaining(self) -> list[Outgoing]:
        """The files that are neither stored nor refused, one of each object."""
        handled = self._refused.keys() | self._stored
        objects = {item.sop_instance: item for item in self._items}
        return [item for uid, item in objects.items() if uid not in handled]

    @property
    def count(self) -> int:
        """Number of files that the archive has."""
        return sum(item.sop_instance in self._stored for item in self._items)

    @property
    def sent(self) -> bool:
        """Whether a file was stored or refused since the delivery began."""
        return self.count > self._n_present or bool(self._refused)

    def store(self, item: Outgoing) -> None:
        """Record that the archive stored a file."""
        self._stored.add(item.sop_instance)
        self._report()

    def refuse(self, item: Outgoing, reason: str) -> None:
        """Record that the archive refused a file."""
        self._refused[item.sop_instance] = Refusal(item, reason)
        self._report()

    def record_present(self, list_objects: Callable[[str], Mapping[str, str]]) -> bool:
        """Record the files that the archive has already; False if it cannot list them.

        Parameters
        ----------
        list_objects : callable
            Returns the archive's objects of a study by SOP Instance UID.
        """
        remaining = self.remaining
        archived = _archived_uids(remaining, list_objects)
        if archived is None:
            return False
        self.has_listing = True
        for item in remaining:
            if item.sop_instance in archived:
                self.store(item)
        return True

    def record_unlisted(self, list_objects: Callable[[str], Mapping[str, str]]) -> bool:
        """Record the files that the archive reported as stored and does not list; True if any.

        An archive that lists nothing of a study, as gateways do, cannot be checked.
        """
        sent = [item for item in self._items if item.sop_instance in self._stored - self._present]
        archived = _archived_uids(sent, list_objects) or {item.sop_instance for item in sent}
        self._unlisted = tuple(item for item in sent if item.sop_instance not in archived)
        return bool(self._unlisted)

    def begin(self) -> None:
        """Record that all files stored so far were present before."""
        self._present = frozenset(self._stored)
        self._n_present = self.count
        self.has_begun = True
        self._progress("send", 0.0)

    def delivery(self) -> Delivery:
        """Return the outcome."""
        stored = [item.path for item in self._items if item.sop_instance in self._stored]
        refused, notices = tuple(self._refused.values()), self._notices
        if self._unlisted:
            counts = Counter(item.class_name for item in self._unlisted)
            summary = ", ".join(f"{n} × {class_name}" for class_name, n in counts.items())
            notices = (
                *notices,
                f"Of the files that the archive reported as stored it does not list {summary}: it "
                "stores them late, or discards them. Look for them there before you rely on it.",
            )
        return Delivery(tuple(stored), self._n_present, refused, self._unlisted, notices)

    def incomplete_error(self, error: UnreachableError, *, is_listed: bool) -> ResourceError:
        """Return the error of a failed delivery, with the number of stored files."""
        count_text = f"it has {self.count}" if is_listed else f"it confirmed {self.count}"
        return ResourceError(
            found=f"no usable answer from {error.address}: {error.reason}; "
            f"{count_text} of {len(self._items)} files",
            expected="an archive that stores all files",
            next_step="Send them again later: files that the archive lists by then are not resent",
        )

    def _report(self) -> None:
        n_handled = len(self._items) - len(self.remaining)
        self._progress("send", n_handled / max(len(self._items), 1))


def _archived_uids(
    items: Sequence[Outgoing], list_objects: Callable[[str], Mapping[str, str]]
) -> set[str] | None:
    """Return the UIDs that the archive lists of the files' studies; None if it cannot list them."""
    try:
        return {
            uid for study in {item.identity()[0] for item in items} for uid in list_objects(study)
        }
    except CancelledError:
        raise
    except LesionLensError:
        return None


def deliver(
    ledger: Ledger,
    store: Callable[[], None],
    list_objects: Callable[[str], Mapping[str, str]],
    context: RunContext,
) -> Delivery:
    """Store the remaining files, with retries and without duplicates.

    Parameters
    ----------
    store : callable
        Sends the remaining files and records the outcomes; raises `DeliveryInterruptedError`.
    list_objects : callable
        Returns the archive's objects of a study by SOP Instance UID.
    """
    ledger.record_present(list_objects)
    ledger.begin()
    for attempt, wait_s in enumerate((*WAITS_S, None)):
        try:
            if ledger.remaining:
                store()
            break
        except UnreachableError as error:
            is_first_attempt = not attempt and not ledger.sent
            if is_first_attempt and not isinstance(error, DeliveryInterruptedError):
                raise  # nothing was sent yet: the error says what to change
            is_listed = ledger.record_present(list_objects)
            if not ledger.remaining:
                break
            if wait_s is None:
                raise ledger.incomplete_error(error, is_listed=is_listed) from error
            context.pause("sending", min(error.wait_s or wait_s, MAX_WAIT_S))
    if ledger.record_unlisted(list_objects):  # some archives list a moment later
        context.pause("sending", WAITS_S[0])
        ledger.record_unlisted(list_objects)
    return ledger.delivery()
