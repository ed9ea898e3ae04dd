"""Views over rows written by hand; the expected answers were worked out on paper."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from itool_pipeline.files.storage_errors import StorageError
from itool_pipeline.store.database import Database
from itool_pipeline.store.figures import artifact_figures
from itool_pipeline.store.manifest import Artifact
from itool_pipeline_tests.store.by_hand import artifact, ask, load, rows

SPLITS, WARMUP, BUFFER, TREES, PAIRS, POLICY = (digit * 16 for digit in "123456")
EXAMPLES, OTHER_SPLITS = "e" * 16, "f" * 16
BASE, BFCL_BASE, BFCL_WARMUP, BFCL_POLICY, EASY, TREES_2, PAIRS_2 = (digit * 16 for digit in "789abcd")


@pytest.fixture
def database(tmp_path: Path) -> Database:
    return Database(tmp_path / "itool.duckdb")


def record(database: Database, experiment: str, *artifacts: Artifact) -> None:
    for one in artifacts:
        own = one.manifest.run_id == f"run of {experiment}"
        database.record_materialization(experiment, one, run_id=f"run of {experiment}", reused=not own)


def made(asset: str, fingerprint: str, **inputs: str) -> Artifact:
    return artifact(asset, fingerprint, run="run of first", seconds=2.0, **inputs)


SEARCHED = (
    made("splits", SPLITS, examples=EXAMPLES),
    made("warmup/hard", WARMUP, splits=SPLITS),
    made("iteration_1/replay_buffer", BUFFER, splits=SPLITS, warmup__hard=WARMUP),
    made("iteration_1/trees", TREES, examples=EXAMPLES, iteration_1__replay_buffer=BUFFER, warmup__hard=WARMUP),
    made("iteration_1/pairs", PAIRS, iteration_1__trees=TREES),
    made("iteration_1/policy", POLICY, iteration_1__pairs=PAIRS, warmup__hard=WARMUP),
)


def node(tree: str, number: int, parent: int | None, visits: int, value: float) -> dict[str, Any]:
    depth = 0 if parent is None else 1
    return {"tree_id": tree, "node_id": number, "parent_id": parent, "depth": depth, "visits": visits, "value": value}


def pair(name: str, tree: str, chosen: int, rejected: int, reason: str) -> dict[str, Any]:
    return {
        "pair_id": name,
        "tree_id": tree,
        "node_id": 0,
        "chosen_node": chosen,
        "rejected_node": rejected,
        "kept": reason == "kept",
        "reason": reason,
    }


def load_search(database: Database) -> None:
    examples = (
        {"example_id": "e1", "question": "What is the time?", "response": "[clock()]"},
        {"example_id": "e2", "question": "And the weather?", "response": "[sky()]"},
    )
    divided = {"group_id": "g", "split": "train"}
    splits = [{"example_id": key, "difficulty": level, **divided} for key, level in (("e1", "easy"), ("e2", "hard"))]
    trees = (
        {"tree_id": "t1", "example_id": "e1", "policy": WARMUP, "node_count": 3},
        {"tree_id": "t2", "example_id": "e2", "policy": WARMUP, "node_count": 3},
    )
    nodes = [node(t, *rest) for t in ("t1", "t2") for rest in ((0, None, 9, 0.5), (1, 0, 6, 0.75), (2, 0, 3, -0.5))]
    pairs = (pair("p1", "t1", 1, 2, "kept"), pair("p2", "t2", 1, 2, "close"))
    load(database, "examples", EXAMPLES, rows(database, "examples", *examples))
    load(database, "splits", SPLITS, rows(database, "splits", *splits))
    load(database, "splits", OTHER_SPLITS, rows(database, "splits", {**splits[0], "difficulty": "medium"}))
    database.replace_many({"trees": rows(database, "trees", *trees), "nodes": rows(database, "nodes", *nodes)}, TREES)
    load(database, "pairs", PAIRS, rows(database, "pairs", *pairs))


def test_a_pair_leads_back_to_question_policy_and_run(database: Database) -> None:
    load_search(database)
    record(database, "first", *SEARCHED)
    columns = """experiment, asset, pair_id, kept, tree_id, node_visits, node_value, chosen_visits, rejected_visits,
        example_id, difficulty, question, gold_response,
        policy_artifact, policy_asset, policy_run, made_by_run, stale"""
    policy = (WARMUP, "warmup/hard", "run of first", "run of first", False)
    shared = (9, 0.5, 6, 3)
    asked = [("e1", "easy", "What is the time?", "[clock()]"), ("e2", "hard", "And the weather?", "[sky()]")]
    assert ask(database, f"SELECT {columns} FROM pair_lineage ORDER BY pair_id") == [
        ("first", "iteration_1/pairs", "p1", True, "t1", *shared, *asked[0], *policy),
        ("first", "iteration_1/pairs", "p2", False, "t2", *shared, *asked[1], *policy),
    ]


def test_examples_with_where_they_go(database: Database) -> None:
    """The split of the experiment's own `splits`, none for what is held out; the buffer of its own iterations."""
    load_search(database)
    held_out = {"example_id": "c1", "part": "held_out"}
    load(database, "examples", EXAMPLES, rows(database, "examples", {"example_id": "e1", "part": "train"}, held_out))
    examples = made("examples", EXAMPLES)
    load(database, "buffer", BUFFER, rows(database, "buffer", {"example_id": "e1"}))
    record(database, "first", examples, *SEARCHED[:3])
    record(database, "second", examples, made("splits", OTHER_SPLITS, examples=EXAMPLES))
    record(database, "third", examples)
    columns = "experiment, example_id, part, split, difficulty, in_buffer"
    assert ask(database, f"SELECT {columns} FROM experiment_examples ORDER BY ALL") == [
        ("first", "c1", "held_out", None, None, False),
        ("first", "e1", "train", "train", "easy", True),
        ("second", "c1", "held_out", None, None, False),
        ("second", "e1", "train", "train", "medium", False),
        ("third", "c1", "held_out", None, None, False),
        ("third", "e1", "train", None, None, False),
    ]


