"""One experiment: all sections together."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from itool_pipeline.config.categories import BFCL_CATEGORIES
from itool_pipeline.config.data import DataConfig, PromptConfig, SplitConfig
from itool_pipeline.config.evaluation import LAST, MAX_ITERATIONS, EvaluationConfig, checkpoints_of
from itool_pipeline.config.fields import Count, Section, default_type
from itool_pipeline.config.model import ComputeConfig, EndpointModel, HubModel, WheelModel
from itool_pipeline.config.search import (
    MctsConfig,
    PairsConfig,
    ReplayBufferConfig,
    SamplingConfig,
    SearchBase,
    SearchConfig,
)
from itool_pipeline.config.tracking import NoTracking, TrackingConfig
from itool_pipeline.config.training import Grpo, PreferenceConfig, WarmupConfig


class Experiment(Section):
    """One experiment: everything that decides what the pipeline computes."""

    name: str
    description: str = ""
    ablations: tuple[str, ...] = Field(
        (), description="experiments whose changes to what they extend are made to this one, each as NAME__ABLATION"
    )
    scheduled: bool = Field(False, description="run by the weekly schedule, when that is switched on")
    seed: Count = 0
    model: Annotated[WheelModel | HubModel | EndpointModel, Field(discriminator="type")]
    compute: ComputeConfig = ComputeConfig()
    data: Annotated[DataConfig, Field(discriminator="type")]
    prompt: PromptConfig = PromptConfig()
    split: SplitConfig = SplitConfig()
    warmup: WarmupConfig = WarmupConfig()
    iterations: Annotated[int, Field(ge=0, le=MAX_ITERATIONS)] = 3
    replay_buffer: ReplayBufferConfig = ReplayBufferConfig()
    search: Annotated[SearchConfig, Field(discriminator="type"), default_type("mcts", "method")] = MctsConfig()
    pairs: PairsConfig = PairsConfig()
    preference: PreferenceConfig = PreferenceConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    tracking: Annotated[TrackingConfig, Field(discriminator="type")] = NoTracking()

    def answers_drawn(self) -> SamplingConfig:
        """How answers are drawn and judged that choose the examples (`replay_buffer.select_by: mistakes`)."""
        shared = {key: getattr(self.search, key) for key in SearchBase.model_fields}
        return SamplingConfig(type="sampling", responses=self.replay_buffer.answers, **shared)

    def scored_checkpoints(self) -> tuple[str, ...]:
        """The checkpoints that are scored, in their order."""
        there = checkpoints_of(self.iterations)
        if isinstance(self.model, EndpointModel):
            there = there[:1]
        asked = self.evaluation.checkpoints
        return there if asked is None else tuple(n for n in there if n in asked or (n == there[-1] and LAST in asked))

    @model_validator(mode="after")
    def _an_endpoint_answers_and_nothing_else(self) -> Experiment:
        if not isinstance(self.model, EndpointModel):
            return self
        wrong = []
        if self.warmup.curriculum != "none":
            wrong.append("it cannot be warmed up: set warmup: {curriculum: none}")
        if self.iterations:
            wrong.append("it cannot be searched with or trained: set iterations: 0")
        if set(self.evaluation.checkpoints or ()) - {"base", LAST}:
            wrong.append("it has no checkpoint but base: set evaluation.checkpoints: [base]")
        if self.evaluation.bfcl and self.model.tools == "functions":
            other = [name for name in self.evaluation.bfcl.categories if BFCL_CATEGORIES[name].language != "python"]
            if other:
                wrong.append(
                    f"model.tools: functions has values in JSON, and not in the languages of {', '.join(other)}: leave "
                    "them out of evaluation.bfcl.categories, or set model.tools: prompt"
                )
        if wrong:
            raise ValueError(f"model.type: endpoint answers the benchmarks and nothing else; {'; '.join(wrong)}")
        return self

    @model_validator(mode="after")
    def _scored_checkpoints_are_there(self) -> Experiment:
        absent = sorted({*(self.evaluation.checkpoints or ())} - {*checkpoints_of(self.iterations), LAST})
        if absent:
            raise ValueError(
                f"evaluation.checkpoints asks for {', '.join(absent)}, and the experiment has {self.iterations} "
                f"iterations; {LAST} is its last checkpoint, whichever that is"
            )
        return self

    @model_validator(mode="after")
    def _answers_need_validation_examples(self) -> Experiment:
        if self.preference.keep == "most_right" and not self.split.validation_fraction:
            raise ValueError("preference.keep: most_right needs examples to answer: raise split.validation_fraction")
        return self

    @model_validator(mode="after")
    def _trainings_can_be_shared_out(self) -> Experiment:
        loss = self.preference.loss if self.iterations else None
        if isinstance(loss, Grpo) and self.compute.processes > 1:
            raise ValueError(
                "compute.processes above 1 is not for preference.loss.type: grpo, which TRL trains in one process"
            )
        if loss is not None and self.compute.sharding == "fsdp" and self.preference.quantization != "none":
            raise ValueError(
                "compute.sharding: fsdp shares out weights in bf16 or fp32, and preference.quantization is "
                f"{self.preference.quantization}, which was never run with it; set preference.quantization: none, or "
                "compute.sharding: none, with which each process holds all weights in 4 bits"
            )
        return self

    @model_validator(mode="after")
    def _pairs_need_action_values(self) -> Experiment:
        usual = PairsConfig()
        compared = ("truth", "per_node", "min_q_difference", "min_chosen_q", "q_above")
        for key in compared if isinstance(self.search, SamplingConfig) else ():
            if getattr(self.pairs, key) != getattr(usual, key):
                raise ValueError(f"pairs.{key} compares by Q, which search.type: sampling does not; leave it out")
        return self
