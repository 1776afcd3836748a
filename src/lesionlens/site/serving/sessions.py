"""The server's sessions: in memory only, bounded, deleted at their end."""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from lesionlens.base.errors import FullError, GoneError, ServerError
from lesionlens.base.labels import RequestKind
from lesionlens.engines.engine import Engine, SupportsForgetting
from lesionlens.engines.remote import messages
from lesionlens.engines.remote.packing import header_of
from lesionlens.site.serving.engine_requests import EngineRequest, HeldStudy, NoTraceError, respond
from lesionlens.site.serving.job_queue import Job, JobQueue
from lesionlens.site.serving.memory_use import held_bytes

_UNPACKING = messages.BYTES_PER_VOXEL + 8
"""Bytes per voxel while a study is assembled: the study, and one unpacked channel."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one server."""

    memory_bytes: int = 8 * 2**30
    """Memory of studies, traces, responses and requests of all sessions."""
    sessions: int = 64
    """Maximum number of sessions."""
    sessions_each: int = 16
    """Maximum number of sessions per key."""
    heartbeat_s: float = 30.0
    """Idle time after which a session ends."""
    grace_s: float = 15.0
    """A study used more recently than this is not evicted for another session."""
    jobs: int = 32
    """Maximum number of queued jobs per session."""


class Arriving:
    """Bytes of messages being read, in the order of their arrival; thread-safe.

    A message is any hashable object, the same for all bytes of one request body. If the limit is
    reached, the incomplete message that began last gives way (`is_last`), so that of messages
    that arrive at a time the earlier ones are completed.

    Parameters
    ----------
    most : int
        Limit of all messages, bytes.
    """

    def __init__(self, most: int) -> None:
        self._most, self._lock = most, threading.Lock()
        self._held: dict[Hashable, int] = {}
        self._incomplete: dict[Hashable, None] = {}
        self.bytes = 0

    def add(self, message: Hashable, count: int) -> bool:
        """Add bytes of a message; False if the limit would be exceeded."""
        with self._lock:
            if self.bytes + count > self._most:
                return False
            if message not in self._held:
                self._incomplete[message] = None
            self._held[message] = self._held.get(message, 0) + count
            self.bytes += count
            return True

    def complete(self, message: Hashable) -> None:
        """Record that a message has arrived; its bytes are held until it is released."""
        with self._lock:
            self._incomplete.pop(message, None)

    def release(self, message: Hashable) -> None:
        """Subtract all bytes of a message."""
        with self._lock:
            self._incomplete.pop(message, None)
            self.bytes -= self._held.pop(message, 0)

    def is_last(self, message: Hashable) -> bool:
        """Whether no message that is still incomplete began after this one."""
        with self._lock:
            return message not in self._incomplete or message == next(reversed(self._incomplete))


@dataclass(eq=False)
class _Kept:
    """A study in memory."""

    study: HeldStudy
    parts: tuple[str, ...]
    trace_bytes: int = 0
    used: float = field(default_factory=time.monotonic)
    jobs: weakref.WeakSet[Job] = field(default_factory=weakref.WeakSet)

    @property
    def busy(self) -> bool:
        """Whether a request about it is queued or running."""
        return any(not job.done for job in self.jobs)

    @property
    def bytes(self) -> int:
        prepared = self.study.prepared
        return int(prepared.channels.nbytes + prepared.brain.nbytes + self.trace_bytes)


@dataclass(eq=False)
class Session:
    """One client's session: secret ID, model, studies and jobs."""

    owner: str
    model: str
    name: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)
    seen: float = field(default_factory=time.monotonic)
    parts: dict[str, bytes] = field(default_factory=dict)
    studies: OrderedDict[str, _Kept] = field(default_factory=OrderedDict)
    jobs: dict[str, Job] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        """Memory held by the session."""
        answers = sum(job.held_bytes for job in [*self.jobs.values()])
        parts = sum(map(len, self.parts.values()))
        return answers + parts + sum(kept.bytes for kept in self.studies.values())


