"""Hooks of the site: pages that lie at the root, and links that hold in the repository and here.

A link to a file that the site does not show, such as a script, becomes plain text.
"""

from __future__ import annotations

import posixpath
import re
import sys
from pathlib import Path
from typing import Any

from jupyter_client.connect import ConnectionFileMixin
from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[1]
PAGES = (
    "ARCHITECTURE.md", "CHANGELOG.md", "CODE_OF_CONDUCT.md",
    "CONTRIBUTING.md", "GOVERNANCE.md", "SECURITY.md",
)  # fmt: skip
_LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s#]*)(#[^)]*)?\)")


def on_startup(**_: Any) -> None:
    """Let notebooks talk to their kernels through files: over TCP, others here could listen."""
    if sys.platform != "win32":
        ConnectionFileMixin.transport.default_value = "ipc"


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that lie at the root."""
    for name in PAGES:
        text = (ROOT / name).read_text("utf-8")
        files.append(File.generated(config, f"project/{name}", content=text))
    return files


def on_page_markdown(markdown: str, page: Any, files: Any, **_: Any) -> str:
    """Point each link at the page's place on the site."""
    here = page.file.src_uri
    source = here.removeprefix("project/") if here.startswith("project/") else f"docs/{here}"

    def on_site(match: re.Match[str]) -> str:
        mark, text, target, anchor = match[1], match[2], match[3], match[4] or ""
        if not target or "://" in target or target.startswith("mailto:"):
            return match[0]
        place = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        uri = f"project/{place}" if place in PAGES else place.removeprefix("docs/")
        if place == "README.md":
            uri = "index.md"
        if files.get_file_from_path(uri) is None:
            return text
        return f"{mark}[{text}]({posixpath.relpath(uri, posixpath.dirname(here) or '.')}{anchor})"

    return _LINK.sub(on_site, markdown)
