"""exported_model: a checkpoint as a folder that others load and serve, with its card and what it was trained on."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, cast

from itool_pipeline.calls.served import SERVED, ServedSyntax
from itool_pipeline.config import checkpoints_of
from itool_pipeline.core.types import Example
from itool_pipeline.data.base_model import read_source
from itool_pipeline.data.openai_messages import openai_messages, openai_tools
from itool_pipeline.engines.chat import Chat
from itool_pipeline.engines.served_template import REASONING_PARSERS
from itool_pipeline.engines.template_rendering import ChatTemplateError
from itool_pipeline.files.durable import write_json, write_whole
from itool_pipeline.files.hashes import file_sha256, known_sha256
from itool_pipeline.files.parts import Parts
from itool_pipeline.steps.asset_graph import checkpoints
from itool_pipeline.steps.example_access import each_training_example
from itool_pipeline.steps.model_card import write_card
from itool_pipeline.steps.models import adapter_dir, chat_in, weights_dir
from itool_pipeline.steps.trl_data import PAIRS_FOLDER, SFT_FOLDER, write_pairs, write_sft
from itool_pipeline.steps.workspace import Produced, StepError, Workspace
from itool_pipeline.store.artifacts import Step

ASSET = "exported_model"
ACCOUNT, PARSER_PLUGIN, GGUF = "export.json", "tool_parser.py", "model.gguf"
"""In an exported folder: what it holds, with the sha256 of each file; the parser for what vLLM's cannot read; and the
same for llama.cpp, where it is asked for.
"""

_WEIGHTS = "weights.json"
_COMPARED = 500
"""Training examples whose prompts the exported template is held against."""

CONTROL_TOKEN, JOINED = "a text holds a control token", "the tokenizer joins the prompt's end where nothing follows"
OTHER_TEXT = "the texts differ"
SERVED_KEYS = ("name", "description", "parameters")
"""What a server hands of a tool to the chat template, in this order; vLLM drops other keys and adds those that lack."""


def exported_model(ws: Workspace) -> Produced:
    """The experiment's last checkpoint, exported."""

    def make(step: Step) -> dict[str, Any]:
        return fill_export(ws, last_checkpoint(ws), step.work, step.parts)

    return ws.produce(ASSET, make)


def last_checkpoint(ws: Workspace) -> str:
    """The name of the experiment's last checkpoint."""
    return checkpoints_of(ws.experiment.iterations)[-1]


def export_to(ws: Workspace, checkpoint: str | None, out: Path) -> Mapping[str, Any]:
    """Write the folder `out` as a whole; without a checkpoint, the last as the artifact has it. Returns what it holds.

    The same export that is there already stays. Raises StepError for a checkpoint that the experiment has not, and
    StorageError where the folder holds something else.
    """
    if not ws.has(ASSET):
        raise StepError(
            f"experiment {ws.experiment.name} asks a model that is served elsewhere: there are no weights here"
        )
    if checkpoint is None or checkpoint == last_checkpoint(ws):
        artifact = exported_model(ws).artifact
        if (out / ACCOUNT).is_file() and _account(out, without=GGUF) == _account(artifact.path):
            return artifact.manifest.metadata  # the same export
        write_whole(out, lambda scratch: _link_tree(artifact.path, scratch, artifact.manifest.files), alone=True)
        return artifact.manifest.metadata
    require_checkpoint(ws, checkpoint)
    made: dict[str, Any] = {}

    def fill(scratch: Path) -> None:
        scratch.mkdir()
        made.update(fill_export(ws, checkpoint, scratch, None))

    write_whole(out, fill, what="the export", alone=True)
    return made


def add_gguf(folder: Path) -> Path:
    """Write the exported `folder` as GGUF into a file beside its others, and into its account; the file.

    One that the account has stays. Raises ModelError for an export that cannot be written so.
    """
    from itool_pipeline.engines.gguf_file import write_gguf

    file, account = folder / GGUF, _account(folder)
    if not file.exists() or account["files"].get(GGUF) != file_sha256(file):
        name = f"{account['experiment']}, {account['checkpoint']}"
        write_whole(file, lambda scratch: write_gguf(folder, name, scratch), alone=True)
        account["files"][GGUF] = file_sha256(file)
        write_json(folder / ACCOUNT, account)
    return file


def _account(folder: Path, without: str = "") -> dict[str, Any]:
    """What the export says of itself, but of the file `without`."""
    account: dict[str, Any] = Parts(folder).read_json(ACCOUNT)
    account["files"].pop(without, None)
    return account


def require_checkpoint(ws: Workspace, checkpoint: str) -> None:
    """Raise StepError unless the experiment has a checkpoint of this name."""
    there = checkpoints_of(ws.experiment.iterations)
    if checkpoint not in there:
        raise StepError(f"experiment {ws.experiment.name} has no checkpoint {checkpoint}; it has {', '.join(there)}")


