"""Flash and readable attention are the same numbers."""

import torch

from lesionlens.network import attention
from lesionlens.network.attention import GridCrossAttention, SelfAttention


def _qkv(queries=37, keys=50, width=16):
    generator = torch.Generator().manual_seed(3)
    sizes = ((2, 4, queries, width), (2, 4, keys, width), (2, 4, keys, width))
    return [torch.randn(size, generator=generator) for size in sizes]


def test_flash_and_readable_agree_in_float32():
    q, k, v = _qkv()
    torch.testing.assert_close(attention.flash(q, k, v), attention.readable(q, k, v))


def test_flash_agrees_with_the_weights_of_a_bias():
    q, k, v = _qkv()
    bias = torch.randn(2, 4, 37, 50, generator=torch.Generator().manual_seed(5))
    expected = attention.weights(q, k, bias) @ v
    torch.testing.assert_close(attention.flash(q, k, v, bias), expected)


def test_flash_and_readable_agree_in_bfloat16():
    q, k, v = (t.bfloat16() for t in _qkv())
    exact = attention.readable(*(t.float() for t in (q, k, v)))
    for form in (attention.flash, attention.readable):
        torch.testing.assert_close(form(q, k, v).float(), exact, atol=0.03, rtol=0.03)


def test_readable_in_blocks_equals_readable_at_once(monkeypatch):
    q, k, v = _qkv()
    whole = attention.readable(q, k, v)
    monkeypatch.setattr(attention, "QUERY_BLOCK", 5)
    torch.testing.assert_close(attention.readable(q, k, v), whole)


def test_weights_add_up_to_one():
    q, k, _ = _qkv()
    total = attention.weights(q, k).sum(-1)
    torch.testing.assert_close(total, torch.ones_like(total))


def test_cross_attention_without_projected_voxels_is_plain_attention():
    torch.manual_seed(0)
    cross = GridCrossAttention(dim=12, features=8, heads=2).eval()
    query, grid = torch.randn(1, 3, 12), torch.randn(1, 30, 8)
    bias = torch.randn(1, 3, 30)
    out, kept = cross(query, grid, bias, True)
    projected = cross.to_query(cross.norm(query)).view(1, 3, 2, 8).transpose(1, 2)
    by_hand = (projected @ grid[:, None].transpose(-1, -2) / 8**0.5 + bias[:, None]).softmax(-1)
    torch.testing.assert_close(kept, by_hand)
    again, nothing = cross(query, grid, bias, False)
    assert nothing is None
    torch.testing.assert_close(again, out)


def test_self_attention_hands_out_the_q_and_k_it_used():
    torch.manual_seed(0)
    block = SelfAttention(24, heads=4, ratio=2).eval()
    tokens = torch.randn(1, 20, 24)
    out, q, k = block(tokens)
    v = block.qkv(block.norm1(tokens))[..., 48:].view(1, 20, 4, 6).transpose(1, 2)
    seen = (attention.weights(q, k) @ v).transpose(1, 2).reshape(1, 20, 24)
    mixed = tokens + block.out(seen)
    torch.testing.assert_close(out, mixed + block.mlp(block.norm2(mixed)))
