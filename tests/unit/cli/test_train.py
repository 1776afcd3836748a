"""`lesionlens train`: what it refuses early, and what it says."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lesionlens.base.errors import UnusableInputError
from lesionlens.cli import train
from lesionlens.cli.console import StopRequest
from lesionlens.cli.finetune import finetune
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
    told = ["--out", str(tmp_path / "run"), "--recipe", str(recipe)]
    done = CliRunner().invoke(app, ["finetune", str(empty), *told])
    assert done.exit_code == 2
    assert "initial weights" in done.output or "another network" in done.output


@pytest.mark.parametrize(("loss", "said"), [(math.nan, "minutes"), (2.5, "loss 2.500")])
def test_without_a_step_there_is_no_loss(loss, said):
    done = TrainSummary(0, 6, False, 0.0, loss, Path("weights.safetensors"))
    assert train.output_of(done).output[0].endswith(said)


SUMMARY = TrainSummary(4, 6, False, 0.5, 2.5, Path("weights.safetensors"))


def test_a_resumed_training_says_from_where(monkeypatch):
    monkeypatch.setattr(train, "STOP", StopRequest())
    done = train.output_of(replace(SUMMARY, resumed_at=2))
    assert done.output[0] == "4 of 6 steps in 0.5 minutes (resumed from step 2), loss 2.500"
    assert (done.notes, done.status) == ((), 0)


def test_cases_that_make_figures_doubtful_are_named(monkeypatch):
    monkeypatch.setattr(train, "STOP", StopRequest())
    summary = replace(SUMMARY, trained_before=("a", "b\x1b"), differing=("c",))
    done = train.output_of(summary)
    before, differing = done.notes
    assert before.endswith("too good: a, b")
    assert differing.endswith("as they are now: c")


def test_a_stopped_training_has_the_status_of_an_interruption(monkeypatch):
    stop = StopRequest()
    stop.set()
    monkeypatch.setattr(train, "STOP", stop)
    done = train.output_of(SUMMARY)
    assert (done.status, len(done.notes)) == (130, 1)


def test_training_writes_nothing_among_the_cases(tmp_path):
    cases = tmp_path / "cases"
    cases.mkdir()
    for first, how in ((cases, {}), (tmp_path / "out" / "batch", {"studies": cases})):
        with pytest.raises(UnusableInputError):
            finetune(first, cases / "run", **how)
    assert not list(cases.iterdir())
