"""The engine against plain forward passes: packing, batching, caching and dropping rows change no answer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from itool_pipeline.core.fragments import FragmentRule
from itool_pipeline.core.policy import Fragment, GradeRequest, SampleRequest, ScoreRequest, Task
from itool_pipeline.engines import prompt_slots, transformers_engine
from itool_pipeline.engines.model import LoadedModel
from itool_pipeline.engines.prompt_slots import CPU_LAYOUT, SlotLayout
from itool_pipeline.engines.transformers_engine import _LEAST_ROWS, TransformersEngine
from itool_pipeline.engines.types import Sampling
from itool_pipeline_tests.engines.conftest import PlainLogProbs

TERMINATORS = "kq,.)"
RULE = FragmentRule(TERMINATORS)
END = frozenset(range(0, 49152, 23))
"""Many tokens end the turn, so that a model that knows no words ends it now and then."""
LIMIT = 8


def ids(count: int, seed: int = 0) -> tuple[int, ...]:
    """Any token ids, the same for the same count and seed."""
    return tuple(int(i) for i in np.random.default_rng([count, seed]).integers(300, 49000, count))


PROMPTS = [ids(1), ids(2), ids(9), ids(30), ids(31), ids(64)]


def engine(loaded: LoadedModel, **options: Any) -> TransformersEngine:
    sampling = options.pop("sampling", Sampling(temperature=1.2, top_k=50, max_fragment_tokens=LIMIT))
    rule, end = options.pop("rule", RULE), options.pop("end_tokens", END)
    return TransformersEngine(loaded, rule, sampling, end_tokens=end, **options)


def score_requests() -> list[ScoreRequest]:
    """Continuations that share beginnings, repeat, contain one another, and have one token only."""
    shared = ids(5)
    continuations = (
        (*shared, *ids(3)),
        (*shared, *ids(1, seed=1)),
        shared,
        shared[:1],
        ids(7),
        (*shared[:2], *ids(4)),
        shared,
    )
    return [ScoreRequest(p, continuations[: 2 + i]) for i, p in enumerate(PROMPTS)]


def sample_requests(loaded: LoadedModel) -> list[SampleRequest]:
    responses = [(), ids(1), ids(4), (), ids(11), ids(2)]
    return [
        SampleRequest(p, r, loaded.tokenizer.decode(list(r)), count=3 + i % 2, seed=1000 + i)
        for i, (p, r) in enumerate(zip(PROMPTS, responses, strict=True))
    ]


def texts_and_ids(answers: Sequence[Sequence[Fragment]]) -> list[list[tuple[tuple[int, ...], str, bool]]]:
    return [[(f.token_ids, f.text, f.finished) for f in row] for row in answers]


def close(left: Sequence[float], right: Sequence[float]) -> bool:
    return len(left) == len(right) and np.allclose(left, right, rtol=0, atol=1e-4)


def test_scores_are_those_of_plain_forward_passes(loaded: LoadedModel, plain_log_probs: PlainLogProbs) -> None:
    requests = score_requests()
    answers = engine(loaded).score(requests)
    assert [len(a) for a in answers] == [2, 3, 4, 5, 6, 7]
    for request, rows in zip(requests, answers, strict=True):
        for continuation, row in zip(request.continuations, rows, strict=True):
            assert close(row, plain_log_probs(request.prompt, continuation))


def test_the_model_is_uneven_enough_for_a_wrong_mask_to_show(plain_log_probs: PlainLogProbs) -> None:
    """The tolerance of these tests is far below what one missing or foreign token in the context does."""
    prompt, continuation = PROMPTS[3], ids(3)
    right = np.array(plain_log_probs(prompt, continuation))
    assert np.abs(right - plain_log_probs(prompt[1:], continuation)).max() > 0.01
    assert np.abs(right - plain_log_probs((*prompt[:-1], 17), continuation)).max() > 0.01


@pytest.mark.parametrize("batch_tokens", [1, 40, 150])
def test_scores_do_not_depend_on_the_batch(loaded: LoadedModel, batch_tokens: int) -> None:
    requests = score_requests()[::-1]  # longest first: answers must come back in this order
    together = engine(loaded).score(requests)
    apart = engine(loaded, batch_tokens=batch_tokens).score(requests)
    for left, right in zip(together, apart, strict=True):
        assert all(close(a, b) for a, b in zip(left, right, strict=True))


def test_many_logit_rows_are_computed_in_pieces(
    loaded: LoadedModel, plain_log_probs: PlainLogProbs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("itool_pipeline.engines.transformers_engine._LOGIT_ROWS", 3)
    request = score_requests()[-1]
    for continuation, row in zip(request.continuations, engine(loaded).score([request])[0], strict=True):
        assert close(row, plain_log_probs(request.prompt, continuation))


class CountedTokens:
    """How many tokens (padding included) went through the decoder."""

    def __init__(self, loaded: LoadedModel) -> None:
        self.tokens = 0
        loaded.model.get_decoder().register_forward_pre_hook(self._count, with_kwargs=True)

    def _count(self, module: Any, args: Any, kwargs: Any) -> None:
        self.tokens += kwargs["input_ids"].numel()


@pytest.fixture
def counted(loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> CountedTokens:
    """Passes are not filled up, so that what is counted was asked for."""
    monkeypatch.setattr("itool_pipeline.engines.transformers_engine._LEAST_ROWS", 1)
    return CountedTokens(loaded)


def test_a_prompt_is_computed_once_while_the_cache_holds_it(loaded: LoadedModel, counted: CountedTokens) -> None:
    own, request = engine(loaded), ScoreRequest(PROMPTS[-1], (ids(3),))
    before = counted.tokens
    own.score([request])
    assert counted.tokens - before == 63 + 3  # the prompt but for its last token; that and two of the continuation
    own.score([request])
    assert counted.tokens - before == 63 + 3 + 3
    own.sample([SampleRequest(PROMPTS[-1], (), "", 2, 0)])
    assert counted.tokens - before < 63 + 3 + 3 + 1 + 2 * LIMIT


def test_what_prompts_begin_with_is_computed_once(loaded: LoadedModel, counted: CountedTokens) -> None:
    own, shared = engine(loaded), ids(40)
    prompts = [(*shared, *ids(20, seed)) for seed in range(3)]
    before = counted.tokens
    together = own.score([ScoreRequest(prompt, (ids(2),)) for prompt in prompts])
    assert counted.tokens - before == 40 + 3 * 19 + 3 * 2
    for prompt, rows in zip(prompts, together, strict=True):
        assert close(rows[0], engine(loaded).score([ScoreRequest(prompt, (ids(2),))])[0][0])


def test_a_path_that_goes_on_costs_its_new_tokens(loaded: LoadedModel, counted: CountedTokens) -> None:
    prompt, costs = PROMPTS[3], []
    first, second, after = ids(6), ids(4, seed=1), ids(5, seed=2)

    def tree() -> Task[None]:
        for candidates in (
            (first,),
            ((*first, *second),),
            ((*first, *second), first, (*first, 17)),
            ((*first, *second), (*first, *second)),
        ):
            before = counted.tokens
            yield (GradeRequest(prompt, candidates, after, (7, 8, 9, 10)),)
            costs.append(counted.tokens - before)

    list(engine(loaded).serve([tree()]))
    assert costs == [
        29 + 1 + 6 + 5,  # the prompt, the candidate, the closing words
        4 + 5,
        5 + 5 + 1 + 5,
        5,  # a candidate that is there twice is graded once
    ]


def test_branches_that_drew_the_same_tokens_are_one_column(loaded: LoadedModel, counted: CountedTokens) -> None:
    own = engine(loaded, sampling=Sampling(top_k=1, max_fragment_tokens=LIMIT), end_tokens=frozenset())
    before = counted.tokens
    (row,) = own.sample([SampleRequest(PROMPTS[3], (), "", 5, 0)])
    assert len({f.token_ids for f in row}) == 1
    assert counted.tokens - before == 29 + len(row[0].token_ids)


BLOCK = CPU_LAYOUT.block
SLOT_BYTES = BLOCK * 2 * 2 * (16 + 16) * 4
"""Of a short prompt: columns, layers, heads, widths of key and value, bytes of a number."""


@pytest.mark.parametrize("slots", [0, 1, 2])
def test_what_the_cache_drops_changes_no_answer(loaded: LoadedModel, slots: int, monkeypatch: Any) -> None:
    monkeypatch.setattr(transformers_engine, "CPU_LAYOUT", SlotLayout(BLOCK, 1, 1024))
    own, free = engine(loaded, cache_bytes=slots * SLOT_BYTES), engine(loaded)
    scored, sampled = score_requests(), sample_requests(loaded)
    expected, drawn = free.score(scored), texts_and_ids(free.sample(sampled))
    for order in ([0, 1, 2, 3, 4, 5], [5, 0, 5, 1], [4, 4, 3, 5]):
        for index in order:
            (rows,) = own.score([scored[index]])
            assert all(close(a, b) for a, b in zip(rows, expected[index], strict=True))
        assert texts_and_ids(own.sample([sampled[i] for i in order])) == [drawn[i] for i in order]


def test_the_cache_drops_the_prompts_used_longest_ago(
    loaded: LoadedModel, counted: CountedTokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transformers_engine, "CPU_LAYOUT", SlotLayout(BLOCK, 1, 1024))
    a, b, c = (ids(41, 1), ids(41, 2), ids(41, 3))
    own = engine(loaded, cache_bytes=2 * SLOT_BYTES)

    def cost(prompt: tuple[int, ...]) -> int:
        before = counted.tokens
        own.score([ScoreRequest(prompt, ((5,),))])
        return counted.tokens - before

    assert [cost(p) for p in (a, b, a, c)] == [41, 41, 1, 41]
    assert [cost(p) for p in (a, c, b)] == [1, 1, 41]


@pytest.mark.parametrize("own_columns", [40, 90])
def test_paths_that_find_no_room_are_computed_again(
    loaded: LoadedModel, own_columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slot that is too short drops paths that nobody needs, and moves when even that is not enough."""
    prompt, texts = ids(BLOCK + 1 - own_columns), [ids(25, seed) for seed in range(6)]
    long = ids(120)
    asked = [GradeRequest(prompt, tuple(texts[i : i + 2]), ids(5), (7, 8)) for i in (0, 2, 4, 1, 0, 3)]
    asked = [*asked, SampleRequest(prompt, long, loaded.tokenizer.decode(list(long)), 3, 5), asked[0]]

    def tree() -> Task[list[Any]]:
        answers = []
        for request in asked:
            answers += yield (request,)
        return answers

    ((_, roomy),) = engine(loaded).serve([tree()])
    monkeypatch.setattr(prompt_slots, "_SHORT", 0)
    ((_, tight),) = engine(loaded).serve([tree()])
    assert texts_and_ids([tight[-2]]) == texts_and_ids([roomy[-2]])
    for rows, expected in zip([*tight[:-2], tight[-1]], [*roomy[:-2], roomy[-1]], strict=True):
        assert all(close(a, b) for a, b in zip(rows, expected, strict=True))


