"""The warm-up (Section 3.1) and preference training (Section 3.2)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from itool_pipeline.config.fields import AtLeastOne, Fraction, Positive, Section, Weight


class LoraConfig(Section):
    rank: AtLeastOne = 16
    alpha: AtLeastOne = 32
    dropout: Fraction = 0.0
    targets: Literal["all-linear"] | tuple[str, ...] = "all-linear"


class OptimizerConfig(Section):
    """AdamW with a cosine schedule (App. B.1)."""

    learning_rate: Positive
    epochs: AtLeastOne = 1
    batch_size: AtLeastOne = Field(8, description="examples (or pairs) per optimizer step, by gradient accumulation")
    warmup_ratio: Fraction = 0.1
    weight_decay: Weight = 0.0
    max_grad_norm: Positive = 1.0
    micro_batch_tokens: AtLeastOne = Field(4096, description="tokens in one forward and backward pass")
    checkpoint_every: AtLeastOne = Field(20, description="optimizer steps between resumable checkpoints")
    validate_every: AtLeastOne = Field(100, description="optimizer steps between validations, beside epoch ends")


class WarmupConfig(Section):
    """Warm-up SFT from easy to hard (Sec. 3.1, Eq. 2 and 3), and what stands in its place (Table 3, Fig. 5)."""

    curriculum: Literal["easy_to_hard", "easy_to_medium", "easy", "mixed", "none"] = Field(
        "easy_to_hard",
        description="easy_to_medium, easy: the curriculum ends there (Fig. 5); mixed: the last stage trains on all "
        "difficulties at once; none: preference training starts from the base model. Stages that train nothing pass "
        "the checkpoint on",
    )
    adapter: Annotated[str, Field(min_length=1)] | None = Field(
        None,
        description="your own LoRA adapter on the base model, in the place of the training, whose stages then train "
        "nothing: a folder, or OWNER/NAME or OWNER/NAME@REVISION on the hub",
    )
    lora: LoraConfig = LoraConfig()
    optimizer: OptimizerConfig = OptimizerConfig(learning_rate=2e-4)

    @model_validator(mode="after")
    def _adapter_or_training(self) -> WarmupConfig:
        if self.adapter is not None and self.curriculum not in ("easy_to_hard", "none"):
            raise ValueError(
                f"adapter stands in the place of the training, and curriculum: {self.curriculum} asks for one; leave "
                "one of the two out"
            )
        return self


class SimpoLoss(Section):
    """SimPO (Eq. 10 and 11), the paper's loss: length-normalised, without a reference policy."""

    type: Literal["simpo"] = "simpo"
    beta: Positive = 2.5
    gamma: Weight = Field(0.5, description="target reward margin; 0: without margin")
    nll_weight: Weight = Field(0.0, description="of the chosen's mean negative log-likelihood; above 0: CPO-SimPO")


class ReferenceLoss(Section):
    """What the losses that compare with a reference policy share."""

    beta: Positive = 0.1
    reference: Literal["start", "base"] = Field(
        "start", description="the policy before its first step, or the base model"
    )


class DpoLoss(ReferenceLoss):
    """DPO (Rafailov et al. 2023)."""

    type: Literal["dpo"]


class IpoLoss(ReferenceLoss):
    """IPO (Azar et al. 2023)."""

    type: Literal["ipo"]


class OrpoLoss(Section):
    """ORPO (Hong et al. 2024): the likelihood of the chosen, and β times its odds against the rejected."""

    type: Literal["orpo"]
    beta: Positive = 0.1


class CpoLoss(Section):
    """CPO (Xu et al. 2024): DPO with a uniform reference, and the likelihood of the chosen beside it."""

    type: Literal["cpo"]
    beta: Positive = 0.1
    nll_weight: Weight = Field(1.0, description="of the chosen's mean negative log-likelihood; cpo_alpha in TRL")


PreferenceLoss = SimpoLoss | DpoLoss | IpoLoss | OrpoLoss | CpoLoss
"""Told apart by `type`; a key that means nothing to the loss is refused."""


