"""A checkpoint as a benchmark examines it: greedy answers in batches, each kept as a part."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from itool_pipeline.benchmarks.types import Answers, Prompt
from itool_pipeline.config import BenchmarkConfig
from itool_pipeline.core.types import Example, Progress
from itool_pipeline.engines.chat import Chat
from itool_pipeline.engines.types import Engine
from itool_pipeline.files.parts import Parts
from itool_pipeline.steps.artifact_files import POOL_FILE
from itool_pipeline.steps.example_files import read_prompts
from itool_pipeline.steps.models import chat, context_tokens, inference_engine, require_context
from itool_pipeline.steps.plan import cases_asset, checkpoints
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
        """Answers by key. All that are missing are asked at once; each batch is a part as soon as it is whole."""
        found: Answers = {}
        missing: dict[str, list[str]] = {}
        for number, ids in enumerate(prompt_batches(prompts, self.settings.batch_size)):
            part = f"{name}_{number:05d}.json"
            kept: Answers = self.parts.read_json(part) if self.parts.has(part) else {}
            if kept.keys() == set(ids):
                found |= kept
            else:
                missing[part] = ids
        for part, made in self._each_batch(missing, prompts) if missing else ():
            self.parts.write_json(part, made)
            found |= made
            if progress is not None:
                progress(len(found), len(prompts))
        return found

    def _each_batch(
        self, batches: Mapping[str, Sequence[str]], prompts: Mapping[str, Prompt]
    ) -> Iterator[tuple[str, Answers]]:
        """(part, its answers) as the batches become whole."""
        part_of = {key: part for part, ids in batches.items() for key in ids}
        answers: dict[str, Answers] = {part: {} for part in batches}
        for key, text in self.each_answer({key: prompts[key] for key in part_of}):
            batch = answers[part_of[key]]
            batch[key] = text
            if len(batch) == len(batches[part_of[key]]):
                yield part_of[key], answers.pop(part_of[key])

    def each_answer(self, prompts: Mapping[str, Prompt]) -> Iterator[tuple[str, str]]:
        """(key, greedy answer) as they come."""
        keys = list(prompts)
        for number, row in self._engine.answer_each(list(prompts.values()), self.settings.max_new_tokens):
            yield keys[number], self.template.text(row)

    @cached_property
    def _engine(self) -> Engine:
        # One for all rounds: a conversation's next prompt begins as the one before.
        return inference_engine(self.ws, checkpoints()[self.checkpoint], self.template)


def prompt_batches(prompts: Mapping[str, Prompt], most: int) -> list[list[str]]:
    """The keys in batches of at most `most`. Prompts that begin alike follow each other: they are computed together."""
    ordered = sorted(prompts, key=lambda key: (prompts[key], key))
    return [ordered[start : start + most] for start in range(0, len(ordered), most)]
