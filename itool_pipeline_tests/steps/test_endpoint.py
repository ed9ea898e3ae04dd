"""A served model through the steps: what it is asked, what is kept, what is paid, and that its key is nowhere."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from itool_pipeline.benchmarks.bfcl.multi_turn_cases import load_multi_turn
from itool_pipeline.benchmarks.registry import BENCHMARKS
from itool_pipeline.calls.reading import parse_calls
from itool_pipeline.data.bfcl import load_bfcl
from itool_pipeline.engines.endpoint.messages import FunctionNames
from itool_pipeline.engines.model_config import ModelError
from itool_pipeline.experiment_files import ConfigError, load_experiment
from itool_pipeline.steps import prepare
from itool_pipeline.steps.artifact_files import POOL_FILE
from itool_pipeline.steps.cases import benchmark_cases, drawn_cases, read_pool
from itool_pipeline.steps.plan import plan
from itool_pipeline.steps.preflight import obstacles
from itool_pipeline.steps.report import report
from itool_pipeline.steps.scoring import score_checkpoint
from itool_pipeline.steps.workspace import Produced, Workspace
from itool_pipeline.store.paths import StoragePaths
from itool_pipeline.store.table_files import read_table_rows
from itool_pipeline_tests.benchmarks.bfcl.conversation_cases import gold_script
from itool_pipeline_tests.engines.endpoint.served import Sent, Server, said, serving
from itool_pipeline_tests.steps.by_hand import experiment, workspace

KEY = "sk-0123456789abcdef"
(BFCL,) = (benchmark for benchmark in BENCHMARKS if benchmark.name == "bfcl")
ONLY_ASKED: dict[str, Any] = {"warmup": {"curriculum": "none"}, "iterations": 0}
ASKED: dict[str, Any] = {"categories": ("simple_python", "multiple", "irrelevance"), "cases_per_category": 4}


@pytest.fixture
def server(bfcl_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Answers every question of one turn with the gold calls."""
    monkeypatch.setenv("THE_KEY", KEY)
    gold = {x.question: x for x in load_bfcl(bfcl_dir, ASKED["categories"]).examples}

    def answer(request: dict[str, Any]) -> Sent:
        asked = gold[request["messages"][-1]["content"]]
        if not asked.gold:
            return said("I cannot do that.")
        names = FunctionNames.of(asked.tools)
        offered = {tool["function"]["name"] for tool in request["tools"]}
        calls = [(names.their(c.name), json.dumps(c.arguments)) for c in parse_calls(asked.response)]
        assert {name for name, _ in calls} <= offered
        return said(calls=calls)

    with serving(answer) as made:
        yield made


def asking(root: Path, downloads: Path, server: Server, *, bfcl: Mapping[str, Any] = ASKED, **model: Any) -> Workspace:
    content = {"type": "endpoint", "base_url": server.base_url, "name": "served", "api_key_env": "THE_KEY", **model}
    root.mkdir(exist_ok=True)
    if not (root / "downloads").exists():
        (root / "downloads").symlink_to(downloads.resolve())
    return workspace(root, model=content, **ONLY_ASKED, evaluation={"bfcl": dict(bfcl), "checkpoints": ("base",)})


def scored(ws: Workspace) -> Produced:
    prepare.base_model(ws)
    benchmark_cases(ws, BFCL)
    return score_checkpoint(ws, BFCL, "base")


def test_gold_answers_are_all_right_and_the_key_is_nowhere(tmp_path: Path, downloads_dir: Path, server: Server) -> None:
    ws = asking(tmp_path, downloads_dir, server, prompt_price=1.0, completion_price=10.0)
    assert list(ws.planned) == ["base_model", "bfcl_cases", "bfcl/base", "champion", "report"]
    made = scored(ws)
    told = made.artifact.manifest.metadata
    assert (told["correct"], told["cases"]) == (12, 12)
    assert (told["prompt_tokens"], told["completion_tokens"], told["cost"]) == (1200, 120, pytest.approx(0.0024))
    assert len(server.asked) == 12
    assert set(server.keys) == {f"Bearer {KEY}"}
    page = report(ws).artifact.file("report.md").read_text()
    assert "12" in page
    files = [file for file in tmp_path.rglob("*") if file.is_file() and "downloads" not in file.parts]
    assert any(file.name == "itool.duckdb" for file in files)
    assert [file for file in files if KEY.encode() in file.read_bytes()] == []


