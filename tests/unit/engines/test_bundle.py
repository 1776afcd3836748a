"""MONAI bundles, made by MONAI's own tools: what they answer, and which are refused unrun."""

from __future__ import annotations

import pickle
import socket
from dataclasses import replace

import numpy as np
import pytest
import torch
from monai.inferers import SlidingWindowInferer
from monai.networks.blocks.selfattention import SABlock
from monai.networks.nets.swin_unetr import SwinTransformerBlock, compute_mask, get_window_size
from monai.transforms import NormalizeIntensity
from monai.visualize import GradCAM
from tests.contracts.test_examples import REPOSITORY, blocks
from tests.corpus import COARSE
from tests.helpers.monai_bundles import (
    SEGRESNET,
    SHAPE,
    SWINUNETR,
    VIT,
    ZSCORE,
    network_of,
    write_bundle,
)  # fmt: skip
from torch import nn

from lesionlens import Lens, MrSequence, Region, open_study
from lesionlens.engines import BundleEngine
from lesionlens.engines.transformer_attention import grad_cam, rollout
from lesionlens.plugin import SILENT, UnusableInputError, WeightsError
from lesionlens.testing import prepared_head

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
HEAD = prepared_head()
ORDER = [1, 0, 2, 3]  # T1c, T1, T2, FLAIR, as in the bundles


def predicted(folder, study=HEAD):
    return BundleEngine("cpu", bundle=folder).predict(study, context=SILENT)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return write_bundle(tmp_path_factory.mktemp("bundle") / "segresnet")


@pytest.fixture(scope="module")
def prediction(bundle):
    return predicted(bundle)


def monai_run(study, network):
    """Return the sigmoid of each output as MONAI computes it over the box of the brain."""
    edges = np.argwhere(study.brain)
    low, high = np.maximum(edges.min(0) - 2, 0), edges.max(0) + 3
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    images = (study.channels * study.brain)[(slice(None), *box)]
    x = NormalizeIntensity(nonzero=True, channel_wise=True)(torch.from_numpy(images[ORDER]))[None]
    with torch.inference_mode():
        logits = SlidingWindowInferer((40, 40, 40), overlap=0.5, mode="gaussian")(
            torch.as_tensor(x), network
        )
    return box, torch.sigmoid(logits[0]).numpy()


def test_it_answers_as_monai_does(prediction):
    box, (core, whole, enhancing) = monai_run(HEAD, network_of(SEGRESNET))
    inside = HEAD.brain[box]
    core = np.minimum(core, whole)
    expected = (whole, core, np.minimum(enhancing, core))
    for region, values in zip(Region, expected, strict=True):
        found = prediction.probability[region]
        np.testing.assert_allclose(found[box][inside], values[inside], atol=1e-4)
        assert not found[~HEAD.brain].any()
    assert (prediction.engine.name, prediction.engine.version) == (
        "monai-bundle a small one",
        "0.5.4",
    )
    assert prediction.notices == ()


def test_bright_voxels_reach_the_network_as_bright_as_they_are(bundle):
    channels = HEAD.channels.copy()
    channels[(slice(None), *np.argwhere(HEAD.brain)[5000])] = 20 * channels.max()
    study = replace(HEAD, channels=channels)
    box, (_, whole, _) = monai_run(study, network_of(SEGRESNET))
    found, inside = predicted(bundle, study).probability[Region.WT][box], HEAD.brain[box]
    np.testing.assert_allclose(found[inside], whole[inside], atol=1e-4)


NEIGHBOURS = SHAPE | {"_target_": "UNet", "spatial_dims": 3, "channels": [4, 4], "strides": [1],
    "kernel_size": 3, "up_kernel_size": 3, "act": ["PRELU", {"init": 1.0}], "norm": None
}  # fmt: skip


