"""Every variant of the paper through the real steps, on a policy that is a hash; oracles over the rows alone."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter, defaultdict
from difflib import SequenceMatcher
from itertools import permutations
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from itool_pipeline.calls.reading import looks_like_call
from itool_pipeline.core.replay_buffer import apportion
from itool_pipeline.steps import checks, policy, trees, warmup
from itool_pipeline.steps.artifact_files import BUFFER_FILE, PAIRS_FILE
from itool_pipeline.steps.example_access import buffered_rows, split_rows
from itool_pipeline.steps.pairs import pairs
from itool_pipeline.steps.records import rows_aside
from itool_pipeline.steps.replay_buffer import replay_buffer
from itool_pipeline.steps.report_search import search_tables
from itool_pipeline.steps.workspace import Workspace
from itool_pipeline.store.artifacts import Step
from itool_pipeline.training.items import PreferenceRow
from itool_pipeline.training.job import PreferenceObjective, SftObjective
from itool_pipeline_tests.steps.by_hand import database_of
from itool_pipeline_tests.steps.without_model import PROBLEMS, Trainings, adapter, install, prepared, searched, warm_up
from itool_pipeline_tests.store.by_hand import ask

Row = dict[str, Any]
LAX = {"min_q_difference": 0.25, "min_chosen_q": -0.5, "max_similarity": 0.9}


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> Trainings:
    return install(monkeypatch)


def read(ws: Workspace, asset: str, file: str) -> list[Row]:
    rows: list[Row] = pq.read_table(ws.input(asset).file(file)).to_pylist()
    return rows


def siblings(nodes: list[Row]) -> list[list[Row]]:
    """Children of every node of every tree."""
    found: dict[tuple[str, int], list[Row]] = defaultdict(list)
    for node in nodes:
        if node["parent_id"] is not None:
            found[node["tree_id"], node["parent_id"]].append(node)
    return list(found.values())


def alike(one: Row, other: Row) -> float:
    return SequenceMatcher(None, one["fragment"], other["fragment"], autojunk=False).ratio()


def kept_of(ws: Workspace) -> dict[tuple[str, int, int], Row]:
    rows = [row for row in read(ws, "iteration_1/pairs", PAIRS_FILE) if row["kept"]]
    return {(row["tree_id"], row["chosen_node"], row["rejected_node"]): row for row in rows}


def test_all_pairs_of_a_node(tmp_path: Path, trainings: Trainings) -> None:
    ws = prepared(tmp_path, pairs={"per_node": "all", **LAX})
    warm_up(ws)
    nodes = searched(ws)
    expected = {
        (a["tree_id"], a["node_id"], b["node_id"])
        for group in siblings(nodes)
        for a, b in permutations(group, 2)
        if a["action_value"] - b["action_value"] >= 0.25 and a["action_value"] >= -0.5 and alike(a, b) <= 0.9
    }
    found = kept_of(ws)
    assert set(found) == expected
    parents = [(row["tree_id"], row["node_id"]) for row in found.values()]
    assert len(parents) > len(set(parents)), "some node has several pairs"
    every = read(ws, "iteration_1/pairs", PAIRS_FILE)
    assert len(every) == sum(len(group) * (len(group) - 1) // 2 for group in siblings(nodes))
    metadata = ws.input("iteration_1/pairs").manifest.metadata
    counted = {name: metadata[name] for name in ("kept", "refused_similar", "refused_close", "refused_low")}
    assert sum(counted.values()) == metadata["candidates"] == len(every)
    assert all(counted.values()), "each filter is tried"
    assert metadata["chosen_by"] == "Q"
    assert checks.pairs_respect_filters(ws, 1).problems == []


def brings_on(node: Row, before: Row) -> bool:
    return node["given"] or node["correct"] is True or node["outcome"] > before["outcome"]


@pytest.mark.parametrize("progress", [0.5, 0.0])
def test_true_pairs_lead_away_from_the_gold_answer(tmp_path: Path, trainings: Trainings, progress: float) -> None:
    """Over the rows: after a sound prefix the best sound step that advances, before the likeliest flawed one."""
    ws = prepared(
        tmp_path,
        search={"outcome": {"progress": progress}},
        pairs={"truth": "gold", "min_q_difference": None, "min_chosen_q": None},
    )
    warm_up(ws)
    nodes = searched(ws)
    by_key = {(n["tree_id"], n["node_id"]): n for n in nodes}
    expected, idle = set(), 0
    for group in siblings(nodes):
        before = by_key[group[0]["tree_id"], group[0]["parent_id"]]
        flawed = [n for n in group if n["flawed"]]
        sound = [n for n in group if not n["flawed"] and brings_on(n, before)]
        if flawed and not before["flawed"]:
            idle += len(group) - len(sound) - len(flawed)
        if sound and flawed and not before["flawed"]:
            best, likeliest = max(sound, key=lambda n: n["action_value"]), max(flawed, key=lambda n: n["prior"])
            if alike(best, likeliest) <= 0.95:
                expected.add((best["tree_id"], best["node_id"], likeliest["node_id"]))
    assert set(kept_of(ws)) == expected
    assert expected
    assert progress or idle, "some would be chosen if they advanced"
    metadata = ws.input("iteration_1/pairs").manifest.metadata
    assert metadata["refused_untrue"] > 0
    assert metadata["candidates"] == sum(len(group) > 1 for group in siblings(nodes))


@pytest.mark.parametrize("progress", [0.5, 0.0])
def test_the_report_tells_how_many_pairs_are_true(tmp_path: Path, trainings: Trainings, progress: float) -> None:
    """Over the rows."""
    ws = prepared(tmp_path, search={"outcome": {"progress": progress}}, pairs={"per_node": "all", **LAX})
    warm_up(ws)
    nodes = {(n["tree_id"], n["node_id"]): n for n in searched(ws)}

    def advances(row: Row) -> bool | None:
        """Of the chosen step, where the flaws are those of a true pair."""
        before, chosen, rejected = (
            nodes[row["tree_id"], row[key]] for key in ("node_id", "chosen_node", "rejected_node")
        )
        flaws = [before["flawed"], chosen["flawed"], rejected["flawed"]]
        return brings_on(chosen, before) if flaws == [False, False, True] else None

    rows = read(ws, "iteration_1/pairs", PAIRS_FILE)
    true = [row for row in rows if advances(row) is True]
    kept = [row for row in rows if row["kept"]]
    no_gain = sum(advances(row) is False for row in kept)
    refused = Counter(row["reason"] for row in rows if not row["kept"])
    step = Step("report", "f" * 16, tmp_path, tmp_path, None)
    with rows_aside(ws.experiment, [ws.input(f"iteration_1/{made}") for made in ("trees", "pairs")], tmp_path) as aside:
        shown = search_tables(step, ws, aside)
    assert f"({sum(row in true for row in kept)}/{len(kept)}; " in shown["pairs"]["markdown"]
    assert shown["pairs"]["markdown"].splitlines()[0].endswith(" | after a flaw | nothing brought on |")
    assert shown["pairs"]["markdown"].endswith(f" | {no_gain} |")
    assert progress or no_gain > 0
    assert all(f"| 1 | {reason} | {count} |" in shown["refused_pairs"]["markdown"] for reason, count in refused.items())
    assert sum(row["kept"] for row in true) > 0
    lineage = ask(database_of(ws), "SELECT pair_id FROM pair_lineage WHERE true_by_gold ORDER BY pair_id")
    assert lineage == sorted((row["pair_id"],) for row in true)
    told = shown["signals"]["markdown"].splitlines()
    assert told[0] == "| iteration | truth | among | O | C | r | Q | prior | V | true steps | false steps | pairs |"
    assert [line.split(" | ")[1:3] for line in told[2:4]] == [["no_flaw", "all"], ["no_flaw", "siblings"]]
    assert (tmp_path / "signals.png").stat().st_size > 0


def test_each_tree_gives_at_most_so_many_pairs(tmp_path: Path, trainings: Trainings) -> None:
    found = []
    for most in (None, 2):
        ws = prepared(tmp_path, pairs={"per_node": "all", "max_pairs_per_tree": most, **LAX})
        warm_up(ws)
        searched(ws)
        found.append(Counter(tree for tree, *_ in kept_of(ws)))
    every, limited = found
    assert limited == {tree: min(2, count) for tree, count in every.items()}
    assert max(every.values()) > 2


def test_calling_and_abstaining_in_balance(tmp_path: Path, trainings: Trainings) -> None:
    ws = prepared(tmp_path, pairs={"per_node": "all", "balance": "by_call", **LAX})
    warm_up(ws)
    searched(ws)
    calls = [
        [looks_like_call(row["prefix"] + row[name]) for name in ("chosen", "rejected")]
        for row in read(ws, "iteration_1/pairs", PAIRS_FILE)
        if row["kept"]
    ]
    assert calls.count([True, False]) == calls.count([False, True])
    metadata = ws.input("iteration_1/pairs").manifest.metadata
    assert metadata["refused_unbalanced"] > 0


def test_several_pairs_of_a_node_in_the_database_and_in_training(tmp_path: Path, trainings: Trainings) -> None:
    ws = prepared(tmp_path, pairs={"per_node": "all", **LAX}, split={"validation_fraction": 0.0})
    warm_up(ws)
    nodes = {(n["tree_id"], n["node_id"]): n for n in searched(ws)}
    rows = ask(
        database_of(ws), "SELECT pair_id, tree_id, node_id, chosen_node, rejected_node FROM pair_lineage WHERE kept"
    )
    assert {(tree, chosen, rejected) for _, tree, _, chosen, rejected in rows} == set(kept_of(ws))
    assert len({row[0] for row in rows}) == len(rows)
    assert all(key == f"{tree}/{node}/{chosen}-{rejected}" for key, tree, node, chosen, rejected in rows)
    written = read(ws, "iteration_1/pairs", PAIRS_FILE)
    for name in ("prefix_ids", "chosen_ids", "rejected_ids"):
        assert {row["pair_id"] for row in written if row[name] is not None} == {row[0] for row in rows}
    policy.policy(ws, 1)
    trained: list[PreferenceRow] = trainings.asked[-1].train
    assert sum(len(row.pairs) for row in trained) == len(rows)
    expected = {
        (tree, tuple(nodes[tree, chosen]["token_ids"]), tuple(nodes[tree, rejected]["token_ids"]))
        for _, tree, _, chosen, rejected in rows
    }
    assert {(row.name, p.chosen, p.rejected) for row in trained for p in row.pairs} == expected


def test_extremes_are_among_all_pairs(tmp_path: Path, trainings: Trainings) -> None:
    found = []
    for per_node in ("extremes", "all"):
        ws = prepared(tmp_path, pairs={"per_node": per_node, **LAX})
        warm_up(ws)
        searched(ws)
        found.append(set(kept_of(ws)))
    assert found[0] < found[1]


def test_whole_responses_in_place_of_a_search(tmp_path: Path, trainings: Trainings) -> None:
    """w/o MCTS: the oracle is the likeliest and the least likely response of each example, Q or not."""
    ws = prepared(tmp_path, search={"type": "sampling", "shard_size": 5}, split={"validation_fraction": 0.0})
    warm_up(ws)
    nodes = searched(ws)
    assert {n["depth"] for n in nodes} == {0, 1}
    assert {n["tree_id"] for n in nodes} == set(PROBLEMS)
    expected = {}
    for group in siblings(nodes):
        assert sum(n["visits"] for n in group) == 4
        assert all(n["prefix"] == "" and n["terminal"] and n["correct"] is not None for n in group)
        best, worst = max(group, key=lambda n: n["prior"]), min(group, key=lambda n: n["prior"])
        if len(group) > 1 and alike(best, worst) <= 0.95:
            expected[best["tree_id"], best["node_id"], worst["node_id"]] = (best, worst)
    found = kept_of(ws)
    assert found.keys() == expected.keys()
    for key, (best, worst) in expected.items():
        row = found[key]
        assert (row["chosen"], row["rejected"], row["prefix"]) == (best["fragment"], worst["fragment"], "")
        assert row["q_difference"] == best["action_value"] - worst["action_value"]
    assert min(row["q_difference"] for row in found.values()) < 0, "some are chosen against the reward"
    metadata = ws.input("iteration_1/pairs").manifest.metadata
    assert (metadata["chosen_by"], metadata["refused_low"], metadata["kept"]) == ("probability", 0, len(expected))
    assert checks.pairs_respect_filters(ws, 1).problems == []
    assert ask(database_of(ws), "SELECT DISTINCT iterations, max_depth FROM trees") == [(4, 1)]


def test_sampled_pairs_lead_back_and_train(tmp_path: Path, trainings: Trainings) -> None:
    ws = prepared(tmp_path, search={"type": "sampling"}, split={"validation_fraction": 0.0})
    warm_up(ws)
    nodes = {(n["tree_id"], n["node_id"]): n for n in searched(ws)}
    lineage = ask(
        database_of(ws),
        """SELECT tree_id, node_id, chosen_node, rejected_node, chosen_prior, rejected_prior, example_id, policy_asset,
        gold_response FROM pair_lineage WHERE kept""",
    )
    assert len(lineage) == len(kept_of(ws)) > 8
    for tree, node, chosen, rejected, p_chosen, p_rejected, example, asked, gold in lineage:
        assert (node, example, asked, gold) == (0, tree, "warmup/hard", PROBLEMS[tree].example.response)
        assert p_chosen == nodes[tree, chosen]["prior"] > p_rejected == nodes[tree, rejected]["prior"]
    policy.policy(ws, 1)
    for row in trainings.asked[-1].train:
        (pair,) = row.pairs
        assert pair.path == ()
        assert row.prompt == PROBLEMS[row.name].prompt


def test_only_the_likeliest_margins_are_kept_under_a_limit(tmp_path: Path, trainings: Trainings) -> None:
    ws = prepared(tmp_path, search={"type": "sampling"}, pairs={"max_pairs": 3})
    warm_up(ws)
    nodes = {(n["tree_id"], n["node_id"]): n for n in searched(ws)}

    def margin(row: Row) -> float:
        chosen, rejected = (nodes[row["tree_id"], row[f"{role}_node"]] for role in ("chosen", "rejected"))
        return float(chosen["prior"] - rejected["prior"])

    rows = read(ws, "iteration_1/pairs", PAIRS_FILE)
    kept, over = ([margin(r) for r in rows if r["reason"] == reason] for reason in ("kept", "over_limit"))
    assert len(kept) == 3
    assert over
    assert min(kept) >= max(over)


def test_each_iteration_asks_the_newest_policy(tmp_path: Path, trainings: Trainings) -> None:
    ws = prepared(tmp_path, iterations=3, search={"shard_size": 16}, split={"validation_fraction": 0.0})
    warm_up(ws)
    for k in (1, 2, 3):
        replay_buffer(ws, k)
        trees.gather(ws, k)
        pairs(ws, k)
        policy.policy(ws, k)
    policies = ["warmup/hard", "iteration_1/policy", "iteration_2/policy"]
    assert trainings.engines == [checkpoint for checkpoint in policies for _ in ("replay_buffer", "trees")]
    assert [asked.start for asked in trainings.asked[-3:]] == policies


def test_the_buffer_holds_the_perplexity_of_the_gold_response(tmp_path: Path, trainings: Trainings) -> None:
    """Eq. 4 for a policy that gives every token of one answer the same probability: its inverse."""
    ws = prepared(tmp_path, split={"validation_fraction": 0.0})
    warm_up(ws)
    replay_buffer(ws, 1)
    for row in read(ws, "iteration_1/replay_buffer", BUFFER_FILE):
        problem = PROBLEMS[row["example_id"]]
        byte = hashlib.sha256(repr(problem.prompt).encode()).digest()[0]
        assert row["perplexity"] == pytest.approx(math.exp(byte / 100))
        assert row["response_tokens"] == len(problem.example.response.encode())


@pytest.mark.parametrize(("fraction", "count"), [(0.5, 8), (0.3, 5), (1.0, 16)])
def test_the_buffer_is_a_fraction_of_the_training_set(
    tmp_path: Path, trainings: Trainings, fraction: float, count: int
) -> None:
    ws = prepared(tmp_path, replay_buffer={"fraction": fraction}, split={"validation_fraction": 0.0})
    assert len(buffered_rows(ws)) == count


@pytest.mark.parametrize("select_by", ["perplexity", "random"])
@pytest.mark.parametrize("balance", ["none", "by_call"])
def test_calls_and_abstentions_are_selected_apart(
    tmp_path: Path, trainings: Trainings, select_by: str, balance: str
) -> None:
    settings = {"fraction": 1.0, "top_fraction": 0.25, "select_by": select_by, "balance": balance}
    ws = prepared(tmp_path, replay_buffer=settings, split={"validation_fraction": 0.0})
    warm_up(ws)
    nodes = searched(ws)
    buffer = read(ws, "iteration_1/replay_buffer", BUFFER_FILE)
    chosen = {row["example_id"] for row in buffer if row["selected"]}
    assert chosen == {n["tree_id"] for n in nodes}
    metadata = ws.input("iteration_1/replay_buffer").manifest.metadata
    counted = [sum(key.startswith(kind) for key in chosen) for kind in ("call", "text")]
    assert [metadata["selected_call"], metadata["selected_no_call"]] == counted
    assert metadata["selected"] == 4
    if balance == "by_call":
        assert counted == [2, 2]
    hardest = [row["example_id"] for row in sorted(buffer, key=lambda r: (-r["perplexity"], r["example_id"]))]
    top = {
        "none": hardest[:4],
        "by_call": [k for kind in ("call", "text") for k in [x for x in hardest if x.startswith(kind)][:2]],
    }[balance]
    assert (chosen == set(top)) == (select_by == "perplexity")


def test_what_the_policy_answers_wrong_most_often_is_searched(tmp_path: Path, trainings: Trainings) -> None:
    settings = {"fraction": 1.0, "top_fraction": 0.5, "select_by": "mistakes", "answers": 6}
    ws = prepared(tmp_path, replay_buffer=settings, split={"validation_fraction": 0.0})
    warm_up(ws)
    searched_ids = {n["tree_id"] for n in searched(ws)}
    rows = sorted(read(ws, "iteration_1/replay_buffer", BUFFER_FILE), key=lambda row: row["rank"])
    assert all(row["right_share"] * 6 == pytest.approx(round(row["right_share"] * 6)) for row in rows)
    order = [(row["right_share"], -row["perplexity"]) for row in rows]
    assert order == sorted(order)
    assert len({share for share, _ in order}) > 1, "the hashed policy has some right"
    assert searched_ids == {row["example_id"] for row in rows[:8]}
    mean = ws.input("iteration_1/replay_buffer").manifest.metadata["mean_right_share"]
    assert mean == pytest.approx(sum(share for share, _ in order) / 16)


def test_what_the_newest_policy_does_wrong_steers_what_is_searched(tmp_path: Path, trainings: Trainings) -> None:
    """Over the rows: each type's share of the wrong answers is its share of what is searched, where it has so many."""
    settings = {"fraction": 1.0, "top_fraction": 0.5, "select_by": "mistakes", "answers": 6, "balance": "by_mistake"}
    ws = prepared(tmp_path, replay_buffer=settings, split={"validation_fraction": 0.0})
    warm_up(ws)
    searched_ids = {n["tree_id"] for n in searched(ws)}
    rows = sorted(read(ws, "iteration_1/replay_buffer", BUFFER_FILE), key=lambda row: row["rank"])
    own = {row["example_id"]: json.loads(row["mistakes"]) for row in rows}
    assert all(sum(own[row["example_id"]].values()) == round(6 - 6 * row["right_share"]) for row in rows)
    for row in rows:
        most = max(own[row["example_id"]].values(), default=0)
        assert (row["mistake"] is None) == (most == 0)
        assert most == 0 or own[row["example_id"]][row["mistake"]] == most
    chosen = Counter(row["mistake"] for row in rows if row["example_id"] in searched_ids)
    assert chosen.total() == 8
    answers = sum(map(Counter, own.values()), Counter[str]())
    room = Counter(row["mistake"] for row in rows)
    assert chosen == {k: n for k, n in apportion(8, answers, room).items() if n}
    told = ask(database_of(ws), "SELECT mistake, answers, examples, selected FROM deficiencies")
    assert sorted(told) == sorted((kind, count, room[kind], chosen[kind]) for kind, count in answers.items())
    shown = ws.input("iteration_1/replay_buffer").manifest.metadata["mistakes"]["markdown"]
    assert all(f"| {kind} | {count} | {room[kind]} | {chosen[kind]} |" in shown for kind, count in answers.items())


