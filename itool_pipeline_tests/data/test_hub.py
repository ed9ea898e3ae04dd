"""The hub's errors become sentences that say what to do."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx2
import huggingface_hub
import pytest
from huggingface_hub import errors

from itool_pipeline.config import HubModel, JsonlData, XlamData
from itool_pipeline.data.base_model import base_model_path, prepare_base_model
from itool_pipeline.data.hub import (
    MODEL_FILES,
    commit_of,
    download_dataset_file,
    download_dataset_files,
    download_model,
)
from itool_pipeline.data.sources import local_file, local_files
from itool_pipeline.data.wheels import FetchError

RESPONSE: Any = SimpleNamespace(headers={}, request=None, status_code=403)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (errors.GatedRepoError("no", response=RESPONSE), "HF_TOKEN"),
        (errors.RepositoryNotFoundError("no", response=RESPONSE), "no such repository"),
        (errors.RevisionNotFoundError("no", response=RESPONSE), "no such revision"),
        (errors.LocalEntryNotFoundError("no"), "cannot be reached"),
        (errors.OfflineModeIsEnabled("no"), "HF_HUB_OFFLINE"),
        (OSError(28, "No space left on device"), "No space left"),
        (httpx2.ProxyError("403 Forbidden"), "ProxyError: 403 Forbidden.*HTTPS_PROXY"),
        (httpx2.RemoteProtocolError("peer closed connection"), "peer closed connection.* run again"),
        (json.JSONDecodeError("Expecting value", "<html>", 0), "Expecting value.*HTTPS_PROXY"),
    ],
)
def test_errors_are_explained(monkeypatch: pytest.MonkeyPatch, error: Exception, words: str) -> None:
    def fail(*_: Any, **__: Any) -> str:
        raise error

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fail)
    with pytest.raises(FetchError, match=words) as caught:
        download_model("owner/model", "v1")
    assert "owner/model" in str(caught.value)
    assert "'v1'" in str(caught.value)
    with pytest.raises(FetchError, match=words):
        download_dataset_file("owner/set", "v1", "data.json")


def test_a_gated_data_set_says_what_to_accept_and_where_the_token_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> str:
        raise errors.GatedRepoError("no", response=RESPONSE)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fail)
    with pytest.raises(FetchError) as caught:
        local_file(XlamData(type="xlam"))
    told = str(caught.value)
    assert "Salesforce/xlam-function-calling-60k (xlam_function_calling_60k.json) at revision 'main'" in told
    for words in ("accept the terms on its page", "access token", "environment variable HF_TOKEN", "local copy"):
        assert words in told


def test_the_commit_of_a_file_in_the_cache(tmp_path: Path) -> None:
    assert commit_of(tmp_path / "datasets--a--b" / "snapshots" / "0123abc" / "data.json") == "0123abc"
    assert commit_of(tmp_path / "data.json") == ""


FILES = ["README.md", "data/test-00000-of-00001.parquet", "dataset_infos.json"]
SHARDS = [f"data/train-0000{i}-of-00002.parquet" for i in range(2)]


def asked_of_a_set(monkeypatch: pytest.MonkeyPatch, *names: str) -> list[tuple[str, str]]:
    """A data set of these files at the commit 0123abc. The list gets the files that are downloaded, with revisions."""
    downloaded: list[tuple[str, str]] = []

    def list_files(name: str, **options: Any) -> Any:
        assert (name, options) == ("owner/set", {"repo_type": "dataset", "revision": "v1", "dry_run": True})
        return [SimpleNamespace(filename=one, commit_hash="0123abc") for one in names]

    def download(name: str, filename: str, *, repo_type: str, revision: str) -> str:
        assert (name, repo_type) == ("owner/set", "dataset")
        downloaded.append((filename, revision))
        return f"/cache/snapshots/{revision}/{filename}"

    monkeypatch.setattr(huggingface_hub, "snapshot_download", list_files)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    return downloaded


@pytest.mark.parametrize(
    ("names", "wanted", "chosen"),
    [
        (["README.md", "own.jsonl"], None, ["own.jsonl"]),
        ([*FILES, *SHARDS], None, SHARDS),
        (["own_train.json.gz", "own_eval.json.gz"], None, ["own_train.json.gz"]),
        (["train/a.parquet", "test/a.parquet"], None, ["train/a.parquet"]),
        (["a.jsonl", "training.jsonl", "train.txt"], "a.*", ["a.jsonl"]),
        ([*FILES, *SHARDS], "data/*", ["data/test-00000-of-00001.parquet", *SHARDS]),
        (["a/one.jsonl", "b/two.jsonl"], "b/two.jsonl", ["b/two.jsonl"]),
    ],
)
def test_files_of_a_data_set_are_all_of_one_commit(
    monkeypatch: pytest.MonkeyPatch, names: list[str], wanted: str | None, chosen: list[str]
) -> None:
    downloaded = asked_of_a_set(monkeypatch, *names)
    data = JsonlData(type="jsonl", name="owner/set", revision="v1", files=wanted)
    paths = local_files(data)
    assert downloaded == [(one, "0123abc") for one in chosen]
    assert [str(path) for path in paths] == [f"/cache/snapshots/0123abc/{one}" for one in chosen]
    assert {commit_of(path) for path in paths} == {"0123abc"}


@pytest.mark.parametrize(
    ("names", "wanted", "words"),
    [
        (["a.jsonl", "b.jsonl"], None, r"Name with data\.files what to read.*it holds a\.jsonl, b\.jsonl"),
        (["train_a.jsonl", "train_b.jsonl"], None, r"Name with data\.files what to read"),
        (["README.md", "dataset_infos.json", "x.csv"], None, "holds no file of JSON or Parquet"),
        (["a.jsonl"], "b*", r"holds no file b\*\. Correct data\.files; it holds a\.jsonl"),
        ([f"{i}.jsonl" for i in range(99)], None, "…"),
    ],
)
def test_no_file_of_a_data_set_is_guessed(
    monkeypatch: pytest.MonkeyPatch, names: list[str], wanted: str | None, words: str
) -> None:
    downloaded = asked_of_a_set(monkeypatch, *names)
    with pytest.raises(FetchError, match=words):
        download_dataset_files("owner/set", "v1", wanted)
    assert downloaded == []


def test_out_of_reach_of_the_hub_the_files_in_the_cache_are_taken(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = tmp_path / "snapshots" / "0123abc"
    (folder / "data").mkdir(parents=True)
    (folder / "data" / "train.jsonl").write_text("{}")

    def look(name: str, **options: Any) -> str:
        if options.get("dry_run"):
            raise errors.DryRunError("no")
        assert options == {"repo_type": "dataset", "revision": "main", "local_files_only": True}
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", look)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda name, one, **options: f"{options['revision']}/{one}")
    assert download_dataset_files("owner/set", "main", None) == (Path("0123abc/data/train.jsonl"),)


@pytest.mark.parametrize(
    ("cause", "words"),
    [
        (None, "cannot be reached and nothing is cached"),
        (RuntimeError("a connection that broke"), "cannot be reached and nothing is cached"),
        (errors.GatedRepoError("no", response=RESPONSE), "HF_TOKEN"),
        (errors.RepositoryNotFoundError("no", response=RESPONSE), "no such repository"),
    ],
)
def test_a_data_set_that_cannot_be_listed_says_why(
    monkeypatch: pytest.MonkeyPatch, cause: Exception | None, words: str
) -> None:
    def look(name: str, **options: Any) -> str:
        if options.get("dry_run"):
            raise errors.DryRunError("no") from cause
        raise errors.LocalEntryNotFoundError("no")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", look)
    with pytest.raises(FetchError, match=words) as caught:
        download_dataset_files("owner/set", "main", None)
    assert "The data set owner/set at revision 'main'" in str(caught.value)


def test_a_name_that_cannot_be_one_is_refused_without_asking() -> None:
    with pytest.raises(FetchError, match="neither an existing directory nor of the form"):
        download_model("not/a/name", "main")


def test_a_hub_model_is_recorded_by_commit(
    monkeypatch: pytest.MonkeyPatch, tiny_model_dir: Path, tmp_path: Path
) -> None:
    snapshot = tmp_path / "snapshots" / "0123abc"
    snapshot.parent.mkdir()
    snapshot.symlink_to(tiny_model_dir)
    asked: list[dict[str, Any]] = []
    accepted: list[tuple[Path, int]] = []

    def download(name: str, **options: Any) -> str:
        asked.append({"name": name, **options})
        return str(snapshot)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    model = HubModel(type="hub", name="owner/model", revision="v1")
    metadata = prepare_base_model(model, tmp_path, tmp_path / "out", lambda found: accepted.append((found, len(asked))))
    assert metadata["commit"] == "0123abc"
    assert base_model_path(tmp_path / "out") == snapshot
    assert [call["revision"] for call in asked] == ["v1", "0123abc"]
    assert accepted == [(snapshot, 1)]
    first, whole = (set(call["allow_patterns"]) for call in asked)
    assert whole - first == {"*.safetensors"}
    assert not any(pattern.endswith((".bin", ".pt", ".py", "*")) for pattern in MODEL_FILES)
    assert set(MODEL_FILES) < whole
