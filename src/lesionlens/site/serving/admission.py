"""Who may ask the server, and how they show it."""

from __future__ import annotations

import hmac
from dataclasses import dataclass

from fastapi import Request

from lesionlens.base.errors import LesionLensError
from lesionlens.site.serving.sessions import owner_of


@dataclass(frozen=True, slots=True)
class Admission:
    """Who may ask."""

    keys: tuple[str, ...] = ()
    """Any of them opens; empty where none is asked for."""
    hosts: tuple[str, ...] = ()
    """Names under which the server answers, so that no web page reaches it through a browser; empty
    for any."""


class RefusedError(LesionLensError):
    """No key, or a wrong one."""


def admitted(request: Request) -> str:
    """Return who asks, by the key; refuse who has none."""
    admission: Admission = request.app.state.admission
    if "origin" in request.headers:
        raise RefusedError(
            found="a request of a web page",
            expected="one of a program",
            next_step="Use LesionLens itself",
        )
    if not admission.keys:
        return owner_of(None)
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    right = [hmac.compare_digest(given.encode(), key.encode()) for key in admission.keys]
    if scheme.lower() != "bearer" or not any(right):
        raise RefusedError(
            found="no key, or a wrong one", expected="one of this server's", next_step="Name it"
        )
    return owner_of(given)
