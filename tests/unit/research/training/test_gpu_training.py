"""Training on a borrowed GPU: folds, and batches made on the device."""

import json
import sys

import numpy as np
import pytest
import torch

from lesionlens.base.errors import UnusableInputError, WeightsError
from lesionlens.network import weights
from lesionlens.network.build import build
from lesionlens.network.config import preset
from lesionlens.network.synth import anatomy
from lesionlens.network.synth.fields import RandomStreams
from lesionlens.network.synth.generator import GeneratorConfig
from lesionlens.network.weights_metadata import WeightsNotes
from lesionlens.training import losses
from lesionlens.training.config import DataConfig
from lesionlens.training.data import draw_packed
from lesionlens.training.stored_volumes import keep, read

CPU = torch.device("cpu")
SEED = 1234


@pytest.fixture(scope="module")
def gpu(script):
    patched = [(anatomy, "load_atlas"), (RandomStreams, "normal"), (losses, "set_loss")]
    before = [(owner, name, getattr(owner, name)) for owner, name in patched]
    with script("training.gpu_training") as module:
        yield module
    for owner, name, value in before:
        setattr(owner, name, value)


@pytest.fixture(scope="module")
def packed():
    return next(draw_packed(GeneratorConfig(shape=(44, 54, 43), spacing_mm=(4.0, 4.0)), SEED, 1))


@pytest.fixture(scope="module")
def tiny_weights(tmp_path_factory):
    file = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    network = build(preset("tiny"))
    weights.save(file, network.config, network.state_dict(), WeightsNotes())
    return file


@pytest.fixture
def pack(gpu, packed, tmp_path):
    rows = [
        {"case": name, "file": f"{name}.kept", "scans": [name]} for name in gpu.MAY_BE_TRAINED_ON
    ]
    (tmp_path / gpu.MANIFEST).write_text(json.dumps({"cases": rows}))
    for row in rows:
        keep(packed, tmp_path / row["file"])
    return tmp_path


def test_each_fold_leaves_a_fourth_out(gpu, pack):
    left_out = []
    for fold in range(gpu.FOLDS):
        trained_on = {row["case"] for row in gpu.packed_cases(pack, fold)}
        others = [row["case"] for row in gpu.packed_cases(pack, fold, left_out=True)]
        assert len(trained_on) == 9
        assert trained_on.isdisjoint(others)
        left_out += others
    assert sorted(left_out) == sorted(gpu.MAY_BE_TRAINED_ON)
    assert len(gpu.packed_cases(pack, None)) == 12


def test_a_case_that_may_not_be_trained_on_is_never_packed(gpu, tmp_path):
    (tmp_path / "BraTS2021_01660").mkdir()
    (tmp_path / "MSD_BRATS_001").mkdir()
    with pytest.raises(UnusableInputError, match="may be trained on"):
        gpu.pack(tmp_path, tmp_path / "pack")


def test_volumes_generated_on_the_device_equal_those_of_the_generator(gpu, packed):
    batches = sys.modules["research.training.gpu_batches"]
    grid = batches.Grid((44, 54, 43), (4.0, 4.0), geometries=1, paintings=1)
    piece = batches.SyntheticVolumes(GeneratorConfig(), grid, SEED, CPU).pieces(
        1, np.random.default_rng(0)
    )[0]
    np.testing.assert_array_equal(piece.channels, packed.channels)
    np.testing.assert_array_equal(piece.code, packed.code)
    np.testing.assert_array_equal(piece.instances, packed.instances)


