"""The warm-up (Section 3.1) and preference training (Section 3.2)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from itool_pipeline.config.fields import AtLeastOne, Fraction, Positive, Section


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
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.0
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
    lora: LoraConfig = LoraConfig()
    optimizer: OptimizerConfig = OptimizerConfig(learning_rate=2e-4)


class PreferenceConfig(Section):
    """Preference training on step-level pairs (Eq. 10 and 11)."""

    loss: Literal["simpo", "dpo", "ipo", "orpo"] = "simpo"
    beta: Positive = 2.5
    gamma: Annotated[float, Field(ge=0.0)] = Field(0.5, description="SimPO's target reward margin; 0: without margin")
    reference: Literal["start", "base"] = Field(
        "start", description="DPO and IPO compare with the policy before its first step, or with the base model"
    )
    quantization: Literal["nf4", "none"] = "nf4"
    max_tokens: AtLeastOne = Field(4096, description="of prompt, path and fragment together")
    overlong: Literal["refuse", "cut_left"] = Field(
        "refuse", description="what becomes of longer ones; both are counted"
    )
    optimizer: OptimizerConfig = OptimizerConfig(learning_rate=1e-6, epochs=2)
