"""A small experiment in each syntax that writes JSON, through the real steps on a tiny random model.

The model's template is a real family's, and the syntax is found by it (`prompt.calls: auto`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from itool_pipeline.benchmarks.api_bank.benchmark import ApiBankBenchmark
from itool_pipeline.benchmarks.api_bank.dialogues import load_api_bank
from itool_pipeline.benchmarks.bfcl.benchmark import BfclBenchmark
from itool_pipeline.benchmarks.own_calls.benchmark import OwnCallsBenchmark
from itool_pipeline.benchmarks.types import Benchmark
from itool_pipeline.calls.syntaxes import syntax_named
from itool_pipeline.core.types import Example
from itool_pipeline.data.bfcl import load_bfcl
from itool_pipeline.data.rows import Rows
from itool_pipeline.steps import cases, models, policy, prepare, scoring
from itool_pipeline.steps.artifact_files import AGGREGATES_FILE, CASES_FILE, PAIRS_FILE, POOL_FILE, TRAIN_FILE
from itool_pipeline.steps.examinee import ModelExaminee
from itool_pipeline.steps.example_files import read_examples
from itool_pipeline.steps.plan import plan
from itool_pipeline.steps.workspace import Workspace
from itool_pipeline.store.table_files import read_table_rows
from itool_pipeline_tests.benchmarks.api_bank.test_dialogues import BY_HAND
from itool_pipeline_tests.engines.family_templates import WRITTEN, control_tokens, family_templates
from itool_pipeline_tests.steps.by_hand import experiment, workspace
from itool_pipeline_tests.steps.without_model import searched, warm_up

pytestmark = pytest.mark.slow

TEMPLATES = {"hermes": "qwen2_5", "llama3_json": "llama3_1"}
OPTIMIZER = {"learning_rate": 1e-3, "epochs": 1, "batch_size": 4}
TOOL = {
    "name": "find_book",
    "description": "Finds books.",
    "parameters": {
        "type": "object",
        "properties": {
            "title": {"type": "string"},
            "pages": {"type": "integer"},
            "lent": {"type": "boolean"},
            "shelves": {"type": "array", "items": {"type": "string"}},
        },
        "required": ["title"],
    },
}


def call(**arguments: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": "find_book", "arguments": arguments}}


def conversation(number: int, kind: str) -> dict[str, Any]:
    """Two turns: calls with a result, then a call, or words."""
    first = [call(title=f"Oak; {kind} {number}", lent=number % 2 == 0, shelves=["a, b", '"']), call(title="Ash")]
    last = {"role": "assistant", "tool_calls": [call(title=f"Elm {number}", pages=number)]}
    if number % 2:
        last = {"role": "assistant", "content": "I cannot do that."}
    return {
        "messages": [
            {"role": "user", "content": f"Is there a {kind} of oaks, number {number}, and one of ashes?"},
            {"role": "assistant", "content": None, "tool_calls": first},
            {"role": "tool", "content": '{"found": 2}'},
            {"role": "user", "content": f"And which {kind} has {number} pages on elms?"},
            last,
        ],
        "tools": [{"type": "function", "function": TOOL}],
    }


def written_rows(file: Path, kind: str, count: int) -> str:
    file.write_text("".join(json.dumps(conversation(number, kind)) + "\n" for number in range(count)))
    return str(file)


@pytest.fixture(params=TEMPLATES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def model_dir(base_model_dir: Path, tmp_path: Path, name: str) -> Path:
    """A random Llama with a family's template and the tokens that it writes."""
    tokenizer: Any = AutoTokenizer.from_pretrained(base_model_dir)
    special = [*control_tokens(), "<|python_tag|>"]
    tokenizer.add_special_tokens({"bos_token": "<s>", "additional_special_tokens": special})
    tokenizer.add_tokens(list(WRITTEN))
    tokenizer.chat_template = family_templates()[TEMPLATES[name]]
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=4096,
        eos_token_id=tokenizer.eos_token_id,
    )
    directory = tmp_path / "model"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        LlamaForCausalLM(config).save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


