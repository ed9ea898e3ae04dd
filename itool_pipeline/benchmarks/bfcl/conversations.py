"""BFCL's multi-turn conversations: what the model sees next, what its answers set off, and the official verdict.

A turn goes on step by step: the model answers, its calls are executed, their results are put before it, until an
answer holds no calls. After `step_limit` steps with calls the benchmark ends the conversation where it is.

The calls are executed in a `Sandbox` that keeps nothing between two requests: each replays the conversation from its
beginning. So any number of conversations go on side by side, one that has to be stopped touches no other, and a
conversation is known from its answers alone.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from itool_pipeline.benchmarks.bfcl import conversation_tools as bfcl_multi_turn_tools
from itool_pipeline.benchmarks.bfcl.multi_turn_cases import MultiTurnCase
from itool_pipeline.benchmarks.bfcl.official_checker import CaseVerdict
from itool_pipeline.benchmarks.bfcl.official_code import OfficialMultiTurn, official_multi_turn
from itool_pipeline.benchmarks.sandbox.sandbox import DEFAULT_LIMITS, Answer, Limits, Sandbox
from itool_pipeline.benchmarks.second_opinion import Result
from itool_pipeline.core.types import Example, Message

INFERENCE_ERROR = "Error during inference: "
"""How the benchmark begins the result of a conversation that could not be held to its end."""

STOPPED = "multi_turn:inference_error"
FORCE_TERMINATED = "multi_turn:force_terminated"
CHECKER_STOPPED = "multi_turn:checker_stopped"
"""Ours: the official checker, executing the calls once more, broke a limit of the sandbox or stopped. Wrong."""

INSTRUCTIONS = """\
The conversation has several turns. After your calls you see their results, and may make further calls. When nothing \
is left to be called for the user's last request, reply in plain words: that ends the turn."""
"""Added to the system prompt, for the model cannot know it otherwise, but where prompts are the template's own."""


def tools_sandbox(bfcl_dir: Path, limits: Limits = DEFAULT_LIMITS) -> Sandbox:
    """A sandbox with the tools of the conversations and the official multi-turn checker."""
    return Sandbox(f"{bfcl_multi_turn_tools.__name__}:prepare", [str(bfcl_dir.resolve())], limits)


class Conversation:
    """One conversation in progress. It waits for an answer, or for the results of calls, or is over."""

    def __init__(self, case: MultiTurnCase, official: OfficialMultiTurn, *, instructed: bool = True) -> None:
        self.case = case
        self._told = (Message("system", INSTRUCTIONS),) if instructed else ()
        self.over = False
        self._official = official
        self._messages: list[Message] = []
        self._added: dict[int, Sequence[Mapping[str, Any]]] = {}
        """Which message hands over which tools."""
        self._answers: list[list[str]] = []
        self._error = ""
        self._steps: list[list[str]] = []
        self._steps_of_turn = 0
        self._next_turn()

    @property
    def result(self) -> Result:
        return INFERENCE_ERROR + self._error if self._error else self._answers

    @property
    def steps(self) -> Sequence[Sequence[str]]:
        """The calls of every step so far; after an answer with calls its own come last."""
        return self._steps

    def example(self, *, tools_apart: bool = False) -> Example:
        """What is to be answered now. `tools_apart`: tools that were handed over later are among the others, and not
        written in the message that hands them over.
        """
        messages, tools = list(self._messages), self.case.tools
        for place, added in self._added.items() if tools_apart else ():
            messages[place] = Message("user", self._official.added_tools.format(functions="").strip())
            tools += tuple(added)
        return Example(
            id=self.case.id,
            source="bfcl",
            category=self.case.category,
            messages=(*self._told, *messages),
            tools=tools,
            response="",
            gold=(),
            group=self.case.id,
        )

    def answer(self, text: str) -> bool:
        """Take the model's answer. Whether its calls, the last of `steps`, are now to be executed."""
        self._answers[-1].append(text)
        self._messages.append(Message("assistant", text))
        calls = decode(self._official, text)
        if not calls:
            self._next_turn()
            return False
        self._steps.append(calls)
        return True

    def executed(self, results: Sequence[str]) -> None:
        """Take the results of the last step's calls: one message for each, as the benchmark does for local models."""
        self._messages += [Message("tool", result) for result in results]
        self._steps_of_turn += 1
        if self._steps_of_turn > self._official.step_limit:
            self.over = True

    def stop(self, error: str) -> None:
        """End it as one that could not be held to its end, which the benchmark counts as wrong."""
        self._error, self.over = error, True

    def _next_turn(self) -> None:
        turn = len(self._answers)
        if turn == len(self.case.turns):
            self.over = True
            return
        self._answers.append([])
        self._steps_of_turn = 0
        if turn in self.case.added_tools:
            self._added[len(self._messages)] = self.case.added_tools[turn]
            functions = [dict(tool) for tool in self.case.added_tools[turn]]
            self._messages.append(Message("user", self._official.added_tools.format(functions=functions)))
        else:
            self._messages += self.case.turns[turn]


