"""The prompt network as ONNX answers as torch does."""

import numpy as np
import pytest
import torch

from lesionlens.cli.export_model import export_model
from lesionlens.network import onnx_export
from lesionlens.network.prompt.model import (
    FACTS,
    MAPS,
    PROMPTS,
    PromptConfig,
    PromptInput,
    PromptNetwork,
)
from lesionlens.network.prompt.weights import PromptNotes, load_shipped


@pytest.mark.slow
def test_the_onnx_file_answers_crops_of_any_size_as_torch_does(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    from lesionlens.network.onnx_export import PROMPT_FORMAT, export_prompt

    torch.manual_seed(0)
    network = PromptNetwork(PromptConfig((8, 16, 24), 4)).eval()
    with torch.no_grad():  # as in the file: float16
        for weight in network.parameters():
            weight.copy_(weight.half().float())
    maps, facts = torch.randn(1, MAPS, 24, 16, 32), torch.randn(1, FACTS)
    maps[:, PROMPTS] = maps[:, PROMPTS].abs()
    with torch.inference_mode():
        wanted = network(PromptInput(maps, facts), trace=True)
    export_prompt(network, PromptNotes("0", "nothing", 0), "12ab", tmp_path / "prompt.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "prompt.onnx")
    held = session.get_modelmeta().custom_metadata_map
    assert (held["format"], held["weights_sha256"]) == (PROMPT_FORMAT, "12ab")
    logits, attention = session.run(None, {"maps": maps.numpy(), "facts": facts.numpy()})
    np.testing.assert_allclose(logits, wanted.logits.numpy(), atol=2e-3)
    np.testing.assert_allclose(attention, wanted.attention.numpy(), atol=1e-4)
    assert attention.sum() == pytest.approx(1, abs=1e-3)


def test_the_command_says_that_the_network_for_small_objects_is_not_in_the_file(
    tmp_path, monkeypatch
):
    """Result.prompt asks it first, so that the file alone answers otherwise."""
    out = tmp_path / "prompt.onnx"
    monkeypatch.setattr(onnx_export, "export_prompt", lambda *given: given[-1].write_bytes(b"made"))
    words = " ".join(export_model(prompts=True, out=out).output)
    _, notes, _ = load_shipped()
    assert f"general prompt network, weights {notes.version}" in words
    assert "small objects, which is used first" in words
    assert "is not included" in words
