"""The model card of an exported checkpoint: what it is, what it was trained on, how it scores and how it is served."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from itool_pipeline.calls.served import OWN_PARSER, ServedSyntax
from itool_pipeline.config import BfclHalfData, Experiment, HubModel, JsonlData, ToolAceData, XlamData
from itool_pipeline.data.base_model import read_source
from itool_pipeline.files.config_yaml import write_yaml
from itool_pipeline.statistics import mcnemar_exact, paired_bootstrap, wilson_interval
from itool_pipeline.steps.artifact_files import CASES_FILE
from itool_pipeline.steps.asset_graph import asked_benchmarks
from itool_pipeline.steps.display import MARKDOWN, table
from itool_pipeline.steps.shares import counted_share
from itool_pipeline.steps.workspace import Workspace
from itool_pipeline.store.table_files import read_table_rows

CARD = "README.md"

_LICENSES = {"bfcl_half": "apache-2.0", "toolace": "apache-2.0", "xlam": "cc-by-4.0"}
"""Of data sets that have one for everybody; what a user's own data may be used for, the user knows."""


def write_card(ws: Workspace, checkpoint: str, found: Mapping[str, Any], syntax: ServedSyntax, out: Path) -> None:
    """Write README.md. Each figure is of an artifact of the experiment; `found` is what the export counted."""
    source = read_source(ws.input("base_model").path)
    sections = [
        _front(ws, source),
        f"# {ws.experiment.name}, {checkpoint}\n\n{ws.experiment.description}",
        _what(ws, checkpoint, source, found),
        f"## Scores\n\n{_scores(ws, checkpoint)}",
        f"## Data\n\n{_data(ws, found)}",
        f"## Use\n\n{_use(ws, found, syntax)}",
        f"## Settings\n\nMade by itool_pipeline {_version()}. All keys, defaults filled in:\n\n"
        f"```yaml\n{write_yaml(settings(ws.experiment))}```",
    ]
    (out / CARD).write_text("\n\n".join(sections) + "\n", encoding="utf-8")


def settings(experiment: Experiment) -> dict[str, Any]:
    """The config with file names in the place of this machine's paths."""
    shown: dict[str, Any] = json.loads(experiment.model_dump_json())
    return {key: _without_paths(value) for key, value in shown.items()}


