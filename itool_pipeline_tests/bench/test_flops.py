"""The formula by hand."""

from __future__ import annotations

from itool_pipeline.engines.model import LoadedModel
from itool_pipeline.steps.forecast.flops import ModelSize, Work, chain_work, forward_flops, training_flops
from itool_pipeline_tests.bench.flops import PrefixWork, model_size

SIZE = ModelSize(parameters=100, layers=2, heads=3, head_width=5, hidden=7, vocabulary=11)


def test_a_forward_pass_multiplies_with_each_parameter_key_value_and_row_of_the_head() -> None:
    # 4 columns see 1 + 2 + 3 + 4 tokens, of each a key and a value of 2 layers, 3 heads, width 5; 1 place has logits.
    assert chain_work(4, logits=1) == Work(columns=4, seen=10, logits=1)
    assert forward_flops(SIZE, chain_work(4, logits=1)) == 2 * 100 * 4 + 2 * 2 * (2 * 3 * 5) * 10 + 2 * 7 * 11


def test_a_backward_pass_adds_one_dense_product_and_two_of_attention() -> None:
    size = ModelSize(parameters=100, layers=2, heads=3, head_width=5, hidden=7, vocabulary=11, adapter=13)
    dense, attention = 2 * 100 * 4 + 2 * 7 * 11, 4 * (2 * 3 * 5) * 10
    assert training_flops(size, chain_work(4, logits=1)) == 2 * dense + 3 * attention + 3 * 2 * 13 * 4


def test_columns_behind_others_see_those_too() -> None:
    assert chain_work(2, before=10) == Work(columns=2, seen=11 + 12)


def test_each_distinct_prefix_is_needed_once() -> None:
    work = PrefixWork()
    # Prompt of 3: after it [5, 6] and [5, 7, 8] are drawn. Columns: the prompt, 5, and 7; a last token has none.
    work.add_draws((1, 2, 3), (), [(5, 6), (5, 7, 8)])
    drawn = chain_work(3) + Work(columns=2, seen=4 + 5)
    # Logits are read after the prompt, after 5, and after 5 7.
    assert work.total() == drawn + Work(logits=3)
    # Going on from [5, 6], the column of 6 is needed, and nothing a second time.
    work.add_draws((1, 2, 3), (5, 6), [(9,)])
    assert work.total() == drawn + Work(columns=1, seen=5, logits=4)


def test_a_grade_costs_its_own_fragment_and_the_closing_words() -> None:
    work = PrefixWork()
    for candidate in ((), (5,), (5, 6), (5, 6)):
        work.add_closing((1, 2), candidate, 4)
    closing = chain_work(4, 2, 1) + chain_work(4, 3, 1) + chain_work(4, 4, 1)
    assert work.total() == chain_work(2) + Work(columns=2, seen=3 + 4) + closing


def test_the_size_is_read_of_the_model(loaded: LoadedModel) -> None:
    # Two layers: q and o 64 x 64, k and v 64 x 32, three of 64 x 128, two norms; one norm at the end.
    layer = 2 * 64 * 64 + 2 * 64 * 32 + 3 * 64 * 128 + 2 * 64
    found = model_size(loaded.model)
    assert found.parameters == 2 * layer + 64
    assert (found.layers, found.heads, found.head_width, found.hidden) == (2, 4, 16, 64)
    assert found.vocabulary == len(loaded.tokenizer)
