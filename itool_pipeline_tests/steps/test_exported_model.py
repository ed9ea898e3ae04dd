"""A tiny random model through warm-up, search and export: the folder is what was trained, and TRL reads its data."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from itool_pipeline.calls.served import SERVED
from itool_pipeline.core.types import Message
from itool_pipeline.engines.exporting import saved_dtype
from itool_pipeline.engines.model import load_model, load_tokenizer
from itool_pipeline.engines.model_config import ModelError
from itool_pipeline.files.hashes import file_sha256
from itool_pipeline.files.storage_errors import StorageError
from itool_pipeline.steps import exported_model, model_card, models, policy, prepare, warmup
from itool_pipeline.steps.artifact_files import CASES_FILE, PAIRS_FILE
from itool_pipeline.steps.asset_graph import ON_REQUEST
from itool_pipeline.steps.exported_model import ACCOUNT, add_gguf, export_to
from itool_pipeline.steps.plan import plan_on_request
from itool_pipeline.steps.workspace import StepError, Workspace
from itool_pipeline.store.artifacts import Step, reuse_or_make
from itool_pipeline.store.table_files import read_table_rows, write_table_file
from itool_pipeline.store.tables import CASES
from itool_pipeline_tests.core.fake_policy import call_problem, text_problem
from itool_pipeline_tests.damage import flip_a_byte
from itool_pipeline_tests.steps.by_hand import put_whole_model, workspace, write_train
from itool_pipeline_tests.steps.without_model import searched, warm_up

EXAMPLES = [
    problem(f"{kind}{i}").example for i in range(3) for kind, problem in (("c", call_problem), ("t", text_problem))
]
SOURCE = {
    "name": "owner/tiny",
    "revision": "main",
    "commit": "c0ffee",
    "license": "apache-2.0",
}
RIGHT = {"base": (), "warmup": (0, 1), "iteration_1": (0, 1, 2, 3)}
"""Checkpoint → which of eight cases it has right."""


def put_scores(ws: Workspace, checkpoint: str, right: tuple[int, ...]) -> None:
    """Eight cases of two categories."""
    none = dict.fromkeys((*("should_call", "calls"), *("mistake", "function", "parameter", "expected", "got")))
    rows = [
        {
            **{"checkpoint": checkpoint, "checkpoint_artifact": "0", "benchmark": "bfcl"},
            **{"category": ("simple_python", "irrelevance")[i % 2], "case_id": f"case_{i}", "output": "[f()]"},
            **{"correct": i in right, "error_type": "", "error": "", **none},
        }
        for i in range(8)
    ]

    def make(step: Step) -> dict[str, Any]:
        write_table_file(step.work / CASES_FILE, CASES, rows)
        return {"dtype": "float32", "device": "a processor"}

    planned = ws.planned[f"bfcl/{checkpoint}"]
    reuse_or_make(ws.artifacts, planned.asset, planned.fingerprint, make, origin=planned.origin)


def put_examples(ws: Workspace) -> None:
    def make(step: Step) -> dict[str, Any]:
        write_train(step.work, EXAMPLES, models.chat(ws))
        return {"train_examples": len(EXAMPLES)}

    planned = ws.planned["examples"]
    reuse_or_make(ws.artifacts, planned.asset, planned.fingerprint, make, origin=planned.origin)


def with_exports(ws: Workspace) -> Workspace:
    return replace(ws, planned={**ws.planned, **plan_on_request(ws.experiment, ws.planned)})


@pytest.fixture(scope="module")
def ws(tmp_path_factory: pytest.TempPathFactory, tiny_model_dir: Path) -> Workspace:
    """An experiment of one iteration, trained on a tiny random model and scored by hand."""
    made = workspace(
        tmp_path_factory.mktemp("exported"),
        description="For the tests.",
        iterations=1,
        compute={"device": "cpu", "dtype": "float32"},
        split={"validation_fraction": 0.0},
        warmup={"curriculum": "mixed", "lora": {"rank": 4}, "optimizer": {"learning_rate": 1e-2}},
        replay_buffer={"fraction": 1.0, "top_fraction": 1.0},
        search={"type": "sampling", "responses": 3, "max_fragment_tokens": 4, "max_response_tokens": 10},
        preference={"loss": {"type": "dpo"}, "quantization": "none", "optimizer": {"learning_rate": 1e-2}},
    )
    ws = with_exports(made)
    put_whole_model(ws, tiny_model_dir, **SOURCE)
    put_examples(ws)
    prepare.splits(ws)
    warm_up(ws)
    searched(ws)
    policy.policy(ws, 1)
    for checkpoint, right in RIGHT.items():
        put_scores(ws, checkpoint, right)
    return ws


@pytest.fixture(scope="module")
def folder(ws: Workspace) -> Path:
    return exported_model.exported_model(ws).artifact.path


def test_transformers_loads_the_merged_model_and_it_computes_what_was_trained(ws: Workspace, folder: Path) -> None:
    """Oracle: peft's unmerged adapter on the base model."""
    ids = torch.tensor([[5, 6, 7, 8]])
    adapter = models.adapter_dir(ws, "iteration_1/policy")
    unmerged = load_model(models.base_dir(ws), ws.experiment.compute, adapter=adapter, merge=False).model
    with torch.no_grad():
        ours = AutoModelForCausalLM.from_pretrained(folder)(input_ids=ids).logits
        base = AutoModelForCausalLM.from_pretrained(models.base_dir(ws))(input_ids=ids).logits
        assert torch.allclose(ours, unmerged(input_ids=ids).logits, atol=1e-4)
    assert not torch.allclose(ours, base, atol=1e-3)


