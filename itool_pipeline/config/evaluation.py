"""What each checkpoint is scored on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from itool_pipeline.config.categories import (
    BFCL_SINGLE_TURN,
    ApiBankLevel,
    BfclMultiTurnCategory,
    BfclSingleTurnCategory,
)
from itool_pipeline.config.fields import AtLeastOne, Fraction, Section

MAX_ITERATIONS = 5
"""How many iterations the asset graph unrolls: two beyond the paper's best, so that a decline shows (Fig. 7)."""


def checkpoints_of(iterations: int) -> tuple[str, ...]:
    """What can be scored, in its order: the base model, the policy after the warm-up and after each iteration."""
    return ("base", "warmup", *(f"iteration_{k}" for k in range(1, iterations + 1)))


CHECKPOINTS = checkpoints_of(MAX_ITERATIONS)
"""All that can be scored of any experiment."""

LAST = "last"
"""Stands for the last checkpoint that an experiment has."""

if TYPE_CHECKING:  # a type checker cannot read a choice that is made from a table; pydantic can
    Checkpoint = str
else:
    Checkpoint = Literal[(*CHECKPOINTS, LAST)]


class BenchmarkConfig(Section):
    """What is asked of every benchmark."""

    max_prompt_tokens: AtLeastOne = Field(4096, description="longer prompts are left out, and counted")
    max_new_tokens: AtLeastOne = 256
    batch_size: AtLeastOne = Field(16, description="answers that are kept as one part")


class BfclConfig(BenchmarkConfig):
    """Held-out cases scored by the official checkers. Nothing is trained on multi-turn cases: all are held out."""

    categories: Annotated[tuple[BfclSingleTurnCategory | BfclMultiTurnCategory, ...], Field(min_length=1)] = (
        BFCL_SINGLE_TURN
    )
    cases_per_category: AtLeastOne | None = Field(None, description="of each at most so many, drawn by seed")
    conversations_per_category: AtLeastOne | None = Field(
        None, description="of each multi-turn category, 200 being all; without it as many as cases_per_category"
    )
    max_prompt_tokens: AtLeastOne = Field(2048, description="longer prompts of one turn are left out, and counted")
    max_context_tokens: AtLeastOne = Field(
        8192, description="of a multi-turn conversation; one that grows longer ends there, and is wrong"
    )

    @model_validator(mode="after")
    def _room_for_a_prompt(self) -> BfclConfig:
        if self.max_context_tokens <= self.max_new_tokens:
            raise ValueError(
                f"max_context_tokens ({self.max_context_tokens}) must be larger than max_new_tokens "
                f"({self.max_new_tokens}): a prompt must fit in beside its answer"
            )
        return self


class ApiBankConfig(BenchmarkConfig):
    """API-Bank's cases, one for each API call (Sec. 4.1), decided without execution; see docs/api_bank.md."""

    path: str | None = Field(None, description="local copy with the dialogues; without it the hub is asked")
    name: str = "liminghao1630/API-Bank"
    revision: str = "12e8158b7628c168f07e8f31fbbe3445e99f44cf"
    levels: Annotated[tuple[ApiBankLevel, ...], Field(min_length=1)] = ("level_1", "level_2")
    cases_per_level: AtLeastOne | None = Field(None, description="at most so many, drawn by seed")


class CallsConfig(BenchmarkConfig):
    """Your own held-out conversations, in the layout of `data: {type: jsonl}`; see docs/calls.md."""

    path: str = Field(min_length=1, description="the file")
    cases: AtLeastOne | None = Field(None, description="at most so many, drawn by seed")


class ChampionConfig(Section):
    """When a checkpoint takes the title of champion from the one that holds it, on the same cases."""

    max_p: Fraction = Field(0.05, description="largest p of McNemar's exact test by which one wins, or is worse")
    category_floor: Fraction = Field(0.0, description="least accuracy of a champion in every category")
    category_drop: Fraction = Field(
        1.0,
        description="most accuracy that a champion may lose in any category; a base model that calls nothing has all "
        "abstentions right, and whoever calls loses some",
    )


class EvaluationConfig(Section):
    """Which checkpoints are scored, and which is the champion; a section for each benchmark, named as it is, `null`
    where it is not asked for.
    """

    checkpoints: Annotated[tuple[Checkpoint, ...], Field(min_length=1)] | None = Field(
        None, description="the base model, the warm-up's and every iteration's unless some are named; `last` is one"
    )
    champion: ChampionConfig = ChampionConfig()
    bfcl: BfclConfig | None = BfclConfig()
    api_bank: ApiBankConfig | None = Field(None, description="not scored unless asked for: no wheel carries it")
    calls: CallsConfig | None = Field(None, description="not scored unless a file is named")
