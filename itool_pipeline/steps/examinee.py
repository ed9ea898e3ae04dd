"""A checkpoint as a benchmark examines it: greedy answers in batches, each kept as a part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from itool_pipeline.benchmarks.types import Answers, Prompt
from itool_pipeline.config import BenchmarkConfig
from itool_pipeline.core.types import Example, Progress
from itool_pipeline.engines.chat import Chat
from itool_pipeline.files.parts import Parts
from itool_pipeline.steps.artifact_files import POOL_FILE
from itool_pipeline.steps.example_files import read_prompts
from itool_pipeline.steps.models import chat, context_tokens, inference_engine, require_context
from itool_pipeline.steps.plan import cases_asset, checkpoints
from itool_pipeline.steps.workspace import Workspace


@dataclass(frozen=True, slots=True)
class ModelExaminee:
    """The model at a checkpoint. `benchmark` names the section of the config that `settings` are."""

    ws: Workspace
    checkpoint: str
    benchmark: str
    settings: BenchmarkConfig
    template: Chat
    parts: Parts

    @staticmethod
    def of(ws: Workspace, checkpoint: str, benchmark: str, settings: BenchmarkConfig, parts: Parts) -> ModelExaminee:
        return ModelExaminee(ws, checkpoint, benchmark, settings, chat(ws), parts)

    @property
    def context(self) -> int | None:
        return context_tokens(self.ws)

    def prompt(self, example: Example) -> Prompt:
        return self.template.prompt(example)

    def answer_each(self, examples: Sequence[Example]) -> Answers:
        # As the pool has them: a case is rendered and tokenised once, however many checkpoints answer it.
        pool = self.ws.input(cases_asset(self.benchmark)).file(POOL_FILE)
        prompts = read_prompts(pool, {example.id for example in examples})
        section = f"evaluation.{self.benchmark}"
        longest = max(map(len, prompts.values()), default=0) + self.settings.max_new_tokens
        require_context(self.ws, longest, f"answering {section}", f"{section}.max_prompt_tokens or max_new_tokens")
        return self._answered("answers", prompts, self.progress("cases answered"))

    def answer_round(self, name: str, prompts: Mapping[str, Prompt]) -> Answers:
        return self._answered(name, prompts)

    def progress(self, unit: str) -> Progress:
        return self.ws.progress(unit)

    def say(self, line: str) -> None:
        self.ws.say(line)

    def _answered(self, name: str, prompts: Mapping[str, Prompt], progress: Progress | None = None) -> Answers:
        found: Answers = {}
        lengths = {key: len(prompt) for key, prompt in prompts.items()}
        tokens = self.ws.experiment.compute.batch_tokens
        for number, ids in enumerate(length_batches(lengths, self.settings.batch_size, tokens)):
            found |= self._kept(f"{name}_{number:05d}.json", {key: prompts[key] for key in ids})
            if progress is not None:
                progress(len(found), len(prompts))
        return found

    def _kept(self, part: str, prompts: Mapping[str, Prompt]) -> Answers:
        """The part if it answers just these prompts, else their answers, kept as that part."""
        if self.parts.has(part):
            kept: Answers = self.parts.read_json(part)
            if kept.keys() == prompts.keys():
                return kept
        made = self.answer_batch(prompts)
        self.parts.write_json(part, made)
        return made

    def answer_batch(self, prompts: Mapping[str, Prompt]) -> Answers:
        """Key → the greedy answer to one batch of prompts."""
        engine = inference_engine(self.ws, checkpoints()[self.checkpoint], self.template)
        rows = engine.answer(list(prompts.values()), self.settings.max_new_tokens)
        return {key: self.template.text(row) for key, row in zip(prompts, rows, strict=True)}


def length_batches(lengths: Mapping[str, int], most: int, tokens: int) -> list[list[str]]:
    """The keys, longest first, in batches of at most `most` that padded to their longest hold at most `tokens`.

    What is longer than `tokens` is a batch alone.
    """
    made: list[list[str]] = []
    for key in sorted(lengths, key=lambda key: (-lengths[key], key)):
        if made and len(made[-1]) < most and (len(made[-1]) + 1) * lengths[made[-1][0]] <= tokens:
            made[-1].append(key)
        else:
            made.append([key])
    return made
