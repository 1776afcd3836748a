"""A bundle never reaches the network: its own weights are all that is loaded."""

from __future__ import annotations

import socket

import pytest

from lesionlens.base.errors import UnusableInputError
from lesionlens.engines.bundle import files


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refused(*_, **__):
        raise AssertionError("the network was reached for")

    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.setattr(socket, "getaddrinfo", refused)
    monkeypatch.setattr("torch.hub.load_state_dict_from_url", refused)


def test_a_network_that_asks_for_pretrained_weights_gets_none():
    about = {"model_name": "efficientnet-b0", "pretrained": True, "spatial_dims": 2}
    assert files._build({"_target_": "EfficientNetBN", **about})


@pytest.mark.parametrize("text", ["a: [", "\t: x", "a: &a [*a", "'"])
def test_broken_yaml_is_refused_in_words(tmp_path, text):
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "inference.yaml").write_text(text)
    with pytest.raises(UnusableInputError, match=r"a broken inference\.yaml"):
        files._config(tmp_path, "inference")
