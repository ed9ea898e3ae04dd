"""A server of OpenAI's chat API that is started for a while: vLLM's, in whichever Python it is installed.

`ITOOL_VLLM` names that Python, or the folder of its environment; without it, vLLM and the `openai` client are looked
for in this one.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from itool_pipeline.errors import ActionableError

VARIABLE = "ITOOL_VLLM"
_START_SECONDS = 1800.0
_NAME = "exported"
_LAST_LINES = 15

_ENVIRONMENT = {
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "HF_HUB_OFFLINE": "1",
    # Of the build for processors, which binds threads to cores that others may use, and takes gigabytes for its cache.
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_CPU_KVCACHE_SPACE": "1",
}
"""What is set unless the user has set it otherwise."""


class ServerError(ActionableError):
    """There is no server, or it does not start or answer. The message says what to do, with its last words."""


@dataclass(frozen=True, slots=True)
class Serving:
    """How a folder is served.

    parser   vLLM's name of the tool parser
    plugin   the file that brings this parser; None for one of vLLM's own
    dtype    by name, the one that the pipeline scored in
    context  tokens of the longest prompt and its answer together
    thoughts  vLLM's name of the parser of thoughts; none for a model that does not think
    """

    folder: Path
    parser: str
    plugin: Path | None
    dtype: str
    context: int
    thoughts: str = ""


def server_python() -> Path | None:
    """The Python that vLLM's server is installed for; None where none is. Raises ServerError for a wrong setting."""
    given = os.environ.get(VARIABLE)
    if given:
        place = Path(given).expanduser()
        python = place / "bin" / "python" if place.is_dir() else place
        if not python.is_file():
            raise ServerError(
                f"{VARIABLE} is {given}: no Python is there. Name one that has vllm and openai installed."
            )
        return python
    return Path(sys.executable) if find_spec("vllm") and find_spec("openai") else None


@contextmanager
def served(python: Path, serving: Serving) -> Iterator[str]:
    """The base URL of a server that runs inside the block. Raises ServerError when it ends before it answers."""
    port = _free_port()
    with tempfile.TemporaryDirectory(prefix="itool_server.") as folder:
        log = Path(folder) / "log"
        with log.open("wb") as sink:
            process = subprocess.Popen(
                [str(python), "-m", "vllm.entrypoints.openai.api_server", *_options(serving, port)],
                stdout=sink,
                stderr=subprocess.STDOUT,
                cwd=folder,
                env=_environment(python),
                start_new_session=True,
            )
        try:
            _await(process, f"http://127.0.0.1:{port}/health", log)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            _end(process)


def answers(python: Path, base_url: str, questions: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """The answers as `ask_server` gives them, as they come. Raises ServerError when the client ends with an error."""
    script = Path(__file__).with_name("ask_server.py").read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory(prefix="itool_client.") as folder, tempfile.TemporaryFile() as errors:
        asked = Path(folder) / "questions.jsonl"
        asked.write_text("".join(f"{json.dumps(one, ensure_ascii=False)}\n" for one in questions), encoding="utf-8")
        with (
            asked.open("rb") as source,
            subprocess.Popen(
                # As a text, for beside its file are modules that are named as Python's own.
                [str(python), "-I", "-c", script, base_url, _NAME],
                stdin=source,
                stdout=subprocess.PIPE,
                stderr=errors,
                cwd=folder,
                env=_environment(python),
            ) as client,
        ):
            assert client.stdout is not None
            yield from (json.loads(line) for line in client.stdout)
        if client.returncode:
            errors.seek(0)
            raise ServerError(f"The server does not answer: {_last_lines(errors.read())}")


def _options(serving: Serving, port: int) -> list[str]:
    plugin = ["--tool-parser-plugin", str(serving.plugin.absolute())] if serving.plugin else []
    thinking = ["--reasoning-parser", serving.thoughts] if serving.thoughts else []
    return [
        *("--model", str(serving.folder.absolute()), "--served-model-name", _NAME),
        *("--host", "127.0.0.1", "--port", str(port)),
        *("--dtype", serving.dtype, "--max-model-len", str(serving.context), "--enforce-eager"),
        *("--enable-auto-tool-choice", *plugin, "--tool-call-parser", serving.parser, *thinking),
    ]


def _environment(python: Path) -> dict[str, str]:
    """That of this process, without what belongs to its own Python."""
    own = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON") and key != "VIRTUAL_ENV"}
    return {**_ENVIRONMENT, **own, "PATH": f"{python.parent}{os.pathsep}{own.get('PATH', '')}"}


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def _await(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    start = time.monotonic()
    while not _is_there(url):
        if process.poll() is not None:
            raise ServerError(f"vLLM's server ended as it started: {_last_lines(log.read_bytes())}")
        if time.monotonic() - start > _START_SECONDS:
            raise ServerError(
                f"vLLM's server did not answer for {_START_SECONDS / 60:.0f} minutes: {_last_lines(log.read_bytes())}"
            )
        time.sleep(1.0)


def _is_there(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _last_lines(output: bytes) -> str:
    return "\n".join(output.decode(errors="replace").strip().splitlines()[-_LAST_LINES:])


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the server with all processes that it started."""
    for how in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, how)
            process.wait(timeout=60)
        except ProcessLookupError:
            break
        except subprocess.TimeoutExpired:
            continue
    process.wait()
