"""The documented command calibrates weights; with --dry it changes nothing."""

import json
import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch")


@pytest.fixture
def release(script):
    with script("training.release_weights") as module:
        yield module


def test_release_writes_weights_and_their_hash(release, tmp_path):
    from lesionlens.network import weights
    from lesionlens.network.build import build
    from lesionlens.network.weights_metadata import WeightsNotes

    torch.manual_seed(0)
    network = build("tiny")
    source = tmp_path / "run.safetensors"
    weights.save(source, network.config, network.state_dict(), WeightsNotes())
    notes = WeightsNotes(version="7", spacing_mm=1.8, thresholds=(0.5, 0.4, 0.3))
    digest = release.release(source, notes, tmp_path)
    beside = json.loads((tmp_path / "default.json").read_text("utf-8"))
    again, info = weights.load(tmp_path / "default.safetensors")
    assert beside["sha256"] == info.sha256 == digest
    assert info.version == beside["version"] == "7"
    assert info.spacing_mm == 1.8
    assert info.thresholds == (0.5, 0.4, 0.3)
    for name, value in network.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], value, atol=2e-3, rtol=2e-3)


def test_calibration_reports_its_progress_and_changes_nothing_dry(
    release, tmp_path, monkeypatch, capsys
):
    from lesionlens.analysis.evaluation.metrics import reliability
    from lesionlens.network import weights
    from lesionlens.network.build import build
    from lesionlens.network.config import preset
    from lesionlens.network.weights_metadata import WeightsNotes

    network = build(preset("tiny"))
    run = tmp_path / "run"
    run.mkdir()
    weights.save(
        run / "weights.safetensors", network.config, network.state_dict(),
        WeightsNotes(provenance={"data": "synthetic"}),
    )  # fmt: skip
    rng, fitting, scoring = np.random.default_rng(0), release.fitting, release.scoring

    def examined(job, patient):
        found = tuple(
            scoring.ScoredCandidate(
                round(x, 3), 0.5, bool(x > rng.normal()), patient, frozenset({n})
            )
            for n, x in enumerate(rng.normal(0, 2, 2), 1)
        )
        reported = rng.random(50)
        bins = reliability(reported, rng.random(50) < reported)
        return fitting.ExaminedScan(patient, 2, found, bins)

    monkeypatch.setattr(fitting, "_examined", examined)
    arguments = ["release_weights.py", str(run), "--version", "9", "--patients", "40",
             "--warm-up", "2", "--drawn-mm", "8", "--spacing", "8",
             "--target", str(tmp_path / "target"), "--dry"]  # fmt: skip
    monkeypatch.setattr(sys, "argv", arguments)
    release.main()
    output = capsys.readouterr()
    assert "Weights 9: 40 held-out scans" in output.out
    assert "examining synthetic patients: 100%" in output.err
    assert not (tmp_path / "target").exists()
