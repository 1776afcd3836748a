"""What HTTP responses state about themselves."""

from __future__ import annotations

from collections.abc import Mapping

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
