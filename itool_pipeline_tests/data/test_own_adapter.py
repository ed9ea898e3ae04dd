"""Which folders hold an adapter that can be gone on from, and what tells one from another."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from itool_pipeline.data import own_adapter
from itool_pipeline.data.model_folder import ADAPTER_CONFIG
from itool_pipeline.data.own_adapter import (
    ADAPTER_WEIGHTS,
    adapter_content,
    copy_adapter,
    find_adapter,
    local_adapter,
)
from itool_pipeline.data.wheels import FetchError

PLAIN: dict[str, Any] = {"peft_type": "LORA", "r": 4, "bias": "none", "base_model_name_or_path": "/home/someone/base"}


def adapter(folder: Path, **over: Any) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / ADAPTER_CONFIG).write_text(json.dumps({**PLAIN, **over}))
    (folder / ADAPTER_WEIGHTS).write_bytes(b"weights")
    return folder


def test_a_plain_lora_is_found_and_copied_without_names_of_another_machine(tmp_path: Path) -> None:
    code = {"auto_mapping": {"parent_library": "os"}, "megatron_core": "os"}
    found = find_adapter(str(adapter(tmp_path / "own", **code)))
    copy_adapter(found, tmp_path / "copy")
    config = json.loads((tmp_path / "copy" / ADAPTER_CONFIG).read_text())
    assert config == {"peft_type": "LORA", "r": 4, "base_model_name_or_path": None, "inference_mode": True}
    assert (tmp_path / "copy" / ADAPTER_WEIGHTS).read_bytes() == b"weights"


@pytest.mark.parametrize(
    "beside",
    [
        {"bias": None},
        {"init_lora_weights": "Gaussian"},
        {"init_lora_weights": True, "corda_config": {"x": 1}, "loftq_config": {"loftq_bits": 4}},
    ],
    ids=str,
)
def test_how_a_plain_lora_began_does_not_matter(tmp_path: Path, beside: dict[str, Any]) -> None:
    assert find_adapter(str(adapter(tmp_path / "own", **beside))) == tmp_path / "own"


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "another kind": ({"peft_type": "IA3"}, "of the kind IA3"),
    "DoRA": ({"use_dora": True}, "more than plain LoRA: DoRA"),
    "QALoRA": ({"use_qalora": True}, "more than plain LoRA: QALoRA"),
    "LoRA of blocks": ({"use_bdlora": {"nblocks": 2}}, "more than plain LoRA: block-diagonal LoRA"),
    "whole layers": ({"modules_to_save": ["lm_head"]}, r"whole layers \(\['lm_head'\]\)"),
    "biases": ({"bias": "all"}, "biases"),
    "biases of its own": ({"lora_bias": True}, "biases of its own"),
    "another base": ({"init_lora_weights": "pissa"}, r"whose weights were changed for it \(pissa\)"),
    "code of another library": ({"megatron_config": {"x": 1}, "megatron_core": "os"}, "plain LoRA: megatron_config"),
    "what is not known": ({"kasa_config": {"x": 1}}, "plain LoRA: kasa_config"),
    "embeddings": ({"trainable_token_indices": [1]}, "token embeddings"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_more_than_lora_is_refused(tmp_path: Path, kind: str) -> None:
    over, words = REFUSED[kind]
    with pytest.raises(FetchError, match=words):
        find_adapter(str(adapter(tmp_path / "own", **over)))


@pytest.mark.parametrize("missing", [ADAPTER_CONFIG, ADAPTER_WEIGHTS])
def test_pickled_weights_and_half_an_adapter_are_refused(tmp_path: Path, missing: str) -> None:
    folder = adapter(tmp_path / "own")
    (folder / missing).rename(folder / "adapter_model.bin")
    with pytest.raises(FetchError, match=f"has no {missing}"):
        find_adapter(str(folder))


@pytest.mark.parametrize("content", ["{", "[]", "[" * 100_000], ids=["cut", "a list", "nested"])
def test_a_config_that_cannot_be_read_is_named(tmp_path: Path, content: str) -> None:
    folder = adapter(tmp_path / "own")
    (folder / ADAPTER_CONFIG).write_text(content)
    with pytest.raises(FetchError, match=ADAPTER_CONFIG):
        find_adapter(str(folder))


@pytest.mark.parametrize(("name", "revision"), [("owner/name@1234", "1234"), ("owner/name", "main")])
def test_of_a_repository_the_revision_that_is_named_is_fetched(
    name: str, revision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, folder = list[tuple[Any, ...]](), adapter(tmp_path / "fetched")

    def fetched(*what: Any) -> Path:
        asked.append(what)
        return folder

    monkeypatch.setattr(own_adapter, "download_model", fetched)
    assert find_adapter(name) == folder
    assert asked == [("owner/name", revision, (ADAPTER_CONFIG, ADAPTER_WEIGHTS))]


def test_a_name_is_a_folder_or_a_repository(tmp_path: Path) -> None:
    assert local_adapter("owner/name@1234") is None
    for name in ("no/such/folder", "/no/such", "./none"):
        with pytest.raises(FetchError, match="does not exist"):
            local_adapter(name)
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(FetchError, match="a file"):
        local_adapter(str(file))


def test_another_content_is_another_adapter(tmp_path: Path) -> None:
    folder = adapter(tmp_path / "own")
    before = adapter_content(str(folder))
    assert adapter_content(str(folder)) == before
    (folder / ADAPTER_WEIGHTS).write_bytes(b"other weights")
    assert adapter_content(str(folder)) != before
    assert adapter_content(str(adapter(tmp_path / "other", lora_alpha=8))) != before
    assert adapter_content("owner/name@1234") == "owner/name@1234"
