"""The graph of one experiment, and which fingerprints a change of the config changes: a table worked out by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from itool_pipeline.benchmarks.bfcl.benchmark import BfclBenchmark
from itool_pipeline.benchmarks.registry import BENCHMARKS
from itool_pipeline.config import BenchmarkConfig, EvaluationConfig, Experiment
from itool_pipeline.steps.asset_graph import (
    ALL,
    ON_REQUEST,
    Shape,
    assets_of,
    checkpoints,
    inputs_of,
    policy_before,
    step_kind,
)
from itool_pipeline.steps.config_sections import data_content, local_content
from itool_pipeline.steps.plan import CODE_VERSIONS, code_version, plan
from itool_pipeline_tests.data.rows_in_layouts import ROWS
from itool_pipeline_tests.steps.by_hand import experiment

FRONT = ["base_model", "examples", "splits"]
WARMUP = ["warmup/easy", "warmup/medium", "warmup/hard"]
FIRST = ["iteration_1/replay_buffer", "iteration_1/trees", "iteration_1/pairs", "iteration_1/policy"]
SECOND = ["iteration_2/replay_buffer", "iteration_2/trees", "iteration_2/pairs", "iteration_2/policy"]
SCORES = ["bfcl/base", "bfcl/warmup", "bfcl/iteration_1", "bfcl/iteration_2"]
BFCL = ["bfcl_cases", *SCORES]
TWO_ITERATIONS = [*FRONT, *WARMUP, *FIRST, *SECOND, *BFCL, "report"]
"""All but the champion, of whom `changed` says what must hold."""


API_BANK = ["api_bank_cases", *(name.replace("bfcl", "api_bank") for name in SCORES)]
ASKED: dict[str, Any] = {"evaluation": {"api_bank": {}}}


def shape(iterations: int, *benchmarks: str) -> Shape:
    return Shape(iterations, benchmarks, tuple(checkpoints(iterations)))


def test_all_assets_of_two_iterations() -> None:
    assert sorted(assets_of(shape(2, "bfcl"))) == sorted([*TWO_ITERATIONS, "champion"])
    assert sorted(assets_of(shape(2, "bfcl", "api_bank"))) == sorted([*TWO_ITERATIONS, *API_BANK, "champion"])
    assert list(plan(experiment(iterations=2))) == list(assets_of(shape(2, "bfcl")))
    assert list(plan(experiment(iterations=2, **ASKED))) == list(assets_of(shape(2, "bfcl", "api_bank")))
    assert sorted(plan(experiment(iterations=2, evaluation={"bfcl": None}))) == sorted(set(TWO_ITERATIONS) - set(BFCL))


@pytest.mark.parametrize("benchmarks", [(), ALL[:1], ALL[1:], ALL])
@pytest.mark.parametrize("iterations", [0, 1, 2, 3])
def test_every_input_precedes(iterations: int, benchmarks: tuple[str, ...]) -> None:
    seen: set[str] = set()
    for asset in assets_of(shape(iterations, *benchmarks)):
        inputs = inputs_of(asset, shape(iterations, *benchmarks))
        assert set(inputs) <= seen, asset
        assert len(set(inputs)) == len(inputs)
        seen.add(asset)
    assert len(seen) == 6 + 4 * iterations + 1 + bool(benchmarks) + len(benchmarks) * (1 + 2 + iterations)


def test_only_the_checkpoints_that_are_asked_for_are_scored() -> None:
    asked = experiment(iterations=2, evaluation={"checkpoints": ("last", "warmup"), "api_bank": {}})
    assert asked.scored_checkpoints() == ("warmup", "iteration_2")
    dropped = {f"{benchmark}/{name}" for benchmark in ("bfcl", "api_bank") for name in ("base", "iteration_1")}
    assert set(plan(asked)) == {*TWO_ITERATIONS, *API_BANK, "champion"} - dropped
    assert changed(experiment(iterations=2, **ASKED), asked) == {"report"}
    assert list(plan(asked)["report"].origin.inputs) == [
        *("bfcl/warmup", "bfcl/iteration_2", "api_bank/warmup", "api_bank/iteration_2"),
        *("iteration_1/trees", "iteration_1/pairs", "iteration_2/trees", "iteration_2/pairs"),
    ]
    assert experiment(iterations=0, evaluation={"checkpoints": ("last", "warmup")}).scored_checkpoints() == ("warmup",)
    assert experiment(iterations=1).scored_checkpoints() == ("base", "warmup", "iteration_1")


def test_every_benchmark_has_a_section_of_its_name() -> None:
    assert set(EvaluationConfig.model_fields) - {"checkpoints", "champion"} == {*ALL}
    assert len(set(ALL)) == len(ALL)
    everything = EvaluationConfig().model_dump()
    for benchmark in BENCHMARKS:
        asked = benchmark.settings(experiment())
        assert (asked is None) == (everything[benchmark.name] is None)
        assert asked is None or isinstance(asked, BenchmarkConfig)


def test_a_benchmark_that_is_not_asked_for_changes_nothing_that_is_trained() -> None:
    assert changed(experiment(iterations=2), experiment(iterations=2, evaluation={"bfcl": None})) == {"report"}


def test_scoring_on_api_bank_too_changes_the_report_alone() -> None:
    assert changed(experiment(iterations=2), experiment(iterations=2, **ASKED)) == {*API_BANK, "report"}


@pytest.mark.parametrize(
    ("over", "expected"),
    [
        ({"revision": "main"}, [*API_BANK, "report"]),
        ({"name": "other/API-Bank"}, [*API_BANK, "report"]),
        ({"levels": ("level_1",)}, [*API_BANK[1:], "report"]),
        ({"cases_per_level": 5}, [*API_BANK[1:], "report"]),
        ({"max_prompt_tokens": 99}, [*API_BANK[1:], "report"]),
        ({"max_new_tokens": 99}, [*API_BANK[1:], "report"]),
        ({"batch_size": 2}, [*API_BANK[1:], "report"]),
    ],
)
def test_a_change_of_what_is_asked_of_api_bank(over: dict[str, Any], expected: list[str]) -> None:
    asked = {"evaluation": {"api_bank": over}}
    assert changed(experiment(iterations=2, **ASKED), experiment(iterations=2, **asked)) == set(expected)


def test_another_prompt_asks_api_bank_anew_too() -> None:
    other = experiment(iterations=2, **ASKED, prompt={"tools": "system"})
    assert changed(experiment(iterations=2, **ASKED), other) == {*TWO_ITERATIONS, *API_BANK} - {"base_model"}


def test_no_two_assets_share_a_fingerprint() -> None:
    planned = plan(experiment(iterations=3))
    assert len({p.fingerprint for p in planned.values()}) == len(planned)


def test_checkpoints_in_their_order() -> None:
    assert checkpoints(2) == {
        "base": "base_model",
        "warmup": "warmup/hard",
        "iteration_1": "iteration_1/policy",
        "iteration_2": "iteration_2/policy",
    }
    assert [policy_before(k) for k in (1, 2, 3)] == ["warmup/hard", "iteration_1/policy", "iteration_2/policy"]


def test_kinds_of_steps() -> None:
    assert {step_kind(asset) for asset in (*assets_of(), *ON_REQUEST)} == set(CODE_VERSIONS)
    assert [step_kind(a) for a in ("warmup/easy", "iteration_2/trees", "bfcl/base", "api_bank_cases", "report")] == [
        "warmup",
        "trees",
        "scores",
        "cases",
        "report",
    ]


def changed(before: Experiment, after: Experiment) -> set[str]:
    """Assets of `after` whose fingerprint is not that of `before`; of the champion's, that it follows the scores."""
    old, new = ({asset: p.fingerprint for asset, p in plan(one).items()} for one in (before, after))
    found = {asset for asset in new if new[asset] != old.get(asset)}
    scores = [{a: p for a, p in one.items() if a.startswith(tuple(f"{name}/" for name in ALL))} for one in (old, new)]
    assert ("champion" in found) == (bool(scores[1]) and scores[0] != scores[1])
    return found - {"champion"}


