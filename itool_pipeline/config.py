"""Experiment configuration: frozen, validated, and free of torch. `experiment_files` reads it from YAML."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Share = Annotated[float, Field(gt=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0)]
Count = Annotated[int, Field(ge=0)]
AtLeastOne = Annotated[int, Field(ge=1)]

MAX_ITERATIONS = 3
"""How many iterations the asset graph unrolls (the paper's best is 3, Fig. 7)."""

BfclTrainingCategory = Literal[
    "simple_python",
    "multiple",
    "parallel",
    "parallel_multiple",
    "irrelevance",
    "live_simple",
    "live_multiple",
    "live_parallel",
    "live_parallel_multiple",
    "live_irrelevance",
]
BfclSingleTurnCategory = BfclTrainingCategory | Literal["simple_java", "simple_javascript", "live_relevance"]
BfclMultiTurnCategory = Literal[
    "multi_turn_base", "multi_turn_miss_func", "multi_turn_miss_param", "multi_turn_long_context"
]

BFCL_TRAINING: tuple[BfclTrainingCategory, ...] = get_args(BfclTrainingCategory)
"""BFCL's single-turn Python categories that carry a gold answer to train on."""

BFCL_SINGLE_TURN: tuple[BfclSingleTurnCategory, ...] = (
    *BFCL_TRAINING,
    "simple_java",
    "simple_javascript",
    "live_relevance",
)
"""All single-turn categories, to be scored."""

BFCL_MULTI_TURN: tuple[BfclMultiTurnCategory, ...] = get_args(BfclMultiTurnCategory)
"""The multi-turn categories, to be scored."""


ApiBankLevel = Literal["level_1", "level_2"]


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class WheelModel(Section):
    """The embedded model: SmolLM2-135M-Instruct out of its wheel on the Python index."""

    type: Literal["smollm2_wheel"] = "smollm2_wheel"


class HubModel(Section):
    """A causal language model on the Hugging Face hub, or a local directory, in safetensors."""

    type: Literal["hub"]
    name: str = Field(min_length=1, description="hub id or directory")
    revision: str = Field("main", description="commit, tag or branch; a commit makes runs reproducible")


class ComputeConfig(Section):
    """Where and how the model computes. Does not change what is computed, except by rounding."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    dtype: Literal["auto", "bfloat16", "float32"] = Field(
        "auto", description="auto: bf16 where the device has the instructions, fp32 elsewhere"
    )
    batch_tokens: AtLeastOne = Field(8192, description="prompt tokens in one forward pass of the engine")
    prefix_cache_gib: Positive = Field(2.0, description="bound on the KV cache of prompts")


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
    """Your own conversations: OpenAI's chat layout, one JSON object in a line (docs/data.md)."""

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
    difficulty: DifficultyConfig = DifficultyConfig()


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


class ReplayBufferConfig(Section):
    """Which examples are searched (Sec. 3.2, "Sampling complex data")."""

    fraction: Share = Field(0.5, description="of the training set, drawn once")
    select_by: Literal["perplexity", "random"] = "perplexity"
    top_fraction: Share = Field(0.1, description="of the buffer, hardest first")
    balance: Literal["none", "by_call"] = Field(
        "none", description="by_call: the fraction is taken of examples that expect a call and of the others separately"
    )


class OutcomeConfig(Section):
    """Outcome O of Eq. 6: `correct` or `wrong` at a terminal state; before it, `progress` times the agreement."""

    correct: float = 1.0
    wrong: float = -1.0
    progress: Fraction = 0.5


class SelfEvaluationConfig(Section):
    """Self-evaluation C of Eq. 7: option probabilities, weighted (App. B.1)."""

    enabled: bool = True
    form: Literal["exact", "sampled"] = Field(
        "exact", description="expectation over the options, or the mean of answers that are drawn (App. B.1)"
    )
    samples: AtLeastOne = Field(4, description="answers drawn for each state in the sampled form")
    weights: tuple[float, float, float, float] = (1.0, 0.1, -1.0, -2.0)


class SearchConfig(Section):
    """Step-wise MCTS (Sec. 3.2; limits of App. B.1), or whole responses in its place (w/o MCTS, Sec. 4.3.2)."""

    method: Literal["mcts", "sampling"] = Field(
        "mcts",
        description="sampling: `responses` whole ones are drawn and the likeliest is preferred to the least likely; "
        "the limits of the tree do not matter then",
    )
    responses: Annotated[int, Field(ge=2, le=64)] = Field(4, description="drawn for each example by `sampling`")
    depth: AtLeastOne = Field(3, description="fragments from the root to the deepest node")
    width: Annotated[int, Field(ge=1, le=64)] = Field(3, description="children per node")
    iterations: AtLeastOne = Field(5, description="select-expand-backup rounds per tree")
    simulation: Count = Field(2, description="roll-out steps after each expansion")
    c: Annotated[float, Field(ge=0.0)] = Field(1.0, description="exploration constant of Eq. 5")
    gamma: Fraction = Field(1.0, description="discount of Eq. 9")
    temperature: Positive = Field(1.5, description="of sampled fragments; priors are always at temperature 1")
    top_k: AtLeastOne = Field(50, description="fragments are drawn from the so many likeliest tokens")
    top_p: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    samples: AtLeastOne = Field(4, description="fragments sampled per expansion; the first `width` distinct are kept")
    terminators: str = Field(",.)", min_length=1, description="characters that end a fragment")
    max_fragment_tokens: AtLeastOne = 32
    max_response_tokens: AtLeastOne = 256
    prior: Literal["geometric_mean", "product"] = "geometric_mean"
    outcome: OutcomeConfig = OutcomeConfig()
    self_evaluation: SelfEvaluationConfig = SelfEvaluationConfig()
    shard_size: AtLeastOne = Field(16, description="trees searched together by one op")

    @model_validator(mode="after")
    def _enough_samples(self) -> SearchConfig:
        if self.samples < self.width:
            raise ValueError(f"samples ({self.samples}) must be at least width ({self.width})")
        return self


class PairsConfig(Section):
    """Which children of a node make a pair (Sec. 3.2), and the three filters of App. B.1."""

    per_node: Literal["extremes", "all"] = Field(
        "extremes", description="the best and the worst child, or every two children that differ enough in Q"
    )
    max_similarity: Fraction = 0.95
    min_q_difference: Annotated[float, Field(ge=0.0)] = 0.1
    min_chosen_q: float = 0.3
    max_pairs: AtLeastOne | None = Field(4000, description="largest difference in Q (or probability) first")


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


class BfclConfig(Section):
    """Held-out cases scored by the official checkers. Nothing is trained on multi-turn cases: all are held out."""

    categories: Annotated[tuple[BfclSingleTurnCategory | BfclMultiTurnCategory, ...], Field(min_length=1)] = (
        BFCL_SINGLE_TURN
    )
    cases_per_category: AtLeastOne | None = Field(None, description="of each at most so many, drawn by seed")
    conversations_per_category: AtLeastOne | None = Field(
        None, description="of each multi-turn category, 200 being all; without it as many as cases_per_category"
    )
    max_prompt_tokens: AtLeastOne = Field(2048, description="longer prompts of one turn are left out, and counted")
    max_new_tokens: AtLeastOne = 256
    max_context_tokens: AtLeastOne = Field(
        8192, description="of a multi-turn conversation; one that grows longer ends there, and is wrong"
    )
    batch_size: AtLeastOne = 16

    @model_validator(mode="after")
    def _room_for_a_prompt(self) -> BfclConfig:
        if self.max_context_tokens <= self.max_new_tokens:
            raise ValueError(
                f"max_context_tokens ({self.max_context_tokens}) must be larger than max_new_tokens "
                f"({self.max_new_tokens}): a prompt must fit in beside its answer"
            )
        return self


class ApiBankConfig(Section):
    """API-Bank's cases, one for each API call (Sec. 4.1), decided without execution; see docs/api_bank.md."""

    path: str | None = Field(None, description="local copy with the dialogues; without it the hub is asked")
    name: str = "liminghao1630/API-Bank"
    revision: str = "12e8158b7628c168f07e8f31fbbe3445e99f44cf"
    levels: Annotated[tuple[ApiBankLevel, ...], Field(min_length=1)] = ("level_1", "level_2")
    cases_per_level: AtLeastOne | None = Field(None, description="at most so many, drawn by seed")
    max_prompt_tokens: AtLeastOne = Field(4096, description="longer prompts are left out, and counted")
    max_new_tokens: AtLeastOne = 256
    batch_size: AtLeastOne = 16


class EvaluationConfig(Section):
    bfcl: BfclConfig = BfclConfig()
    api_bank: ApiBankConfig | None = Field(None, description="not scored unless asked for: no wheel carries it")


class Experiment(Section):
    """One experiment: everything that decides what the pipeline computes."""

    name: str
    description: str = ""
    scheduled: bool = Field(False, description="run by the weekly schedule, when that is switched on")
    seed: Count = 0
    model: Annotated[WheelModel | HubModel, Field(discriminator="type")]
    compute: ComputeConfig = ComputeConfig()
    data: Annotated[DataConfig, Field(discriminator="type")]
    prompt: PromptConfig = PromptConfig()
    split: SplitConfig = SplitConfig()
    warmup: WarmupConfig = WarmupConfig()
    iterations: Annotated[int, Field(ge=0, le=MAX_ITERATIONS)] = 3
    replay_buffer: ReplayBufferConfig = ReplayBufferConfig()
    search: SearchConfig = SearchConfig()
    pairs: PairsConfig = PairsConfig()
    preference: PreferenceConfig = PreferenceConfig()
    evaluation: EvaluationConfig = EvaluationConfig()

    @model_validator(mode="after")
    def _pairs_need_action_values(self) -> Experiment:
        if self.search.method == "sampling" and self.pairs.per_node == "all":
            raise ValueError("pairs.per_node: all compares by Q, which search.method: sampling does not; say extremes")
        return self
