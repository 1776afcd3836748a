import pytest
import torch

from lesionlens.network.prompt.model import (
    FACTS,
    MAPS,
    NAMED,
    OUTLINE,
    PROMPTS,
    PromptConfig,
    PromptInput,
    PromptNetwork,
)

N = 16


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(3)
    return PromptNetwork(PromptConfig((8, 16, 16), 4, 2)).eval()


def asked(seed=0):
    maps = torch.randn(1, MAPS, N, N, N, generator=torch.Generator().manual_seed(seed)).clamp(-1, 1)
    maps[:, PROMPTS] = 0
    maps[:, PROMPTS.start, 8, 8, 8] = 4.0
    return PromptInput(maps, torch.zeros(1, FACTS))


@torch.inference_mode()
def test_both_forms_of_the_attention_give_the_same_answer(network):
    flash, readable = network(asked()), network(asked(), trace=True)
    torch.testing.assert_close(flash.logits, readable.logits, atol=1e-5, rtol=1e-5)
    assert flash.attention is None


@torch.inference_mode()
def test_the_attention_adds_up_to_one_and_depends_on_where_was_pointed_at(network):
    here = network(asked(), trace=True).attention
    torch.testing.assert_close(here.sum(), torch.tensor(1.0))
    moved = asked()
    moved.maps[:, PROMPTS.start] = moved.maps[:, PROMPTS.start].roll(8, 1)
    assert not torch.allclose(here, network(moved, trace=True).attention)


@torch.inference_mode()
def test_without_evidence_the_answer_is_the_outline_else_the_analysis_else_nothing():
    blank = PromptNetwork(PromptConfig((8, 16, 16), 4, 2)).eval()
    for weights in (
        blank.last.weight,
        blank.last.bias,
        blank.embedding.weight,
        blank.embedding.bias,
    ):
        weights.zero_()
    maps, facts = torch.zeros(1, MAPS, N, N, N), torch.zeros(1, FACTS)
    assert (blank(PromptInput(maps, facts)).logits < 0).all()
    maps[:, NAMED], maps[:, NAMED, :8] = -1, 1
    facts[:, 4] = facts[:, 7] = 1
    assert ((blank(PromptInput(maps, facts)).logits > 0) == (maps[:, NAMED : NAMED + 1] > 0)).all()
    maps[:, OUTLINE], maps[:, OUTLINE, :, :8] = -1, 1
    facts[:, 8] = 1
    assert (
        (blank(PromptInput(maps, facts)).logits > 0) == (maps[:, OUTLINE : OUTLINE + 1] > 0)
    ).all()


def test_the_shipped_size_stays_below_8_mb():
    sizes = sum(p.numel() for p in PromptNetwork(PromptConfig()).parameters())
    assert 2 * sizes < 8e6
