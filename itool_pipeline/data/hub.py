"""The Hugging Face hub: what may be downloaded, and what went wrong in words."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from itool_pipeline.data.wheels import FetchError

SMALL_FILES = ("*.safetensors.index.json", "*.json", "*.jinja", "*.model", "vocab.txt", "merges.txt")
"""Tokenizer and configuration."""

MODEL_FILES = ("*.safetensors", *SMALL_FILES)
"""Weights in safetensors, tokenizer and configuration. Nothing that is unpickled or executed."""


def download_model(name: str, revision: str, files: Sequence[str] = MODEL_FILES) -> Path:
    """The local snapshot of a model repository, with those of its `files`; its folder is named after the commit.

    Raises FetchError when the repository, the revision or the network is missing, or access is not granted.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import EntryNotFoundError, HFValidationError, RevisionResolutionError

    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=[*files, "LICENSE*", "README.md"]))
    except (OSError, EntryNotFoundError, HFValidationError, RevisionResolutionError) as error:
        raise FetchError(explain(f"The model {name}", revision, error)) from error


def download_dataset_file(name: str, revision: str, filename: str) -> Path:
    """One file of a data set repository, in the hub's own cache. Raises FetchError as `download_model` does."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HFValidationError, RevisionResolutionError

    try:
        return Path(hf_hub_download(name, filename, repo_type="dataset", revision=revision))
    except (OSError, EntryNotFoundError, HFValidationError, RevisionResolutionError) as error:
        raise FetchError(explain(f"The data set {name} ({filename})", revision, error)) from error


def commit_of(file: Path) -> str:
    """The commit that a file in the hub's cache is of; empty for any other file."""
    return file.parent.name if file.parent.parent.name == "snapshots" else ""


def explain(what: str, revision: str, error: Exception) -> str:
    """One message for a person: what failed, where, what to do."""
    return f"{what} at revision {revision!r} could not be fetched from the Hugging Face hub: {_reason(error)}"


def _reason(error: Exception) -> str:
    from huggingface_hub import errors

    match error:
        case errors.GatedRepoError():
            return (
                "it is gated. Log in on the hub, accept the terms on its page there, make an access token of that "
                "account with the right to read gated repositories (Settings, Access Tokens), and put it into the "
                "environment variable HF_TOKEN of the process that runs the pipeline (or run `hf auth login` there). "
                "A local copy needs none of this: name its path in the experiment."
            )
        case errors.RevisionNotFoundError():
            return "there is no such revision. Name an existing commit, tag or branch."
        case errors.RepositoryNotFoundError():
            return "no such repository, or it is private. Check the name; for a private one set HF_TOKEN."
        case errors.HFValidationError():
            return "the name is neither an existing directory nor of the form `owner/name`."
        case errors.RemoteEntryNotFoundError():
            return "the repository does not hold that file."
        case errors.LocalEntryNotFoundError() | errors.OfflineModeIsEnabled():
            return (
                "it cannot be reached and nothing is cached. Check the network and HF_HUB_OFFLINE, "
                "or give the path of a local copy instead."
            )
        case errors.HfHubHTTPError() if error.response is not None and error.response.status_code == 401:
            return "access was refused. Set HF_TOKEN to a valid access token."
    return f"{type(error).__name__}: {error}"