class RejectionSampling(Section):
    """No preferences: the likelihood of right answers that the policy gave (Yuan et al. 2023, RFT), for comparison."""

    type: Literal["rejection_sampling"]
    answers_per_tree: AtLeastOne = Field(4, description="distinct ones, the first that were found")


class ContinuedSft(Section):
    """No preferences: the gold answers of the whole training part once more, for comparison at as many tokens."""

    type: Literal["sft"]


class Grpo(Section):
    """No preferences: GRPO (Shao et al. 2024) by TRL's trainer, at equal generated tokens, for comparison.

    An optimizer step takes `optimizer.batch_size` completions; `epochs` and `validate_every` mean nothing to it.
    """

    type: Literal["grpo"]
    generations: Annotated[int, Field(ge=2)] = Field(8, description="completions of a prompt that are compared")
    beta: Weight = Field(0.0, description="of the KL divergence from the policy before its first step")
    budget: Literal["search"] | AtLeastOne = Field(
        "search", description="tokens to generate; search: as many as the iteration's search"
    )


class PreferenceConfig(Section):
    """Preference training on step-level pairs (Eq. 10 and 11)."""

    loss: Annotated[PreferenceLoss | RejectionSampling | ContinuedSft | Grpo, Field(discriminator="type")] = SimpoLoss()
    gold_weight: Weight = Field(
        0.0,
        description="of the negative log-likelihood of a gold answer of mean length beside the pairs of its tree, all "
        "tokens alike; above 0 the policy goes on learning what it was warmed up with",
    )
    rehearse: bool = Field(
        False,
        description="beside the pairs stand the gold answers of all that the warm-up trained on, and not only of "
        "trees that gave a pair: calls and abstentions stay as frequent as they are",
    )
    keep: Literal["lowest_loss", "most_right"] = Field(
        "lowest_loss",
        description="which of the weights that were validated are kept; most_right: those that answer most of the "
        "warm-up's validation examples right, the policy before the training being one of them: it stays where all "
        "others are worse",
    )
    quantization: Literal["nf4", "none"] = "nf4"
    max_tokens: AtLeastOne = Field(4096, description="of prompt, path and fragment together")
    overlong: Literal["refuse", "cut_left"] = Field(
        "refuse", description="what becomes of longer ones; both are counted"
    )
    optimizer: OptimizerConfig = OptimizerConfig(learning_rate=1e-6, epochs=2)

    @model_validator(mode="before")
    @classmethod
    def _loss_is_a_section(cls, content: object) -> object:
        """Earlier files say `loss: dpo` and have the loss's keys beside it."""
        if isinstance(content, dict):
            moved = sorted({"beta", "gamma", "reference"} & content.keys())
            if isinstance(content.get("loss"), str) or moved:
                name = content["loss"] if isinstance(content.get("loss"), str) else "simpo"
                raise ValueError(
                    "the loss is a section of its own, with the keys that mean something to it: "
                    f"loss: {{type: {', '.join([name, *(f'{key}: {content[key]}' for key in moved)])}}}"
                )
        return content

    @model_validator(mode="after")
    def _keys_fit_the_loss(self) -> PreferenceConfig:
        if isinstance(self.loss, Grpo):
            size, group = self.optimizer.batch_size, self.loss.generations
            if size % group:
                raise ValueError(
                    f"with loss.type: grpo, optimizer.batch_size ({size}) counts completions and must be a multiple of "
                    f"loss.generations ({group})"
                )
            if self.keep != "lowest_loss":
                raise ValueError("keep means nothing to loss.type: grpo, which validates nothing; leave it out")
        if self.rehearse and not self.gold_weight:
            raise ValueError("rehearse is of gold answers, and gold_weight, which says how much they count, is 0")
        if self.gold_weight and not isinstance(self.loss, PreferenceLoss):
            raise ValueError(
                f"gold_weight stands beside pairs, which loss.type: {self.loss.type} does not train on; leave it out"
            )
        return self
