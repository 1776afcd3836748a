"""A network learns to outline the resection cavity where references tell it apart."""

import dataclasses
import json
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import torch
from tests.phantoms.files import write_nifti
from typer.testing import CliRunner

from lesionlens.base.labels import Label, Region
from lesionlens.cli.main import app
from lesionlens.engines.lens import CAVITY_NOTICE
from lesionlens.network import weights
from lesionlens.network.lens_net import TINY, LensNetwork
from lesionlens.network.normalise import with_presence
from lesionlens.network.synth.generator import GeneratorConfig, draw
from lesionlens.network.synth.instances import CAVITY
from lesionlens.network.weights import WeightsNotes
from lesionlens.testing import make_patient
from lesionlens.training.config import DataConfig, LossConfig, OptimiserConfig, TrainConfig
from lesionlens.training.data import Packed, collate
from lesionlens.training.initial_network import initial_network
from lesionlens.training.losses import lens_loss, targets
from lesionlens.training.optimiser import Optimiser
from lesionlens.training.set_loss import instance_targets
from lesionlens.training.validate import cavity_dice, validate_each

pytestmark = pytest.mark.usefixtures("coarse")
TREATED = GeneratorConfig(shape=(32, 40, 32), spacing_mm=(5.0, 5.0), cavity=1.0)
NAMES = ("BraTS-GLI-00001-000", "BraTS-GLI-00002-000")
MORE = len(Region)


def _brain(corner, tumour=False):
    """A cube of brain, a dark cavity in a corner, and a tumour in the middle or none."""
    shape = (24, 24, 24)
    code, parts = np.ones(shape, np.uint8), np.zeros(shape, np.uint8)
    parts[corner : corner + 5, 9:14, 9:14] = CAVITY
    if tumour:
        code[12:17, 9:14, 9:14], parts[12:17, 9:14, 9:14] = 4, 1
    images = np.random.default_rng(0).normal(size=(4, *shape)) - 3 * (parts == CAVITY)
    return Packed(images.astype(np.float16), code, parts)


@pytest.fixture(scope="module")
def batch():
    packed = _brain(6, tumour=True)
    small = dataclasses.replace(
        packed,
        channels=packed.channels[:, 3:19, 3:19, 3:19],
        code=packed.code[3:19, 3:19, 3:19],
        instances=packed.instances[3:19, 3:19, 3:19],
    )
    return collate([small], np.random.default_rng(0), DataConfig(complete=1.0))


def test_synthetic_cavities_hold_fluid_and_no_tumour():
    drawn = draw(TREATED, [8])
    cavity, flair = drawn.instances == CAVITY, drawn.zscored[:, 3]
    assert int(cavity.sum()) > 100
    assert not (cavity & (drawn.labels[:, 0] > 0)).any()
    assert float(flair[cavity].median()) < float(flair[drawn.brain].median()) - 0.3
    assert not (draw(dataclasses.replace(TREATED, cavity=0.0), [8]).instances == CAVITY).any()


def test_a_cavity_is_a_fourth_target_and_no_lesion(batch):
    four = targets(batch, MORE + 1)
    assert torch.equal(four[:, :MORE], targets(batch, MORE))
    assert torch.equal(four[:, MORE] > 0, batch.instances == CAVITY)
    assert not ((four[:, MORE] > 0) & (batch.labels[:, 0] > 0)).any()
    seen = instance_targets(batch.instances[0], batch.present[0], torch.zeros(8, 8, 8, 8))
    assert seen.classes.tolist() == [0]


@pytest.mark.slow
def test_a_network_learns_it_in_a_few_steps(batch):
    torch.manual_seed(0)
    network = LensNetwork(replace(TINY, regions=4))
    optimiser = Optimiser(network, OptimiserConfig(warmup=0))
    x = with_presence(batch.channels, batch.present, batch.brain)
    goal = targets(batch, MORE + 1)[0]
    for step in range(32):
        output = network(x, bounds=batch.position_range)
        optimiser.step(lens_loss(output, batch, LossConfig())[0], 1.0, step)
    found = network(x, bounds=batch.position_range).logits[0] > 0
    assert cavity_dice(found, goal[MORE] > 0)["cavity"] > 0.4