def test_shared_pairs_appear_once_for_each_experiment(database: Database) -> None:
    load_search(database)
    record(database, "first", *SEARCHED)
    record(database, "second", *SEARCHED)
    sql = "SELECT experiment, pair_id, run_id, made_by_run FROM pair_lineage ORDER BY ALL"
    assert ask(database, sql) == [
        ("first", "p1", "run of first", "run of first"),
        ("first", "p2", "run of first", "run of first"),
        ("second", "p1", "run of second", "run of first"),
        ("second", "p2", "run of second", "run of first"),
    ]


def test_iterations_with_the_same_tree_names_do_not_mix(database: Database) -> None:
    load_search(database)
    tree = {"tree_id": "t1", "example_id": "e2", "policy": POLICY}
    nodes = rows(database, "nodes", node("t1", 0, None, 4, 0.0))
    database.replace_many({"trees": rows(database, "trees", tree), "nodes": nodes}, TREES_2)
    load(database, "pairs", PAIRS_2, rows(database, "pairs", pair("p1", "t1", 1, 2, "low")))
    second = made("iteration_2/trees", TREES_2, examples=EXAMPLES, iteration_1__policy=POLICY)
    record(database, "first", *SEARCHED, second, made("iteration_2/pairs", PAIRS_2, iteration_2__trees=TREES_2))
    sql = "SELECT asset, pair_id, example_id, policy_asset, node_visits, chosen_visits FROM pair_lineage ORDER BY ALL"
    assert ask(database, sql) == [
        ("iteration_1/pairs", "p1", "e1", "warmup/hard", 9, 6),
        ("iteration_1/pairs", "p2", "e2", "warmup/hard", 9, 6),
        ("iteration_2/pairs", "p1", "e2", "iteration_1/policy", 4, None),
    ]


