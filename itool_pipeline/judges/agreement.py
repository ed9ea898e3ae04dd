"""How far a response that may stop anywhere agrees with the gold: the outcome O before its end (Eq. 6)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from itool_pipeline.calls.python_calls import PYTHON_CALLS
from itool_pipeline.calls.reading import WRAPPING
from itool_pipeline.calls.syntax import CallSyntax
from itool_pipeline.calls.tool_schema import tool_names
from itool_pipeline.calls.types import BegunCall, Call, GoldCall
from itool_pipeline.core.judge import Agreement
from itool_pipeline.core.types import Example, Expectation
from itool_pipeline.judges.mismatch import argument_agrees, needed_parameters
from itool_pipeline.judges.rules import MatchingRules, named_call, read_begun_calls, require_python

_NOTHING, _RIGHT, _WRONG = Agreement(0.0, flawed=False), Agreement(1.0, flawed=False), Agreement(-1.0, flawed=True)


def judge_agreement(
    rules: MatchingRules, example: Example, partial: str, syntax: CallSyntax = PYTHON_CALLS
) -> Agreement:
    """How much of a response that may stop anywhere agrees with the gold, and whether anything of it is wrong.

    Its value is (right - wrong) / items, at least -1. Items are the name of each gold call, each of its parameters that
    must be given, and each optional one that is given. Only what is finished counts: a name when its `(` is there, an
    argument when the `,` or `)` after it is; what a call lacks when it is closed is wrong. Each call is held against
    the unused gold call of its name that it agrees with best; all of a call that finds none is wrong. A syntax error
    that no further text can mend is one wrong item, and a beginning that is no call gives -1. Where one item is wrong,
    no continuation is right; but an argument that the rules drop counts as wrong and is no flaw.

    Words beside calls are wrong. Where any call or none is expected: 0 for an empty text, 1 once what is expected (a
    call, plain text) has begun and -1 once anything else has. Raises ValueError for gold calls in Java or JavaScript.
    """
    if not partial.strip(WRAPPING):
        return _NOTHING
    calls = syntax.has_begun_call(partial)
    if calls and syntax.has_words_beside_calls(partial):
        return _WRONG
    if example.expects is Expectation.ANY_CALL:
        return _RIGHT if calls else _WRONG
    if example.expects is Expectation.NO_CALL:
        return _RIGHT if syntax.is_plain_text(partial) else _WRONG
    require_python(example)
    if not calls:
        return _NOTHING if syntax.may_begin_call(partial, tool_names(example.tools)) else _WRONG
    begun, error = read_begun_calls(rules, example, partial, syntax)
    tally = _tally(rules, example, begun, syntax)
    # An error at the end of the text may only be that the text goes on.
    flaws = tally.wrong + (error is not None and not error.ended)
    needed = (needed_parameters(rules, rules.describe_function(example, gold), gold) for gold in example.gold)
    items = sum(1 + len(names) for names in needed) + tally.optional
    value = (tally.right - flaws - tally.dropped) / items
    return Agreement(max(-1.0, min(1.0, value)), flawed=flaws > 0)


@dataclass(frozen=True, slots=True)
class _Tally:
    """Items that are right and wrong, how many optional parameters were given, each of them an item too, and how many
    arguments the rules drop.
    """

    right: int = 0
    wrong: int = 0
    optional: int = 0
    dropped: int = 0

    def __add__(self, other: _Tally) -> _Tally:
        right, wrong, optional = self.right + other.right, self.wrong + other.wrong, self.optional + other.optional
        return _Tally(right, wrong, optional, self.dropped + other.dropped)

    @property
    def lead(self) -> int:
        return self.right - self.wrong


def _tally(rules: MatchingRules, example: Example, begun: Sequence[BegunCall], syntax: CallSyntax) -> _Tally:
    """All begun calls together."""
    unused = list(range(len(example.gold)))
    total = _Tally()
    for call in begun:
        named = named_call(rules, example, Call(call.name, call.arguments), syntax)
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
        total += tallies[best] + _Tally(dropped=dropped)
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