def test_by_perplexity_nothing_is_answered(tmp_path: Path, trainings: Trainings) -> None:
    ws = prepared(tmp_path)
    warm_up(ws)
    replay_buffer(ws, 1)
    assert {row["right_share"] for row in read(ws, "iteration_1/replay_buffer", BUFFER_FILE)} == {None}
    assert "mean_right_share" not in ws.input("iteration_1/replay_buffer").manifest.metadata


def difficulties(ws: Workspace) -> dict[str, list[str]]:
    """Difficulty → examples to train on."""
    found: dict[str, list[str]] = defaultdict(list)
    for key, row in split_rows(ws).items():
        if row.split == "train":
            found[row.difficulty].append(key)
    return found


EASY_AND_MEDIUM = {"difficulty": {"easy_max_calls": 0}}
"""Examples with a call are of medium difficulty, the others easy; none is hard."""


def test_easy_to_hard_trains_stage_by_stage(tmp_path: Path, trainings: Trainings) -> None:
    ws = prepared(tmp_path, split=EASY_AND_MEDIUM)
    warm_up(ws)
    by = difficulties(ws)
    assert [[item.name for item in t.train] for t in trainings.asked] == [by["easy"], by["medium"]]
    assert [t.start for t in trainings.asked] == ["base_model", "warmup/easy"]
    assert [adapter(ws, f"warmup/{stage}") for stage in ("easy", "medium", "hard")] == ["1", "2", "2"]