def decode(official: OfficialMultiTurn, text: str) -> list[str]:
    """The calls of an answer in the benchmark's own writing; none where it holds no list of calls.

    Nor where the official decoder would run code to read it (see `literal_arithmetic`).
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)  # the parser's remarks on what a model wrote
        try:
            calls = official.decode(text)
        except Exception:
            return []
    return [] if official.is_empty(calls) else calls


@dataclass(frozen=True, slots=True)
class MultiTurnBenchmark:
    """The conversations' rules and their sandbox. `instructed`: the model is told how a conversation goes on."""

    official: OfficialMultiTurn
    sandbox: Sandbox
    instructed: bool = True

    @staticmethod
    def of(bfcl_dir: Path, sandbox: Sandbox, syntax: str = "python", *, instructed: bool = True) -> MultiTurnBenchmark:
        return MultiTurnBenchmark(official_multi_turn(bfcl_dir, syntax), sandbox, instructed)

    def begin(self, case: MultiTurnCase) -> Conversation:
        return Conversation(case, self.official, instructed=self.instructed)

    def proceed(self, conversation: Conversation, text: str) -> None:
        """Take an answer, and execute its calls. What the sandbox stops ends this conversation alone."""
        if conversation.answer(text):
            request = {"world": dict(conversation.case.world), "steps": conversation.steps}
            answer = self.sandbox.run(request)
            if answer.error:
                conversation.stop(f"the calls {conversation.steps[-1]} were stopped: {answer.error}"[:1000])
            else:
                conversation.executed(answer.value)

    def check(self, case: MultiTurnCase, result: Result) -> CaseVerdict:
        """The official verdict on a conversation, by the chain of `eval_runner.py`."""
        if isinstance(result, str):
            text = "Error during inference phase. Model did not output a list of model responses."
            return CaseVerdict(False, STOPPED, f"{text} {result}")
        if len(result) != len(case.ground_truth):
            text = f"Model was force-terminated in turn {len(result)} of {len(case.ground_truth)}."
            return CaseVerdict(False, FORCE_TERMINATED, text)
        turns = [[calls for text in turn if (calls := decode(self.official, text))] for turn in result]
        request = {"world": dict(case.world), "turns": turns, "ground_truth": case.ground_truth}
        return _verdict(self.sandbox.run(request))


def hold(
    benchmark: MultiTurnBenchmark, cases: Sequence[MultiTurnCase], respond: Callable[[Sequence[Conversation]], Any]
) -> dict[str, Result]:
    """All conversations in lockstep: in each round `respond` gives the texts for all that wait for an answer.

    `respond` may stop conversations; it gives no text for those. Returns case id → result.
    """
    conversations = [benchmark.begin(case) for case in cases]
    while waiting := [conversation for conversation in conversations if not conversation.over]:
        texts = respond(waiting)
        for conversation in waiting:
            if not conversation.over:
                benchmark.proceed(conversation, texts[conversation.case.id])
    return {conversation.case.id: conversation.result for conversation in conversations}


def _verdict(answer: Answer) -> CaseVerdict:
    if answer.error:
        return CaseVerdict(False, CHECKER_STOPPED, answer.error)
    if answer.value["valid"]:
        return CaseVerdict(True)
    return CaseVerdict(False, answer.value["error_type"], answer.value["error_message"])
