"""Preference training: log-probabilities of packed pairs, splitting, refusals, references, and 4-bit training."""

import gc
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from bitsandbytes.nn import Params4bit
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from itool_pipeline.config import DpoLoss, OptimizerConfig, PreferenceLoss, SimpoLoss
from itool_pipeline.core.token_trie import pack_row
from itool_pipeline.core.types import Progress, no_progress
from itool_pipeline.training import items
from itool_pipeline.training.items import FittedRows, PreferenceRow, TokenPair, TrainingData, batches_of_pairs, fit_rows
from itool_pipeline.training.job import TrainingResult
from itool_pipeline.training.log_probs import TokenLogProbs
from itool_pipeline.training.lora import trainable_parameters
from itool_pipeline.training.packing import micro_batches
from itool_pipeline.training.preference import (
    branch_log_probs,
    gold_token_weight,
    preference_loss,
    preference_objective,
    with_reference,
)
from itool_pipeline.training.trainer import Execution, Folders, train_adapter
from itool_pipeline_tests.training.conftest import AdaptedModel

ROWS = (
    PreferenceRow(
        "a",
        (5, 6, 7, 8),
        (
            TokenPair((), (100, 101), (100, 102, 103)),
            TokenPair((100, 101), (104,), (105, 106)),
            TokenPair((100, 101), (104, 107), (2,)),
        ),
    ),
    PreferenceRow("b", (9, 10), (TokenPair((108,), (109,), (110,)),)),
)
FAST = OptimizerConfig(learning_rate=0.01, epochs=2, batch_size=2, checkpoint_every=1)
PAIRS = st.builds(
    TokenPair,
    st.lists(st.integers(0, 3), max_size=3).map(tuple),
    st.lists(st.integers(0, 3), min_size=1, max_size=3).map(tuple),
    st.lists(st.integers(0, 3), min_size=1, max_size=3).map(tuple),
)
SOME_ROWS = st.lists(
    st.builds(
        PreferenceRow,
        st.sampled_from("abc"),
        st.lists(st.integers(0, 3), min_size=1, max_size=4).map(tuple),
        st.lists(PAIRS, min_size=1, max_size=5).map(tuple),
    ),
    max_size=5,
)


def train_preference(
    model: Any,
    data: TrainingData[PreferenceRow],
    loss: PreferenceLoss,
    optimizer: OptimizerConfig,
    root: Path,
    progress: Progress = no_progress,
) -> TrainingResult:
    how = (optimizer, 0, Folders(root / "parts", root / "out"), Execution(progress=progress))
    return train_adapter(model, data, preference_objective(loss), *how)


def plain_log_probs(model: Any, rows: tuple[PreferenceRow, ...]) -> torch.Tensor:
    """[pairs, 2], each sequence alone through transformers' own forward pass."""

    def log_prob(prompt: tuple[int, ...], branch: tuple[int, ...]) -> torch.Tensor:
        ids = torch.tensor([prompt + branch])
        log_probs = model(input_ids=ids).logits[0, :-1].log_softmax(-1).gather(1, ids[0, 1:, None])
        total: torch.Tensor = log_probs[len(prompt) - 1 :].sum()
        return total

    return torch.stack(
        [
            torch.stack([log_prob(row.prompt + pair.path, branch) for branch in (pair.chosen, pair.rejected)])
            for row in rows
            for pair in row.pairs
        ]
    )


