"""Whether an exported checkpoint serves what was scored: asked by a real client, its calls beside those of the rows."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from itool_pipeline.calls.served import OWN_PARSER, ServedSyntax
from itool_pipeline.calls.syntax import CallSyntax
from itool_pipeline.calls.tool_schema import tool_names
from itool_pipeline.calls.types import ToolCallSyntaxError
from itool_pipeline.core.types import Example
from itool_pipeline.data.drawing import draw_at_most
from itool_pipeline.data.openai_messages import openai_messages, openai_tools
from itool_pipeline.engines.chat import Chat
from itool_pipeline.engines.served_template import REASONING_PARSERS
from itool_pipeline.engines.tool_server import VARIABLE, Serving, answers, served, server_python
from itool_pipeline.steps.artifact_files import CASES_FILE, POOL_FILE, THOUGHTS_FILE
from itool_pipeline.steps.asset_graph import asked_benchmarks, cases_asset
from itool_pipeline.steps.checks import Finding
from itool_pipeline.steps.example_files import read_examples, read_prompts
from itool_pipeline.steps.exported_model import ASSET, PARSER_PLUGIN, last_checkpoint, served_syntax
from itool_pipeline.steps.models import chat
from itool_pipeline.steps.thoughts import ROUND
from itool_pipeline.steps.workspace import StepError, Workspace
from itool_pipeline.store.table_files import read_table_rows

CASES = 60
"""About how many are asked, of each category as many."""

SAME, PARSER = "same calls", "other calls out of the same answer"
ANSWER, PROMPT = "another answer to the same prompt", "another prompt"
OUTCOMES = (SAME, PARSER, ANSWER, PROMPT)
"""What comes of a case. Of the three disagreements the first is the parser's, the second rounding's, the third ours."""

NO_SERVER = (
    f"no server is installed here, so nothing was served: install vLLM in an environment of its own, with the `openai` "
    f"client, and name its Python by {VARIABLE}"
)


@dataclass(frozen=True, slots=True)
class Compared:
    """One case: what became of it, and for people both sides' calls and answers."""

    case: str
    outcome: str
    scored: str
    served: str

    def in_words(self) -> str:
        return f"{self.case}: {self.outcome}; scored {self.scored}, served {self.served}"


@dataclass(frozen=True, slots=True)
class ScoredCase:
    """A scored case: its example, the prompt as it was scored, and the answer that was scored.

    Where the model thinks, the prompt ends where its thoughts begin, and these took so many tokens.
    """

    example: Example
    prompt: tuple[int, ...]
    output: str
    thought_tokens: int = 0


def serves(ws: Workspace) -> Finding:
    """The export, served by vLLM through its own tool parser and asked by the `openai` client, gives the calls that
    were scored, case by case.
    """
    return round_trip(ws, ws.input(ASSET).path, last_checkpoint(ws), own_parser=False)


def round_trip(ws: Workspace, folder: Path, checkpoint: str, *, own_parser: bool, most: int = CASES) -> Finding:
    """Serve the folder, ask it the cases that the checkpoint was scored on, and compare.

    own_parser  read calls by the parser that the folder brings, not by vLLM's own of that syntax; so they are also read
                where the model thinks and vLLM's reads none behind thoughts

    Where no server is installed, that is the problem that is found. Raises ServerError when one does not start, and
    StepError where the folder brings no parser of its own.
    """
    python = server_python()
    if python is None:
        return Finding([NO_SERVER])
    template = chat(ws)
    syntax, span = served_syntax(ws, template), template.thoughts
    if span is not None and span.mark not in REASONING_PARSERS:
        return Finding(
            [f"nothing was served: no parser of vLLM's is known here for thoughts that end with {span.mark}"]
        )
    if own_parser and not syntax.plugin:
        raise StepError(
            f"an export with calls as {syntax.syntax.name} brings no parser of its own, for vLLM's `{syntax.parser}` "
            "reads them; leave out `own`"
        )
    benchmark, cases = scored_cases(ws, checkpoint, most, template)
    asked = getattr(ws.experiment.evaluation, benchmark)
    dtype = ws.input(f"{benchmark}/{checkpoint}").manifest.metadata["dtype"]
    own_parser = own_parser or (span is not None and not syntax.reads_behind_thoughts)
    plugin = folder / PARSER_PLUGIN if own_parser else None
    parser = OWN_PARSER if own_parser else syntax.parser
    thoughts, gap = (REASONING_PARSERS[span.mark], len(span.gap)) if span else ("", 0)
    lengths = [case.thought_tokens + gap + asked.max_new_tokens for case in cases]
    longest = max(len(case.prompt) + length for case, length in zip(cases, lengths, strict=True))
    serving = Serving(folder, parser, plugin, dtype, longest, thoughts)
    ws.say(f"asking a server of {folder}, in {dtype}, parser {parser}: {len(cases)} cases of {benchmark}/{checkpoint}")
    progress, found = ws.progress("cases asked"), list[Compared]()
    with served(python, serving) as url:
        questions = [
            _question(case.example, template, syntax, length) for case, length in zip(cases, lengths, strict=True)
        ]
        for case, answer in zip(cases, answers(python, url, questions), strict=True):
            found.append(compare(case, answer, template, syntax.syntax))
            progress(len(found), len(cases))
    counts = Counter(one.outcome for one in found)
    return Finding(
        [one.in_words() for one in found if one.outcome != SAME],
        {"cases": len(found), "parser": parser, "dtype": dtype, **{o: counts[o] for o in OUTCOMES}},
    )


