"""One tiny experiment with the real small model through the real job: rows, lineage, reuse, and kills.

Two stories run side by side, each in a storage of its own. In one nothing is disturbed, and the same is asked for
again in three ways. The other starts from the same data and is killed three times. Then their artifacts are compared.
"""

from __future__ import annotations

import math
import re
import shutil
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from difflib import SequenceMatcher
from pathlib import Path

import dagster as dg
import numpy as np
import pytest

from itool_pipeline_tests.drills import DATA, KILLS, Row, Storage, Story, contents, killed, undisturbed

pytestmark = pytest.mark.slow

ASSETS = {
    *DATA,
    *(f"warmup/{stage}" for stage in ("easy", "medium", "hard")),
    *(f"iteration_1/{step}" for step in ("replay_buffer", "trees", "pairs", "policy")),
    "bfcl_cases",
    *(f"bfcl/{checkpoint}" for checkpoint in ("base", "warmup", "iteration_1")),
    "champion",
    "report",
}
GAMMA, ROUNDS = 1.0, 3
"""Of experiments/tiny.yaml, like the bounds of the filters below."""
MIN_DIFFERENCE, MIN_CHOSEN, MAX_SIMILARITY = 0.01, -1.0, 0.95


@pytest.fixture(scope="module")
def stories(
    tmp_path_factory: pytest.TempPathFactory, downloads_dir: Path, bfcl_dir: Path, base_model_dir: Path
) -> Iterator[tuple[Story, Story]]:
    """Both stories, told to their ends. The last two fixtures see to it that the wheels are there."""
    root = tmp_path_factory.mktemp("end_to_end")
    calm, rough = (Story(Storage(root / name, downloads_dir)) for name in ("calm", "rough"))
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(undisturbed, calm)
        calm.storage.wait_for("splits", first.done)
        rough.storage.take(DATA, calm.storage)
        second = threads.submit(killed, rough)
        first.result()
        second.result()
    yield calm, rough
    shutil.rmtree(root)


@pytest.fixture(scope="module")
def calm(stories: tuple[Story, Story]) -> Story:
    return stories[0]


@pytest.fixture(scope="module")
def rough(stories: tuple[Story, Story]) -> Story:
    return stories[1]


def test_the_run_succeeds_and_shows_its_leaderboard(calm: Story) -> None:
    first = calm.outputs["first"]
    assert first.code == 0, first.text[-3000:]
    assert "tiny: finished in" in first.text
    for checkpoint in ("base", "warmup", "iteration_1"):
        assert f"\n{checkpoint} " in first.text
    assert set(calm.manifests["first"]) == ASSETS


def test_every_table_has_rows(calm: Story) -> None:
    counts = calm.counts["first"]
    assert len(counts) == 18
    assert {table for table, rows in counts.items() if not rows} == {"quarantine", "thoughts"}, "all can be read"
    assert counts["materializations"] == len(ASSETS)
    assert counts["cases"] == 3 * 2 * 3  # checkpoints, categories, cases
    assert counts["scores"] == 3 * 2
    assert counts["aggregate_scores"] == 3 * 15
    assert counts["comparisons"] == 3  # each checkpoint with the one before, and the last with the base
    assert counts["checkpoints"] == 3 + 1
    assert counts["trees"] >= 4
    assert {row["experiment"] for row in calm.storage.ask("FROM experiments")} == {"tiny"}


def test_both_trainings_took_steps(calm: Story) -> None:
    steps = {row["stage"]: row["steps"] for row in calm.storage.ask("FROM checkpoints")}
    assert steps["warmup/easy"] >= 3
    assert steps["iteration_1/policy"] >= 3
    files = {asset: m.files for asset, m in calm.manifests["first"].items()}
    weights = "adapter/adapter_model.safetensors"
    assert files["iteration_1/policy"][weights].sha256 != files["warmup/hard"][weights].sha256


