"""Which views vote."""

from itertools import combinations

import pytest

from lesionlens.base.labels import MrSequence
from lesionlens.engines.lens.ensemble import whole_tumour_views

SUBSETS = [frozenset(chosen) for size in range(1, 5) for chosen in combinations(MrSequence, size)]


@pytest.mark.parametrize("shown", SUBSETS, ids=lambda s: "+".join(sorted(s)))
def test_views_show_nothing_that_is_not_there_and_count_once(shown):
    found = whole_tumour_views(shown)
    assert found[0] == shown
    assert len(set(found)) == len(found)
    assert all(view and view <= shown for view in found)


def test_flair_has_a_vote_of_its_own_where_there_is_more():
    flair = frozenset({MrSequence.FLAIR})
    for shown in SUBSETS:
        assert (flair in whole_tumour_views(shown)) == (MrSequence.FLAIR in shown)


def test_nothing_shown_is_one_view_of_nothing():
    assert whole_tumour_views(frozenset()) == (frozenset(),)
