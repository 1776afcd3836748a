"""A bundle's images and outputs are those of its configuration, or the bundle is refused."""

import json

import numpy as np
import pytest
import torch
from monai.networks.nets import UNet
from monai.transforms import NormalizeIntensity
from tests.helpers.monai_bundles import write_bundle

from lesionlens.base.errors import UnusableInputError
from lesionlens.base.labels import MrSequence, Region
from lesionlens.base.run_context import SILENT
from lesionlens.engines.bundle import files
from lesionlens.engines.bundle.engine import BundleEngine

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
SPACING = {"_target_": "Spacingd", "keys": "image", "pixdim": [1.5] * 3}


def with_entry(folder, **changed):
    bundle = write_bundle(folder)
    file = bundle / "configs" / "inference.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changed))
    return bundle


@pytest.mark.parametrize("entry", ["preprocessing", "postprocessing"])
@pytest.mark.parametrize(
    "name", ["Flipd", "Rotate90d", "Resized", "Lambdad", "monai.transforms.Zoomd", "GaussianSmooth"]
)
def test_a_transform_that_is_not_applied_here_is_refused(tmp_path, entry, name):
    """It was ignored: a network that was trained on mirrored images got them as they are."""
    steps = {"_target_": "Compose", "transforms": [{"_target_": name, "keys": "image"}]}
    with pytest.raises(UnusableInputError, match=rf"transform {name.split('.')[-1]} in the bundle"):
        files.read(with_entry(tmp_path / "b", **{entry: steps}))


@pytest.mark.parametrize("step", ["@flip", "$flip(1)", None, SPACING | {"_disabled_": "$True"}])
def test_a_transform_of_code_is_refused(tmp_path, step):
    """It was ignored."""
    with pytest.raises(UnusableInputError, match="in the preprocessing in configs"):
        files.read(with_entry(tmp_path / "b", preprocessing={"transforms": [step]}))


def test_a_disabled_transform_is_not_applied(tmp_path):
    """MONAI does not apply it; its spacing was used here."""
    steps = [SPACING, SPACING | {"pixdim": [3.0] * 3, "_disabled_": True}]
    bundle = with_entry(tmp_path / "b", preprocessing={"transforms": steps})
    assert files.read(bundle).spacing_mm == 1.5


@pytest.mark.parametrize("keys", [["t1", "t1ce", "t2", "flair"], ["t1c", "t1", "flair", "t2"]])
def test_channels_in_another_order_than_the_metadata_name_are_refused(tmp_path, keys):
    """Each sequence would reach the channel of another one."""
    steps = [{"_target_": "ConcatItemsd", "keys": keys, "name": "image"}]
    with pytest.raises(UnusableInputError, match="input channels in the order"):
        files.read(with_entry(tmp_path / "b", preprocessing={"transforms": steps}))
    steps = [{"_target_": "ConcatItemsd", "keys": ["t1gd", "t1", "t2", "flair"], "name": "image"}]
    files.read(with_entry(tmp_path / "right", preprocessing={"transforms": steps}))


@pytest.mark.parametrize(
    ("keys", "is_read"), [(["flair"], False), (["t1c", "t1", "t2", "flair"], True), ("image", True)]
)
def test_a_network_of_which_some_sequences_are_normalised_is_refused(tmp_path, keys, is_read):
    """All were normalised."""
    normalise = {"_target_": "NormalizeIntensityd", "nonzero": True, "channel_wise": True}
    together = {"_target_": "ConcatItemsd", "keys": ["t1c", "t1", "t2", "flair"], "name": "image"}
    steps = {"transforms": [normalise | {"keys": keys}, together]}
    bundle = with_entry(tmp_path / "b", preprocessing=steps)
    if is_read:
        files.read(bundle)
        return
    with pytest.raises(UnusableInputError, match="no NormalizeIntensityd of t1c, t1, t2 in"):
        files.read(bundle)


