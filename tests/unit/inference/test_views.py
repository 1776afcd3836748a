"""Which views vote."""

from itertools import combinations

import pytest

from lesionlens.base.labels import MrSequence
from lesionlens.inference import views

SUBSETS = [frozenset(chosen) for size in range(1, 5) for chosen in combinations(MrSequence, size)]
RULES = (views.of_whole_tumour, views.of_core, views.of_glance)


@pytest.mark.parametrize("shown", SUBSETS, ids=lambda s: "+".join(sorted(s)))
@pytest.mark.parametrize("rule", RULES, ids=lambda r: r.__name__)
def test_views_show_nothing_that_is_not_there_and_count_once(rule, shown):
    found = rule(shown)
    assert found[0] == shown
    assert len(set(found)) == len(found)
    assert all(view and view <= shown for view in found)


def test_enhancement_is_judged_only_by_views_that_hold_t1c():
    for view in views.of_core(frozenset(MrSequence)):
        assert MrSequence.T1C in view


def test_without_flair_the_study_speaks_for_itself():
    shown = frozenset({MrSequence.T1, MrSequence.T1C, MrSequence.T2})
    assert all(rule(shown) == (shown,) for rule in RULES)


def test_nothing_shown_is_one_view_of_nothing():
    assert all(rule(frozenset()) == (frozenset(),) for rule in RULES)
