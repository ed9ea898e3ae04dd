"""Packing against a brute force that walks from each token to the root."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from itool_pipeline.core.token_trie import ancestor_mask, join_rows, pack_row

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


ROWS = st.lists(
    st.tuples(st.lists(st.integers(0, 2), min_size=1, max_size=5), st.lists(TOKENS, max_size=3)), max_size=4
)


@settings(deadline=None)
@given(ROWS)
def test_joined_rows_read_as_each_by_itself(given_rows: list[tuple[list[int], list[list[int]]]]) -> None:
    rows = [pack_row(prompt, continuations) for prompt, continuations in given_rows]
    own = [np.unique(np.concatenate([*row.spans, np.array([], dtype=np.int64)])) for row in rows]
    joined, places = join_rows(rows, own)
    ancestor_mask(joined.parents)  # every parent stands before its child
    for row, place in zip(rows, places, strict=True):
        for index in range(len(row)):
            alone, together = chain(row.parents, index), chain(joined.parents, int(place[index]))
            assert joined.tokens[together].tolist() == row.tokens[alone].tolist()
            assert joined.positions[together].tolist() == row.positions[alone].tolist()
    taken = [place[w].tolist() for place, w in zip(places, own, strict=True)]
    apart = [index for indices in taken for index in indices]
    assert len(apart) == len(set(apart)), "what is a row's own is no other's"
    # of the prompts each distinct beginning stands once
    prompts = {tuple(prompt[:end]) for prompt, _ in given_rows for end in range(1, len(prompt) + 1)}
    assert len(joined) == len(prompts) + len(apart)


def test_rows_are_joined_by_hand() -> None:
    rows = [pack_row([5, 6, 7], [[8], [9]]), pack_row([5, 6, 4], [[8]]), pack_row([5], [[6, 7]])]
    joined, places = join_rows(rows, [row.spans[0] for row in rows])
    # the first row's prompt; its two continuations; 4 and 8 after 5 6; the last row's own 6 7 after 5
    assert joined.tokens.tolist() == [5, 6, 7, 8, 9, 4, 8, 6, 7]
    assert joined.parents.tolist() == [-1, 0, 1, 2, 2, 1, 5, 0, 7]
    assert joined.positions.tolist() == [0, 1, 2, 3, 3, 2, 3, 1, 2]
    assert [place.tolist() for place in places] == [[0, 1, 2, 3, 4], [0, 1, 5, 6], [0, 7, 8]]
    assert join_rows([], [])[1] == []


def test_tokens_at_other_positions_are_not_joined() -> None:
    rows = [pack_row([5, 6], [[7]], offset) for offset in (0, 3)]
    joined, _ = join_rows(rows, [row.spans[0] for row in rows])
    assert joined.positions.tolist() == [0, 1, 2, 3, 4, 5]


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
