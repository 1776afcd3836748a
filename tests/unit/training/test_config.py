"""Recipes are typed."""

import pytest

from lesionlens.base.errors import ConfigError
from lesionlens.training.config import RECIPES, parse_config, read_config

STAGE = {"steps": 3, "shape": [32, 40, 32], "spacing_mm": [4.0, 5]}


def test_a_recipe_is_read():
    config = parse_config({"stages": [STAGE], "network": "tiny", "optimiser": {"rate": 1e-3}})
    assert config.stages[0].spacing_mm == (4.0, 5.0)
    assert config.optimiser.rate == 1e-3
    assert config.steps == 3


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.toml")), ids=lambda p: p.stem)
def test_shipped_recipes_are_valid(path):
    assert read_config(path).steps > 0


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"stages": [STAGE], "sead": 1}, 'unknown key "sead"'),
        ({"stages": [STAGE], "loss": {"dice": 1}}, r'unknown key "dice" in recipe\.loss'),
        ({"stages": [STAGE | {"batch": "two"}]}, "a value of type int"),
        ({"stages": [STAGE | {"batch": True}]}, "a value of type int"),
        ({"stages": [STAGE | {"shape": [1, 2]}]}, "2 entries"),
        ({"stages": [{"steps": 1}]}, 'no "shape"'),
        ({"stages": []}, "no stage"),
        ({"stages": [STAGE], "network": "huge"}, "tiny"),
        ({}, 'no "stages"'),
        ({"stages": 3}, "a list"),
        ({"stages": [STAGE | {"steps": 0}]}, r"0 in recipe\.stages\.steps.*1 or more"),
        ({"stages": [STAGE | {"batch": -1}]}, r"stages\.batch.*1 or more"),
        ({"stages": [STAGE | {"shape": [0, 40, 32]}]}, r"stages\.shape.*8 or more"),
        ({"stages": [STAGE | {"spacing_mm": [0.0, 2.0]}]}, r"spacing_mm.*0\.1 to 10"),
        ({"stages": [STAGE | {"spacing_mm": [5.0, 4.0]}]}, "the smaller edge first"),
        ({"stages": [STAGE | {"rate": [float("nan"), 1.0]}]}, r"nan in recipe\.stages\.rate"),
        ({"stages": [STAGE], "optimiser": {"rate": float("inf")}}, "inf in .*0 or more"),
        ({"stages": [STAGE], "optimiser": {"average": 2.0}}, "0 to 1"),
        ({"stages": [STAGE], "data": {"workers": -1}}, r"data\.workers.*0 or more"),
        ({"stages": [STAGE], "data": {"held_out": 2.0}}, r"data\.held_out.*0 to 1"),
        ({"stages": [STAGE], "draw": {"kinds": {"plaques": -0.5}}}, r"kinds\.plaques.*0 to 1"),
        ({"stages": [STAGE], "draw": {"shape": [8, 8, 8]}}, r'"shape" in recipe\.draw.*stages'),
        ({"stages": [STAGE], "seed": -1}, r"-1 in recipe\.seed"),
        (
            {"stages": [STAGE], "data": {"without_t1c": 0.5}},
            r"share of 0\.5 in recipe\.data\.without_t1c.*0\.24 or less beside complete and single",
        ),
        (
            {"stages": [STAGE], "data": {"complete": 0.8, "single": [0.1, 0.1, 0.1, 0.1]}},
            r"0\.4 in recipe\.data\.single.*0\.2 or less beside complete",
        ),
        (
            {"stages": [STAGE], "draw": {"kinds": {"metastases": 0.7, "meningioma": 0.6}}},
            r"0\.6 in recipe\.draw\.kinds\.meningioma.*0\.3 or less beside metastases",
        ),
        ({"stages": [STAGE], "loss": 3}, "a table"),
    ],
)
def test_a_wrong_recipe_is_refused_with_the_place(table, message):
    with pytest.raises(ConfigError, match=message):
        parse_config(table)


def test_shares_may_leave_nothing_for_those_that_a_recipe_does_not_name():
    assert parse_config({"stages": [STAGE], "data": {"complete": 1.0}}).data.complete == 1.0
    tenths = {"complete": 0.7, "single": [0.1, 0.1, 0.1, 0.0], "without_t1c": 0.0}
    assert parse_config({"stages": [STAGE], "data": tenths}).data.complete == 0.7


def test_a_file_that_is_no_toml_is_refused(tmp_path):
    path = tmp_path / "r.toml"
    path.write_text("= 3")
    with pytest.raises(ConfigError, match="not TOML"):
        read_config(path)
    with pytest.raises(ConfigError, match="no file"):
        read_config(tmp_path / "none.toml")


def test_steps_belong_to_stages():
    config = parse_config({"stages": [STAGE, STAGE | {"steps": 2}]})
    assert [config.stage_at(s) for s in (0, 2, 3, 4, 9)] == [(0, 0), (0, 2), (1, 0), (1, 1), (1, 6)]
