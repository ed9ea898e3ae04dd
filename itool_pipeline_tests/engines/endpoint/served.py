"""A small server of chat completions on this machine, which does what a test tells it to."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from itool_pipeline.config import EndpointModel


@dataclass(frozen=True)
class Sent:
    """What the server sends back: a body as it is, or as JSON."""

    body: Any
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def content(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


def said(content: str | None = None, calls: Any = None, prompt: int = 100, completion: int = 10) -> Sent:
    """A chat completion: a text, or pairs of a function's name and its arguments as text."""
    made = [
        {"id": f"c{i}", "type": "function", "function": {"name": name, "arguments": arguments}}
        for i, (name, arguments) in enumerate(calls or ())
    ]
    message = {"role": "assistant", "content": content, **({"tool_calls": made} if made else {})}
    usage = {"prompt_tokens": prompt, "completion_tokens": completion}
    return Sent({"choices": [{"message": message, "finish_reason": "stop"}], "usage": usage})


Answerer = Callable[[dict[str, Any]], Sent]


@dataclass
class Server:
    """`asked` has every request in its order, `keys` the header of each."""

    base_url: str
    answer: Answerer
    asked: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)

    def model(self, **over: Any) -> EndpointModel:
        content = {"type": "endpoint", "base_url": self.base_url, "name": "served", "timeout_seconds": 20.0, **over}
        return EndpointModel.model_validate(content)


@contextmanager
def serving(answer: Answerer) -> Iterator[Server]:
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            assert self.path == "/v1/chat/completions"
            with lock:
                server.asked.append(request)
                server.keys.append(self.headers.get("Authorization"))
            sent = server.answer(request)
            try:
                self.send_response(sent.status)
                for name, value in {**sent.headers, "Content-Length": str(len(sent.content))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(sent.content)
            except BrokenPipeError:
                self.close_connection = True  # who asked has given it up

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        httpd.daemon_threads = True
        server = Server(f"http://127.0.0.1:{httpd.server_address[1]}/v1", answer)
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        try:
            yield server
        finally:
            httpd.shutdown()
