"""The engine onnx answers as the engine lens does, and needs no torch.

`tiny.onnx` is what `export_lens` wrote of the untrained `tiny.safetensors` (fp16, as those are).
"""

import errno
import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnxruntime")

from lesionlens import open_study
from lesionlens.base.errors import (
    CancelledError,
    MissingPluginError,
    ResourceError,
    UnusableInputError,
    WeightsError,
)
from lesionlens.base.labels import Region, WeightPrecision
from lesionlens.base.records.prediction import Capability, InputPerturbation
from lesionlens.base.run_context import SILENT, RunContext
from lesionlens.engines.engine import Target
from lesionlens.engines.lens.engine import LensEngine
from lesionlens.engines.onnx.engine import OnnxEngine, exported_path
from lesionlens.engines.testing.simple import make_patient
from lesionlens.imaging.preparation.prepare import PrepareOptions, prepare
from lesionlens.network import brain, onnx_session, shipped_unet, small_lesions
from lesionlens.network.onnx_session import OnnxSession
from lesionlens.network.shipped_weights import shipped_file

HERE = Path(__file__).parent
TINY_CLOSE = 1e-4
"""Of probability and attention of the untrained network; measured: 1e-5 and less."""
CLOSE = 1e-3
"""Of the shipped one, of whatever its rounding errors grow to; what is promised."""


@pytest.fixture(scope="module")
def study(make_prepared):
    return make_prepared()


@pytest.fixture(scope="module")
def onnx():
    return OnnxEngine("cpu", HERE / "tiny.onnx")


@pytest.fixture(scope="module")
def lens():
    return LensEngine("cpu", HERE / "tiny.safetensors")


@pytest.fixture(scope="module")
def both(onnx, lens, study):
    return [e.predict(study, context=SILENT) for e in (onnx, lens)]


def test_probability_is_that_of_torch(both):
    one, other = both
    for region in Region:
        assert other.probability[region].any()
        np.testing.assert_allclose(
            one.probability[region], other.probability[region], atol=TINY_CLOSE, rtol=0
        )
    assert one.thresholds == pytest.approx(other.thresholds, abs=TINY_CLOSE)
    assert one.scoring == other.scoring


def test_attention_is_that_of_torch(both):
    one, other = (prediction.trace for prediction in both)
    assert one.method == other.method
    for region in Region:
        largest = other.cross[region].max()
        np.testing.assert_allclose(
            one.cross[region], other.cross[region], atol=TINY_CLOSE * largest
        )
    rows = [trace.probe_row((20, 25, 22)) for trace in (one, other)]
    np.testing.assert_allclose(*rows, atol=TINY_CLOSE)
    assert one.attention_layers == other.attention_layers
    for layer in range(3):
        maps = [trace.layer_attention(Region.TC, layer, None) for trace in (one, other)]
        np.testing.assert_allclose(maps[0], maps[1], atol=CLOSE * maps[1].max())


def test_classes_and_perturbed_inputs_are_those_of_torch(both, onnx, lens, study):
    one, other = (prediction.class_probabilities for prediction in both)
    assert one.grid.matches(other.grid)
    np.testing.assert_allclose(one.share, other.share, atol=TINY_CLOSE)
    hidden = np.zeros(lens.perturbation_grid(study).shape, bool)
    hidden[:5] = True
    asked = [InputPerturbation(mirrored=True), InputPerturbation(hidden=hidden)]
    reported = [e.predict_perturbed(study, asked, context=SILENT).probability for e in (onnx, lens)]
    np.testing.assert_allclose(reported[0], reported[1], atol=TINY_CLOSE)


def test_it_says_who_it_is(onnx, lens):
    assert onnx.info.name == "onnx"
    assert "onnxruntime" in onnx.info.device
    assert onnx.info.weights_sha256 != lens.info.weights_sha256
    without = lens.info.capabilities - {Capability.PROMPT}  # torch answers prompts, beside it
    assert replace(onnx.info, name="lens", device="", weights_sha256=None, threads=None) == replace(
        lens.info, device="", weights_sha256=None, threads=None, capabilities=without
    )


