"""Bundles made with MONAI's own tools, of both kinds, and those that must be refused."""

import json
import math
import pickle

import numpy as np
import pytest
import torch
from monai.networks import nets
from tests.helpers.json_files import edited_json
from tests.helpers.monai_bundles import (
    OUTPUTS,
    SEGRESNET,
    write_bundle,
    write_flagging_bundle,
)

from lesionlens.analysis.explain import probe
from lesionlens.base.errors import UnusableInputError, WeightsError
from lesionlens.base.labels import ComputePrecision, MrSequence, Region
from lesionlens.base.records.prediction import InputPerturbation
from lesionlens.base.run_context import SILENT
from lesionlens.engines.bundle import files
from lesionlens.engines.bundle.engine import BundleEngine
from lesionlens.imaging.reading.open import open_study
from lesionlens.results.lens import Lens

pytestmark = [
    pytest.mark.usefixtures("coarse"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),
]


def patient_engine(folder):
    """Return an engine that looks again however slow this machine is."""
    return BundleEngine("cpu", bundle=folder, patience_s=math.inf)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return write_bundle(tmp_path_factory.mktemp("bundle") / "brats_small")


@pytest.fixture(scope="module")
def one_window(tmp_path_factory):
    """Return the same bundle on voxels so coarse that one window holds the whole brain."""
    return write_bundle(tmp_path_factory.mktemp("bundle") / "brats_small", spacing_mm=6.0)


@pytest.fixture(scope="module")
def prediction(bundle, make_prepared):
    return patient_engine(bundle).predict(make_prepared(), context=SILENT)


def test_it_answers_as_every_engine_does(prediction, make_prepared):
    study = make_prepared()
    whole, core, enhancing = (prediction.probability[region] for region in Region)
    assert whole.shape == study.working.shape
    assert (whole >= core).all()
    assert (core >= enhancing).all()
    assert whole.max() <= 1
    assert not whole[~study.brain].any()
    assert prediction.engine.name == "monai-bundle a small one"
    assert prediction.engine.version == "0.5.4"
    assert prediction.notices == ()


def test_channels_are_fed_and_read_by_their_names(bundle, prediction, make_prepared):
    study = make_prepared()
    engine = BundleEngine("cpu", bundle=bundle)
    torch.manual_seed(0)
    network = nets.SegResNet(**{k: v for k, v in SEGRESNET.items() if k != "_target_"}).eval()
    from lesionlens.engines import network_input

    found = network_input.make_network_input(study, 4.0, torch.device("cpu"), robust=False)
    x = found.channels[:, [1, 0, 2, 3]]
    torch.testing.assert_close(engine._input(found), x)
    inside = tuple(slice(8, 24) for _ in range(3))
    from monai.inferers import SlidingWindowInferer

    with torch.inference_mode():
        logits = SlidingWindowInferer((32, 32, 32), overlap=0.5, mode="gaussian")(x, network)
    whole = torch.sigmoid(logits[0, 1]).numpy()
    box = network_input.brain_box(study)
    got = prediction.probability[Region.WT][box]
    brain = study.brain[box]
    np.testing.assert_allclose(got[inside], (whole * brain)[inside], atol=1e-4)


def test_grad_cam_gives_a_map_and_says_that_it_is_not_attention(prediction, make_prepared):
    study = make_prepared()
    assert "not attention" in prediction.trace.method
    for weights in prediction.trace.cross.values():
        assert weights.min() >= 0
        assert not weights[~study.brain].any()


TRANSFORMERS = {
    "UNETR": {
        "_target_": "monai.networks.nets.UNETR",
        "in_channels": 4,
        "out_channels": 3,
        "img_size": [32, 32, 32],
        "feature_size": 4,
        "hidden_size": 24,
        "mlp_dim": 32,
        "num_heads": 2,
    },
    "SwinUNETR": {
        "_target_": "SwinUNETR",
        "in_channels": 4,
        "out_channels": 3,
        "feature_size": 12,
        "depths": [2, 1, 1, 1],
        "num_heads": [1, 1, 1, 1],
        "window_size": [4, 4, 4],
        "use_flash_attention": True,
    },
    "ViTAutoEnc": {
        "_target_": "ViTAutoEnc",
        "in_channels": 4,
        "out_channels": 3,
        "img_size": [32, 32, 32],
        "patch_size": [4, 4, 4],
        "hidden_size": 24,
        "mlp_dim": 32,
        "num_layers": 2,
        "num_heads": 2,
    },
}


