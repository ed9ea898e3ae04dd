"""Step-level preference pairs: the best and the worst child of a node (Section 3.2; filters of App. B.1).

Two variants stand beside it: all children of a node that differ enough in Q, and, for the comparison without MCTS
(Section 4.3.2), the likeliest and the least likely child.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from enum import StrEnum
from itertools import combinations

from itool_pipeline.config import PairsConfig


class PairVerdict(StrEnum):
    """Why a pair was kept or refused. The filters are tried in this order, and the first that refuses is named."""

    SIMILAR = "similar"
    CLOSE = "close"
    LOW = "low"
    OVER_LIMIT = "over_limit"
    KEPT = "kept"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A candidate step: a child's node index, its fragment's text, Q(s, a) and p(a | s)."""

    node: int
    text: str
    q: float
    p: float = 1.0


@dataclass(frozen=True, slots=True)
class PreferencePair:
    """Two children of one node of one tree. `node`, `chosen`, `rejected` are node indices.

    margin  by how much `chosen` is ahead in what chose it: Q, or the probability where there was no search
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


def text_similarity(a: str, b: str) -> float:
    """Ratio of matching characters in both texts, 1 for equal ones."""
    return SequenceMatcher(None, a, b, autojunk=False).ratio()


def judge_pair(pair_similarity: float, chosen_q: float, rejected_q: float, filters: PairsConfig) -> PairVerdict:
    """Apply the three exclusions of App. B.1: too similar, too close in Q, accepted step too low in Q."""
    if pair_similarity > filters.max_similarity:
        return PairVerdict.SIMILAR
    if chosen_q - rejected_q < filters.min_q_difference:
        return PairVerdict.CLOSE
    if chosen_q < filters.min_chosen_q:
        return PairVerdict.LOW
    return PairVerdict.KEPT


def extreme_pair(tree_id: str, node: int, children: Sequence[Candidate], filters: PairsConfig) -> PreferencePair | None:
    """The pair of one node, kept or refused; None when it has fewer than two children.

    Of children with equal Q the first is the best and the last is the worst.
    """
    if len(children) < 2:
        return None
    ranked = sorted(children, key=lambda child: -child.q)
    return _pair(tree_id, node, ranked[0], ranked[-1], filters)


def all_pairs(tree_id: str, node: int, children: Sequence[Candidate], filters: PairsConfig) -> list[PreferencePair]:
    """Every two children of one node, the one with the higher Q chosen, each pair kept or refused; best first.

    Of children with equal Q the first is taken for the better.
    """
    ranked = sorted(children, key=lambda child: -child.q)
    return [_pair(tree_id, node, better, worse, filters) for better, worse in combinations(ranked, 2)]


def pair_by_probability(
    tree_id: str, node: int, children: Sequence[Candidate], max_similarity: float
) -> PreferencePair | None:
    """The likeliest child chosen, the least likely rejected (w/o MCTS, Section 4.3.2); None for fewer than two.

    The two filters on Q do not apply: here the policy prefers, and no reward. Pairs that are too similar are refused;
    so are, as `close`, two that are equally likely.
    """
    if len(children) < 2:
        return None
    ranked = sorted(children, key=lambda child: -child.p)
    best, worst = ranked[0], ranked[-1]
    alike, margin = text_similarity(best.text, worst.text), best.p - worst.p
    verdict = PairVerdict.SIMILAR if alike > max_similarity else PairVerdict.KEPT if margin > 0 else PairVerdict.CLOSE
    return PreferencePair(tree_id, node, best.node, worst.node, best.q, worst.q, margin, alike, verdict)


def _pair(tree_id: str, node: int, better: Candidate, worse: Candidate, filters: PairsConfig) -> PreferencePair:
    alike = text_similarity(better.text, worse.text)
    verdict = judge_pair(alike, better.q, worse.q, filters)
    return PreferencePair(tree_id, node, better.node, worse.node, better.q, worse.q, better.q - worse.q, alike, verdict)


def limit_pairs(pairs: Iterable[PreferencePair], max_pairs: int | None) -> list[PreferencePair]:
    """Keep at most `max_pairs` of the kept pairs, those with the largest margin; the rest are marked."""
    pairs = list(pairs)
    if max_pairs is None:
        return pairs
    kept = [i for i, pair in enumerate(pairs) if pair.verdict is PairVerdict.KEPT]
    kept.sort(key=lambda i: (-pairs[i].margin, pairs[i].tree_id, pairs[i].chosen, pairs[i].rejected))
    over = set(kept[max_pairs:])
    return [replace(pair, verdict=PairVerdict.OVER_LIMIT) if i in over else pair for i, pair in enumerate(pairs)]