@pytest.mark.parametrize(("curriculum", "last"), [("easy", "1"), ("easy_to_medium", "2")])
def test_a_curriculum_that_ends_early_is_the_beginning_of_the_whole(
    tmp_path: Path, trainings: Trainings, curriculum: str, last: str
) -> None:
    warm_up(prepared(tmp_path, split=EASY_AND_MEDIUM))
    trained = len(trainings.asked)
    ws = prepared(tmp_path, split=EASY_AND_MEDIUM, warmup={"curriculum": curriculum})
    warm_up(ws)
    assert len(trainings.asked) == trained, "its stages are there already"
    assert adapter(ws, "warmup/hard") == last


def test_a_mixed_warm_up_trains_on_everything_at_the_end(tmp_path: Path, trainings: Trainings) -> None:
    ws = prepared(tmp_path, split=EASY_AND_MEDIUM, warmup={"curriculum": "mixed"})
    warm_up(ws)
    (asked,) = trainings.asked
    assert {item.name for item in asked.train} == {key for keys in difficulties(ws).values() for key in keys}
    assert len(asked.train) + len(asked.validation) == len(PROBLEMS)
    assert (asked.start, asked.job.optimizer) == ("warmup/medium", ws.experiment.warmup.optimizer)
    assert [adapter(ws, f"warmup/{stage}") for stage in ("easy", "medium", "hard")] == [None, None, "1"]
    stages = ask(database_of(ws), "SELECT stage, examples, steps FROM checkpoints ORDER BY stage")
    assert stages == [("warmup/easy", 0, 0), ("warmup/hard", len(asked.train), 1), ("warmup/medium", 0, 0)]