def test_a_pair_without_its_tree_is_still_shown(database: Database) -> None:
    load(database, "pairs", PAIRS, rows(database, "pairs", pair("p1", "t1", 1, 2, "kept")))
    record(database, "first", SEARCHED[4])
    assert ask(database, "SELECT pair_id, example_id, policy_asset FROM pair_lineage") == [("p1", None, None)]


def test_true_pairs_by_hand(database: Database) -> None:
    """Three kept pairs of which two are true, and one of each kind that is not. 8 and 9 bring nothing on, 8 of an old
    artifact, and 1 and 4 do: more is right after them. A pair whose tree is not there is of no kind.
    """
    flaws = {0: False, 1: False, 2: True, 3: True, 4: False, 5: True, 6: True, 8: False, 9: False}
    outcomes = {0: 0.25, 1: 0.5, 4: 0.375, 8: 0.25, 9: 0.125}
    nodes = [
        {**node("t1", n, None if n == 0 else 0, 1, 0.0), "flawed": flawed, "outcome": outcomes.get(n, -1.0)}
        | {"given": None if n == 8 else False}
        for n, flawed in flaws.items()
    ]
    of_flawed = {**pair("p7", "t1", 5, 6, "close"), "node_id": 2}
    pairs = [
        *(pair("p1", "t1", 1, 2, "kept"), pair("p2", "t1", 4, 3, "kept"), pair("p3", "t1", 2, 3, "kept")),
        *(pair("p4", "t1", 1, 4, "low"), pair("p5", "t1", 2, 1, "close"), pair("p6", "t1", 1, 3, "close"), of_flawed),
        *(pair("p8", "t1", 8, 2, "similar"), pair("p9", "t1", 9, 2, "similar"), pair("p10", "t1", 9, 1, "similar")),
        pair("p11", "t2", 1, 2, "similar"),
    ]
    load(database, "trees", TREES, rows(database, "trees", {"tree_id": "t1", "example_id": "e1", "policy": WARMUP}))
    load(database, "nodes", TREES, rows(database, "nodes", *nodes))
    load(database, "pairs", PAIRS, rows(database, "pairs", *pairs))
    record(database, "first", *SEARCHED)
    columns = "iteration, reason, pairs, true_pairs, round(true_share, 4)"
    untrue = "wrong_way, both_flawed, none_flawed, after_flaw, no_gain"
    assert ask(database, f"SELECT {columns}, {untrue} FROM pair_reasons") == [
        (1, "kept", 3, 2, 0.6667, 0, 1, 0, 0, 0),
        (1, "similar", 4, 0, 0.0, 0, 0, 1, 0, 2),
        (1, "close", 3, 1, 0.3333, 1, 0, 0, 1, 0),
        (1, "low", 1, 0, 0.0, 0, 0, 1, 0, 0),
    ]
    told = ask(database, "SELECT pair_id FROM pair_lineage WHERE true_by_gold ORDER BY 1")
    assert told == [("p1",), ("p2",), ("p6",)]
    assert ask(database, "SELECT pair_id FROM pair_lineage WHERE true_by_gold IS NULL") == [("p11",)]
    idle = ask(database, "SELECT DISTINCT chosen_node FROM pair_lineage WHERE NOT chosen_advances ORDER BY 1")
    assert idle == [(2,), (5,), (8,), (9,)]
    # the search took two seconds: 3 and 2 pairs in them are 90 and 60 in a minute
    columns = "experiment, iteration, candidates, kept, true_pairs, seconds, kept_per_minute, true_per_minute"
    found = ask(database, f"SELECT {columns} FROM pair_quality")
    assert found == [("first", 1, 11, 3, 2, 2.0, pytest.approx(90), pytest.approx(60))]
    columns = "true_share, low, high"
    assert ask(database, f"SELECT {columns} FROM pair_quality") == ask(
        database, "SELECT 2 / 3, wilson_low(2, 3), wilson_high(2, 3)"
    )