def test_every_pair_leads_back_to_where_it_came_from(calm: Story) -> None:
    rows = calm.storage.ask("FROM pair_lineage")
    assert len(rows) == calm.counts["first"]["pairs"]
    assert any(row["kept"] for row in rows)
    assert {name for row in rows for name, value in row.items() if value is None} == set()
    fingerprints = {asset: m.fingerprint for asset, m in calm.manifests["first"].items()}
    assert {row["artifact"] for row in rows} == {fingerprints["iteration_1/pairs"]}
    assert {row["trees_artifact"] for row in rows} == {fingerprints["iteration_1/trees"]}
    assert {row["policy_artifact"] for row in rows} == {fingerprints["warmup/hard"]}
    assert {row["policy_asset"] for row in rows} == {"warmup/hard"}
    runs = {m.run_id for m in calm.manifests["first"].values()}
    assert {row["made_by_run"] for row in rows} == {row["policy_run"] for row in rows} == runs
    examples = {row["example_id"]: row for row in calm.storage.ask("FROM examples WHERE part = 'train'")}
    assert all(examples[row["example_id"]]["question"] == row["question"] for row in rows)


def trees(story: Story) -> dict[str, list[Row]]:
    """Tree → its nodes, by their index."""
    found: dict[str, list[Row]] = defaultdict(list)
    for row in story.storage.ask("FROM nodes ORDER BY tree_id, node_id"):
        found[row["tree_id"]].append(row)
    assert all([n["node_id"] for n in nodes] == list(range(len(nodes))) for nodes in found.values())
    return found


def children_of(nodes: list[Row], index: int) -> list[Row]:
    return [node for node in nodes if node["parent_id"] == index]


def test_values_of_the_trees_are_those_of_the_paper(calm: Story) -> None:
    """r = R(next) - R(s), V = sum of N Q over sum of N (Eq. 8), Q = r + gamma V (Eq. 9), from the rows alone."""
    for nodes in trees(calm).values():
        assert nodes[0]["visits"] == ROUNDS
        for node in nodes:
            below = children_of(nodes, node["node_id"])
            visits = np.array([child["visits"] for child in below])
            q = np.array([child["action_value"] for child in below])
            value = float((visits * q).sum() / visits.sum()) if visits.sum() else 0.0
            assert node["value"] == pytest.approx(value, abs=1e-9)
            assert node["visits"] >= visits.sum()
            if node["parent_id"] is not None:
                parent = nodes[node["parent_id"]]
                total, before = (n["outcome"] + n["self_evaluation"] for n in (node, parent))
                assert node["reward"] == pytest.approx(total - before, abs=1e-9)
                assert node["action_value"] == pytest.approx(node["reward"] + GAMMA * value, abs=1e-9)


def test_nodes_join_to_responses(calm: Story) -> None:
    rows = [node for nodes in trees(calm).values() for node in nodes[1:]]
    for nodes in trees(calm).values():
        root = nodes[0]
        assert (root["depth"], root["fragment"], root["prefix"], root["prior"]) == (0, "", "", 1.0)
        for node in nodes[1:]:
            parent = nodes[node["parent_id"]]
            assert node["depth"] == parent["depth"] + 1 <= 3
            assert node["prefix"] == parent["prefix"] + parent["fragment"]
            assert not parent["terminal"]
            siblings = children_of(nodes, node["parent_id"])
            assert len(siblings) <= 3
            assert len({(s["fragment"], s["terminal"]) for s in siblings}) == len(siblings)
    assert all(0 < n["prior"] <= 1 and 1 <= len(n["token_ids"]) <= 8 for n in rows)
    assert all((n["correct"] is not None) == n["terminal"] for n in rows)
    assert all(n["outcome"] == (1.0 if n["correct"] else -1.0) for n in rows if n["terminal"])
    assert all(-2.0 <= n["self_evaluation"] <= 1.0 for n in rows)