def test_the_adapter_names_its_base_and_no_path(ws: Workspace, folder: Path) -> None:
    config = json.loads((folder / "adapter" / "adapter_config.json").read_text())
    assert (config["base_model_name_or_path"], config["revision"]) == ("owner/tiny", "c0ffee")
    trained = models.adapter_dir(ws, "iteration_1/policy")
    assert trained is not None
    name = "adapter_model.safetensors"
    own, theirs = load_file(folder / "adapter" / name), load_file(trained / name)
    assert own.keys() == theirs.keys()
    assert all(torch.equal(own[key], theirs[key]) for key in own)


def test_a_local_base_is_named_without_its_path() -> None:
    local = {"revision": "local directory", "name": "/somewhere/on/this/machine/llama"}
    assert exported_model.base_name(local) == ("llama", None)


def test_it_ends_and_is_greedy_by_itself(ws: Workspace, folder: Path) -> None:
    config = GenerationConfig.from_pretrained(folder)
    assert models.chat(ws).end_token in config.eos_token_id
    assert (config.do_sample, config.temperature) == (False, 0.0)


def test_its_template_makes_the_prompts_of_training(ws: Workspace, folder: Path) -> None:
    metadata = ws.input("exported_model").manifest.metadata
    assert (metadata["prompts_compared"], metadata["prompts_that_differ"]) == (len(EXAMPLES), 0)
    assert metadata["prompts_with_tools_that_servers_change"] == 0


def test_prompts_that_it_cannot_make_are_counted_with_the_reason(ws: Workspace, folder: Path, tmp_path: Path) -> None:
    chat = models.chat(ws)
    syntax = exported_model.served_syntax(ws, chat)
    odd = replace(EXAMPLES[0], messages=(Message("user", "What is <|im_end|>?"),))
    wanted = chat.prompt(odd)
    assert exported_model._why(chat, odd, wanted, wanted[:-1]) == exported_model.CONTROL_TOKEN
    assert exported_model._why(chat, EXAMPLES[0], wanted, wanted[:-1]) == exported_model.OTHER_TEXT
    assert exported_model.compare_prompts(ws, chat, syntax, folder)["prompts_that_differ"] == 0
    other = load_tokenizer(folder)
    other.chat_template = f"{other.chat_template}!"
    other.save_pretrained(tmp_path)
    found = exported_model.compare_prompts(ws, chat, syntax, tmp_path)
    told = f"prompts_that_differ: {exported_model.OTHER_TEXT}"
    assert (found["prompts_that_differ"], found[told]) == (len(EXAMPLES), len(EXAMPLES))


