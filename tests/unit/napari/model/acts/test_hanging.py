"""Hanging by rule: the first rule that fits a study decides order, views and plane."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lesionlens.base.errors import ConfigError
from lesionlens.base.files import user_folders
from lesionlens.base.grid import Grid
from lesionlens.base.labels import MrSequence
from lesionlens.base.records.study import Series, Study, StudyKind
from lesionlens.napari.model.acts.hanging import HangingRule, read_rules, rule_for
from lesionlens.napari.model.acts.session import ReviewSession
from lesionlens.napari.model.acts.views import ViewActs
from lesionlens.napari.model.choices.views import Layout
from lesionlens.napari.model.geometry.planes import Plane
from lesionlens.napari.model.screen.board import tiles_of

T1, T1C, T2, FLAIR = MrSequence.T1, MrSequence.T1C, MrSequence.T2, MrSequence.FLAIR
GRID = Grid((8, 9, 10), np.eye(4))
SITE = """
[reading]
unaided_first = false
[[hanging]]
with = ["t1c", "flair"]
without = ["t2"]
show = ["flair", "t1c"]
views = "1x2"
plane = "coronal"
[[hanging]]
show = ["t2", "t1c", "flair"]
views = "1x3"
"""


def study(*sequences: MrSequence) -> Study:
    series = {
        one: Series(one, "named", 1.0, GRID, (), lambda: np.zeros(GRID.shape, np.float32))
        for one in sequences
    }
    return Study("a", StudyKind.NIFTI, series, Path())


@pytest.fixture
def folders(tmp_path, monkeypatch):
    for name in ("settings", "site_settings", "data"):
        place = tmp_path / name
        place.mkdir()
        monkeypatch.setattr(user_folders, name, lambda place=place: place)
    (tmp_path / "site_settings" / "settings.toml").write_text(SITE)
    return tmp_path


def opened(*sequences: MrSequence) -> ViewActs:
    acts = ViewActs(ReviewSession())
    acts.session.open(study(*sequences))
    acts.hang(None)
    return acts


def shown(acts: ViewActs) -> list[MrSequence]:
    state = acts.session.state
    return [tile.sequence for tile in tiles_of(state, state.choices.views.layout)]


def test_a_rule_of_the_site_hangs_what_it_says_by_what_is_there(folders):
    acts = opened(T1, T1C, FLAIR)
    assert shown(acts) == [FLAIR, T1C]
    assert acts.session.state.choices.plane is Plane.CORONAL
    acts = opened(T1, T1C, T2, FLAIR)
    assert shown(acts) == [T2, T1C, FLAIR]
    acts = opened(T1, FLAIR)
    assert shown(acts) == [FLAIR, T1]


def test_a_readers_rule_goes_first_and_may_leave_the_views_as_they_were_chosen(folders):
    (folders / "settings" / "hanging.toml").write_text('[[hanging]]\nshow = ["t1"]\n')
    acts = opened(T1, T1C, FLAIR)
    assert acts.session.state.choices.sequence is T1
    acts.show_layout(Layout.FOUR)
    again = opened(T1, T1C, FLAIR)
    assert shown(again)[0] is T1
    assert again.session.state.choices.views.layout is Layout.FOUR


def test_a_rule_opens_its_first_sequence_as_it_was_acquired(folders):
    """It was reformatted in the plane of the reference, or interpolated on napari's canvas."""
    (folders / "settings" / "hanging.toml").write_text('[[hanging]]\nshow = ["t2", "t1c"]\n')
    tilt = np.array([[0.5, 0, 0, 0], [0, 5.0, -0.2, 0], [0, 2.0, 0.5, 0], [0, 0, 0, 1.0]])
    grids = {T1C: Grid((9, 9, 9), np.diag([0.5, 0.5, 5.0, 1.0])), T2: Grid((9, 9, 9), tilt)}
    both = study(*grids)
    series = {one: replace(both.series[one], grid=grid) for one, grid in grids.items()}
    acts = ViewActs(ReviewSession())
    acts.session.open(replace(both, series=series))
    assert acts.session.state.choices.plane is Plane.AXIAL
    acts.hang(None)
    choices = acts.session.state.choices
    assert (choices.sequence, choices.plane) == (T2, Plane.CORONAL)
    assert choices.views.layout is Layout.ONE


def test_a_rule_that_speaks_of_another_kind_or_of_nothing_that_is_there_does_not_hold(folders):
    (folders / "settings" / "hanging.toml").write_text(
        '[[hanging]]\nkind = "dicom"\nshow = ["t1c"]\n[[hanging]]\nshow = ["t2"]\n'
    )
    (folders / "site_settings" / "settings.toml").unlink()
    assert rule_for(study(T1, T1C)) is None
    assert rule_for(replace(study(T1, T1C), kind=StudyKind.DICOM)) is not None


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ('[[hanging]]\nshow = ["pet"]\n', "pet"),
        ('[[hanging]]\nviews = "1x2"\n', "shows nothing"),
        ('[[hanging]]\nshow = ["t1"]\nviews = "5x5"\n', "5x5"),
        ('[[hanging]]\nshow = ["t1"]\nlayout = "1x2"\n', "layout"),
        ("[[hanging]]\nshow = 5\n", "`show`, which is not a list"),
        ('[[hanging]]\nshow = ["t1"]\nwith = "t1c"\n', "`with`, which is not a list"),
        ('[[Hanging]]\nshow = ["t1"]\n', "Hanging"),
        ('show = ["t1"]\nviews = "1x2"\n', "show"),
        ('hanging = "t1"\n', "not a list"),
        ("[[hanging\n", "hanging.toml"),
        ("[reading]\nunaided_first = true\n", "reading"),  # of the site's file alone
    ],
)
def test_a_wrong_rule_is_named_and_the_study_opens_all_the_same(folders, text, named):
    file = folders / "settings" / "hanging.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=named):
        read_rules(file)
    acts = opened(T1, T1C, FLAIR)
    assert acts.session.state.study is not None
    assert named in acts.session.state.message


def test_a_wrong_rule_is_named_beside_the_views_that_were_chosen_last(folders):
    """The choice of those views cleared the message."""
    opened(T1, T1C, FLAIR).show_layout(Layout.FOUR)
    (folders / "settings" / "hanging.toml").write_text('[[hanging]]\nshow = ["pet"]\n')
    acts = opened(T1, T1C, FLAIR)
    assert acts.session.state.choices.views.layout is Layout.FOUR
    assert "pet" in acts.session.state.message


def test_a_rule_fits_a_study_with_exactly_the_sequences_that_it_names():
    rule = HangingRule((T1C,), present=frozenset({T1C, FLAIR}), absent=frozenset({T2}))
    assert rule.fits(study(T1C, FLAIR))
    assert rule.fits(study(T1, T1C, FLAIR))
    assert not rule.fits(study(T1C))
    assert not rule.fits(study(T1C, T2, FLAIR))
    assert not replace(rule, show=(T1,)).fits(study(T1C, FLAIR))
