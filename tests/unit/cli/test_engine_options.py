"""The options of commands that compute, and what they refuse."""

from dataclasses import fields
from pathlib import Path

import pytest
import typer

from lesionlens.base.errors import UnusableInputError
from lesionlens.cli.engine_options import EngineOptions
from lesionlens.cli.main import app
from lesionlens.engines import EngineChoice


def test_an_engine_beside_a_bundle_is_refused():
    with pytest.raises(UnusableInputError):
        EngineOptions(engine="other", bundle=Path("b")).choice()
    assert EngineOptions(engine="monai-bundle", bundle=Path("b")).choice().bundle == Path("b")
    assert EngineOptions().choice() == EngineChoice()


def options_of(*names):
    """Return the names of the options of a command in the terminal."""
    command = typer.main.get_command(app)
    for name in names:
        command = command.commands[name]
    return {option.name for option in command.params}


@pytest.mark.parametrize("command", [("analyze",), ("batch",), ("worklist", "ahead")])
def test_every_command_that_analyses_has_the_same_options(command):
    assert {one.name for one in fields(EngineOptions)} <= options_of(*command)


@pytest.mark.parametrize("command", ["finetune"])
def test_every_command_that_computes_takes_device_and_threads(command):
    assert {"device", "threads"} <= options_of(command)
