"""The server's sessions: in memory only, bounded, deleted at their end."""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
import weakref
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from lesionlens.base.errors import FullError, GoneError, ServerError
from lesionlens.base.labels import RequestKind
from lesionlens.engines.engine import Engine
from lesionlens.engines.plugin_engines import release
from lesionlens.engines.remote import messages
from lesionlens.engines.remote.packing import header_of
from lesionlens.site.serving.engine_requests import EngineRequest, SessionStudy, respond
from lesionlens.site.serving.job_queue import Job, JobQueue
from lesionlens.site.serving.memory_use import held_bytes

_UNPACK_BYTES_PER_VOXEL = messages.BYTES_PER_VOXEL + 8
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


class IncomingBytes:
    """Bytes of messages being read, in the order of their arrival; thread-safe.

    A message is any hashable object, the same for all bytes of one request body. If the limit is
    reached, the incomplete message that began last is refused (`is_last`), so that of concurrent
    messages the earlier ones are completed.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes, self._lock = max_bytes, threading.Lock()
        self._sizes: dict[Hashable, int] = {}
        self._incomplete: dict[Hashable, None] = {}
        self.bytes = 0

    def add(self, message: Hashable, count: int) -> bool:
        """Add bytes of a message; False if the limit would be exceeded."""
        with self._lock:
            if self.bytes + count > self._max_bytes:
                return False
            if message not in self._sizes:
                self._incomplete[message] = None
            self._sizes[message] = self._sizes.get(message, 0) + count
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
            self.bytes -= self._sizes.pop(message, 0)

    def is_last(self, message: Hashable) -> bool:
        """Return whether this is the incomplete message that began last."""
        with self._lock:
            return message not in self._incomplete or message == next(reversed(self._incomplete))


@dataclass(eq=False)
class _StoredStudy:
    """A study in memory."""

    study: SessionStudy
    parts: tuple[str, ...]
    trace_bytes: int = 0
    last_used: float = field(default_factory=time.monotonic)
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
    secret_id: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)
    last_seen: float = field(default_factory=time.monotonic)
    parts: dict[str, bytes] = field(default_factory=dict)
    studies: dict[str, _StoredStudy] = field(default_factory=dict)
    jobs: dict[str, Job] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        """Memory held by the session."""
        response_bytes = sum(job.held_bytes for job in [*self.jobs.values()])
        part_bytes = sum(map(len, self.parts.values()))
        return response_bytes + part_bytes + sum(stored.bytes for stored in self.studies.values())


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
        self.arriving = IncomingBytes(limits.memory_bytes // 4)
        self._sessions: dict[str, Session] = {}
        self._lock = threading.RLock()
        self._ended = threading.Event()
        self._last_users: dict[str, str] = {}
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
            if len(self._sessions) >= self.limits.sessions:
                raise _full_error("the maximum number of clients")
            n_owned = sum(session.owner == owner for session in self._sessions.values())
            if n_owned >= self.limits.sessions_each:
                raise _full_error("the maximum number of sessions of a key")
            session = Session(owner, name)
            self._sessions[session.secret_id] = session
            return session

    def find(self, secret_id: str, owner: str) -> Session:
        """Return a session and mark it as used."""
        with self._lock:
            session = self._sessions.get(secret_id)
            if session is None or session.owner != owner:
                raise GoneError("session")
            session.last_seen = time.monotonic()
            return session

    def close(self, session: Session) -> None:
        """End a session: cancel its jobs, delete its studies."""
        with self._lock:
            self._sessions.pop(session.secret_id, None)
            jobs = [*session.jobs.values()]
        for job in jobs:
            self.queue.drop(job)
        session.parts.clear()
        session.studies.clear()
        session.jobs.clear()
        self.release(session.secret_id)

    def use(self, model: str, user: str) -> None:
        """Record which user's study an engine reads now; the engine caches the last one."""
        self._last_users[model] = user

    def release(self, user: str) -> None:
        """Release the last study of every engine that read it for an ended user."""
        for model, last_user in [*self._last_users.items()]:
            if last_user == user:
                self.queue.add(user, Job(partial(self._forget, model, user)))

    def _forget(self, model: str, user: str, _: Job) -> bytes:
        engine = self.models[model]
        if self._last_users.get(model) == user:
            release(engine)
            del self._last_users[model]
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
                session.studies[name].last_used = time.monotonic()
                return []
        part_names = messages.part_digests(manifest)
        self._make_room(session, _UNPACK_BYTES_PER_VOXEL * messages.voxels_of(manifest))
        missing = [part for part in dict.fromkeys(part_names) if part not in session.parts]
        if missing:
            return missing
        prepared = messages.deserialise_study(manifest, session.parts, self.limits.memory_bytes)
        with self._lock:
            session.studies[name] = _StoredStudy(SessionStudy(prepared), tuple(part_names))
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
                raise _full_error("the maximum number of requests of a client")
        header = header_of(message)
        self._make_room(session, len(message))
        request = EngineRequest(header, message)
        with self._lock:
            stored = session.studies.get(str(header.get("study")))
            if stored is None:
                raise GoneError("study")
            needs_trace = request.kind in (RequestKind.PROBE, RequestKind.LAYER)
            if needs_trace and stored.study.trace is None:
                raise GoneError("trace")
            job = Job(
                lambda running: self._respond(session, stored, request, running), len(message)
            )
            stored.jobs.add(job)
            stored.last_used = time.monotonic()
            session.jobs[name] = job
        self.queue.add(session.secret_id, job)

    def _respond(
        self, session: Session, stored: _StoredStudy, request: EngineRequest, job: Job
    ) -> bytes:
        engine = self.models[session.model]
        try:
            self.use(session.model, session.secret_id)
            response = respond(engine, stored.study, request, job)
            self._make_room(session, len(response))
            return response
        finally:
            if request.kind is RequestKind.PREDICT:
                self._measure_trace(session, stored, engine)
            stored.last_used = time.monotonic()

    def _measure_trace(self, session: Session, stored: _StoredStudy, engine: Engine) -> None:
        """Count a trace's memory; release the trace if there is no room."""
        stored.trace_bytes = held_bytes(stored.study.trace, exclude=[engine, stored.study.prepared])
        try:
            self._make_room(session, 0)
        except FullError:
            stored.study.trace, stored.trace_bytes = None, 0

    def drop_job(self, session: Session, name: str) -> None:
        """Cancel a job and delete its response."""
        job = session.jobs.pop(name, None)
        if job is not None:
            self.queue.drop(job)

    @property
    def bytes(self) -> int:
        """Memory held by all sessions."""
        with self._lock:
            return self.arriving.bytes + sum(session.bytes for session in self._sessions.values())

    def state(self) -> dict[str, Any]:
        """Return usage statistics for monitoring."""
        with self._lock:
            return {
                "sessions": len(self._sessions),
                "studies": sum(len(session.studies) for session in self._sessions.values()),
                "bytes": self.bytes,
                "waiting": self.queue.waiting,
            }

    def _make_room(self, session: Session, needed: int) -> None:
        """Evict the least recently used studies of the largest session, or refuse.

        Studies of the session itself go first, those of others only after some idle time.
        """
        with self._lock:
            while self.bytes + needed > self.limits.memory_bytes:
                victim = self._eviction_candidate(session)
                if victim is None:
                    raise _full_error("as many studies as fit into its memory")
                owner, name = victim
                evicted = owner.studies.pop(name)
                shared_parts = {part for stored in owner.studies.values() for part in stored.parts}
                for part in set(evicted.parts) - shared_parts:
                    owner.parts.pop(part, None)

    def _eviction_candidate(self, requester: Session) -> tuple[Session, str] | None:
        now = time.monotonic()
        for session in (
            requester,
            *sorted(self._sessions.values(), key=lambda candidate: -candidate.bytes),
        ):
            grace_s = 0.0 if session is requester else self.limits.grace_s
            last_used_by_name = {
                name: stored.last_used
                for name, stored in session.studies.items()
                if not stored.busy and now - stored.last_used >= grace_s
            }
            if last_used_by_name:
                return session, min(last_used_by_name, key=lambda name: last_used_by_name[name])
        return None

    def end(self) -> None:
        """End all sessions and the worker."""
        self._ended.set()
        with self._lock:
            sessions = [*self._sessions.values()]
        for session in sessions:
            self.close(session)
        self.queue.end()

    def _watch(self) -> None:
        """End idle sessions, and call the chores."""
        while not self._ended.wait(min(1.0, self.limits.heartbeat_s / 3)):
            with self._lock:
                oldest = time.monotonic() - self.limits.heartbeat_s
                expired = [
                    session for session in self._sessions.values() if session.last_seen < oldest
                ]
            for session in expired:
                self.close(session)
            for chore in self.chores:
                chore()


def owner_of(key: str | None) -> str:
    """Return a client's identity; the key itself is not stored."""
    return hashlib.sha256((key or "").encode()).hexdigest()


def _full_error(content: str) -> FullError:
    return FullError(
        found=f"a server that holds {content}",
        expected="capacity for one more",
        next_step="Try again later, or raise the server's limits",
    )