@pytest.mark.parametrize(
    "name",
    ["ViTAutoEnc", *(pytest.param(n, marks=pytest.mark.slow) for n in ("UNETR", "SwinUNETR"))],
)
def test_a_transformer_bundle_shows_its_own_attention(name, tmp_path, make_prepared):
    pytest.importorskip("einops", reason="MONAI's transformers need einops")
    window = 64 if name == "SwinUNETR" else 32
    engine = patient_engine(write_bundle(tmp_path / name, TRANSFORMERS[name], window=window))
    study = make_prepared()
    found = engine.predict(study, context=SILENT)
    assert found.probability[Region.WT].any()
    assert "self-attention" in found.trace.method
    for weights in found.trace.cross.values():
        assert weights.sum() == pytest.approx(1, abs=1e-3)
        assert not weights[~study.brain].any()
    answers_questions(engine, study, found.trace)


def answers_questions(engine, study, trace):
    """Check that a voxel can be asked about."""
    inside = np.argwhere(study.brain)
    one, other = (tuple(int(v) for v in inside[n]) for n in (0, len(inside) // 2))
    near, far = trace.probe_row(one), trace.probe_row(other)
    assert near.shape == study.working.shape
    assert near.max() == pytest.approx(1)
    assert near[one] > far[one]
    assert not near[~study.brain].any()
    np.testing.assert_allclose(trace.probe_row(one), near, atol=1e-5)


@pytest.fixture(scope="module")
def transformer(tmp_path_factory, make_prepared):
    """Return an engine with self-attention, a study, and the trace of its prediction."""
    pytest.importorskip("einops", reason="MONAI's transformers need einops")
    folder = tmp_path_factory.mktemp("bundle") / "vit"
    engine, study = (
        patient_engine(write_bundle(folder, TRANSFORMERS["ViTAutoEnc"])),
        make_prepared(),
    )
    return engine, study, engine.predict(study, context=SILENT).trace


def test_a_probe_keeps_the_window_until_it_is_left(transformer):
    engine, study, trace = transformer
    passes = []
    watching = engine._network.register_forward_hook(lambda *_: passes.append(1))
    inside = np.argwhere(study.brain)
    first = tuple(int(v) for v in inside[0])
    trace.probe_row(first)
    trace.probe_row(first)
    assert len(passes) == 1
    trace.probe_row(tuple(int(v) for v in inside[-1]))
    watching.remove()
    assert len(passes) == 2


def test_a_bundle_without_attention_says_that_it_cannot_be_asked(prediction, make_prepared):
    with pytest.raises(UnusableInputError, match="no self-attention"):
        probe.voxel_attention(prediction.trace, make_prepared(), (20, 20, 20))


def test_a_missing_sequence_is_reported(one_window, make_prepared):
    engine = BundleEngine("cpu", bundle=one_window)
    found = engine.predict(make_prepared(present={"flair"}), context=SILENT)
    assert "T1c, T1, T2" in found.notices[0]


def test_a_left_out_sequence_is_an_empty_image(one_window, make_prepared):
    engine, study = patient_engine(one_window), make_prepared()
    ready_study = engine._cache.input_for(study)
    plain = engine._input(ready_study)
    only = engine._input(ready_study, InputPerturbation.showing([MrSequence.FLAIR]))
    assert not only[0, :3].any()
    torch.testing.assert_close(only[0, 3], plain[0, 3])
    hidden = np.zeros(ready_study.grid.shape, bool)
    hidden[:10] = True
    covered = engine._input(ready_study, InputPerturbation(hidden=hidden))
    assert not covered[0, :, hidden].any()
    torch.testing.assert_close(covered[0, :, ~hidden], plain[0, :, ~hidden])
    mirrored = engine._input(ready_study, InputPerturbation(mirrored=True))
    torch.testing.assert_close(mirrored.flip(2), plain)


@pytest.mark.parametrize("fast", [False, True])
def test_no_perturbation_is_predicted_twice(one_window, make_prepared, monkeypatch, fast):
    """Where perturbed inputs are computed in bfloat16, so is the study as it is, once more."""
    engine, study = patient_engine(one_window), make_prepared(present={"flair", "t2"})
    asked = []
    shares = engine._probabilities
    monkeypatch.setattr(
        engine, "_precision", ComputePrecision.BFLOAT16 if fast else ComputePrecision.FLOAT32
    )
    monkeypatch.setattr(
        engine, "_probabilities", lambda x, fast=False: asked.append(x) or shares(x)
    )
    prediction = engine.predict(study, context=SILENT)
    without_t1 = InputPerturbation.showing(set(MrSequence) - {MrSequence.T1})
    engine.predict_subsets(study, [InputPerturbation(), without_t1], context=SILENT)
    assert len(asked) == 1 + fast
    assert prediction.unperturbed is not None


@pytest.fixture(scope="module")
def keen_bundle(tmp_path_factory, one_window, make_prepared):
    """Return the same network, shifted so that it flags a thirtieth of the brain."""
    folder = tmp_path_factory.mktemp("bundle") / "keen"
    return write_flagging_bundle(folder, patient_engine(one_window), make_prepared())


def test_the_whole_analysis_runs_on_a_bundle(keen_bundle, make_study):
    study = open_study(make_study(sequences={"t1c", "flair"}))
    result = Lens(engine=patient_engine(keen_bundle))(study)
    assert set(result.attention) == {"wt", "tc", "et"}
    assert result.candidates
    for candidate in result.candidates:
        found = candidate.sequence_relevance
        assert found["t1"] is found["t2"] is None
        shares = [found[key] for key in ("t1c", "flair", "none")]
        assert -1e-5 <= sum(shares) <= 1 + 1e-5  # figures are rounded as in findings.json
        assert 0 <= candidate.uncertainty <= 1
    assert result.analysis.maps.checks[Region.WT].deletion is not None
    assert result.analysis.volumes.uncertainty.data.max() > 0
    assert "which sequence mattered" not in " ".join(result.analysis.run.notices).lower()


@pytest.mark.parametrize(
    "outputs", [("Whole tumor",), ("Whole tumor", "Tumor core")], ids=["whole", "whole and core"]
)
def test_a_region_that_the_bundle_does_not_segment_has_no_volume(
    outputs, keen_bundle, make_study, tmp_path
):
    """0 ml would state that nothing enhances, and later enhancement would be a progression."""
    channels = [list(OUTPUTS.values()).index(name) for name in outputs]
    state = files.read(keen_bundle).network.state_dict()
    for name in [n for n in state if n.startswith("conv_final")][-2:]:
        state[name] = state[name][channels]
        if name.endswith("bias"):
            state[name][1:] += 9.0  # all is core
    folder = write_bundle(
        tmp_path / "fewer",
        SEGRESNET | {"out_channels": len(outputs)},
        outputs={str(n): name for n, name in enumerate(outputs)},
        state=state,
        spacing_mm=6.0,
    )
    engine = patient_engine(folder)
    result = Lens(engine=engine)(open_study(make_study(sequences={"t1c", "flair"})))
    assert result.candidates
    has_core = "Tumor core" in outputs
    for candidate in result.candidates:
        assert candidate.volume_ml[Region.WT] > 0
        assert candidate.volume_ml[Region.ET] is candidate.rano_measurable is None
        assert (candidate.volume_ml[Region.TC] is not None) is has_core
    assert any(c.volume_ml[Region.TC] for c in result.candidates) is has_core
    assert any("does not segment" in notice for notice in result.analysis.run.notices)
    assert any("do not distinguish" in notice for notice in result.analysis.findings.notices)
    without_t1c = Lens(engine=engine)(open_study(make_study(name="native", sequences={"flair"})))
    assert without_t1c.candidates
    uncertain = "Without T1c the core is uncertain"  # where there is a core
    notices = without_t1c.analysis.findings.notices
    assert any(notice.startswith(uncertain) for notice in notices) is has_core


def said_of_time(result):
    return " ".join(n for n in result.analysis.run.notices if n.startswith("Omitted"))


def test_without_patience_nothing_is_asked_and_that_is_reported(keen_bundle, make_study):
    engine = BundleEngine("cpu", bundle=keen_bundle, patience_s=0.0)
    result = Lens(engine=engine)(open_study(make_study()))
    assert result.candidates
    assert all(c.sequence_relevance is c.uncertainty is None for c in result.candidates)
    assert result.analysis.maps is None
    reported = said_of_time(result)
    assert "the attention maps" in reported
    assert "the uncertainty" in reported
    assert "which sequence mattered" in reported


def test_an_output_for_the_resection_cavity_is_no_region(tmp_path, make_prepared):
    outputs = {**OUTPUTS, "3": "Resection cavity"}
    four = {**SEGRESNET, "out_channels": 4}
    folder = write_bundle(tmp_path / "b", four, outputs=outputs, spacing_mm=6.0)
    prepared = make_prepared()
    found = BundleEngine("cpu", bundle=folder).predict(prepared, context=SILENT)
    assert set(found.probability) == set(Region)
    assert found.cavity.shape == prepared.brain.shape
    assert 0 < found.cavity.max() <= 1


def test_an_output_that_is_no_map_is_refused(tmp_path, make_prepared):
    five = {**SEGRESNET, "out_channels": 5}
    engine = BundleEngine("cpu", bundle=write_bundle(tmp_path / "five", five))
    with pytest.raises(UnusableInputError, match="3 volumes"):
        engine.predict(make_prepared(), context=SILENT)


@pytest.mark.parametrize(
    "definition",
    [
        SEGRESNET | {"spatial_dims": 2},
        {"_target_": "UNet", "spatial_dims": 3, "in_channels": 4, "out_channels": 3}
        | {"channels": [4, 8, 16], "strides": [2, 2]},
        {"_target_": "SwinUNETR", "in_channels": 4, "out_channels": 3, "feature_size": 12},
    ],
)
def test_a_network_that_does_not_accept_its_window_is_refused(tmp_path, make_prepared, definition):
    """It ended as a defect of this program."""
    engine = BundleEngine("cpu", bundle=write_bundle(tmp_path / "b", definition, window=30))
    with pytest.raises(UnusableInputError, match="does not accept a window of 30 x 30 x 30"):
        engine.predict(make_prepared(), context=SILENT)


class Bomb:
    """A pickle that would run code."""

    def __reduce__(self):
        return (exec, ("raise SystemExit('code from a bundle was run')",))


def test_a_pickle_that_holds_more_than_tensors_is_refused_unrun(tmp_path):
    folder = write_bundle(tmp_path / "bomb")
    (folder / "models" / "model.pt").write_bytes(pickle.dumps({"state_dict": Bomb()}, 2))
    with pytest.raises(WeightsError, match="something other than"):
        files.read(folder)
    torch.save({"state_dict": Bomb()}, folder / "models" / "model.pt")
    with pytest.raises(WeightsError, match="pickled objects are not loaded"):
        files.read(folder)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"_target_": "os.system"}, "a network of monai.networks.nets"),
        ({"_target_": "subprocess.SegResNet"}, "a network of monai.networks.nets"),
        ({"act": "$__import__('os').system('true')"}, "code from a bundle is not run"),
        ({"norm": {"_target_": "os.system"}}, "code from a bundle is not run"),
        ({"no_such_option": 3}, "does not accept"),
    ],
)
def test_a_definition_that_could_run_code_is_refused(tmp_path, change, words):
    folder = write_bundle(tmp_path / "odd")
    with edited_json(folder / "configs" / "inference.json") as config:
        config["network_def"] = {**SEGRESNET, **change}
    with pytest.raises(UnusableInputError, match=words):
        files.read(folder)


