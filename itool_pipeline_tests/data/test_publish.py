"""Nothing is uploaded without a token and a name; what the hub says is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx2
import pytest

from itool_pipeline.data.publish import TOKEN, PublishError, publish, require_token


def test_without_a_token_nothing_is_uploaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(TOKEN, raising=False)
    with pytest.raises(PublishError, match=f"Nothing was uploaded to owner/name: {TOKEN} is not set"):
        publish(tmp_path, "owner/name")


@pytest.mark.parametrize("name", ["name", "/name", "owner/", "a/b/c"])
def test_a_repository_has_an_owner_and_a_name(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(TOKEN, "hf_x")
    with pytest.raises(PublishError, match="OWNER/NAME"):
        require_token(name)


def test_a_folder_is_uploaded_into_a_private_repository(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[tuple[str, Any]] = []

    class Api:
        def __init__(self, token: str) -> None:
            asked.append(("token", token))

        def create_repo(self, name: str, **options: Any) -> None:
            asked.append((name, options["private"]))

        def upload_folder(self, **options: Any) -> str:
            asked.append((options["repo_id"], options["folder_path"]))
            return "https://hub/commit"

    monkeypatch.setenv(TOKEN, "hf_x")
    monkeypatch.setattr("huggingface_hub.HfApi", Api)
    assert publish(tmp_path, "owner/name") == "https://hub/commit"
    assert asked == [("token", "hf_x"), ("owner/name", True), ("owner/name", tmp_path)]


@pytest.mark.parametrize("error", [OSError("403 Forbidden: no write access"), httpx2.ConnectError("403 Forbidden")])
def test_what_the_hub_refuses_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: Exception) -> None:
    class Api:
        def __init__(self, token: str) -> None: ...

        def create_repo(self, name: str, **options: Any) -> None:
            raise error

    monkeypatch.setenv(TOKEN, "hf_x")
    monkeypatch.setattr("huggingface_hub.HfApi", Api)
    with pytest.raises(PublishError, match="was not uploaded to owner/name: 403 Forbidden"):
        publish(tmp_path, "owner/name")
