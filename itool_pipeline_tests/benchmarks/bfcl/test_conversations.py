"""Multi-turn conversations: our way to execute calls against the official one, the loop, and the verdict."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from itool_pipeline.benchmarks.bfcl import conversations as mt
from itool_pipeline.benchmarks.bfcl.conversation_tools import World
from itool_pipeline.benchmarks.bfcl.conversations import Conversation, MultiTurnBenchmark, hold, tools_sandbox
from itool_pipeline.benchmarks.bfcl.multi_turn_cases import MultiTurnCase, load_multi_turn
from itool_pipeline.benchmarks.bfcl.official_code import OfficialMultiTurn, official_multi_turn
from itool_pipeline.benchmarks.sandbox.sandbox import Limits
from itool_pipeline.core.types import Message
from itool_pipeline_tests.benchmarks.bfcl.conversation_cases import gold_script, mutated_script, responding

MORE_STEPS_THAN_ALLOWED = {"multi_turn_long_context_38", "multi_turn_long_context_46"}
"""Conversations with a turn of more than twenty expected calls."""

_numbers = itertools.count()


@pytest.fixture(scope="module")
def official(bfcl_dir: Path) -> OfficialMultiTurn:
    return official_multi_turn(bfcl_dir)


@pytest.fixture(scope="module")
def cases(bfcl_dir: Path) -> dict[str, MultiTurnCase]:
    return {case.id: case for case in load_multi_turn(bfcl_dir)}


@pytest.fixture(scope="module")
def benchmark_(bfcl_dir: Path) -> Iterator[MultiTurnBenchmark]:
    with tools_sandbox(bfcl_dir, Limits(cpu_seconds=2)) as sandbox:
        yield MultiTurnBenchmark.of(bfcl_dir, sandbox)


def arguments(case: MultiTurnCase) -> dict[str, Any]:
    return {
        "initial_config": case.world["initial_config"],
        "involved_classes": case.world["involved_classes"],
        "test_entry_id": case.id,
        "long_context": "long_context" in case.id,
    }


def public(instance: Any) -> dict[str, Any]:
    return {name: value for name, value in vars(instance).items() if not name.startswith("_")}


def test_every_expected_call_gives_what_the_official_helper_gives(
    official: OfficialMultiTurn, cases: dict[str, MultiTurnCase]
) -> None:
    assert len(cases) == 800
    name, calls = f"equal_{next(_numbers)}", 0
    for case in cases.values():
        world = World(official)
        for turn in case.ground_truth:
            ours, instances = world.execute(turn, model_name=name, **arguments(case))
            theirs, official_instances = official.execution.execute_multi_turn_func_call(
                list(turn), model_name=name, **arguments(case)
            )
            assert ours == theirs, case.id
            assert {key: public(value) for key, value in instances.items()} == {
                key: public(value) for key, value in official_instances.items()
            }
            calls += len(turn)
    assert calls == 4625


@pytest.mark.parametrize(
    "answer",
    [
        "[pwd()]",
        "[ls(a=True), cd(folder='nowhere')]",
        "[echo(content=pwd())]",
        "[echo(content=pwd(a=1))]",
        "[echo(content='ls() and pwd (now)')]",
        "[echo(content='x', file_name='new (1).txt')]",
        "[find(path='.', name='test'), find(name='zzz')]",
        "[mean(numbers=[1, 2.5, -3])]",
        "[mean(numbers=(1, 2))]",
        "[mean(numbers={'a': 1})]",
        "[mean(numbers={'a': {'b': 1}})]",
        "[mean(numbers=1e999)]",
        "[mean(numbers=-1)]",
        "[mean(numbers=[True, None])]",
        "[mean(nothing=1)]",
        "[mean()]",
        "[mean([1, 2])]",
        "[mean(numbers=2j)]",
        "[mean(numbers=b'ab')]",
        "[mean(numbers=...)]",
        "[divide(a=1, b=0)]",
        "[divide(a='x', b=[1])]",
        "[unknown(a=1)]",
        "[GorillaFileSystem.pwd()]",
        "[pwd.pwd()]",
        "[kill(pid=1), exit(), a.run()]",
        "[_load_scenario(scenario={'root': 1})]",
        "[logarithm(value=8, base=2, precision=10)]",
        "[echo(**{'content': 'x'})]",
        "[echo(content=mean(numbers=[1]), file_name=pwd(x=2))]",
    ],
)
def test_odd_calls_give_what_the_official_helper_gives(
    official: OfficialMultiTurn, cases: dict[str, MultiTurnCase], answer: str
) -> None:
    case = next(c for c in cases.values() if {"GorillaFileSystem", "MathAPI"} <= {*c.world["involved_classes"]})
    calls = mt.decode(official, answer)
    assert calls
    name = f"odd_{next(_numbers)}"
    ours, _ = World(official).execute(calls, model_name=name, **arguments(case))
    theirs, _ = official.execution.execute_multi_turn_func_call(calls, model_name=name, **arguments(case))
    assert ours == theirs


@pytest.mark.parametrize(
    ("call", "result"),
    [
        ("print('x')", "name 'print' is not defined"),
        ("open(file='/etc/passwd')", "name 'open' is not defined"),
        ("json.dumps(1)", "name 'json' is not defined"),
        ("copy", "name 'copy' is not defined"),
        ("__import__('os').system('true')", "not the name of a function: __import__('os')"),
        ("__import__('os')", "name '__import__' is not defined"),
        ("pwd().__class__", "malformed node or string"),
        ("[x for x in (1, 2)]", "malformed node or string"),
        ("(lambda: 1)()", "not the name of a function"),
        ("n_multi_turn_base_0_GorillaFileSystem_instance._load_scenario({})", "has no method '_load_scenario'"),
        ("n_multi_turn_base_0_GorillaFileSystem_instance.root('x')", "has no method 'root'"),
        ("n_multi_turn_base_0_GorillaFileSystem_instance.__class__()", "has no method '__class__'"),
        ("f'{1}'", "malformed node or string"),
    ],
)
def test_nothing_but_methods_can_be_called(
    official: OfficialMultiTurn, cases: dict[str, MultiTurnCase], call: str, result: str
) -> None:
    (ours,), _ = World(official).execute([call], model_name="n", **arguments(cases["multi_turn_base_0"]))
    assert ours.startswith("Error during execution: ")
    assert result in ours


def official_verdict(official: OfficialMultiTurn, case: MultiTurnCase, result: list[list[str]]) -> dict[str, Any]:
    """The whole official chain in this process. Only for answers that are known to be harmless."""
    turns = [[calls for text in turn if (calls := mt.decode(official, text))] for turn in result]
    vars(official.checker)["execute_multi_turn_func_call"] = official.execution.execute_multi_turn_func_call
    entry = {"id": case.id, **case.world}
    verdict: dict[str, Any] = official.checker.multi_turn_checker(
        turns, [list(turn) for turn in case.ground_truth], entry, case.category, f"chain_{next(_numbers)}"
    )
    return verdict


def replay(benchmark: MultiTurnBenchmark, cases: list[MultiTurnCase], *, one_by_one: bool) -> set[str]:
    """The conversations that the expected calls do not win."""
    scripts = {case.id: gold_script(case, one_by_one=one_by_one) for case in cases}
    results = hold(benchmark, cases, responding(scripts))
    return {case.id for case in cases if not benchmark.check(case, results[case.id]).correct}


def test_the_expected_calls_are_judged_correct(benchmark_: MultiTurnBenchmark, cases: dict[str, MultiTurnCase]) -> None:
    sample = [*list(cases.values())[::25], cases["multi_turn_long_context_38"]]
    assert replay(benchmark_, sample, one_by_one=False) == set()
    assert replay(benchmark_, sample, one_by_one=True) == {"multi_turn_long_context_38"}


@pytest.mark.fuzz
@pytest.mark.parametrize("one_by_one", [False, True])
def test_all_expected_calls_are_judged_correct(
    benchmark_: MultiTurnBenchmark, cases: dict[str, MultiTurnCase], one_by_one: bool
) -> None:
    failed = replay(benchmark_, list(cases.values()), one_by_one=one_by_one)
    assert failed == (MORE_STEPS_THAN_ALLOWED if one_by_one else set())


def agree(
    benchmark: MultiTurnBenchmark, official: OfficialMultiTurn, chosen: list[MultiTurnCase], seed: int
) -> tuple[int, int]:
    """(right, wrong) among mutated answers, each with the verdict that the official chain gives."""
    draw, right = random.Random(seed), 0
    for case in chosen:
        result = mutated_script(case, draw)
        ours, theirs = benchmark.check(case, result), official_verdict(official, case, result)
        assert (ours.correct, ours.error_type) == (theirs["valid"], theirs.get("error_type", "")), case.id
        right += ours.correct
    return right, len(chosen) - right


def test_mutated_answers_get_the_official_verdict(
    benchmark_: MultiTurnBenchmark, official: OfficialMultiTurn, cases: dict[str, MultiTurnCase]
) -> None:
    right, wrong = agree(benchmark_, official, list(cases.values())[::10], seed=1)
    assert right > 0
    assert wrong > 40


@pytest.mark.fuzz
@pytest.mark.parametrize("seed", range(5))
def test_many_mutated_answers_get_the_official_verdict(
    benchmark_: MultiTurnBenchmark, official: OfficialMultiTurn, cases: dict[str, MultiTurnCase], seed: int
) -> None:
    agree(benchmark_, official, list(cases.values()), seed=seed + 100)


def test_a_turn_without_an_answer_with_calls_is_wrong(
    benchmark_: MultiTurnBenchmark, cases: dict[str, MultiTurnCase]
) -> None:
    for case in list(cases.values())[::100]:
        script = gold_script(case, one_by_one=False)
        silent = next(index for index, turn in enumerate(case.ground_truth) if turn)
        script[silent] = ["I cannot do that."]
        verdict = benchmark_.check(case, script)
        assert (verdict.correct, verdict.error_type) == (False, "multi_turn:empty_turn_model_response")


def test_the_model_sees_each_turn_with_its_results(
    benchmark_: MultiTurnBenchmark, cases: dict[str, MultiTurnCase]
) -> None:
    talk = benchmark_.begin(cases["multi_turn_base_0"])
    first = talk.example()
    assert [m.role for m in first.messages] == ["system", "user"]
    assert first.tools == cases["multi_turn_base_0"].tools
    benchmark_.proceed(talk, "[cd(folder='document'), pwd()]")
    told = talk.example().messages[2:]
    assert told == (
        Message("assistant", "[cd(folder='document'), pwd()]"),
        Message("tool", '{"current_working_directory": "document"}'),
        Message("tool", '{"current_working_directory": "/workspace/document"}'),
    )
    benchmark_.proceed(talk, "[pwd()]")  # the folder that the first step went to is still the current one
    assert talk.example().messages[-1] == told[-1]
    benchmark_.proceed(talk, "I am done.")
    assert talk.example().messages[-1].content.startswith("Perform a detailed search using grep")
    assert talk.result == [["[cd(folder='document'), pwd()]", "[pwd()]", "I am done."], []]


def test_tools_that_were_held_back_are_handed_over_in_their_turn(
    benchmark_: MultiTurnBenchmark, cases: dict[str, MultiTurnCase]
) -> None:
    case = cases["multi_turn_miss_func_0"]
    assert list(case.added_tools) == [3]
    assert "sort" not in {tool["name"] for tool in case.tools}
    talk = benchmark_.begin(case)
    for _ in range(3):
        benchmark_.proceed(talk, "")
    handed_over = talk.example().messages[-1]
    assert handed_over.role == "user"
    assert "'name': 'sort'" in handed_over.content
    assert handed_over.content.endswith("I have updated some more functions you can choose from. What about now?")


def test_after_twenty_one_steps_with_calls_the_conversation_is_over_and_wrong(
    benchmark_: MultiTurnBenchmark, cases: dict[str, MultiTurnCase]
) -> None:
    case = cases["multi_turn_base_0"]
    talk = benchmark_.begin(case)
    answered = 0
    while not talk.over:
        benchmark_.proceed(talk, "[pwd()]")
        answered += 1
    assert answered == 21
    verdict = benchmark_.check(case, talk.result)
    assert (verdict.correct, verdict.error_type) == (False, mt.FORCE_TERMINATED)


def test_calls_that_spin_end_their_own_conversation_only(
    benchmark_: MultiTurnBenchmark, cases: dict[str, MultiTurnCase]
) -> None:
    spinning = next(case for case in cases.values() if "MathAPI" in case.world["involved_classes"])
    others = [case for case in list(cases.values())[::200] if case.id != spinning.id]
    scripts = {case.id: gold_script(case, one_by_one=False) for case in others}
    scripts[spinning.id] = [["[power(base=9, exponent=999999999)]"]]
    results = hold(benchmark_, [spinning, *others], responding(scripts))
    stopped = results[spinning.id]
    assert isinstance(stopped, str)
    assert stopped.startswith("Error during inference: the calls ['power(base=9, exponent=999999999)'] were stopped: ")
    assert "CPU time" in stopped
    verdict = benchmark_.check(spinning, stopped)
    assert (verdict.correct, verdict.error_type) == (False, mt.STOPPED)
    assert all(benchmark_.check(case, results[case.id]).correct for case in others)


def test_what_spins_under_the_checker_is_wrong(benchmark_: MultiTurnBenchmark, cases: dict[str, MultiTurnCase]) -> None:
    spinning = next(case for case in cases.values() if "MathAPI" in case.world["involved_classes"])
    result = [["[power(base=9, exponent=999999999)]"] for _ in spinning.turns]
    verdict = benchmark_.check(spinning, result)
    assert (verdict.correct, verdict.error_type) == (False, mt.CHECKER_STOPPED)


def test_an_answer_that_the_decoder_would_have_to_run_holds_no_calls(official: OfficialMultiTurn) -> None:
    assert mt.decode(official, "[cd(folder=len(str(1)) + 1)]") == []
    assert mt.decode(official, "[cd(folder='a' + 'b')]") == ["cd(folder='ab')"]
    assert mt.decode(official, "[]") == []
    assert mt.decode(official, "Some words, no more.") == []


def test_conversations_begin_with_the_first_turn(official: OfficialMultiTurn, cases: dict[str, MultiTurnCase]) -> None:
    for case in cases.values():
        talk = Conversation(case, official)
        assert talk.result == [[]]
        assert talk.example().messages[1:] == case.turns[0]


def test_where_the_template_tells_how_to_call_nothing_of_ours_is_said(
    official: OfficialMultiTurn, cases: dict[str, MultiTurnCase]
) -> None:
    case = next(iter(cases.values()))
    assert Conversation(case, official, instructed=False).example().messages == case.turns[0]
    assert Conversation(case, official).example().messages[0] == Message("system", mt.INSTRUCTIONS)