def test_a_run_that_ends_early_keeps_every_answer(tmp_path: Path, downloads_dir: Path, server: Server) -> None:
    whole, answered = server.answer, list[Any]()

    def until(last: int) -> Callable[[dict[str, Any]], Sent]:
        def answer(request: dict[str, Any]) -> Sent:
            if len(answered) == last:
                return Sent("no more", 400)
            answered.append(request["messages"])
            return whole(request)

        return answer

    server.answer = until(5)
    ws = asking(tmp_path, downloads_dir, server, concurrency=1)
    with pytest.raises(ModelError, match=r"refuses case .* with HTTP 400: .*no more"):
        scored(ws)
    server.answer = until(10**9)
    told = scored(asking(tmp_path, downloads_dir, server)).artifact.manifest.metadata
    assert (told["correct"], told["cases"], told["prompt_tokens"]) == (12, 12, 1200)
    assert len(answered) == 12, "nothing was asked twice"


def test_the_bound_holds_over_runs(tmp_path: Path, downloads_dir: Path, server: Server) -> None:
    asked = list[int]()
    for concurrency in (4, 1, 1):
        bound = {"max_total_tokens": 3000, "concurrency": concurrency}
        with pytest.raises(ModelError, match=r"max_total_tokens: .* bound of 3000 tokens: \d+ tokens are spent"):
            scored(asking(tmp_path, downloads_dir, server, bfcl={**ASKED, "cases_per_category": 200}, **bound))
        asked.append(len(server.asked))
    together, one_by_one, again = asked
    assert 0 < together < one_by_one <= 3000 // 110
    assert again == one_by_one, "the next request did not fit before, and does not now"


def test_our_own_prompt_is_answered_by_text(tmp_path: Path, downloads_dir: Path, server: Server) -> None:
    server.answer = lambda request: said("[made_up(a=1)]")
    assert not any("tools" in request for request in server.asked)
    told = scored(asking(tmp_path, downloads_dir, server, tools="prompt")).artifact.manifest.metadata
    assert (told["correct"], told["cases"]) == (0, 12)
    assert all("Functions:" in request["messages"][0]["content"] for request in server.asked)


@pytest.mark.slow
def test_the_same_cases_are_drawn_as_of_the_model_whose_tokenizer_measures(
    tmp_path: Path, downloads_dir: Path, server: Server, tiny_model_dir: Path
) -> None:
    bfcl = {**ASKED, "cases_per_category": 40, "max_prompt_tokens": 300}
    local: Any = {"type": "hub", "name": str(tiny_model_dir)}

    def drawn(ws: Workspace) -> list[str]:
        prepare.base_model(ws)
        benchmark_cases(ws, BFCL)
        return [case.id for case in drawn_cases(ws, BFCL, read_pool(ws, BFCL)).cases]

    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "downloads").symlink_to(downloads_dir.resolve())
    own = workspace(tmp_path / "own", model=local, evaluation={"bfcl": bfcl})
    same = asking(tmp_path / "same", downloads_dir, server, bfcl=bfcl, tokenizer=local)
    assert drawn(same) == drawn(own)
    guessed = asking(tmp_path / "guessed", downloads_dir, server, bfcl=bfcl)
    assert set(drawn(guessed)) != set(drawn(own)), "the test could not tell"
    rows = read_table_rows(guessed.input("bfcl_cases").file(POOL_FILE), ["prompt_tokens", "prompt_ids"])
    assert all(row["prompt_tokens"] > 0 and row["prompt_ids"] is None for row in rows)


def test_a_conversation_has_its_results_and_its_added_tools(
    tmp_path: Path, downloads_dir: Path, bfcl_dir: Path, server: Server
) -> None:
    category = "multi_turn_miss_func"
    cases = {case.id: case for case in load_multi_turn(bfcl_dir, [category])}
    scripts = {key: list(chain.from_iterable(gold_script(case, one_by_one=True))) for key, case in cases.items()}
    first = {case.turns[0][0].content: key for key, case in cases.items() if case.turns[0]}

    def answer(request: dict[str, Any]) -> Sent:
        messages = request["messages"]
        key = first[next(m["content"] for m in messages if m["role"] == "user")]
        text = scripts[key][sum(m["role"] == "assistant" for m in messages)]
        if not text.startswith("["):
            return said(text)
        offered = {tool["function"]["name"] for tool in request["tools"]}
        calls = [(call.name, json.dumps(call.arguments)) for call in parse_calls(text)]
        assert {name for name, _ in calls} <= offered, "also what was added only now"
        return said(calls=calls)

    server.answer = answer
    asked = {"categories": (category,), "conversations_per_category": 3, "max_context_tokens": 100_000}
    told = scored(asking(tmp_path, downloads_dir, server, bfcl=asked)).artifact.manifest.metadata
    assert told["cases"] == 3
    assert told["correct"] == 3
    results = [m for request in server.asked for m in request["messages"] if m["role"] == "tool"]
    assert results
    assert all(m["content"] for m in results)
    handed = [m["content"] for m in server.asked[-1]["messages"] if m["role"] == "user"]
    assert any("updated some more functions" in text for text in handed) or len(server.asked) > 3
    assert not any("'parameters'" in text for text in handed), "tools are not written in messages"


