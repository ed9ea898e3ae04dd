"""Golden trees: every visit count, Q and V after every iteration, by hand (Eq. 5, 8 and 9)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from itool_pipeline.config import MctsConfig
from itool_pipeline.core.search import search_trees
from itool_pipeline.core.tree import SearchTree, TreeNode
from itool_pipeline_tests.core.brute_force import Path
from itool_pipeline_tests.core.fake_policy import Grade, Move, TablePolicy, call_problem, last, move, text_problem
from itool_pipeline_tests.core.settings import ONLY_GRADE, changed
from itool_pipeline_tests.judges.by_source import JUDGE

Numbers = tuple[int, float, float]
"""N, Q, V."""


def grade_for(reward: float) -> Grade:
    """Masses on A and D whose grade under ONLY_GRADE is `reward`: 10 a - 10 (1 - a)."""
    a = (reward + 10) / 20
    return (a, 0.0, 0.0, 1 - a)


def limits(
    iterations: int, *, depth: int = 4, simulation: int = 0, c: float = 1.0, gamma: float = 1.0, **over: Any
) -> MctsConfig:
    values = {"depth": depth, "width": 5, "simulation": simulation, "c": c, "gamma": gamma, "samples": 8, **over}
    return changed(MctsConfig(max_response_tokens=100, **values), iterations=iterations)


def path_of(tree: SearchTree, index: int) -> Path:
    node = tree.nodes[index]
    if node.parent < 0:
        return ()
    return (*path_of(tree, node.parent), node.text + "$" * node.state.finished)


def by_name(tree: SearchTree) -> dict[str, TreeNode]:
    """Nodes by the names of their path run together: "" is the root."""
    return {"".join(path_of(tree, i)): node for i, node in enumerate(tree.nodes)}


def numbers(tree: SearchTree) -> dict[str, Numbers]:
    return {name: (n.visits, n.action_value, n.value) for name, n in by_name(tree).items()}


def check_numbers(tree: SearchTree, expected: Mapping[str, Numbers]) -> None:
    found = numbers(tree)
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert found[name] == pytest.approx(values, abs=1e-9), name


# Two moves at every node, two deep, no roll-outs, gamma = 1/2, c = 1.
#   R: root 0; a 0.2, b 0.4; aa 0.8, ab 0, ba 0.5, bb 0.1
#   r: a 0.2, b 0.4; aa 0.6, ab -0.2, ba 0.1, bb -0.3
#   p: a 0.5 = sqrt(0.25 · 1), b 0.25; below, 0.64 and 0.36
TWO_BY_TWO = {
    "": [move("a", "", p=(0.25, 1.0)), move("b", p=0.25)],
    "a": [move("a", p=0.64), move("b", p=0.36)],
    "b": [move("a", p=0.64), move("b", p=0.36)],
}
REWARDS = {"": 0.0, "a": 0.2, "b": 0.4, "aa": 0.8, "ab": 0.0, "ba": 0.5, "bb": 0.1}

BY_HAND: list[dict[str, Numbers]] = [
    # 1: N(root) = 0, so by Q alone: b. Q(b) = r(b) = 0.4; V(root) = 1·0.4/1.
    {"": (1, 0, 0.4), "a": (0, 0.2, 0), "b": (1, 0.4, 0)},
    # 2: a 0.2 + 0.5·1/1 = 0.7, b 0.4 + 0.25·1/2 = 0.525: a, a leaf. N(a) = 0: aa by r.
    #    V(a) = 0.6, Q(a) = 0.2 + 0.6/2 = 0.5; V(root) = (0.5 + 0.4)/2.
    {
        "": (2, 0, 0.45),
        "a": (1, 0.5, 0.6),
        "b": (1, 0.4, 0),
        "aa": (1, 0.6, 0),
        "ab": (0, -0.2, 0),
    },
    # 3: a 0.5 + 0.5·1.4142/2 = 0.8536, b 0.4 + 0.25·1.4142/2 = 0.5768: a.
    #    aa 0.6 + 0.64·1/2 = 0.92, ab -0.2 + 0.36 = 0.16: aa, at the depth limit. V(root) = (2·0.5 + 0.4)/3.
    {
        "": (3, 0, 1.4 / 3),
        "a": (2, 0.5, 0.6),
        "b": (1, 0.4, 0),
        "aa": (2, 0.6, 0),
        "ab": (0, -0.2, 0),
    },
    # 4: a 0.5 + 0.5·1.7321/3 = 0.7887, b 0.4 + 0.25·1.7321/2 = 0.6165: a.
    #    aa 0.6 + 0.64·1.4142/3 = 0.9017, ab -0.2 + 0.36·1.4142 = 0.3091: aa. V(root) = (3·0.5 + 0.4)/4.
    {
        "": (4, 0, 0.475),
        "a": (3, 0.5, 0.6),
        "b": (1, 0.4, 0),
        "aa": (3, 0.6, 0),
        "ab": (0, -0.2, 0),
    },
    # 5: a 0.5 + 0.5·2/4 = 0.75, b 0.4 + 0.25·2/2 = 0.65: a. aa 0.8771, ab 0.4235: aa. V(root) = (4·0.5 + 0.4)/5.
    {
        "": (5, 0, 0.48),
        "a": (4, 0.5, 0.6),
        "b": (1, 0.4, 0),
        "aa": (4, 0.6, 0),
        "ab": (0, -0.2, 0),
    },
    # 6: a 0.5 + 0.5·2.2361/5 = 0.7236, b 0.4 + 0.25·2.2361/2 = 0.6795: a. aa 0.856, ab 0.52: aa.
    {
        "": (6, 0, 2.9 / 6),
        "a": (5, 0.5, 0.6),
        "b": (1, 0.4, 0),
        "aa": (5, 0.6, 0),
        "ab": (0, -0.2, 0),
    },
    # 7: a 0.5 + 0.5·2.4495/6 = 0.7041, b 0.4 + 0.25·2.4495/2 = 0.7062: b, a leaf.
    #    N(b) = 1: ba 0.1 + 0.64 = 0.74, bb -0.3 + 0.36 = 0.06: ba. V(b) = 0.1, Q(b) = 0.4 + 0.1/2 = 0.45.
    #    One of b's two visits ended at b. V(root) = (5·0.5 + 2·0.45)/7.
    {
        "": (7, 0, 3.4 / 7),
        "a": (5, 0.5, 0.6),
        "b": (2, 0.45, 0.1),
        "aa": (5, 0.6, 0),
        "ab": (0, -0.2, 0),
        "ba": (1, 0.1, 0),
        "bb": (0, -0.3, 0),
    },
]


def two_by_two() -> TablePolicy:
    return TablePolicy(TWO_BY_TWO, {text: grade_for(r) for text, r in REWARDS.items()})


@pytest.mark.parametrize("iteration", range(1, 8))
def test_two_by_two_by_hand(iteration: int) -> None:
    (tree,) = search_trees(
        [text_problem()], two_by_two(), JUDGE, limits(iteration, depth=2, gamma=0.5, **ONLY_GRADE), seed=0
    )
    check_numbers(tree, BY_HAND[iteration - 1])
    found = by_name(tree)
    assert {name: node.rewards.total for name, node in found.items()} == pytest.approx(
        {name: REWARDS[name] for name in found}, abs=1e-9
    )
    priors = {"": 1.0, "a": 0.5, "b": 0.25, "aa": 0.64, "ab": 0.36, "ba": 0.64, "bb": 0.36}
    assert {name: node.prior for name, node in found.items()} == pytest.approx({name: priors[name] for name in found})


def test_the_product_form_of_the_prior() -> None:
    # p(a) = 0.25 · 1 = p(b). 2: a 0.2 + 0.25 = 0.45, b 0.4 + 0.125 = 0.525: b this time; then N(b) = 1: ba by 0.74.
    settings = limits(2, depth=2, gamma=0.5, prior="product", **ONLY_GRADE)
    (tree,) = search_trees([text_problem()], two_by_two(), JUDGE, settings, seed=0)
    assert by_name(tree)["a"].prior == pytest.approx(0.25)
    check_numbers(
        tree,
        {
            "": (2, 0, 0.45),
            "a": (0, 0.2, 0),
            "b": (2, 0.45, 0.1),
            "ba": (1, 0.1, 0),
            "bb": (0, -0.3, 0),
        },
    )


def test_without_exploration_by_hand() -> None:
    # c = 0. 1: b. 2: b 0.4 > a 0.2: b, then ba; Q(b) = 0.4 + 0.1/2 = 0.45. 3 to 9: b, ba, and a is never seen.
    (tree,) = search_trees(
        [text_problem()], two_by_two(), JUDGE, limits(9, depth=2, gamma=0.5, c=0.0, **ONLY_GRADE), seed=0
    )
    check_numbers(
        tree,
        {
            "": (9, 0, 0.45),
            "a": (0, 0.2, 0),
            "b": (9, 0.45, 0.1),
            "ba": (8, 0.1, 0),
            "bb": (0, -0.3, 0),
        },
    )


def test_with_much_exploration_by_hand() -> None:
    # c = 100, gamma = 1/2: the prior and the visits decide; U is the second term of Eq. 5.
    # 1: Q alone: b.
    # 2: U(a) = 50, U(b) = 12.5: a; N(a) = 0: aa. Q(a) = 0.5.
    # 3: sqrt 2: U(a) = 35.4, U(b) = 17.7: a; N(a) = 1: U(aa) = 32, U(ab) = 36: ab (35.8 > 32.6).
    #    V(a) = (0.6 - 0.2)/2 = 0.2, Q(a) = 0.3.
    # 4: sqrt 3: U(a) = 28.9, U(b) = 21.7: a; N(a) = 2: U(aa) = 45.3, U(ab) = 25.5: aa.
    #    V(a) = (2·0.6 - 0.2)/3 = 1/3, Q(a) = 0.2 + 1/6 = 11/30.
    # 5: sqrt 4: U(a) = 25, U(b) = 25, Q(a) = 0.367 < Q(b) = 0.4: b; N(b) = 1: U(ba) = 64, U(bb) = 36: ba.
    #    V(b) = 0.1, Q(b) = 0.45. V(root) = (3·11/30 + 2·0.45)/5 = 0.4.
    policy = two_by_two()
    (tree,) = search_trees(
        [text_problem()], policy, JUDGE, limits(5, depth=2, gamma=0.5, c=100.0, **ONLY_GRADE), seed=0
    )
    check_numbers(
        tree,
        {
            "": (5, 0, 0.4),
            "a": (3, 11 / 30, 1 / 3),
            "b": (2, 0.45, 0.1),
            "aa": (2, 0.6, 0),
            "ab": (1, -0.2, 0),
            "ba": (1, 0.1, 0),
            "bb": (0, -0.3, 0),
        },
    )


# A call with the shipped rewards (Eq. 6, 7): O = progress 1/2 times (right - wrong)/3, and 1 or -1 at the end;
# three items agree or not: the name f, a = 1 and b = 2. C = (A + 0.1 B - C - 2 D)/(A + B + C + D).
S1, S2 = "[f(a=1,", "[f(a=7,"
CALL_TABLE: dict[str, list[Move]] = {
    "": [move("[f(", "a=1,", p=0.5), move("[f(", "a=7,", p=0.25)],
    S1: [move("b=2)", p=0.8), move("b=3)", p=0.2)],
    S2: [move("b=2)", p=1.0)],
    S1 + "b=2)": [last("]", p=(0.81, 1.0))],
    S1 + "b=3)": [last("]", p=0.9)],
    S2 + "b=2)": [last("]", p=0.9)],
}
CALL_GRADES: dict[str, Grade] = {
    "": (0.5, 0, 0.5, 0),  # C = 0
    S1: (0.3, 0, 0.1, 0),  # 0.2/0.4 = 0.5
    S2: (0.1, 0, 0.1, 0.2),  # -0.4/0.4 = -1
    S1 + "b=2)": (0.4, 0, 0, 0),  # 1
    S1 + "b=3)": (0, 0.5, 0, 0),  # 0.1
    S2 + "b=2)": (0.25, 0.25, 0.25, 0.25),  # -1.9/4 = -0.475
    S1 + "b=2)]": (0.9, 0.1, 0, 0),  # 0.91
    S1 + "b=3)]": (0, 0, 0.7, 0),  # -1
    S2 + "b=2)]": (0, 0, 0, 0.3),  # -2
}
CALL_REWARDS = {
    "": 0.0,
    S1: 1 / 3 + 0.5,  # O = 1/2 · (2 - 0)/3
    S2: 0.0 - 1,  # O = 1/2 · (1 - 1)/3
    S1 + "b=2)": 0.5 + 1,  # O = 1/2 · 3/3
    S1 + "b=3)": 1 / 6 + 0.1,  # O = 1/2 · (2 - 1)/3
    S2 + "b=2)": 1 / 6 - 0.475,
    S1 + "b=2)]$": 1 + 0.91,
    S1 + "b=3)]$": -1 - 1,
    S2 + "b=2)]$": -1 - 2,
}


def call_policy() -> TablePolicy:
    return TablePolicy(CALL_TABLE, CALL_GRADES)


@pytest.mark.parametrize("iteration", [1, 2, 3, 4])
def test_a_call_with_roll_outs_by_hand(iteration: int) -> None:
    # c = 16, gamma = 1, simulation = 2: three expansions in an iteration.
    # 1: root opens: r(S1) = 5/6, r(S2) = -1; N = 0: S1. It opens: r(b2) = 3/2 - 5/6 = 2/3, r(b3) = 4/15 - 5/6: b2.
    #    It opens: the end, r = 1.91 - 1.5 = 0.41. Backup: Q(end) = 0.41; Q(b2) = 2/3 + 0.41; Q(S1) = 1.91 (the sum
    #    telescopes); V(root) = 1.91.
    # 2: S1 1.91 + 16·0.5/2 = 5.91, S2 -1 + 16·0.25 = 3: S1; b2 1.077 + 16·0.8/2, b3 -0.567 + 16·0.2: b2; the end
    #    is terminal, so the roll-out stops there.
    # 3: sqrt 2: S1 1.91 + 8·1.414/3 = 5.68, S2 -1 + 4·1.414 = 4.66: as before.
    # 4: sqrt 3: S1 1.91 + 8·1.732/4 = 5.37, S2 -1 + 4·1.732 = 5.93: S2, with one child, with one child.
    #    r(b2) = 1/6 - 0.475 + 1, r(end) = -3 - 1/6 + 0.475; Q(S2) = -3; V(root) = (3·1.91 - 3)/4 = 0.6825.
    b2, b3 = 2 / 3 + 0.41, 4 / 15 - 5 / 6
    n = min(iteration, 3)
    expected: dict[str, Numbers] = {
        "": (n, 0, 1.91),
        S1: (n, 1.91, b2),
        S2: (0, -1, 0),
        S1 + "b=2)": (n, b2, 0.41),
        S1 + "b=3)": (0, b3, 0),
        S1 + "b=2)]$": (n, 0.41, 0),
    }
    if iteration == 4:
        end = -3 - 1 / 6 + 0.475
        expected |= {
            "": (4, 0, 0.6825),
            S2: (1, -3, -2),
            S2 + "b=2)": (1, -2, end),
            S2 + "b=2)]$": (1, end, 0),
        }
    (tree,) = search_trees([call_problem()], call_policy(), JUDGE, limits(iteration, simulation=2, c=16.0), seed=0)
    check_numbers(tree, expected)
    nodes = by_name(tree)
    assert nodes[S1 + "b=2)]$"].prior == pytest.approx(0.9)
    assert nodes[S1 + "b=2)]$"].rewards.correct is True
    assert nodes[S1].rewards.correct is None
    assert {name: node.rewards.total for name, node in nodes.items()} == pytest.approx(
        {name: CALL_REWARDS[name] for name in nodes}
    )
