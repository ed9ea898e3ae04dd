"""Step-level preference pairs: the best and the worst child of a node (Section 3.2; filters of App. B.1).

Variants stand beside it: all children of a node that differ enough in Q; steps that bring the answer on and steps with
a flaw, as the gold answer says (`truth: gold`); and, for the comparison without MCTS (Section 4.3.2), the likeliest and
the least likely child.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from enum import StrEnum
from itertools import combinations, product

from itool_pipeline.config import PairsConfig


class PairVerdict(StrEnum):
    """Why a pair was kept or refused. The filters are tried in this order, and the first that refuses is named."""

    UNTRUE = "untrue"
    SIMILAR = "similar"
    CLOSE = "close"
    LOW = "low"
    UNBALANCED = "unbalanced"
    OVER_LIMIT = "over_limit"
    KEPT = "kept"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A candidate step: a child's node index, its fragment's text, Q(s, a), p(a | s), and what the gold says of it.

    flawed    whether something of s' is wrong for good
    advances  whether the step brings the answer on, see `step_advances`
    """

    node: int
    text: str
    q: float
    p: float = 1.0
    flawed: bool = False
    advances: bool = True


@dataclass(frozen=True, slots=True)
class Fork:
    """A node and the steps out of it: its tree, its index, V(s), and whether s is flawed already."""

    tree_id: str
    node: int
    children: Sequence[Candidate]
    value: float = 0.0
    flawed: bool = False


@dataclass(frozen=True, slots=True)
class PreferencePair:
    """Two children of one node of one tree. `node`, `chosen`, `rejected` are node indices.

    margin  by how much `chosen` is ahead in what chose it: Q, or the probability where there was no search
    side    1 or -1, of two kinds of pairs that are to be in balance; 0 for those that are of neither
    """

    tree_id: str
    node: int
    chosen: int
    rejected: int
    chosen_q: float
    rejected_q: float
    margin: float
    similarity: float
    verdict: PairVerdict
    side: int = 0


def step_advances(*, given: bool, correct: bool | None, outcome: float, before: float) -> bool:
    """Whether a step brings the answer on: it is the gold answer's own, or the answer is right after it, or more of it
    is right than before, by the outcomes O of the two states.

    An argument that the benchmark drops, one that is given twice, and a value that is cut in its middle bring no flaw,
    and bring nothing on. Some that are right do not either, unless they are given: a half of a right value, and an
    optional argument after all that must be given. With `outcome.progress: 0` no O rises before the end.
    """
    return given or bool(correct) or outcome > before


def true_by_gold(before: bool, chosen: bool, rejected: bool, *, advances: bool) -> bool:
    """Whether a pair is true, by whether the three states are flawed and whether the chosen step advances: after a
    prefix without a flaw, a step that brings the answer on, and no flaw, is preferred to one that brings a flaw.
    """
    return not before and not chosen and advances and rejected


def text_similarity(a: str, b: str) -> float:
    """Ratio of matching characters in both texts, 1 for equal ones."""
    return SequenceMatcher(None, a, b, autojunk=False).ratio()


def judge_pair(
    pair_similarity: float, chosen_q: float, rejected_q: float, filters: PairsConfig, counted_from: float = 0.0
) -> PairVerdict:
    """Apply the three exclusions of App. B.1: too similar, too close in Q, accepted step too low in Q.

    counted_from  what the Q of the accepted step has to be above, by `min_chosen_q`; 0 in the paper
    """
    if pair_similarity > filters.max_similarity:
        return PairVerdict.SIMILAR
    if filters.min_q_difference is not None and chosen_q - rejected_q < filters.min_q_difference:
        return PairVerdict.CLOSE
    if filters.min_chosen_q is not None and chosen_q - counted_from < filters.min_chosen_q:
        return PairVerdict.LOW
    return PairVerdict.KEPT


def pairs_of(fork: Fork, filters: PairsConfig) -> Iterator[PreferencePair]:
    """The pairs of one node that come into question, kept or refused; none when it has fewer than two children.

    Of children with equal Q the first is the better and the last is the worse.
    """
    ranked = sorted(fork.children, key=lambda child: -child.q)
    if len(ranked) < 2:
        return
    wanted = _true_steps(fork, ranked, filters) if filters.truth == "gold" else _better_steps(ranked, filters)
    for better, worse in wanted:
        yield _pair(fork, better, worse, filters)


Steps = Iterable[tuple[Candidate, Candidate]]


def _better_steps(ranked: Sequence[Candidate], filters: PairsConfig) -> Steps:
    """(better, worse) by Q: the first and the last of the ranked, or every two of them."""
    return combinations(ranked, 2) if filters.per_node == "all" else [(ranked[0], ranked[-1])]