TRAINED_SCORES = SCORES[1:]
ITERATION_SCORES = SCORES[2:]
FROM_SPLITS = ["splits", *WARMUP, *FIRST, *SECOND, *TRAINED_SCORES, "report"]
FROM_WARMUP = FROM_SPLITS[1:]


@pytest.mark.parametrize(
    ("over", "expected"),
    [
        ({}, []),
        ({"scheduled": True}, []),
        ({"compute": {"prefix_cache_gib": 1.0}}, []),
        ({"compute": {"gradient_checkpointing": True}}, []),
        ({"compute": {"gpus": 2, "cpus": 8, "memory_gib": 64.0}}, []),
        ({"compute": {"processes": 2}}, []),
        ({"description": "other words"}, ["report"]),
        ({"name": "other"}, ["report"]),
        ({"model": {"type": "hub", "name": "some/model"}}, TWO_ITERATIONS),
        ({"seed": 1}, [a for a in TWO_ITERATIONS if a != "base_model"]),
        (
            {"data": {"type": "bfcl_half", "train_limit": 9}},
            [a for a in TWO_ITERATIONS if a not in ("base_model", "bfcl_cases", "bfcl/base")],
        ),
        ({"data": {"type": "toolace"}}, [a for a in TWO_ITERATIONS if a != "base_model"]),
        ({"data": {"type": "bfcl_half", "max_quarantined": 0.5}}, []),
        ({"prompt": {"tools": "system"}}, [a for a in TWO_ITERATIONS if a != "base_model"]),
        ({"split": {"validation_fraction": 0.2}}, FROM_SPLITS),
        ({"split": {"difficulty": {"easy_max_tools": 2}}}, FROM_SPLITS),
        ({"compute": {"dtype": "float32"}}, [*FROM_WARMUP, "bfcl/base"]),
        ({"compute": {"batch_tokens": 4096}}, [*FROM_WARMUP, "bfcl/base"]),
        ({"warmup": {"lora": {"rank": 8}}}, FROM_WARMUP),
        ({"warmup": {"optimizer": {"learning_rate": 1e-3}}}, FROM_WARMUP),
        ({"split": {"train_fraction": 0.4}}, FROM_SPLITS),
        ({"warmup": {"curriculum": "mixed"}}, FROM_WARMUP),
        ({"warmup": {"curriculum": "none"}}, FROM_WARMUP),
        ({"replay_buffer": {"fraction": 0.4}}, [*FIRST, *SECOND, *ITERATION_SCORES, "report"]),
        ({"replay_buffer": {"top_fraction": 0.2}}, [*FIRST, *SECOND, *ITERATION_SCORES, "report"]),
        ({"replay_buffer": {"balance": "by_call"}}, [*FIRST, *SECOND, *ITERATION_SCORES, "report"]),
        ({"replay_buffer": {"select_by": "random"}}, [*FIRST, *SECOND, *ITERATION_SCORES, "report"]),
        ({"search": {"c": 2.0}}, [*FIRST[1:], *SECOND, *ITERATION_SCORES, "report"]),
        ({"search": {"outcome": {"progress": 0.1}}}, [*FIRST[1:], *SECOND, *ITERATION_SCORES, "report"]),
        ({"search": {"self_evaluation": {"type": "sampled"}}}, [*FIRST[1:], *SECOND, *ITERATION_SCORES, "report"]),
        ({"search": {"type": "sampling"}}, [*FIRST[1:], *SECOND, *ITERATION_SCORES, "report"]),
        ({"pairs": {"per_node": "all"}}, [*FIRST[2:], *SECOND, *ITERATION_SCORES, "report"]),
        ({"pairs": {"min_true_share": 0.5, "few": 3}}, []),
        ({"pairs": {"min_q_difference": 0.2}}, [*FIRST[2:], *SECOND, *ITERATION_SCORES, "report"]),
        ({"preference": {"loss": {"type": "simpo", "beta": 1.0}}}, [*FIRST[3:], *SECOND, *ITERATION_SCORES, "report"]),
        ({"evaluation": {"bfcl": {"max_new_tokens": 99}}}, [*SCORES, "report"]),
        ({"evaluation": {"bfcl": {"batch_size": 2}}}, [*SCORES, "report"]),
        ({"evaluation": {"bfcl": {"cases_per_category": 5}}}, [*SCORES, "report"]),
    ],
    ids=lambda value: json.dumps(value) if isinstance(value, dict) else "",
)
def test_a_change_of_the_config_changes_what_it_decides(over: dict[str, Any], expected: list[str]) -> None:
    assert changed(experiment(iterations=2), experiment(iterations=2, **over)) == set(expected)