def test_sides_and_channels_are_those_of_the_configuration(tmp_path):
    """FLAIR at i - 1, k + 1 is the whole tumour, T1c the core: weights of a rule."""
    state = network_of(NEIGHBOURS).state_dict()
    for name, values in state.items():
        values.fill_(1.0 if "adn" in name else 0.0)
    state["model.0.conv.weight"][0, 0, 0, 1, 2] = 1
    state["model.0.conv.weight"][1, 1, 1, 1, 1] = 1
    state["model.2.conv.weight"][0, 1, 1, 1, 1] = 4
    state["model.2.conv.weight"][1, 0, 1, 1, 1] = 4
    inputs = {"0": "FLAIR", "1": "T1c", "2": "T2", "3": "T1"}
    folder = write_bundle(tmp_path / "b", NEIGHBOURS, state=state, window=64, inputs=inputs)
    found = predicted(folder).probability
    x = NormalizeIntensity(nonzero=True, channel_wise=True)(HEAD.channels * HEAD.brain)
    flair, t1c = (np.asarray(x)[list(MrSequence).index(s)] for s in ("flair", "t1c"))
    whole = 1 / (1 + np.exp(-4 * np.roll(flair, (1, -1), (0, 2))))
    core = np.minimum(whole, 1 / (1 + np.exp(-4 * t1c)))
    for region, expected in ((Region.WT, whole), (Region.TC, core)):
        np.testing.assert_allclose(found[region][HEAD.brain], expected[HEAD.brain], atol=1e-4)


def test_grad_cam_says_that_it_is_not_attention(prediction):
    assert "not attention" in prediction.trace.method
    for weights in prediction.trace.cross.values():
        assert weights.min() >= 0
        assert float(weights.sum()) in (0, pytest.approx(1, abs=1e-3))
        assert not weights[~HEAD.brain].any()


