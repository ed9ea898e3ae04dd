"""The hub's errors become sentences that say what to do."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import errors

from itool_pipeline.config import HubModel, XlamData
from itool_pipeline.data.base_model import base_model_path, prepare_base_model
from itool_pipeline.data.hub import MODEL_FILES, commit_of, download_dataset_file, download_model
from itool_pipeline.data.sources import local_file
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
