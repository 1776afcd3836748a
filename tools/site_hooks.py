"""Hooks of the site: links to files of the repository that the site does not show become text."""

from __future__ import annotations

import posixpath
import re
import sys
from typing import Any

from jupyter_client.connect import ConnectionFileMixin

_LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s#]*)(#[^)]*)?\)")


def on_startup(**_: Any) -> None:
    """Let notebooks talk to their kernels through files: over TCP, others here could listen."""
    if sys.platform != "win32":
        ConnectionFileMixin.transport.default_value = "ipc"


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Turn links that leave the folder of the pages into text."""
    folder = posixpath.dirname(page.file.src_uri)

    def on_site(match: re.Match[str]) -> str:
        leaves = posixpath.normpath(posixpath.join(folder, match[3])).startswith("..")
        return match[2] if leaves and "://" not in match[3] else match[0]

    return _LINK.sub(on_site, markdown)