@pytest.mark.parametrize("quantization", ["none", "nf4"])
def test_without_a_warm_up_preferences_start_from_the_base_model(
    tmp_path: Path, trainings: Trainings, quantization: str
) -> None:
    ws = prepared(
        tmp_path, warmup={"curriculum": "none"}, preference={"quantization": quantization}, pairs={"per_node": "all"}
    )
    warm_up(ws)
    assert trainings.asked == []
    assert [adapter(ws, f"warmup/{stage}") for stage in ("easy", "medium", "hard")] == [None] * 3
    searched(ws)
    policy.policy(ws, 1)
    (asked,) = trainings.asked
    assert (asked.start, asked.job.quantization) == ("warmup/hard", quantization)
    assert adapter(ws, "iteration_1/policy") == "1"


def test_stages_that_train_nothing_are_shared(tmp_path: Path, trainings: Trainings) -> None:
    warm_up(prepared(tmp_path, warmup={"curriculum": "mixed"}))
    other = prepared(tmp_path, name="other", warmup={"curriculum": "none"}, split={"validation_fraction": 0.0}, seed=1)
    produced = [warmup.warmup(other, stage) for stage in ("easy", "medium", "hard")]
    assert [p.reused for p in produced] == [True, True, False]
    assert "mixed" not in produced[0].artifact.manifest.metadata["unchanged"]


