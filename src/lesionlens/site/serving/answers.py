"""An error as JSON that a client turns into the same error again."""

from __future__ import annotations

from fastapi.responses import JSONResponse

from lesionlens.base.errors import (
    FullError,
    GoneError,
    LesionLensError,
    ServerError,
    UnusableInputError,
)


class RefusedError(LesionLensError):
    """No key, or a wrong one."""


class NotFoundError(LesionLensError):
    """Nothing of that name is offered."""


class TooLargeError(UnusableInputError):
    """More than the server reads at once."""


_STATUS: tuple[tuple[type[LesionLensError], int], ...] = (
    (RefusedError, 401),
    (NotFoundError, 404),
    (GoneError, 404),
    (FullError, 503),
    (TooLargeError, 413),
    (UnusableInputError, 422),
    (ServerError, 400),
)


def explained(error: LesionLensError) -> JSONResponse:
    """Return the answer to a request that cannot be answered otherwise."""
    status = next((number for cls, number in _STATUS if isinstance(error, cls)), 500)
    code = type(error).__name__
    if isinstance(error, GoneError):
        code = error.what
    elif isinstance(error, FullError):
        code = "full"
    words = {"found": error.found, "expected": error.expected, "next_step": error.next_step}
    return JSONResponse({"code": code, **words}, status_code=status)
