"""Reads tool calls from text: whole responses, gold answers, and what is finished of a response that may stop anywhere.

Two readings of one grammar. The *official* one takes what BFCL's prompting decoder takes and gives the same names and
values; it decides scores. The one with *quirks* also takes what data sets hold: function names with spaces, slashes
or parentheses, argument names such as `from` or `sort-by`, and the JSON literals true, false and null.

A positional argument has no name in the text. If the i-th argument of a call (from 0) is positional, it is kept under
the name `*i`, an unpacked mapping under `**`; no other argument can have these names. `bind_positional` gives them the
names that the tool's schema says. The official decoder drops positional arguments, so a decision like its drops them.

Not read, where the official decoder reads them only to drop or refuse them: an argument nested beyond 60 levels or
longer than 200,000 characters, and a generator without brackets of its own. Never run, where that decoder runs it:
code within arithmetic, such as `len(x) + 1`; it is a syntax error here.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable
from keyword import iskeyword

from itool_pipeline.calls.python_text import BLANK, TextScanner
from itool_pipeline.calls.python_values import argument_value, call_value, without_remarks
from itool_pipeline.calls.types import BegunCall, Call, ToolCallSyntaxError

WRAPPING = "`\n "
"""What may stand around a response's calls: BFCL's decoder strips these, and nothing else (no tab)."""

_PLAIN_NAME = re.compile(r"[^\W\d]\w*+(?:\.[^\W\d]\w*+)*+")
_PLAIN_NAME_GOES_ON = re.compile(r"(?:[^\W\d][\w.]*+)?+[ \t\f\n]*+\Z")
_OPENING = re.compile(rf"{BLANK.pattern}\(")
# A free name is any text up to a `(`, which may hold bracketed words itself, as long as another `(` comes on its line:
# `Safe For Work (SFW) Image API(` is one name.
_NAME_CHARACTERS = r'[^()\[\]{}=,:"\n]*+'
_BEGUN_WORDS = r"""\([^()\[\]{}=,:"'\n]*+"""
_BRACKETED_WORDS = rf"{_BEGUN_WORDS}\)"
_FREE_NAME = re.compile(rf"{_NAME_CHARACTERS}(?:{_BRACKETED_WORDS}(?={_NAME_CHARACTERS}\(){_NAME_CHARACTERS})*+(?=\()")
_FREE_NAME_GOES_ON = re.compile(rf"{_NAME_CHARACTERS}(?:{_BRACKETED_WORDS}{_NAME_CHARACTERS})*+(?:{_BEGUN_WORDS})?+\Z")
_FREE_LABEL = re.compile(r"""([^\s()\[\]{}=,"'<>!*][^()\[\]{}=,"'<>!\n]*+)(=(?!=)|\Z)""")

_BARE_CALL = re.compile(rf"{BLANK.pattern}{_PLAIN_NAME.pattern}{_OPENING.pattern}")
# Behind the list's `[`: nothing yet; a plain name, which a blank may follow; or, on one line, what can still be a free
# name. Names end at a `(`, or at the end of the text.
_LISTED_CALL = re.compile(
    rf"\[{BLANK.pattern}(?:"
    rf"\Z|{_PLAIN_NAME.pattern}{BLANK.pattern}(?:\(|\Z)"
    rf"""|[^\s()\[\]{{}}"=,][^()\[\]"=\n]*(?:\(|\Z))"""
)


def parse_calls(text: str, names: Collection[str] = ()) -> tuple[Call, ...]:
    """The calls of a data set's gold answer, quirks and all. The text is one `[...]` and nothing else.

    names   the functions that may be called: needed where a name holds a comma, a quote or a brace

    Raises ToolCallSyntaxError.
    """
    return _calls(CallReader(text.strip(), names, quirks=True, free=True).read())


def parse_response(text: str, names: Collection[str] = (), *, quirks: bool = False) -> tuple[Call, ...]:
    """The calls of a model's response, by BFCL's rule: backticks and space around it go, missing brackets are added.

    names   the functions that may be called: needed for those that are no dotted Python names
    quirks  take also what `parse_calls` takes; any text as a function name only if the response begins with `[`

    Raises ToolCallSyntaxError when BFCL's decoder fails. An empty response decodes to no calls.
    """
    bare = text.strip(WRAPPING)
    begins = bare.startswith("[")
    listed = bare if begins else f"[{bare}"
    listed = listed if listed.endswith("]") else f"{listed}]"
    return _calls(CallReader(listed, names, quirks=quirks, free=quirks and begins).read())


def finished_calls(
    partial: str, names: Collection[str] = (), *, quirks: bool = False
) -> tuple[list[BegunCall], ToolCallSyntaxError | None]:
    """What stands for certain in a response that may stop anywhere: each call whose `(` and each argument whose end
    has been seen; and the error that ended the reading, `ended` if more text could mend it.
    """
    bare = partial.lstrip(WRAPPING)
    begins = bare.startswith("[")
    try:
        reader = CallReader(bare if begins else f"[{bare}", names, quirks=quirks, free=quirks and begins)
    except ToolCallSyntaxError as error:
        return [], error
    try:
        return reader.read(), None
    except ToolCallSyntaxError as error:
        return reader.begun, error


def looks_like_call(text: str) -> bool:
    """Whether a response, which may stop anywhere, has begun a tool call rather than plain text.

    It has if it opens with `[` and what follows can still be a function name, or is a name and a `(`; or if it opens
    with `name(`.
    """
    bare = text.lstrip(WRAPPING)
    return (_LISTED_CALL if bare.startswith("[") else _BARE_CALL).match(bare) is not None


def opening_bracket(text: str) -> int | None:
    """The offset of the `(` of a bare call, `name(...)` without the list's `[`; None for any other beginning."""
    start = len(text) - len(text.lstrip(WRAPPING))
    found = _BARE_CALL.match(text, start)
    return found.end() - 1 if found else None


class CallReader:
    """One pass over `[f(a=1), g()]`. What has been read so far is in `begun`, also after an error.

    names   known function names, needed for those that are no dotted Python names
    quirks  read what data sets hold beyond BFCL's grammar
    free    with quirks: take any text before a `(` as a function name
    """

    def __init__(self, text: str, names: Collection[str] = (), *, quirks: bool = False, free: bool = False) -> None:
        self.scanner = TextScanner(text)
        self.begun: list[BegunCall] = []
        self._quirks = quirks
        self._free = free
        odd = {name for name in names if quirks or not _PLAIN_NAME.fullmatch(name)}
        self._names = sorted(odd, key=len, reverse=True)

    def read(self) -> list[BegunCall]:
        """All calls of the list. Raises ToolCallSyntaxError."""
        with without_remarks():
            return self._list()

    def _list(self) -> list[BegunCall]:
        self.scanner.expect("[")
        while not self.scanner.accept("]"):
            self._call()
            if not self.scanner.next_is("]"):
                self.scanner.expect(",")
        if not self.scanner.at_end:
            raise self.scanner.error("text after the list of calls")
        return self.begun

    def _call(self) -> None:
        start, before = self.scanner.position, len(self.begun)
        name = self._head()
        if name:
            self._arguments(BegunCall(name))
            if self._quirks or self.scanner.at_end or self.scanner.next_is(",", "]"):
                return
        # Not just `f(...)`: another expression whose value is a call's, as `(f)(a=1)` or `f(a=1).g(b=2)`. Only the
        # official decoder reads these.
        self.scanner.position = start
        if self._quirks:
            raise ToolCallSyntaxError(start, "no function call", ended=self._may_be_name())
        try:
            call = call_value(self.scanner.argument("]"))
        except ToolCallSyntaxError as error:
            if error.ended:
                del self.begun[before:]  # the `f(a=1)` of `f(a=1).g(` is no call of the list
            raise
        del self.begun[before:]
        if call is None:
            raise ToolCallSyntaxError(start, "no function call")
        self.begun.append(BegunCall(*call, closed=True))

    def _head(self) -> str:
        """Read `name(`, or nothing when that is not next."""
        start = self.scanner.position
        for name in self._names:
            if self.scanner.next_is(name):
                self.scanner.position += len(name)
                if self._opening():
                    return name
                self.scanner.position = start
        found = self.scanner.match(_FREE_NAME if self._free else _PLAIN_NAME)
        # Python takes compatible characters for the same name (NFKC), and so does the official decoder.
        name = unicodedata.normalize("NFKC", found.group()).strip() if found else ""
        valid = self._free or all(part.isidentifier() and not iskeyword(part) for part in name.split("."))
        if name and valid and self._opening():
            return name
        self.scanner.position = start
        return ""

    def _may_be_name(self) -> bool:
        """Whether the text ends here within a name."""
        rest = self.scanner.text[self.scanner.position :]
        goes_on = _FREE_NAME_GOES_ON if self._free else _PLAIN_NAME_GOES_ON
        return goes_on.match(rest) is not None or any(name.startswith(rest) for name in self._names)

    def _opening(self) -> bool:
        found = self.scanner.match(_OPENING)
        self.scanner.match(BLANK)
        return found is not None

    def _arguments(self, call: BegunCall) -> None:
        self.begun.append(call)
        # Python forbids a positional argument after a named one, and `*` after `**`: an argument is therefore read
        # behind a stand-in for those before it. (A first one too: a generator needs its own brackets behind another.)
        before, index = "f(0,", 0
        while not self.scanner.accept(")"):
            start = self.scanner.position
            own = self._label() if self._quirks else ""
            label, value = argument_value("f(_=" if own else before, self.scanner.argument(")"), self._quirks)
            self.scanner.accept(",")
            name = own or label
            key = f"*{index}" if name in ("", "*") else name
            if self._quirks and key in call.arguments:
                raise ToolCallSyntaxError(start, f"the argument {key!r} is given twice")
            call.arguments[key] = value
            if name == "**":
                before = "f(**a,"
            elif name not in ("", "*") and before == "f(0,":
                before = "f(a=0,"
            index += 1
        call.closed = True

    def _label(self) -> str:
        """Read any `label=`, also one that is no Python name (`from=`, `sort-by=`)."""
        found = self.scanner.match(_FREE_LABEL)
        if not found:
            return ""
        if not found.group(2):
            raise self.scanner.error("expected a value")
        self.scanner.match(BLANK)
        return found.group(1).strip()


def _calls(begun: Iterable[BegunCall]) -> tuple[Call, ...]:
    return tuple(Call(call.name, call.arguments) for call in begun)