@pytest.mark.parametrize(
    ("given", "correct", "outcome", "advances"),
    [
        (False, None, 0.5, True),  # before it 0.25
        (False, None, 0.25, False),
        (None, None, 0.25, False),
        (True, None, 0.25, True),
        (False, True, 0.25, True),
        (None, True, 0.0, True),
        (False, False, 0.25, False),
        (None, None, None, None),
    ],
)
def test_what_brings_the_answer_on(
    database: Database, given: bool | None, correct: bool | None, outcome: float | None, advances: bool | None
) -> None:
    """As `step_advances` of core, and of a node that is not there nothing is told."""
    chosen = {"flawed": None if outcome is None else False, "given": given, "correct": correct, "outcome": outcome}
    nodes = [
        {**node("t1", 0, None, 1, 0.0), "flawed": False, "given": False, "outcome": 0.25},
        {**node("t1", 1, 0, 1, 0.0), **chosen},
        {**node("t1", 2, 0, 1, 0.0), "flawed": True, "given": False, "outcome": -1.0},
    ]
    load(database, "trees", TREES, rows(database, "trees", {"tree_id": "t1", "example_id": "e1", "policy": WARMUP}))
    load(database, "nodes", TREES, rows(database, "nodes", *nodes))
    load(database, "pairs", PAIRS, rows(database, "pairs", pair("p1", "t1", 1, 2, "kept")))
    record(database, "first", *SEARCHED)
    assert ask(database, "SELECT chosen_advances, true_by_gold FROM pair_lineage") == [(advances, advances)]
    assert ask(database, "SELECT true_pairs, no_gain FROM pair_truths") == [(advances is True, advances is False)]


def test_deficiencies(database: Database) -> None:
    """Six wrong answers of three examples; one type occurs beside others only."""
    made_by = {"e1": {"tool_name": 2, "code_syntax": 1}, "e2": {"tool_name": 2}, "e3": {"parameter_value": 1}, "e4": {}}
    most = {"e1": "tool_name", "e2": "tool_name", "e3": "parameter_value"}
    given = [
        {"example_id": key, "mistakes": own, "mistake": most.get(key), "selected": key == "e1"}
        for key, own in made_by.items()
    ]
    load(database, "buffer", BUFFER, rows(database, "buffer", *given))
    load(database, "buffer", OTHER_SPLITS, rows(database, "buffer", {"example_id": "e1", "selected": True}))
    record(database, "first", SEARCHED[2], made("iteration_2/replay_buffer", OTHER_SPLITS))
    columns = "experiment, iteration, mistake, answers, round(share, 4), examples, selected"
    assert ask(database, f"SELECT {columns} FROM deficiencies") == [
        ("first", 1, "tool_name", 4, 0.6667, 2, 1),
        ("first", 1, "code_syntax", 1, 0.1667, 0, 0),
        ("first", 1, "parameter_value", 1, 0.1667, 1, 0),
    ]


def score(checkpoint: str, of: str, category: str, correct: int, total: int) -> dict[str, Any]:
    return {
        "checkpoint": checkpoint,
        "checkpoint_artifact": of,
        "benchmark": "bfcl",
        "category": category,
        "correct": correct,
        "total": total,
    }


SCORED = (
    made("base_model", BASE),
    made("warmup/easy", EASY, splits=SPLITS, base_model=BASE),
    made("bfcl/base", BFCL_BASE, base_model=BASE),
    made("bfcl/warmup", BFCL_WARMUP, warmup__hard=WARMUP),
    made("bfcl/iteration_1", BFCL_POLICY, iteration_1__policy=POLICY),
)


def load_scores(database: Database) -> None:
    loads = {
        BFCL_BASE: [score("base", BASE, "simple", 0, 8), score("base", BASE, "multiple", 0, 2)],
        BFCL_WARMUP: [score("warmup", WARMUP, "simple", 7, 8), score("warmup", WARMUP, "multiple", 1, 2)],
        BFCL_POLICY: [score("iteration_1", POLICY, "simple", 8, 8), score("iteration_1", POLICY, "multiple", 2, 2)],
    }
    for name, given in loads.items():
        load(database, "scores", name, rows(database, "scores", *given))