def with_calls(ws: Workspace, calls: str) -> Workspace:
    prompt = ws.experiment.prompt.model_copy(update={"calls": calls})
    return replace(ws, experiment=ws.experiment.model_copy(update={"prompt": prompt}))


def test_a_syntax_that_is_not_served_is_an_error(ws: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exported_model, "SERVED", {"python": SERVED["python"]})
    assert exported_model.served_syntax(ws, models.chat(ws)).syntax.name == "python"
    in_hermes = with_calls(ws, "hermes")
    with pytest.raises(StepError, match=r"writes calls as hermes \(prompt.calls\)"):
        exported_model.served_syntax(in_hermes, models.chat(in_hermes))


@pytest.mark.parametrize(("calls", "plugin"), [("hermes", False), ("llama3_json", True)])
def test_each_syntax_is_served_by_its_own_parser(ws: Workspace, tmp_path: Path, calls: str, plugin: bool) -> None:
    out = tmp_path / "out"
    found = export_to(with_calls(ws, calls), "base", out)
    assert found["prompts_that_differ"] == 0
    card = (out / "README.md").read_text()
    assert f"--tool-call-parser {calls}\n" in card
    assert [(out / "tool_parser.py").exists(), "tool_parser.py" in card] == [plugin, plugin]
    assert SERVED[calls].lacks in card


@pytest.mark.parametrize(("thoughts", "parsers"), [("", ["pythonic", "itool"]), ("deepseek_r1", ["itool"])])
def test_the_card_names_no_parser_that_reads_no_call_of_the_model(
    ws: Workspace, thoughts: str, parsers: list[str]
) -> None:
    figures = ("prompts_that_differ", "prompts_compared", "prompts_with_tools_that_servers_change")
    card = model_card._use(ws, {**dict.fromkeys(figures, 0), "thoughts_parser": thoughts}, SERVED["python"])
    commands = [line for line in card.splitlines() if "vllm serve" in line]
    assert [command.partition("--tool-call-parser ")[2].split()[0] for command in commands] == parsers
    assert all(("--reasoning-parser deepseek_r1" in command) == bool(thoughts) for command in commands)


def test_every_file_is_listed_with_its_hash(folder: Path) -> None:
    account = json.loads((folder / ACCOUNT).read_text())
    files = {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}
    assert account["files"].keys() == files - {ACCOUNT, "manifest.json"}
    assert all(file_sha256(folder / name) == digest for name, digest in account["files"].items())


def test_the_card_has_the_figures_of_the_artifacts(ws: Workspace, folder: Path) -> None:
    card = (folder / "README.md").read_text()
    front = yaml.safe_load(card.split("---")[1])
    assert front["license"] == "apache-2.0"
    assert "| iteration_1 | 50.0% (4/8; 22%-78%) | 50.0% (2/4; 15%-85%) | 50.0% (2/4; 15%-85%) |" in card
    assert "- over `warmup`: +25.0%" in card
    assert "2 cases won and 0 lost, p 0.5 by McNemar's exact test" in card
    assert "owner/tiny, revision main, commit c0ffee" in card
    pairs = ws.input("iteration_1/pairs").manifest.metadata
    assert f"{pairs['trees']} search trees gave {pairs['kept']} preference pairs" in card
    assert "--tool-call-parser pythonic" in card
    assert str(ws.paths.root) not in card
    settings = yaml.safe_load(card.split("```yaml\n")[1].split("```")[0])
    assert settings["warmup"]["lora"]["rank"] == 4


