"""The progress of a response that may stop anywhere: what the outcome O is before its end (Eq. 6)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from itool_pipeline.calls.reading import WRAPPING, looks_like_call
from itool_pipeline.calls.tool_schema import tool_names
from itool_pipeline.calls.types import BegunCall, Call, GoldCall
from itool_pipeline.core.judge import is_plain_text
from itool_pipeline.core.types import Example, Expectation
from itool_pipeline.judges.mismatch import argument_agrees, needed_parameters
from itool_pipeline.judges.rules import MatchingRules, read_begun_calls, require_python


def judge_progress(rules: MatchingRules, example: Example, partial: str) -> float:
    """How much of a response that may stop anywhere agrees with the gold, in [-1, 1].

    (right - wrong) / items. Items are the name of each gold call, each of its parameters that must be given, and each
    optional one that is given. Only what is finished counts: a name when its `(` is there, an argument when the `,`
    or `)` after it is; what a call lacks when it is closed is wrong. Each call is held against the unused gold
    call of its name that it agrees with best; all of a call that finds none is wrong. A syntax error that no
    further text can mend is one wrong item, and a beginning that is no call gives -1.

    Where any call or none is expected: 0 for an empty text, 1 once what is expected (a call, plain text) has begun and
    -1 once anything else has. Raises ValueError for gold calls in Java or JavaScript.
    """
    if not partial.strip(WRAPPING):
        return 0.0
    if example.expects is Expectation.ANY_CALL:
        return 1.0 if looks_like_call(partial) else -1.0
    if example.expects is Expectation.NO_CALL:
        return 1.0 if is_plain_text(partial) else -1.0
    require_python(example)
    if not looks_like_call(partial):
        return 0.0 if _may_be_name(partial, tool_names(example.tools)) else -1.0
    begun, error = read_begun_calls(rules, example, partial)
    tally = _tally(rules, example, begun)
    # An error at the end of the text may only be that the text goes on.
    wrong = tally.wrong + (error is not None and not error.ended)
    needed = (needed_parameters(rules, rules.describe_function(example, gold), gold) for gold in example.gold)
    items = sum(1 + len(names) for names in needed) + tally.optional
    return max(-1.0, min(1.0, (tally.right - wrong) / items))


def _may_be_name(partial: str, names: Sequence[str]) -> bool:
    """Whether a text without brackets can still become `name(`."""
    text = partial.lstrip(WRAPPING)
    return text.replace(".", "_").isidentifier() or any(name.startswith(text) for name in names)


@dataclass(frozen=True, slots=True)
class _Tally:
    """Items that are right and wrong, and how many optional parameters were given, each of them an item too."""

    right: int = 0
    wrong: int = 0
    optional: int = 0

    def __add__(self, other: _Tally) -> _Tally:
        return _Tally(self.right + other.right, self.wrong + other.wrong, self.optional + other.optional)

    @property
    def lead(self) -> int:
        return self.right - self.wrong


def _tally(rules: MatchingRules, example: Example, begun: Sequence[BegunCall]) -> _Tally:
    """All begun calls together."""
    unused = list(range(len(example.gold)))
    total = _Tally()
    for call in begun:
        named = rules.name_arguments(Call(call.name, call.arguments), example.tools)
        tallies = {
            index: _tally_call(rules, example, named, example.gold[index], call.closed)
            for index in unused
            if example.gold[index].name == call.name
        }
        if not tallies:
            total += _Tally(wrong=1 + len(call.arguments))
            continue
        best = max(tallies, key=lambda index: tallies[index].lead)
        unused.remove(best)
        dropped = len(call.arguments) - len(named.arguments)
        total += tallies[best] + _Tally(wrong=dropped)
    return total


def _tally_call(rules: MatchingRules, example: Example, call: Call, gold: GoldCall, closed: bool) -> _Tally:
    """One call, its name included, against a gold call of its name."""
    tool = rules.describe_function(example, gold)
    must = needed_parameters(rules, tool, gold)
    agrees = {
        name: tool is not None and argument_agrees(rules, tool, gold, name, value)
        for name, value in call.arguments.items()
    }
    right = sum(agrees.values())
    lacking = len(must - set(agrees)) if closed else 0
    optional = sum(name not in must and (ok or name in gold.arguments) for name, ok in agrees.items())
    return _Tally(1 + right, len(agrees) - right + lacking, optional)