def _without_paths(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_paths(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_without_paths(inner) for inner in value]
    return Path(value).name if isinstance(value, str) and value.startswith(("/", "~", "./", "../")) else value


def _front(ws: Workspace, source: Mapping[str, Any]) -> str:
    base = ws.experiment.model
    listed: dict[str, Any] = {"library_name": "transformers", "pipeline_tag": "text-generation"}
    if source["license"] != "unknown":
        listed["license"] = source["license"]
    if isinstance(base, HubModel) and source["revision"] != "local directory":
        listed["base_model"] = base.name
    if isinstance(ws.experiment.data, ToolAceData | XlamData | JsonlData) and ws.experiment.data.path is None:
        listed["datasets"] = [ws.experiment.data.name]
    return f"---\n{write_yaml({**listed, 'tags': ['tool-calling', 'itool']})}---"


def _what(ws: Workspace, checkpoint: str, source: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    name = Path(source["name"]).name if source["revision"] == "local directory" else source["name"]
    commit = f", commit {source['commit']}" if source.get("commit") else ""
    revision = "a local folder" if source["revision"] == "local directory" else f"revision {source['revision']}{commit}"
    rows = [ws.input(f"iteration_{k}/pairs").manifest.metadata for k in range(1, ws.experiment.iterations + 1)]
    trees, kept = (sum(row[key] for row in rows) for key in ("trees", "kept"))
    return (
        f"The checkpoint `{checkpoint}` of {ws.experiment.iterations} iterations by the method of "
        f"[iTool](https://arxiv.org/abs/2501.09766), trained to call tools: {trees} search trees gave {kept} "
        f"preference pairs in all.\n\n"
        f"Base model: {name}, {revision}, license {source['license']}; sha256 of its weights "
        f"`{source['sha256']}`. Here it is with the adapter merged, {found['parameters']:,} parameters in "
        f"{found['dtype']}; the adapter alone is in `adapter/`."
    )


def _scores(ws: Workspace, checkpoint: str) -> str:
    scored = ws.experiment.scored_checkpoints()
    if checkpoint not in scored:
        return f"This checkpoint was not scored; scored are: {', '.join(scored) or 'none'}."
    parts = []
    for benchmark in asked_benchmarks(ws.experiment):
        verdicts = {name: _verdicts(ws, f"{benchmark.name}/{name}") for name in scored}
        device = ws.input(f"{benchmark.name}/{checkpoint}").manifest.metadata
        where = f", in {device['dtype']} on {device['device']}" if "dtype" in device else ""
        parts.append(
            f"### {benchmark.title}\n\nRight cases with 95% Wilson intervals{where}; decided by its own rules.\n\n"
            f"{table(_score_rows(verdicts))[MARKDOWN]}\n\n{_gains(ws, checkpoint, verdicts)}"
        )
    return "\n\n".join(parts) or "No benchmark was asked for."


Verdicts = Mapping[str, tuple[str, bool]]
"""Case → its category, and whether it is right."""


def _verdicts(ws: Workspace, asset: str) -> Verdicts:
    rows = read_table_rows(ws.input(asset).file(CASES_FILE), ["case_id", "category", "correct"])
    return {row["case_id"]: (row["category"], row["correct"]) for row in rows}


def _score_rows(verdicts: Mapping[str, Verdicts]) -> Iterator[dict[str, str]]:
    for name, cases in verdicts.items():
        by_category: dict[str, list[bool]] = {"all": []}
        for category, correct in cases.values():
            by_category["all"].append(correct)
            by_category.setdefault(category, []).append(correct)
        yield {"checkpoint": name, **{category: _share(found) for category, found in by_category.items()}}


def _share(found: list[bool]) -> str:
    low, high = wilson_interval(sum(found), len(found))
    return counted_share(sum(found) / len(found), sum(found), len(found), low, high) if found else "-"


def _gains(ws: Workspace, checkpoint: str, verdicts: Mapping[str, Verdicts]) -> str:
    """The checkpoint beside every other one on the same cases."""
    lines = []
    for name, cases in verdicts.items():
        if name == checkpoint or cases.keys() != verdicts[checkpoint].keys():
            continue
        first, second = ([of[key][1] for key in cases] for of in (cases, verdicts[checkpoint]))
        difference, low, high = paired_bootstrap(first, second, seed=ws.experiment.seed)
        gained = sum(b and not a for a, b in zip(first, second, strict=True))
        lost = sum(a and not b for a, b in zip(first, second, strict=True))
        lines.append(
            f"- over `{name}`: {difference:+.1%} ({low:+.1%} to {high:+.1%}, paired bootstrap), {gained} cases won and "
            f"{lost} lost, p {mcnemar_exact(gained, lost):.2g} by McNemar's exact test"
        )
    return "\n".join(lines) or "No other checkpoint was scored on the same cases."


def _data(ws: Workspace, found: Mapping[str, Any]) -> str:
    data, metadata = ws.experiment.data, ws.input("examples").manifest.metadata
    known = _LICENSES.get(data.type)
    if isinstance(data, BfclHalfData):
        name = "half of the single-turn questions of the Berkeley Function-Calling Leaderboard"
    elif data.path is not None:
        name = f"the file {Path(data.path).name}"
    else:
        name = f"{data.name}, revision {metadata.get('data_commit') or data.revision}"
    says = f"license {known}" if known else "whose license is not known here"
    return (
        f"Trained on {name} ({says}): {metadata['train_examples']} examples were read, and {found['sft_examples']} of "
        f"them are in `data/sft`, in TRL's layout with `messages` and `tools`.\n\n"
        f"`data/preference_pairs` has the {found['preference_pairs']} pairs that were kept, in TRL's layout with "
        f"`prompt`, `chosen`, `rejected` and `tools`. They are of steps: `chosen` and `rejected` share the text "
        f"`prefix`, and where `chosen_ends` or `rejected_ends` is false the answer stops there in its midst, and its "
        f"turn has no end to learn."
    )


def _use(ws: Workspace, found: Mapping[str, Any], syntax: ServedSyntax) -> str:
    differ = found["prompts_that_differ"]
    exact = "all are" if not differ else f"all but {differ} are"
    changed = found["prompts_with_tools_that_servers_change"]
    odd = (
        f" Servers hand over of a tool its name, description and parameters alone: in {changed} of these prompts the "
        "tools had other keys beside, so that a server makes another prompt of them."
        if changed
        else ""
    )
    thoughts = f" --reasoning-parser {found['thoughts_parser']}" if found.get("thoughts_parser") else ""
    return f"""\
The chat template makes of `messages` and `tools` the prompts of training; held against {found["prompts_compared"]}
training prompts, {exact} the same token for token.{odd}

{_commands(syntax, thoughts)}
```python
from openai import OpenAI

tools = [{{"type": "function", "function": {{"name": "get_weather", "description": "The weather of a city.",
          "parameters": {{"type": "object", "properties": {{"city": {{"type": "string"}}}}, "required": ["city"]}}}}}}]
client = OpenAI(base_url="http://localhost:8000/v1", api_key="none")
answer = client.chat.completions.create(
    model=client.models.list().data[0].id,
    messages=[{{"role": "user", "content": "How is the weather in Paris?"}}],
    tools=tools,
    temperature=0,
)
print(answer.choices[0].message.tool_calls or answer.choices[0].message.content)
```"""


def _commands(syntax: ServedSyntax, thoughts: str) -> str:
    """How to serve it by vLLM. `thoughts`: the options for a model that thinks."""
    serve = "    vllm serve . --enable-auto-tool-choice"
    own = f"{serve} --tool-parser-plugin tool_parser.py --tool-call-parser {OWN_PARSER}{thoughts}\n"
    if thoughts and not syntax.reads_behind_thoughts:
        return f"vLLM's parser `{syntax.parser}` {syntax.lacks}; take the one that comes with the model:\n\n{own}"
    theirs = (
        f"Calls are answered as vLLM's parser `{syntax.parser}` reads them:\n\n"
        f"{serve} --tool-call-parser {syntax.parser}{thoughts}\n"
    )
    if not syntax.plugin:
        return theirs
    other = f"That parser {syntax.lacks}. Where that is asked of it, take the parser that comes with the model:"
    return f"{theirs}\n{other}\n\n{own}"


def _version() -> str:
    try:
        package = version("itool_pipeline")
    except PackageNotFoundError:
        package = "from its sources"
    commit = _git_commit(Path(__file__).parents[2])
    return f"{package}, commit {commit}" if commit else package


def _git_commit(repository: Path) -> str:
    """The commit that the sources are of; empty where they are in no repository, or git is not there."""
    if not (repository / ".git").exists():
        return ""
    try:
        asked = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=repository, capture_output=True, text=True, timeout=30, check=False
        )
    except OSError:
        return ""
    return asked.stdout.strip() if asked.returncode == 0 else ""
