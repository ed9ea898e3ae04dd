"""The server that is started for a while, on a Python that stands in for one with vLLM and the `openai` client."""

from __future__ import annotations

import json
import sys
import urllib.request
from pathlib import Path

import pytest

from itool_pipeline.engines.tool_server import VARIABLE, ServerError, Serving, answers, served, server_python

PYTHON = '''\
#!{python}
"""Does what `python -m vllm…` and `python -I -c …` do, with the modules of this folder."""
import runpy, sys
sys.path.insert(0, {folder!r})
if sys.argv[1] == "-m":
    name, sys.argv = sys.argv[2], sys.argv[2:]
    runpy.run_module(name, run_name="__main__")
else:
    source, sys.argv = sys.argv[3], ["-c", *sys.argv[4:]]
    exec(compile(source, "client", "exec"), {{"__name__": "__main__"}})
'''
SERVER = """\
import json, os, sys
from http.server import BaseHTTPRequestHandler, HTTPServer
options = dict(zip(sys.argv[1::2], sys.argv[2::2]))
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        said = {"asked": asked, "options": sys.argv[1:], "pid": os.getpid()}
        self.send_response(200); self.end_headers(); self.wfile.write(json.dumps(said).encode())
    def log_message(self, *_): ...
if "broken" in sys.argv:
    sys.exit("the engine does not fit")
at = sys.argv.index("--port")
HTTPServer(("127.0.0.1", int(sys.argv[at + 1])), Handler).serve_forever()
"""
CLIENT = """\
import json, urllib.request
from types import SimpleNamespace as Made
class OpenAI:
    def __init__(self, base_url, **options):
        self.chat = Made(completions=Made(create=lambda **asked: ask(base_url, asked)))
def ask(url, asked):
    if asked["messages"] == "broken":
        raise RuntimeError("the server said no")
    request = urllib.request.Request(url, json.dumps(asked).encode())
    said = json.loads(urllib.request.urlopen(request).read())
    call = Made(function=Made(name="seen", arguments=json.dumps(said)))
    return Made(choices=[Made(message=Made(content=None, tool_calls=[call]), token_ids=[7])], prompt_token_ids=[5, 6])
"""


@pytest.fixture
def python(tmp_path: Path) -> Path:
    place = tmp_path / "environment"
    module = place / "vllm" / "entrypoints" / "openai"
    module.mkdir(parents=True)
    (module / "api_server.py").write_text(SERVER)
    (place / "openai.py").write_text(CLIENT)
    (place / "bin").mkdir()
    made = place / "bin" / "python"
    made.write_text(PYTHON.format(python=sys.executable, folder=str(place)))
    made.chmod(0o755)
    return made


def question(messages: object) -> dict[str, object]:
    return {"id": "one", "messages": messages, "tools": [{"name": "f"}], "max_tokens": 9}


def test_a_question_goes_to_the_server_and_its_calls_come_back(python: Path, tmp_path: Path) -> None:
    serving = Serving(tmp_path, "itool", tmp_path / "parser.py", "bfloat16", 512)
    with served(python, serving) as url:
        (answer,) = answers(python, url, [question([{"role": "user", "content": "«Hello»"}])])
    assert (answer["id"], answer["content"], answer["prompt_ids"], answer["answer_ids"]) == ("one", "", [5, 6], [7])
    (call,) = answer["calls"]
    seen = json.loads(call["arguments"])
    assert seen["asked"]["messages"] == [{"role": "user", "content": "«Hello»"}]
    assert (seen["asked"]["temperature"], seen["asked"]["max_tokens"]) == (0.0, 9)
    options = " ".join(seen["options"])
    for part in (f"--model {tmp_path}", "--dtype bfloat16", "--max-model-len 512", "--tool-call-parser itool"):
        assert part in options
    assert f"--tool-parser-plugin {tmp_path / 'parser.py'}" in options
    assert not Path(f"/proc/{seen['pid']}").exists(), "the server ends with the block"
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(url)


def test_a_server_that_does_not_start_is_told_with_its_last_words(python: Path, tmp_path: Path) -> None:
    serving = Serving(tmp_path, "broken", None, "bfloat16", 512)
    with pytest.raises(ServerError, match="ended as it started: the engine does not fit"), served(python, serving):
        raise AssertionError("it is not served")


def test_a_client_that_fails_is_told(python: Path, tmp_path: Path) -> None:
    with served(python, Serving(tmp_path, "pythonic", None, "float32", 64)) as url:
        asked = answers(python, url, [question("broken")])
        with pytest.raises(ServerError, match=r"(?s)does not answer.*the server said no"):
            list(asked)


def test_the_servers_python_is_a_setting(python: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(VARIABLE, str(python))
    assert server_python() == python
    monkeypatch.setenv(VARIABLE, str(python.parents[1]))
    assert server_python() == python
    monkeypatch.setenv(VARIABLE, str(tmp_path / "none"))
    with pytest.raises(ServerError, match="no Python is there"):
        server_python()