def test_a_batch_contains_each_volume_completely_with_its_position(gpu, packed):
    batches = sys.modules["research.training.gpu_batches"]
    arrays = (torch.from_numpy(a) for a in (packed.channels, packed.code, packed.instances))
    piece = batches.Piece(*arrays, packed.present, packed.position_range)
    complete = DataConfig(complete=1.0)
    orientations = set()
    for seed in range(6):
        batch = batches.collate_pieces([piece], np.random.default_rng(seed), complete)
        assert int(batch.brain.sum()) == int((packed.code > 0).sum())
        for region, level in enumerate((1, 2, 3)):
            assert int(batch.labels[0, region].sum()) == int((packed.code > level).sum())
        inside = batch.brain[0].nonzero()
        shape = np.array(batch.brain.shape[1:])
        low, high = batch.position_range[0].numpy().T
        edges = np.stack([inside.amin(0), inside.amax(0) + 1]) / shape
        positions = low + (high - low) * edges
        assert np.abs(np.sort(np.abs(positions), 0) - 1).max() < 0.35  # within the stride's padding
        code = batch.labels[0].sum(0) + batch.brain[0]
        i, j, k = (
            slice(int(a), int(b) + 1) for a, b in zip(inside.amin(0), inside.amax(0), strict=True)
        )
        unmirrored = np.array_equal(code[i, j, k], packed.code)
        assert unmirrored or np.array_equal(code[i, j, k], packed.code[::-1])
        orientations.add(unmirrored)
    assert orientations == {True, False}


@pytest.mark.slow
def test_a_run_resumes_and_records_its_training_data(gpu, tiny_weights, pack, tmp_path):
    varied = tmp_path / "varied"
    assert gpu.main(["vary", "--pack", str(pack), "--out", str(varied), "--each", "1"]) == 0
    assert read(next((varied / gpu.MAY_BE_TRAINED_ON[0]).glob("*.kept"))).code.max() > 1
    out = tmp_path / "run"
    run = ["run", "--init", str(tiny_weights), "--pack", str(pack), "--varied", str(varied),
           "--fold", "1", "--batch", "2", "--device", "cpu", "--tiny",
           "--out", str(out)]  # fmt: skip
    assert gpu.main([*run, "--steps", "2"]) == 0
    first = weights.load(out / "weights.safetensors")
    assert gpu.main([*run, "--steps", "3"]) == 0
    second = weights.load(out / "weights.safetensors")
    assert (first[1].provenance["steps"], second[1].provenance["steps"]) == (2, 3)
    trained_on = {row["case"] for row in gpu.packed_cases(pack, 1)}
    assert set(second[1].trained_on) == trained_on
    changed = [
        n for n, p in first[0].state_dict().items() if not p.equal(second[0].state_dict()[n])
    ]
    assert changed
    assert second[1].provenance["data"] == "unknown, then 9 real cases of 9 patients"


def test_a_run_does_not_resume_with_other_weights_or_cases(gpu, tiny_weights, pack, tmp_path):
    out, other = tmp_path / "run", tmp_path / "other.safetensors"
    torch.manual_seed(1)
    network = build(preset("tiny"))
    notes = WeightsNotes(provenance={"data": "synthetic, then 12 real cases of 12 patients"})
    weights.save(other, network.config, network.state_dict(), notes)
    run = ["run", "--steps", "1", "--batch", "1", "--device", "cpu", "--tiny", "--out", str(out)]
    assert gpu.main([*run, "--init", str(other)]) == 0
    record = weights.load(out / "weights.safetensors")[1].provenance
    assert record["data"] == "synthetic, then 12 real cases of 12 patients, then synthetic"
    cases = ["--pack", str(pack), "--varied", str(tmp_path / "varied")]
    for options in (["--init", str(tiny_weights)], ["--init", str(other), *cases]):
        with pytest.raises(WeightsError, match="began with"):
            gpu.main([*run, *options])


@pytest.mark.parametrize("option", ["--pack", "--varied"])
def test_packed_cases_are_trained_on_with_their_varied_volumes(gpu, capsys, option):
    """The one without the other was ignored, or a TypeError once the weights were loaded."""
    with pytest.raises(SystemExit, match="2"):
        gpu.main(["run", "--init", "any.safetensors", "--out", "run", option, "folder"])
    assert "--pack and --varied belong together" in capsys.readouterr().err