@pytest.fixture
def ws(
    tmp_path: Path, model_dir: Path, downloads_dir: Path, bfcl_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> Workspace:
    known = load_bfcl(bfcl_dir, ["simple_python", "parallel", "irrelevance"]).examples
    some = Rows(tuple(e for e in known if e.id.endswith(("_3", "_4", "_5"))), ())
    monkeypatch.setattr(BfclBenchmark, "load_cases", lambda *_: some)
    made = workspace(
        tmp_path / "storage",
        model={"type": "hub", "name": str(model_dir)},
        compute={"device": "cpu", "dtype": "float32"},
        data={"type": "jsonl", "path": written_rows(tmp_path / "train.jsonl", "novel", 6)},
        prompt={"calls": "auto"},
        iterations=1,
        split={"validation_fraction": 0.0},
        warmup={"curriculum": "mixed", "lora": {"rank": 4}, "optimizer": OPTIMIZER},
        replay_buffer={"fraction": 1.0, "top_fraction": 1.0},
        search={"guide": "gold", "iterations": 8, "max_fragment_tokens": 40, "max_response_tokens": 90},
        pairs={"min_q_difference": 0.01, "min_chosen_q": -1.0, "balance": "by_call"},
        preference={"quantization": "none", "optimizer": OPTIMIZER},
        evaluation={
            "bfcl": {"categories": ("simple_python", "parallel", "irrelevance"), "max_new_tokens": 64},
            "calls": {"path": written_rows(tmp_path / "held_out.jsonl", "poem", 4)},
            "api_bank": {"path": str(BY_HAND), "max_prompt_tokens": 4000, "max_new_tokens": 64},
        },
    )
    made.paths.root.mkdir()
    made.paths.downloads.symlink_to(downloads_dir.resolve())
    return made


def answered(ws: Workspace, benchmark: str) -> dict[str, Example]:
    pool = ws.input(f"{benchmark}_cases").file(POOL_FILE)
    return {example.id: example for example in read_examples(pool)}


def test_from_examples_to_scores(ws: Workspace, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    syntax = syntax_named(name)
    for step in (prepare.base_model, prepare.examples, prepare.splits):
        step(ws)
    template = models.chat(ws)
    assert models.call_syntax(ws) is template.syntax is syntax
    assert template.is_untouched
    trained = list(read_examples(ws.input("examples").file(TRAIN_FILE)))
    assert len(trained) == 12
    for example in trained:
        begun, error = syntax.finished_calls(example.response)
        assert len(begun) == len(example.gold)
        assert error is None or syntax.is_plain_text(example.response)
        assert "find_book(" not in example.response + "".join(m.content for m in example.messages)
    warm_up(ws)
    nodes = searched(ws)
    assert len({node["tree_id"] for node in nodes}) == 12
    texts = {node["prefix"] + node["fragment"] for node in nodes}
    assert any(syntax.has_begun_call(text) and syntax.finished_calls(text)[0] for text in texts)
    assert any(node["correct"] for node in nodes), "the gold answers' own nodes"
    pairs = [row for row in read_table_rows(ws.input("iteration_1/pairs").file(PAIRS_FILE)) if row["kept"]]
    assert pairs
    assert policy.policy(ws, 1).artifact.manifest.metadata["pairs"] == len(pairs)
    for benchmark in (BfclBenchmark(), OwnCallsBenchmark()):
        cases.benchmark_cases(ws, benchmark)
        rows = scored(ws, benchmark, "iteration_1", gold_answers(ws, benchmark), monkeypatch)
        assert [row["case_id"] for row in rows if not row["correct"]] == []
        assert all(row["calls"] is row["should_call"] for row in rows)
    score_api_bank(ws, monkeypatch)


def score_api_bank(ws: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who says the gold answers gets every case right and exact; who says them in Python's syntax calls nothing."""
    benchmark, syntax = ApiBankBenchmark(), models.call_syntax(ws)
    cases.benchmark_cases(ws, benchmark)
    said = gold_answers(ws, benchmark)
    python = {case.id: case.response for case in load_api_bank(BY_HAND).examples}
    pool = answered(ws, "api_bank")
    names = {gold.name for case in pool.values() for gold in case.gold}
    earlier = [m.content for case in pool.values() for m in case.messages if m.role == "assistant"]
    assert sum(syntax.has_begun_call(text) for text in earlier) >= 8
    assert not any(f"{name}(" in text for text in [*earlier, *said.values()] for name in names)
    right = scored(ws, benchmark, "iteration_1", said, monkeypatch)
    assert [row["case_id"] for row in right if not row["correct"] or not row["calls"]] == []
    exact = [row for row in aggregates(ws, "api_bank/iteration_1") if row["rule"] == "exact"]
    assert {row["part"] for row in exact} == {"overall", "level_1", "level_2"}
    assert all(row["accuracy"] == 1.0 for row in exact)
    wrong = scored(ws, benchmark, "base", python, monkeypatch)
    assert {(row["correct"], row["error_type"], row["calls"]) for row in wrong} == {(False, "no_call", False)}


def gold_answers(ws: Workspace, benchmark: Benchmark[Any]) -> dict[str, str]:
    """Case → its gold answer, as it is once it went through the tokens of a response."""
    template = models.chat(ws)
    return {key: template.text(template.response(e.response)) for key, e in answered(ws, benchmark.name).items()}


def scored(
    ws: Workspace, benchmark: Benchmark[Any], checkpoint: str, said: Mapping[str, str], monkeypatch: pytest.MonkeyPatch
) -> list[dict[str, Any]]:
    """The rows of a model that gives these answers, one for each case."""

    def each_answer(self: ModelExaminee, prompts: Mapping[str, tuple[int, ...]]) -> Iterator[tuple[str, str]]:
        yield from ((key, said[key]) for key in prompts)

    monkeypatch.setattr(ModelExaminee, "each_answer", each_answer)
    made = scoring.score_checkpoint(ws, benchmark, checkpoint).artifact
    rows = list(read_table_rows(made.file(CASES_FILE)))
    assert len(rows) == len(said) >= 8
    return rows


def aggregates(ws: Workspace, asset: str) -> list[dict[str, Any]]:
    return list(read_table_rows(ws.input(asset).file(AGGREGATES_FILE)))


def test_a_syntax_that_is_named_is_another_experiment() -> None:
    """Python's calls have the fingerprints that they had before there were others."""
    plain, named = (plan(experiment(prompt=p)) for p in ({"tools": "auto"}, {"tools": "auto", "calls": "python"}))
    assert plain == named
    assert dict(plain["examples"].origin.config["prompt"]) == {"tools": "auto"}
    for calls in ("hermes", "llama3_json", "auto"):
        other = plan(experiment(prompt={"calls": calls}))
        same = {asset for asset in plain if other[asset].fingerprint == plain[asset].fingerprint}
        assert same == {"base_model"}


def test_pairs_ask_the_template_where_it_says_how_calls_are_written() -> None:
    inputs = {
        calls: plan(experiment(prompt={"calls": calls}))["iteration_1/pairs"].origin.inputs
        for calls in ("auto", "hermes")
    }
    assert set(inputs["auto"]) - set(inputs["hermes"]) == {"base_model"}