NUMBERED = {
    "a gap": {"0": "tumor core", "1": "enhancing tumor", "9": "whole tumor"},
    "below zero": {"0": "tumor core", "1": "enhancing tumor", "-1": "whole tumor"},
    "words": {"core": "tumor core", "whole": "whole tumor", "rest": "enhancing tumor"},
}


@pytest.mark.parametrize("outputs", NUMBERED.values(), ids=NUMBERED)
def test_channels_that_are_not_numbered_from_zero_on_are_refused(tmp_path, outputs):
    """Sorted and counted anew they would be read as other regions, without a word."""
    with pytest.raises(UnusableInputError, match="channels numbered"):
        BundleEngine("cpu", bundle=write_bundle(tmp_path / "b", outputs=outputs))


def inference(bundle, **changed):
    file = bundle / "configs" / "inference.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changed))
    return bundle


SPACING = {"_target_": "Spacingd", "keys": "image"}


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"inferer": {"roi_size": "@size"}}, "the window '@size'"),
        ({"inferer": {"roi_size": [0, 0, 0]}}, r"the window \[0, 0, 0\]"),
        ({"inferer": {"roi_size": -1}}, "the window -1"),
        ({"inferer": "$monai.inferers.SimpleInferer()"}, "the window '\\$monai"),
        ({"preprocessing": "$load()"}, "the preprocessing"),
        ({"preprocessing": {"transforms": [SPACING | {"pixdim": "@edges"}]}}, "voxel edges"),
        ({"preprocessing": {"transforms": [SPACING | {"pixdim": [0, 0, 0]}]}}, "voxel edges"),
    ],
)
def test_a_window_or_spacing_that_cannot_be_read_is_refused(tmp_path, changed, words):
    """Another one would be used in its place, and the network would answer something else."""
    bundle = inference(write_bundle(tmp_path / "b"), **changed)
    with pytest.raises(UnusableInputError, match=words):
        files.read(bundle)


