"""Eq. 5, 8 and 9 on trees whose numbers are put in by hand."""

from __future__ import annotations

import math

import pytest

from itool_pipeline.core.policy import Fragment
from itool_pipeline.core.reward import ResponseState, Reward
from itool_pipeline.core.tree import SearchTree
from itool_pipeline_tests.core.fake_policy import text_problem

PROBLEM = text_problem()


def _tree(root: float = 0.0) -> SearchTree:
    return SearchTree.rooted(PROBLEM, Reward(root, 0.0, None))


def _add(tree: SearchTree, parent: int, outcome: float, grade: float = 0.0, prior: float = 0.5) -> int:
    fragment = Fragment((1,), "x", (-0.5,), False)
    return tree.add(parent, fragment, ResponseState(PROBLEM, (1,), "x"), prior, Reward(outcome, grade, None))


def test_a_root_has_seen_nothing() -> None:
    root = _tree(0.75).nodes[0]
    assert (root.parent, root.depth, root.prior, root.text) == (-1, 0, 1.0, "")
    assert (root.visits, root.value, root.action_value, root.reward, root.children) == (0, 0.0, 0.0, 0.0, [])


def test_a_child_is_worth_the_difference_of_rewards() -> None:
    tree = _tree(0.5)
    a = _add(tree, 0, outcome=0.25, grade=1.0)  # R = 1.25, r = 1.25 - 0.5
    b = _add(tree, a, outcome=-1.0, grade=0.5)  # R = -0.5, r = -0.5 - 1.25
    c = _add(tree, 0, outcome=0.5)
    assert (a, b, c) == (1, 2, 3)
    assert [(n.parent, n.depth, n.reward, n.action_value) for n in tree.nodes[1:]] == [
        (0, 1, 0.75, 0.75),
        (1, 2, -1.75, -1.75),
        (0, 1, 0.0, 0.0),
    ]
    assert [n.children for n in tree.nodes] == [[1, 3], [2], [], []]
    assert all(n.visits == 0 and n.value == 0.0 for n in tree.nodes)


def test_selection_by_hand() -> None:
    # N(s) = 9, c = 2: Q + 2 p sqrt(9) / (1 + N(s'))
    tree = _tree()
    for prior, visits, q in [(0.5, 5, 0.5), (0.25, 3, 0.75), (0.1, 0, 0.0)]:
        node = tree.nodes[_add(tree, 0, 0.0, prior=prior)]
        node.visits, node.action_value = visits, q
    tree.nodes[0].visits = 9
    # 0.5 + 3/6 = 1.0; 0.75 + 1.5/4 = 1.125; 0 + 0.6/1 = 0.6
    assert tree.select_child(0, c=2.0) == 2
    # 0.5 + 30/6 = 5.5; 0.75 + 15/4 = 4.5; 0 + 6/1 = 6
    assert tree.select_child(0, c=20.0) == 3
    # 0.5; 0.75; 0
    assert tree.select_child(0, c=0.0) == 2
    tree.nodes[0].visits = 0  # nobody has been here: Q alone
    assert tree.select_child(0, c=20.0) == 2


def test_the_first_of_equals_is_selected() -> None:
    tree = _tree()
    children = [_add(tree, 0, 0.5) for _ in range(3)]
    assert tree.select_child(0, c=1.0) == children[0]


def test_a_leaf_is_reached_by_selecting_at_every_node() -> None:
    tree = _tree()
    assert tree.select_leaf(1.0) == 0
    a, b = _add(tree, 0, 0.0), _add(tree, 0, 0.5)
    aa, ab = _add(tree, a, 3.0), _add(tree, a, 4.0)
    ba, bb = _add(tree, b, 2.0), _add(tree, b, 1.0)
    assert tree.select_leaf(1.0) == ba
    tree.nodes[a].action_value = 9.0
    assert tree.select_leaf(1.0) == ab
    assert {aa, bb}.isdisjoint({ba, ab})


@pytest.mark.parametrize("gamma", [1.0, 0.5, 0.0])
def test_backup_by_hand(gamma: float) -> None:
    tree = _tree(root=1.0)
    a = _add(tree, 0, 2.0)  # r = 1
    b = _add(tree, 0, 0.0)  # r = -1
    aa = _add(tree, a, 5.0)  # r = 3
    ab = _add(tree, a, 1.0)  # r = -1

    tree.backup(aa, gamma)
    # aa has nothing below: V = 0, Q = 3. a: V = 1·3/1. Root: V = Q(a).
    q_a = 1 + gamma * 3
    assert [n.visits for n in tree.nodes] == [1, 1, 0, 1, 0]
    assert [n.value for n in tree.nodes] == pytest.approx([q_a, 3, 0, 0, 0])
    assert [n.action_value for n in tree.nodes] == pytest.approx([0, q_a, -1, 3, -1])

    tree.backup(ab, gamma)
    # a: V = (1·3 + 1·(-1))/2 = 1
    q_a = 1 + gamma * 1
    assert [n.visits for n in tree.nodes] == [2, 2, 0, 1, 1]
    assert [n.value for n in tree.nodes] == pytest.approx([q_a, 1, 0, 0, 0])
    assert [n.action_value for n in tree.nodes] == pytest.approx([0, q_a, -1, 3, -1])

    tree.backup(b, gamma)
    # root: V = (2 Q(a) + 1·(-1))/3
    assert [n.visits for n in tree.nodes] == [3, 2, 1, 1, 1]
    assert tree.nodes[0].value == pytest.approx((2 * q_a - 1) / 3)
    assert tree.nodes[b].action_value == -1

    tree.backup(a, gamma)
    # a visit that ends at a counts for a and the root, and changes no value of a
    assert [n.visits for n in tree.nodes] == [4, 3, 1, 1, 1]
    assert tree.nodes[a].value == pytest.approx(1)
    assert tree.nodes[0].value == pytest.approx((3 * q_a - 1) / 4)


def test_children_that_nobody_visited_do_not_count() -> None:
    tree = _tree()
    a = _add(tree, 0, 2.0)
    _add(tree, 0, -100.0)
    tree.backup(0, 1.0)
    assert (tree.nodes[0].visits, tree.nodes[0].value) == (1, 0.0)
    tree.backup(a, 1.0)
    assert (tree.nodes[0].visits, tree.nodes[0].value) == (2, 2.0)


def test_the_roots_own_action_value_stays_zero() -> None:
    tree = _tree(root=5.0)
    tree.backup(_add(tree, 0, 7.0), 1.0)
    assert tree.nodes[0].action_value == 0.0
    assert math.isclose(tree.nodes[0].value, 2.0)
