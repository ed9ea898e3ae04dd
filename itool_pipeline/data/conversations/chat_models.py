"""One conversation in the chat layout of OpenAI's API: what a line must hold."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, ValidationInfo, model_validator

from itool_pipeline.data.row_models import RowModel
from itool_pipeline.data.rows import expect_that, parse_json
from itool_pipeline.data.tools import GivenTool


def _bare_function(tool: Any) -> Any:
    """The function without its wrapping, and with what a description may leave out."""
    function = tool.get("function", tool) if isinstance(tool, dict) else tool
    if not isinstance(function, dict):
        return function
    named = {"name": function["name"]} if "name" in function else {}
    parameters = function.get("parameters") or {"type": "object", "properties": {}}
    return {**named, "description": str(function.get("description") or ""), "parameters": parameters}


def _parsed_arguments(arguments: Any, info: ValidationInfo) -> Any:
    arguments = arguments or {}
    if isinstance(arguments, str):
        return parse_json(arguments, f"the arguments of a call are not JSON: {info.data.get('name')!r}")
    return arguments


class ChatFunction(RowModel):
    noun: ClassVar[str] = "a call"

    name: str
    arguments: Annotated[dict[str, Any], BeforeValidator(_parsed_arguments)] = Field(default_factory=dict)


class ChatCall(RowModel):
    noun: ClassVar[str] = "a call"

    id: object = None
    function: ChatFunction


def _calls_of_role(made: Any, info: ValidationInfo) -> Any:
    role = info.data.get("role")
    expect_that(role in ("assistant", "tool") or not made, f"calls are made by another than the assistant: {role}")
    return made if made and role == "assistant" else []


def _words(content: Any, info: ValidationInfo) -> Any:
    """The words of a message: its content, or the text parts of it. No content is no words, nor is any beside calls."""
    if content is None or info.data.get("tool_calls"):
        return ""
    if isinstance(content, list):
        texts = [part["text"] for part in content if isinstance(part, dict) and isinstance(part.get("text"), str)]
        expect_that(len(texts) == len(content), "a message holds something else than text")
        return "".join(texts)
    return content


class ChatMessage(RowModel):
    noun: ClassVar[str] = "a message"

    role: Literal["system", "developer", "user", "assistant", "tool"]
    tool_calls: Annotated[list[ChatCall], BeforeValidator(_calls_of_role)] = Field(default_factory=list)
    content: Annotated[str, BeforeValidator(_words)] = ""
    tool_call_id: object = None
    name: object = None
    function_call: object = None
    learnt: bool = True

    @model_validator(mode="after")
    def _has_no_old_call(self) -> Self:
        old = self.role != "tool" and "function_call" in self.model_fields_set
        expect_that(not old, "has the old `function_call`; write it as one of `tool_calls`")
        return self


class ChatLine(RowModel):
    tools: list[Annotated[GivenTool, BeforeValidator(_bare_function)]] | None = None
    messages: list[ChatMessage] = Field(min_length=1)