def test_stages_that_train_nothing_depend_on_the_model_alone() -> None:
    none = experiment(iterations=2, warmup={"curriculum": "none"})
    for over in (
        {"seed": 1},
        {"compute": {"dtype": "float32"}},
        {"split": {"validation_fraction": 0.2}},
        {"data": {"type": "bfcl_half", "train_limit": 9}},
        {"warmup": {"curriculum": "none", "lora": {"rank": 8}, "optimizer": {"learning_rate": 1e-3}}},
    ):
        content: dict[str, Any] = {"iterations": 2, "warmup": {"curriculum": "none"}, **over}
        assert not changed(none, experiment(**content)) & set(WARMUP)
    other = experiment(iterations=2, warmup={"curriculum": "none"}, model={"type": "hub", "name": "some/model"})
    assert changed(none, other) >= set(WARMUP)
    assert list(plan(none)["warmup/easy"].origin.inputs) == ["base_model"]
    assert list(plan(none)["warmup/hard"].origin.inputs) == ["base_model", "warmup/medium"]


@pytest.mark.parametrize(("curriculum", "shared"), [("easy", WARMUP[:1]), ("easy_to_medium", WARMUP[:2])])
def test_a_curriculum_that_ends_early_shares_its_stages(curriculum: str, shared: list[str]) -> None:
    whole, early = experiment(iterations=0), experiment(iterations=0, warmup={"curriculum": curriculum})
    assert changed(whole, early) == {*WARMUP, "bfcl/warmup", "report"} - set(shared)


