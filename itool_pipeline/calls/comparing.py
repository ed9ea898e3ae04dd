"""Whether one argument's value is right: by BFCL's rule for Python, or by equality for data with one gold value."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any

_TYPES: dict[Any, type] = {
    "string": str,
    "integer": int,
    "float": float,
    "boolean": bool,
    "array": list,
    "tuple": list,
    "dict": dict,
    "any": str,
}
_IGNORED = re.compile(r"[ ,./\-_*^]")


def standardized_text(text: str) -> str:
    """Text as values are compared: without case, spaces, `,./-_*^`, and with one kind of quote."""
    return _IGNORED.sub("", text).lower().replace("'", '"')


def is_accepted(value: Any, accepted: Sequence[Any], schema: Mapping[str, Any]) -> bool:
    """BFCL's decision on an argument of a Python function.

    value     the value given
    accepted  the values accepted for it; the empty string marks an optional parameter
    schema    the parameter's description: its `type` and, for arrays and tuples, `items`

    The type must be the schema's (an integer passes for a float), or else that of the first accepted value: the
    benchmark calls that a variable, and compares it without leniency. Where the official checker stops with an
    exception (a list with a member that should be a dictionary, a type it does not know), the value is not accepted.
    """
    kind = schema.get("type")
    items = schema.get("items")
    expected = _TYPES.get(kind)
    member = _TYPES.get(items.get("type")) if kind in ("array", "tuple") and isinstance(items, Mapping) else None
    if expected is None or (expected is list and member is None):
        return False
    if kind == "tuple" and type(value) is tuple:
        value = list(value)
    if kind == "float" and type(value) is int:
        if abs(value) > sys.float_info.max:
            return False
        value = float(value)
    if not _type_fits(value, accepted, expected, member):
        return False
    is_variable = _accepted_type(accepted) not in (None, expected)
    if is_variable or expected in (int, float, bool):
        return value in accepted
    return _value_fits(value, accepted, member)


def _accepted_type(accepted: Sequence[Any]) -> type | None:
    return next((type(option) for option in accepted if option != ""), None)


def _type_fits(value: Any, accepted: Sequence[Any], expected: type, member: type | None) -> bool:
    as_described = type(value) is expected
    if not as_described or member is None:
        return as_described or type(value) is _accepted_type(accepted)
    lists = [option for option in accepted if isinstance(option, list)]
    if len(lists) < len(accepted):
        return True
    return any(all(_type_fits(item, option, member, None) for item in value) for option in lists)


def _value_fits(value: Any, accepted: Sequence[Any], member: type | None) -> bool:
    """For text, dictionaries and lists, whose type fits."""
    if isinstance(value, str):
        return standardized_text(value) in [standardized_text(option) for option in accepted if isinstance(option, str)]
    if isinstance(value, dict):
        return any(_dictionary_fits(value, option) for option in accepted)
    lists: list[Sequence[Any]] = [option for option in accepted if isinstance(option, list | str)]
    if len(lists) < len(accepted):
        return False
    if member is dict:
        return any(_dictionaries_fit(value, option) for option in lists)
    return _standardized_items(value) in [_standardized_items(option) for option in lists]


def _standardized_items(items: Sequence[Any]) -> list[Any]:
    return [standardized_text(item) if isinstance(item, str) else item for item in items]


def _dictionaries_fit(values: Sequence[Any], options: Sequence[Any]) -> bool:
    return len(values) == len(options) and all(map(_dictionary_fits, values, options))


def _dictionary_fits(value: Any, option: Any) -> bool:
    """Whether each key has one of the values accepted for it, and only keys that accept '' are missing."""
    if not isinstance(value, dict) or not isinstance(option, Mapping):
        return False
    for key, item in value.items():
        choices = option.get(key, ())
        if not isinstance(choices, list | tuple) or not choices:
            return False
        if _standardized_items([item])[0] not in _standardized_items(choices):
            return False
    return all(key in value or "" in choices for key, choices in option.items())


def is_equal(value: Any, gold: Any) -> bool:
    """Equality of values, also inside lists and dictionaries: 1 is 1.0 but neither True nor "1", a tuple is a list, and
    text is the same character by character.

    Nothing of BFCL's leniency holds here: without punctuation the address 10.0.0.1 would be 10001, and -5 would be 5.
    """
    if isinstance(value, bool) or isinstance(gold, bool):
        return value is gold
    if isinstance(value, list | tuple) and isinstance(gold, list | tuple):
        return len(value) == len(gold) and all(map(is_equal, value, gold))
    if isinstance(value, Mapping) and isinstance(gold, Mapping):
        return value.keys() == gold.keys() and all(is_equal(value[key], gold[key]) for key in gold)
    return bool(value == gold)
