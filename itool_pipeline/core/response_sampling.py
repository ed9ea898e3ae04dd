"""Whole responses in place of a search: the comparison without MCTS (Section 4.3.2).

The result is a tree of depth 1, so that its rows, pairs and lineage are like any other's: the root's children are
whole responses, each a single fragment, with N the number of times it was drawn and Q = r. Rewards are recorded and
decide nothing: the pair is chosen by p(a | s), see `preference_pairs.pair_by_probability`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from itool_pipeline.config import SamplingConfig
from itool_pipeline.core.judge import Judge
from itool_pipeline.core.policy import Fragment, Policy, SampleRequest, Task
from itool_pipeline.core.reward import ResponseState, SearchProblem, outcome_of, rewards_of
from itool_pipeline.core.search import distinct_fragments, fragment_prior, next_state
from itool_pipeline.core.seeds import derive_seed
from itool_pipeline.core.tree import SearchTree
from itool_pipeline.core.types import Example, Progress, no_progress


@dataclass(slots=True)
class Draft:
    """A response in the making: what is there of it, and the log-probability of each of its tokens."""

    number: int
    state: ResponseState
    logprobs: tuple[float, ...] = ()

    def request(self, seed: int) -> SampleRequest:
        """The next fragment. Seeded by problem, number and length, so that what else is drawn does not matter."""
        problem, so_far = self.state.problem, self.state.token_ids
        own_seed = derive_seed(seed, "respond", problem.example.id, self.number, len(so_far))
        return SampleRequest(problem.prompt, so_far, self.state.text, 1, own_seed)

    def take(self, fragments: Sequence[Fragment], max_tokens: int) -> None:
        """Go on with what was sampled. Where nothing of it could be kept, the response cannot go on."""
        fragment = next((f for f in fragments if f.token_ids), None)
        if fragment is None:
            self.state = replace(self.state, truncated=True)
        else:
            self.state = next_state(self.state, fragment, max_tokens)
            self.logprobs += fragment.logprobs

    def whole(self) -> Fragment:
        """All of it as one action."""
        return Fragment(self.state.token_ids, self.state.text, self.logprobs, self.state.finished)


def draw_responses(
    problem: SearchProblem, settings: SamplingConfig, *, seed: int, progress: Progress = no_progress
) -> Task[list[Fragment]]:
    """`settings.responses` responses to the problem, fragment after fragment, side by side.

    A response without tokens (the policy had nothing to say) is left out. `progress` counts finished responses.
    """
    drafts = [Draft(number, ResponseState(problem)) for number in range(settings.responses)]
    while going := [draft for draft in drafts if not draft.state.terminal]:
        answers = yield tuple(draft.request(seed) for draft in going)
        for draft, fragments in zip(going, answers, strict=True):
            draft.take(fragments, settings.max_response_tokens)
        progress(sum(draft.state.terminal for draft in drafts), len(drafts))
    return [whole for whole in (draft.whole() for draft in drafts) if whole.token_ids]


def sample_tree(
    problem: SearchProblem,
    judge: Judge,
    settings: SamplingConfig,
    *,
    seed: int,
    progress: Progress = no_progress,
) -> Task[SearchTree]:
    """A tree of depth 1. Equal responses are one child that was drawn several times."""
    drawn = yield from draw_responses(problem, settings, seed=seed, progress=progress)
    kept = distinct_fragments(drawn, settings.responses)
    states = [_whole_state(problem, response) for response in kept]
    root, *rewards = yield from rewards_of([ResponseState(problem), *states], judge, settings, seed=seed)
    tree = SearchTree.rooted(problem, root)
    index = {
        (r.text, r.finished): tree.add(0, r, state, fragment_prior(r.logprobs, settings.prior), reward)
        for r, state, reward in zip(kept, states, rewards, strict=True)
    }
    for r in drawn:
        tree.backup(index[r.text, r.finished], gamma=1.0)
    return tree


def _whole_state(problem: SearchProblem, response: Fragment) -> ResponseState:
    return ResponseState(problem, response.token_ids, response.text, response.finished, truncated=not response.finished)


def draw_mistakes(
    problem: SearchProblem,
    judge: Judge,
    settings: SamplingConfig,
    mistake_of: Callable[[Example, str], str],
    *,
    seed: int,
) -> Task[Counter[str]]:
    """How often each type of mistake is made in `settings.responses` drawn responses; right ones are in none.

    mistake_of  the type of a response that is wrong; where the policy had nothing to say it is asked of an empty one
    """
    drawn = yield from draw_responses(problem, settings, seed=seed)
    outcomes = (outcome_of(_whole_state(problem, response), judge, settings.outcome) for response in drawn)
    wrong = [response.text for response, outcome in zip(drawn, outcomes, strict=True) if not outcome.correct]
    wrong += [""] * (settings.responses - len(drawn))
    return Counter(mistake_of(problem.example, text) for text in wrong)


def each_sampled_tree(
    problems: Sequence[SearchProblem],
    policy: Policy,
    judge: Judge,
    settings: SamplingConfig,
    *,
    seed: int,
    progress: Progress = no_progress,
) -> Iterator[tuple[int, SearchTree]]:
    """(number of the problem, its tree) as they are done. `progress` counts responses of all trees."""
    done, total = Counter[int](), len(problems) * settings.responses

    def task(number: int, problem: SearchProblem) -> Task[SearchTree]:
        def drawn(count: int, _: int) -> None:
            done[number] = count
            progress(done.total(), total)

        return sample_tree(problem, judge, settings, seed=seed, progress=drawn)

    return policy.serve(task(number, problem) for number, problem in enumerate(problems))
