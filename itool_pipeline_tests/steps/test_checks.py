"""The asset checks on artifacts written by hand: good ones pass, and every kind of damage is found and named."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from itool_pipeline.benchmarks.bfcl.benchmark import BfclBenchmark
from itool_pipeline.benchmarks.types import RowCheck
from itool_pipeline.core.types import Example, Message
from itool_pipeline.files.parts import Parts
from itool_pipeline.steps import checks
from itool_pipeline.steps.artifact_files import (
    ACCOUNT_FILE,
    CHECKPOINT_FILE,
    PAIRS_FILE,
    SCORES_FILE,
    SPLITS_FILE,
    nodes_file,
    trees_file,
)
from itool_pipeline.steps.artifact_files import CASES_FILE as CASE_ROWS
from itool_pipeline.steps.asset_graph import BY_NAME
from itool_pipeline.steps.records import LeftToTheRun
from itool_pipeline.steps.workspace import MissingInput, Workspace
from itool_pipeline.store.artifacts import Step
from itool_pipeline.store.table_files import write_table_file
from itool_pipeline.store.tables import SPLITS
from itool_pipeline_tests.steps.by_hand import example, put, put_cases, workspace, write_train

TRAINING = [example("t1"), example("t2", group="g"), example("t3", group="g"), example("v1")]
HELD_OUT = [example("c1"), example("c2"), example("c3")]
BFCL, API_BANK = BY_NAME["bfcl"], BY_NAME["api_bank"]

Row = dict[str, Any]


def split(key: str, part: str = "train") -> Row:
    return {"example_id": key, "split": part, "difficulty": "easy"}


GOOD_SPLITS = [split("t1"), split("t2"), split("t3"), split("v1", "validation")]


def parquet(rows: Sequence[Row], name: str) -> Callable[[Path], None]:
    return lambda directory: pq.write_table(pa.Table.from_pylist(list(rows)), directory / name)


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    return workspace(tmp_path, iterations=1)


def put_data(
    ws: Workspace,
    train: Sequence[Example] = TRAINING,
    splits: Sequence[Row] = GOOD_SPLITS,
) -> None:
    group = {x.id: x.group for x in train}
    rows = [{**row, "group_id": group[row["example_id"]]} for row in splits]
    put(ws, "examples", lambda directory: write_train(directory, train))
    put(ws, "splits", lambda directory: write_table_file(directory / SPLITS_FILE, SPLITS, rows))


def leaks(ws: Workspace, train: Sequence[Example] = TRAINING, held_out: Sequence[Example] = HELD_OUT) -> list[str]:
    """What is found of BFCL's cases, by the check of these, and by that of what no experiment may train on."""
    put_data(ws, train)
    put_cases(ws, "bfcl", held_out)
    problems = checks.no_case_is_trained_on(ws, BFCL).problems
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BfclBenchmark, "questions", lambda *_: held_out)
        asked = [problem for problem in problems if problem.startswith("case ")]
        assert checks.nothing_reserved_is_trained_on(ws).problems == asked
    return problems


def test_good_splits_pass(ws: Workspace) -> None:
    put_data(ws)
    assert checks.splits_are_disjoint(ws) == checks.Finding([], {"examples": 4})
    put_cases(ws, "bfcl", HELD_OUT)
    assert checks.no_case_is_trained_on(ws, BFCL) == checks.Finding([], {"training_examples": 4, "cases": 3})