def test_what_is_given_up_leaves_nothing_behind(loaded: LoadedModel) -> None:
    own, requests = engine(loaded), sample_requests(loaded)
    for _ in own.answer_each(PROMPTS, 9):
        break
    small, long = engine(loaded, batch_tokens=20), (*ids(60), *ids(60, 1))
    for _ in small.answer_each([PROMPTS[0], long], 1):
        break  # the long prompt is there in part
    asked = ScoreRequest((*long[:100], *ids(9, 2)), (ids(2),))
    assert small.score([asked]) == engine(loaded).score([asked]), "nobody waits for what was given up"
    assert own.sample(requests) == engine(loaded).sample(requests)


def test_grades_are_the_scores_of_whole_continuations(loaded: LoadedModel, plain_log_probs: PlainLogProbs) -> None:
    after, options = ids(4, seed=9), (11, 12, 13, 14)
    requests = [
        GradeRequest(prompt, ((), ids(3), (*ids(3), *ids(5, 1)), ids(3)), after if i % 2 else (), options)
        for i, prompt in enumerate(PROMPTS)
    ]
    for request, rows in zip(requests, engine(loaded).grade(requests), strict=True):
        for candidate, row in zip(request.candidates, rows, strict=True):
            whole = [(*candidate, *request.after, option) for option in options]
            assert close(row, [plain_log_probs(request.prompt, w)[-1] for w in whole])


