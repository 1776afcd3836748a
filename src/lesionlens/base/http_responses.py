"""What HTTP responses state about themselves."""

from __future__ import annotations

from collections.abc import Mapping

HTTPS_PORT = "Check the address: an https port responds like this to http"
"""Advice on a response with status 400 (bad request)."""
_NO_CONTENT = 204


def states_no_body(status: int, headers: Mapping[str, str]) -> bool:
    """Return whether a response without a body says so.

    A response that is cut within its header seems complete, without a body: nothing states where
    it ends.

    Parameters
    ----------
    headers : mapping of str to str
        Headers by name, whose case does not matter.
    """
    return (
        status == _NO_CONTENT
        or headers.get("Content-Length") == "0"
        or headers.get("Transfer-Encoding") == "chunked"
    )