def test_grad_cam_is_monais():
    torch.manual_seed(0)
    network, x = network_of(SEGRESNET), torch.randn(1, 4, 16, 24, 16)
    with torch.no_grad():
        segmented = network(x)[0, 1] > 0

    class Summed(nn.Module):
        def __init__(self):
            super().__init__()
            self.network = network

        def forward(self, x):
            return self.network(x)[:, 1][:, segmented].sum(1, keepdim=True)

    ours, name = grad_cam(network, network, x, [1], 2)
    theirs = GradCAM(Summed(), f"network.{name}", postprocessing=lambda x: x).compute_map(x, 0)
    theirs = nn.functional.interpolate(theirs, size=x.shape[2:], mode="trilinear")[0]
    torch.testing.assert_close(ours, theirs.detach(), atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize(
    ("definition", "window"), [(SWINUNETR, 64), (VIT, 32)], ids=["swin", "vit"]
)
def test_a_transformer_shows_its_own_attention(definition, window, tmp_path):
    pytest.importorskip("einops", reason="MONAI's transformers need einops")
    found = predicted(write_bundle(tmp_path / "b", definition, window=window, spacing_mm=6.0))
    assert found.probability[Region.WT].any()
    assert "self-attention" in found.trace.method
    for weights in found.trace.cross.values():
        assert weights.sum() == pytest.approx(1, abs=1e-3)
        assert not weights[~HEAD.brain].any()


@pytest.mark.parametrize("flash", [False, True])
def test_global_attention_is_rolled_out_as_monai_saves_it(flash):
    torch.manual_seed(0)
    block, tokens = SABlock(24, 2, save_attn=True).eval(), torch.randn(1, 9, 24)
    with torch.no_grad():
        plain = block(tokens)  # a class token, then 2 x 2 x 2 tokens
    matrix = block.att_mat[0].mean(0)[1:, 1:]
    block.save_attn, block.att_mat, block.use_flash_attention = False, torch.Tensor(), flash
    focus = torch.zeros(1, 2, 2, 2)
    focus[0, 0, 1, 0] = 1
    found = rollout(block, lambda _: block(tokens), torch.zeros(1, 1, 2, 2, 2), focus)
    expected = 0.5 * focus.flatten() + 0.5 * matrix[2]
    torch.testing.assert_close(found.flatten(), expected / expected.sum())
    assert (block.save_attn, block.use_flash_attention) == (False, flash)
    assert block.att_mat.numel() == 0
    torch.testing.assert_close(block(tokens), plain, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("shift", [(0, 0, 0), (2, 2, 2)])
@pytest.mark.parametrize("grid", [(10, 7, 8), (5, 9, 3)])
def test_shifted_windows_are_followed_as_the_block_mixes_them(shift, grid):
    """The block as a matrix A, by its own code: rows A x is rollout(rows) x for any rows and x."""
    torch.manual_seed(1)
    block = SwinTransformerBlock(4, 1, (5, 5, 5), shift).eval()
    block.norm1 = block.attn.proj = nn.Identity()
    with torch.no_grad():
        block.attn.qkv.bias.zero_()
        block.attn.qkv.weight[8:] = torch.eye(4)  # values are the tokens themselves
        block.attn.relative_position_bias_table.normal_()
    window, moved = get_window_size(grid, (5, 5, 5), shift)
    dims = [-(-n // w) * w for n, w in zip(grid, window, strict=True)]
    mask = compute_mask(dims, window, moved, torch.device("cpu"))
    x, rows = torch.randn(1, *grid, 4), torch.rand(2, *grid)
    x[..., 3] = 1  # so that the last channel sums a row
    rows = rows / rows.sum((1, 2, 3), keepdim=True)
    block.attn.use_flash_attention = True
    network = nn.Sequential(block)
    found = rollout(network, lambda _: block(x, mask), torch.zeros(1, 1, *grid), rows)
    with torch.no_grad():
        expected = torch.einsum("rijk,ijkc->rc", rows, block.forward_part1(x, mask)[0])
    assert block.attn.use_flash_attention
    mixed = (1 + expected[:, 3, None, None, None]) * found - rows  # what padding takes is made up
    seen = torch.einsum("rijk,ijkc->rc", mixed, x[0])
    torch.testing.assert_close(seen, expected, atol=1e-4, rtol=1e-3)


def test_a_missing_sequence_is_an_empty_image_with_a_notice(bundle):
    found = predicted(bundle, prepared_head(["flair"]))
    assert "T1c, T1, T2" in found.notices[0]
    assert found.probability[Region.WT].any()


@pytest.mark.parametrize("count", [1, 2])
def test_a_region_that_it_does_not_segment_is_unknown(tmp_path, corpus, count):
    """0 ml would state that nothing enhances, and later enhancement would be a progression."""
    definition = SEGRESNET | {"out_channels": count}
    state = network_of(definition).state_dict()
    bias = [name for name in state if name.startswith("conv_final") and name.endswith("bias")][-1]
    state[bias] += 9.0  # all is tumour
    outputs = dict(zip("01", ("Whole tumor", "Tumor core")[:count], strict=False))
    folder = write_bundle(tmp_path / "b", definition, outputs=outputs, state=state, spacing_mm=6.0)
    result = Lens("cpu", bundle=folder)(open_study(corpus.study("nifti slices")), COARSE)
    assert result.candidates
    for candidate in result.candidates:
        assert candidate.volume_ml["wt"] > 0
        assert (candidate.volume_ml["tc"] is not None) == (count == 2)
        assert candidate.volume_ml["et"] is None
    assert set(result.attention) == set(list(Region)[:count])


def test_a_resection_cavity_is_its_own_output(tmp_path):
    outputs = {"0": "Whole tumor", "1": "Tumor core", "2": "Resection cavity"}
    found = predicted(write_bundle(tmp_path / "b", outputs=outputs))
    assert 0 < found.cavity.max() <= 1


def steps(entry, *transforms):
    def edit(_, inference):
        inference[entry] = {"_target_": "Compose", "transforms": list(transforms)}

    return edit


def entries(where, **values):
    def edit(_, inference):
        inference[where] = {**inference[where], **values}

    return edit


def before(*transforms):
    return steps("preprocessing", *transforms)


def after(*transforms):
    return steps("postprocessing", *transforms)


def outputs(*names):
    def edit(metadata, _):
        channels = {str(n): name for n, name in enumerate(names)}
        metadata["network_data_format"]["outputs"] = {"pred": {"channel_def": channels}}

    return edit


def inputs(**channels):
    def edit(metadata, _):
        metadata["network_data_format"]["inputs"] = {"image": {"channel_def": channels}}

    return edit


SPACING = {"_target_": "Spacingd", "keys": "image"}
JOINED = {"_target_": "ConcatItemsd", "name": "image"}
REFUSED = {
    "a network of another module": entries("network_def", _target_="os.system"),
    "a network that downloads": entries("network_def", _target_="Transchex"),
    "code in a network": entries("network_def", act="$__import__('os').system('true')"),
    "a target in a network": entries("network_def", norm={"_target_": "os.system"}),
    "a reference in a network": entries("network_def", blocks_up="@blocks"),
    "an unknown option": entries("network_def", no_such_option=3),
    "fewer inputs": entries("network_def", in_channels=3),
    "another inferer": entries("inferer", _target_="SliceInferer"),
    "a window by reference": entries("inferer", roi_size="@size"),
    "a window of nothing": entries("inferer", roi_size=[0, 0, 0]),
    "a mirrored image": before({"_target_": "Flipd", "keys": "image"}),
    "another size": before({"_target_": "monai.transforms.Resized", "keys": "image"}),
    "a function": before({"_target_": "Lambdad", "keys": "image", "func": "$lambda x: -x"}),
    "a step of code": before("$flip(1)"),
    "a step that is disabled by code": before(SPACING | {"_disabled_": "$True"}),
    "images in LPS": before({"_target_": "Orientationd", "axcodes": "LPS"}),
    "images in RAS of other labels": before(
        {"_target_": "Orientationd", "axcodes": "RAS", "labels": [["R", "L"]] * 3}
    ),
    "flat voxels": before(SPACING | {"pixdim": [1.0, 1.0, 3.0]}),
    "voxels by reference": before(SPACING | {"pixdim": "@edges"}),
    "voxels of nothing": before(SPACING | {"pixdim": [0, 0, 0]}),
    "intensities from 0 to 1": before({"_target_": "ScaleIntensityd", "minv": 0.0, "maxv": 1.0}),
    "a histogram": before({"_target_": "HistogramNormalized"}),
    "a z-score of the whole image": before(ZSCORE | {"nonzero": False}),
    "a z-score by numbers": before(ZSCORE | {"subtrahend": 100.0, "divisor": 50.0}),
    "some sequences normalised": before(
        ZSCORE | {"keys": ["flair"]}, JOINED | {"keys": ["t1c", "t1", "t2", "flair"]}
    ),
    "channels in another order": before(JOINED | {"keys": ["t1", "t1ce", "t2", "flair"]}),
    "transforms elsewhere": entries("dataset", transform={"_target_": "Flipd"}),
    "a softmax": after({"_target_": "Activationsd", "softmax": True}),
    "an argmax": after({"_target_": "AsDiscreted", "argmax": True}),
    "an activation of code": after({"_target_": "Activationsd", "other": "$torch.exp"}),
    "another threshold": after({"_target_": "AsDiscreted", "threshold": [0.5, 0.7, 0.5]}),
    "a function before the threshold": after({"_target_": "Lambdad"}),
    "the largest component": after({"_target_": "KeepLargestConnectedComponentd"}),
    "a background": outputs("Background", "Whole tumor", "Tumor core"),
    "no whole tumour": outputs("vessel", "tc", "et"),
    "enhancing without core": outputs("wt", "et", "other"),
    "a region twice": outputs("wt", "wt", "tc"),
    "a CT": inputs(**{"0": "CT", "1": "T1", "2": "T2", "3": "FLAIR"}),
    "a sequence twice": inputs(**{"0": "T1c", "1": "T1ce", "2": "T2", "3": "FLAIR"}),
    "a gap in channels": inputs(**{"0": "T1c", "1": "T1", "2": "T2", "9": "FLAIR"}),
}  # fmt: skip


@pytest.fixture
def unreachable(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("the network was reached for")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.mark.usefixtures("unreachable")
@pytest.mark.parametrize("what", REFUSED)
def test_a_bundle_that_would_be_read_wrongly_is_refused(tmp_path, what):
    """Ignored, each of them would give the network other images, or its outputs another meaning."""
    folder = write_bundle(tmp_path / "b", edit=REFUSED[what])
    with pytest.raises(UnusableInputError, match="bundle"):
        BundleEngine("cpu", bundle=folder)


def test_the_transforms_of_published_bundles_are_accepted(tmp_path, prediction):
    names = ["LoadImaged", "EnsureChannelFirstd", "EnsureTyped", "CropForegroundd", "SpatialPadd"]
    spacing = SPACING | {"pixdim": [4.0] * 3}
    disabled = SPACING | {"pixdim": [3.0] * 3, "_disabled_": True}
    order = JOINED | {"keys": ["t1gd", "t1", "t2", "flair"]}
    turned = {"_target_": "Orientationd", "axcodes": "RAS"}
    options = {"Activationsd": {"sigmoid": True}, "AsDiscreted": {"threshold": 0.5}}
    last = ["Activationsd", "Invertd", "AsDiscreted", "Lambdad", "SaveImaged"]

    def edit(metadata, inference):
        before(*({"_target_": n} for n in names), turned, order, ZSCORE, spacing, disabled)(
            0, inference
        )
        after(*({"_target_": name, **options.get(name, {})} for name in last))(metadata, inference)

    found = predicted(write_bundle(tmp_path / "b", edit=edit))
    np.testing.assert_array_equal(found.probability[Region.WT], prediction.probability[Region.WT])


@pytest.mark.parametrize("window", [30, 31])
def test_a_network_that_does_not_accept_its_window_is_refused(tmp_path, window):
    folder = write_bundle(tmp_path / "b", SWINUNETR, window=window)
    with pytest.raises(UnusableInputError, match="voxels"):
        predicted(folder)


def test_fewer_maps_than_the_metadata_name_are_refused(tmp_path):
    folder = write_bundle(tmp_path / "b", SEGRESNET | {"out_channels": 5})
    with pytest.raises(UnusableInputError, match="3 maps"):
        predicted(folder)


class Bomb:
    """A pickle that would run code."""

    def __reduce__(self):
        return (exec, ("raise SystemExit('code from a bundle was run')",))


def test_weights_that_are_no_plain_tensors_of_this_network_are_refused(tmp_path):
    folder = write_bundle(tmp_path / "b")
    place = folder / "models" / "model.pt"
    state, whole = torch.load(place, weights_only=True), place.read_bytes()
    name = next(iter(state))
    for odd in (
        {"state_dict": Bomb()},
        {"weight": torch.zeros(3)},
        state | {name: state[name] * torch.nan},
        state | {name: torch.full_like(state[name], 1e300, dtype=torch.float64)},
    ):
        torch.save(odd, place)
        with pytest.raises(WeightsError):
            BundleEngine("cpu", bundle=folder)
    for content in (pickle.dumps({"state_dict": Bomb()}, 2), whole[: len(whole) // 2], b""):
        place.write_bytes(content)
        with pytest.raises(WeightsError):
            BundleEngine("cpu", bundle=folder)
    place.unlink()
    with pytest.raises(WeightsError):
        BundleEngine("cpu", bundle=folder)


@pytest.mark.parametrize("text", [None, "", "[1]", '{"a": ' * 9000])
def test_a_folder_without_configurations_is_refused(tmp_path, text):
    if text is not None:
        (tmp_path / "configs").mkdir()
        (tmp_path / "configs" / "metadata.json").write_text(text)
    with pytest.raises(UnusableInputError, match="bundle"):
        BundleEngine("cpu", bundle=tmp_path)


def test_the_bundle_of_the_page_is_accepted(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (code,) = (b for b in blocks(REPOSITORY / "docs/how-to/engines.md", "python") if "init_b" in b)
    exec(compile(code, "engines.md", "exec"), {})
    assert BundleEngine("cpu", bundle=tmp_path / "out" / "my_bundle").info.name


@pytest.mark.gpu
def test_a_gpu_agrees_with_the_cpu(bundle, prediction):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    found = BundleEngine("cuda", bundle=bundle).predict(HEAD, context=SILENT)
    for region in Region:
        difference = found.probability[region] - prediction.probability[region]
        assert np.abs(difference).max() < 0.03
