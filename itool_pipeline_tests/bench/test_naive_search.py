"""The naive search computes what the engine computes, in its own way: it is another cost of the same algorithm."""

from __future__ import annotations

import pytest

from itool_pipeline.config import MctsConfig, PairsConfig
from itool_pipeline.core.fragments import FragmentRule
from itool_pipeline.core.policy import Fragment, GradeRequest, SampleRequest, ScoreRequest
from itool_pipeline.core.reward import GradePrompt, ResponseState, Reward, SearchProblem
from itool_pipeline.core.search import search_trees
from itool_pipeline.core.tree import SearchTree
from itool_pipeline.engines.model import LoadedModel
from itool_pipeline.engines.transformers_engine import TransformersEngine
from itool_pipeline.engines.types import Sampling
from itool_pipeline.steps.forecast.flops import chain_work
from itool_pipeline_tests.bench.counting import ColumnCounter, WatchedPolicy, distinct_nodes, usable_pairs
from itool_pipeline_tests.bench.loop import InstantJudge, InstantPolicy
from itool_pipeline_tests.bench.naive_search import FragmentReader, NaivePolicy
from itool_pipeline_tests.core.fake_policy import call_problem
from itool_pipeline_tests.engines.test_transformers_engine import PROMPTS, RULE, ids, sample_requests

GREEDY = Sampling(temperature=1.0, top_k=1, max_fragment_tokens=8)
END = 2
GRADES = [
    GradeRequest(prompt, (ids(5, 1), ids(5, 1)[:2], (), ids(1, 2)), ids(3, 3), (40, 41, 42, 43)) for prompt in PROMPTS
]


def naive(loaded: LoadedModel, sampling: Sampling = GREEDY) -> NaivePolicy:
    return NaivePolicy(loaded, RULE, sampling, end_token=END)


def engine(loaded: LoadedModel, sampling: Sampling = GREEDY) -> TransformersEngine:
    return TransformersEngine(loaded, RULE, sampling, end_token=END, end_tokens=loaded.end_tokens)


def test_grades_and_scores_are_the_engines(loaded: LoadedModel) -> None:
    scores = [ScoreRequest(prompt, (ids(4, 1), ids(1, 2))) for prompt in PROMPTS]
    own = naive(loaded).grade(GRADES), naive(loaded).score(scores)
    ours = engine(loaded)
    for found, expected in ((own[0], ours.grade(GRADES)), (own[1], ours.score(scores))):
        for rows, others in zip(found, expected, strict=True):
            assert [pytest.approx(row, abs=1e-3) for row in rows] == others


def test_the_likeliest_fragments_are_the_engines(loaded: LoadedModel) -> None:
    requests = sample_requests(loaded)
    own, ours = naive(loaded).sample(requests), engine(loaded).sample(requests)
    for fragments, others in zip(own, ours, strict=True):
        assert [(f.token_ids, f.text, f.finished) for f in fragments] == [
            (f.token_ids, f.text, f.finished) for f in others
        ]
        assert all(f.logprobs == pytest.approx(o.logprobs, abs=1e-3) for f, o in zip(fragments, others, strict=True))


def test_fragments_end_where_the_engines_would_and_are_drawn_again_by_the_same_seed(loaded: LoadedModel) -> None:
    hot = Sampling(temperature=1.5, top_k=50, max_fragment_tokens=8)
    requests = sample_requests(loaded)
    drawn = naive(loaded, hot).sample(requests)
    assert drawn == naive(loaded, hot).sample(requests)
    assert {len(fragments) for fragments in drawn} == {3, 4}
    for request, fragments in zip(requests, drawn, strict=True):
        for fragment in fragments:
            if fragment.finished:
                continue
            start, text = len(request.response_text), request.response_text + fragment.text
            before = loaded.tokenizer.decode([*request.response, *fragment.token_ids[:-1]])
            assert not RULE.ends_within(before, start)
            assert RULE.ends_within(text, start) or len(fragment.token_ids) == hot.max_fragment_tokens


