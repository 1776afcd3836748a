"""Attention, Grad-CAM and occlusion of MONAI's networks, against MONAI's own and by hand."""

import pytest
import torch

pytest.importorskip("einops", reason="MONAI's transformers need einops")

from monai.networks.blocks.patchembedding import PatchEmbed, PatchEmbeddingBlock
from monai.networks.blocks.selfattention import SABlock
from monai.networks.nets import UNETR, SegResNet
from monai.networks.nets.swin_unetr import SwinTransformerBlock, compute_mask, get_window_size
from monai.visualize import GradCAM
from torch import nn

from lesionlens.base.labels import Region
from lesionlens.engines import gradcam
from lesionlens.engines.bundle import attention
from lesionlens.engines.bundle import maps as bundle_maps

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
SIZE = (32, 48, 32)


def unetr(**options):
    torch.manual_seed(0)
    sizes = {"feature_size": 4, "hidden_size": 24, "mlp_dim": 32, "num_heads": 2}
    return UNETR(4, 3, SIZE, **sizes, **options).eval()


def test_what_is_read_is_what_monai_saves_where_it_can():
    saving = unetr(save_attn=True)
    x = torch.randn(1, 4, *SIZE)
    with torch.inference_mode():
        plain = saving(x)
        saved = [m.att_mat.mean(1) for m in saving.modules() if isinstance(m, SABlock)]
        with attention.recording(unetr(), SIZE) as layers:
            pass
        assert layers == []
        network = unetr()
        with attention.recording(network, SIZE) as layers:
            torch.testing.assert_close(network(x), plain)
    assert [layer.grid for layer in layers] == [(2, 3, 2)] * 12
    for layer, matrix in zip(layers, saved, strict=True):
        torch.testing.assert_close(layer.weights, matrix)


def test_flash_attention_is_read_too_and_put_back():
    block = SABlock(24, 2, use_flash_attention=True).eval()
    tokens = torch.randn(1, 8, 24)
    with torch.inference_mode():
        plain = block(tokens)
        with attention.recording(block, (32, 32, 32)) as layers:
            torch.testing.assert_close(block(tokens), plain, atol=1e-6, rtol=1e-5)
    assert block.use_flash_attention
    assert not block.save_attn
    assert block.att_mat.numel() == 0  # the matrices take memory
    assert layers[0].grid == (2, 2, 2)
    torch.testing.assert_close(layers[0].weights.sum(-1), torch.ones(1, 8))
    assert not block._forward_hooks


def test_a_class_token_is_left_out():
    block = SABlock(24, 2).eval()
    with attention.recording(block, (32, 32, 32)) as layers, torch.inference_mode():
        block(torch.randn(1, 9, 24))
        block(torch.randn(1, 11, 24))
    assert [layer.weights.shape for layer in layers] == [(1, 8, 8)]


@pytest.mark.parametrize("shift", [(0, 0, 0), (2, 2, 2)])
@pytest.mark.parametrize("grid", [(10, 7, 8), (5, 9, 3)])
def test_shifted_windows_are_followed_as_the_block_mixes_them(shift, grid):
    """The block as a matrix A, by its own code: rows A x is draw(rows) x for any rows and x."""
    torch.manual_seed(1)
    block = SwinTransformerBlock(4, 1, (5, 5, 5), shift).eval()
    block.norm1 = block.attn.proj = nn.Identity()
    with torch.no_grad():
        block.attn.qkv.bias.zero_()
        block.attn.qkv.weight[8:] = torch.eye(4)  # values are the tokens themselves
        block.attn.relative_position_bias_table.normal_()
    window, moved = get_window_size(grid, (5, 5, 5), shift)
    dims = [-(-n // w) * w for n, w in zip(grid, window, strict=True)]
    mask = compute_mask(dims, window, moved, torch.device("cpu"))
    x, rows = torch.randn(1, *grid, 4), torch.rand(2, *grid)
    block.attn.use_flash_attention = True
    with attention.recording(nn.Sequential(block), (1, 1, 1)) as layers, torch.no_grad():
        block(x, mask)
        mixed = block.forward_part1(x, mask)
    assert block.attn.use_flash_attention
    seen = layers[0].propagate(rows)
    expected = torch.einsum("rijk,ijkc->rc", rows, mixed[0])
    torch.testing.assert_close(
        torch.einsum("rijk,ijkc->rc", seen, x[0]), expected, atol=0.02, rtol=0.01
    )


def test_stages_are_rolled_out_from_the_region_and_averaged():
    swap = torch.tensor([[[0.0, 1.0], [1.0, 0.0]]])
    stay = torch.eye(4)[None]
    layers = [
        attention.Layer(stay, (4, 1, 1), (4, 1, 1)),
        attention.Layer(swap, (2, 1, 1), (2, 1, 1)),
    ]
    drawn = torch.zeros(2, 4, 1, 1)
    drawn[0, 0] = 1
    found = attention.of_regions(layers, drawn)
    torch.testing.assert_close(found.sum((1, 2, 3)), torch.tensor([1.0, 0.0]))
    fine, coarse = torch.tensor([1.0, 0, 0, 0]), torch.tensor([0.25] * 4)
    torch.testing.assert_close(found[0, :, 0, 0], (fine + coarse) / 2)


def test_grad_cam_is_monais():
    torch.manual_seed(0)
    network = SegResNet(3, 8, 2, 3, blocks_down=(1, 1), blocks_up=(1,)).eval()
    x = torch.randn(1, 2, 16, 24, 16)
    with torch.no_grad():
        drawn = network(x)[0, 1] > 0

    class Summed(nn.Module):
        def __init__(self):
            super().__init__()
            self.network = network

        def forward(self, x):
            return self.network(x)[:, 1][:, drawn].sum(1, keepdim=True)

    layer = gradcam.last_convolution_below(network, 2, x)
    (name,) = (n for n, m in network.named_modules() if m is layer)
    ours = gradcam.maps(network, layer, x, {Region.WT: 1})[Region.WT]
    theirs = GradCAM(Summed(), f"network.{name}", postprocessing=lambda x: x).compute_map(x, 0)
    theirs = nn.functional.interpolate(theirs, size=x.shape[2:], mode="trilinear")[0, 0]
    torch.testing.assert_close(ours, theirs.detach(), atol=1e-6, rtol=1e-4)


def test_volumes_are_padded_at_their_high_ends():
    assert bundle_maps.padded(torch.ones(1, 2, 3, 4, 5), (3, 6, 8)).shape == (1, 2, 3, 6, 8)
    assert bundle_maps.padded(torch.ones(2, 3, 4, 5), (2, 4, 6))[0, :, :, 5:].sum() == 0


def test_the_finest_tokens_say_how_coarse_a_map_is():
    blocks = nn.ModuleList([PatchEmbeddingBlock(1, 32, 16, 8, 2), PatchEmbed(4, 1, 8)])
    assert attention.token_edge(blocks, (32, 32, 32)) == 4
    assert attention.token_edge(blocks[:1], (32, 32, 32)) == 16
    assert attention.token_edge(nn.Conv3d(1, 1, 1), (32, 32, 32)) == 1