def test_leaderboard(database: Database) -> None:
    load_scores(database)
    record(database, "first", *SCORED)
    record(database, "second", *SCORED[:3])
    sql = """SELECT experiment, checkpoint, benchmark, correct, total, accuracy, round(low, 4), round(high, 4)
        FROM leaderboard"""
    # Wilson 95% for 0, 8 and 10 of 10, from published tables.
    assert ask(database, sql) == [
        ("first", "base", "bfcl", 0, 10, 0.0, 0.0, 0.2775),
        ("first", "warmup", "bfcl", 8, 10, 0.8, 0.4902, 0.9433),
        ("first", "iteration_1", "bfcl", 10, 10, 1.0, 0.7225, 1.0),
        ("second", "base", "bfcl", 0, 10, 0.0, 0.0, 0.2775),
    ]
    sql = "SELECT checkpoint, category, correct FROM leaderboard_categories WHERE experiment = 'first'"
    assert ask(database, sql) == [
        ("base", "multiple", 0),
        ("base", "simple", 0),
        ("warmup", "multiple", 1),
        ("warmup", "simple", 7),
        ("iteration_1", "multiple", 2),
        ("iteration_1", "simple", 8),
    ]


def test_benchmarks_are_not_summed(database: Database) -> None:
    load_scores(database)
    calls = [score("base", BASE, "level_1", 3, 4), score("base", BASE, "level_2", 1, 2)]
    load(database, "scores", EASY, rows(database, "scores", *({**c, "benchmark": "api_bank"} for c in calls)))
    record(database, "first", SCORED[2], made("api_bank/base", EASY, base_model=BASE))
    sql = "SELECT benchmark, checkpoint, correct, total FROM leaderboard"
    assert ask(database, sql) == [("api_bank", "base", 4, 6), ("bfcl", "base", 0, 10)]


def test_a_score_over_no_cases_says_nothing(database: Database) -> None:
    load(database, "scores", BFCL_BASE, rows(database, "scores", score("base", BASE, "simple", 0, 0)))
    record(database, "first", SCORED[2])
    assert ask(database, "SELECT total, accuracy, low, high FROM leaderboard") == [(0, None, 0.0, 1.0)]


@pytest.mark.parametrize(
    ("correct", "total", "low", "high"),
    [
        # (0.1 + 0.19208 ± 1.96 sqrt(0.009 + 0.009604)) / 1.38416
        (1, 10, 0.017876, 0.404156),
        # 3.8416 / 13.8416, and what is left of 1; 6 / 9.8416
        (0, 10, 0.0, 0.277540),
        (10, 10, 0.722460, 1.0),
        (6, 6, 0.609657, 1.0),
        (0, 0, 0.0, 1.0),
    ],
)
def test_wilson_intervals_by_hand(database: Database, correct: int, total: int, low: float, high: float) -> None:
    ((found_low, found_high),) = ask(
        database, f"SELECT wilson_low({correct}, {total}), wilson_high({correct}, {total})"
    )
    assert (found_low, found_high) == pytest.approx((low, high), abs=1e-6)


