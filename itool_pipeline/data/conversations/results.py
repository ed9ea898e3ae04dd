"""Which result of a tool belongs to which call, and how a prompt says so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from itool_pipeline.calls.rendering import render_calls
from itool_pipeline.calls.types import Call
from itool_pipeline.data.row_models import shown_value
from itool_pipeline.data.rows import RowError, expect_that


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a tool gave: its text, and what it says of whose it is. `identity` and `name` are empty where not said."""

    text: str
    identity: str = ""
    name: str = ""


@dataclass(slots=True, eq=False)
class _Asked:
    """A call that was made: the `turn`-th of those with calls, and its place among the calls of that turn."""

    call: Call
    identity: str
    turn: int
    place: int
    answered: bool = False


class CallsAsked:
    """The calls of a conversation so far, and which of them have their result.

    A result says whose it is by the call's id; where it has none, by the function's name; where it has neither, by its
    place among the results. An id may come again in a later turn; then it is the latest call that is meant.
    """

    def __init__(self) -> None:
        self._asked: list[_Asked] = []
        self._turn = 0
        self._fresh = False

    def add_calls(self, calls: Sequence[Call], identities: Sequence[str]) -> None:
        """Calls that are made together, with an id each, empty for none."""
        self._turn += 1
        self._fresh = True
        pairs = enumerate(zip(calls, identities, strict=True))
        self._asked += [_Asked(call, identity, self._turn, place) for place, (call, identity) in pairs]

    def pass_turn(self) -> None:
        """Something else is said: results that come now are late, and say in full which call they are of."""
        self._fresh = False

    def show_results(self, results: Sequence[ToolResult]) -> str:
        """The results that follow one another as one text, in the order of their calls.

        The only result of an only call stands by itself, and so does the only one for several calls that does not say
        whose it is. Others have their function before them, or the whole call where that alone does not tell.

        Raises RowError when a result is of no call before it, or of which cannot be told.
        """
        matched: dict[int, _Asked] = {}
        self._match_identities(results, matched)
        self._match_names(results, matched)
        shared = self._match_places(results, matched)
        if shared:
            return results[0].text
        pairs = sorted(((matched[i], result) for i, result in enumerate(results)), key=lambda pair: _order(pair[0]))
        if len(pairs) == 1 and self._is_plain(pairs[0][0]):
            return pairs[0][1].text
        return "\n".join(f"{self._label(asked)}: {result.text}" for asked, result in pairs)

    def _match_identities(self, results: Sequence[ToolResult], matched: dict[int, _Asked]) -> None:
        for index, result in enumerate(results):
            if not result.identity:
                continue
            same = [asked for asked in self._asked if asked.identity == result.identity]
            found = [asked for asked in same if not asked.answered]
            if not found:
                expect_that(not same, f"more results than calls: {shown_value(result.identity)}")
                named = any(asked.identity for asked in self._latest())
                expect_that(not named, f"a result of a call that was not made: {shown_value(result.identity)}")
                continue  # ids of calls that have none say nothing
            latest = [asked for asked in found if asked.turn == found[-1].turn]
            own = [asked for asked in latest if asked.call.name == result.name]
            others = any(asked.call.name == result.name for asked in self._asked if asked.turn == latest[0].turn)
            expect_that(
                bool(own) or not others,
                f"a result has the id of one call and the name of another: {shown_value(result.name)}",
            )
            _answer((own or latest)[0], index, matched)

    def _match_names(self, results: Sequence[ToolResult], matched: dict[int, _Asked]) -> None:
        unmatched = {i: result for i, result in enumerate(results) if i not in matched and result.name}
        for name in dict.fromkeys(result.name for result in unmatched.values()):
            same = [asked for asked in self._asked if asked.call.name == name]
            expect_that(bool(same), f"a result is named after no call before it: {shown_value(name)}")
            found = [asked for asked in same if not asked.answered]
            found = [asked for asked in found if asked.turn == found[-1].turn]
            given = [index for index, result in unmatched.items() if result.name == name]
            expect_that(len(given) <= len(found), f"more results than calls: {shown_value(name)}")
            if len(given) < len(found) and len(results) == 1:
                continue  # one result for all of them: left to places
            expect_that(len(given) == len(found), f"fewer results than calls, and no ids: {shown_value(name)}")
            for index, asked in zip(given, found, strict=True):
                _answer(asked, index, matched)

    def _match_places(self, results: Sequence[ToolResult], matched: dict[int, _Asked]) -> bool:
        """Match what is left by its place. True when one result is for several calls together."""
        left = [index for index in range(len(results)) if index not in matched]
        found = [asked for asked in self._latest() if not asked.answered]
        expect_that(len(left) <= len(found), "more results than calls")
        together = len(results) == len(left) == 1 < len(found)
        expect_that(together or len(left) in (0, len(found)), "fewer results than calls, and neither ids nor names")
        if together:
            for asked in found:
                asked.answered = True
            return True
        for index, asked in zip(left, found, strict=False):
            _answer(asked, index, matched)
        return False

    def _latest(self) -> list[_Asked]:
        return [asked for asked in self._asked if asked.turn == self._turn]

    def _is_plain(self, asked: _Asked) -> bool:
        """Whether it is the only call of the turn right before."""
        return self._fresh and [asked] == self._latest()

    def _label(self, asked: _Asked) -> str:
        """The call's function where that tells it from the others of the turn right before; else the whole call."""
        beside = [other for other in self._asked if other.turn == asked.turn]
        own_name = sum(other.call.name == asked.call.name for other in beside) == 1
        if own_name and self._fresh and asked.turn == self._turn:
            return asked.call.name
        text = render_calls([asked.call])
        alike = sum(render_calls([other.call]) == text for other in beside) > 1
        return f"{text[1:-1]} (call {asked.place + 1})" if alike else text[1:-1]


def _order(asked: _Asked) -> tuple[int, int]:
    return asked.turn, asked.place


def _answer(asked: _Asked, index: int, matched: dict[int, _Asked]) -> None:
    asked.answered = True
    matched[index] = asked


def result_identity(given: object) -> str:
    """An id or a name as text; empty for none. A number is an id too."""
    if isinstance(given, bool) or not isinstance(given, str | int | None):
        raise RowError(f"the id of a call is neither text nor a number: {shown_value(given)}")
    return "" if given is None else str(given).strip()
