"""The Hugging Face hub: what may be downloaded, and what went wrong in words."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from itool_pipeline.data.wheels import FetchError

SMALL_FILES = ("*.safetensors.index.json", "*.json", "*.jinja", "*.model", "vocab.txt", "merges.txt")
"""Tokenizer and configuration."""

MODEL_FILES = ("*.safetensors", *SMALL_FILES)
"""Weights in safetensors, tokenizer and configuration. Nothing that is unpickled or executed."""

_ROWS = (".jsonl", ".ndjson", ".json", ".parquet", ".jsonl.gz", ".ndjson.gz", ".json.gz")
_NO_ROWS = ("dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json", "config.json")
_TRAIN = re.compile(r"(?:^|[/._-])train(?:[/._-])")
_SHARD = re.compile(r"-\d+-of-\d+(?=\.)")
_SHOWN_FILES = 12


def download_model(name: str, revision: str, files: Sequence[str] = MODEL_FILES) -> Path:
    """The local snapshot of a model repository, with those of its `files`; its folder is named after the commit.

    Raises FetchError when the repository, the revision or the network is missing, or access is not granted.
    """
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=[*files, "LICENSE*", "README.md"]))
    except hub_failures() as error:
        raise FetchError(explain(f"The model {name}", revision, error)) from error


def download_dataset_file(name: str, revision: str, filename: str) -> Path:
    """One file of a data set repository, in the hub's own cache. Raises FetchError as `download_model` does."""
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(name, filename, repo_type="dataset", revision=revision))
    except hub_failures() as error:
        raise FetchError(explain(f"The data set {name} ({filename})", revision, error)) from error


def download_dataset_files(name: str, revision: str, wanted: str | None) -> tuple[Path, ...]:
    """Files of a data set repository in the hub's own cache, all of one commit: those that `wanted` names, which may
    hold `*` and `?`; without it the only file of rows, or those of its split `train`.

    Raises FetchError as `download_model` does, and where none or no single choice is there.
    """
    from huggingface_hub import hf_hub_download

    try:
        commit, names = _listed_files(name, revision)
        chosen = _chosen_files(name, names, wanted)
        return tuple(Path(hf_hub_download(name, one, repo_type="dataset", revision=commit)) for one in chosen)
    except hub_failures() as error:
        raise FetchError(explain(f"The data set {name}", revision, error)) from error


def _listed_files(name: str, revision: str) -> tuple[str, list[str]]:
    """The commit that a revision is, and the names of its files; out of the hub's reach, of those in the cache."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import DryRunError, LocalEntryNotFoundError

    try:
        files = snapshot_download(name, repo_type="dataset", revision=revision, dry_run=True)
        return (files[0].commit_hash if files else revision), [one.filename for one in files]
    except DryRunError as error:
        try:
            folder = Path(snapshot_download(name, repo_type="dataset", revision=revision, local_files_only=True))
        except LocalEntryNotFoundError as absent:
            raise (error.__cause__ if isinstance(error.__cause__, OSError) else absent) from error
        return folder.name, [one.relative_to(folder).as_posix() for one in folder.rglob("*") if one.is_file()]


def _chosen_files(name: str, names: Sequence[str], wanted: str | None) -> list[str]:
    rows = sorted(one for one in names if one.lower().endswith(_ROWS) and Path(one).name not in _NO_ROWS)
    if wanted is not None:
        chosen = sorted(one for one in names if fnmatchcase(one, wanted))
        if not chosen:
            raise FetchError(f"The data set {name} holds no file {wanted}. Correct data.files; {_shown(rows)}.")
        return chosen
    train = [one for one in rows if _TRAIN.search(one)]
    for candidates in (rows, train):
        if candidates and len({_SHARD.sub("", one) for one in candidates}) == 1:
            return candidates
    raise FetchError(f"Name with data.files what to read of the data set {name}, `*` for any text; {_shown(rows)}.")


def _shown(names: Sequence[str]) -> str:
    if not names:
        return "it holds no file of JSON or Parquet"
    return f"it holds {', '.join(names[:_SHOWN_FILES])}{' …' if len(names) > _SHOWN_FILES else ''}"


def commit_of(file: Path) -> str:
    """The commit that a file in the hub's cache is of; empty for any other file."""
    return next((folder.name for folder in file.parents if folder.parent.name == "snapshots"), "")


def hub_failures() -> tuple[type[Exception], ...]:
    """What the hub's library raises where something is not there or cannot be fetched.

    Of what a connection does it passes some on as it is: a proxy that refuses, a download that breaks off again and
    again. A page in the place of an answer is no JSON.
    """
    import httpx2
    from huggingface_hub.errors import EntryNotFoundError, HFValidationError, RevisionResolutionError

    return (
        OSError,
        httpx2.HTTPError,
        httpx2.InvalidURL,
        json.JSONDecodeError,
        EntryNotFoundError,
        HFValidationError,
        RevisionResolutionError,
    )


def explain(what: str, revision: str, error: Exception) -> str:
    """One message for a person: what failed, where, what to do."""
    return f"{what} at revision {revision!r} could not be fetched from the Hugging Face hub: {_reason(error)}"


def _reason(error: Exception) -> str:
    import httpx2
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
        case httpx2.TransportError() | httpx2.InvalidURL() | json.JSONDecodeError():
            return (
                f"the connection does not bring it ({type(error).__name__}: {error}). Check the network and the proxy "
                "(HTTPS_PROXY), and run again, or give the path of a local copy instead."
            )
    return f"{type(error).__name__}: {error}"