def test_figures_of_artifacts_need_no_experiment(database: Database) -> None:
    load_scores(database)
    wrong = {"checkpoint": "warmup", "benchmark": "bfcl", "category": "simple", "correct": False}
    given = [
        {**wrong, "case_id": "c1", "mistake": "tool_name", "function": "book", "parameter": ""},
        {**wrong, "case_id": "c2", "mistake": "tool_name", "function": "book", "parameter": ""},
        {**wrong, "case_id": "c3", "category": "multiple", "mistake": "tool_name", "function": ""},
        {**wrong, "case_id": "c4", "correct": True},
    ]
    load(database, "cases", BFCL_WARMUP, rows(database, "cases", *given))

    def told(view: str, *columns: str) -> list[tuple[Any, ...]]:
        found = artifact_figures(database, view, [BFCL_WARMUP, PAIRS])
        return sorted(tuple(row[column] for column in columns) for row in found)

    assert told("benchmark_scores", "artifact", "checkpoint", "correct", "total", "accuracy") == [
        (BFCL_WARMUP, "warmup", 8, 10, 0.8)
    ]
    assert told("category_scores", "category", "correct", "accuracy") == [("multiple", 1, 0.5), ("simple", 7, 0.875)]
    assert told("category_errors", "category", "mistake", "cases") == [
        ("multiple", "tool_name", 1),
        ("simple", "tool_name", 2),
    ]
    assert told("benchmark_errors", "mistake", "cases") == [("tool_name", 3)]
    assert told("benchmark_failures", "function", "mistake", "cases") == [("book", "tool_name", 2)]
    assert told("benchmark_aggregates", "rule") == []
    with pytest.raises(StorageError, match="no view 'cases' of artifacts' figures"):
        artifact_figures(database, "cases", [BFCL_WARMUP])


def test_calling_or_not(database: Database) -> None:
    """Ten answers: of six to call four call, of four to leave alone three call; a conversation does not count."""
    answers = [(True, True)] * 4 + [(True, False)] * 2 + [(False, True)] * 3 + [(False, False)] + [(None, None)]
    said = [
        {"checkpoint": "warmup", "benchmark": "bfcl", "case_id": f"c{i}", "should_call": should, "calls": calls}
        for i, (should, calls) in enumerate(answers)
    ]
    load(database, "cases", BFCL_WARMUP, rows(database, "cases", *said))
    never = {"checkpoint": "base", "benchmark": "bfcl", "case_id": "c", "should_call": True, "calls": False}
    load(database, "cases", BFCL_BASE, rows(database, "cases", never))
    record(database, "first", *SCORED)
    columns = "checkpoint, precision, recall, abstention, rightly, calling, to_call, left_alone, to_leave"
    assert ask(database, f"SELECT {columns} FROM calling") == [
        ("base", None, 0.0, None, 0, 0, 1, 0, 0),
        ("warmup", 4 / 7, 4 / 6, 1 / 4, 4, 7, 6, 1, 4),
    ]
    ((low, high),) = ask(database, "SELECT abstention_low, abstention_high FROM calling WHERE checkpoint = 'warmup'")
    assert (low, high) == ask(database, "SELECT wilson_low(1, 4), wilson_high(1, 4)")[0]


def test_learning_curve(database: Database) -> None:
    load_scores(database)
    for name, train, held in ((EASY, 3.0, 3.5), (WARMUP, 1.0, 1.5), (POLICY, 0.25, 0.5)):
        row = {"stage": "x", "train_loss": train, "validation_loss": held}
        load(database, "checkpoints", name, rows(database, "checkpoints", row))
    record(database, "first", *SEARCHED, *SCORED)
    record(database, "second", SEARCHED[1])
    columns = "experiment, sequence, checkpoint, accuracy, train_loss, validation_loss"
    assert ask(database, f"SELECT {columns} FROM learning_curve ORDER BY 1, 2") == [
        ("first", 0, "base", 0.0, None, None),
        ("first", 1, "warmup/easy", None, 3.0, 3.5),
        ("first", 3, "warmup/hard", 0.8, 1.0, 1.5),
        ("first", 4, "iteration_1/policy", 1.0, 0.25, 0.5),
        ("second", 3, "warmup/hard", None, 1.0, 1.5),
    ]