def test_sft_on_the_entire_data_holds_nothing_back(tmp_path: Path, trainings: Trainings) -> None:
    ws = prepared(tmp_path, iterations=0, split={"validation_fraction": 0.0}, warmup={"curriculum": "mixed"})
    warm_up(ws)
    (asked,) = trainings.asked
    assert {item.name for item in asked.train} == set(PROBLEMS)
    assert asked.validation == []
    metadata = ws.input("warmup/hard").manifest.metadata
    assert (metadata["examples"], metadata["best_step"]) == (len(PROBLEMS), 1)
    assert "validation_loss" not in metadata
    assert checks.splits_are_disjoint(ws).problems == []


@pytest.mark.parametrize("curriculum", ["easy_to_hard", "mixed"])
def test_a_share_of_the_data_is_a_part_of_a_larger_and_validates_on_the_same(
    tmp_path: Path, trainings: Trainings, curriculum: str
) -> None:
    trained, validated, buffered = list[set[str]](), list[set[str]](), list[set[str]]()
    for share in (0.3, 0.6, 1.0):
        split = {"validation_fraction": 0.25, "train_fraction": share}
        ws = prepared(tmp_path, split=split, warmup={"curriculum": curriculum})
        before = len(trainings.asked)
        warm_up(ws)
        asked = trainings.asked[before:]
        trained.append({item.name for job in asked for item in job.train})
        validated.append({item.name for job in asked for item in job.validation})
        rows = split_rows(ws)
        buffered.append(set(buffered_rows(ws)))
        assert trained[-1] == {key for key, row in rows.items() if row.split == "train"}
        assert checks.splits_are_disjoint(ws).problems == []
    counts = [math.ceil(share * len(trained[2])) for share in (0.3, 0.6)]
    assert [len(names) for names in trained[:2]] == counts
    assert trained[0] < trained[1] < trained[2] == set(PROBLEMS) - validated[2]
    assert validated[0] == validated[1] == validated[2]
    assert all(some <= every for some, every in zip(buffered, trained, strict=True))