def test_pairs_are_the_best_and_the_worst_child(calm: Story) -> None:
    found = {(row["tree_id"], row["node_id"]): row for row in calm.storage.ask("FROM pairs")}
    expected = {}
    for tree, nodes in trees(calm).items():
        for node in nodes:
            below = children_of(nodes, node["node_id"])
            if len(below) > 1:
                best = max(below, key=lambda n: (n["action_value"], -n["node_id"]))
                worst = min(below, key=lambda n: (n["action_value"], -n["node_id"]))
                expected[tree, node["node_id"]] = (best, worst)
    assert found.keys() == expected.keys()
    for key, (best, worst) in expected.items():
        pair, difference = found[key], best["action_value"] - worst["action_value"]
        assert (pair["chosen_node"], pair["rejected_node"]) == (best["node_id"], worst["node_id"])
        assert (pair["chosen"], pair["rejected"]) == (best["fragment"], worst["fragment"])
        assert (pair["prefix"], pair["chosen_q"], pair["rejected_q"]) == (
            best["prefix"],
            best["action_value"],
            worst["action_value"],
        )
        alike = SequenceMatcher(None, best["fragment"], worst["fragment"], autojunk=False).ratio()
        assert pair["similarity"] == pytest.approx(alike)
        kept = alike <= MAX_SIMILARITY and difference >= MIN_DIFFERENCE and best["action_value"] >= MIN_CHOSEN
        assert (pair["kept"], pair["reason"] == "kept") == (kept, kept)


def test_scores_count_their_cases(calm: Story) -> None:
    counted = calm.storage.ask(
        """SELECT artifact, checkpoint, category, sum(correct::INT)::INT AS correct, count(*)::INT AS total,
        count(DISTINCT case_id) AS cases FROM cases GROUP BY ALL ORDER BY ALL"""
    )
    scores = calm.storage.ask(
        "SELECT artifact, checkpoint, category, correct, total, total AS cases FROM scores ORDER BY ALL"
    )
    assert counted == scores
    board = calm.storage.ask(
        "SELECT checkpoint, correct, total, accuracy, low, high FROM leaderboard ORDER BY sequence"
    )
    assert [row["checkpoint"] for row in board] == ["base", "warmup", "iteration_1"]
    for row in board:
        own = [s for s in scores if s["checkpoint"] == row["checkpoint"]]
        assert (row["correct"], row["total"]) == (sum(s["correct"] for s in own), sum(s["total"] for s in own))
        assert row["accuracy"] == pytest.approx(row["correct"] / row["total"])
        assert row["low"] <= row["accuracy"] <= row["high"]
    wrong = calm.storage.ask("SELECT mistake, error_type FROM cases WHERE NOT correct")
    assert all(row["mistake"] and row["error_type"] for row in wrong)


def test_the_buffer_marks_what_was_searched(calm: Story) -> None:
    buffer = calm.storage.ask("FROM buffer ORDER BY rank")
    selected = [row["example_id"] for row in buffer if row["selected"]]
    assert [row["perplexity"] for row in buffer] == sorted((row["perplexity"] for row in buffer), reverse=True)
    assert all(math.isfinite(row["perplexity"]) and row["perplexity"] >= 1 for row in buffer)
    assert selected == [row["example_id"] for row in buffer][: len(selected)]
    assert sorted(selected) == sorted(trees(calm))
    in_buffer = calm.storage.ask("SELECT example_id FROM experiment_examples WHERE in_buffer AND split = 'train'")
    assert {row["example_id"] for row in buffer} == {row["example_id"] for row in in_buffer}


def test_all_checks_passed(calm: Story) -> None:
    with dg.DagsterInstance.from_config(str(calm.storage.root)) as instance:
        wanted = dg.EventRecordsFilter(dg.DagsterEventType.ASSET_CHECK_EVALUATION)
        events = [record.event_log_entry.dagster_event for record in instance.get_event_records(wanted)]
    checked = [event.asset_check_evaluation_data for event in events if event is not None]
    found = [(c.asset_key.to_user_string(), c.check_name) for c in checked]
    expected = {
        ("examples", "quarantine"),
        ("splits", "disjoint"),
        ("splits", "no_leak"),
        ("bfcl_cases", "no_leak"),
        *(("iteration_1/pairs", check) for check in ("filters", "enough", "true_pairs")),
        ("iteration_1/policy", "finite"),
        *(
            (f"bfcl/{name}", check)
            for name in ("base", "warmup", "iteration_1")
            for check in ("complete", "errors_agree")
        ),
        ("bfcl/iteration_1", "not_worse"),
    }
    assert set(found) == expected
    assert len(found) == 3 * len(expected), "each of the three whole runs checks each asset once"
    assert all(c.passed for c in checked)


