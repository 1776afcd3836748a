"""Pages that can be read in one sitting, and all of them on the site."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.files_below import files_below

REPOSITORY = Path(__file__).resolve().parents[2]
DOCS = REPOSITORY / "docs"
MAX_WORDS = 2000
NAV = (REPOSITORY / "mkdocs.yml").read_text("utf-8")


@pytest.mark.parametrize("page", files_below(DOCS, "*.md"), ids=lambda p: p.stem)
def test_a_page_is_no_book_and_stands_on_the_site(page):
    words = len(page.read_text("utf-8").split())
    assert words <= MAX_WORDS
    assert f": {page.relative_to(DOCS).as_posix()}\n" in NAV


def test_every_picture_is_shown_and_small():
    text = "".join(page.read_text("utf-8") for page in files_below(DOCS, "*.md"))
    shown = set(re.findall(r"pictures/([\w-]+\.\w+)", text))
    there = {path.name: path.stat().st_size for path in files_below(DOCS / "pictures")}
    assert set(there) == shown
    most = {".png": 320_000, ".webm": 1_500_000}
    assert not [name for name, size in there.items() if size > most[Path(name).suffix]]


@pytest.mark.parametrize("page", files_below(DOCS, "*.md"), ids=lambda p: p.stem)
def test_modules_that_a_page_names_exist(page):
    roots = (REPOSITORY, REPOSITORY / "src", REPOSITORY / "src" / "lesionlens")
    named = re.findall(r"`([a-z_]+(?:/[a-z_]+)+\.(?:py|toml|sh))`", page.read_text("utf-8"))
    assert not [name for name in named if not any((root / name).exists() for root in roots)]
