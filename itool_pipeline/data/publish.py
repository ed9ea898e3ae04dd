"""Uploading an exported folder to the Hugging Face hub, where it is asked for."""

from __future__ import annotations

import os
from pathlib import Path

from itool_pipeline.data.hub import hub_failures
from itool_pipeline.errors import ActionableError

TOKEN = "HF_TOKEN"


class PublishError(ActionableError):
    """A folder cannot be uploaded. The message says why, and what to do."""


def require_token(repository: str) -> str:
    """The access token. Raises PublishError without one, and for a name that is none of the hub's."""
    if repository.count("/") != 1 or not all(repository.split("/")):
        raise PublishError(f"{repository} is no repository of the hub: name it OWNER/NAME.")
    token = os.environ.get(TOKEN, "")
    if not token:
        raise PublishError(
            f"Nothing was uploaded to {repository}: {TOKEN} is not set. Make an access token that may write on the hub "
            f"(Settings, Access Tokens) and put it into {TOKEN}."
        )
    return token


def publish(folder: Path, repository: str) -> str:
    """Upload the folder as a model, into a private repository if there is none yet; the commit's address.

    Raises PublishError as `require_token` does, and when the hub refuses or cannot be reached.
    """
    from huggingface_hub import HfApi

    api = HfApi(token=require_token(repository))
    try:
        api.create_repo(repository, repo_type="model", private=True, exist_ok=True)
        made = api.upload_folder(repo_id=repository, folder_path=folder, ignore_patterns=["manifest.json", ".tmp/*"])
    except hub_failures() as error:
        said = str(error).strip().partition("\n")[0]
        raise PublishError(
            f"{folder} was not uploaded to {repository}: {said}. Check that {TOKEN} may write there and that the hub "
            "can be reached, then run the command again; the export itself is whole."
        ) from error
    return str(made)