def test_what_is_reserved_is_looked_for_in_training(ws: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    put_data(ws)
    monkeypatch.setattr(BfclBenchmark, "questions", lambda *_: HELD_OUT)
    found = checks.nothing_reserved_is_trained_on(ws)
    assert found == checks.Finding([], {"training_examples": 4, "questions": 3})


def test_an_example_that_is_trained_on_and_scored(ws: Workspace) -> None:
    problems = leaks(ws, held_out=[*HELD_OUT, example("t1", "another question", group="c9")])
    assert problems == ["training example t1 is from held-out BFCL cases"]


def test_a_near_duplicate_that_is_scored(ws: Workspace) -> None:
    problems = leaks(ws, held_out=[*HELD_OUT, example("c4", "another question", group="g")])
    assert problems == [f"training example {key} is from held-out BFCL cases" for key in ("t2", "t3")]


def test_a_near_duplicate_in_validation(ws: Workspace) -> None:
    put_data(ws, splits=[*GOOD_SPLITS[:2], split("t3", "validation"), GOOD_SPLITS[3]])
    assert checks.splits_are_disjoint(ws).problems == ["group g is in training and validation examples"]


@pytest.mark.parametrize("question", ["What is t1?", "what  is T1", "WHAT, is t1!?", "What is\nt1?"])
def test_a_held_out_question_in_training(ws: Workspace, question: str) -> None:
    assert leaks(ws, held_out=[*HELD_OUT, example("c4", question)]) == [
        "case c4 asks what these training examples ask: t1"
    ]


def test_a_question_of_the_validation_part_leaks_too(ws: Workspace) -> None:
    assert leaks(ws, held_out=[example("c4", "What is v1?")]) == ["case c4 asks what these training examples ask: v1"]


def test_other_questions_do_not_leak(ws: Workspace) -> None:
    assert leaks(ws, held_out=[example("c4", "What is t12?"), example("c5", "What was t1?")]) == []


TOOL = {"name": "convert", "description": "", "parameters": {"type": "dict", "properties": {}}}


def test_the_same_question_with_other_values_and_the_same_tools_leaks(ws: Workspace) -> None:
    asked = replace(example("t1", "Convert 5 to dollars"), tools=(TOOL,))
    case = replace(example("c4", "Convert 70 to dollars"), tools=(TOOL,))
    assert leaks(ws, train=[asked, *TRAINING[1:]], held_out=[case]) == [
        "case c4 asks what these training examples ask: t1"
    ]


def test_the_same_question_with_other_values_and_other_tools_does_not(ws: Workspace) -> None:
    asked = replace(example("t1", "Convert 5 to dollars"), tools=(TOOL,))
    case = replace(example("c4", "Convert 70 to dollars"), tools=({**TOOL, "name": "exchange"},))
    assert leaks(ws, train=[asked, *TRAINING[1:]], held_out=[case]) == []


def test_an_earlier_turn_of_a_training_conversation_leaks(ws: Workspace) -> None:
    turns = (Message("user", "What is c1?"), Message("assistant", "[f_c1()]"), Message("user", "And now?"))
    assert leaks(ws, train=[replace(TRAINING[0], messages=turns), *TRAINING[1:]]) == [
        "case c1 asks what these training examples ask: t1"
    ]


def test_an_earlier_turn_without_a_call_does_not(ws: Workspace) -> None:
    turns = (Message("user", "What is c1?"), Message("assistant", "Of what kind?"), Message("user", "And now?"))
    assert leaks(ws, train=[replace(TRAINING[0], messages=turns), *TRAINING[1:]]) == []


def test_a_turn_of_a_conversation_in_training(tmp_path: Path, bfcl_dir: Path, downloads_dir: Path) -> None:
    """Whether it is scored or not."""
    ws = workspace(tmp_path, iterations=1, evaluation={"bfcl": None})
    ws.paths.downloads.symlink_to(downloads_dir)
    first = json.loads((bfcl_dir / "bfcl_eval/data/BFCL_v4_multi_turn_base.json").read_text().splitlines()[0])
    put_data(ws, train=[example("t1", first["question"][-1][0]["content"].upper()), *TRAINING[1:]])
    told = "case multi_turn_base_0 asks what these training examples ask: t1"
    assert told in checks.nothing_reserved_is_trained_on(ws).problems


def test_every_example_that_leaks_is_named(ws: Workspace) -> None:
    train = [*TRAINING, example("t4", "what is t1")]
    assert leaks(ws, train, [example("c4", "What is t1!"), example("c5", "What is T2?")]) == [
        "case c4 asks what these training examples ask: t1, t4",
        "case c5 asks what these training examples ask: t2",
    ]


ACCOUNTED = [
    {"source": "bfcl", "became": "held out", "reason": "", "rows": 3},
    {"source": "toolace", "became": "left out", "reason": "too long", "rows": 40},
    {"source": "toolace", "became": "quarantined", "reason": "no tools", "rows": 8},
    {"source": "toolace", "became": "quarantined", "reason": "no answer", "rows": 2},
    {"source": "toolace", "became": "trained on", "reason": "", "rows": 50},
]


@pytest.mark.parametrize(("bound", "passes"), [(0.1, True), (0.0999, False), (0.0, False), (1.0, True)])
def test_the_quarantine_against_its_bound(tmp_path: Path, bound: float, passes: bool) -> None:
    """10 of 100 rows of the data set; rows of the benchmark do not dilute them."""
    ws = workspace(tmp_path, data={"type": "toolace", "max_quarantined": bound})
    put(ws, "examples", lambda directory: Parts(directory).write_json(ACCOUNT_FILE, ACCOUNTED))
    found = checks.quarantine_is_small(ws)
    assert found.counts["quarantined"] == 10
    assert "| toolace | no tools | 8 |" in found.counts["reasons"]["markdown"]
    assert (found.problems == []) is passes
    if not passes:
        assert found.problems[0].startswith("10.0% of the rows of toolace are quarantined, more than")


def pair(**over: Any) -> Row:
    """Just within the three filters of the default config."""
    row = {"pair_id": "t1/0/1-2", "chosen": "a", "rejected": "b", "similarity": 0.95, "kept": True}
    return {**row, "chosen_q": 0.3, "rejected_q": 0.2, **over}


def pairs_checked(ws: Workspace, *rows: Row) -> checks.Finding:
    put(ws, "iteration_1/pairs", parquet(rows, PAIRS_FILE))
    return checks.pairs_respect_filters(ws, 1)


def test_pairs_within_the_filters_pass(ws: Workspace) -> None:
    refused = pair(kept=False, similarity=1.0, chosen_q=-1.0, rejected_q=-1.0)
    assert pairs_checked(ws, pair(rejected_q=0.1), refused) == checks.Finding([], {"pairs": 2, "kept": 1})


@pytest.mark.parametrize(
    ("over", "told"),
    [
        ({"similarity": 0.951, "rejected_q": 0.0}, "similarity 0.951, Q 0.300, 0.000"),
        ({"chosen_q": 0.5, "rejected_q": 0.41}, "similarity 0.950, Q 0.500, 0.410"),
        ({"chosen_q": 0.5, "rejected_q": 0.9}, "similarity 0.950, Q 0.500, 0.900"),
        ({"chosen_q": 0.29, "rejected_q": 0.0}, "similarity 0.950, Q 0.290, 0.000"),
        ({"rejected": "a", "rejected_q": 0.0}, "similarity 0.950, Q 0.300, 0.000"),
    ],
)
def test_a_kept_pair_outside_the_filters(ws: Workspace, over: Row, told: str) -> None:
    found = pairs_checked(ws, pair(chosen_q=0.9), pair(**{"pair_id": "t2/7", **over}))
    assert found.problems == [f"pair t2/7: {told}"]


def test_the_bounds_are_those_of_the_experiment(tmp_path: Path) -> None:
    lax = workspace(tmp_path, iterations=1, pairs={"min_chosen_q": -2.0, "min_q_difference": 0.0})
    assert pairs_checked(lax, pair(chosen_q=-1.5, rejected_q=-1.5)).problems == []


def test_without_a_search_only_similarity_is_checked(tmp_path: Path) -> None:
    sampled = workspace(tmp_path, iterations=1, search={"type": "sampling"})
    against_q = pair(chosen_q=-2.0, rejected_q=1.0)
    found = pairs_checked(sampled, against_q, pair(pair_id="t2/0/1-2", similarity=0.96))
    assert found.problems == ["pair t2/0/1-2: similarity 0.960, Q 0.300, 0.200"]


def test_relative_bounds_are_those_of_the_pairing_alone(tmp_path: Path) -> None:
    """What a Q counted from is not in the row."""
    relative = workspace(tmp_path, iterations=1, pairs={"q_above": "siblings", "min_q_difference": None})
    assert pairs_checked(relative, pair(chosen_q=-1.5, rejected_q=-1.0)).problems == []


def test_too_few_pairs_are_told_with_what_refused_the_others(tmp_path: Path) -> None:
    asked = workspace(tmp_path, iterations=1, pairs={"few": 3})
    reasons = ["kept", "low", "kept", "low", "close"]
    put(asked, "iteration_1/pairs", parquet([pair(kept=r == "kept", reason=r) for r in reasons], PAIRS_FILE))
    assert checks.enough_pairs(asked, 1) == checks.Finding(
        ["2 pairs are kept, fewer than pairs.few = 3; refused are 2 as low, 1 as close"],
        {"kept": 2, "refused_low": 2, "refused_close": 1},
    )
    fewer = workspace(tmp_path / "fewer", iterations=1, pairs={"few": 1})
    put(fewer, "iteration_1/pairs", parquet([], PAIRS_FILE))
    assert checks.enough_pairs(fewer, 1).problems == ["0 pairs are kept, fewer than pairs.few = 1; refused are none"]


def test_as_many_pairs_as_were_asked_for_are_enough(tmp_path: Path) -> None:
    asked = workspace(tmp_path, iterations=1, pairs={"few": 1})
    put(asked, "iteration_1/pairs", parquet([pair(reason="kept"), pair(kept=False, reason="low")], PAIRS_FILE))
    assert checks.enough_pairs(asked, 1).problems == []


def truth_checked(root: Path, bound: float, *kept: tuple[int, int, int]) -> checks.Finding:
    """Kept pairs of (node, chosen, rejected); the odd nodes are flawed. One more is refused.

    From node 0 on, 2 brings more right, 4 as much, and 8 less; 6 is given, and 10 is right, with no more right either.
    """
    ws = workspace(root, records=LeftToTheRun(), iterations=1, pairs={"min_true_share": bound})
    ids = [dict(zip(("node_id", "chosen_node", "rejected_node"), nodes, strict=True)) for nodes in kept]
    rows = [*(pair(tree_id="t1", **ours) for ours in ids), pair(tree_id="t1", **ids[0], kept=False)]
    outcomes = {0: 0.25, 2: 0.5, 4: 0.25, 6: 0.25, 8: 0.125, 10: 0.25}
    nodes = [
        {"tree_id": "t1", "node_id": n, "flawed": n % 2 == 1, "given": n == 6, "correct": True if n == 10 else None}
        | {"outcome": outcomes.get(n, 1.0)}
        for n in range(11)
    ]

    def trees(step: Step) -> dict[str, Any]:
        for shard, own in enumerate((nodes[:3], nodes[3:])):
            parquet(own, nodes_file(shard))(step.work)
            parquet(own, trees_file(shard))(step.work)
        return {"shards": 2}

    ws.produce("iteration_1/trees", trees)
    put(ws, "iteration_1/pairs", parquet(rows, PAIRS_FILE))
    return checks.pairs_are_true(ws, 1)


def test_pairs_that_are_not_true_are_told_by_kind(tmp_path: Path) -> None:
    told = truth_checked(tmp_path, 0.4, (0, 2, 1), (0, 1, 2), (0, 1, 3), (0, 2, 4), (1, 3, 5), (1, 3, 7))
    assert told == checks.Finding(
        [
            "1 of 6 kept pairs are true by gold, 16.7%, less than pairs.min_true_share = 40.0%; of the others "
            "2 come after a flaw, 1 prefer the flaw, 1 choose between two flaws, "
            "1 choose between two steps without a flaw"
        ],
        {"kept": 6, "true": 1},
    )


def test_a_chosen_step_that_brings_nothing_on_is_told(tmp_path: Path) -> None:
    """Of six with a flawed one rejected two; and of two steps without a flaw it does not matter."""
    told = truth_checked(tmp_path, 0.5, (0, 2, 1), (0, 4, 1), (0, 6, 1), (0, 8, 1), (0, 10, 1), (0, 4, 2), (0, 4, 8))
    assert told == checks.Finding(
        [
            "3 of 7 kept pairs are true by gold, 42.9%, less than pairs.min_true_share = 50.0%; of the others "
            "2 choose a step that brings nothing on, 2 choose between two steps without a flaw"
        ],
        {"kept": 7, "true": 3},
    )


@pytest.mark.parametrize(("bound", "passes"), [(0.5, True), (0.51, False), (0.0, True)])
def test_the_share_of_true_pairs_against_its_bound(tmp_path: Path, bound: float, passes: bool) -> None:
    assert (truth_checked(tmp_path, bound, (0, 2, 1), (0, 1, 2)).problems == []) is passes


def test_no_pairs_are_not_untrue(tmp_path: Path) -> None:
    ws = workspace(tmp_path, iterations=1, pairs={"min_true_share": 0.5})
    put(
        ws,
        "iteration_1/pairs",
        parquet([pair(kept=False, tree_id="t1", node_id=0, chosen_node=1, rejected_node=2)], PAIRS_FILE),
    )
    ws.produce("iteration_1/trees", lambda step: {"shards": 0})
    assert checks.pairs_are_true(ws, 1) == checks.Finding([], {"kept": 0, "true": 0})


def test_where_no_share_is_asked_for_no_node_is_read(ws: Workspace) -> None:
    """There are no trees that could be."""
    put(ws, "iteration_1/pairs", parquet([pair(), pair(), pair(kept=False)], PAIRS_FILE))
    assert checks.pairs_are_true(ws, 1) == checks.Finding([], {"kept": 2})


def policy_checked(ws: Workspace, train: list[float], validation: list[tuple[int, float]]) -> checks.Finding:
    row = {"validation_loss": 1.0, "steps": 4, "losses": {"train": train, "validation": [list(v) for v in validation]}}

    put(ws, "iteration_1/policy", lambda directory: Parts(directory).write_json(CHECKPOINT_FILE, row))
    return checks.held_out_loss_is_finite(ws, 1)


def test_finite_losses_pass(ws: Workspace) -> None:
    found = policy_checked(ws, [2.0, 1.0], [(0, 2.0), (4, 1.0)])
    assert found == checks.Finding([], {"validation_loss": 1.0, "steps": 4})


def test_a_policy_that_had_nothing_to_train_on_passes(ws: Workspace) -> None:
    assert policy_checked(ws, [], []).problems == []


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_that_is_not_finite(ws: Workspace, tmp_path: Path, loss: float) -> None:
    assert policy_checked(ws, [2.0], [(0, 2.0), (4, loss)]).problems == [f"loss {loss}"]
    without_validation = workspace(tmp_path / "other", iterations=1)
    assert policy_checked(without_validation, [2.0, loss], []).problems == [f"loss {loss}"]


def scores_checked(ws: Workspace, decided: Sequence[str], total: int) -> checks.Finding:
    put_cases(ws, "bfcl", HELD_OUT)

    def write(directory: Path) -> None:
        parquet([{"case_id": key} for key in decided], CASE_ROWS)(directory)
        scores = [("a", total - 1), ("b", 1)]
        parquet([{"category": category, "total": count} for category, count in scores], SCORES_FILE)(directory)

    put(ws, "bfcl/warmup", write)
    return checks.scores_cover_every_case(ws, "bfcl/warmup")


def test_scores_of_every_case_pass(ws: Workspace) -> None:
    assert scores_checked(ws, ["c2", "c1", "c3"], 3) == checks.Finding([], {"cases": 3})


@pytest.mark.parametrize(
    ("decided", "total", "problems"),
    [
        (["c1", "c3"], 2, ["case c2 was not decided"]),
        (["c1", "c2", "c3", "t1"], 4, ["case t1 is no case to be scored"]),
        (["c1", "c2", "c3", "c3"], 4, ["4 decisions on 3 cases, 4 in the scores"]),
        (["c1", "c2", "c3"], 2, ["3 decisions on 3 cases, 2 in the scores"]),
    ],
)
def test_scores_that_miss_or_repeat_a_case(ws: Workspace, decided: list[str], total: int, problems: list[str]) -> None:
    assert scores_checked(ws, decided, total).problems == problems


def test_a_check_that_a_benchmark_brings(ws: Workspace) -> None:
    put(ws, "bfcl/base", parquet([{"case_id": "c1", "output": "x", "error": "y"}], CASE_ROWS))
    own = RowCheck("own", "Its own.", ("case_id", "error"), lambda rows: ([str(row) for row in rows], 7))
    found = checks.rows_pass(ws, "bfcl/base", own)
    assert found == checks.Finding(["{'case_id': 'c1', 'error': 'y'}"], {"compared": 7})


def test_a_check_of_what_is_not_there(ws: Workspace) -> None:
    with pytest.raises(MissingInput, match="bfcl/base"):
        checks.scores_cover_every_case(ws, "bfcl/base")


def case(key: str, *user_turns: str) -> Example:
    """A case of API-Bank whose user said this."""
    turns = tuple(Message("user", turn) for turn in user_turns)
    return replace(example(key), source="api_bank", category="level_1", messages=turns)


def of_api_bank(root: Path) -> Workspace:
    return workspace(root, iterations=1, evaluation={"api_bank": {}})


def leaks_checked(ws: Workspace, train: Sequence[Example], *cases: Example) -> checks.Finding:
    put_data(ws, train=train)
    put_cases(ws, "api_bank", cases)
    return checks.no_case_is_trained_on(ws, API_BANK)


def test_api_bank_is_not_trained_on(tmp_path: Path) -> None:
    found = leaks_checked(
        of_api_bank(tmp_path), TRAINING, case("level_1/a/1", "What is a?"), case("level_1/a/3", "x", "y")
    )
    assert found == checks.Finding([], {"training_examples": 4, "cases": 2})


def test_a_question_of_api_bank_in_training(tmp_path: Path) -> None:
    found = leaks_checked(
        of_api_bank(tmp_path), TRAINING, case("level_1/a/1", "what is T1"), case("level_1/b/1", "What?")
    )
    assert found.problems == ["case level_1/a/1 asks what these training examples ask: t1"]


def test_a_later_turn_is_a_question_only_after_the_others(tmp_path: Path) -> None:
    train = [*TRAINING, case("t9", "Book it.", "Yes, please.")]
    train[-1] = replace(train[-1], source="toolace")
    cases = [case("level_1/a/3", "Delete it.", "Yes, please."), case("level_1/b/3", "book it", "yes please")]
    found = leaks_checked(of_api_bank(tmp_path), train, *cases)
    assert found.problems == ["case level_1/b/3 asks what these training examples ask: t9"]


def test_examples_of_api_bank_in_training(tmp_path: Path) -> None:
    cases = [case("level_1/a/1", "One?"), case("level_1/b/1", "Two?")]
    train = [*TRAINING, case("stolen", "Three?"), replace(example("level_1/b/1", "What is it?"), source="toolace")]
    problems = leaks_checked(of_api_bank(tmp_path), train, *cases).problems
    assert problems == [
        "training example stolen is from API-Bank's calls",
        "training example level_1/b/1 is from API-Bank's calls",
    ]


def test_what_is_said_in_api_bank_with_other_values_and_the_same_tools(tmp_path: Path) -> None:
    train = [*TRAINING, replace(case("t9", "Book 3 rooms.", "On May 5."), source="toolace", tools=(TOOL,))]
    asked = replace(case("level_1/a/1", "Book 11 rooms.", "On May 7."), tools=(TOOL,))
    others = replace(asked, id="level_1/a/3", tools=({**TOOL, "name": "exchange"},))
    found = leaks_checked(of_api_bank(tmp_path), train, asked, others)
    assert found.problems == ["case level_1/a/1 asks what these training examples ask: t9"]
