"""Training goes on where it stopped."""

import dataclasses
import json
import math
import sys

import pytest
import torch

from lesionlens.base.errors import ConfigError, ResourceError, UnusableInputError, WeightsError
from lesionlens.network import weights
from lesionlens.network.lens_net import TINY, LensNetwork
from lesionlens.network.weights import WeightsNotes
from lesionlens.training import loop
from lesionlens.training.config import parse_config
from lesionlens.training.data import SynthSource
from lesionlens.training.loop import TrainOptions, train
from lesionlens.training.training_run import check_same_recipe, recipe_record

from .runs import average_of, small_recipe

RECIPE = small_recipe(2, 6.0)
AT_ONCE = TrainOptions(minutes=0)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    out = tmp_path_factory.mktemp("run")
    return train(RECIPE, out), out


def test_a_run_ends_with_weights(uninterrupted):
    summary, out = uninterrupted
    assert summary.finished
    assert summary.step == 2
    _, info = weights.load(summary.weights)
    assert info.provenance["data"] == "synthetic only"
    assert set(average_of(out)) == set(weights.load(summary.weights)[0].state_dict())


def test_a_resumed_run_ends_as_an_uninterrupted_one(uninterrupted, tmp_path):
    half = dataclasses.replace(RECIPE, stages=(dataclasses.replace(RECIPE.stages[0], steps=1),))
    assert train(half, tmp_path).step == 1
    train(RECIPE, tmp_path)
    resumed = average_of(tmp_path)
    for name, value in average_of(uninterrupted[1]).items():
        torch.testing.assert_close(resumed[name], value, rtol=1e-3, atol=1e-4)


def stages_of(*spacings_mm, steps=2):
    """Return a recipe with a stage of each spacing."""
    stage = RECIPE.stages[0]
    stages = [dataclasses.replace(stage, steps=steps, spacing_mm=(mm, mm)) for mm in spacings_mm]
    return dataclasses.replace(RECIPE, stages=tuple(stages))


def test_a_run_that_stops_in_its_second_stage_ends_as_an_uninterrupted_one(tmp_path, monkeypatch):
    closed, close, events = [], SynthSource.close, []
    monkeypatch.setattr(SynthSource, "close", lambda source: closed.append(source) or close(source))
    monkeypatch.setattr(loop, "_REPORT_EVERY", 1)
    recipe = stages_of(6.0, 5.0)
    assert train(recipe, tmp_path / "whole", on_step=events.append).finished
    assert len(set(closed)) == 2
    assert [(event.step, event.stage) for event in events] == [(1, 0), (2, 0), (3, 1), (4, 1)]
    cut = dataclasses.replace(recipe.stages[1], steps=1)
    out = tmp_path / "cut"
    train(dataclasses.replace(recipe, stages=(recipe.stages[0], cut)), out)
    for stages, changed in (
        (
            (dataclasses.replace(recipe.stages[0], steps=1), cut),
            r"stages\[1\]\.steps was 2 and is 1",
        ),
        (stages_of(6.0, 5.5).stages, r"stages\[2\]\.spacing_mm was \[5\.0, 5\.0\]"),
    ):
        with pytest.raises(WeightsError, match=changed):
            train(dataclasses.replace(recipe, stages=stages), out, AT_ONCE)
    assert train(recipe, out).resumed_at == 3
    resumed = average_of(out)
    for name, value in average_of(tmp_path / "whole").items():
        torch.testing.assert_close(resumed[name], value, rtol=1e-3, atol=1e-4)


def test_a_step_without_a_finite_loss_is_skipped_and_its_loss_is_not_averaged(
    tmp_path, monkeypatch, caplog
):
    whole, factors = SynthSource.batch, iter((1.0, float("nan"), 1.0))

    def batch(source, size):
        drawn = whole(source, size)
        return drawn._replace(channels=drawn.channels * next(factors))

    monkeypatch.setattr(SynthSource, "batch", batch)
    recipe = small_recipe(3, 6.0)
    assert TINY.lesions  # whose queries are matched before the loss is known
    summary = train(recipe, tmp_path)
    assert summary.step == 3
    assert math.isfinite(summary.loss)
    assert caplog.text.count("no finite loss and is skipped") == 1
    assert all(bool(value.isfinite().all()) for value in average_of(tmp_path).values())


