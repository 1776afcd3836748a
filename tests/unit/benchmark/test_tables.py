"""A page keeps what people wrote."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lesionlens.base.errors import UnusableInputError
from lesionlens.benchmark.tables import between, put_between

TEXT = st.text(st.characters(exclude_characters="<>\r", exclude_categories=["Cs"]))


@given(TEXT, TEXT, TEXT)
def test_only_what_is_between_the_markers_changes(before, after, text):
    page = f"{before}<!-- t: begin -->old<!-- t: end -->{after}"
    new = between(page, "t", text)
    assert new.startswith(before)
    assert new.endswith(after)
    assert text.strip() in new
    assert between(new, "t", text) == new


def test_a_page_is_made_and_others_tables_stay(tmp_path):
    page = tmp_path / "RESULTS.md"
    put_between(page, "a", "| 1 |")
    put_between(page, "b", "| 2 |")
    put_between(page, "a", "| 3 |")
    assert "| 3 |" in page.read_text()
    assert "| 2 |" in page.read_text()
    assert "| 1 |" not in page.read_text()
    assert [p.name for p in tmp_path.iterdir()] == ["RESULTS.md"]


@pytest.mark.parametrize("page", ["<!-- t: begin -->", "<!-- t: end --><!-- t: begin -->"])
def test_broken_markers_are_refused(page):
    with pytest.raises(UnusableInputError, match="Mend the markers"):
        between(page, "t", "x")