def scored_cases(ws: Workspace, checkpoint: str, most: int, template: Chat) -> tuple[str, Sequence[ScoredCase]]:
    """The benchmark, and about `most` of its cases of one turn that the checkpoint was scored on.

    Of a model that thinks those whose thoughts it ended itself: a server lets it think on, where scoring did not.
    Raises StepError where it was scored on none.
    """
    for benchmark in asked_benchmarks(ws.experiment):
        if checkpoint not in ws.experiment.scored_checkpoints():
            break
        scores = ws.input(f"{benchmark.name}/{checkpoint}")
        rows = read_table_rows(scores.file(CASES_FILE), ["case_id", "output"])
        outputs = {row["case_id"]: row["output"] for row in rows}
        thought = dict.fromkeys(outputs, 0)
        if template.thoughts is not None:
            thought = _ended_thoughts(scores.file(THOUGHTS_FILE))
            outputs = {key: output for key, output in outputs.items() if key in thought}
        pool = ws.input(cases_asset(benchmark.name)).file(POOL_FILE)
        examples = [one for one in read_examples(pool, outputs.keys()) if one.language == "python"]
        if examples:
            categories = len({one.category for one in examples})
            drawn = draw_at_most(examples, -(-most // categories), ws.experiment.seed)
            prompts = read_prompts(pool, {one.id for one in drawn})
            return benchmark.name, [
                ScoredCase(one, template.begun(prompts[one.id]), outputs[one.id], thought[one.id]) for one in drawn
            ]
    ended = " with thoughts that end within prompt.max_thinking_tokens" if template.thoughts is not None else ""
    raise StepError(
        f"experiment {ws.experiment.name}: {checkpoint} was scored on no case of one turn{ended}; add it to "
        "evaluation.checkpoints and ask for a benchmark, so that there are calls to compare with"
    )


def _ended_thoughts(file: Path) -> dict[str, int]:
    """Case → tokens of its thoughts, where the model ended them itself."""
    rows = read_table_rows(file, ["subject_id", "round", "tokens", "closed"])
    return {row["subject_id"]: row["tokens"] for row in rows if row["closed"] and row["round"] == ROUND}


def _question(example: Example, template: Chat, syntax: ServedSyntax, max_tokens: int) -> dict[str, Any]:
    messages = openai_messages(example, syntax.syntax)
    return {
        "id": example.id,
        "messages": [_with_json_arguments(message) for message in messages],
        "tools": openai_tools(example.tools, types=template.tools_shown_by == "template"),
        "max_tokens": max_tokens,
    }


def _with_json_arguments(message: Mapping[str, Any]) -> dict[str, Any]:
    """As clients send calls: the arguments as JSON text. Servers read it before the template does."""
    calls = [
        {**call, "function": {**call["function"], "arguments": json.dumps(call["function"]["arguments"])}}
        for call in message.get("tool_calls", ())
    ]
    return {**message, "tool_calls": calls} if calls else dict(message)


def compare(case: ScoredCase, answer: Mapping[str, Any], template: Chat, syntax: CallSyntax) -> Compared:
    """What the server answered beside what was scored."""
    scored = _text(scored_calls(case.output, case.example, syntax))
    served_calls = _text([[call["name"], _read(call["arguments"])] for call in answer["calls"]])
    said = None if answer["answer_ids"] is None else _said(answer["answer_ids"], template)
    if answer["prompt_ids"] is not None and tuple(answer["prompt_ids"]) != case.prompt:
        outcome = PROMPT
    elif scored == served_calls:
        outcome = SAME
    else:
        outcome = PARSER if said == case.output else ANSWER
    return Compared(case.example.id, outcome, repr(case.output), f"{said!r}, as calls {served_calls}")


def _said(answer_ids: Sequence[int], template: Chat) -> str:
    """The text of the answer, without the thoughts before it."""
    if template.thoughts is None:
        return template.text(answer_ids)
    return template.text(template.thoughts.behind(answer_ids)).lstrip()


def scored_calls(output: str, example: Example, syntax: CallSyntax) -> list[Any]:
    """The calls that were scored, as JSON has them; none where the answer could not be read as calls.

    Arguments without a name are left out: the official decoder drops them, and so the verdict does.
    """
    try:
        calls = syntax.read_response(output, tool_names(example.tools))
    except ToolCallSyntaxError:
        return []
    return [[call.name, {k: v for k, v in call.arguments.items() if not k.startswith("*")}] for call in calls]


def _read(arguments: str) -> Any:
    try:
        return json.loads(arguments)
    except ValueError:
        return arguments


def _text(calls: Any) -> str:
    """The calls as text that is equal for equal ones, whatever the order of their arguments."""
    return json.dumps(calls, sort_keys=True, ensure_ascii=False, default=repr)
