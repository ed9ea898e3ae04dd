"""One conversation in the chat layout of OpenAI's API, as `spelling` levels it: what a line must hold."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, ValidationInfo

from itool_pipeline.data.row_models import RowModel
from itool_pipeline.data.rows import expect_that
from itool_pipeline.data.tools import GivenTool


class ChatFunction(RowModel):
    noun: ClassVar[str] = "a call"

    name: str
    arguments: dict[str, Any]


class ChatCall(RowModel):
    noun: ClassVar[str] = "a call"

    id: object = None
    function: ChatFunction


def _calls_of_role(made: Any, info: ValidationInfo) -> Any:
    role = info.data.get("role")
    expect_that(role == "assistant" or not made, f"calls are made by another than the assistant: {role}")
    return made


class ChatMessage(RowModel):
    """A message.

    content  its words; beside calls they are not looked at
    learnt   whether an assistant's message is to be learnt from
    """

    noun: ClassVar[str] = "a message"

    role: Literal["system", "developer", "user", "assistant", "tool"]
    tool_calls: Annotated[list[ChatCall], BeforeValidator(_calls_of_role)] = Field(default_factory=list)
    content: str = ""
    tool_call_id: object = None
    name: object = None
    learnt: bool = True


class ChatLine(RowModel):
    tools: list[GivenTool] | None = None
    messages: list[ChatMessage] = Field(min_length=1)