def test_a_mixed_curriculum_trains_in_its_last_stage() -> None:
    none, mixed = (experiment(iterations=2, warmup={"curriculum": c}) for c in ("none", "mixed"))
    assert changed(none, mixed) & {*FRONT, *WARMUP} == {"warmup/hard"}
    assert "splits" in plan(mixed)["warmup/hard"].origin.inputs
    deeper = experiment(iterations=2, warmup={"curriculum": "mixed", "optimizer": {"learning_rate": 1e-3}})
    assert changed(mixed, deeper) == {"warmup/hard", *FROM_WARMUP} - set(WARMUP[:2])


def test_the_adapter_that_starts_afresh_is_made_as_the_config_says() -> None:
    one, two = (experiment(iterations=1, warmup={"curriculum": "none", "lora": {"rank": r}}) for r in (4, 8))
    assert changed(one, two) == {"iteration_1/policy", "bfcl/iteration_1", "report"}


def test_experiments_that_differ_later_share_the_warmup() -> None:
    one = plan(experiment(name="one", preference={"loss": {"type": "dpo"}}, search={"width": 2}, iterations=1))
    two = plan(experiment(name="two", pairs={"max_pairs": 7}, iterations=3))
    shared = {asset for asset in one if one[asset].fingerprint == two[asset].fingerprint}
    assert shared == {*FRONT, *WARMUP, "iteration_1/replay_buffer", "bfcl_cases", "bfcl/base", "bfcl/warmup"}


def test_fewer_iterations_are_the_beginning_of_more() -> None:
    few, many = plan(experiment(iterations=1)), plan(experiment(iterations=3))
    assert {a for a in few if few[a].fingerprint != many[a].fingerprint} == {"champion", "report"}
    assert set(many) - set(few) == {
        f"{group}{k}{step}"
        for k in (2, 3)
        for group, step in [("bfcl/iteration_", ""), *(("iteration_", s.removeprefix("iteration_1")) for s in FIRST)]
    }


@pytest.mark.parametrize(
    ("kind_of_step", "first"),
    [("base_model", "base_model"), ("warmup", "warmup/easy"), ("trees", "iteration_1/trees"), ("scores", "bfcl/base")],
)
def test_a_new_code_version_is_a_new_fingerprint(
    monkeypatch: pytest.MonkeyPatch, kind_of_step: str, first: str
) -> None:
    before = plan(experiment(iterations=2))
    monkeypatch.setitem(CODE_VERSIONS, kind_of_step, "next")
    after = plan(experiment(iterations=2))
    different = [a for a in after if after[a].fingerprint != before[a].fingerprint]
    assert different[0] == first
    assert different[-1] == "report"


@pytest.mark.parametrize(("version", "expected"), [("cases_version", BFCL), ("scores_version", SCORES)])
def test_a_new_version_of_a_benchmark_makes_its_own_assets_anew(
    monkeypatch: pytest.MonkeyPatch, version: str, expected: list[str]
) -> None:
    before = experiment(iterations=2, **ASKED)
    old = {asset: p.fingerprint for asset, p in plan(before).items()}
    monkeypatch.setattr(BfclBenchmark, version, "next")
    assert {a for a, p in plan(before).items() if p.fingerprint != old[a]} == {*expected, "champion", "report"}
    assert code_version(expected[-1]) == code_version("bfcl/base")


def local(path: Path, kind: str = "toolace") -> Experiment:
    return experiment(iterations=2, data={"type": kind, "path": str(path)})


