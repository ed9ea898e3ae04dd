"""Drawing tokens by hand-worked probabilities, and branches that stop where they should and stay in step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from itool_pipeline.core.fragments import FragmentRule
from itool_pipeline.core.policy import Fragment, SampleRequest
from itool_pipeline.engines.branches import Branch, cut_response, draw_tokens, uniform_numbers
from itool_pipeline.engines.model import load_tokenizer
from itool_pipeline.engines.types import Sampling

GRID = (np.arange(20_000) + 0.5) / 20_000
"""Uniform numbers as even as they can be: shares then differ from probabilities by less than one grid step a token."""

NO_END: frozenset[int] = frozenset()


def shares(probabilities: Sequence[float], sampling: Sampling) -> list[float]:
    """How often each token is drawn over the even grid, for logits whose softmax is `probabilities`."""
    logits = torch.tensor(probabilities, dtype=torch.float64).log().float()[None].expand(len(GRID), -1)
    tokens, _ = draw_tokens(logits, GRID, sampling)
    return [tokens.count(token) / len(GRID) for token in range(len(probabilities))]


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        (Sampling(temperature=1.0), [0.1, 0.4, 0.2, 0.3]),
        (Sampling(temperature=1.0, top_k=2), [0, 4 / 7, 0, 3 / 7]),
        (Sampling(temperature=1.0, top_k=1), [0, 1, 0, 0]),
        # 0.4 and 0.3 stand before 0.5 is reached; 0.2 begins at 0.7
        (Sampling(temperature=1.0, top_p=0.5), [0, 4 / 7, 0, 3 / 7]),
        (Sampling(temperature=1.0, top_p=0.75), [0, 4 / 9, 2 / 9, 3 / 9]),
        (Sampling(temperature=1.0, top_p=0.01), [0, 1, 0, 0]),
        # squares: 0.01 + 0.16 + 0.04 + 0.09 = 0.3
        (Sampling(temperature=0.5), [0.01 / 0.3, 0.16 / 0.3, 0.04 / 0.3, 0.09 / 0.3]),
        # top_k first, then top_p of what is left: of 4/7 and 3/7 only the first begins below 0.5
        (Sampling(temperature=1.0, top_k=2, top_p=0.5), [0, 1, 0, 0]),
    ],
)
def test_shares_are_the_probabilities(sampling: Sampling, expected: list[float]) -> None:
    assert shares([0.1, 0.4, 0.2, 0.3], sampling) == pytest.approx(expected, abs=2 / len(GRID))


@given(
    st.lists(st.floats(-4, 4, width=32), min_size=2, max_size=12),
    st.sampled_from([0.5, 0.7, 1.0, 1.5, 3.0]),
)
@settings(max_examples=20, deadline=None)
def test_shares_are_the_softmax(logits: list[float], temperature: float) -> None:
    values = np.array(logits) / temperature
    expected = np.exp(values - values.max()) / np.exp(values - values.max()).sum()
    rows = torch.tensor(logits)[None].expand(len(GRID), -1)
    tokens, _ = draw_tokens(rows, GRID, Sampling(temperature=temperature))
    counted = np.bincount(tokens, minlength=len(logits)) / len(GRID)
    # Of an even grid, an interval holds its share of the points, but for one at its ends.
    assert np.abs(counted - expected).max() <= 1.001 / len(GRID)


def test_rows_are_drawn_each_by_its_own_number() -> None:
    logits = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.2, 0.7], [0.7, 0.2, 0.1], [0.7, 0.2, 0.1]]).log()
    tokens, _ = draw_tokens(logits, np.array([0.0, 0.0, 0.75, 0.95]), Sampling(temperature=1.0))
    assert tokens == [0, 2, 1, 2]


def test_log_probs_are_at_temperature_one_over_the_whole_vocabulary() -> None:
    logits = torch.tensor([[0.5, 0.3, 0.2]]).log().expand(2, -1) + 7.0
    tokens, log_probs = draw_tokens(logits, np.array([0.1, 0.9]), Sampling(temperature=3.0, top_k=2))
    assert tokens == [0, 1]
    assert log_probs == pytest.approx([math.log(0.5), math.log(0.3)], abs=1e-5)


@pytest.mark.parametrize("top_p", [0.3, 0.5, 0.7, 0.9, 1.0])
def test_the_largest_uniform_number_draws_a_permitted_token(top_p: float) -> None:
    logits = torch.tensor([[0.5, 0.3, 0.15, 0.05, 0.0]]).log()
    permitted = {0.3: 0, 0.5: 0, 0.7: 1, 0.9: 2, 1.0: 3}[top_p]
    tokens, _ = draw_tokens(logits, np.array([np.nextafter(1.0, 0.0)]), Sampling(temperature=1.0, top_p=top_p))
    assert tokens == [permitted]


def test_the_numbers_that_draw_depend_on_the_seed_alone() -> None:
    def numbers(prompt: tuple[int, ...], count: int, seed: int) -> list[list[float]]:
        rows: list[list[float]] = uniform_numbers(SampleRequest(prompt, (), "", count, seed), 5).tolist()
        return rows

    assert numbers((1,), 3, 8) == numbers((2, 3), 4, 8)[:3]
    assert len({number for seed in (8, 9) for row in numbers((1,), 3, seed) for number in row}) == 30


@pytest.fixture(scope="module")
def tokenizer(tiny_model_dir: Path) -> Any:
    return load_tokenizer(tiny_model_dir)


def grown(
    tokens: Sequence[int],
    tokenizer: Any,
    *,
    response: Sequence[int] = (),
    limit: int = 100,
    rule: FragmentRule | None = None,
    end: frozenset[int] = NO_END,
) -> Fragment:
    """A branch that is fed `tokens` until it is done or `limit` is reached."""
    text = tokenizer.decode(list(response))
    branch = Branch(SampleRequest((1,), tuple(response), text, 1, 0), np.zeros(limit))
    for i, token in enumerate(tokens[:limit]):
        assert not branch.done
        branch.append(token, -float(i + 1), tokenizer, rule or FragmentRule(), end, i + 1 == limit)
        if branch.done:
            break
    return branch.fragment()


def test_a_branch_stops_at_the_first_boundary(tokenizer: Any) -> None:
    tokens = tokenizer.encode('[f(a=1, b="x, y", c=[1, 2])]')
    fragments, done = [], 0
    while done < len(tokens):
        fragment = grown(tokens[done:], tokenizer, response=tokens[:done])
        fragments.append(fragment.text)
        assert fragment.logprobs == tuple(-float(i + 1) for i in range(len(fragment.token_ids)))
        assert fragment.token_ids == tuple(tokens[done : done + len(fragment.token_ids)])
        done += len(fragment.token_ids)
    assert "".join(fragments) == '[f(a=1, b="x, y", c=[1, 2])]'
    assert [f.rstrip("])") for f in fragments[:2]] == ["[f(a=1,", ' b="x, y",']


def test_the_end_token_is_kept_but_is_no_text(tokenizer: Any) -> None:
    end = tokenizer.eos_token_id
    words = tokenizer.encode("No tool fits")
    fragment = grown([*words, end], tokenizer, end=frozenset({end}))
    assert fragment == Fragment(
        (*words, end), "No tool fits", tuple(-float(i + 1) for i in range(len(words) + 1)), True
    )
    alone = grown([end], tokenizer, response=words, end=frozenset({end}))
    assert alone == Fragment((end,), "", (-1.0,), True)


def test_the_limit_ends_a_branch(tokenizer: Any) -> None:
    words = tokenizer.encode("some words without any boundary at all")
    fragment = grown(words, tokenizer, limit=3)
    assert fragment.token_ids == tuple(words[:3])
    assert fragment.text == tokenizer.decode(words[:3])
    assert not fragment.finished


@pytest.mark.parametrize("character", ["日", "😀", "ὼ", "𝒳"])
def test_a_character_cut_by_the_limit_is_dropped_whole(tokenizer: Any, character: str) -> None:
    before, pieces = tokenizer.encode("go "), tokenizer.encode(character)
    assert len(pieces) > 1, "the character must be more than one token"
    for limit in range(len(before) + 1, len(before) + len(pieces)):
        fragment = grown([*before, *pieces], tokenizer, limit=limit)
        assert fragment == Fragment(tuple(before), "go ", tuple(-float(i + 1) for i in range(len(before))), False)
    whole = grown([*before, *pieces], tokenizer, limit=len(before) + len(pieces))
    assert whole.text == "go " + character
    assert whole.token_ids == (*before, *pieces)


def test_nothing_is_left_of_half_a_character(tokenizer: Any) -> None:
    fragment = grown(tokenizer.encode("😀")[:1], tokenizer, response=tokenizer.encode("[f("), limit=1)
    assert fragment == Fragment((), "", (), False)


def test_a_boundary_behind_half_a_character_waits_for_the_other_half(tokenizer: Any) -> None:
    pieces = tokenizer.encode("日")
    fragment = grown([*pieces, *tokenizer.encode(", x")], tokenizer)
    assert fragment.text == "日,"


class Bytes:
    """A tokenizer whose tokens are pieces of UTF-8."""

    def __init__(self, *pieces: bytes) -> None:
        self.pieces = pieces

    def decode(self, ids: Sequence[int], **_: Any) -> str:
        return b"".join(self.pieces[i] for i in ids).decode(errors="replace")


def test_a_token_with_a_boundary_and_half_a_character_is_kept_whole() -> None:
    """The boundary is there, but to end here would drop the token with the half, and the boundary with it."""
    day = "日".encode()
    tokenizer = Bytes(b"a", b"," + day[:1], day[1:], b"b")
    fragment = grown([0, 1, 2, 3], tokenizer)
    assert fragment == Fragment((0, 1, 2), "a,日", (-1.0, -2.0, -3.0), False)
    # the limit comes before the other half: the token cannot be kept
    assert grown([0, 1, 2, 3], tokenizer, limit=2) == Fragment((0,), "a", (-1.0,), False)


@given(st.lists(st.integers(3, 49151), min_size=1, max_size=12), st.lists(st.integers(0, 255), max_size=3))
@settings(max_examples=150, deadline=None)
def test_text_and_tokens_stay_in_step(tokenizer: Any, tokens: list[int], response_bytes: list[int]) -> None:
    """For any tokens, broken characters among them: the text is what the kept tokens decode to after the response."""
    rule, limit = FragmentRule("aeiou,.)"), 6
    single_bytes = tokenizer.encode("".join(map(chr, response_bytes)))
    response = tokenizer.encode("so far ") + single_bytes
    fragment = grown(tokens, tokenizer, response=response, limit=limit, rule=rule)
    assert list(fragment.token_ids) == tokens[: len(fragment.token_ids)]
    assert len(fragment.token_ids) == len(fragment.logprobs) <= limit
    whole = tokenizer.decode([*response, *fragment.token_ids], clean_up_tokenization_spaces=False)
    assert whole == tokenizer.decode(response) + fragment.text
    if len(tokens) >= limit:
        assert not fragment.text.endswith("\ufffd")


@given(text=st.text(st.sampled_from("[]()f=a1,. \"'日😀\\n"), max_size=30), limit=st.integers(1, 8))
def test_a_response_is_cut_where_it_would_be_sampled(tokenizer: Any, text: str, limit: int) -> None:
    end = tokenizer.eos_token_id
    tokens = [*tokenizer.encode(text), end]
    fragments = cut_response(tokens, tokenizer, FragmentRule(), end, limit)
    done: list[int] = []
    for fragment in fragments:
        drawn = grown(tokens[len(done) :], tokenizer, response=done, limit=limit, end=frozenset({end}))
        assert fragment == replace(drawn, logprobs=())
        done += fragment.token_ids
    assert done == tokens[: len(done)]
    # only a limit shorter than a character leaves anything out
    assert done == tokens or not grown(tokens[len(done) :], tokenizer, response=done, limit=limit).token_ids
    if done == tokens:
        assert "".join(fragment.text for fragment in fragments) == tokenizer.decode(tokens[:-1])
        assert [fragment.finished for fragment in fragments] == [False] * (len(fragments) - 1) + [True]


def test_the_fragments_of_a_call_by_hand(tokenizer: Any) -> None:
    end = tokenizer.eos_token_id
    tokens = [*tokenizer.encode('[f(a=1, b="x, y")]'), end]
    fragments = cut_response(tokens, tokenizer, FragmentRule(), end, 32)
    assert "".join(fragment.text for fragment in fragments) == '[f(a=1, b="x, y")]'
    assert fragments[0].text == "[f(a=1,"
    assert fragments[-1].finished
    assert cut_response([], tokenizer, FragmentRule(), end, 32) == ()
