"""The replay buffer, the search and its rewards, and which pairs come of it (Section 3.2, App. B.1).

These sections are also the settings of the method: core is handed them as they are.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from itool_pipeline.config.fields import AtLeastOne, Count, Fraction, Positive, Section, Share, default_type


class ReplayBufferConfig(Section):
    """Which examples are searched (Sec. 3.2, "Sampling complex data")."""

    fraction: Share = Field(0.5, description="of the training set, drawn once")
    select_by: Literal["perplexity", "random", "mistakes"] = Field(
        "perplexity",
        description="mistakes: the fewest right among `answers` drawn ones first, then perplexity; how they are drawn "
        "and judged the section `search` says",
    )
    answers: Annotated[int, Field(ge=2, le=64)] = Field(
        4, description="drawn for each buffered example, with select_by: mistakes"
    )
    top_fraction: Share = Field(0.1, description="of the buffer, hardest first")
    balance: Literal["none", "by_call", "by_mistake"] = Field(
        "none",
        description="by_call: the fraction is taken of examples that expect a call and of the others separately; "
        "by_mistake, with select_by: mistakes: it is shared among the types of mistakes, as often as each occurs in "
        "the answers drawn in this iteration",
    )

    @model_validator(mode="after")
    def _mistakes_are_known(self) -> ReplayBufferConfig:
        if self.balance == "by_mistake" and self.select_by != "mistakes":
            raise ValueError("balance: by_mistake needs select_by: mistakes, for which answers are drawn and judged")
        return self


class OutcomeConfig(Section):
    """Outcome O of Eq. 6: `correct` or `wrong` at a terminal state; before it, `progress` times the agreement."""

    correct: float = 1.0
    wrong: float = -1.0
    progress: Fraction = 0.5
    judge: Literal["rules", "official"] = Field(
        "rules",
        description="of whole responses to BFCL's questions: our rules, which decide as its official checker does, or "
        "that checker itself",
    )


OptionWeights = tuple[float, float, float, float]
"""Of A, B, C and D (App. B.1)."""

_WEIGHTS: OptionWeights = (1.0, 0.1, -1.0, -2.0)


class ExactGrades(Section):
    """Self-evaluation C of Eq. 7: the exact expectation of the options' weights."""

    type: Literal["exact"] = "exact"
    weights: OptionWeights = _WEIGHTS


class SampledGrades(Section):
    """Self-evaluation C as App. B.1 estimates it: the mean weight of options that are drawn."""

    type: Literal["sampled"]
    samples: AtLeastOne = Field(4, description="answers drawn for each state")
    weights: OptionWeights = _WEIGHTS


class NoGrades(Section):
    """No self-evaluation: the reward is the outcome alone."""

    type: Literal["none"]


SelfEvaluationConfig = ExactGrades | SampledGrades | NoGrades
"""Told apart by `type`."""


class SearchBase(Section):
    """What a search and the sampling of whole responses share: how text is drawn, and how it is rewarded."""

    temperature: Positive = Field(1.5, description="of sampled fragments; priors are always at temperature 1")
    top_k: AtLeastOne = Field(50, description="fragments are drawn from the so many likeliest tokens")
    top_p: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    terminators: str = Field(",.)", min_length=1, description="characters that end a fragment")
    max_fragment_tokens: AtLeastOne = 32
    max_response_tokens: AtLeastOne = 256
    prior: Literal["geometric_mean", "product"] = "geometric_mean"
    outcome: OutcomeConfig = OutcomeConfig()
    self_evaluation: Annotated[SelfEvaluationConfig, Field(discriminator="type"), default_type("exact", "form")] = (
        ExactGrades()
    )
    shard_size: AtLeastOne = Field(
        16, description="trees that are kept as one part; a killed search loses what is in none"
    )


