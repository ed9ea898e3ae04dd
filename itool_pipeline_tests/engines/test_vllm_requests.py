"""The engine on vLLM without vLLM: on plain forward passes that are asked as vLLM is, against the other engine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from itool_pipeline.core.fragments import FragmentRule
from itool_pipeline.core.policy import Fragment, GradeRequest, Request, SampleRequest, ScoreRequest, Task
from itool_pipeline.engines.drawing import Drawing
from itool_pipeline.engines.model import LoadedModel
from itool_pipeline.engines.transformers_engine import TransformersEngine
from itool_pipeline.engines.types import Sampling
from itool_pipeline.engines.vllm_engine import VllmEngine
from itool_pipeline_tests.engines.conftest import PlainLogProbs
from itool_pipeline_tests.engines.plain_core import PlainCore

END = frozenset(range(0, 49152, 23))
"""Many tokens end the turn, so that a model that knows no words ends it now and then."""
LIMIT = 8
SAMPLING = Sampling(temperature=1.2, top_k=50, max_fragment_tokens=LIMIT)
RULE = FragmentRule("kq,.)")


def ids(count: int, seed: int = 0) -> tuple[int, ...]:
    """Any token ids, the same for the same count and seed."""
    return tuple(int(i) for i in np.random.default_rng([count, seed]).integers(300, 49000, count))


PROMPTS = [ids(1), ids(9), ids(30)]


def own_engine(loaded: LoadedModel, core: PlainCore, rule: FragmentRule = RULE, **changes: Any) -> VllmEngine:
    options = {"end_token": None, "end_tokens": END, "sampling": SAMPLING} | changes
    return VllmEngine(core, Drawing(loaded.tokenizer, rule, **options))


def other_engine(loaded: LoadedModel, **changes: Any) -> TransformersEngine:
    options = {"end_tokens": END, "sampling": SAMPLING} | changes
    return TransformersEngine(loaded, RULE, options.pop("sampling"), **options)


def sample_requests(loaded: LoadedModel) -> list[SampleRequest]:
    responses = [(), ids(4), ids(11)]
    return [
        SampleRequest(p, r, loaded.tokenizer.decode(list(r)), count=3 + i % 2, seed=1000 + i)
        for i, (p, r) in enumerate(zip(PROMPTS, responses, strict=True))
    ]


def without_logprobs(answers: Sequence[Sequence[Fragment]]) -> list[list[tuple[tuple[int, ...], str, bool]]]:
    return [[(f.token_ids, f.text, f.finished) for f in row] for row in answers]


def close(left: Sequence[float], right: Sequence[float]) -> bool:
    return len(left) == len(right) and np.allclose(left, right, rtol=0, atol=1e-4)


@pytest.mark.parametrize("burst", [1, 3, LIMIT])
def test_fragments_are_those_of_the_engine_on_transformers(loaded: LoadedModel, plain_model: Any, burst: int) -> None:
    """Drawn by the same numbers, and cut at the same token, however many more there are already."""
    requests = sample_requests(loaded)
    core = PlainCore(plain_model, burst=burst)
    found, expected = own_engine(loaded, core).sample(requests), other_engine(loaded).sample(requests)
    assert without_logprobs(found) == without_logprobs(expected)
    for found_row, expected_row in zip(found, expected, strict=True):
        assert all(close(f.logprobs, e.logprobs) for f, e in zip(found_row, expected_row, strict=True))
    lengths = {len(f.token_ids) for row in found for f in row}
    assert len(lengths) > 2
    assert not core.texts


def test_what_ends_early_is_not_sampled_on(loaded: LoadedModel, plain_model: Any) -> None:
    core = PlainCore(plain_model)
    answers = own_engine(loaded, core).sample(sample_requests(loaded))
    assert core.steps == max(len(f.token_ids) for row in answers for f in row)
    core = PlainCore(plain_model)
    everything_ends = own_engine(loaded, core, end_tokens=frozenset(range(49152)))
    everything_ends.sample(sample_requests(loaded))
    assert core.steps == 1


def test_whichever_token_ends_a_fragment_the_templates_stands_for_it(loaded: LoadedModel, plain_model: Any) -> None:
    requests = sample_requests(loaded)
    found = own_engine(loaded, PlainCore(plain_model), end_token=2).sample(requests)
    expected = other_engine(loaded, end_token=2).sample(requests)
    assert without_logprobs(found) == without_logprobs(expected)
    assert any(f.finished for row in found for f in row)


def test_grades_are_those_of_plain_forward_passes(
    loaded: LoadedModel, plain_model: Any, plain_log_probs: PlainLogProbs
) -> None:
    request = GradeRequest(PROMPTS[1], (ids(3), (), ids(5)), ids(2), (65, 66, 67, 68))
    (rows,) = own_engine(loaded, PlainCore(plain_model)).grade([request])
    for candidate, row in zip(request.candidates, rows, strict=True):
        before = (*request.prompt, *candidate, *request.after)
        assert close(row, [plain_log_probs(before, [option])[0] for option in request.options])
    assert own_engine(loaded, PlainCore(plain_model)).grade([GradeRequest(PROMPTS[1], (), ids(2), (65,))]) == [[]]


def test_scores_are_those_of_plain_forward_passes(
    loaded: LoadedModel, plain_model: Any, plain_log_probs: PlainLogProbs
) -> None:
    request = ScoreRequest(PROMPTS[0], (ids(3), (), ids(1), ids(5)))
    (rows,) = own_engine(loaded, PlainCore(plain_model)).score([request])
    for continuation, row in zip(request.continuations, rows, strict=True):
        assert close(row, plain_log_probs(request.prompt, continuation))


def test_answers_are_those_of_the_engine_on_transformers(loaded: LoadedModel, plain_model: Any) -> None:
    own, other = own_engine(loaded, PlainCore(plain_model)), other_engine(loaded)
    assert own.answer(PROMPTS, 6) == other.answer(PROMPTS, 6)
    free = own_engine(loaded, PlainCore(plain_model), end_tokens=frozenset())
    assert [len(answer) for answer in free.answer(PROMPTS, 6)] == [6, 6, 6]


def test_a_fragment_ends_where_the_model_can_read_no_more(loaded: LoadedModel, plain_model: Any) -> None:
    request = SampleRequest(PROMPTS[1], (), "", 2, seed=3)
    core = PlainCore(plain_model, context=9 + 3)
    engine = own_engine(loaded, core, FragmentRule(""), end_tokens=frozenset())
    assert [len(f.token_ids) for f in engine.sample([request])[0]] == [3, 3]


def asking(*rounds: tuple[Request, ...]) -> Task[int]:
    """A task that asks for these, round after round, and ends with the number of answers it got."""
    got = 0
    for requests in rounds:
        answers = yield requests
        got += len(answers)
    return got


def grade(seed: int) -> GradeRequest:
    return GradeRequest(ids(5, seed), ((1,), (2,)), (3,), (4, 5))


def long_sample(seed: int) -> SampleRequest:
    return SampleRequest(ids(5, seed), (), "", 2, seed)


def test_no_task_waits_for_another(loaded: LoadedModel, plain_model: Any) -> None:
    core = PlainCore(plain_model)
    engine = own_engine(loaded, core, FragmentRule(""), end_tokens=frozenset())
    served = engine.serve(
        [asking((long_sample(1),)), asking((grade(2),), (grade(3), grade(4)), (grade(5),)), asking((grade(6),))]
    )
    assert next(served) == (2, 1)
    assert core.steps == 1
    assert next(served) == (1, 4)
    assert core.steps == 3
    assert list(served) == [(0, 1)]
    assert core.steps == LIMIT


def begun(count: int, counted: list[int]) -> Iterator[Task[int]]:
    for number in range(count):
        counted.append(number)
        yield asking((grade(number),), (grade(number),))


def test_tasks_are_begun_while_the_batch_has_room(loaded: LoadedModel, plain_model: Any) -> None:
    core, counted = PlainCore(plain_model, width=5), list[int]()
    results = own_engine(loaded, core).serve(begun(9, counted))
    assert next(results)[1] == 2
    assert len(counted) < 9
    assert len([1 for _ in results]) == 8
    assert core.widest == 6  # a task asks for two texts; with four under way the next one begins


def test_tasks_are_begun_while_the_cache_has_room(loaded: LoadedModel, plain_model: Any) -> None:
    """A text of these tasks has 7 tokens, one more to come. One task is served however small the cache is."""
    for tokens, at_once in ((1, 1), (8, 1), (9, 2), (24, 3), (25, 4)):
        core = PlainCore(plain_model, tokens=tokens)
        assert len(list(own_engine(loaded, core).serve(begun(9, [])))) == 9
        assert core.widest == 2 * at_once


def test_what_nobody_waits_for_is_given_up(loaded: LoadedModel, plain_model: Any) -> None:
    def failing() -> Task[int]:
        yield (grade(1),)
        raise LookupError("of its own")

    core = PlainCore(plain_model)
    engine = own_engine(loaded, core)
    with pytest.raises(LookupError, match="of its own"):
        list(engine.serve([asking((long_sample(0),)), failing()]))
    assert not core.texts
    served = engine.serve([asking((long_sample(0),)), asking((grade(1),))])
    next(served)
    assert core.texts
    served.close()
    assert not core.texts


def test_an_empty_prompt_is_refused(loaded: LoadedModel, plain_model: Any) -> None:
    core = PlainCore(plain_model)
    engine = own_engine(loaded, core)
    with pytest.raises(ValueError, match="at least one token"):
        engine.score([ScoreRequest(PROMPTS[1], ((3,),)), ScoreRequest((), ((3,),))])
    with pytest.raises(ValueError, match="at least one token"):
        engine.answer([PROMPTS[1], ()], 3)
    assert not core.texts
    assert engine.sample([]) == []