@pytest.mark.parametrize("axes", ["LPS", ["L", "P", "S"], "RAI", "@axes", 7])
def test_a_network_of_images_in_another_order_is_refused(tmp_path, axes):
    """It got images in RAS, to it mirrored ones, without a word."""
    turned = {"_target_": "Orientationd", "keys": "image", "axcodes": axes}
    bundle = inference(write_bundle(tmp_path / "b"), preprocessing={"transforms": [turned]})
    with pytest.raises(UnusableInputError, match="images in the order"):
        files.read(bundle)


@pytest.mark.parametrize("step", [
    {"_target_": "Activationsd", "softmax": True},
    {"_target_": "monai.transforms.Activationsd", "softmax": [True]},
    {"_target_": "AsDiscreted", "argmax": True},
])  # fmt: skip
def test_a_network_of_labels_that_exclude_each_other_is_refused(tmp_path, step):
    """Its outputs went through a sigmoid each: other probabilities than those of its softmax."""
    bundle = inference(write_bundle(tmp_path / "b"), postprocessing={"transforms": [step]})
    with pytest.raises(UnusableInputError, match="exclude each other"):
        files.read(bundle)


def test_a_network_with_an_output_for_the_background_is_refused(tmp_path):
    outputs = {"0": "Background", "1": "Whole tumor", "2": "Tumor core"}
    with pytest.raises(UnusableInputError, match=r"exclude each other \(background\)"):
        files.read(write_bundle(tmp_path / "b", outputs=outputs))


