"""What a way of writing tool calls is: a name, and how such calls are rendered, read, begun and cut into fragments.

`PYTHON_CALLS`, a Python list of calls, is the one of BFCL's prompts, of ToolACE and of the paper; `HERMES_CALLS` and
`LLAMA3_JSON_CALLS` write JSON. `syntaxes` has them by name.

- A call counts as begun when its name is certain; in JSON that is when the name's string is closed, also where the
  arguments come before the name. `BegunCall` holds those arguments whose value has ended: in JSON at the `,` or `}`
  behind it.
- Fragments end at terminators, and a syntax decides which of them stand between arguments and calls. `,` parts
  arguments in all of them, and `)` stands for what closes the arguments of a call, which is a `}` in JSON. So the
  default terminators, `,.)`, cut every syntax into arguments; a period ends a fragment in words alone.
- A response ends with the end of the model's turn, which the chat template knows. No syntax has a stop text of its
  own: behind a closing tag another call may follow.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Protocol

from itool_pipeline.calls.types import BegunCall, Call, ToolCallSyntaxError


class CallSyntax(Protocol):
    """One way of writing calls. Implementations are frozen and without state, so that they may be shared."""

    @property
    def name(self) -> str:
        """As a config names it."""

    @property
    def tokens(self) -> tuple[str, ...]:
        """What marks calls in a response and may be a token of its own, also one that is no text elsewhere."""

    @property
    def has_positional(self) -> bool:
        """Whether an argument may have no name; else `*0` and `**` are names like any other."""

    @property
    def form(self) -> str:
        """How calls are to be written, as our instructions tell it behind `reply with nothing but the calls, `."""

    def render_calls(self, calls: Iterable[Call]) -> str:
        """The calls as text; reading it gives them back. Raises TypeError for a value that cannot be written."""

    def read_response(self, text: str, names: Collection[str] = (), *, quirks: bool = False) -> tuple[Call, ...]:
        """The calls of a whole response; none for an empty one.

        names   the functions that may be called
        quirks  read also what data sets hold beyond the official grammar

        Raises ToolCallSyntaxError for what is no list of calls.
        """

    def finished_calls(
        self, partial: str, names: Collection[str] = (), *, quirks: bool = False
    ) -> tuple[list[BegunCall], ToolCallSyntaxError | None]:
        """What stands for certain in a response that may stop anywhere, whatever follows.

        The calls begun, each with the arguments that have ended; and the error that ended the reading, whose `ended`
        says that more text could mend it.
        """

    def has_begun_call(self, text: str) -> bool:
        """Whether a response that may stop anywhere has begun a call rather than plain text."""

    def may_begin_call(self, text: str, names: Collection[str] = ()) -> bool:
        """Whether a response that has not begun a call, nor anything else, can still become one of these functions."""

    def has_words_beside_calls(self, text: str) -> bool:
        """Whether a response, which may stop anywhere, says something in words before, between or behind its calls.

        Where such a response does not decode, as in Python's syntax, that is told by reading it, and here is none.
        """

    def is_plain_text(self, text: str) -> bool:
        """Whether a response, which may stop anywhere, says something in words: no call, nor what only calls have."""

    def part_with_calls(self, text: str) -> str:
        """The response without the words before and behind its calls; all of it where no such part can be told."""

    def fragment_ends(self, text: str, terminators: str) -> Iterator[int]:
        """Offsets just behind each of the `terminators` that ends a fragment, in order, in linear time.

        What is yielded up to an offset depends on the text before it alone, so an end is never taken back as a
        response grows.
        """
