"""`lesionlens train`: what it refuses early, and what it says."""

import math
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lesionlens.cli import train
from lesionlens.cli.main import app
from lesionlens.training.loop import TrainSummary


@pytest.mark.parametrize("init", ["none.safetensors", None])
def test_a_recipe_that_fits_no_weights_is_refused_before_any_case_is_read(init, tmp_path):
    """Finding the cases and comparing their scans took minutes before that."""
    recipe, empty = tmp_path / "recipe.toml", tmp_path / "cases"
    empty.mkdir()
    begun = f'init = "{init}"' if init else 'network = "large"'
    stage = "{steps = 2, shape = [32, 40, 32], spacing_mm = [5.0, 5.0]}"
    recipe.write_text(f"{begun}\nstages = [{stage}]\n")
    told = ["--out", str(tmp_path / "run"), "--finetune", str(empty)]
    done = CliRunner().invoke(app, ["train", str(recipe), *told])
    assert done.exit_code == 2
    assert "initial weights" in done.output or "another network" in done.output


@pytest.mark.parametrize(("loss", "said"), [(math.nan, "minutes"), (2.5, "loss 2.500")])
def test_without_a_step_there_is_no_loss(loss, said):
    done = TrainSummary(0, 6, False, 0.0, loss, Path("weights.safetensors"))
    assert train._output(done).output[0].endswith(said)