def of_endpoint(**over: Any) -> dict[str, Any]:
    model = {"type": "endpoint", "base_url": "http://localhost:1/v1", "name": "m", **over}
    return {"model": model, **ONLY_ASKED, "evaluation": {"bfcl": ASKED, "checkpoints": ("base",)}}


@pytest.mark.parametrize(
    ("over", "words"),
    [
        ({"iterations": 2}, "it cannot be searched with or trained: set iterations: 0"),
        ({"warmup": {}}, "it cannot be warmed up: set warmup: {curriculum: none}"),
        ({"evaluation": {"bfcl": ASKED, "checkpoints": ("warmup",)}}, "set evaluation.checkpoints: [base]"),
        ({"evaluation": {"checkpoints": ("base",)}}, "languages of simple_java, simple_javascript: leave"),
    ],
)
def test_what_it_cannot_do_is_refused_by_name(over: dict[str, Any], words: str) -> None:
    experiment(**of_endpoint())
    with pytest.raises(ValueError, match="endpoint answers the benchmarks and nothing else") as caught:
        experiment(**{**of_endpoint(), **over})
    assert words in str(caught.value)


@pytest.mark.parametrize("url", ["localhost:8000", "http://user:password@host/v1", "http://host/v1?key=x", ""])
def test_an_address_holds_no_secrets(url: str) -> None:
    with pytest.raises(ValueError, match="base_url"):
        experiment(**of_endpoint(base_url=url))


def test_by_text_other_languages_are_asked_too() -> None:
    made = experiment(**{**of_endpoint(tools="prompt"), "evaluation": {}})
    assert made.scored_checkpoints() == ("base",)


def test_who_it_is_decides_the_fingerprints_and_how_it_is_asked_does_not() -> None:
    def prints(**over: Any) -> list[str]:
        return [planned.fingerprint for planned in plan(experiment(**of_endpoint(**over))).values()]

    usual = prints()
    for other in ({"name": "n"}, {"base_url": "http://b/v1"}, {"revision": "May"}, {"tools": "prompt"}):
        assert not set(prints(**other)) & set(usual)
    how = {"api_key_env": "K", "concurrency": 1, "requests_per_minute": 1.0, "timeout_seconds": 1.0, "retries": 0}
    assert prints(**how, max_total_tokens=1, prompt_price=1.0, completion_price=1.0, max_cost=1.0) == usual


def test_a_key_that_is_missing_is_told_before_anything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("THE_KEY", raising=False)
    said = obstacles(experiment(**of_endpoint(api_key_env="THE_KEY")), StoragePaths(tmp_path))
    assert len(said) == 1
    assert "THE_KEY, and that variable is not set" in said[0]
    assert obstacles(experiment(**of_endpoint()), StoragePaths(tmp_path)) == []


def test_the_page_of_the_documents_is_a_valid_experiment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (Path(__file__).parents[2] / "docs" / "endpoints.md").read_text()
    (tmp_path / "hosted.yaml").write_text(text.split("```yaml\n")[1].split("```")[0])
    demo = load_experiment("demo")
    monkeypatch.setenv("ITOOL_EXPERIMENTS", str(tmp_path))
    hosted = load_experiment("hosted")
    assert (hosted.evaluation.bfcl, hosted.data, hosted.seed) == (demo.evaluation.bfcl, demo.data, demo.seed)
    (tmp_path / "wrong.yaml").write_text("extends: hosted\niterations: 1\n")
    with pytest.raises(ConfigError, match="set iterations: 0"):
        load_experiment("wrong")
