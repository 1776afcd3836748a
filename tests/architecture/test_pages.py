"""Pages that can be read in one sitting, and all of them on the site."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest
from tests.helpers.file_search import files_below

REPOSITORY = Path(__file__).resolve().parents[2]
DOCS = REPOSITORY / "docs"
PACKAGE = REPOSITORY / "src" / "lesionlens"
PAGES = [p for p in (*files_below(DOCS, "*.md"), *REPOSITORY.glob("*.md")) if p.stem != "CHANGELOG"]
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


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_modules_that_a_page_names_exist(page):
    roots = (REPOSITORY, REPOSITORY / "src", PACKAGE, PACKAGE / "napari")
    named = re.findall(r"`([a-z_]+(?:/[a-z_]+)+\.(?:py|toml|sh))\b", page.read_text("utf-8"))
    assert not [name for name in named if not any((root / name).exists() for root in roots)]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_a_table_is_apart_from_the_text_before_it(page):
    """Otherwise the site shows its rows as text."""
    lines = page.read_text("utf-8").splitlines()
    for number, line in enumerate(lines):
        if re.fullmatch(r" *\|(?: *:?-+:? *\|)+", line):
            before, heads = lines[number - 2 : number]
            assert not before.strip() or before.startswith("#"), line
            assert heads.index("|") == line.index("|"), heads


@cache
def sources() -> dict[str, str]:
    """Return the text of each module of the package by its dotted name; folders have none."""
    texts = {}
    for file in files_below(PACKAGE, "*.py"):
        name = ".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts)
        texts[name.removesuffix(".__init__")] = file.read_text("utf-8")
    return texts


def is_in_code(name: str) -> bool:
    """Return whether `package.name`, `module.name` or `Class.name` exists."""
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        head, names = ".".join(parts[:count]), parts[count:]
        for module, text in sources().items():
            is_here = f".{head}." in f".{module}." or f"class {head}" in text
            if is_here and all(re.search(rf"\b{part}\b", text) for part in names):
                return True
    return False


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_dotted_names_of_the_package_on_a_page_exist(page):
    own = {part for module in sources() for part in module.split(".")}
    named = re.findall(r"`((?:[A-Z]?\w+\.)+\w+)(?:\(.*?\))?`", page.read_text("utf-8"))
    ours = [n for n in named if n.split(".")[0] in own or re.match("[A-Z][a-z]+[A-Z]", n)]
    ours = [name for name in ours if not name.startswith("distributed.")]  # dask's
    files = re.compile(
        r"\.(py|jsonl?|md|toml|csv|html|gz|tsv|npz|dcm|sqlite|ya?ml|pdf|prom|sha256|txt|nii|glb|sh)$"
    )
    assert not [n for n in ours if not files.search(n) and not is_in_code(n)]


def anchors_of(page: Path) -> set[str]:
    """Return the anchors of a page, as the site makes them of its headings."""
    text = page.read_text("utf-8")
    titles = re.findall(r"^#+ (.*)", text, re.MULTILINE)
    made = {re.sub(r"\s+", "-", re.sub(r"[^\w\s-]", "", title).strip().lower()) for title in titles}
    return made | set(re.findall(r'id="([^"]+)"', text))


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_the_headings_that_a_page_links_to_exist(page):
    links = re.findall(r"\]\(([\w./-]*)#([\w-]+)\)", page.read_text("utf-8"))
    targets = [((page.parent / file).resolve() if file else page, anchor) for file, anchor in links]
    assert not [anchor for target, anchor in targets if anchor not in anchors_of(target)]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_a_list_or_table_after_a_paragraph_begins_after_a_blank_line(page):
    """Else the site shows it as running text."""
    code, before, glued = False, "", []
    for line in page.read_text("utf-8").splitlines():
        code ^= line.lstrip().startswith("```")
        begins = re.match(r"(- |\d{1,2}\. |\|)", line) and not code
        if begins and before and not re.match(r"(\s|- |\d+\. |\||#|```)", before):
            glued.append(line)
        before = line
    assert not glued