def test_weights_without_a_cavity_gain_its_query_and_keep_the_rest(random_weights):
    recipe = TrainConfig(stages=(), init=str(random_weights))
    before, *_ = initial_network(recipe)
    after, *_ = initial_network(dataclasses.replace(recipe, cavity=True, network="tiny"))
    assert after.config == before.config.with_cavity()
    assert before.config.regions == 3
    now = after.state_dict()
    for name, tensor in before.state_dict().items():
        assert torch.equal(now[name][: len(tensor)], tensor), name


def test_weights_with_a_cavity_go_on_outlining_it(tmp_path):
    place = tmp_path / "four.safetensors"
    made = LensNetwork(replace(TINY, regions=4))
    weights.save(place, made.config, made.state_dict(), WeightsNotes())
    for named in (None, "tiny"):
        recipe = TrainConfig(stages=(), init=str(place), network=named)
        network, *_ = initial_network(recipe)
        assert network.config.regions == 4
        assert torch.equal(network.queries.query, made.queries.query)


def test_synthetic_validation_judges_the_cavity_where_there_is_one():
    network = LensNetwork(replace(TINY, regions=4)).eval()
    with_one, without = validate_each(network, TREATED, [2, 1], torch.device("cpu"))
    assert 0 <= with_one["cavity"] <= 1
    assert "cavity" not in without
    (plain,) = validate_each(LensNetwork(TINY).eval(), TREATED, [2], torch.device("cpu"))
    assert "cavity" not in plain


@pytest.fixture(scope="module")
def treated(tmp_path_factory):
    """Two treated patients in the layout of BraTS 2024; label 4 is a cavity."""
    root = tmp_path_factory.mktemp("treated")
    for seed, name in enumerate(NAMES):
        write_nifti(make_patient(seed, spacing_mm=4.0), root / name, reference=True)
        image = nib.load(root / name / "seg.nii.gz")
        labels = np.asanyarray(image.dataobj).astype(np.uint8)
        near = labels[8:14, 20:26, 18:24]
        near[near == 0] = Label.CAVITY
        nib.save(nib.Nifti1Image(labels, image.affine), root / name / "seg.nii.gz")
    return root


def test_the_command_line_trains_it_and_analyses_with_it(treated, random_weights, tmp_path):
    recipe, out = tmp_path / "recipe.toml", tmp_path / "run"
    recipe.write_text(f"""
        init = "{random_weights.as_posix()}"
        validation_volumes = 0
        data = {{workers = 0, held_out = 0.5}}
        stages = [{{steps = 2, shape = [32, 40, 32], spacing_mm = [5.0, 5.0], batch = 1}}]
    """)
    told = ["--out", str(out), "--recipe", str(recipe), "--convention", "brats24"]
    done = CliRunner().invoke(app, ["finetune", str(treated), *told])
    assert done.exit_code == 0, done.output
    row = json.loads((out / "validation.jsonl").read_text().splitlines()[-1])
    assert 0 <= row["patients_cavity"] <= 1

    network, info = weights.load(out / "weights.safetensors")
    assert info.config.regions == 4
    with torch.no_grad():  # two steps teach nothing: as if it had learnt that all else is cavity
        network.refine.bias += torch.tensor([-9.0, -9.0, -9.0, 9.0])
    weights.save(tmp_path / "sure.safetensors", info.config, network.state_dict(), info)
    made = tmp_path / "result"
    told = ["--out", str(made), "--weights", str(tmp_path / "sure.safetensors")]
    done = CliRunner().invoke(app, ["analyze", str(treated / NAMES[0]), *told])
    assert done.exit_code == 0, done.output
    findings = json.loads((made / "findings.json").read_text())
    assert findings["resection_cavity_ml"] > 100
    assert CAVITY_NOTICE in findings["warnings"]
    assert Label.CAVITY in nib.load(made / "segmentation.nii.gz").get_fdata()
