"""Whose network is asked: chosen in the panel, and this machine's where a server fails."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from napari.settings import get_plugin_settings

pytest.importorskip("fastapi")

from tests.gui.window import PATIENCE_MS, control, reads, threads_ended, wait
from tests.helpers.local_server import QuickEngine, serving
from tests.helpers.ports import closed_port

from lesionlens.base.records.prediction import Capability
from lesionlens.engines.remote.address import ServerAddress
from lesionlens.napari.preferences import read_preferences
from lesionlens.network import versions
from lesionlens.network.versions import Lineage, WeightsStore


def choose(panel, server):
    line = control(panel.preparation, "Server that runs the network")
    line.setText(server)
    line.editingFinished.emit()


def analysed(panel, qtbot):
    wait(qtbot, panel)


def test_a_server_is_chosen_asked_and_named(loaded, qtbot):
    with serving({"quick": QuickEngine(can=frozenset({Capability.SEGMENT}))}) as server:
        choose(loaded, server.url)
        assert get_plugin_settings("lesionlens").engine.server == server.url
        assert server.url.partition("//")[2] in reads(loaded.preparation)
        control(loaded.run, "Analyse").click()
        analysed(loaded, qtbot)
        analysis = loaded.session.state.analysis
        assert analysis.run.engine.name == "quick"
        assert "on the server 127.0.0.1" in analysis.run.device


def test_weights_that_were_taken_into_use_meanwhile_are_used(
    loaded, random_weights, tmp_path, monkeypatch
):
    """An open window kept those with which it had analysed first."""
    monkeypatch.setattr(versions, "user_folders", SimpleNamespace(data=lambda: tmp_path))
    lens = loaded.actions_.loaded_lens.load(read_preferences().engine)
    assert loaded.actions_.loaded_lens.load(read_preferences().engine) is lens
    accepted = WeightsStore().accept(random_weights, Lineage("ours", "0" * 64), by="A. Reader")
    now = loaded.actions_.loaded_lens.load(read_preferences().engine).engine.info.weights_sha256
    assert now == accepted.sha256 != lens.engine.info.weights_sha256


def test_one_of_the_servers_models_is_chosen(loaded, qtbot, monkeypatch):
    other = QuickEngine(can=frozenset({Capability.SEGMENT}))
    with serving({"plain": QuickEngine(), "another one": other}) as server:
        choose(loaded, server.url)
        models = control(loaded.preparation, "Model of the server")
        qtbot.waitUntil(lambda: models.count() == 3, timeout=PATIENCE_MS)
        assert [models.itemText(n) for n in range(3)] == [
            "its first (plain)", "plain", "another one"
        ]  # fmt: skip
        models.setCurrentIndex(2)
        models.activated.emit(2)
        assert read_preferences().server_model == "another one"
        assert "(another one)" in reads(loaded.preparation)
        lens = loaded.actions_.loaded_lens.load(read_preferences().engine)
        assert lens.engine.info.capabilities == other.can
        lens.engine.close()
    choose(loaded, "")
    assert read_preferences().server_model == ""


@pytest.fixture
def dead_port():
    with closed_port() as port:
        yield port


def test_a_dead_server_is_explained_and_this_machine_offered(
    loaded, qtbot, result, monkeypatch, dead_port
):
    port = dead_port
    choose(loaded, f"http://127.0.0.1:{port}")
    assert not control(loaded.problem, "Analyse on this machine").isVisibleTo(loaded)
    control(loaded.run, "Analyse").click()
    analysed(loaded, qtbot)
    problem = loaded.session.state.problem
    assert f"no response from 127.0.0.1:{port}" in problem.found
    assert "--" not in problem.next_step
    assert loaded.session.state.study is not None
    assert control(loaded.problem, "Analyse on this machine").isVisibleTo(loaded)
    asked = []

    def here(study, options, **how):
        return result

    monkeypatch.setattr(
        loaded.actions_.loaded_lens, "load", lambda p: asked.append(p.server) or here
    )
    control(loaded.problem, "Analyse on this machine").click()
    analysed(loaded, qtbot)
    assert asked == [None]
    assert loaded.session.state.analysis is not None
    assert read_preferences().server  # it was for this once


def test_what_is_no_address_is_refused_and_the_choice_stays(loaded):
    for odd in ("gpu-host", "ftp://gpu-host", "http://192.0.2.7:8000"):
        choose(loaded, odd)
        assert loaded.session.state.problem is not None
        assert not loaded.session.state.problem.of_server
        assert read_preferences().server_address is None
        control(loaded.run, "Analyse").click()  # by the click with which the field was left
        assert not loaded.jobs.running, "analysed on this machine, without a word"
        assert "Nothing was analysed, because the server" in reads(loaded)
    choose(loaded, "https://192.0.2.7:8000")
    assert loaded.session.state.problem is None
    assert read_preferences().server_address == ServerAddress("https://192.0.2.7:8000")
    choose(loaded, "")
    assert read_preferences().server_address is None


def test_a_key_file_that_is_gone_is_reported_when_an_analysis_is_requested(loaded, tmp_path, qtbot):
    """Each study that was opened raised it outside of every act, as a defect with a traceback."""
    settings = get_plugin_settings("lesionlens").engine
    settings.server, settings.server_key_file = "https://gpu:8000", str(tmp_path / "gone.txt")
    loaded.actions_.preload_network()
    threads_ended(qtbot)
    assert loaded.session.state.problem is None
    control(loaded.run, "Analyse").click()
    analysed(loaded, qtbot)
    assert "no usable key in 'gone.txt'" in loaded.session.state.problem.found
