"""Small U-Nets as ONNX files that refer to the weights beside them."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from lesionlens.network.folded_unet import FoldedUNet, load_folded_unet


@pytest.mark.slow
def test_an_exported_unet_answers_as_torch_does_from_the_weights_beside_it(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    from research.training.unet_export import export_unet

    torch.manual_seed(0)
    weights = tmp_path / "new.safetensors"
    save_file({k: v.half() for k, v in FoldedUNet(2).state_dict().items()}, weights)
    network = load_folded_unet(weights, 2)
    path = export_unet(network, 2, weights, "some-format-1")
    assert path.stat().st_size < weights.stat().st_size / 10
    image = torch.randn(1, 2, 32, 48, 16)
    with torch.inference_mode():
        wanted = network(image).numpy()
    session = onnxruntime.InferenceSession(path)
    assert session.get_modelmeta().custom_metadata_map["format"] == "some-format-1"
    (logit,) = session.run(None, {"image": image.numpy()})
    np.testing.assert_allclose(logit, wanted, atol=2e-3)

    save_file({k: v.half() + 1 for k, v in FoldedUNet(2).state_dict().items()}, weights)
    with pytest.raises(ValueError, match=r"new\.safetensors does not hold"):
        export_unet(network, 2, weights, "some-format-1")