def _true_steps(fork: Fork, ranked: Sequence[Candidate], filters: PairsConfig) -> Steps:
    """(one that advances without a flaw, one with a flaw): the best by Q and the likeliest, or every two.

    Where there are none, the first and the last of the ranked, which `_pair` refuses: the node stays accounted for.
    """
    sound = [child for child in ranked if not child.flawed and child.advances]
    flawed = sorted((child for child in ranked if child.flawed), key=lambda child: -child.p)
    if fork.flawed or not sound or not flawed:
        return [(ranked[0], ranked[-1])]
    return product(sound, flawed) if filters.per_node == "all" else [(sound[0], flawed[0])]


def _pair(fork: Fork, better: Candidate, worse: Candidate, filters: PairsConfig) -> PreferencePair:
    alike = text_similarity(better.text, worse.text)
    true = true_by_gold(fork.flawed, better.flawed, worse.flawed, advances=better.advances)
    if filters.truth == "gold" and not true:
        verdict = PairVerdict.UNTRUE
    else:
        verdict = judge_pair(alike, better.q, worse.q, filters, _counted_from(fork, better, filters))
    margin = better.q - worse.q
    return PreferencePair(fork.tree_id, fork.node, better.node, worse.node, better.q, worse.q, margin, alike, verdict)


def _counted_from(fork: Fork, chosen: Candidate, filters: PairsConfig) -> float:
    if filters.q_above == "siblings":
        others = [child.q for child in fork.children if child.node != chosen.node]
        return math.fsum(others) / len(others)
    return fork.value if filters.q_above == "value" else 0.0


def pair_by_probability(fork: Fork, max_similarity: float) -> PreferencePair | None:
    """The likeliest child chosen, the least likely rejected (w/o MCTS, Section 4.3.2); None for fewer than two.

    The two filters on Q do not apply: here the policy prefers, and no reward. Pairs that are too similar are refused;
    so are, as `close`, two that are equally likely.
    """
    if len(fork.children) < 2:
        return None
    ranked = sorted(fork.children, key=lambda child: -child.p)
    best, worst = ranked[0], ranked[-1]
    alike, margin = text_similarity(best.text, worst.text), best.p - worst.p
    verdict = PairVerdict.SIMILAR if alike > max_similarity else PairVerdict.KEPT if margin > 0 else PairVerdict.CLOSE
    return PreferencePair(fork.tree_id, fork.node, best.node, worst.node, best.q, worst.q, margin, alike, verdict)


def balance_pairs(pairs: Iterable[PreferencePair]) -> list[PreferencePair]:
    """As many kept pairs of side 1 as of side -1: of the larger, those with the smallest margin are marked."""
    pairs = list(pairs)
    sides = [[i for i in _kept(pairs) if pairs[i].side == side] for side in (1, -1)]
    fewest = min(map(len, sides))
    return _marked(pairs, (_best_first(pairs, side)[fewest:] for side in sides), PairVerdict.UNBALANCED)


def limit_pairs(
    pairs: Iterable[PreferencePair], max_pairs: int | None, max_pairs_per_tree: int | None = None
) -> list[PreferencePair]:
    """Keep at most so many of the kept pairs, those with the largest margin; the rest are marked."""
    pairs = list(pairs)
    if max_pairs_per_tree is not None:
        trees: dict[str, list[int]] = defaultdict(list)
        for i in _kept(pairs):
            trees[pairs[i].tree_id].append(i)
        over = (_best_first(pairs, of_tree)[max_pairs_per_tree:] for of_tree in trees.values())
        pairs = _marked(pairs, over, PairVerdict.OVER_LIMIT)
    return _marked(pairs, [_best_first(pairs, _kept(pairs))[max_pairs:]] if max_pairs else [], PairVerdict.OVER_LIMIT)


def _kept(pairs: Sequence[PreferencePair]) -> list[int]:
    return [i for i, pair in enumerate(pairs) if pair.verdict is PairVerdict.KEPT]


def _best_first(pairs: Sequence[PreferencePair], indices: Iterable[int]) -> list[int]:
    return sorted(indices, key=lambda i: (-pairs[i].margin, pairs[i].tree_id, pairs[i].chosen, pairs[i].rejected))


def _marked(
    pairs: Sequence[PreferencePair], over: Iterable[Iterable[int]], verdict: PairVerdict
) -> list[PreferencePair]:
    marked = {i for indices in over for i in indices}
    return [replace(pair, verdict=verdict) if i in marked else pair for i, pair in enumerate(pairs)]
