"""The search tree and the three rules that move values in it: PUCT (Eq. 5), V (Eq. 8) and Q (Eq. 9)."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from itool_pipeline.core.policy import Fragment
from itool_pipeline.core.reward import ResponseState, Reward, SearchProblem


@dataclass(slots=True)
class TreeNode:
    """A state s, together with the action a that led to it.

    state         the response so far
    parent        index of the parent; -1 at the root
    depth         number of fragments since the root
    fragment      the action a; None at the root
    prior         p(a | parent): in [0, 1]; 1 at the root
    rewards       R(s) = O(s) + C(s)
    reward        r(parent, a) = R(s) - R(parent); 0 at the root
    visits        N(s)
    value         V(s), Eq. 8
    action_value  Q(parent, a), Eq. 9
    children      indices, in the order in which they were sampled
    given         whether a is the gold answer's, put there because it was not drawn
    under_way     paths through this node that are selected and not yet backed up
    """

    state: ResponseState
    parent: int
    depth: int
    fragment: Fragment | None
    prior: float
    rewards: Reward
    reward: float = 0.0
    visits: int = 0
    value: float = 0.0
    action_value: float = 0.0
    children: list[int] = field(default_factory=list)
    given: bool = False
    under_way: int = 0

    @property
    def text(self) -> str:
        """The fragment's text; empty at the root."""
        return self.fragment.text if self.fragment else ""


@dataclass(slots=True)
class SearchTree:
    """Nodes of one tree; index 0 is the root. A child's index is larger than its parent's.

    gold  the fragments of the gold answer with their log-probabilities, where they guide the search
    """

    problem: SearchProblem
    nodes: list[TreeNode]
    gold: tuple[Fragment, ...] = ()

    @staticmethod
    def rooted(problem: SearchProblem, rewards: Reward, gold: tuple[Fragment, ...] = ()) -> SearchTree:
        return SearchTree(problem, [TreeNode(ResponseState(problem), -1, 0, None, 1.0, rewards)], gold)

    def next_gold(self, index: int) -> Fragment | None:
        """The fragment that follows a response which is the gold answer so far, token for token; else None."""
        before: tuple[int, ...] = ()
        for fragment in self.gold:
            if before == self.nodes[index].state.token_ids:
                return fragment
            before += fragment.token_ids
        return None

    def add(
        self,
        parent: int,
        fragment: Fragment,
        state: ResponseState,
        prior: float,
        rewards: Reward,
        *,
        given: bool = False,
    ) -> int:
        """Append a child. Nothing has been seen below it, so V = 0 and Q = r (Eq. 9)."""
        above = self.nodes[parent]
        reward = rewards.total - above.rewards.total
        depth = above.depth + 1
        node = TreeNode(state, parent, depth, fragment, prior, rewards, reward, action_value=reward, given=given)
        self.nodes.append(node)
        above.children.append(len(self.nodes) - 1)
        return len(self.nodes) - 1

    def select_child(self, index: int, c: float, virtual_loss: float = 0.0) -> int:
        """The child that maximises Q + c · p · sqrt(N(s)) / (1 + N(s')) (Eq. 5); the first of equals.

        Each path under way counts as a visit, and as one that lost `virtual_loss`, so that the next goes elsewhere.
        """
        # At the first visit N(s) = 0: without the second term the first choice is by Q alone.
        node = self.nodes[index]
        scale = c * math.sqrt(node.visits + node.under_way)

        def puct(child: int) -> float:
            below = self.nodes[child]
            lost = virtual_loss * below.under_way
            return below.action_value - lost + scale * below.prior / (1 + below.visits + below.under_way)

        return max(node.children, key=puct)

    def select_leaf(self, c: float, virtual_loss: float = 0.0) -> int:
        """Walk down from the root by Eq. 5 to a node without children."""
        index = 0
        while self.nodes[index].children:
            index = self.select_child(index, c, virtual_loss)
        return index

    def enter(self, index: int) -> None:
        """A path to `index` is under way."""
        self._under_way(index, 1)

    def leave(self, index: int) -> None:
        """It is not any more."""
        self._under_way(index, -1)

    def _under_way(self, index: int, change: int) -> None:
        while index >= 0:
            node = self.nodes[index]
            node.under_way += change
            index = node.parent

    def backup(self, index: int, gamma: float) -> None:
        """From `index` up to the root: N += 1, then V by Eq. 8 and Q by Eq. 9."""
        while index >= 0:
            node = self.nodes[index]
            node.visits += 1
            children = [self.nodes[child] for child in node.children]
            visits = sum(child.visits for child in children)
            # The visits of the children are N(s) less those that ended here. A child that nobody visited has the
            # weight 0, whatever its Q; where that is all of them, V stays 0.
            if visits:
                node.value = math.fsum(child.visits * child.action_value for child in children) / visits
            if node.parent >= 0:
                node.action_value = node.reward + gamma * node.value
            index = node.parent
