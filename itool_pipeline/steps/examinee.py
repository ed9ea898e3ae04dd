"""A checkpoint as a benchmark examines it: greedy answers in batches, each kept as a part."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from itool_pipeline.benchmarks.types import Answers, Prompt
from itool_pipeline.calls.syntax import CallSyntax
from itool_pipeline.config import BenchmarkConfig
from itool_pipeline.core.types import Example, Progress, no_progress
from itool_pipeline.engines.chat import Chat
from itool_pipeline.engines.types import Engine
from itool_pipeline.files.parts import Parts
from itool_pipeline.steps.answer_batches import answers_in_batches
from itool_pipeline.steps.artifact_files import POOL_FILE
from itool_pipeline.steps.asset_graph import cases_asset, checkpoints
from itool_pipeline.steps.example_files import read_prompts
from itool_pipeline.steps.models import call_syntax, chat, context_tokens, inference_engine, require_context
from itool_pipeline.steps.thoughts import ROUND, Thought, each_thought, thought_row
from itool_pipeline.steps.workspace import Workspace


@dataclass(frozen=True)
class ModelExaminee:
    """The model at a checkpoint. `benchmark` names the section of the config that `settings` are."""

    ws: Workspace
    checkpoint: str
    benchmark: str
    settings: BenchmarkConfig
    template: Chat
    parts: Parts
    thoughts: list[dict[str, Any]] = field(default_factory=list)
    """Rows of the table `thoughts`, of all that was answered so far."""

    @staticmethod
    def of(ws: Workspace, checkpoint: str, benchmark: str, settings: BenchmarkConfig, parts: Parts) -> ModelExaminee:
        return ModelExaminee(ws, checkpoint, benchmark, settings, chat(ws), parts)

    @property
    def context(self) -> int | None:
        tokens = context_tokens(self.ws)
        return tokens if tokens is None else tokens - self._most_thoughts

    @property
    def tools_apart(self) -> bool:
        return False

    @cached_property
    def syntax(self) -> CallSyntax:
        return call_syntax(self.ws)

    @property
    def instructed(self) -> bool:
        return not self.template.is_untouched

    def prompt(self, example: Example) -> Prompt:
        return self.template.prompt(example)

    def answer_each(self, examples: Sequence[Example]) -> Answers:
        # As the pool has them: a case is rendered and tokenised once, however many checkpoints answer it.
        pool = self.ws.input(cases_asset(self.benchmark)).file(POOL_FILE)
        prompts = read_prompts(pool, {example.id for example in examples})
        section = f"evaluation.{self.benchmark}"
        longest = max(map(len, prompts.values()), default=0) + self.settings.max_new_tokens + self._most_thoughts
        require_context(self.ws, longest, f"answering {section}", f"{section}.max_prompt_tokens or max_new_tokens")
        return self._answered(ROUND, prompts, self.progress("cases answered"))

    def answer_round(self, name: str, prompts: Mapping[str, Prompt]) -> Answers:
        return self._answered(name, prompts)

    def progress(self, unit: str) -> Progress:
        return self.ws.progress(unit)

    def say(self, line: str) -> None:
        self.ws.say(line)

    def _answered(self, name: str, prompts: Mapping[str, Prompt], progress: Progress = no_progress) -> Answers:
        """Answers by key, each behind what the model thinks first, where it does."""
        size = self.settings.batch_size
        if self.ws.experiment.prompt.thinking:
            span = self.template.thoughts
            assert span is not None
            found = answers_in_batches(self.parts, f"{name}_thoughts", prompts, size, self._each_thought)
            self.thoughts.extend(thought_row(key, name, thought) for key, thought in found.items())
            prompts = {key: span.filled(prompt, found[key]["text"]) for key, prompt in prompts.items()}
        return answers_in_batches(self.parts, name, prompts, size, self.each_answer, progress)

    def _each_thought(self, prompts: Mapping[str, Prompt]) -> Iterator[tuple[str, Thought]]:
        return each_thought(self._engine, self.template, prompts, self._most_thoughts)

    def each_answer(self, prompts: Mapping[str, Prompt]) -> Iterator[tuple[str, str]]:
        """(key, greedy answer) as they come."""
        keys = list(prompts)
        for number, row in self._engine.answer_each(list(prompts.values()), self.settings.max_new_tokens):
            yield keys[number], self.template.text(row)

    @property
    def _most_thoughts(self) -> int:
        asked = self.ws.experiment.prompt
        return asked.max_thinking_tokens if asked.thinking else 0

    @cached_property
    def _engine(self) -> Engine:
        # One for all rounds: a conversation's next prompt begins as the one before.
        return inference_engine(self.ws, checkpoints()[self.checkpoint], self.template)
