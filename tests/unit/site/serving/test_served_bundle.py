"""MONAI bundles on a server: several at once, chosen by name, with the answers of this machine."""

from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
import torch

pytest.importorskip("fastapi")

from tests.helpers.local_server import serving
from tests.helpers.monai_bundles import write_bundle, write_flagging_bundle

from lesionlens.base.errors import ServerError, UnusableInputError
from lesionlens.base.labels import ComputePrecision
from lesionlens.cli.serve import load_models
from lesionlens.engines.bundle.engine import BundleEngine
from lesionlens.engines.engine_choice import EngineChoice
from lesionlens.engines.remote.address import ServerAddress
from lesionlens.engines.remote.connection import models_of
from lesionlens.imaging.reading.readers import open_study
from lesionlens.results.lens import Lens

pytestmark = [
    pytest.mark.usefixtures("coarse"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),
]
PATIENCE = 600.0


@pytest.fixture(scope="module")
def bundles(tmp_path_factory, make_prepared):
    folder = tmp_path_factory.mktemp("bundles")
    plain = write_bundle(folder / "plain")
    engine = BundleEngine("cpu", bundle=plain, patience_s=60 * PATIENCE)
    return [plain, write_flagging_bundle(folder / "keen", engine, make_prepared())]


def test_a_bundle_on_a_server_answers_as_here(bundles, make_study):
    study = open_study(make_study(sequences={"t1c", "flair"}))
    models = load_models(EngineChoice("cpu", patience_min=PATIENCE), bundles)
    with serving(models) as server:
        assert models_of(ServerAddress(server.url)) == ("plain", "keen")
        there = Lens(server=server.url, engine="keen")(study)
        first = Lens(server=server.url)
        assert first.engine.info.weights_sha256 == models["plain"].info.weights_sha256
        with pytest.raises(ServerError, match="keen"):
            Lens(server=server.url, engine="another")
        first.engine.close()
    here = Lens(engine=BundleEngine("cpu", bundle=bundles[1], patience_s=60 * PATIENCE))(study)
    assert here.candidates
    assert there.analysis.run.engine.name == "monai-bundle a small one"
    assert there.analysis.findings.candidates == here.analysis.findings.candidates
    assert there.analysis.run.notices == here.analysis.run.notices
    for ours, theirs in (
        (here.attention, there.attention),
        (here.analysis.volumes.probability, there.analysis.volumes.probability),
    ):
        assert ours.keys() == theirs.keys()
        assert all(np.array_equal(ours[r].data, theirs[r].data) for r in ours)


def test_bundles_that_clients_could_not_tell_apart_are_refused(bundles, tmp_path):
    alike = tmp_path / "plain"
    with pytest.raises(UnusableInputError, match="two bundles called plain"):
        load_models(EngineChoice("cpu"), [bundles[0], alike])


def test_what_is_served_computes_with_the_threads_and_in_the_numbers_that_were_named(bundles):
    before = torch.get_num_threads(), sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    try:
        numbers = ComputePrecision.BFLOAT16
        one = EngineChoice("cpu", precision=ComputePrecision.FLOAT32, threads=1)
        models = load_models(one, None)
        assert models["lens"].info.precision is ComputePrecision.FLOAT32
        assert models["lens"].info.threads == 1
        for chosen in (None, bundles):  # a CPU computes in float32 alone
            with pytest.raises(UnusableInputError, match="bfloat16"):
                load_models(replace(one, precision=numbers), chosen)
    finally:
        torch.set_num_threads(before[0])
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(before[1])