@pytest.mark.parametrize("threshold", [0.3, [0.5, 0.7, 0.5], "@threshold"])
def test_another_threshold_is_refused(tmp_path, threshold):
    """Regions were outlined from 0.5 all the same."""
    steps = [{"_target_": "AsDiscreted", "keys": "pred", "threshold": threshold}]
    with pytest.raises(UnusableInputError, match="the threshold "):
        files.read(with_entry(tmp_path / "b", postprocessing={"transforms": steps}))


def test_an_activation_by_a_function_is_refused(tmp_path):
    steps = [{"_target_": "Activationsd", "keys": "pred", "other": "$torch.exp"}]
    with pytest.raises(UnusableInputError, match="an activation by a function"):
        files.read(with_entry(tmp_path / "b", postprocessing={"transforms": steps}))


def test_the_transforms_of_published_bundles_are_read(tmp_path):
    """A function after the threshold, as in `brats_mri_segmentation`, makes the label map."""
    keys = {"keys": "image"}
    before = ["LoadImaged", "EnsureChannelFirstd", "EnsureTyped", "CropForegroundd", "SpatialPadd"]
    after = ["Activationsd", "Invertd", "AsDiscreted", "Lambdad", "SaveImaged"]
    options = {"Activationsd": {"sigmoid": True}, "AsDiscreted": {"threshold": 0.5}}
    bundle = with_entry(
        tmp_path / "b",
        preprocessing={"transforms": [{"_target_": name, **keys} for name in before]},
        postprocessing={"transforms": [{"_target_": n, **options.get(n, {})} for n in after]},
    )
    assert files.read(bundle).spacing_mm == 1.0
    early = {"transforms": [{"_target_": name} for name in ("Lambdad", "AsDiscreted")]}
    with pytest.raises(UnusableInputError, match="the transform Lambdad"):
        files.read(with_entry(tmp_path / "early", postprocessing=early))


NEIGHBOURS = {
    "_target_": "UNet", "spatial_dims": 3, "in_channels": 4, "out_channels": 3,
    "channels": [4, 4], "strides": [1], "kernel_size": 3, "up_kernel_size": 3,
    "act": ["PRELU", {"init": 1.0}], "norm": None,
}  # fmt: skip


def state_of_neighbours():
    """Return weights of a rule: FLAIR at i - 1, k + 1 is the whole tumour, T1c the core."""
    network = UNet(**{key: value for key, value in NEIGHBOURS.items() if key != "_target_"})
    state = network.state_dict()
    for name, values in state.items():
        values.fill_(1.0 if "adn" in name else 0.0)
    state["model.0.conv.weight"][0, 0, 0, 1, 2] = 1
    state["model.0.conv.weight"][1, 1, 1, 1, 1] = 1
    state["model.2.conv.weight"][0, 1, 1, 1, 1] = 4
    state["model.2.conv.weight"][1, 0, 1, 1, 1] = 4
    return state


def test_a_network_by_a_rule_gives_what_the_rule_says(tmp_path, make_prepared):
    """At every voxel, by channel and direction, as computed with MONAI's normalisation."""
    bundle = write_bundle(
        tmp_path / "b", NEIGHBOURS, state=state_of_neighbours(), window=64,
        inputs={"0": "FLAIR", "1": "T1c", "2": "T2", "3": "T1"},
    )  # fmt: skip
    prepared = make_prepared()
    found = BundleEngine("cpu", bundle=bundle, patience_s=0.0).predict(prepared, context=SILENT)
    normalise = NormalizeIntensity(nonzero=True, channel_wise=True)
    x = np.asarray(normalise(prepared.channels * prepared.brain))
    flair, t1c = (x[list(MrSequence).index(s)] for s in (MrSequence.FLAIR, MrSequence.T1C))
    neighbour = np.roll(flair, (1, -1), (0, 2))
    whole, core = (
        torch.sigmoid(torch.from_numpy(4 * values)).numpy() for values in (neighbour, t1c)
    )
    for region, expected in ((Region.WT, whole), (Region.TC, np.minimum(whole, core))):
        inside = prepared.brain
        np.testing.assert_allclose(found.probability[region][inside], expected[inside], atol=1e-4)