def fill_export(ws: Workspace, checkpoint: str, out: Path, parts: Parts | None) -> dict[str, Any]:
    """Fill the folder `out` with the checkpoint; what is there of a killed attempt is reused where `parts` says so."""
    from itool_pipeline.engines.exporting import (
        ADAPTER,
        BaseName,
        export_adapter,
        export_chat,
        export_generation,
        export_weights,
    )
    from itool_pipeline.engines.model import load_tokenizer

    base, adapter = weights_dir(ws), adapter_dir(ws, checkpoints()[checkpoint])
    chat, tokenizer = chat_in(base, ws.experiment), load_tokenizer(base)
    syntax = served_syntax(ws, chat)
    source = read_source(ws.input("base_model").path)
    weights = _exported_already(out, parts)
    if weights is None:
        ws.say(f"exporting {checkpoint}: merging the adapter in fp32" if adapter else f"exporting {checkpoint}")
        weights = export_weights(base, adapter, out)
        if parts is not None:
            parts.write_json(_WEIGHTS, {"weights": weights, "files": _weight_hashes(out)})
    if adapter is not None:
        export_adapter(adapter, BaseName(*base_name(source)), out / ADAPTER)
    export_chat(chat, tokenizer, syntax, out)
    export_generation(base, chat.end_token, out)
    if syntax.plugin:
        (out / PARSER_PLUGIN).write_text(syntax.plugin)
    compared = compare_prompts(ws, chat, syntax, out)
    pairs, learnt = write_pairs(ws, chat, out / PAIRS_FOLDER), write_sft(ws, chat, out / SFT_FOLDER)
    found = {
        "checkpoint": checkpoint,
        "base": source["name"],
        **weights,
        "preference_pairs": pairs,
        "sft_examples": sum(learnt.values()),
        **compared,
        **({"thoughts_parser": REASONING_PARSERS.get(chat.thoughts.mark, "")} if chat.thoughts else {}),
    }
    write_card(ws, checkpoint, found, syntax, out)
    write_json(out / ACCOUNT, {**found, "experiment": ws.experiment.name, "files": _hashes(out)})
    return found


def _exported_already(out: Path, parts: Parts | None) -> Mapping[str, Any] | None:
    """What a killed attempt noted of the weights that it exported, when they are still in `out` as they were then."""
    if parts is None or not parts.has(_WEIGHTS):
        return None
    noted = parts.read_json(_WEIGHTS)
    if noted.get("files") == _weight_hashes(out):
        return cast("Mapping[str, Any]", noted["weights"])
    parts.say(f"the weights that were exported to {out} are damaged: they are exported again")
    return None


def served_syntax(ws: Workspace, chat: Chat) -> ServedSyntax:
    """How calls in the syntax of `chat` are served. Raises StepError for one that no server reads."""
    name = chat.syntax.name
    if name not in SERVED:
        raise StepError(
            f"experiment {ws.experiment.name} writes calls as {name} (prompt.calls), and how that is served is not "
            f"known here; what can be exported is {', '.join(SERVED)}"
        )
    return SERVED[name]


def base_name(source: Mapping[str, Any]) -> tuple[str, str | None]:
    """The base's name and revision that mean the same on every machine; of a local folder its own name."""
    if source["revision"] == "local directory":
        return Path(source["name"]).name, None
    return source["name"], source.get("commit") or source["revision"]


def compare_prompts(ws: Workspace, chat: Chat, syntax: ServedSyntax, out: Path) -> dict[str, Any]:
    """Hold the exported template against the prompts of training examples: how many differ in a token, and why."""
    from itool_pipeline.engines.model import load_tokenizer

    served, reasons, number, changed = load_tokenizer(out), Counter[str](), 0, 0
    for example, prompt in _prompts(ws, chat):
        number += 1
        changed += any(tuple(tool) != SERVED_KEYS for tool in example.tools)
        tools = openai_tools(example.tools, types=chat.tools_shown_by == "template")
        messages = openai_messages(example, syntax.syntax)
        made = served.apply_chat_template(
            messages, tools=tools or None, add_generation_prompt=True, tokenize=True, return_dict=False
        )
        if tuple(made) != prompt:
            reasons[_why(chat, example, prompt, tuple(made))] += 1
    return {
        "prompts_compared": number,
        "prompts_that_differ": reasons.total(),
        "prompts_with_tools_that_servers_change": changed,
        **{f"prompts_that_differ: {reason}": count for reason, count in sorted(reasons.items())},
    }


def _prompts(ws: Workspace, chat: Chat) -> Iterator[tuple[Example, tuple[int, ...]]]:
    for example in islice(each_training_example(ws), _COMPARED):
        try:
            yield example, chat.begun(chat.prompt(example))
        except ChatTemplateError:
            continue


def _why(chat: Chat, example: Example, wanted: tuple[int, ...], made: tuple[int, ...]) -> str:
    if chat.holds_control_tokens(example):
        return CONTROL_TOKEN
    return JOINED if chat.text(wanted) == chat.text(made) else OTHER_TEXT


def _hashes(out: Path) -> dict[str, str]:
    files = sorted(file for file in out.rglob("*") if file.is_file())
    inner = {file.relative_to(out).as_posix(): file for file in files}
    return {name: known_sha256(file) for name, file in inner.items() if not name.startswith("parts/")}


def _weight_hashes(out: Path) -> dict[str, str]:
    files = [
        file for pattern in ("*.safetensors", "*.safetensors.index.json", "config.json") for file in out.glob(pattern)
    ]
    return {file.name: known_sha256(file) for file in sorted(files)}


def _link_tree(source: Path, target: Path, files: Mapping[str, Any]) -> None:
    """Copy the files; weights, which nobody edits, share their place on the disk where it can be shared."""
    for name in files:
        place = target / name
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            if place.suffix != ".safetensors":
                raise OSError
            os.link(source / name, place)
        except OSError:
            shutil.copyfile(source / name, place)
