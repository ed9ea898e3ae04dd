"""What a search costs and brings: columns that go through the decoder, work that is needed, nodes and pairs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from itool_pipeline.config import PairsConfig
from itool_pipeline.core.policy import GradeRequest, Policy, Request, SampleRequest, T, Task
from itool_pipeline.core.preference_pairs import Candidate, Fork, PairVerdict, pairs_of
from itool_pipeline.core.tree import SearchTree
from itool_pipeline.engines.logits import decoder_of
from itool_pipeline.steps.forecast.flops import Work
from itool_pipeline_tests.bench.flops import PrefixWork


class ColumnCounter:
    """Token columns that go through the decoder of `model`, padding included. Counts from its making on."""

    def __init__(self, model: Any) -> None:
        self.columns = 0
        decoder_of(model).register_forward_pre_hook(self._count, with_kwargs=True)

    def _count(self, module: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        ids = named.get("input_ids", arguments[0] if arguments else None)
        self.columns += ids.numel() if ids is not None else named["inputs_embeds"].shape[:-1].numel()


class WatchedPolicy(Policy):
    """Hands on what `policy` answers, and notes what was asked and answered."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._served: list[tuple[Request, Any]] = []

    def serve(self, tasks: Iterable[Task[T]]) -> Iterator[tuple[int, T]]:
        return self._policy.serve(map(self._watched, tasks))

    def _watched(self, task: Task[T]) -> Task[T]:
        answers: list[Any] | None = None
        while True:
            try:
                requests = next(task) if answers is None else task.send(answers)
            except StopIteration as end:
                result: T = end.value
                return result
            answers = yield requests
            self._served += zip(requests, answers, strict=True)

    def needed_work(self) -> Work:
        """The work that the answers needed. Raises ValueError for scores, which no search asks for."""
        found = PrefixWork()
        for request, answer in self._served:
            if isinstance(request, SampleRequest):
                found.add_draws(request.prompt, request.response, [fragment.token_ids for fragment in answer])
            elif isinstance(request, GradeRequest):
                for candidate in request.candidates:
                    found.add_closing(request.prompt, candidate, len(request.after))
            else:
                raise ValueError("the work of scores is not known here")
        return found.total()


def distinct_nodes(trees: Sequence[SearchTree]) -> int:
    """Scored nodes with texts of their own: the root is none, and one text by two paths is one."""
    return sum(len({(node.state.text, node.state.finished) for node in tree.nodes[1:]}) for tree in trees)


def usable_pairs(trees: Sequence[SearchTree], filters: PairsConfig) -> int:
    """The best and the worst child of a node make a pair; so many pass the filters of App. B.1."""
    kept = 0
    for tree in trees:
        below: dict[int, list[Candidate]] = defaultdict(list)
        for index, node in enumerate(tree.nodes[1:], 1):
            below[node.parent].append(Candidate(index, node.text, node.action_value, node.prior))
        for parent, children in below.items():
            pairs = pairs_of(Fork(tree.problem.example.id, parent, children), filters)
            kept += sum(pair.verdict is PairVerdict.KEPT for pair in pairs)
    return kept
