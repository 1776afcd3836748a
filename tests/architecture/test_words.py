"""What must not stand in a file that others read."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from tests.helpers.file_search import files_below

REPOSITORY = Path(__file__).resolve().parents[2]
TEXT = {".py", ".md", ".toml", ".yaml", ".yml", ".sh", ".txt", ".html", ".json", ".cfg", ""}
FORBIDDEN = {
    "an absolute path of one machine": re.compile(r"(?<![\w.])/(?:home|root|work|Users|opt)/\w"),
    "a number of our own tracker": re.compile(r"\b(?:issue|fixes|closes|see) #\d+", re.IGNORECASE),
    "a package host": re.compile(r"(?:index-url|find-links|download\.pytorch)", re.IGNORECASE),
    "a note to finish later": re.compile(r"\b(?:TODO|FIXME|XXX|HACK)\b"),
}
IMAGES = REPOSITORY / "packaging"
"""Paths there are those of an image, the same wherever it runs."""
SAYS_NEVER = re.compile(
    r"\bno (?:evidence of )?(?:tumou?r|lesion|disease)\b|"
    r"\b(?:healthy|unremarkable|normal(?! ?[;}]))\b",
    re.IGNORECASE,
)
"""What no report may say."""


def tracked() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    paths = (REPOSITORY / name for name in listed.stdout.split("\0") if name)
    return [p for p in paths if p.is_file() and not p.is_symlink() and p.suffix in TEXT]


@pytest.mark.parametrize("what", FORBIDDEN)
def test_no_file_holds(what):
    me = Path(__file__).resolve()
    found = [
        f"{path.relative_to(REPOSITORY)}:{number}"
        for path in tracked()
        if path != me and not (what.startswith("an absolute") and path.is_relative_to(IMAGES))
        for number, line in enumerate(path.read_text("utf-8", "replace").splitlines(), 1)
        if FORBIDDEN[what].search(line)
    ]
    assert not found


def test_no_template_says_that_there_is_nothing():
    templates = files_below(REPOSITORY / "src" / "lesionlens", "*.html.j2")
    assert not [p.name for p in templates if SAYS_NEVER.search(p.read_text("utf-8"))]
