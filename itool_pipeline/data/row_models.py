"""The layouts of rows as pydantic models: they declare what a row must hold. What is wrong is put into words here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    ModelWrapValidatorHandler,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails

from itool_pipeline.data.rows import RowError

SHOWN_CHARS = 80
_WANTED = {"string_type": "text", "list_type": "a list", "dict_type": "an object"}


class RowModel(BaseModel):
    """A row, or a part of one. Keys that are not declared are not looked at: data sets carry more than is read.

    noun  what reasons call it, such as `a tool`; a row as a whole has none

    What does not fit is a RowError: the reason of the first key that is wrong, in the order of declaration.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore", loc_by_alias=False)
    noun: ClassVar[str] = ""

    @model_validator(mode="wrap")
    @classmethod
    def _say_in_words(cls, given: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        # Each model words its own errors, for only here it is known whose key is wrong.
        try:
            return handler(given)
        except ValidationError as error:
            raise RowError(_reason(cls.noun, given, error.errors(include_url=False)[0])) from error


Model = TypeVar("Model", bound=RowModel)


def read_row(model: type[Model], given: object) -> Model:
    """The row as the model has it. Raises RowError with the reason when it does not fit."""
    try:
        return model.model_validate(given)
    except ValidationError as error:
        raise _cause(error.errors(include_url=False)[0]) or error from error


def _cause(error: ErrorDetails) -> RowError | None:
    """The error of ours that pydantic wrapped."""
    cause = error.get("ctx", {}).get("error")
    return cause if isinstance(cause, RowError) else None


def _reason(noun: str, given: Any, error: ErrorDetails) -> str:
    """Whose key is wrong, and how; behind the colon the name of the thing, where it has one, and what stands there."""
    if cause := _cause(error):
        return str(cause)
    if not error["loc"]:
        return f"{noun} is not an object: {shown_value(given)}" if noun else "not a JSON object"
    field, kind = str(error["loc"][0]).replace("_", " "), error["type"]
    name = given.get("name") if isinstance(given, Mapping) and field != "name" else None
    named = shown_value(name) if isinstance(name, str) else ""
    if kind in ("missing", "too_short") or error["input"] is None:
        return (f"{noun} has no {field}" if noun else f"no {field}") + (f": {named}" if named else "")
    if kind in ("literal_error", "string_unicode"):  # the second: half a character where a known word should stand
        return f"{noun} has an unknown {field}: {shown_value(error['input'])}"
    subject = f"the {field} of {noun}" if noun else f"the {field}"
    wanted = _WANTED.get(kind, f"as it must be ({error['msg']})")
    is_not = f"{'are' if field.endswith('s') else 'is'} not {wanted}"
    return f"{subject} {is_not}: {named + ' has ' if named else ''}{shown_value(error['input'])}"


def shown_value(value: object) -> str:
    """The value as Python writes it, cut where it is long."""
    try:
        text = repr(value)
    except RecursionError:
        return "something nested too deeply to be shown"
    return text if len(text) <= SHOWN_CHARS else text[: SHOWN_CHARS - 1] + "…"