@pytest.mark.parametrize("name", ["again", "job"])
def test_what_is_there_is_reused(calm: Story, name: str) -> None:
    assert calm.outputs[name].code == 0, calm.outputs[name].text[-3000:]
    assert calm.manifests[name] == calm.manifests["first"], "every artifact with its run and its time of making"
    assert calm.counts[name] == calm.counts["first"]
    for asset, manifest in calm.manifests[name].items():
        assert f"{asset} {manifest.fingerprint}: reused" in calm.outputs[name].text


def test_the_database_says_who_made_it_and_who_reused_it(calm: Story) -> None:
    rows = calm.storage.ask("FROM materializations WHERE asset <> 'iteration_1/trees'")
    made_by = {m.run_id for asset, m in calm.manifests["first"].items()}
    assert len(made_by) == 1
    assert {row["made_by_run"] for row in rows} == made_by
    assert {row["run_id"] for row in rows}.isdisjoint(made_by)
    assert all(row["reused"] for row in rows)


def test_force_makes_it_again_and_the_same(calm: Story) -> None:
    forced, before, after = calm.outputs["forced"], calm.manifests["job"], calm.manifests["forced"]
    assert forced.code == 0, forced.text[-3000:]
    assert {asset for asset in ASSETS if before[asset].run_id != after[asset].run_id} == {"iteration_1/trees"}
    assert contents(after) == contents(before)
    assert calm.counts["forced"] == calm.counts["first"]


@pytest.mark.parametrize("name", KILLS)
def test_the_kills_came_while_the_work_went_on(rough: Story, name: str) -> None:
    assert rough.outputs[name].code == -9, rough.outputs[name].text[-3000:]


def test_a_killed_run_goes_on_where_it_was(rough: Story) -> None:
    assert rough.outputs["last"].code == 0, rough.outputs["last"].text[-3000:]
    for name in ("search", "preference training", "last"):
        assert rough.outputs[name].text.count("was killed: marked as failed") == 1
    begun, gone_on = (
        set(
            re.findall(
                r"iteration_1/trees\[share_00000\] +\d+ of \d+ iterations of (\d+) trees", rough.outputs[name].text
            )
        )
        for name in ("search", "preference training")
    )
    trees = rough.storage.row_counts()["trees"]
    assert begun == {str(trees)}
    assert gone_on == {str(trees - 2)}, "a finished shard is not searched again"


def test_kills_leave_no_trace_in_the_artifacts(calm: Story, rough: Story) -> None:
    """Byte for byte: trees, pairs, adapters, answers, pictures, report."""
    ours, theirs = contents(rough.storage.manifests()), contents(calm.manifests["first"])
    assert ours.keys() == theirs.keys() == ASSETS
    for asset in sorted(ASSETS):
        assert ours[asset] == theirs[asset], asset
    leftovers = [path.name for path in (rough.storage.root / "artifacts").glob("**/*.partial")]
    assert leftovers == []


def test_kills_leave_no_trace_in_the_rows(calm: Story, rough: Story) -> None:
    tables = ("examples", "buffer", "trees", "nodes", "pairs", "scores", "cases", "aggregate_scores")
    for table in tables:
        assert rough.storage.ask(f"FROM {table} ORDER BY ALL") == calm.storage.ask(f"FROM {table} ORDER BY ALL"), table
    assert rough.counts["last"] == calm.counts["first"]
    assert {row["stale"] for row in rough.storage.ask("FROM experiment_artifacts")} == {False}
