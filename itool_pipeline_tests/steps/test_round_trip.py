"""What is served beside what was scored, case by case, with a server of which only its answers are there."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from itool_pipeline.calls.served import SERVED
from itool_pipeline.config import BfclConfig
from itool_pipeline.core.types import Example, Message
from itool_pipeline.data.base_model import SOURCE_FILE
from itool_pipeline.engines.chat import Chat
from itool_pipeline.engines.model import load_tokenizer
from itool_pipeline.engines.tool_server import Serving
from itool_pipeline.steps import models, round_trip
from itool_pipeline.steps.artifact_files import CASES_FILE, POOL_FILE, THOUGHTS_FILE
from itool_pipeline.steps.example_files import write_cases
from itool_pipeline.steps.round_trip import ANSWER, NO_SERVER, PARSER, PROMPT, SAME, scored_calls
from itool_pipeline.steps.thoughts import ROUND, thought_row, write_thoughts
from itool_pipeline.steps.workspace import StepError, Workspace
from itool_pipeline.store.artifacts import Step, reuse_or_make
from itool_pipeline.store.table_files import write_table_file
from itool_pipeline.store.tables import CASES
from itool_pipeline_tests.engines.family_templates import family_templates
from itool_pipeline_tests.steps.by_hand import put, workspace

PYTHON = SERVED["python"].syntax
THINKING = {"thinking": True, "max_thinking_tokens": 12}
TOOLS = tuple({"name": name, "description": "", "parameters": {"type": "dict", "properties": {}}} for name in "fg")


def case(key: str, language: str = "python") -> Example:
    return Example(key, "bfcl", "simple", (Message("user", f"What of {key}?"),), TOOLS, "", (), key, language)


def thinking_model(model_dir: Path, out: Path) -> Path:
    """The model with Qwen3's template."""
    shutil.copytree(model_dir, out)
    tokenizer: Any = load_tokenizer(out)
    tokenizer.chat_template = family_templates()["qwen3"]
    tokenizer.save_pretrained(out)
    return out


SCORED = {
    "same": ("[f(a=1, b=2)]", "[f(a=1, b=2)]", [("f", {"b": 2, "a": 1})]),
    "words": ("No function can.", "No function can.", []),
    "unread": ("[f(a=", "[f(a=", []),
    "parser": ("[f.g(a=1)]", "[f.g(a=1)]", []),
    "answer": ("[f(a=1)]", "[f(a=2)]", [("f", {"a": 2})]),
    "prompt": ("[f(a=1)]", "[f(a=1)]", [("f", {"a": 1})]),
}
"""Case → the answer that was scored, the one that was served, and its calls as the server reads them."""


THOUGHTS = {key: (f"Which of f and g, for {key}?", 9, key != "unread") for key in SCORED}
"""Case → what was thought before its answer, in how many tokens, and whether the model ended it itself."""


@pytest.fixture
def ws(tmp_path: Path, tiny_model_dir: Path) -> Workspace:
    return scored(tmp_path, tiny_model_dir)


def scored(tmp_path: Path, model_dir: Path, **over: Any) -> Workspace:
    """The warm-up of an experiment, scored on the cases."""
    bfcl = {"categories": ("simple_python",)}
    ws = workspace(tmp_path, iterations=0, evaluation={"checkpoints": ("warmup",), "bfcl": bfcl}, **over)
    source = json.dumps({"path": str(model_dir)})
    put(ws, "base_model", lambda directory: (directory / SOURCE_FILE).write_text(source))
    examples = [*map(case, SCORED), case("java", "java")]
    chat = models.chat(ws)
    put(ws, "bfcl_cases", lambda directory: write_cases(directory / POOL_FILE, examples, chat.prompt))
    none = dict.fromkeys(("should_call", "calls", "mistake", "function", "parameter", "expected", "got"))
    rows = [
        {
            **{"checkpoint": "warmup", "checkpoint_artifact": "0", "benchmark": "bfcl", "category": "simple"},
            **{"case_id": one.id, "output": SCORED.get(one.id, ("",))[0], "correct": True},
            **{"error_type": "", "error": "", **none},
        }
        for one in examples
    ]

    def make(step: Step) -> dict[str, Any]:
        write_table_file(step.work / CASES_FILE, CASES, rows)
        if ws.experiment.prompt.thinking:
            thoughts = [{"text": text, "tokens": n, "closed": closed} for text, n, closed in THOUGHTS.values()]
            made = [thought_row(key, ROUND, thought) for key, thought in zip(THOUGHTS, thoughts, strict=True)]
            write_thoughts(step.work / THOUGHTS_FILE, made)
        return {"dtype": "bfloat16", "device": "a processor"}

    planned = ws.planned["bfcl/warmup"]
    reuse_or_make(ws.artifacts, planned.asset, planned.fingerprint, make, origin=planned.origin)
    return ws


