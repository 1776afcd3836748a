"""Which unread studies would teach most, and why."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lesionlens.base.errors import UnusableInputError
from lesionlens.base.labels import ReviewState
from lesionlens.base.records.review import WHOLE_STUDY, Review, ReviewEvent
from lesionlens.engines.testing.analysis import make_analysis, write_study
from lesionlens.engines.testing.simple import Lesion, make_patient
from lesionlens.imaging.reading.image_features import brightness, image_features
from lesionlens.results.export.exporter import save
from lesionlens.training.learning.order import Card, expected_loss, order
from lesionlens.training.learning.suggest import suggest


def card(name, unsure=0.1, disputed=0.1, **features):
    return Card(name, unsure, disputed, features)


def names(found):
    return [one.card.name for one in found]


def test_the_unsure_and_disputed_come_first():
    cards = [card("sure", 0.01, 0.0), card("unsure", 0.6, 0.4), card("middle", 0.2, 0.1)]
    assert names(order(cards, [])) == ["unsure", "middle", "sure"]


def test_a_study_unlike_those_read_comes_first_and_the_reason_says_in_what():
    read = [card(f"r{n}", noise=0.1 + 0.001 * n) for n in range(5)]
    cards = [card("alike", noise=0.102), card("noisy", noise=0.9), card("near", noise=0.104)]
    found = order(cards, read)
    assert found[0].card.name == "noisy"
    assert "unlike those read: noise 0.9" in found[0].reason


def test_doubt_where_nothing_is_flagged_speaks_of_no_outline():
    (found,) = order([card("u", 0.9, 0.0, candidates=0.0)], [card("r", candidates=0.0)])
    assert "nothing is flagged, and that is unsure" in found.reason


def test_ten_alike_are_not_suggested_in_a_row():
    """Of two kinds that are equally new, the second suggestion is of the other kind."""
    cards = [card(f"a{n}", x=5.0 + n / 1000) for n in range(6)]
    cards += [card(f"b{n}", x=-5.0 - n / 1000) for n in range(6)]
    first, second = names(order(cards, [card("r", x=0.0)]))[:2]
    assert first[0] != second[0]


@given(
    st.lists(
        st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(-1e6, 1e6)), min_size=1, max_size=12
    )
)
def test_every_study_is_suggested_once_with_a_reason(rows):
    cards = [card(str(n), u, d, x=x) for n, (u, d, x) in enumerate(rows)]
    found = order(cards, cards[:1])
    assert sorted(names(found)) == sorted(str(n) for n in range(len(rows)))
    assert all(one.reason for one in found)


def test_a_faint_background_is_no_doubt_of_an_outline():
    brain = np.full((50, 50, 50), 0.02, np.float32)
    nothing = np.zeros(brain.shape, bool)
    assert expected_loss(brain, nothing, 0.001) == 0.0
    doubtful = brain.copy()
    doubtful[:20, :20, :20] = 0.4
    assert expected_loss(doubtful, nothing, 0.001) > 0.7


def test_what_is_not_known_of_a_study_does_not_make_it_new():
    read = [card("r", x=1.0, y=2.0), card("s", x=1.1, y=2.2)]
    (found,) = order([card("u", x=1.05)], read)
    assert np.isfinite(found.novelty)
    assert found.novelty < 1.0


def test_noise_and_contrast_are_seen_whatever_the_scanner_s_unit():
    rng = np.random.default_rng(0)
    plain = np.zeros((40, 40, 40), np.float32)
    plain[5:35, 5:35, 5:35] = np.linspace(50, 150, 30, dtype=np.float32)[None, None]
    noisy = plain + np.where(plain > 0, rng.normal(0, 20, plain.shape), 0).astype(np.float32)
    for key, value in brightness(plain).items():
        assert brightness(plain * 7.0)[key] == pytest.approx(value, abs=1e-4)
    assert brightness(noisy)["noise"] > 5 * brightness(plain)["noise"]
    assert brightness(np.zeros((9, 9, 9), np.float32)) == {}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Three results: one signed, two not, of which one lesion is small."""
    root = tmp_path_factory.mktemp("suggest")
    for number, name in enumerate(("read", "large", "small")):
        lesion = Lesion((-28.0, 8.0, 26.0), 8.0 if name == "small" else 20.0)
        patient = make_patient(number, spacing_mm=4.0, lesions=(lesion,))
        study = write_study(patient, root / "studies" / name)
        save(make_analysis(patient, study), root / "results" / name)
    end = ReviewEvent(
        WHOLE_STUDY, ReviewState.ACCEPTED, "A. Reader", "2026-01-05T10:15:00Z", "nothing further"
    )
    file = root / "results" / "read" / "review.json"
    content = json.loads(file.read_text())
    content["events"] = [
        {"tracking_uid": WHOLE_STUDY, "state": "accepted", "reader": end.reader, "time": end.time,
         "reason": end.reason}
    ]  # fmt: skip
    file.write_text(json.dumps(content))
    assert Review((end,)).signed
    return root


def test_results_are_read_and_signed_ones_are_what_is_known(place):
    found = suggest(place / "results", place / "studies")
    assert found.read == 1
    assert sorted(names(found.order)) == ["large", "small"]
    features = found.order[0].card.features
    assert {"candidates", "T1c noise", "FLAIR voxel (mm)"} <= set(features)


def test_a_damaged_result_costs_itself_alone(place, tmp_path):
    import shutil

    shutil.copytree(place / "results", tmp_path / "results")
    (tmp_path / "results" / "small" / "segmentation.nii.gz").write_bytes(b"no")
    found = suggest(tmp_path / "results")
    assert [name for name, _ in found.left_out] == ["small"]
    assert names(found.order) == ["large"]


def test_nothing_to_suggest_is_refused(tmp_path):
    with pytest.raises(UnusableInputError, match="no unread study"):
        suggest(tmp_path)


def test_image_features_of_a_study(place):
    found = image_features(place / "studies" / "large")
    assert found["has T1c"] == 1.0
    assert 0 <= found["T2 median"] <= 1
