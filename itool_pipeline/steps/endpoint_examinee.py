"""A served model as a benchmark examines it: many requests side by side, each answer kept as a part when it comes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

from itool_pipeline.benchmarks.types import Answers
from itool_pipeline.calls.python_calls import PYTHON_CALLS
from itool_pipeline.calls.syntax import CallSyntax
from itool_pipeline.config import BenchmarkConfig, EndpointModel
from itool_pipeline.core.types import Example, Progress, no_progress
from itool_pipeline.engines.chat import Chat
from itool_pipeline.engines.endpoint.bounds import Usage
from itool_pipeline.engines.endpoint.client import EndpointClient, Stopped
from itool_pipeline.engines.endpoint.messages import answer_text, estimated_tokens, functions_request, prompt_request
from itool_pipeline.files.parts import Parts
from itool_pipeline.steps.models import chat
from itool_pipeline.steps.workspace import Workspace

_KEPT = "said_"


@dataclass(frozen=True, slots=True)
class Shown:
    """What is asked: an example, whose length in tokens is known or estimated."""

    example: Example
    tokens: int

    def __len__(self) -> int:
        return self.tokens


@dataclass(frozen=True)
class EndpointExaminee:
    """The endpoint of the experiment. `settings` are the benchmark's section of the config."""

    ws: Workspace
    model: EndpointModel
    settings: BenchmarkConfig
    parts: Parts
    template: Chat | None
    kept: dict[str, dict[str, Any]] = field(default_factory=dict)

    @staticmethod
    def of(ws: Workspace, model: EndpointModel, settings: BenchmarkConfig, parts: Parts) -> EndpointExaminee:
        names = sorted(path.name for path in parts.directory.glob(f"{_KEPT}*.json"))
        kept = {name: parts.read_json(name) for name in names if parts.has(name)}
        return EndpointExaminee(ws, model, settings, parts, chat(ws) if model.tokenizer else None, kept)

    @property
    def context(self) -> int | None:
        return None

    @property
    def tools_apart(self) -> bool:
        return self.model.tools == "functions"

    @property
    def syntax(self) -> CallSyntax:
        return PYTHON_CALLS

    @property
    def instructed(self) -> bool:
        return True

    @property
    def thoughts(self) -> Sequence[Mapping[str, Any]]:
        """None: what a served model thinks before it answers is its own affair."""
        return ()

    def prompt(self, example: Example) -> Shown:
        return Shown(example, len(self.template.prompt(example)) if self.template else estimated_tokens(example))

    def answer_each(self, examples: Sequence[Example]) -> Answers:
        prompts = {example.id: Shown(example, estimated_tokens(example)) for example in examples}
        return self._answered("answers", prompts, self.progress("cases answered"))

    def answer_round(self, name: str, prompts: Mapping[str, Shown]) -> Answers:
        return self._answered(name, prompts)

    def progress(self, unit: str) -> Progress:
        return self.ws.progress(unit)

    def say(self, line: str) -> None:
        self.ws.say(line)

    def usage(self) -> Usage:
        """Of all answers so far, those of killed runs included."""
        counts = (Usage(one["prompt_tokens"], one["completion_tokens"]) for one in self.kept.values())
        return sum(counts, Usage())

    def paid(self) -> dict[str, Any]:
        """For the artifact's metadata."""
        used = self.usage()
        cost = {"cost": used.cost(self.model)} if self.model.prompt_price is not None else {}
        return {"prompt_tokens": used.prompt, "completion_tokens": used.completion, **cost}

    def _answered(self, name: str, prompts: Mapping[str, Shown], progress: Progress = no_progress) -> Answers:
        part_of = {key: _part(name, key) for key in prompts}
        missing = {key: prompts[key] for key, part in part_of.items() if part not in self.kept}
        with closing(EndpointClient(self.model, self.usage())) as client:
            for key, said in self._each(client, missing) if missing else ():
                self.parts.write_json(part_of[key], said)
                self.kept[part_of[key]] = said
                progress(sum(part in self.kept for part in part_of.values()), len(part_of))
        return {key: self.kept[part]["answer"] for key, part in part_of.items()}

    def _each(self, client: EndpointClient, prompts: Mapping[str, Shown]) -> Iterator[tuple[str, dict[str, Any]]]:
        """(key, what is kept of its answer) as they come. After a failure those under way are waited for, then it is
        raised.
        """
        failed: Exception | None = None
        waiting = iter(prompts.items())
        with ThreadPoolExecutor(self.model.concurrency, thread_name_prefix="endpoint") as pool:
            under_way: dict[Future[dict[str, Any]], str] = {}
            try:
                while True:
                    while failed is None and len(under_way) < self.model.concurrency:
                        key, shown = next(waiting, ("", None))
                        if shown is None:
                            break
                        under_way[pool.submit(self._ask, client, shown)] = key
                    if not under_way:
                        break
                    for ended in wait(under_way, return_when=FIRST_COMPLETED).done:
                        key = under_way.pop(ended)
                        error = ended.exception()
                        if error is None:
                            yield key, ended.result()
                        elif failed is None or isinstance(failed, Stopped):
                            assert isinstance(error, Exception)
                            failed = error
                            client.stop()
            finally:
                client.stop()
        if failed is not None:
            raise failed

    def _ask(self, client: EndpointClient, shown: Shown) -> dict[str, Any]:
        example = shown.example
        request = functions_request(example) if self.tools_apart else prompt_request(example)
        # A prompt is longer for the server, whose template adds to it.
        most = Usage(2 * estimated_tokens(example), self.settings.max_new_tokens)
        reply = client.ask(request, most, f"case {example.id}")
        return {
            "case": example.id,
            "answer": answer_text(reply.message, example),
            "prompt_tokens": reply.usage.prompt,
            "completion_tokens": reply.usage.completion,
        }


def _part(name: str, key: str) -> str:
    return f"{_KEPT}{hashlib.sha256(f'{name}/{key}'.encode()).hexdigest()[:24]}.json"