class Sessions:
    """All sessions of a server; thread-safe.

    Parameters
    ----------
    models : mapping of str to Engine
        Models by name; the first is the default.
    """

    def __init__(self, models: Mapping[str, Engine], limits: Limits) -> None:
        self.models, self.limits = dict(models), limits
        self.queue = JobQueue()
        self.arriving = Arriving(limits.memory_bytes // 4)
        self._all: dict[str, Session] = {}
        self._lock = threading.RLock()
        self._ended = threading.Event()
        self._last_user: dict[str, str] = {}
        self.chores: list[Callable[[], None]] = []
        """Called once a second or more often."""
        threading.Thread(target=self._watch, name="sessions", daemon=True).start()

    def open(self, owner: str, model: str | None) -> Session:
        """Open a session for a client, with one of the models."""
        name = next(iter(self.models)) if model is None else model
        if name not in self.models:
            raise ServerError(
                found=f"a request for the model {name!r:.60}",
                expected=f"a model of this server: {', '.join(self.models)}",
                next_step="Choose one of these",
            )
        with self._lock:
            if len(self._all) >= self.limits.sessions:
                raise _full("the maximum number of clients")
            mine = sum(session.owner == owner for session in self._all.values())
            if mine >= self.limits.sessions_each:
                raise _full("the maximum number of sessions of a key")
            session = Session(owner, name)
            self._all[session.name] = session
            return session

    def find(self, name: str, owner: str) -> Session:
        """Return a session and mark it as used."""
        with self._lock:
            session = self._all.get(name)
            if session is None or session.owner != owner:
                raise GoneError("session")
            session.seen = time.monotonic()
            return session

    def close(self, session: Session) -> None:
        """End a session: cancel its jobs, delete its studies."""
        with self._lock:
            self._all.pop(session.name, None)
            jobs = [*session.jobs.values()]
        for job in jobs:
            self.queue.drop(job)
        session.parts.clear()
        session.studies.clear()
        session.jobs.clear()
        self.release(session.name)

    def use(self, model: str, who: str) -> None:
        """Record whose study an engine reads now: it caches the last one."""
        self._last_user[model] = who

    def release(self, who: str) -> None:
        """Release the last study of every engine that read it for an ended user."""
        for model, last in [*self._last_user.items()]:
            if last == who:
                self.queue.add(who, Job(partial(self._forget, model, who)))

    def _forget(self, model: str, who: str, _: Job) -> bytes:
        engine = self.models[model]
        if self._last_user.get(model) == who:
            if isinstance(engine, SupportsForgetting):
                engine.forget()
            del self._last_user[model]
        return b""

    def add_part(self, session: Session, name: str, part: bytes) -> None:
        """Store a part of a study, if its digest is right."""
        if messages.digest_of(part) != name:
            raise ServerError(
                found="a part that was altered in transit",
                expected="bytes whose SHA-256 is the name of the part",
                next_step="Send it again",
            )
        self._make_room(session, len(part))
        session.parts[name] = part

    def add_study(self, session: Session, manifest: messages.Header) -> list[str]:
        """Store a study; return the missing parts."""
        name = messages.study_name(manifest)
        with self._lock:
            if name in session.studies:
                session.studies[name].used = time.monotonic()
                return []
        wanted = messages.parts_named(manifest)
        self._make_room(session, _UNPACKING * messages.voxels_of(manifest))
        missing = [part for part in dict.fromkeys(wanted) if part not in session.parts]
        if missing:
            return missing
        prepared = messages.deserialise_study(manifest, session.parts, self.limits.memory_bytes)
        with self._lock:
            session.studies[name] = _Kept(HeldStudy(prepared), tuple(wanted))
        return []

    def ask(self, session: Session, name: str, message: bytes) -> None:
        """Queue a request under the client's job ID; idempotent.

        Raises
        ------
        GoneError
            The server does not hold the study.
        """
        with self._lock:
            if name in session.jobs:
                return
            if len(session.jobs) >= self.limits.jobs:
                raise _full("the maximum number of requests of a client")
        header = header_of(message)
        self._make_room(session, len(message))
        request = EngineRequest(header, message)
        with self._lock:
            kept = session.studies.get(str(header.get("study")))
            if kept is None:
                raise GoneError("study")
            traced = request.kind in (RequestKind.PROBE, RequestKind.LAYER)
            if traced and kept.study.trace is None:
                raise GoneError("trace")
            job = Job(lambda mine: self._respond(session, kept, request, mine), len(message))
            kept.jobs.add(job)
            kept.used = time.monotonic()
            session.jobs[name] = job
        self.queue.add(session.name, job)

    def _respond(self, session: Session, kept: _Kept, request: EngineRequest, job: Job) -> bytes:
        engine = self.models[session.model]
        try:
            self.use(session.model, session.name)
            found = respond(engine, kept.study, request, job)
            self._make_room(session, len(found))
        except NoTraceError:
            raise GoneError("trace") from None
        else:
            return found
        finally:
            if request.kind is RequestKind.PREDICT:
                self._weigh(session, kept, engine)
            kept.used = time.monotonic()

    def _weigh(self, session: Session, kept: _Kept, engine: Engine) -> None:
        """Count a trace's memory; release the trace if there is no room."""
        kept.trace_bytes = held_bytes(kept.study.trace, but=[engine, kept.study.prepared])
        try:
            self._make_room(session, 0)
        except FullError:
            kept.study.trace, kept.trace_bytes = None, 0

    def drop_job(self, session: Session, name: str) -> None:
        """Cancel a job and delete its response."""
        job = session.jobs.pop(name, None)
        if job is not None:
            self.queue.drop(job)

    @property
    def bytes(self) -> int:
        """Memory held by all sessions."""
        with self._lock:
            return self.arriving.bytes + sum(session.bytes for session in self._all.values())

    def state(self) -> dict[str, Any]:
        """Return usage statistics for monitoring."""
        with self._lock:
            return {
                "sessions": len(self._all),
                "studies": sum(len(s.studies) for s in self._all.values()),
                "bytes": self.bytes,
                "waiting": self.queue.waiting,
            }

    def _make_room(self, session: Session, needed: int) -> None:
        """Evict the least recently used studies of the largest session, or refuse.

        Studies of the session itself go first, those of others only after some idle time.
        """
        with self._lock:
            while self.bytes + needed > self.limits.memory_bytes:
                victim = self._idle(session)
                if victim is None:
                    raise _full("as many studies as fit into its memory")
                owner, name = victim
                gone = owner.studies.pop(name)
                spared = {part for kept in owner.studies.values() for part in kept.parts}
                for part in set(gone.parts) - spared:
                    owner.parts.pop(part, None)

    def _idle(self, asking: Session) -> tuple[Session, str] | None:
        now = time.monotonic()
        for session in (asking, *sorted(self._all.values(), key=lambda s: -s.bytes)):
            grace = 0.0 if session is asking else self.limits.grace_s
            idle = {
                name: kept.used
                for name, kept in session.studies.items()
                if not kept.busy and now - kept.used >= grace
            }
            if idle:
                return session, min(idle, key=lambda name: idle[name])
        return None

    def end(self) -> None:
        """End all sessions and the worker."""
        self._ended.set()
        with self._lock:
            everyone = [*self._all.values()]
        for session in everyone:
            self.close(session)
        self.queue.end()

    def _watch(self) -> None:
        """End idle sessions, and do the chores."""
        while not self._ended.wait(min(1.0, self.limits.heartbeat_s / 3)):
            with self._lock:
                late = time.monotonic() - self.limits.heartbeat_s
                silent = [session for session in self._all.values() if session.seen < late]
            for session in silent:
                self.close(session)
            for chore in self.chores:
                chore()


def owner_of(key: str | None) -> str:
    """Return a client's identity; the key itself is not stored."""
    return hashlib.sha256((key or "").encode()).hexdigest()


def _full(what: str) -> FullError:
    return FullError(
        found=f"a server that holds {what}",
        expected="capacity for one more",
        next_step="Try again later, or raise the server's limits",
    )
