"""Errors as JSON, from which a client restores the same error."""

from __future__ import annotations

from fastapi.responses import JSONResponse

from lesionlens.base.errors import (
    CancelledError,
    FullError,
    GoneError,
    LesionLensError,
    ResourceError,
    ServerError,
    UnusableInputError,
    is_full_disk,
    root_os_error,
)


class RefusedError(LesionLensError):
    """Missing or wrong key."""


class NotFoundError(LesionLensError):
    """Unknown name."""


class TooLargeError(UnusableInputError):
    """Request too large."""


_STATUS: tuple[tuple[type[LesionLensError], int], ...] = (
    (CancelledError, 499),  # the client left: no failure of the server
    (RefusedError, 401),
    (NotFoundError, 404),
    (GoneError, 404),
    (FullError, 503),
    (TooLargeError, 413),
    (UnusableInputError, 422),
    (ServerError, 400),
)


def too_large(limit_bytes: int) -> TooLargeError:
    """Return the error for a request body over the limit."""
    return TooLargeError(
        found=f"more than {limit_bytes / 2**20:.0f} MB in one piece",
        expected="less",
        next_step="Send less, or give the server more memory",
    )


def system_error(error: OSError) -> ResourceError:
    """Return the error for a refusal of the server's system, without the path."""
    error = root_os_error(error)
    reason = "a full disk" if is_full_disk(error) else error.strerror or type(error).__name__
    return ResourceError(
        found=f"that the server cannot read or write its files: {reason}",
        expected="free space for temporary files, and a datastore that can be read and written",
        next_step="Tell the server's administrator",
    )


def error_response(error: LesionLensError) -> JSONResponse:
    """Return a generic error response."""
    status = next((http_status for cls, http_status in _STATUS if isinstance(error, cls)), 500)
    code = type(error).__name__
    if isinstance(error, GoneError):
        code = error.kind
    elif isinstance(error, FullError):
        code = "full"
    fields = {"found": error.found, "expected": error.expected, "next_step": error.next_step}
    return JSONResponse({"code": code, **fields}, status_code=status)
