"""Packing against a brute force that walks from each token to the root."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from itool_pipeline.core.token_trie import ancestor_mask, pack_row

TOKENS = st.lists(st.integers(0, 3), max_size=6)


def chain(parents: np.ndarray, index: int) -> list[int]:
    """Row indices from the first token down to `index`."""
    return [] if index < 0 else [*chain(parents, int(parents[index])), index]


@settings(deadline=None)
@given(TOKENS, st.lists(TOKENS, max_size=6), st.integers(0, 9))
def test_each_continuation_reads_as_prompt_plus_itself(
    prompt: list[int], continuations: list[list[int]], offset: int
) -> None:
    row = pack_row(prompt, continuations, offset)
    for span, continuation in zip(row.spans, continuations, strict=True):
        assert row.tokens[span].tolist() == continuation
        if continuation:
            whole = chain(row.parents, int(span[-1]))
            assert row.tokens[whole].tolist() == prompt + continuation
            assert row.positions[whole].tolist() == list(range(offset, offset + len(whole)))


@settings(deadline=None)
@given(TOKENS, st.lists(TOKENS, max_size=6))
def test_rows_hold_each_distinct_prefix_once(prompt: list[int], continuations: list[list[int]]) -> None:
    row = pack_row(prompt, continuations)
    prefixes = {tuple(c[:end]) for c in continuations for end in range(1, len(c) + 1)}
    assert len(row) == len(prompt) + len(prefixes)
    for a, span_a in zip(continuations, row.spans, strict=True):
        for b, span_b in zip(continuations, row.spans, strict=True):
            for end in range(1, min(len(a), len(b)) + 1):
                assert (span_a[end - 1] == span_b[end - 1]) == (a[:end] == b[:end])


@settings(deadline=None)
@given(TOKENS, st.lists(TOKENS, max_size=6))
def test_mask_is_brute_force_ancestry(prompt: list[int], continuations: list[list[int]]) -> None:
    row = pack_row(prompt, continuations)
    expected = np.zeros((len(row), len(row)), dtype=bool)
    for index in range(len(row)):
        expected[index, chain(row.parents, index)] = True
    np.testing.assert_array_equal(ancestor_mask(row.parents), expected)


def test_a_row_worked_out_by_hand() -> None:
    row = pack_row([7, 8], [[1, 2], [1, 3], [], [1]])
    assert row.tokens.tolist() == [7, 8, 1, 2, 3]
    assert row.parents.tolist() == [-1, 0, 1, 2, 2]
    assert row.positions.tolist() == [0, 1, 2, 3, 3]
    assert [span.tolist() for span in row.spans] == [[2, 3], [2, 4], [], [2]]
    assert row.predictors(1).tolist() == [1, 2]
    assert ancestor_mask(row.parents).astype(int).tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0],
        [1, 1, 1, 1, 0],
        [1, 1, 1, 0, 1],
    ]


def test_a_cached_prompt_is_the_parent_minus_one() -> None:
    row = pack_row([], [[1, 2], [3]], position_offset=40)
    assert row.parents.tolist() == [-1, 0, -1]
    assert row.positions.tolist() == [40, 41, 40]
    assert row.predictors(1).tolist() == [-1]


def test_mask_refuses_a_child_before_its_parent() -> None:
    with pytest.raises(ValueError, match="before its child"):
        ancestor_mask(np.array([1, -1]))