def test_what_was_drawn_behind_an_end_is_no_part_of_the_fragment(loaded: LoadedModel) -> None:
    tokenizer = loaded.tokenizer
    reader = FragmentReader(tokenizer, FragmentRule(","), frozenset({END, 0}), END)
    request = SampleRequest((5,), (), "", 1, 0)
    said = tokenizer.encode("f(a=1,b", add_special_tokens=False)
    comma = len(tokenizer.encode("f(a=1,", add_special_tokens=False))
    cut = reader.fragment(request, said, [-1.0] * len(said))
    assert cut == Fragment(tuple(said[:comma]), "f(a=1,", (-1.0,) * comma, False)
    ended = reader.fragment(request, [said[0], 0, 0, 0], [-1.0] * 4)
    assert ended == Fragment((said[0], END), tokenizer.decode(said[:1]), (-1.0, -1.0), True)


def test_every_call_computes_the_whole_prompt_again(loaded: LoadedModel) -> None:
    counter, policy = ColumnCounter(loaded.model), naive(loaded)
    (request, *_) = GRADES[3:]
    policy.grade([request])
    lengths = [len(request.prompt) + len(candidate) + len(request.after) for candidate in request.candidates]
    assert counter.columns == sum(lengths)
    before = counter.columns
    (fragments,) = policy.sample([SampleRequest(PROMPTS[3], (), "", 3, 0)])
    # Three rows with the prompt; then a column a row for each token that was drawn, but for the last.
    assert counter.columns - before == 3 * (len(PROMPTS[3]) + max(len(f.token_ids) for f in fragments) - 1)


def test_needed_work_is_that_of_what_was_asked() -> None:
    problem = call_problem()
    settings = MctsConfig(depth=1, width=3, samples=3, iterations=1, simulation=0)
    policy = WatchedPolicy(InstantPolicy())
    (tree,) = search_trees([problem], policy, InstantJudge(), settings, seed=0)
    assert tree.nodes == search_trees([problem], InstantPolicy(), InstantJudge(), settings, seed=0)[0].nodes
    before, after, fragments = len(problem.grade.before), len(problem.grade.after), [n.fragment for n in tree.nodes[1:]]
    lengths = [len(fragment.token_ids) for fragment in fragments if fragment]
    assert len(lengths) == 3
    # The fragments begin with tokens of their own, so that nothing is shared but the prompts.
    sampling = chain_work(len(problem.prompt), 0, 1)
    for length in lengths:
        sampling += chain_work(length - 1, len(problem.prompt), length - 1)
    grading = chain_work(before) + chain_work(after, before, 1)
    for length in lengths:
        grading += chain_work(length + after, before, 1)
    assert policy.needed_work() == sampling + grading


def tree_of(*below_root: tuple[str, float]) -> SearchTree:
    """A root whose children have these texts and action values."""
    problem = SearchProblem(call_problem().example, (1,), GradePrompt((1,), (2,), (3, 4, 5, 6)))
    tree = SearchTree.rooted(problem, Reward(0.0, 0.0, None))
    for text, q in below_root:
        state = ResponseState(problem, (7,), text)
        tree.add(0, Fragment((7,), text, (-1.0,), False), state, 0.5, Reward(q, 0.0, None))
    return tree


def test_nodes_count_once_by_text_and_pairs_by_the_filters() -> None:
    filters = PairsConfig()
    good, close, same = (
        tree_of(("[f(a=1,", 1.0), ("None", -1.0)),
        tree_of(("[f(a=1,", 1.0), ("None", 0.95)),
        tree_of(("[f(a=1,", 1.0), ("[f(a=1,", -1.0)),
    )
    assert [usable_pairs([tree], filters) for tree in (good, close, same)] == [1, 0, 0]
    assert [distinct_nodes([tree]) for tree in (good, close, same)] == [2, 2, 1]
    assert usable_pairs([good, close, good], filters) == 2