@pytest.mark.parametrize("curriculum", ["easy_to_hard", "mixed"])
def test_what_the_warm_up_leaves_unseen_is_what_is_searched(
    tmp_path: Path, trainings: Trainings, curriculum: str
) -> None:
    split = {"validation_fraction": 0.25, "warmup_fraction": 0.5}
    ws = prepared(tmp_path, split=split, warmup={"curriculum": curriculum})
    warm_up(ws)
    seen = {item.name for asked in trainings.asked for item in asked.train}
    validated = {item.name for item in trainings.asked[0].validation}
    unseen = {key for key, row in split_rows(ws).items() if row.split == "unseen"}
    assert unseen
    assert (seen | unseen, seen & unseen) == (set(PROBLEMS) - validated, set())
    assert set(buffered_rows(ws)) == unseen
    assert {node["tree_id"] for node in searched(ws)} <= unseen
    assert checks.splits_are_disjoint(ws).problems == []


def test_each_loss_reaches_the_training_on_the_same_pairs(tmp_path: Path, trainings: Trainings) -> None:
    losses = ("simpo", "dpo", "ipo", "orpo", "cpo")
    for loss in losses:
        ws = prepared(tmp_path, preference={"loss": {"type": loss, "beta": 0.25}}, pairs={"per_node": "all"})
        warm_up(ws)
        searched(ws)
        policy.policy(ws, 1)
        job, config = trainings.asked[-1].job, ws.experiment.preference
        assert (job.objective, job.optimizer) == (PreferenceObjective(loss=config.loss), config.optimizer)
    first, *policies = trainings.asked
    assert first.start == "base_model", "one warm-up for all"
    assert [asked.job.objective.loss.type for asked in policies] == list(losses)  # type: ignore[union-attr]
    assert all((p.start, p.train) == ("warmup/hard", policies[0].train) for p in policies)


def test_right_answers_are_trained_on_in_place_of_pairs(tmp_path: Path, trainings: Trainings) -> None:
    """Over the rows: of each tree the first two distinct right answers, whole, after its prompt."""
    ws = prepared(
        tmp_path,
        preference={"loss": {"type": "rejection_sampling", "answers_per_tree": 2}},
        search={"type": "sampling", "responses": 32},
        split={"validation_fraction": 0.0},
    )
    warm_up(ws)
    nodes = searched(ws)
    expected: dict[str, list[tuple[int, ...]]] = defaultdict(list)
    for node in nodes:
        if node["correct"]:
            expected[node["tree_id"]].append(tuple(node["token_ids"]))
    assert any(len(answers) > 2 for answers in expected.values())
    answers = ask(database_of(ws), "SELECT tree_id, answer, given FROM right_answers")
    assert Counter(tree for tree, *_ in answers) == {tree: len(found) for tree, found in expected.items()}
    assert {given for *_, given in answers} == {False}
    policy.policy(ws, 1)
    asked = trainings.asked[-1]
    assert asked.job.objective == SftObjective()
    assert {(x.name, x.prompt, x.response) for x in asked.train} == {
        (tree, PROBLEMS[tree].prompt, answer) for tree, found in expected.items() for answer in found[:2]
    }
    metadata = ws.input("iteration_1/policy").manifest.metadata
    assert (metadata["answers"], metadata["overlong_refused"]) == (len(asked.train), 0)


