"""Log-probabilities of packed and padded rows against transformers' own forward pass on separate rows."""

from itertools import chain
from typing import Any

import pytest
import torch

from itool_pipeline.core.token_trie import pack_row
from itool_pipeline.training import block_attention
from itool_pipeline.training.block_attention import BLOCK_ATTENTION, blocks_of
from itool_pipeline.training.fused import NATIVE_ATTENTION
from itool_pipeline.training.log_probs import TokenLogProbs
from itool_pipeline.training.lora import trainable_parameters
from itool_pipeline_tests.training.conftest import AdaptedModel

PROMPTS = ([11, 12, 13, 14, 15], [21, 22])
BRANCHES = ([[31, 32, 33], [31, 34], [35, 36, 37, 38]], [[41], [42, 43]])


def plain_log_probs(model: Any, prompt: list[int], continuation: list[int]) -> torch.Tensor:
    ids = torch.tensor([prompt + continuation])
    log_probs = model(input_ids=ids).logits[0, :-1].log_softmax(-1)
    return log_probs.gather(1, ids[0, 1:, None])[len(prompt) - 1 :, 0]


@pytest.mark.parametrize("kernels", ["fused", "plain"])
def test_packed_rows_give_what_separate_rows_give(adapted_model: AdaptedModel, kernels: Any) -> None:
    # In fp64 what is left is the fp32 of the softmax; in fp32 a gradient's rounding depends on the number of threads.
    model = adapted_model().double()
    parameters = list(trainable_parameters(model).values())
    want = [[plain_log_probs(model, p, b) for b in bs] for p, bs in zip(PROMPTS, BRANCHES, strict=True)]
    score = sum((k + 1) * lp.sum() for lps in want for k, lp in enumerate(lps))
    want_gradients = torch.autograd.grad(score, parameters)

    token_log_probs = TokenLogProbs(model, kernels)
    rows = [pack_row(p, bs) for p, bs in zip(PROMPTS, BRANCHES, strict=True)]
    wanted = [torch.unique(torch.cat([torch.from_numpy(s) for s in row.spans])).numpy() for row in rows]
    flat = token_log_probs(rows, wanted)
    parts = flat.split([len(w) for w in wanted])
    values = [dict(zip(w.tolist(), part, strict=True)) for w, part in zip(wanted, parts, strict=True)]
    got = [[torch.stack([v[i] for i in s.tolist()]) for s in row.spans] for v, row in zip(values, rows, strict=True)]
    for a, b in zip(chain(*got), chain(*want), strict=True):
        torch.testing.assert_close(a.double(), b, rtol=1e-5, atol=1e-6)
    score = sum((k + 1) * lp.sum() for lps in got for k, lp in enumerate(lps))
    for a, b in zip(torch.autograd.grad(score, parameters), want_gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_rows_that_begin_alike_are_one_row(adapted_model: AdaptedModel) -> None:
    """Values and gradients as of each row by itself; the decoder sees their common beginning once."""
    model = adapted_model().double()
    parameters = list(trainable_parameters(model).values())
    begin = [5, 6, 7, 8]
    rows = [pack_row([*begin, 9, 10], [[11, 12], [11, 13]]), pack_row([*begin, 14], [[15]]), pack_row(begin, [[9, 10]])]
    wanted = [torch.unique(torch.cat([torch.from_numpy(s) for s in row.spans])).numpy() for row in rows]
    token_log_probs = TokenLogProbs(model)
    weight = torch.arange(1.0, 7.0, dtype=torch.float64)
    alone = torch.cat([token_log_probs([r], [w]) for r, w in zip(rows, wanted, strict=True)])
    want_gradients = torch.autograd.grad((alone * weight).sum(), parameters)
    shapes: list[tuple[int, ...]] = []
    decoder = model.get_base_model().base_model
    hook = decoder.register_forward_pre_hook(
        lambda module, args, given: shapes.append(tuple(given["input_ids"].shape)), with_kwargs=True
    )
    together = token_log_probs(rows, wanted)
    hook.remove()
    # 4 + 2 + 3, 1 + 1, and of the last row its own two
    assert shapes == [(1, 13)]
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-6)
    for a, b in zip(torch.autograd.grad((together * weight).sum(), parameters), want_gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
    assert not TokenLogProbs(model, "plain").joins_rows


def test_the_blocks_of_a_pass_are_found_once_for_all_layers(
    adapted_model: AdaptedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    token_log_probs = TokenLogProbs(adapted_model())
    found: list[int] = []
    monkeypatch.setattr(block_attention, "blocks_of", lambda mask: found.append(mask.shape[-1]) or blocks_of(mask))
    row = pack_row([5, 6, 7], [[8, 9], [10]])
    for _ in range(2):
        token_log_probs([row], [row.spans[0]]).sum().backward()
    assert found == [len(row)] * 2


def test_padding_changes_nothing(adapted_model: AdaptedModel) -> None:
    model = adapted_model()
    token_log_probs = TokenLogProbs(model)
    rows = [pack_row([5, 6, 7], [[8, 9]]), pack_row([1, 2, 3, 4, 5, 6], [[7, 8, 9]])]
    wanted = [row.spans[0] for row in rows]
    together = token_log_probs(rows, wanted)
    alone = torch.cat([token_log_probs([r], [w]) for r, w in zip(rows, wanted, strict=True)])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-6)


def test_plain_kernels_replace_nothing(adapted_model: AdaptedModel) -> None:
    model = adapted_model()
    before = {name: dict(vars(module)) for name, module in model.named_modules()}
    TokenLogProbs(model, "plain")
    after = {name: dict(vars(module)) for name, module in model.named_modules()}
    assert all(after[name].keys() == before[name].keys() for name in before), "no forward is overwritten"
    assert model.get_base_model().config._attn_implementation == NATIVE_ATTENTION
    TokenLogProbs(model, "fused")
    assert "forward" in vars(model.get_base_model().model.layers[0].mlp.up_proj)
    assert model.get_base_model().config._attn_implementation == BLOCK_ATTENTION


def test_a_pass_is_one_call_of_the_module_and_of_what_is_in_it(adapted_model: AdaptedModel) -> None:
    """Hooks see every pass: of the module that is wrapped, of the decoder and of the head in it."""
    model = adapted_model()
    token_log_probs = TokenLogProbs(model)
    seen: list[str] = []
    causal = model.get_base_model()
    for name, module in (("all", token_log_probs), ("decoder", causal.base_model), ("head", causal.lm_head)):
        module.register_forward_pre_hook(lambda *_, name=name: seen.append(name))
    row = pack_row([5, 6, 7], [[8, 9]])
    token_log_probs([row], [row.spans[0]])
    assert seen == ["all", "decoder", "head"]