def test_weights_that_are_truncated_or_not_finite_are_refused(tmp_path):
    bundle = write_bundle(tmp_path / "b")
    place = bundle / "models" / "model.pt"
    state = torch.load(place, weights_only=True)
    name = next(iter(state))
    too_large = torch.full_like(state[name], 1e300, dtype=torch.float64)  # infinite in float32
    for values in (state[name] * torch.nan, too_large):
        torch.save(state | {name: values}, place)
        with pytest.raises(WeightsError, match="values that are not numbers"):
            files.read(bundle)
    torch.save(state, place)
    whole = place.read_bytes()
    for part in range(0, 100, 5):
        place.write_bytes(whole[: len(whole) * part // 100])
        with pytest.raises(WeightsError, match="plain tensors"):
            files.read(bundle)


def test_weights_of_another_network_are_refused(tmp_path):
    folder = write_bundle(tmp_path / "other", state={"weight": torch.zeros(3)})
    with pytest.raises(WeightsError, match="state_dict"):
        files.read(folder)


def test_a_bundle_for_something_else_is_refused(tmp_path):
    folder = write_bundle(tmp_path / "spleen", inputs={"0": "CT"})
    with pytest.raises(UnusableInputError, match="names of MR sequences"):
        files.read(folder)
    folder = write_bundle(tmp_path / "vessel", outputs={"0": "background", "1": "vessel"})
    with pytest.raises(UnusableInputError, match="whole tumor"):
        files.read(folder)


def two_outputs(metadata, _):
    metadata["network_data_format"]["outputs"]["other"] = {"channel_def": OUTPUTS}


def without_definition(_, inference):
    inference["network_def"] = "$import_network()"


def flat_voxels(_, inference):
    inference["preprocessing"]["transforms"][-1]["pixdim"] = [1.0, 1.0, 3.0]


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (two_outputs, "2 outputs in the bundle's metadata"),
        (without_definition, "without a definition of the network"),
        (flat_voxels, r"voxel edges \[1.0, 1.0, 3.0\]"),
    ],
)
def test_a_bundle_of_another_kind_is_refused(tmp_path, spoil, words):
    folder = write_bundle(tmp_path / "b")
    configs = [folder / "configs" / f"{name}.json" for name in ("metadata", "inference")]
    contents = [json.loads(path.read_text()) for path in configs]
    spoil(*contents)
    for path, content in zip(configs, contents, strict=True):
        path.write_text(json.dumps(content))
    with pytest.raises(UnusableInputError, match=words):
        files.read(folder)


def test_a_bundle_without_weights_is_refused(tmp_path):
    folder = write_bundle(tmp_path / "b")
    (folder / "models" / "model.pt").unlink()
    with pytest.raises(WeightsError, match="no weights in b"):
        files.read(folder)


def test_a_folder_that_is_no_bundle_is_refused(tmp_path):
    with pytest.raises(UnusableInputError, match="a MONAI bundle"):
        files.read(tmp_path)
