"""Which network decides: the server's, and this machine's only where the user said so."""

from dataclasses import fields, replace
from pathlib import Path

import pytest
import typer
from tests.helpers.ports import closed_port

from lesionlens.base.errors import ServerError, UnusableInputError
from lesionlens.cli.engine_options import EngineOptions
from lesionlens.cli.main import app
from lesionlens.engines import plugin_engines
from lesionlens.engines.engine_choice import EngineChoice
from lesionlens.engines.remote.address import KEY_VARIABLE, ServerAddress

AT_A_SERVER = EngineOptions(server="http://127.0.0.1:9")


@pytest.fixture
def made(monkeypatch):
    """Which engines were made; a server's never answers."""
    names = []

    def make(name, **how):
        names.append(name)
        if name == "remote":
            raise ServerError(found="no answer", expected="one", next_step="Wait")
        return "here"

    monkeypatch.setattr(plugin_engines, "make_engine", make)
    return names


def test_a_server_that_fails_ends_the_command_unless_allowed_to_fall_back(made):
    with pytest.raises(ServerError):
        AT_A_SERVER.choice().run(EngineChoice.load)
    assert made == ["remote"]
    result, notes = replace(AT_A_SERVER, fall_back=True).choice().run(EngineChoice.load)
    assert result == "here"
    assert made == ["remote", "remote", "lens"]
    assert "no answer" in notes[0]
    assert "this machine" in notes[0]


def test_an_engine_beside_a_bundle_is_refused():
    """The bundle was run, and the engine that was named was not mentioned."""
    with pytest.raises(UnusableInputError, match="both the engine 'onnx' and a bundle"):
        EngineOptions(engine="onnx", bundle=Path("b")).choice()
    assert EngineOptions(engine="monai-bundle", bundle=Path("b")).choice().bundle == Path("b")


@pytest.mark.parametrize(
    ("engine", "needed"), [("monai-bundle", "--bundle"), ("remote", "--server")]
)
def test_an_engine_without_what_it_runs_is_refused(engine, needed):
    """The bundle's was called a defect of LesionLens, whose list of engines names it."""
    with pytest.raises(UnusableInputError, match=f"the engine '{engine}' without {needed}"):
        EngineOptions(engine=engine).choice().load()


@pytest.mark.parametrize(
    "beside",
    [{"weights": "w"}, {"bundle": Path("b")}, {"device": "cuda"}, {"precision": "float32"}],
)
def test_the_network_and_device_of_a_server_are_its_own(beside):
    with pytest.raises(UnusableInputError, match="--server"):
        replace(AT_A_SERVER, **beside).choice()


def options_of(*names):
    """Return the names of the options of a command in the terminal."""
    command = typer.main.get_command(app)
    for name in names:
        command = command.commands[name]
    return {option.name for option in command.params}


@pytest.mark.parametrize(
    "command", [("analyze",), ("batch",), ("worklist", "ahead"), ("acceptance",)]
)
def test_every_command_that_analyses_has_the_same_options(command):
    assert {one.name for one in fields(EngineOptions)} <= options_of(*command)


def test_the_key_comes_from_its_file_or_the_environment(tmp_path, monkeypatch):
    file = tmp_path / "key.txt"
    file.write_text("a-key-of-more-than-sixteen-letters\n")
    found = EngineOptions(server="https://gpu:8000", api_key_file=file).choice().server
    assert found.api_key == "a-key-of-more-than-sixteen-letters"
    assert "sixteen" not in repr(found)
    monkeypatch.setenv(KEY_VARIABLE, "the-environments-own-key")
    found = EngineOptions(server="https://gpu:8000").choice().server
    assert found.api_key == "the-environments-own-key"
    assert EngineOptions().choice() == EngineChoice()


@pytest.mark.parametrize(
    "key", ["too-short", "a key of more than sixteen", "läuft-nicht-mit-diesem"]
)
def test_a_key_of_the_environment_is_checked_as_one_of_a_file(monkeypatch, key):
    """A character beyond ASCII was reported as a defect, a line's end as an unusable address."""
    monkeypatch.setenv(KEY_VARIABLE, key)
    with pytest.raises(UnusableInputError, match=f"no usable key in {KEY_VARIABLE}"):
        EngineOptions(server="https://gpu:8000").choice()
    with pytest.raises(UnusableInputError, match="no usable key for gpu:8000"):
        ServerAddress("https://gpu:8000", key)
    monkeypatch.setenv(KEY_VARIABLE, "the-environments-own-key\r\n")
    assert ServerAddress("https://gpu:8000").api_key == "the-environments-own-key"


def test_nobody_listens_where_nobody_does():
    with closed_port() as port, pytest.raises(ServerError, match="no response from"):
        EngineOptions(server=f"http://127.0.0.1:{port}").choice().run(EngineChoice.load)


@pytest.mark.parametrize("command", ["bench", "learn", "serve", "train"])
def test_every_command_that_computes_takes_device_precision_and_threads(command):
    assert {"device", "precision", "threads"} <= options_of(command)
