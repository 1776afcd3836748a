"""A bundle never reaches the network: its own weights are all that is loaded."""

from __future__ import annotations

import socket

import pytest
from monai.networks import nets
from torch import nn

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


def test_no_option_of_any_network_downloads_weights():
    classes = {value for value in vars(nets).values() if isinstance(value, type)}
    offered = [c for c in classes if issubclass(c, nn.Module) and c is not nets.Transchex]
    named = {"pretrained": True, "pretrained_url": "https://example.org/a", "weights": "DEFAULT"}
    chosen = [files._options(c, {"_target_": c.__name__, **named}) for c in offered]
    assert all(not options[key] for options in chosen for key in named)


def test_a_network_that_always_downloads_weights_is_refused():
    with pytest.raises(UnusableInputError, match="which downloads weights"):
        files._build({"_target_": "Transchex", "path_or_repo_id": "someone/else"})


@pytest.mark.parametrize("place", ["network_def", "name"])
def test_aliases_of_yaml_that_multiply_are_refused_at_once(tmp_path, place):
    aliases = "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10))
    (tmp_path / "configs").mkdir()
    text = f"a0: &a0 [x, x]\n{aliases}{place}: *a9\n"
    (tmp_path / "configs" / "metadata.yaml").write_text(text)
    with pytest.raises(UnusableInputError, match=r"a broken metadata\.yaml"):
        files.read(tmp_path)