def rounds_without_rest() -> bool:
    """Whether this machine's products and attention give a row the same bits whatever stands beside it."""
    torch.manual_seed(0)
    weight, rows = torch.randn(96, 64), torch.randn(300, 64)
    whole = F.linear(rows, weight)
    least = _LEAST_ROWS * max(1, torch.get_num_threads() // 2)
    return all(
        torch.equal(F.linear(rows[i : i + n], weight), whole[i : i + n])
        for n in (least, least + 1, 33, 100, 299)
        for i in (0, 1)
    )


@pytest.fixture(params=[1, 2])
def threads(request: pytest.FixtureRequest) -> Iterator[None]:
    """As many threads for torch's products as the parameter says."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("threads")
def test_an_answer_does_not_depend_by_a_bit_on_what_is_beside_it(loaded: LoadedModel) -> None:
    """Alone, among others, in another order, after others, in small passes: the same numbers."""
    if not rounds_without_rest():
        pytest.skip("this machine's matrix products round by the number of rows")
    scored, sampled = score_requests(), sample_requests(loaded)
    together = engine(loaded)
    scores, fragments = together.score(scored), together.sample(sampled)
    assert engine(loaded).score(scored[::-1]) == scores[::-1]
    assert engine(loaded, batch_tokens=20).sample(sampled) == fragments
    for index in range(len(PROMPTS)):
        alone = engine(loaded)
        assert alone.sample([sampled[index]]) == [fragments[index]]
        assert engine(loaded).score([scored[index]]) == [scores[index]]


def test_tasks_end_in_their_own_time_and_others_begin(loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transformers_engine, "CPU_LAYOUT", SlotLayout(BLOCK, 1, 1024))
    begun: list[int] = []

    def task(number: int) -> Task[int]:
        begun.append(number)
        text, response = "", ()
        for step in range(1 + number % 3):
            ((fragment,),) = yield (SampleRequest(PROMPTS[number % 6], response, text, 1, 10 * number + step),)
            if fragment.finished:
                break
            response, text = (*response, *fragment.token_ids), text + fragment.text
        return number

    own = engine(loaded, cache_bytes=3 * SLOT_BYTES)
    ended: list[tuple[int, int]] = []
    for number, result in own.serve(map(task, range(12))):
        assert number == result
        ended.append((number, len(begun)))
    assert sorted(number for number, _ in ended) == list(range(12))
    assert ended[0][1] < 12, "not all began before the first had ended"
    assert begun == list(range(12))


def test_sampled_log_probs_are_those_of_plain_forward_passes(
    loaded: LoadedModel, plain_log_probs: PlainLogProbs
) -> None:
    requests = sample_requests(loaded)
    answers = engine(loaded).sample(requests)
    assert [len(row) for row in answers] == [r.count for r in requests]
    assert max(len(f.token_ids) for row in answers for f in row) >= 4
    for request, row in zip(requests, answers, strict=True):
        for fragment in row:
            expected = plain_log_probs((*request.prompt, *request.response), fragment.token_ids)
            assert close(fragment.logprobs, expected)


def test_fragments_depend_on_their_seed_alone(loaded: LoadedModel) -> None:
    requests = sample_requests(loaded)
    together = texts_and_ids(engine(loaded).sample(requests))
    assert texts_and_ids(engine(loaded).sample(requests[::-1])) == together[::-1]
    for batch_tokens in (1, 60):
        assert texts_and_ids(engine(loaded, batch_tokens=batch_tokens).sample(requests)) == together
    alone = [texts_and_ids(engine(loaded).sample([request]))[0] for request in requests]
    assert alone == together
    other = SampleRequest(PROMPTS[3], (), "", 4, seed=77)
    assert texts_and_ids(engine(loaded).sample([other]))[0] != together[3]


def test_more_samples_begin_with_the_same_ones(loaded: LoadedModel) -> None:
    few, many = (engine(loaded).sample([SampleRequest(PROMPTS[2], (), "", count, seed=5)])[0] for count in (2, 6))
    assert texts_and_ids([many[:2]]) == texts_and_ids([few])
    assert len({f.token_ids for f in many}) > 1


def ends_rightly(text: str, start: int, fragment: Fragment, tokenizer: Any) -> bool:
    """At the end token, at the limit, or with a last token that brought the first boundary after `start`."""
    if fragment.finished:
        return fragment.token_ids[-1] in END and not any(t in END for t in fragment.token_ids[:-1])
    if any(t in END for t in fragment.token_ids):
        return False
    whole = text + fragment.text
    before_last = len(whole) - len(tokenizer.decode([fragment.token_ids[-1]]))
    bounds = [i + 1 for i, char in enumerate(whole) if char in TERMINATORS and i >= start]
    return bool(bounds) and bounds[0] > before_last if len(fragment.token_ids) < LIMIT else True


def test_fragments_end_at_boundaries_and_join_losslessly(loaded: LoadedModel) -> None:
    """Step by step, as the search does: every fragment follows all that was sampled before it."""
    own, tokenizer = engine(loaded), loaded.tokenizer
    finished = at_limit = at_boundary = 0
    for seed in range(12):
        response, text = (), ""
        for step in range(5):
            (fragment,) = own.sample([SampleRequest(PROMPTS[2], response, text, 1, seed * 100 + step)])[0]
            assert 1 <= len(fragment.token_ids) == len(fragment.logprobs) <= LIMIT
            assert ends_rightly(text, len(text), fragment, tokenizer), (text, fragment)
            kept = fragment.token_ids[:-1] if fragment.finished else fragment.token_ids
            response, text = (*response, *kept), text + fragment.text
            assert tokenizer.decode(list(response), clean_up_tokenization_spaces=False) == text
            finished += fragment.finished
            at_limit += len(fragment.token_ids) == LIMIT
            at_boundary += not fragment.finished and len(fragment.token_ids) < LIMIT
            if fragment.finished:
                break
    assert finished
    assert at_limit
    assert at_boundary


def test_a_call_is_not_cut_inside_quotes(loaded: LoadedModel) -> None:
    """Within a quoted value no character ends a fragment, so only the end token and the limit do."""
    text = '[f(name="x'
    response = tuple(loaded.tokenizer.encode(text))
    row = engine(loaded, end_tokens=frozenset()).sample([SampleRequest(PROMPTS[2], response, text, 16, 3)])[0]
    unquoted = [f for f in row if '"' not in f.text]
    assert len(unquoted) >= 8
    assert all(len(f.token_ids) == LIMIT for f in unquoted)
    assert any(set(f.text) & set(TERMINATORS) for f in unquoted)


def test_fragments_of_one_token(loaded: LoadedModel) -> None:
    own = engine(loaded, sampling=Sampling(max_fragment_tokens=1))
    row = own.sample([SampleRequest(PROMPTS[4], (), "", 5, 0)])[0]
    assert all(len(f.token_ids) <= 1 for f in row)
    assert any(f.token_ids for f in row)


def test_an_empty_prompt_is_refused(loaded: LoadedModel) -> None:
    own = engine(loaded)
    with pytest.raises(ValueError, match="at least one token"):
        own.score([ScoreRequest(PROMPTS[1], ((3,),)), ScoreRequest((), ((3,),))])
    with pytest.raises(ValueError, match="at least one token"):
        own.sample([SampleRequest((), (), "", 1, 0)])


def test_nothing_asked_nothing_answered(loaded: LoadedModel) -> None:
    assert engine(loaded).score([]) == []
    assert engine(loaded).sample([]) == []


def test_whichever_token_ends_an_answer_the_templates_stands_for_it(loaded: LoadedModel) -> None:
    """A model that ends with another of its end tokens: answers stop there, fragments end with the template's."""
    free = TransformersEngine(loaded, RULE, Sampling(), end_token=None)
    (answer,) = free.answer([PROMPTS[3]], 9)
    other = next(i for i, token in enumerate(answer) if i >= 2 and token not in answer[:i])
    ending = TransformersEngine(loaded, RULE, Sampling(), end_token=2, end_tokens=frozenset({answer[other]}))
    assert ending.answer([PROMPTS[3]], 9) == [answer[:other]]
    greedy = Sampling(temperature=1.0, top_k=1, max_fragment_tokens=9)
    ends = frozenset({answer[other]})
    ((fragment,),) = TransformersEngine(loaded, FragmentRule(""), greedy, end_token=2, end_tokens=ends).sample(
        [SampleRequest(PROMPTS[3], (), "", 1, 0)]
    )
    assert fragment.finished
    assert fragment.token_ids == (*answer[:other], 2)
    assert len(fragment.logprobs) == len(fragment.token_ids)