@pytest.fixture
def servings(ws: Workspace, monkeypatch: pytest.MonkeyPatch) -> list[Serving]:
    return serve(ws, monkeypatch)


def serve(ws: Workspace, monkeypatch: pytest.MonkeyPatch) -> list[Serving]:
    """What was served; a server that gives the answers of SCORED, behind thoughts where the model has them.

    It answers where it is asked for as many tokens as scoring gave, and no more than it has room for.
    """
    started: list[Serving] = []
    chat = models.chat(ws)
    tokenizer = load_tokenizer(models.base_dir(ws))

    @contextmanager
    def served(python: Path, serving: Serving) -> Iterator[str]:
        started.append(serving)
        yield "url"

    def answers(python: Path, url: str, questions: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
        for asked in questions:
            _, said, calls = SCORED[asked["id"]]
            thinks = THOUGHTS[asked["id"]][1] + len(chat.thoughts.gap) if chat.thoughts is not None else 0
            prompt = chat.begun(chat.prompt(case(asked["id"])))
            thought: list[int] = []
            if chat.thoughts is not None:
                text = f"{THOUGHTS[asked['id']][0]}\n</think>{chat.thoughts.gap}"
                thought = tokenizer.encode(text, add_special_tokens=False)
            assert asked["max_tokens"] == thinks + BfclConfig().max_new_tokens
            assert len(prompt) + asked["max_tokens"] <= started[-1].context
            yield {
                "id": asked["id"],
                "content": "",
                "calls": [{"name": name, "arguments": json.dumps(arguments)} for name, arguments in calls],
                "prompt_ids": prompt[:-1] if asked["id"] == "prompt" else list(prompt),
                "answer_ids": (*thought, *chat.response(said)),
            }

    monkeypatch.setattr(round_trip, "server_python", lambda: Path("python"))
    monkeypatch.setattr(round_trip, "served", served)
    monkeypatch.setattr(round_trip, "answers", answers)
    return started


def test_each_disagreement_is_told_by_its_kind(ws: Workspace, servings: list[Serving], tmp_path: Path) -> None:
    found = round_trip.round_trip(ws, tmp_path, "warmup", own_parser=False)
    counts = {outcome: found.counts[outcome] for outcome in round_trip.OUTCOMES}
    assert counts == {SAME: 3, PARSER: 1, ANSWER: 1, PROMPT: 1}
    assert [problem.partition(":")[0] for problem in found.problems] == ["parser", "answer", "prompt"]
    assert "scored '[f.g(a=1)]', served '[f.g(a=1)]', as calls []" in found.problems[0]
    (serving,) = servings
    assert (serving.parser, serving.plugin, serving.dtype) == ("pythonic", None, "bfloat16")
    assert serving.context >= BfclConfig().max_new_tokens


def test_thoughts_are_parted_from_what_is_compared(
    tmp_path: Path, tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As before, but for the case whose thoughts the model did not end: a server would let it think on."""
    ws = scored(tmp_path, thinking_model(tiny_model_dir, tmp_path / "model"), prompt=THINKING)
    servings = serve(ws, monkeypatch)
    found = round_trip.round_trip(ws, tmp_path, "warmup", own_parser=False)
    counts = {outcome: found.counts[outcome] for outcome in round_trip.OUTCOMES}
    assert counts == {SAME: 2, PARSER: 1, ANSWER: 1, PROMPT: 1}
    assert [problem.partition(":")[0] for problem in found.problems] == ["parser", "answer", "prompt"]
    assert "scored '[f.g(a=1)]', served '[f.g(a=1)]', as calls []" in found.problems[0]
    assert [(serving.thoughts, serving.parser) for serving in servings] == [("deepseek_r1", "itool")], (
        "vLLM's `pythonic` reads no call behind thoughts"
    )


def test_thoughts_that_never_end_leave_nothing_to_compare(
    tmp_path: Path, tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(globals(), "THOUGHTS", {key: (text, n, False) for key, (text, n, _) in THOUGHTS.items()})
    ws = scored(tmp_path, thinking_model(tiny_model_dir, tmp_path / "model"), prompt=THINKING)
    assert not serve(ws, monkeypatch)
    with pytest.raises(StepError, match=r"no case of one turn with thoughts that end within prompt\.max_thinking"):
        round_trip.round_trip(ws, tmp_path, "warmup", own_parser=False)


def test_thoughts_that_no_parser_is_known_for(
    tmp_path: Path, tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ws = scored(tmp_path, thinking_model(tiny_model_dir, tmp_path / "model"), prompt=THINKING)
    servings = serve(ws, monkeypatch)
    monkeypatch.setattr(round_trip, "REASONING_PARSERS", {})
    found = round_trip.round_trip(ws, tmp_path, "warmup", own_parser=False)
    assert found.problems == [
        "nothing was served: no parser of vLLM's is known here for thoughts that end with </think>"
    ]
    assert not servings


def test_the_exports_own_parser_may_read(ws: Workspace, servings: list[Serving], tmp_path: Path) -> None:
    round_trip.round_trip(ws, tmp_path, "warmup", own_parser=True)
    assert (servings[0].parser, servings[0].plugin) == ("itool", tmp_path / "tool_parser.py")


def test_an_export_without_a_parser_of_its_own(ws: Workspace, servings: list[Serving], tmp_path: Path) -> None:
    prompt = ws.experiment.prompt.model_copy(update={"calls": "hermes"})
    hermes = replace(ws, experiment=ws.experiment.model_copy(update={"prompt": prompt}))
    with pytest.raises(StepError, match="brings no parser of its own, for vLLM's `hermes` reads them"):
        round_trip.round_trip(hermes, tmp_path, "warmup", own_parser=True)
    assert not servings


def test_without_a_server_it_says_so_and_is_not_green(
    ws: Workspace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(round_trip, "server_python", lambda: None)
    assert round_trip.round_trip(ws, tmp_path, "warmup", own_parser=False).problems == [NO_SERVER]


def test_what_was_not_scored_cannot_be_compared(ws: Workspace, servings: list[Serving], tmp_path: Path) -> None:
    with pytest.raises(StepError, match="base was scored on no case of one turn"):
        round_trip.round_trip(ws, tmp_path, "base", own_parser=False)


def test_scored_calls_are_as_the_verdict_reads_them() -> None:
    """Without arguments that have no name, which the official decoder drops."""
    assert scored_calls('[f(1, a="x"), g()]', case("c"), PYTHON) == [["f", {"a": "x"}], ["g", {}]]
    assert scored_calls("[f(a=", case("c"), PYTHON) == []


def test_earlier_calls_go_to_the_server_as_clients_send_them(ws: Workspace) -> None:
    earlier = (Message("user", "q"), Message("assistant", "[f(a=1)]"), Message("tool", "7"))
    example = Example("e", "bfcl", "simple", earlier, TOOLS, "", (), "e")
    template: Chat = models.chat(ws)
    asked = round_trip._question(example, template, SERVED["python"], 9)
    assert asked["messages"][1]["tool_calls"][0]["function"] == {"name": "f", "arguments": '{"a": 1}'}