def test_errors(database: Database) -> None:
    def case(number: int, mistake: str | None, function: str | None = None, parameter: str | None = None) -> Any:
        base = {"checkpoint": "warmup", "benchmark": "bfcl", "case_id": f"c{number}", "correct": False}
        base["category"] = "multiple" if number == 6 else "parallel"
        return {**base, "mistake": mistake, "function": function, "parameter": parameter}

    given = [
        case(1, "parameter_value", "book", "day"),
        case(2, "parameter_value", "book", "day"),
        case(3, "parameter_name", "book", "hour"),
        case(4, None),
        {**case(5, None), "correct": True},
        case(6, "parameter_value", "book", "day"),
    ]
    load(database, "cases", BFCL_WARMUP, rows(database, "cases", *given))
    record(database, "first", SCORED[3])
    record(database, "second", SCORED[3])
    sql = "SELECT category, mistake, cases, share FROM error_types WHERE experiment = "
    expected = [
        ("multiple", "parameter_value", 1, 1.0),
        ("parallel", "parameter_value", 2, 0.5),
        ("parallel", "parameter_name", 1, 0.25),
        ("parallel", "unclassified", 1, 0.25),
    ]
    assert ask(database, sql + "'first'") == ask(database, sql + "'second'") == expected
    sql = "SELECT function, parameter, mistake, cases FROM parameter_errors WHERE experiment = 'second'"
    assert ask(database, sql) == [("book", "day", "parameter_value", 3), ("book", "hour", "parameter_name", 1)]


def test_cost_and_what_is_stale(database: Database) -> None:
    record(database, "first", *SEARCHED)
    assert ask(database, "SELECT count(*), sum(seconds), bool_or(reused), bool_or(stale) FROM cost") == [
        (6, 12.0, False, False)
    ]
    record(database, "first", made("iteration_1/trees", TREES_2, examples=EXAMPLES, warmup__hard=WARMUP))
    record(database, "second", *SEARCHED)
    stale = "SELECT experiment, asset FROM cost WHERE stale ORDER BY ALL"
    assert ask(database, stale) == [("first", "iteration_1/pairs"), ("first", "iteration_1/policy")]
    assert ask(database, "SELECT DISTINCT reused, run FROM cost WHERE experiment = 'second'") == [
        (True, "run of second")
    ]


def test_aggregates_say_what_is_missing(database: Database) -> None:
    def aggregate(part: str, accuracy: float | None, missing: str) -> dict[str, Any]:
        of = {"checkpoint": "warmup", "checkpoint_artifact": WARMUP, "benchmark": "bfcl", "rule": "v3"}
        return {**of, "part": part, "accuracy": accuracy, "missing": missing}

    counted = {**aggregate("plain", 0.1, ""), "correct": 1, "total": 10}
    given = (aggregate("overall", None, "multi_turn"), aggregate("non_live", 0.5, ""), counted)
    load(database, "aggregate_scores", BFCL_WARMUP, rows(database, "aggregate_scores", *given))
    record(database, "first", *SCORED)
    sql = "SELECT experiment, sequence, checkpoint, rule, part, accuracy, missing, stale FROM aggregates"
    assert ask(database, sql) == [
        ("first", 3, "warmup", "v3", "non_live", 0.5, "", False),
        ("first", 3, "warmup", "v3", "overall", None, "multi_turn", False),
        ("first", 3, "warmup", "v3", "plain", 0.1, "", False),
    ]
    intervals = ask(database, "SELECT part, round(low, 4), round(high, 4) FROM aggregates ORDER BY part")
    assert intervals == [("non_live", None, None), ("overall", None, None), ("plain", 0.0179, 0.4042)]


def test_comparisons_come_in_order_with_the_whole_way_last(database: Database) -> None:
    def compared(first: str, second: str, gained: int) -> dict[str, Any]:
        return {"benchmark": "bfcl", "first_checkpoint": first, "second_checkpoint": second, "gained": gained}

    given = (
        compared("base", "iteration_2", 4),
        compared("iteration_1", "iteration_2", 3),
        compared("warmup", "iteration_1", 2),
    )
    load(database, "comparisons", EASY, rows(database, "comparisons", *given))
    record(database, "first", made("report", EASY))
    sql = "SELECT experiment, first_checkpoint, second_checkpoint, gained, stale FROM checkpoint_comparisons"
    assert ask(database, sql) == [
        ("first", "warmup", "iteration_1", 2, False),
        ("first", "iteration_1", "iteration_2", 3, False),
        ("first", "base", "iteration_2", 4, False),
    ]
