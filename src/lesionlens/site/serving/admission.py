"""Authentication of clients by API key."""

from __future__ import annotations

import hmac
from dataclasses import dataclass

from fastapi import Request
from starlette.datastructures import Headers

from lesionlens.site.serving.error_responses import RefusedError
from lesionlens.site.serving.sessions import owner_of


@dataclass(frozen=True, slots=True)
class Admission:
    """API keys and host names."""

    keys: tuple[str, ...] = ()
    """Valid API keys; empty if none is required."""
    hosts: tuple[str, ...] = ()
    """Accepted host names, so that no web page reaches the server through a browser; empty for any.
    """

    def opens(self, key: str) -> bool:
        """Return whether a key is valid, in constant time."""
        matches = [hmac.compare_digest(key.encode(), valid.encode()) for valid in self.keys]
        return any(matches)


def client_identity(headers: Headers, admission: Admission) -> str:
    """Return the client's identity by the key in the headers.

    Raises
    ------
    RefusedError
        The client is a web page, or has no valid key.
    """
    if "origin" in headers:
        raise RefusedError(
            found="a request from a web page",
            expected="a request from a program",
            next_step="Use LesionLens itself",
        )
    if not admission.keys:
        return owner_of(None)
    scheme, _, key = headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not admission.opens(key):
        raise no_key()
    return owner_of(key)


def admitted(request: Request) -> str:
    """Return the client's identity; the gate has verified the key already."""
    return str(request.state.owner)


def no_key() -> RefusedError:
    """Return the response to a request without a valid key."""
    return RefusedError(
        found="no key, or a wrong one", expected="a key of this server", next_step="Name it"
    )
