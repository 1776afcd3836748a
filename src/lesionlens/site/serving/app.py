"""The server's HTTP application: authentication, requests, error responses."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Body, Depends, FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.exception_handlers import http_exception_handler
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect

from lesionlens.base.errors import GoneError, LesionLensError, ServerError, UnusableInputError
from lesionlens.engines.engine import Engine, SupportsFirstPass
from lesionlens.engines.remote.connection import PROTOCOL
from lesionlens.engines.remote.messages import Header, serialise_info
from lesionlens.site.serving.admission import Admission, admitted
from lesionlens.site.serving.error_responses import error_response, system_error, too_large
from lesionlens.site.serving.job_queue import Job
from lesionlens.site.serving.middleware import Gate
from lesionlens.site.serving.monailabel import routes
from lesionlens.site.serving.monailabel.adapter import Adapter
from lesionlens.site.serving.sessions import Session, Sessions

logger = logging.getLogger(__name__)
_MAX_WAIT_S = 10.0
_PROGRESS_INTERVAL_S = 0.1
"""Minimum time between two progress responses; a result is reported at once."""
_MAX_CONCURRENT = 2
"""Maximum number of messages unpacked, and studies assembled, concurrently."""
_NO_TELEMETRY: Any = dict.fromkeys(
    ("tracing", "metrics", "logs", "operation_spans", "auto_configure"), False
)
"""FastAPI would report every request to OpenTelemetry if that is installed; this disables it."""
T = TypeVar("T")
_OCTETS = "application/octet-stream"


def make_app(sessions: Sessions, admission: Admission, datastore: Path | None = None) -> FastAPI:
    """Return the application.

    Parameters
    ----------
    sessions : Sessions
        Sessions; closed with the application.
    datastore : Path or None
        Folder of images and labels for MONAI Label clients.
    """
    adapter = Adapter(sessions, datastore)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        app.state.heavy.shutdown(wait=False, cancel_futures=True)
        await run_in_threadpool(sessions.end)
        await run_in_threadpool(adapter.uploads.end)

    app = FastAPI(
        title="LesionLens",
        version=version("lesionlens"),
        lifespan=lifespan,
        openapi_url=None,
        telemetry=_NO_TELEMETRY,
    )
    app.state.sessions, app.state.admission = sessions, admission
    app.state.monailabel, app.state.heavy = adapter, ThreadPoolExecutor(_MAX_CONCURRENT)
    app.include_router(routes.router)
    app.include_router(router)
    if admission.hosts:
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=[*admission.hosts])
    app.add_middleware(Gate, admission=admission, sessions=sessions)  # around it: it keeps the log
    for error_type in (LesionLensError, OSError, HTTPException, RequestValidationError):
        app.add_exception_handler(error_type, _error_response)
    return app


def _sessions(request: Request) -> Sessions:
    sessions: Sessions = request.app.state.sessions
    return sessions


def _session(request: Request, session: str, owner: Annotated[str, Depends(admitted)]) -> Session:
    return _sessions(request).find(session, owner)


AllSessions = Annotated[Sessions, Depends(_sessions)]
ClientSession = Annotated[Session, Depends(_session)]
Owner = Annotated[str, Depends(admitted)]
router = APIRouter()


@router.get("/healthz")
async def _health() -> dict[str, str]:
    return {"status": "ok"}


@router.get("/v1/about")
def _about(sessions: AllSessions) -> dict[str, Any]:
    return {
        "product": "LesionLens",
        "version": version("lesionlens"),
        "protocol": PROTOCOL,
        "models": [*sessions.models],
    }


@router.get("/v1/state")
def _state(sessions: AllSessions) -> dict[str, Any]:
    return sessions.state()


@router.post("/v1/sessions")
def _open_session(
    sessions: AllSessions, owner: Owner, model: Annotated[str | None, Body(embed=True)] = None
) -> dict[str, Any]:
    session = sessions.open(owner, model)
    engine: Engine = sessions.models[session.model]
    return {
        "session": session.secret_id,
        "model": session.model,
        "version": version("lesionlens"),
        "engine": serialise_info(engine.info),
        "first_look": isinstance(engine, SupportsFirstPass),
        "heartbeat_s": sessions.limits.heartbeat_s,
    }


@router.post("/v1/sessions/{session}/heartbeat", status_code=204)
def _heartbeat(client_session: ClientSession) -> None:
    del client_session  # finding it marks it as used


@router.delete("/v1/sessions/{session}", status_code=204)
def _close_session(sessions: AllSessions, client_session: ClientSession) -> None:
    sessions.close(client_session)


@router.put("/v1/sessions/{session}/parts/{name}", status_code=204)
async def _add_part(
    sessions: AllSessions, client_session: ClientSession, name: str, request: Request
) -> None:
    part = await read_body(request, sessions.limits.memory_bytes // 4)
    await _run_in_pool(request, sessions.add_part, client_session, name, part)


@router.post("/v1/sessions/{session}/studies")
async def _add_study(
    sessions: AllSessions, client_session: ClientSession, manifest: Header, request: Request
) -> dict[str, Any]:
    return {"missing": await _run_in_pool(request, sessions.add_study, client_session, manifest)}


@router.put("/v1/sessions/{session}/jobs/{name}", status_code=204)
async def _ask(
    sessions: AllSessions, client_session: ClientSession, name: str, request: Request
) -> None:
    message = await read_body(request, 2**26)
    await _run_in_pool(request, sessions.ask, client_session, name, message)


@router.get("/v1/sessions/{session}/jobs/{name}")
async def _progress(
    client_session: ClientSession, name: str, wait: float = 0.0, seen: int = 0
) -> dict[str, Any]:
    job = _job(client_session, name)
    loop = asyncio.get_running_loop()
    deadline = loop.time() + min(wait, _MAX_WAIT_S)
    next_update = min(deadline, loop.time() + _PROGRESS_INTERVAL_S)
    while not job.done and loop.time() < (deadline if job.version <= seen else next_update):
        await asyncio.sleep(0.01)  # no thread is blocked
    return {"done": job.done, "stage": job.stage, "fraction": job.fraction, "seen": job.version}


@router.get("/v1/sessions/{session}/jobs/{name}/answer")
def _answer(client_session: ClientSession, name: str) -> Response:
    job = _job(client_session, name)
    if job.error is not None:
        raise job.error
    return Response(job.response or b"", media_type=_OCTETS)


@router.delete("/v1/sessions/{session}/jobs/{name}", status_code=204)
def _drop_job(sessions: AllSessions, client_session: ClientSession, name: str) -> None:
    sessions.drop_job(client_session, name)


def _job(session: Session, name: str) -> Job:
    job = session.jobs.get(name)
    if job is None:
        raise GoneError("study")
    return job


async def _run_in_pool(request: Request, work: Callable[..., T], *args: object) -> T:
    """Run expensive work in a few threads, so that other requests continue."""
    pool: ThreadPoolExecutor = request.app.state.heavy
    return await asyncio.get_running_loop().run_in_executor(pool, partial(work, *args))


async def read_body(request: Request, limit_bytes: int) -> bytes:
    """Return a request's body.

    Raises
    ------
    TooLargeError
        The body is longer than allowed.
    """
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > limit_bytes:
                raise too_large(limit_bytes)
    except ClientDisconnect:
        raise ServerError(
            found="a disconnected client", expected="a complete request", next_step="Send it again"
        ) from None
    return bytes(body)


async def _error_response(request: Request, error: Exception) -> Response:
    """Return an error as a response."""
    if isinstance(error, HTTPException):
        if not isinstance(error.__cause__, OSError):
            return await http_exception_handler(request, error)
        error = error.__cause__  # FastAPI hides it where it stores a form
    if isinstance(error, RequestValidationError):  # FastAPI would repeat the values, even NaN
        fields = [".".join(map(str, detail["loc"])) for detail in error.errors()]
        error = UnusableInputError(
            found=f"a request with missing or invalid fields: {', '.join(fields):.200}",
            expected="a request as documented",
            next_step="Correct these fields",
        )
    if isinstance(error, OSError):
        error = system_error(error)
        logger.warning("%s", error.found)  # the system's own words have the path
    if not isinstance(error, LesionLensError):
        raise error
    return error_response(error)
