"""Which network decides: the server's, and this machine's only where the user said so."""

import socket

import pytest

from lesionlens import lens
from lesionlens.base.errors import ServerError, UnusableInputError
from lesionlens.cli.network import ChosenNetwork, server_address
from lesionlens.engines.remote.address import KEY_VARIABLE


@pytest.fixture
def made(monkeypatch):
    """What was asked of `Lens`; a server's never answers."""
    asked = []

    def make(device="auto", **how):
        asked.append(how)
        if how.get("server") is not None:
            raise ServerError(found="no answer", expected="one", next_step="Wait")
        return "here"

    monkeypatch.setattr(lens, "Lens", make)
    return asked


def chosen(**how):
    address = server_address("http://127.0.0.1:9", None, None, False)
    plain = {"device": "auto", "weights": None, "bundle": None, "engine": "lens", "patience": 2.0}
    return ChosenNetwork(**{**plain, "server": address, **how})


def test_a_server_that_fails_ends_the_command_unless_allowed_to_fall_back(made):
    with pytest.raises(ServerError):
        chosen().run(lambda lens: lens)
    assert len(made) == 1
    result, notes = chosen(fall_back=True).run(lambda lens: lens)
    assert result == "here"
    assert "no answer" in notes[0]
    assert "this machine" in notes[0]


@pytest.mark.parametrize("beside", [{"weights": "w"}, {"bundle": "b"}, {"device": "cuda"}])
def test_the_network_and_device_of_a_server_are_its_own(made, beside):
    with pytest.raises(UnusableInputError, match="--server"):
        chosen(**beside).run(lambda lens: lens)
    assert not made


def test_the_key_comes_from_its_file_or_the_environment(tmp_path, monkeypatch):
    file = tmp_path / "key.txt"
    file.write_text("a-key-of-more-than-sixteen-letters\n")
    found = server_address("https://gpu:8000", file, None, False)
    assert found.api_key == "a-key-of-more-than-sixteen-letters"
    assert "sixteen" not in repr(found)
    monkeypatch.setenv(KEY_VARIABLE, "the-environments-own-key")
    assert (
        server_address("https://gpu:8000", None, None, False).api_key == "the-environments-own-key"
    )
    assert server_address(None, None, None, False) is None


def test_nobody_listens_where_nobody_does():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = server_address(f"http://127.0.0.1:{port}", None, None, False)
    with pytest.raises(ServerError, match="no answer from"):
        chosen(server=address).run(lambda lens: lens)