@pytest.mark.parametrize(
    ("value", "threads"), [("3", 3), ("2,1", 2), (" 2 ", 2), ("", 5), ("many", 5)]
)
def test_threads_are_as_openmp_reads_its_variable(monkeypatch, value, threads):
    """A list of numbers, one for each level, ended the analysis with a traceback."""
    monkeypatch.setenv("OMP_NUM_THREADS", value)
    monkeypatch.setattr(onnx_session, "usable_processors", lambda: 5)
    assert OnnxSession(HERE / "tiny.onnx").thread_count == threads


def test_a_prediction_has_the_same_bits_with_any_number_of_threads(monkeypatch, study):
    found = []
    for count in (1, 3):
        monkeypatch.setattr(OnnxSession, "threads", count)
        engine = OnnxEngine("cpu", HERE / "tiny.onnx")
        found.append(engine.predict(study, context=SILENT))
        assert engine.info.threads == count
    for region in Region:
        np.testing.assert_array_equal(*(p.probability[region] for p in found))
        np.testing.assert_array_equal(*(p.trace.cross[region] for p in found))


def test_passes_run_at_a_time_as_there_are_threads(monkeypatch):
    monkeypatch.setattr(OnnxSession, "threads", 2)
    session, meeting = OnnxSession(HERE / "tiny.onnx"), threading.Barrier(2)

    def run(number):
        meeting.wait(30)  # which one pass alone would never leave
        return number

    assert list(session.map(run, range(4))) == [0, 1, 2, 3]


class _Later:
    """Asked to stop once the network runs."""

    def __init__(self):
        self.asked = 0

    def is_set(self):
        self.asked += 1
        return self.asked > 3


def test_a_pass_is_ended_while_it_runs():
    session = OnnxSession(HERE / "tiny.onnx")
    x = np.zeros((1, 8, 96, 96, 96), np.float32)
    place = np.array([[[-1.0, 1.0]] * 3], np.float32)
    with pytest.raises(CancelledError):
        session.run(
            {"x": x, "place": place},
            ["logits"],
            context=RunContext(cancel=_Later()),
            stage="the test",
        )
    assert threading.active_count() < 20


def test_what_cannot_be_run_is_refused_in_words(tmp_path, study, onnx):
    with pytest.raises(WeightsError, match="export-model"):
        OnnxEngine("cpu", tmp_path / "none.onnx")
    (tmp_path / "bad.onnx").write_bytes(b"no network")
    with pytest.raises(WeightsError, match=r"bad\.onnx.*its --weights takes"):
        OnnxEngine("cpu", tmp_path / "bad.onnx")
    with pytest.raises(WeightsError, match=r"another network.*without --prompts"):
        OnnxEngine("cpu", shipped_file(brain.BRAIN, onnx=True))
    with pytest.raises(UnusableInputError, match="the device 'tpu'"):
        OnnxEngine("tpu", HERE / "tiny.onnx")
    with pytest.raises(ResourceError, match="CUDA"):
        OnnxEngine("cuda:0", HERE / "tiny.onnx")
    with pytest.raises(UnusableInputError, match="grad-cam"):
        onnx.attribute(study, Target(Region.WT), "grad-cam")


@pytest.mark.parametrize(
    ("requested", "number"), [("auto", 0), ("cuda", 0), (" CUDA:2 ", 2), ("cpu", None)]
)
def test_a_device_is_chosen_by_its_name_or_by_what_there_is(requested, number):
    cpu, cuda = "CPUExecutionProvider", "CUDAExecutionProvider"
    chosen = [cpu] if number is None else [(cuda, {"device_id": number}), cpu]
    assert onnx_session._providers(requested, [cuda, cpu]) == chosen
    assert onnx_session._providers("auto", [cpu]) == [cpu]


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (RuntimeError("Failed to allocate memory for requested buffer of size 9"), ResourceError),
        (RuntimeError("std::bad_alloc"), ResourceError),
        (RuntimeError("of another kind"), RuntimeError),
    ],
)
def test_a_pass_that_lacks_memory_says_so(monkeypatch, study, error, raised):
    class Broken:
        def __init__(self, whole):
            self._whole = whole

        def __getattr__(self, name):
            return getattr(self._whole, name)

        def run(self, *_):
            raise error

    engine = OnnxEngine("cpu", HERE / "tiny.onnx")
    monkeypatch.setattr(engine._session, "_session", Broken(engine._session._session))
    with pytest.raises(raised, match=r"too little memory|of another kind"):
        engine.predict(study, context=SILENT)


