"""What is trained on, how the model is shown it, and how it is divided."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from itool_pipeline.config.categories import (
    BFCL_TRAINING,
    BfclTrainingCategory,
)
from itool_pipeline.config.fields import AtLeastOne, Count, Fraction, Section, Share

Name = Annotated[str, Field(min_length=1)]


class DataLimits(Section):
    """What every data set has: how much of it is used, and how much of it may be unreadable."""

    train_limit: AtLeastOne | None = Field(None, description="at most so many training examples, stratified")
    max_prompt_tokens: AtLeastOne = Field(4096, description="longer prompts are left out, and counted")
    max_quarantined: Fraction = Field(
        0.1, description="share of a source's rows that may be unreadable before the run stops"
    )


class BfclHalfData(DataLimits):
    """Half of BFCL's single-turn questions, from its wheel, to train on; the other half is held out (Sec. 4.5)."""

    type: Literal["bfcl_half"] = "bfcl_half"
    categories: Annotated[tuple[BfclTrainingCategory, ...], Field(min_length=1)] = BFCL_TRAINING
    max_prompt_tokens: AtLeastOne = Field(2048, description="longer prompts are left out, and counted")


class ToolAceData(DataLimits):
    """ToolACE in its own layout, from a local file or from the hub (Sec. 4.1)."""

    type: Literal["toolace"]
    path: str | None = Field(None, description="local data.json; without it the hub is asked")
    name: str = "Team-ACE/ToolACE"
    revision: str = "main"


class XlamData(DataLimits):
    """xLAM function-calling-60k in its own layout, from a local file or from the hub, where it is gated."""

    type: Literal["xlam"]
    path: str | None = Field(None, description="local xlam_function_calling_60k.json; without it the hub is asked")
    name: str = "Salesforce/xlam-function-calling-60k"
    revision: str = "main"


LayoutName = Literal["auto", "chat", "glaive", "gemini", "toolace", "xlam"]


class ColumnNames(Section):
    """Columns of the file where they have names of their own, by LLaMA-Factory's words for them."""

    messages: Name | None = None
    tools: Name | None = None
    system: Name | None = None
    prompt: Name | None = None
    query: Name | None = None
    response: Name | None = None


class MessageTags(Section):
    """Keys and roles of messages where they have names of their own, by LLaMA-Factory's words for them."""

    role_tag: Name | None = None
    content_tag: Name | None = None
    user_tag: Name | None = None
    assistant_tag: Name | None = None
    observation_tag: Name | None = Field(None, description="the role of a tool's result")
    function_tag: Name | None = Field(None, description="the role of a turn whose content is calls")
    system_tag: Name | None = None

    @model_validator(mode="after")
    def _one_name_for_one_thing(self) -> MessageTags:
        keys, roles = ("role_tag", "content_tag"), self.model_dump(exclude_none=True)
        own = [roles.pop(key) for key in keys if key in roles]
        for names in (own, list(roles.values())):
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise ValueError(f"two tags have one name: {', '.join(twice)}")
        return self


class JsonlData(DataLimits):
    """Conversations in any layout that people have: a local file, or any data set on the hub (docs/data.md)."""

    type: Literal["jsonl"]
    path: Name | None = Field(None, description="the file; or name a data set on the hub")
    name: Name | None = Field(None, description="hub id of a data set, in the place of path")
    revision: str = Field("main", description="of the data set on the hub; a commit makes runs reproducible")
    files: Name | None = Field(
        None,
        description="of the data set on the hub, `data/train-*.parquet`; unset: its only one, or the split train",
    )
    layout: LayoutName = Field("auto", description="auto: found in the first rows; else rows of another are refused")
    columns: ColumnNames = ColumnNames()
    tags: MessageTags = MessageTags()

    @model_validator(mode="after")
    def _one_place_and_one_layout(self) -> JsonlData:
        if (self.path is None) is (self.name is None):
            raise ValueError("name a local file (path) or a data set on the hub (name), and not both")
        if self.name is None and (self.revision != "main" or self.files is not None):
            raise ValueError("revision and files are of a data set on the hub: leave them out beside path")
        if self.layout not in ("auto", "chat") and self.has_names_of_its_own():
            raise ValueError(f"columns and tags are for messages: layout {self.layout} has none")
        return self

    def has_names_of_its_own(self) -> bool:
        """Whether columns, keys or roles are named."""
        return self.columns != ColumnNames() or self.tags != MessageTags()


DataConfig = BfclHalfData | ToolAceData | XlamData | JsonlData


class PromptConfig(Section):
    """How the model is shown tools, how it writes calls, and whether it thinks before it answers (docs/models.md)."""

    tools: Literal["auto", "template", "system"] = Field(
        "auto",
        description="template: by the model's chat template, which must know tools; system: as JSON in the system "
        "message; auto: by the template where it knows tools",
    )
    calls: Literal["python", "hermes", "llama3_json", "auto"] = Field(
        "python",
        description="python: [f(a=1), g()]; hermes: JSON between <tool_call> tags; llama3_json: bare JSON; auto: what "
        "the model's own chat template writes, python where it writes none of these",
    )
    thinking: bool = Field(
        False, description="whether the model thinks before each answer, in the mode of its chat template for that"
    )
    max_thinking_tokens: AtLeastOne = Field(
        1024, description="thoughts that are longer are ended there, and the answer follows"
    )


class DifficultyConfig(Section):
    """Thresholds of Section 3.1. a: candidate tools, b: characters of the tool list, c: calls in the response."""

    easy_max_tools: Count = 1
    easy_below_chars: Count = 1000
    easy_max_calls: Count = 1
    hard_min_tools: Count = 4
    hard_above_chars: Count = 2000
    hard_min_calls: Count = 4


class SplitConfig(Section):
    validation_fraction: Annotated[float, Field(ge=0.0, lt=1.0)] = Field(
        0.1, description="the paper warms up on 90% (Sec. 4.1)"
    )
    train_fraction: Share = Field(
        1.0, description="of what does not validate, drawn by seed; a smaller part is a part of the larger (Fig. 1, 8)"
    )
    warmup_fraction: Share = Field(
        1.0,
        description="of the training part that the warm-up trains on, in whole groups of near-duplicates; below 1 the "
        "replay buffer is drawn from the rest, which the policy has not seen",
    )
    difficulty: DifficultyConfig = DifficultyConfig()
