"""A bundle's network receives the intensities that it was trained on, or the bundle is refused."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from monai.transforms import NormalizeIntensity
from tests.contracts.test_examples import REPOSITORY, blocks
from tests.helpers.monai_bundles import write_bundle

from lesionlens.base.errors import UnusableInputError
from lesionlens.engines.bundle import files
from lesionlens.engines.bundle.engine import BundleEngine

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
ZSCORE = {"_target_": "NormalizeIntensityd", "nonzero": True, "channel_wise": True}


def with_transforms(folder, *steps):
    bundle = write_bundle(folder)
    file = bundle / "configs" / "inference.json"
    preprocessing = {"_target_": "Compose", "transforms": steps}
    file.write_text(json.dumps(json.loads(file.read_text()) | {"preprocessing": preprocessing}))
    return bundle


def test_inputs_are_normalised_as_by_monai(tmp_path, make_prepared):
    """Clipped, the brightest voxels, such as an enhancing rim, reached the network dimmer."""
    prepared = make_prepared()
    channels = prepared.channels.copy()
    middle = tuple(np.argwhere(prepared.brain)[prepared.brain.sum() // 2])
    channels[(slice(None), *middle)] = 20 * channels.max()
    bundle = with_transforms(tmp_path / "b", ZSCORE)
    study = BundleEngine("cpu", bundle=bundle)._cache.input_for(
        replace(prepared, channels=channels)
    )
    x = study.channels[0]
    torch.testing.assert_close(x, NormalizeIntensity(nonzero=True, channel_wise=True)(x))
    assert x.max() > 10


@pytest.mark.parametrize("step", [
    {"_target_": "ScaleIntensityd", "minv": 0.0, "maxv": 1.0},
    {"_target_": "monai.transforms.ScaleIntensityRanged", "a_min": 0, "a_max": 2000},
    {"_target_": "ClipIntensityPercentilesd", "lower": 1, "upper": 99},
    {"_target_": "HistogramNormalized"},
    {"_target_": "NormalizeIntensityd"},
    {"_target_": "NormalizeIntensityd", "nonzero": True},
    {"_target_": "NormalizeIntensityd", "channel_wise": True},
    ZSCORE | {"subtrahend": 100.0, "divisor": 50.0},
    ZSCORE | {"nonzero": "@nonzero"},
])  # fmt: skip
def test_a_network_of_other_intensities_is_refused(tmp_path, step):
    """It received z-scores without a word, and its probabilities differed by up to 0.4."""
    with pytest.raises(UnusableInputError, match=r"intensities by \w+ in the bundle"):
        files.read(with_transforms(tmp_path / "b", ZSCORE, step))


def test_the_bundle_of_the_page_is_read(tmp_path, monkeypatch):
    """Left as `init_bundle` writes them, its preprocessing and postprocessing are refused."""
    monkeypatch.chdir(tmp_path)
    (block,) = (
        block
        for block in blocks(REPOSITORY / "docs/how-to/engines.md", "python")
        if "init_bundle" in block
    )
    exec(compile(block, "engines.md", "exec"), {})
    assert files.read(tmp_path / "out" / "my_bundle").window == (96, 96, 96)