@pytest.mark.parametrize("network", [None, "{", "[]", '{"width": 1}'])
def test_damaged_metadata_are_refused_in_words(onnx, monkeypatch, network):
    for key in ("network", "notes"):
        metadata = dict(onnx._session.metadata)
        del metadata[key]
        if network is not None:
            metadata[key] = network
        with (
            monkeypatch.context() as damaged,
            pytest.raises(WeightsError, match="damaged metadata"),
        ):
            damaged.setattr(OnnxSession, "metadata", metadata)
            OnnxEngine("cpu", HERE / "tiny.onnx")


def test_a_network_without_our_outputs_is_refused(monkeypatch):
    monkeypatch.setattr(OnnxSession, "outputs", ("logits", "other"))
    with pytest.raises(WeightsError, match="another network"):
        OnnxEngine("cpu", HERE / "tiny.onnx")


@pytest.mark.parametrize(
    "changed",
    [
        {"x": ("tensor(float16)", (1, 8, None, None, None))},
        {"x": ("tensor(float)", (1, 8, 64, 64, 64))},
        {"x": ("tensor(float)", (1, 4, None, None, None))},
    ],
)
def test_an_export_whose_inputs_another_tool_changed_is_refused(monkeypatch, changed):
    """It ended in an error of onnxruntime at the first pass."""
    inputs = OnnxSession(HERE / "tiny.onnx").inputs | changed
    monkeypatch.setattr(OnnxSession, "inputs", inputs)
    with pytest.raises(WeightsError, match="whose inputs were changed"):
        OnnxEngine("cpu", HERE / "tiny.onnx")


def test_without_a_name_it_takes_what_was_exported_last():
    assert exported_path().name == "default.onnx"
    with pytest.raises(WeightsError, match=r"default\.onnx"):
        OnnxEngine("cpu")


def test_the_brain_is_found_alike_by_either_runtime():
    head = make_patient(spacing_mm=4.0, skull=True).sequences
    image = next(iter(head.values())).data[:32, :48, :32]
    read = brain.scaled(np.ascontiguousarray(image)[None, None])[0, 0]
    reads = [read[None], read[None, ::-1].copy()]
    runtimes = shipped_unet.by_onnxruntime("brain"), shipped_unet.by_torch("brain", 1)
    for one, other in zip(*(run(reads) for run in runtimes), strict=True):
        np.testing.assert_allclose(one, other, atol=TINY_CLOSE)


def test_small_lesions_are_found_alike_by_either_runtime():
    noise = np.random.default_rng(5).normal(size=(small_lesions.CHANNELS, 32, 48, 32))
    reads = [noise.astype(np.float32)]
    by_onnx = shipped_unet.by_onnxruntime(small_lesions.NAME)(reads)
    by_torch = shipped_unet.by_torch(small_lesions.NAME, small_lesions.CHANNELS)(reads)
    np.testing.assert_allclose(*by_onnx, *by_torch, atol=0.01)  # logits from -20 to 10


def test_no_runtime_is_asked_for_one_sum_over_a_whole_group_of_channels():
    """In float32 such a sum erred by .003 of the brain's logits, in a browser by .034."""
    shipped = [shipped_file(name, onnx=True)
               for name in (brain.BRAIN, small_lesions.NAME)]  # fmt: skip
    for path in (HERE / "tiny.onnx", *shipped):
        written = path.read_bytes()
        assert b"ReduceMean" in written
        assert b"InstanceNormalization" not in written
        assert b"GroupNormalization" not in written


def test_a_file_in_a_folder_whose_name_is_not_utf_8_is_refused(tmp_path):
    place = tmp_path / os.fsdecode(b"M\xfcller")
    place.mkdir()
    (place / "tiny.onnx").write_bytes(b"")
    with pytest.raises(WeightsError, match="whose name is not UTF-8"):
        OnnxSession(place / "tiny.onnx")