def test_packed_pairs_equal_separate_rows(adapted_model: AdaptedModel) -> None:
    model = adapted_model()
    parameters = list(trainable_parameters(model).values())
    weight = torch.arange(1.0, 9.0).view(4, 2)
    want = plain_log_probs(model, ROWS)
    want_gradients = torch.autograd.grad((want * weight).sum(), parameters)
    got = branch_log_probs(TokenLogProbs(model), ROWS)
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)
    for a, b in zip(torch.autograd.grad((got * weight).sum(), parameters), want_gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_siblings_in_several_pairs_count_in_each(adapted_model: AdaptedModel) -> None:
    """With `pairs.per_node: all` a fragment is chosen in one pair and rejected in another; the row holds it once."""
    best, middle, worst = (100, 101), (102,), (100, 103)
    pairs = tuple(TokenPair((7,), a, b) for a, b in ((best, middle), (best, worst), (middle, worst)))
    row = PreferenceRow("t", (5, 6), pairs)
    assert row.length == 2 + 1 + 2 + 1 + 1
    model = adapted_model()
    parameters = list(trainable_parameters(model).values())
    weight = torch.arange(1.0, 7.0).view(3, 2)
    want = plain_log_probs(model, [row])
    want_gradients = torch.autograd.grad((want * weight).sum(), parameters)
    got = branch_log_probs(TokenLogProbs(model), [row])
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)
    for a, b in zip(torch.autograd.grad((got * weight).sum(), parameters), want_gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_a_row_holds_each_prefix_once() -> None:
    # prompt 4; 100 101, 102 103 beside 101; after the path 104, 105 106, 107 after 104, 2.
    assert ROWS[0].length == 4 + 2 + 2 + 1 + 2 + 1 + 1


def test_a_row_is_packed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """However often it is measured, grouped and trained on; a row is split where a step ends, and only there."""
    packed: list[int] = []

    def counting(*parts: Any) -> Any:
        packed.append(len(parts))
        return pack_row(*parts)

    monkeypatch.setattr(items, "pack_row", counting)
    row = PreferenceRow("a", (5, 6), tuple(TokenPair((), (7, i), (8,)) for i in range(4)))
    assert row.length == row.length == len(row.packed)
    assert row.measured([(0.0, 0.0)] * 4).length == row.length
    assert micro_batches([row] * 9, lambda r: r.length, 4096) == [[row] * 9]
    assert len(packed) == 1
    assert batches_of_pairs([row], 4)[0][0] is row
    halves = batches_of_pairs([row], 3)
    assert [len(r.pairs) for step in halves for r in step] == [3, 1]


def test_simpo_over_a_batch_is_eq_11(adapted_model: AdaptedModel) -> None:
    model = adapted_model()
    log_probs = plain_log_probs(model, ROWS).detach()
    loss = preference_loss(TokenLogProbs(model), ROWS, SimpoLoss(beta=2.0, gamma=0.5))
    lengths = torch.tensor([[2.0, 3.0], [1.0, 2.0], [2.0, 1.0], [1.0, 1.0]])
    rewards = 2.0 * log_probs / lengths
    margin = rewards[:, 0] - rewards[:, 1]
    assert loss.count == 4
    assert loss.total.item() == pytest.approx(float(torch.log1p(torch.exp(0.5 - margin)).sum()), rel=1e-4)
    assert loss.sums["accuracy"] == (int((margin > 0).sum()), 4)
    assert loss.sums["margin"] == (pytest.approx(float(margin.sum()), rel=1e-3, abs=1e-3), 4)


def _log_prob(model: Any, prompt: tuple[int, ...], answer: tuple[int, ...]) -> torch.Tensor:
    """Of the answer in a row of its own."""
    return plain_log_probs(model, [PreferenceRow("gold", prompt, (TokenPair((), answer, (9,)),))])[0, 0]


def test_every_token_of_a_gold_answer_weighs_the_same() -> None:
    """An answer of the mean length, here three tokens, weighs what the config says."""
    rows = [PreferenceRow("a", (5,), (), (1, 2)), *ROWS, PreferenceRow("b", (5,), (), (1, 2, 3, 4))]
    assert gold_token_weight(1.5, rows) == 0.5
    assert gold_token_weight(1.5, ROWS) == gold_token_weight(0.0, rows) == 0.0


def test_the_gold_answer_stands_beside_the_pairs_of_its_tree(adapted_model: AdaptedModel) -> None:
    """Loss and gradients against separate rows; the gold answer begins as a branch does, and is computed with it."""
    golds = ((100, 101, 3), ())
    rows = [replace(row, gold=gold) for row, gold in zip(ROWS, golds, strict=True)]
    assert len(ROWS) == 2
    assert rows[0].length == ROWS[0].length + 1
    model, config, weight = adapted_model(), SimpoLoss(beta=2.0, gamma=0.5), 0.75
    parameters = list(trainable_parameters(model).values())
    gold = _log_prob(model, rows[0].prompt, golds[0])
    alone = preference_loss(TokenLogProbs(model), ROWS, config)
    assert preference_loss(TokenLogProbs(model), rows, config).total.item() == pytest.approx(alone.total.item())
    want = alone.total - weight * gold
    got = preference_loss(TokenLogProbs(model), rows, config, weight)
    assert got.count == alone.count
    assert got.sums == {name: (pytest.approx(value), of) for name, (value, of) in alone.sums.items()}
    torch.testing.assert_close(got.total, want, rtol=1e-4, atol=1e-4)
    want_gradients = torch.autograd.grad(want, parameters)
    for a, b in zip(torch.autograd.grad(got.total, parameters), want_gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("config", [SimpoLoss(), DpoLoss(type="dpo")], ids=["simpo", "dpo"])
def test_a_gold_answer_alone_counts_as_one_pair(adapted_model: AdaptedModel, config: PreferenceLoss) -> None:
    """Beside rows with pairs, and where a pass holds none; what is reported of pairs stays a mean over pairs."""
    model = adapted_model()
    gold, other = _log_prob(model, (5, 6), (100, 3)), _log_prob(model, (5, 6), (101,))
    log_probs = TokenLogProbs(model)
    alone = PreferenceRow("alone", (5, 6), (), gold=(100, 3))
    assert with_reference(model, log_probs, (*ROWS, alone), "start", 4096)[-1] is alone
    # A reference of its own for each pair: at the model's own start DPO's margins are rounding around 0.
    apart = [row.measured([(-3.0, -1.0), (-1.0, -4.0), (0.0, 0.0)][: len(row.pairs)]) for row in ROWS]
    pairs = preference_loss(log_probs, apart, config, 0.5)
    both = preference_loss(log_probs, [*apart, alone], config, 0.5)
    torch.testing.assert_close(both.total, pairs.total - 0.5 * gold, rtol=1e-4, atol=1e-4)
    assert both.count == pairs.count + 1 == 5
    assert both.sums == {name: (pytest.approx(value, rel=1e-4), 4) for name, (value, _) in pairs.sums.items()}
    without = preference_loss(log_probs, [alone], config, 0.5)
    torch.testing.assert_close(without.total, -0.5 * gold, rtol=1e-4, atol=1e-4)
    assert (without.count, without.sums) == (1, {"accuracy": (0.0, 0), "margin": (0.0, 0)})
    two = preference_loss(log_probs, [alone, replace(alone, gold=(101,))], config, 0.5)
    torch.testing.assert_close(two.total, -0.5 * (gold + other), rtol=1e-4, atol=1e-4)


def test_a_row_of_neither_pairs_nor_gold_is_refused() -> None:
    with pytest.raises(ValueError, match="x: a row needs a prompt, and a pair or a gold answer"):
        PreferenceRow("x", (5,), ())


def test_a_gold_answer_alone_fits_or_is_left_out() -> None:
    alone = PreferenceRow("alone", (5, 6, 7), (), gold=(1, 2))
    assert fit_rows([alone], 5) == FittedRows((alone,), 0, 0)
    assert fit_rows([alone], 4) == FittedRows((), 0, 0)
    assert fit_rows([alone], 4, "cut_left") == FittedRows((replace(alone, prompt=(6, 7)),), 0, 0)
    # the gold answer of a tree whose pairs are all too long goes with them
    row = PreferenceRow("a", (5, 6, 7), (TokenPair((), (8, 8, 8), (9,)),), gold=(1,))
    assert fit_rows([row], 4) == FittedRows((), 1, 0)


def test_a_gold_answer_alone_takes_the_place_of_a_pair_and_is_split_from_none() -> None:
    alone = [PreferenceRow(f"alone{i}", (5,), (), gold=(1,)) for i in range(2)]
    split = PreferenceRow("split", (5,), tuple(TokenPair((), (7, i), (8,)) for i in range(3)), gold=(1,))
    steps = batches_of_pairs([alone[0], split, alone[1]], 2)
    assert [[(row.name, len(row.pairs), bool(row.gold)) for row in step] for step in steps] == [
        [("alone0", 0, True), ("split", 1, True)],
        [("split", 2, False)],
        [("alone1", 0, True)],
    ]


def test_a_gold_answer_that_is_too_long_is_left_out() -> None:
    row = PreferenceRow("a", (5, 6, 7), (TokenPair((), (8,), (9,)),), gold=(1, 2, 3))
    assert fit_rows([row], 6).rows == (row,)
    assert fit_rows([row], 5).rows == (replace(row, gold=()),)
    assert fit_rows([row], 5, "cut_left").rows == (replace(row, prompt=(6, 7)),)
    assert fit_rows([row], 3, "cut_left").rows == (replace(row, prompt=(6, 7), gold=()),)


@settings(deadline=None)
@given(SOME_ROWS, st.integers(1, 4))
def test_steps_hold_exactly_so_many_pairs_in_order(rows: list[PreferenceRow], size: int) -> None:
    steps = batches_of_pairs(rows, size)
    counts = [sum(len(row.pairs) for row in step) for step in steps]
    assert all(count == size for count in counts[:-1])
    assert all(0 < count <= size for count in counts)
    flat = [(row.name, row.prompt, pair) for step in steps for row in step for pair in row.pairs]
    assert flat == [(row.name, row.prompt, pair) for row in rows for pair in row.pairs]


@settings(deadline=None)
@given(SOME_ROWS, st.integers(1, 8), st.sampled_from(["refuse", "cut_left"]))
def test_nothing_too_long_is_left_and_all_is_counted(rows: list[PreferenceRow], limit: int, overlong: Any) -> None:
    fitted = fit_rows(rows, limit, overlong)
    before = [pair for row in rows for pair in row.pairs]
    after = [pair for row in fitted.rows for pair in row.pairs]
    assert len(after) + fitted.refused == len(before)
    assert all(len(row.prompt) + pair.depth <= limit for row in fitted.rows for pair in row.pairs)
    assert all(pair in before for pair in after)  # completions are whole
    if overlong == "refuse":
        assert fitted.cut == 0
        kept = [pair for row in rows for pair in row.pairs if len(row.prompt) + pair.depth <= limit]
        assert after == kept


def test_cutting_keeps_the_end_of_the_prompt() -> None:
    fitted = fit_rows(ROWS[:1], 6, "cut_left")
    assert [row.prompt for row in fitted.rows] == [(7, 8)]
    assert (fitted.refused, fitted.cut) == (0, 3)


def test_no_completion_can_be_empty() -> None:
    with pytest.raises(ValueError, match="at least one token"):
        TokenPair((1,), (), (2,))
    with pytest.raises(ValueError, match="a row needs a prompt"):
        PreferenceRow("x", (), (TokenPair((), (1,), (2,)),))


@pytest.mark.parametrize("reference", ["start", "base"])
def test_references_are_the_start_or_the_base_model(adapted_model: AdaptedModel, reference: Any) -> None:
    model = adapted_model()
    if reference == "base":
        with model.disable_adapter():
            want = plain_log_probs(model, ROWS).detach()
    else:
        want = plain_log_probs(model, ROWS).detach()
    rows = with_reference(model, TokenLogProbs(model), ROWS, reference, 4096)
    got = torch.tensor([pair.reference for row in rows for pair in row.pairs])
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)
    assert [row.name for row in rows] == ["a", "b"]


LOSSES = TypeAdapter[PreferenceLoss](PreferenceLoss)


def loss_section(loss: str, reference: str = "start", **keys: Any) -> PreferenceLoss:
    """The loss's section, with those of the keys that mean something to it."""
    (section,) = (s for s in get_args(PreferenceLoss) if loss in get_args(s.model_fields["type"].annotation))
    known = {k: v for k, v in {**keys, "reference": reference}.items() if k in section.model_fields}
    return LOSSES.validate_python({"type": loss, **known})


@pytest.mark.parametrize("loss", ["simpo", "dpo", "ipo", "orpo", "cpo"])
def test_each_loss_moves_preferences(adapted_model: AdaptedModel, tmp_path: Path, loss: Any) -> None:
    model = adapted_model()
    optimizer = FAST.model_copy(update={"epochs": 6})
    result = train_preference(model, TrainingData(ROWS, ROWS), loss_section(loss, beta=0.5), optimizer, tmp_path)
    before, after = result.validation[0], result.validation[-1]
    assert after.loss < before.loss
    assert after.metrics["margin"] > before.metrics["margin"] + 0.01
    if loss in ("dpo", "ipo"):
        assert before.metrics["margin"] == pytest.approx(0, abs=1e-4)  # the policy is its own reference
    assert result.steps == 12


LENGTHS = torch.tensor([[2.0, 3.0], [1.0, 2.0], [2.0, 1.0], [1.0, 1.0]])
"""Tokens of chosen and rejected of the pairs in ROWS."""


def written_out(loss: str, log_probs: torch.Tensor, reference: torch.Tensor, beta: float, gamma: float) -> torch.Tensor:
    """The sum over pairs of each loss as its paper has it, without any function of ours."""
    means = log_probs / LENGTHS
    if loss == "simpo":
        return -(beta * (means[:, 0] - means[:, 1]) - gamma).sigmoid().log().sum()
    if loss == "cpo":
        return -(beta * (log_probs[:, 0] - log_probs[:, 1])).sigmoid().log().sum() - means[:, 0].sum()
    if loss == "orpo":
        odds = means.exp() / (1 - means.exp())
        return -means[:, 0].sum() - beta * (odds[:, 0] / odds[:, 1]).log().sigmoid().log().sum()
    ratios = log_probs - reference
    if loss == "dpo":
        return -(beta * (ratios[:, 0] - ratios[:, 1])).sigmoid().log().sum()
    margins = ratios[:, 0] / LENGTHS[:, 0] - ratios[:, 1] / LENGTHS[:, 1]
    return (margins - 1 / (2 * beta)).square().sum()


@pytest.mark.parametrize(
    ("loss", "reference"),
    [
        *((loss, "start") for loss in ("simpo", "orpo", "cpo")),
        *((loss, ref) for loss in ("dpo", "ipo") for ref in ("start", "base")),
    ],
)
def test_each_loss_is_its_formula_on_the_models_own_log_probs(
    adapted_model: AdaptedModel, loss: Any, reference: Any
) -> None:
    """From token ids to gradients of the adapter, with β and γ that differ, after the policy has left its start."""
    model = adapted_model()
    config = loss_section(loss, reference, beta=0.7, gamma=0.2)
    parameters = list(trainable_parameters(model).values())
    if reference == "base":
        with model.disable_adapter():
            old = plain_log_probs(model, ROWS).detach()
    else:
        old = plain_log_probs(model, ROWS).detach()
    starts = [p.detach().clone() for p in parameters]
    with torch.no_grad():
        for p in parameters:
            p.mul_(0.5)
    want = written_out(loss, plain_log_probs(model, ROWS), old, 0.7, 0.2)
    want_gradients = torch.autograd.grad(want, parameters)

    policy = TokenLogProbs(model)
    moved = [p.detach().clone() for p in parameters]
    restore_values(parameters, starts)
    rows = with_reference(model, policy, ROWS, reference, 4096)
    restore_values(parameters, moved)
    got = preference_loss(policy, rows, config)
    torch.testing.assert_close(got.total, want, rtol=1e-4, atol=1e-4)
    for a, b in zip(torch.autograd.grad(got.total, parameters), want_gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


def restore_values(parameters: list[torch.nn.Parameter], values: list[torch.Tensor]) -> None:
    with torch.no_grad():
        for parameter, value in zip(parameters, values, strict=True):
            parameter.copy_(value)


@pytest.mark.parametrize(("loss", "passes"), [("simpo", 0), ("dpo", 1), ("ipo", 1)])
@pytest.mark.parametrize("reference", ["start", "base"])
def test_a_reference_is_computed_once_and_holds_no_memory(
    adapted_model: AdaptedModel, tmp_path: Path, loss: Any, passes: int, reference: Any
) -> None:
    """Passes without gradients: one over all rows before the first step, however many epochs; no second model."""
    model = adapted_model()
    TokenLogProbs(model)
    seen: list[tuple[bool, int]] = []
    alive: list[int] = []

    def note(module: Any, args: Any, kwargs: Any) -> None:
        if torch.is_grad_enabled() and len(alive) == 1:
            alive.append(weights_alive())
        seen.append((torch.is_grad_enabled(), kwargs["input_ids"].numel()))

    model.get_base_model().base_model.register_forward_pre_hook(note, with_kwargs=True)
    TokenLogProbs(model)
    probes = len(seen)
    seen.clear()
    alive.append(weights_alive())
    optimizer = FAST.model_copy(update={"epochs": 3})
    train_preference(model, TrainingData(ROWS), loss_section(loss, reference, beta=0.5), optimizer, tmp_path)
    every = sum(row.length for row in ROWS)
    assert [tokens for gradients, tokens in seen[probes:] if not gradients] == [every] * passes
    assert next(i for i, (gradients, _) in enumerate(seen) if gradients) == probes + passes
    assert alive[1] <= alive[0]


def weights_alive() -> int:
    """How many matrices of the size of the model's MLP there are in this process."""
    gc.collect()
    return sum(isinstance(t, torch.nn.Parameter) and t.shape == (128, 64) for t in gc.get_objects())


def test_a_killed_dpo_run_ends_like_an_undisturbed_one(adapted_model: AdaptedModel, tmp_path: Path) -> None:
    config = (loss_section("dpo", beta=0.5), FAST)
    data = TrainingData(ROWS, ROWS[1:])

    def stop(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    undisturbed = train_preference(adapted_model(), data, *config, tmp_path / "0")
    with pytest.raises(KeyboardInterrupt):
        train_preference(adapted_model(), data, *config, tmp_path / "1", stop)
    resumed = train_preference(adapted_model(), data, *config, tmp_path / "1")
    assert resumed == undisturbed
    name = "adapter_model.safetensors"
    assert (tmp_path / "0" / "out" / name).read_bytes() == (tmp_path / "1" / "out" / name).read_bytes()


def test_qlora_trains_on_four_bits(adapted_model: AdaptedModel, tmp_path: Path) -> None:
    model = adapted_model(quantization="nf4", dtype="bfloat16")
    packed = [p for p in model.parameters() if isinstance(p, Params4bit)]
    before = [p.data.clone() for p in packed]
    adapter = [p.detach().clone() for p in trainable_parameters(model).values()]
    once = FAST.model_copy(update={"epochs": 1})
    result = train_preference(model, TrainingData(ROWS), SimpoLoss(), once, tmp_path)
    assert result.steps == 2
    assert len(packed) == 14
    assert all(torch.equal(p.data, old) for p, old in zip(packed, before, strict=True))
    assert all(not torch.equal(p, old) for p, old in zip(trainable_parameters(model).values(), adapter, strict=True))
    wide = [m.weight for m in adapted_model(dtype="bfloat16").modules() if type(m) is torch.nn.Linear]
    in_layers = [w for w in wide if not w.requires_grad and w.shape[0] < 1000]
    assert sum(p.nbytes for p in packed) * 4 == sum(w.nbytes for w in in_layers)


def test_qlora_log_probs_equal_bitsandbytes_own(adapted_model: AdaptedModel) -> None:
    model = adapted_model(quantization="nf4")
    want = plain_log_probs(model.train(), ROWS)
    torch.testing.assert_close(branch_log_probs(TokenLogProbs(model), ROWS), want, rtol=1e-4, atol=1e-4)