class MctsConfig(SearchBase):
    """Step-wise MCTS (Sec. 3.2; limits of App. B.1)."""

    type: Literal["mcts"] = "mcts"
    depth: AtLeastOne = Field(3, description="fragments from the root to the deepest node")
    width: Annotated[int, Field(ge=1, le=64)] = Field(3, description="children per node")
    iterations: AtLeastOne = Field(5, description="select-expand-backup rounds per tree")
    simulation: Count = Field(2, description="roll-out steps after each expansion")
    c: Annotated[float, Field(ge=0.0)] = Field(1.0, description="exploration constant of Eq. 5")
    gamma: Fraction = Field(1.0, description="discount of Eq. 9")
    samples: AtLeastOne = Field(4, description="fragments sampled per expansion; the first `width` distinct are kept")
    guide: Literal["none", "gold"] = Field(
        "none",
        description="gold: where a response is the gold answer so far, word for word, its next fragment is a child "
        "beside those that are drawn",
    )
    expand: Literal["all", "sound"] = Field(
        "all",
        description="sound: nothing is drawn below a response that has a flaw, of which no right answer can come; the "
        "iterations go where steps still part into right and wrong ones",
    )
    leaves: AtLeastOne = Field(1, description="paths of one tree that are under way at a time; in the paper one")
    virtual_loss: Annotated[float, Field(ge=0.0)] = Field(
        1.0, description="what each other path under way takes off Q in Eq. 5, so that paths part"
    )

    @model_validator(mode="after")
    def _enough_samples(self) -> MctsConfig:
        if self.samples < self.width:
            raise ValueError(f"samples ({self.samples}) must be at least width ({self.width})")
        return self


class SamplingConfig(SearchBase):
    """Whole responses in place of a search, the likeliest preferred to the least likely (w/o MCTS, Sec. 4.3.2)."""

    type: Literal["sampling"]
    responses: Annotated[int, Field(ge=2, le=64)] = Field(4, description="drawn for each example")


SearchConfig = MctsConfig | SamplingConfig
"""Told apart by `type`; a key that means nothing to the chosen one is refused."""


class PairsConfig(Section):
    """Which children of a node make a pair (Sec. 3.2), the three filters of App. B.1, and our own beside them."""

    truth: Literal["any", "gold"] = Field(
        "any",
        description="gold: only after a response without a flaw, a step that brings the answer on, and no flaw, is "
        "preferred to one that brings a flaw; by Q alone the less bad of two wrong steps is preferred too. A step "
        "brings the answer on when it is the gold answer's own (search.guide), when O rises, or when the answer is "
        "right after it: with search.outcome.progress 0 only the first and the last do",
    )

    per_node: Literal["extremes", "all"] = Field(
        "extremes",
        description="the best and the worst child, or every two children that differ enough in Q; with truth: gold "
        "the best that brings the answer on without a flaw and the likeliest with a flaw, or every two such",
    )
    max_similarity: Fraction = 0.95
    min_q_difference: Annotated[float, Field(ge=0.0)] | None = Field(0.1, description="null: whatever it is")
    min_chosen_q: float | None = Field(0.3, description="null: whatever it is")
    q_above: Literal["zero", "value", "siblings"] = Field(
        "zero", description="what min_chosen_q counts from: 0, V of the node, or the mean Q of the other children"
    )
    balance: Literal["none", "by_call"] = Field(
        "none",
        description="by_call: where one of two steps begins a call and the other does not, as many pairs prefer the "
        "one as the other",
    )
    max_pairs_per_tree: AtLeastOne | None = Field(None, description="largest difference in Q (or probability) first")
    max_pairs: AtLeastOne | None = Field(4000, description="largest difference in Q (or probability) first")
    few: Count = Field(0, description="an iteration with fewer pairs fails a check, which says what refused them")
    min_true_share: Fraction = Field(
        0.0,
        description="an iteration fails a check when fewer of its kept pairs are true by gold, see `truth`. By Q alone "
        "at most about half are; with search.outcome.progress 0, where only given steps and right answers bring the "
        "answer on, still fewer",
    )
