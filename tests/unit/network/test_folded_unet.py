"""The shipped U-Nets."""

import pytest
import torch

from lesionlens.network.folded_unet import FoldedUNet, fold, unfold


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d])
def test_folding_to_predict_gives_the_same_voxels_channels_last(layout):
    image = torch.randn(2, 3, 4, 6, 8).to(memory_format=layout)
    with torch.inference_mode():
        found = fold(image)
    assert torch.equal(found, fold(image))
    assert found.is_contiguous(memory_format=torch.channels_last_3d)
    assert torch.equal(unfold(found), image)


@pytest.mark.parametrize("rows", [2, 16, 18, 50])
def test_an_outline_predicted_slab_by_slab_is_that_of_the_whole(rows, monkeypatch):
    torch.manual_seed(0)
    network = FoldedUNet(2)
    cells = torch.randn(1, 24, rows // 2, 6, 5).contiguous(memory_format=torch.channels_last_3d)
    image = torch.randn(1, 2, rows, 12, 10)
    heights = []
    predict = network._fine_logits
    monkeypatch.setattr(
        network, "_fine_logits", lambda *slab: heights.append(slab[1].shape[2]) or predict(*slab)
    )
    with torch.inference_mode():
        by_slabs = network._slab_logits(cells, image)
        assert torch.equal(by_slabs, predict(cells, image))
    assert max(heights) <= 20