@pytest.mark.parametrize("kind", ["toolace", "xlam", "jsonl"])
def test_another_content_of_a_local_file_is_other_data(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "data.json"
    file.write_text("[]")
    before, content = plan(local(file, kind)), data_content(local(file, kind))
    # sha256 of the two characters `[]`
    assert content == "4f53cda18c2baa0c0354bb5f9a3ecbe5ed12ab4d8e11ba873c2f11161202b945"
    assert before["examples"].fingerprint == plan(local(file, kind))["examples"].fingerprint
    file.write_text("[ ]")
    after = plan(local(file, kind))
    changed = {a for a in after if after[a].fingerprint != before[a].fingerprint}
    assert changed == {*TWO_ITERATIONS, "champion"} - {"base_model", "bfcl_cases", "bfcl/base"}


def examples_section(**data: Any) -> Any:
    return plan(experiment(data={"type": "jsonl", **data}))["examples"].origin.config["data"]


def test_the_layout_of_a_file_is_a_part_of_what_is_read_of_it(tmp_path: Path) -> None:
    """A file of chats has the section that it had before there were layouts, so its artifacts are found again."""
    chats, glaive = tmp_path / "chats.jsonl", tmp_path / "glaive.jsonl"
    chats.write_text(json.dumps(ROWS["openai"]))
    glaive.write_text(json.dumps(ROWS["glaive"]))
    for path in (chats, tmp_path / "absent.jsonl"):
        before = {"type": "jsonl", "path": str(path), "train_limit": None, "max_prompt_tokens": 4096}
        assert examples_section(path=str(path)) == before
        assert examples_section(path=str(path), layout="chat") == before
        assert examples_section(path=str(path), max_quarantined=0.5) == before
    found = examples_section(path=str(glaive))
    assert found["layout"] == "glaive"
    assert examples_section(path=str(glaive), layout="glaive") == found
    assert "layout" not in examples_section(path=str(glaive), layout="chat")


def test_names_of_columns_and_a_set_on_the_hub_are_parts_of_what_is_read(tmp_path: Path) -> None:
    named = examples_section(path="x", columns={"tools": "apis"}, tags={"user_tag": "client"})
    assert named["columns"]["tools"] == "apis"
    assert named["tags"]["user_tag"] == "client"
    on_hub = examples_section(name="owner/set", revision="v1", files="*.parquet")
    assert {key: on_hub[key] for key in ("path", "name", "revision", "files")} == {
        "path": None,
        "name": "owner/set",
        "revision": "v1",
        "files": "*.parquet",
    }
    assert data_content(experiment(data={"type": "jsonl", "name": "owner/set"})) == ""


def test_data_that_is_not_local_has_no_content_of_its_own(tmp_path: Path) -> None:
    assert data_content(experiment()) == ""
    assert data_content(experiment(data={"type": "toolace"})) == ""
    assert data_content(experiment(data={"type": "xlam"})) == ""
    assert data_content(local(tmp_path / "absent.json")) == ""


def test_local_files_of_benchmarks_count_where_they_are_asked_for(tmp_path: Path) -> None:
    (tmp_path / "api_descriptions.json").write_text("[]")
    asked = experiment(evaluation={"api_bank": {"path": str(tmp_path)}})
    assert len(local_content(asked)) == 64
    assert local_content(experiment()) == local_content(experiment(**ASKED)) == ""
    (tmp_path / "data.json").write_text("[]")
    both = experiment(evaluation={"api_bank": {"path": str(tmp_path)}}, data=local(tmp_path / "data.json").data)
    assert local_content(both) == data_content(both) + local_content(asked)


def test_inputs_are_recorded_with_their_fingerprints() -> None:
    planned = plan(experiment(iterations=1))
    assert dict(planned["iteration_1/pairs"].origin.inputs) == {
        name: planned[name].fingerprint for name in ("examples", "iteration_1/trees")
    }
    assert list(planned["report"].origin.inputs) == [
        *("bfcl/base", "bfcl/warmup", "bfcl/iteration_1"),
        *("iteration_1/trees", "iteration_1/pairs"),
    ]


def test_grpo_reads_the_trees_and_nothing_else_does() -> None:
    plain, by_grpo = experiment(iterations=2), experiment(iterations=2, preference={"loss": {"type": "grpo"}})
    inputs = [plan(e)["iteration_2/policy"].origin.inputs for e in (plain, by_grpo)]
    assert {name: found for name, found in inputs[1].items() if name not in inputs[0]} == {
        "iteration_2/trees": plan(by_grpo)["iteration_2/trees"].fingerprint
    }
    assert changed(plain, by_grpo) == {
        *("iteration_1/policy", "bfcl/iteration_1"),
        *(*SECOND, "bfcl/iteration_2", "report"),
    }
    assert "search" in plan(by_grpo)["iteration_1/policy"].origin.config
