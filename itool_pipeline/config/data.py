"""What is trained on, how the model is shown it, and how it is divided."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from itool_pipeline.config.categories import (
    BFCL_TRAINING,
    BfclTrainingCategory,
)
from itool_pipeline.config.fields import AtLeastOne, Count, Fraction, Section, Share


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


class JsonlData(DataLimits):
    """Your own conversations: OpenAI's chat layout, in JSON lines, a JSON array or Parquet (docs/data.md)."""

    type: Literal["jsonl"]
    path: str = Field(min_length=1, description="the file")


DataConfig = BfclHalfData | ToolAceData | XlamData | JsonlData


class PromptConfig(Section):
    """How the model is shown its tools."""

    tools: Literal["auto", "template", "system"] = Field(
        "auto",
        description="template: by the model's chat template, which must know tools; system: as JSON in the system "
        "message; auto: by the template where it knows tools",
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