def test_the_warm_up_goes_on_in_place_of_pairs(tmp_path: Path, trainings: Trainings) -> None:
    """All its gold answers, though the search saw one example only, and validated as it was."""
    ws = prepared(
        tmp_path,
        preference={"loss": {"type": "sft"}},
        replay_buffer={"fraction": 1.0, "top_fraction": 0.01},
        warmup={"curriculum": "mixed"},
    )
    warm_up(ws)
    searched(ws)
    policy.policy(ws, 1)
    first, again = trainings.asked
    assert again.start == "warmup/hard"
    assert again.job.objective == SftObjective()
    assert again.job.optimizer == ws.experiment.preference.optimizer != first.job.optimizer
    assert len(again.train) > 1
    assert (again.train, again.validation) == (first.train, first.validation)


def test_without_a_right_answer_that_fits_the_checkpoint_stays(tmp_path: Path, trainings: Trainings) -> None:
    too_long = {"loss": {"type": "rejection_sampling"}, "max_tokens": 1}
    ws = prepared(tmp_path, preference=too_long, search={"type": "sampling", "responses": 2})
    warm_up(ws)
    searched(ws)
    before = len(trainings.asked)
    assert "no right answer" in policy.policy(ws, 1).artifact.manifest.metadata["unchanged"]
    assert len(trainings.asked) == before
    assert adapter(ws, "iteration_1/policy") == adapter(ws, "warmup/hard")


GRPO = {"loss": {"type": "grpo", "generations": 4}}


@pytest.mark.parametrize("search", [{}, {"type": "sampling", "responses": 16}], ids=["mcts", "sampled"])
def test_grpo_generates_what_the_search_generated(tmp_path: Path, trainings: Trainings, search: Row) -> None:
    """Over the rows: the tokens of all nodes that were drawn, as often as they were."""
    ws = prepared(tmp_path, preference=GRPO, search=search)
    warm_up(ws)
    nodes = [node for node in searched(ws) if node["parent_id"] is not None]
    expected = sum(len(node["token_ids"]) * (node["visits"] if search else 1) for node in nodes)
    assert any(node["visits"] > 1 for node in nodes)
    metadata = policy.policy(ws, 1).artifact.manifest.metadata
    (asked,) = trainings.by_grpo
    assert (asked.job.budget, metadata["search_tokens"], metadata["token_budget"]) == (expected,) * 3
    assert metadata["generated_tokens"] == expected + 3


def test_grpo_goes_on_from_the_policy_before_on_what_was_searched(tmp_path: Path, trainings: Trainings) -> None:
    preference = {"loss": {**GRPO["loss"], "budget": 99}, "quantization": "none"}
    half = {"fraction": 1.0, "top_fraction": 0.5}
    ws = prepared(tmp_path, preference=preference, replay_buffer=half, split={"validation_fraction": 0.0})
    warm_up(ws)
    trees_ids = {node["tree_id"] for node in searched(ws)}
    produced = policy.policy(ws, 1)
    (asked,) = trainings.by_grpo
    assert len(trees_ids) == 8
    assert asked.prompts == {key: PROBLEMS[key].prompt for key in trees_ids}
    assert (asked.start, asked.job.budget, asked.job.quantization) == ("warmup/hard", 99, "none")
    assert (asked.job.loss, asked.job.optimizer) == (ws.experiment.preference.loss, ws.experiment.preference.optimizer)
    assert asked.job.drawing == ws.experiment.search
    assert adapter(ws, "iteration_1/policy") == "grpo 1"
    metadata = produced.artifact.manifest.metadata
    told = ("examples", "optimizer_steps", "first_reward", "last_reward", "mean_equal_rewards", "overlong_refused")
    assert [metadata[name] for name in told] == [8, 2, -1.0, 0.5, 0.75, 0]
    assert all((produced.artifact.path / name).exists() for name in ("loss.png", "reward.png"))
    rows = ask(
        database_of(ws), "SELECT examples, steps, train_loss FROM checkpoints WHERE stage = 'iteration_1/policy'"
    )
    assert rows == [(8, 2, 0.25)]
    assert checks.held_out_loss_is_finite(ws, 1).problems == []
    assert policy.policy(ws, 1).reused


def test_grpo_is_rewarded_with_the_outcome_of_the_prompts_own_example(tmp_path: Path, trainings: Trainings) -> None:
    outcome = {"correct": 0.75, "wrong": -0.5}
    ws = prepared(tmp_path, preference=GRPO, search={"outcome": outcome}, split={"validation_fraction": 0.0})
    warm_up(ws)
    searched(ws)
    policy.policy(ws, 1)
    reward = trainings.by_grpo[-1].reward
    for key, other in (("call0", "text0"), ("text0", "call0")):
        gold, wrong = (tuple(PROBLEMS[name].example.response.encode()) for name in (key, other))
        found = [reward(key, gold, True), reward(key, wrong, True), reward(key, gold, False), reward(key, (), True)]
        assert found == [0.75, -0.5, -0.5, -0.5], "of silence and of what was cut, too"


