"""What a model would say that makes exactly the expected calls of a multi-turn conversation."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence

from itool_pipeline.benchmarks.bfcl.conversations import Conversation
from itool_pipeline.benchmarks.bfcl.multi_turn_cases import MultiTurnCase
from itool_pipeline.calls.reading import parse_calls
from itool_pipeline.calls.rendering import render_calls
from itool_pipeline.calls.tool_schema import bind_positional

Script = Sequence[Sequence[str]]
"""The answers of each turn, step by step."""


def gold_script(case: MultiTurnCase, *, one_by_one: bool) -> list[list[str]]:
    """The expected calls of each turn, each in a step of its own or all in one, then words that end the turn.

    Positional arguments get their names: the benchmark drops them from what a model says.
    """
    tools = [*case.tools, *(tool for added in case.added_tools.values() for tool in added)]

    def said(calls: Sequence[str]) -> str:
        parsed = parse_calls(f"[{', '.join(calls)}]")
        return render_calls(bind_positional(call, tools) for call in parsed)

    turns = [[said([call]) for call in turn] if one_by_one else [said(turn)] * bool(turn) for turn in case.ground_truth]
    return [[*turn, "Done."] for turn in turns]


def responding(scripts: Mapping[str, Script]) -> Callable[[Sequence[Conversation]], dict[str, str]]:
    """Answers by script: the next text of the turn that each conversation is in."""

    def respond(waiting: Sequence[Conversation]) -> dict[str, str]:
        texts = {}
        for conversation in waiting:
            so_far = conversation.result
            assert isinstance(so_far, list)
            texts[conversation.case.id] = scripts[conversation.case.id][len(so_far) - 1][len(so_far[-1])]
        return texts

    return respond


def mutated_script(case: MultiTurnCase, draw: random.Random) -> list[list[str]]:
    """The expected answers with one of them dropped, doubled, emptied, renamed or moved to another turn."""
    turns = [turn[:-1] for turn in gold_script(case, one_by_one=True)]
    turn = draw.choice([index for index, texts in enumerate(turns) if texts])
    step = draw.randrange(len(turns[turn]))
    text = turns[turn][step]
    match draw.randrange(6):
        case 0:
            turns[turn].pop(step)
        case 1:
            turns[turn].append(text)
        case 2:
            turns[turn] = []
        case 3:
            turns[turn][step] = text.replace("(", "_(", 1)
        case 4:
            turns[turn][step] = text.replace('"', '"x', 1)
        case _:
            turns[draw.randrange(len(turns))].append(turns[turn].pop(step))
    return turns