def test_a_head_is_analysed_without_torch(tmp_path, make_study):
    study = make_study(sequences={"t1c"}, patient=make_patient(spacing_mm=4.0, skull=True))
    code = f"""
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "monai"):
            raise ModuleNotFoundError(name + " is not there", name=name)
sys.meta_path.insert(0, Block())
sys.argv = ["lesionlens", "analyze", {str(study)!r}, "--out", {str(tmp_path / "out")!r},
            "--engine", "onnx", "--weights", {str(HERE / "tiny.onnx")!r}]
from lesionlens.cli.main import run
run()
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "attention_et.nii.gz").is_file()


def test_the_same_network_is_written_as_the_same_file(tmp_path):
    """torch notes sets in the graph, in another order in each process."""
    onnx = pytest.importorskip("onnx")
    from lesionlens.network.onnx_export import write_model

    for name, order in (("one", "{i: 1, j: 2}"), ("other", "{j: 2, i: 1}")):
        model = onnx.load(HERE / "tiny.onnx")
        model.graph.metadata_props.add(key="range_constraints", value=order)
        write_model(model, tmp_path / name, {}, WeightPrecision.FP32)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()


@pytest.mark.parametrize("missing", ["onnx", "onnxscript"])
def test_an_export_without_its_packages_names_the_extra(tmp_path, monkeypatch, missing):
    from lesionlens.network import onnx_export, weights

    monkeypatch.setattr(onnx_export, "find_spec", lambda name: None if name == missing else name)
    with pytest.raises(MissingPluginError, match=r"lesionlens\[onnx\]"):
        onnx_export.export_lens(*weights.load(HERE / "tiny.safetensors"), tmp_path / "new.onnx")
    assert not any(tmp_path.iterdir())


def test_an_export_that_cannot_be_written_leaves_the_earlier_one(tmp_path, monkeypatch):
    onnx = pytest.importorskip("onnx")
    from lesionlens.network import onnx_export

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "tiny.onnx").write_bytes(b"earlier")
    monkeypatch.setattr(onnx_export, "write_atomically", full)
    model, fp16 = onnx.load(HERE / "tiny.onnx"), WeightPrecision.FP16
    with pytest.raises(ResourceError, match="No space left"):
        onnx_export.write_model(model, tmp_path / "tiny.onnx", {}, fp16)
    assert (tmp_path / "tiny.onnx").read_bytes() == b"earlier"


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_what_is_exported_anew_answers_as_torch(tmp_path, study, lens, precision, both):
    pytest.importorskip("onnxscript")
    from lesionlens.network import weights
    from lesionlens.network.onnx_export import export_lens

    network, about = weights.load(HERE / "tiny.safetensors")
    export_lens(network, about, tmp_path / "new.onnx", WeightPrecision(precision))
    found = OnnxEngine("cpu", tmp_path / "new.onnx").predict(study, context=SILENT)
    for region in Region:
        np.testing.assert_allclose(
            found.probability[region],
            both[1].probability[region],
            atol=TINY_CLOSE if precision == "fp32" else 0.2,
        )


@pytest.mark.slow
def test_the_shipped_network_reads_the_sample_as_torch_does(tmp_path):
    """All passes and refinements; measured: 2.8e-4 of probability, 6e-5 of attention."""
    pytest.importorskip("onnxscript")
    from lesionlens.network import weights
    from lesionlens.network.onnx_export import export_lens

    export_lens(*weights.load_shipped(), tmp_path / "shipped.onnx")
    sample = Path(__file__).parents[4] / "sample_data" / "study_dicom"
    prepared = prepare(open_study(sample), RunContext(), PrepareOptions(cache=False))
    engines = OnnxEngine("cpu", tmp_path / "shipped.onnx"), LensEngine("cpu", "default")
    one, other = (e.predict(prepared, context=SILENT) for e in engines)
    for region in Region:
        ours, theirs = one.probability[region], other.probability[region]
        np.testing.assert_allclose(ours, theirs, atol=CLOSE, rtol=0)
        cut = one.thresholds[region]
        assert np.count_nonzero((ours >= cut) != (theirs >= cut)) <= 5
        largest = other.trace.cross[region].max()
        seen = (trace.cross[region] / largest for trace in (one.trace, other.trace))
        np.testing.assert_allclose(*seen, atol=CLOSE, rtol=0)
