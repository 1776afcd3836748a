"""What every engine owes: one suite over all that are installed, and one from outside."""

import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from lesionlens.base import plugins
from lesionlens.base.errors import CancelledError, LesionLensError
from lesionlens.base.grid import Grid
from lesionlens.base.labels import Region
from lesionlens.base.stages import NEVER, no_progress
from lesionlens.inference.engine import SupportsPerturbation, Target
from lesionlens.lens import Lens
from lesionlens.reading.readers import open_study
from lesionlens.records.prediction import Capability, InputPerturbation

OUTSIDE = Path(__file__).parent / "outside"
"""Holds a distribution that is not ours: its metadata, entry point and one module."""


@pytest.fixture(scope="module")
def outside():
    """Install it for this module's tests."""
    sys.path.insert(0, str(OUTSIDE))
    yield
    sys.path.remove(str(OUTSIDE))
    sys.modules.pop("bright_flair", None)


@pytest.fixture(scope="module")
def small_bundle(tmp_path_factory):
    pytest.importorskip("monai")
    torch = pytest.importorskip("torch")
    from monai.bundle import ConfigParser

    folder = tmp_path_factory.mktemp("bundles") / "small"
    (folder / "configs").mkdir(parents=True)
    (folder / "models").mkdir()
    network = {
        "_target_": "SegResNet",
        "spatial_dims": 3,
        "init_filters": 8,
        "in_channels": 4,
        "out_channels": 3,
        "blocks_down": [1, 1],
        "blocks_up": [1],
    }
    names = {"0": "T1c", "1": "T1", "2": "T2", "3": "FLAIR"}
    regions = {"0": "Tumor core", "1": "Whole tumor", "2": "Enhancing tumor"}
    metadata = {
        "version": "1",
        "network_data_format": {
            "inputs": {"image": {"channel_def": names}},
            "outputs": {"pred": {"channel_def": regions}},
        },
    }
    inferer = {"_target_": "SlidingWindowInferer", "roi_size": [64, 64, 64]}
    spacing = {"_target_": "Spacingd", "keys": "image", "pixdim": [4.0, 4.0, 4.0]}
    steps = {"_target_": "Compose", "transforms": [spacing]}
    inference = {"network_def": network, "inferer": inferer, "preprocessing": steps}
    for name, content in (("metadata", metadata), ("inference", inference)):
        ConfigParser.export_config_file(content, str(folder / "configs" / f"{name}.json"))
    torch.manual_seed(0)
    made = ConfigParser({"net": network}).get_parsed_content("net")
    torch.save(made.state_dict(), folder / "models" / "model.pt")
    return folder


ENGINES = (*plugins.names(plugins.ENGINES), "bright-flair")


@pytest.fixture(scope="module", params=ENGINES)
def engine(request, random_weights, outside):
    made = plugins.load(plugins.ENGINES, request.param)
    if request.param == "lens":
        return made("cpu", random_weights)
    if request.param == "monai-bundle":
        folder = request.getfixturevalue("small_bundle")
        return made("cpu", bundle=folder, patience_s=float("inf"))
    return made("cpu")


@pytest.fixture(scope="module")
def study(make_prepared):
    """Not cubic, so that a swapped axis shows."""
    full = make_prepared()
    assert len(set(full.working.shape)) == 3
    return full


@pytest.fixture(scope="module")
def prediction(engine, study):
    return engine.predict(study, progress=no_progress, cancel=NEVER)


def test_it_says_who_it_is(engine):
    info = engine.info
    assert info.name
    assert info.version
    assert info.capabilities
    assert isinstance(engine, SupportsPerturbation) == (Capability.PERTURB in info.capabilities)


def test_it_answers_on_the_working_grid(prediction, study):
    assert set(prediction.probability) == set(Region)
    outer = np.ones(study.working.shape, np.float32)
    for region in Region:
        found = prediction.probability[region]
        assert found.shape == study.working.shape
        assert found.dtype == np.float32
        assert np.isfinite(found).all()
        assert found.min() >= 0
        assert (found <= outer + 1e-6).all()
        assert not found[~study.brain].any()
        outer = found


def test_what_it_can_do_is_there_and_what_it_cannot_is_not(engine, prediction, study):
    can = engine.info.capabilities
    assert (prediction.trace is not None) == (Capability.ATTEND in can)
    if prediction.trace is not None:
        assert (prediction.trace.probe_row is not None) == (Capability.PROBE in can)
        for weights in prediction.trace.cross.values():
            assert weights.shape == study.working.shape
            assert weights.min() >= 0
            assert weights.sum() == pytest.approx(1, abs=1e-3) or not weights.any()


def test_the_same_study_is_answered_alike_left_as_it_was_and_progress_is_a_share(
    engine, prediction, study
):
    told, before = [], study.channels.copy()
    again = engine.predict(study, progress=lambda *said: told.append(said), cancel=NEVER)
    for region, found in (prediction.probability or {}).items():
        np.testing.assert_allclose(again.probability[region], found, atol=1e-6)
    np.testing.assert_array_equal(study.channels, before)
    assert told
    assert all(stage and 0 <= fraction <= 1 for stage, fraction in told)


@pytest.mark.parametrize("present", [{"flair"}, {"t1", "t1c"}])
def test_any_subset_of_sequences_is_answered(engine, make_prepared, present):
    found = engine.predict(make_prepared(present=present), progress=no_progress, cancel=NEVER)
    assert found.engine.name == engine.info.name


def test_it_stops_when_asked(engine, study):
    stop = threading.Event()
    stop.set()
    with pytest.raises(CancelledError):
        engine.predict(study, progress=no_progress, cancel=stop)


def test_an_unknown_attribution_is_refused_in_words(engine, study):
    with pytest.raises(LesionLensError):
        engine.attribute(study, Target(Region.WT), "tea leaves")


def test_variants_are_answered_on_the_glances_grid(engine, prediction, study):
    if not isinstance(engine, SupportsPerturbation):
        pytest.skip("this engine does not look at variants")
    grid = engine.perturbation_grid(study)
    assert isinstance(grid, Grid)
    seen = engine.predict_perturbed(
        study, [InputPerturbation((True,) * 4)] * 2, progress=no_progress, cancel=NEVER
    )
    assert seen.probability.shape == (2, *grid.shape)
    np.testing.assert_allclose(
        seen.probability[0], prediction.unperturbed.probability[0], atol=1e-5
    )


def test_the_whole_analysis_runs_on_it(engine, make_study):
    result = Lens(engine=engine)(open_study(make_study(spacing_mm=(4, 4, 5))))
    assert result.labels.data.shape == result.analysis.prepared.native.shape
    for candidate in result.candidates:
        assert 0 <= candidate.score <= 1
        relevance = candidate.sequence_relevance
        if relevance is not None:
            total = sum(v for v in relevance.values() if v is not None)
            assert total == pytest.approx(candidate.score, abs=1e-6)


def test_an_engine_from_outside_is_found_by_its_entry_point(outside, make_study):
    assert "bright-flair" in plugins.names(plugins.ENGINES)
    result = Lens("cpu", engine="bright-flair")(open_study(make_study()))
    assert result.analysis.run.engine.name == "bright-flair"
    first = max(result.candidates, key=lambda c: c.volume_ml[Region.WT])
    assert first.location.side == "left"
    assert first.sequence_relevance["flair"] > 0.5
    assert first.sequence_relevance["t1"] == pytest.approx(0)