def _counted(run, value):
    run.step += 1
    return value, {}


def test_patches_train_and_set_the_focus(tmp_path, monkeypatch):
    patches = {"share": 0.5, "shape": [40, 48, 40], "spacing_mm": [4, 5], "window": [24, 24, 24]}
    stage = {"steps": 4, "shape": [32, 40, 32], "spacing_mm": [5.0, 6.0], "batch": 1}
    table = {"network": "tiny", "validation_volumes": 0, "data": {"workers": 0}}
    recipe = parse_config(table | {"stages": [stage | {"patches": patches}]})
    monkeypatch.setattr(loop, "_REPORT_EVERY", 1)
    summary = train(recipe, tmp_path)
    assert summary.finished
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [row["shown"] for row in rows] == [1, 2, 3, 4]  # of whole brains and of patches
    assert rows[-1]["drawn"] >= 2
    assert weights.load(summary.weights)[1].focus_spacing_mm == pytest.approx(4.5)


def test_weights_without_lesion_queries_may_be_gone_on_from(tmp_path):
    old = dataclasses.replace(TINY, lesions=0)
    notes = WeightsNotes(spacing_mm=2.0)
    weights.save(tmp_path / "old.safetensors", old, LensNetwork(old).state_dict(), notes)
    recipe = dataclasses.replace(RECIPE, init=str(tmp_path / "old.safetensors"))
    train(recipe, tmp_path / "run", AT_ONCE)
    network, _ = weights.load(tmp_path / "run/weights.safetensors")
    start, _ = weights.load(tmp_path / "old.safetensors")
    assert network.config.lesions == TINY.lesions
    torch.testing.assert_close(network.queries.query, start.queries.query)


def test_a_finished_run_stays_finished(uninterrupted):
    summary, out = uninterrupted
    assert train(RECIPE, out).step == summary.step


def test_no_minutes_no_step(tmp_path):
    summary = train(RECIPE, tmp_path, AT_ONCE)
    assert summary.step == 0
    assert not summary.finished


def test_a_checkpoint_of_another_network_is_refused(uninterrupted):
    with pytest.raises(WeightsError, match='network "tiny"'):
        train(dataclasses.replace(RECIPE, network="base"), uninterrupted[1])


def test_a_log_that_cannot_be_written_is_reported(tmp_path):
    with pytest.raises(ResourceError, match="last checkpoint is intact"):
        loop._append_row(tmp_path, {"step": 1})


@pytest.mark.skipif(sys.platform == "win32", reason="folders have no locks there")
def test_a_second_training_in_the_folder_is_refused_until_the_first_ends(tmp_path, monkeypatch):
    """Each deleted the other's checkpoint; the first ended hours later for "lack of room"."""

    def again(event):
        with pytest.raises(UnusableInputError, match="another training running in 'run'"):
            train(RECIPE, tmp_path / "run")
        asked.append(event.step)

    asked = []
    monkeypatch.setattr(loop, "_REPORT_EVERY", 2)
    train(RECIPE, tmp_path / "run", on_step=again)
    assert asked == [2]
    assert train(RECIPE, tmp_path / "run").finished


def test_training_starts_from_weights(uninterrupted, tmp_path):
    summary, out = uninterrupted
    started = dataclasses.replace(RECIPE, init=str(summary.weights))
    train(started, tmp_path, AT_ONCE)
    again = average_of(tmp_path)
    for name, value in average_of(out).items():
        torch.testing.assert_close(again[name], value)