def test_grpo_holds_back_what_validates_preferences(tmp_path: Path, trainings: Trainings) -> None:
    found = []
    for preference in ({}, GRPO):
        ws = prepared(tmp_path, preference=preference, pairs={"per_node": "all"}, split={"validation_fraction": 0.3})
        warm_up(ws)
        found.append({node["tree_id"] for node in searched(ws)})
        policy.policy(ws, 1)
    (asked,), validating = trainings.by_grpo, {row.name for row in trainings.asked[-1].validation}
    assert validating
    assert not asked.prompts.keys() & validating
    assert asked.prompts.keys() >= {row.name for row in trainings.asked[-1].train}


def test_grpo_that_was_killed_begins_again(
    tmp_path: Path, trainings: Trainings, monkeypatch: pytest.MonkeyPatch
) -> None:
    ws = prepared(tmp_path, preference=GRPO)
    warm_up(ws)
    searched(ws)

    def killed(*arguments: Any) -> None:
        trainings.run_grpo(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("itool_pipeline.training.grpo.train_by_grpo", killed)
        with pytest.raises(KeyboardInterrupt):
            policy.policy(ws, 1)
    assert not ws.artifacts.find("iteration_1/policy", ws.planned["iteration_1/policy"].fingerprint)
    assert not policy.policy(ws, 1).reused
    first, second = trainings.by_grpo
    assert (first.job.seed, first.job.adapter, first.prompts) == (second.job.seed, second.job.adapter, second.prompts)
    assert adapter(ws, "iteration_1/policy") == "grpo 2"


def test_without_a_prompt_that_fits_grpo_trains_nothing(tmp_path: Path, trainings: Trainings) -> None:
    ws = prepared(tmp_path, preference={**GRPO, "max_tokens": 256})
    warm_up(ws)
    searched(ws)
    assert "no example" in policy.policy(ws, 1).artifact.manifest.metadata["unchanged"]
    assert trainings.by_grpo == []


@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_gold_answers_are_trained_beside_the_pairs(tmp_path: Path, trainings: Trainings, weight: float) -> None:
    ws = prepared(tmp_path, preference={"gold_weight": weight}, pairs=LAX)
    warm_up(ws)
    searched(ws)
    policy.policy(ws, 1)
    asked = trainings.asked[-1]
    assert isinstance(asked.job.objective, PreferenceObjective)
    assert asked.job.objective.gold_weight == weight
    assert asked.train
    for row in asked.train:
        gold = tuple(PROBLEMS[row.name].example.response.encode())
        assert row.gold[: len(gold)] == (gold if weight else ())


def test_all_that_warmed_up_is_rehearsed(tmp_path: Path, trainings: Trainings) -> None:
    """Every training example once, most of them without a pair; those that validated the warm-up validate again."""
    buffered = {"fraction": 1.0, "top_fraction": 0.4}
    preference = {"gold_weight": 0.5, "rehearse": True}
    ws = prepared(tmp_path, preference=preference, pairs=LAX, replay_buffer=buffered, warmup={"curriculum": "mixed"})
    warm_up(ws)
    searched(ws)
    policy.policy(ws, 1)
    first, asked = trainings.asked
    answers = {x.name: x.response for x in (*first.train, *first.validation)}
    rows = {row.name: row for row in (*asked.train, *asked.validation)}
    assert len(rows) == len(asked.train) + len(asked.validation)
    assert {name: row.gold for name, row in rows.items()} == answers
    pairs = ask(database_of(ws), "SELECT tree_id, count(*) FROM pairs WHERE kept GROUP BY ALL")
    assert {name: len(row.pairs) for name, row in rows.items() if row.pairs} == dict(pairs)
    assert 0 < len(pairs) < len(rows)
    validating = {x.name for x in first.validation}
    assert validating
    assert validating <= {row.name for row in asked.validation}


@pytest.mark.parametrize("form", ["exact", "sampled"])
def test_both_forms_of_self_evaluation(tmp_path: Path, trainings: Trainings, form: str) -> None:
    ws = prepared(tmp_path, search={"self_evaluation": {"type": form, "weights": (1.0, 1.0, 0.0, 0.0)}})
    warm_up(ws)
    nodes = searched(ws)
    # the mean of four weights of 0 or 1 is a quarter of a whole number, an expectation hardly ever
    quarters = [node["self_evaluation"] * 4 == round(node["self_evaluation"] * 4) for node in nodes]
    assert all(quarters) if form == "sampled" else not any(quarters)


def test_without_self_evaluation(tmp_path: Path, trainings: Trainings) -> None:
    ws = prepared(tmp_path, search={"self_evaluation": {"type": "none"}})
    warm_up(ws)
    assert {node["self_evaluation"] for node in searched(ws)} == {0.0}
