"""The engine keeps the contract, with a tiny network; channels go by their names."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
sys.path.insert(0, str(Path(__file__).parents[1] / "src"))
pytestmark = pytest.mark.filterwarnings("ignore")  # torch no longer develops TorchScript

from lesionlens_torchscript import engine as torchscript

from lesionlens.plugin import SILENT, Region, UnusableInputError, WeightsError
from lesionlens.testing import check_engine, prepared_head

NAMES = {
    "inputs": ["flair", "t1c"],
    "outputs": ["et", "wt", None, "tc"],
    "window": [32, 32, 32],
    "spacing_mm": 4,
}


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """A network whose whole tumour is what is bright on FLAIR, its enhancing part on T1c."""
    place = tmp_path_factory.mktemp("network") / "tiny.ts"
    network = torch.nn.Conv3d(2, 4, 1)
    with torch.no_grad():
        network.weight[:] = torch.tensor([[0, 3], [3, 0], [0, 0], [1, 1]])[..., None, None, None]
        network.bias[:] = torch.tensor([-6.0, -4.0, 0.0, -4.0])
    torch.jit.save(torch.jit.trace(network, torch.zeros(1, 2, 8, 8, 8)), str(place))
    place.with_suffix(".json").write_text(json.dumps(NAMES))
    return place


@pytest.fixture(scope="module")
def engine(file):
    return torchscript.TorchScriptEngine("cpu", file)


def test_it_keeps_the_contract(engine):
    check_engine(engine)


def test_channels_go_by_their_names(file):
    engine = torchscript.TorchScriptEngine("cpu", file)
    study = prepared_head(["flair", "t1c"])
    found = engine.predict(study, context=SILENT).probability[Region.WT]
    flair = study.channels[3]
    inside = study.brain & (flair > 0)
    bright = inside & (flair > np.percentile(flair[inside], 98))
    assert found[bright].mean() > found[inside & ~bright].mean()
    alone = engine.predict(prepared_head(["flair"]), context=SILENT)
    assert any("T1c" in notice for notice in alone.notices)


def test_what_cannot_be_told_is_refused(file, tmp_path):
    with pytest.raises(WeightsError, match=r"\.json"):
        torchscript.TorchScriptEngine("cpu", tmp_path / "none.ts")
    with pytest.raises(WeightsError, match=r"no name of a TorchScript file.*as the weights"):
        torchscript.TorchScriptEngine("cpu")
    for name in ("a.ts", "b.ts"):
        (tmp_path / name).write_bytes(b"no program" if name == "a.ts" else file.read_bytes())
    (tmp_path / "a.json").write_text(json.dumps(NAMES))
    with pytest.raises(WeightsError, match="cannot load"):
        torchscript.TorchScriptEngine("cpu", tmp_path / "a.ts")
    (tmp_path / "b.json").write_text(json.dumps(NAMES | {"outputs": ["wt", "tc"]}))
    with pytest.raises(UnusableInputError, match="outputs"):
        torchscript.TorchScriptEngine("cpu", tmp_path / "b.ts")