def test_validation_writes_a_line(tmp_path):
    every = dataclasses.replace(RECIPE, checkpoint_minutes=0.0, validation_volumes=2)
    once = dataclasses.replace(every, stages=(dataclasses.replace(RECIPE.stages[0], steps=1),))
    train(once, tmp_path)
    row = json.loads((tmp_path / "validation.jsonl").read_text().splitlines()[0])
    assert row["step"] == 1
    assert 0 <= row["wt"] <= 1


def test_a_run_learns(tmp_path):
    config = dataclasses.replace(RECIPE, stages=(dataclasses.replace(RECIPE.stages[0], steps=8),))
    batch = SynthSource(config.draw, config.stages[0], config.data, 1, 0).batch(1)
    run = loop._create_run(config, tmp_path, TrainOptions(resume=False))
    loop._resume(run, resume=False)
    losses = [loop.train_step(run, batch)[0] for _ in range(8)]
    assert losses[-1] < losses[0]


def test_a_run_goes_on_only_from_the_weights_that_it_began_with(uninterrupted, tmp_path):
    summary, _ = uninterrupted
    network, notes = weights.load(summary.weights)
    start = tmp_path / "weights.safetensors"
    weights.save(start, network.config, network.state_dict(), notes)
    begun = dataclasses.replace(RECIPE, init=str(start))
    made = train(begun, tmp_path / "run", AT_ONCE).weights
    assert weights.load(made)[1].provenance["parent_sha256"] == weights.load(start)[1].sha256
    other = dataclasses.replace(notes, trained_on=("a scan",))
    weights.save(start, network.config, network.state_dict(), other)
    with pytest.raises(WeightsError, match="initial weights that differ from those"):
        train(begun, tmp_path / "run", AT_ONCE)
    train(begun, tmp_path / "run", dataclasses.replace(AT_ONCE, resume=False))


def test_initial_weights_that_are_missing_are_named(tmp_path):
    with pytest.raises(ConfigError, match=r"no file 'gone\.safetensors', which the recipe names"):
        train(dataclasses.replace(RECIPE, init="gone.safetensors"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("data", "after"),
    [
        ("synthetic only", "synthetic only"),
        (
            "synthetic, then 12 real cases of 12 patients",
            "synthetic, then 12 real cases of 12 patients, then synthetic",
        ),
        (None, "unknown, then synthetic"),
    ],
)
def test_weights_say_what_their_initial_ones_were_trained_on(uninterrupted, tmp_path, data, after):
    network, notes = weights.load(uninterrupted[0].weights)
    start = tmp_path / "start.safetensors"
    notes = dataclasses.replace(notes, provenance={} if data is None else {"data": data})
    weights.save(start, network.config, network.state_dict(), notes)
    made = train(dataclasses.replace(RECIPE, init=str(start)), tmp_path / "run", AT_ONCE).weights
    assert weights.load(made)[1].provenance["data"] == after


def test_initial_weights_may_lie_in_another_folder_but_have_another_name_never():
    begun = dataclasses.replace(RECIPE, init="here/default.safetensors")
    record = recipe_record(begun)
    moved = dataclasses.replace(RECIPE, init="there/default.safetensors")
    check_same_recipe(record, moved, step=1)
    for other in ("here/synthetic.safetensors", None):
        with pytest.raises(WeightsError, match="init was default"):
            check_same_recipe(record, dataclasses.replace(RECIPE, init=other), step=1)


def test_a_changed_recipe_is_refused_by_name_and_later_stages_may_change(uninterrupted, caplog):
    _, out = uninterrupted
    faster = dataclasses.replace(RECIPE.optimiser, rate=RECIPE.optimiser.rate / 2)
    with pytest.raises(WeightsError, match=r"optimiser\.rate was .* and is .*"):
        train(dataclasses.replace(RECIPE, optimiser=faster), out)
    caplog.set_level("INFO", "lesionlens")
    summary = train(
        dataclasses.replace(RECIPE, stages=(*RECIPE.stages, RECIPE.stages[0])), out, AT_ONCE
    )
    assert summary.resumed_at == RECIPE.steps
    assert f"continuing from step {RECIPE.steps} of" in caplog.text