def test_trl_reads_the_pairs_as_preferences(ws: Workspace, folder: Path) -> None:
    """Oracles: TRL's own check of the layout, and the token ids that were trained on."""
    trl, datasets = pytest.importorskip("trl"), pytest.importorskip("datasets")
    rows = datasets.load_dataset("parquet", data_files=str(folder / "data/preference_pairs/*.parquet"), split="train")
    kept = [r for r in read_table_rows(ws.input("iteration_1/pairs").file(PAIRS_FILE)) if r["kept"]]
    assert [row["pair_id"] for row in rows] == [row["pair_id"] for row in kept]
    tokenizer, chat = AutoTokenizer.from_pretrained(folder), models.chat(ws)
    examples = {example.id: example for example in EXAMPLES}
    assert {row["chosen_ends"] for row in rows} <= {True, False}
    for row, pair in zip(rows, kept, strict=True):
        assert trl.data_utils.is_conversational(row)
        text = trl.data_utils.apply_chat_template(row, tokenizer, json.loads(row["tools"]))
        assert tuple(tokenizer.encode(text["prompt"], add_special_tokens=False)) == chat.prompt(
            examples[row["example_id"]]
        )
        assert text["chosen"].startswith((pair["prefix"] + pair["chosen"]).rstrip())
        assert row["chosen_ends"] == (pair["chosen_ids"][-1] == chat.end_token)


def test_trl_reads_the_examples_for_fine_tuning(ws: Workspace, folder: Path) -> None:
    trl, datasets = pytest.importorskip("trl"), pytest.importorskip("datasets")
    rows = datasets.load_dataset("parquet", data_files=str(folder / "data/sft/train.parquet"), split="train")
    tokenizer, chat = AutoTokenizer.from_pretrained(folder), models.chat(ws)
    assert len(rows) == len(EXAMPLES)
    for row, example in zip(rows, EXAMPLES, strict=True):
        text = trl.data_utils.apply_chat_template(row, tokenizer, json.loads(row["tools"]))["text"]
        trained = (*chat.prompt(example), *chat.response(example.response))
        assert tuple(tokenizer.encode(text, add_special_tokens=False))[: len(trained)] == trained


def test_a_folder_is_written_once_and_another_checkpoint_too(ws: Workspace, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export_to(ws, None, out)
    export_to(ws, None, out)
    assert (out / "model.safetensors").stat().st_ino == (folder / "model.safetensors").stat().st_ino
    assert not (out / "manifest.json").exists()
    assert (out / "README.md").stat().st_ino != (folder / "README.md").stat().st_ino, "people edit it"
    with pytest.raises(StorageError, match="is there already"):
        export_to(ws, "warmup", out)
    other = export_to(ws, "warmup", tmp_path / "other")
    assert other["checkpoint"] == "warmup"
    assert "# hand, warmup" in (tmp_path / "other" / "README.md").read_text()
    with pytest.raises(StorageError, match="is there already"):
        export_to(ws, None, tmp_path / "other")
    base = export_to(ws, "base", tmp_path / "base")
    assert base["checkpoint"] == "base"
    assert not (tmp_path / "base" / "adapter").exists()
    with pytest.raises(StepError, match="has no checkpoint iteration_2; it has base, warmup, iteration_1"):
        export_to(ws, "iteration_2", tmp_path / "none")


def test_gguf_is_one_more_file_of_the_export(ws: Workspace, folder: Path, tmp_path: Path) -> None:
    """Oracle: transformers, which reads the merged weights out of it bit for bit."""
    out = tmp_path / "out"
    export_to(ws, None, out)
    file = add_gguf(out)
    account = json.loads((out / ACCOUNT).read_text())
    assert account["files"].keys() - json.loads((folder / ACCOUNT).read_text())["files"].keys() == {"model.gguf"}
    assert account["files"]["model.gguf"] == file_sha256(file)
    files = {inner.relative_to(out).as_posix() for inner in out.rglob("*") if inner.is_file()}
    assert files == {*account["files"], ACCOUNT}, "nothing else is left in what may be published"
    alone = tmp_path / "alone"
    alone.mkdir()
    (alone / file.name).hardlink_to(file)
    ours = AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32).state_dict()
    back = AutoModelForCausalLM.from_pretrained(alone, gguf_file=file.name, dtype=torch.float32).state_dict()
    assert all(torch.equal(back[key], ours[key]) for key in ours)
    written = file.stat().st_mtime_ns
    export_to(ws, None, out)
    assert add_gguf(out).stat().st_mtime_ns == written
    file.write_bytes(b"torn")
    assert file_sha256(add_gguf(out)) == account["files"]["model.gguf"]


def test_a_killed_export_merges_no_second_time(
    ws: Workspace, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = tmp_path / "work"
    work.mkdir()
    step = Step("exported_model", "0" * 16, tmp_path / "target", work, None)

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(exported_model, "compare_prompts", killed)
        with pytest.raises(KeyboardInterrupt):
            exported_model.fill_export(ws, "iteration_1", work, step.parts)
    weights = (work / "model.safetensors").stat().st_mtime_ns
    exported_model.fill_export(ws, "iteration_1", work, step.parts)
    assert (work / "model.safetensors").stat().st_mtime_ns == weights
    assert file_sha256(work / "model.safetensors") == file_sha256(folder / "model.safetensors")
    flip_a_byte(work / "model.safetensors")
    exported_model.fill_export(ws, "iteration_1", work, step.parts)
    assert file_sha256(work / "model.safetensors") == file_sha256(folder / "model.safetensors")


def test_a_model_in_eight_bits_is_not_merged_into(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    (tmp_path / "config.json").write_text("{}")
    save_file({"weight": torch.zeros(4, dtype=torch.int8)}, tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match="saved in I8"):
        saved_dtype(tmp_path)


def test_paths_of_this_machine_are_not_in_the_settings(ws: Workspace) -> None:
    from itool_pipeline.steps.model_card import settings

    data = {"type": "jsonl", "path": "/home/someone/chats.jsonl"}
    e = ws.experiment.model_validate({**json.loads(ws.experiment.model_dump_json()), "data": data}, strict=False)
    assert settings(e)["data"]["path"] == "chats.jsonl"


def test_no_run_makes_it_unasked(ws: Workspace) -> None:
    from itool_pipeline.definitions import defs

    nodes = {node.name for node in defs.resolve_job_def("itool").nodes}
    assert not any(name.endswith(ON_REQUEST) for name in nodes)
    assert "make_exported_model" in {node.name for node in defs.resolve_job_def("export").nodes}


def started(root: Path, base: Path, adapter: Path | None) -> Workspace:
    """An experiment on the model in `base` that starts from the adapter, up to before the warm-up's last stage."""
    compute = {"device": "cpu", "dtype": "float32"}
    made = workspace(root, iterations=1, compute=compute, warmup={"adapter": str(adapter)})
    put_whole_model(made, base, **SOURCE)
    for stage in ("easy", "medium"):
        warmup.warmup(made, stage)
    return made


def test_ones_own_adapter_is_the_start(ws: Workspace, tmp_path: Path) -> None:
    """Neither data nor splits are asked for."""
    own = models.adapter_dir(ws, "iteration_1/policy")
    started_here = started(tmp_path, models.base_dir(ws), own)
    warmup.warmup(started_here, "hard")
    assert models.adapter_dir(started_here, "warmup/medium") is None
    start = models.adapter_dir(started_here, "warmup/hard")
    assert start is not None
    assert own is not None
    assert file_sha256(start / "adapter_model.safetensors") == file_sha256(own / "adapter_model.safetensors")
    metadata = started_here.input("warmup/hard").manifest.metadata
    assert (metadata["adapter"], metadata["optimizer_steps"]) == (str(own), 0)


def test_an_adapter_of_another_model_is_refused(ws: Workspace, base_model_dir: Path, tmp_path: Path) -> None:
    other = started(tmp_path, base_model_dir, models.adapter_dir(ws, "iteration_1/policy"))
    with pytest.raises(ModelError, match="is an adapter of another model"):
        warmup.warmup(other, "hard")
