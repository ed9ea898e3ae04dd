"""One request after another to an endpoint, in any number of threads: paced, tried again, and within bounds."""

from __future__ import annotations

import email.utils
import os
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from threading import Event
from typing import Any

import httpx2

from itool_pipeline.config import EndpointModel
from itool_pipeline.engines.endpoint.bounds import NOTHING, Account, Pace, Usage
from itool_pipeline.engines.model_config import ModelError

LONGEST_WAIT_SECONDS = 120.0
_FIRST_WAIT_SECONDS = 1.0
_TRY_AGAIN = frozenset({408, 409, 425, 429, *range(500, 600)})
_SHOWN = 300


@dataclass(frozen=True, slots=True)
class Reply:
    """The message that came back, and what it cost."""

    message: Mapping[str, Any]
    usage: Usage


class Stopped(ModelError):
    """Another request has ended the work, so this one was given up."""


class _Unusable(Exception):
    """An answer that may be another the next time. `wait`: seconds that the server asks for."""

    def __init__(self, words: str, wait: float | None = None, usage: Usage = NOTHING) -> None:
        super().__init__(words)
        self.wait, self.usage = wait, usage


def require_key(model: EndpointModel) -> str | None:
    """The key out of the environment; None for an endpoint that needs none. Raises ModelError when it is not set."""
    if model.api_key_env is None:
        return None
    key = os.environ.get(model.api_key_env, "").strip()
    if not key:
        raise ModelError(
            f"model.api_key_env is {model.api_key_env}, and that variable is not set here: set it to the key of "
            f"{model.base_url}, where steps run"
        )
    return key


class EndpointClient:
    """Asks one endpoint. The key is in the header of its requests and nowhere else."""

    def __init__(self, model: EndpointModel, spent: Usage) -> None:
        """`spent` was before. Raises ModelError when the key is not set."""
        self.account = Account(model, spent)
        self._model, self._key, self._stopping = model, require_key(model), Event()
        self._pace = Pace(model.requests_per_minute, self._stopping.wait)
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        limits = httpx2.Limits(max_connections=model.concurrency)
        self._http = httpx2.Client(headers=headers, timeout=model.timeout_seconds, limits=limits)

    def close(self) -> None:
        """End what waits, and the connections."""
        self._stopping.set()
        self._http.close()

    def stop(self) -> None:
        """Requests that wait for their turn, or to be tried again, are given up."""
        self._stopping.set()

    def ask(self, request: Mapping[str, Any], most: Usage, name: str) -> Reply:
        """The reply to a request of `messages` and perhaps `tools`, of at most so many tokens. `name`: for messages.

        Raises ModelError when the endpoint refuses it, when it fails too often, and when a bound would be passed.
        """
        model = self._model
        asked = {"model": model.name, **request, model.length_key: most.completion}
        body = asked if model.temperature is None else {**asked, "temperature": model.temperature}
        for attempt in range(model.retries + 1):
            self._pace.wait()
            if self._stopping.is_set():
                raise Stopped(f"{name} was not asked, because another request has failed")
            self.account.hold(most)
            used = NOTHING
            try:
                reply = self._once(body, name)
                used = reply.usage
                return reply
            except _Unusable as error:
                last, used = error, error.usage
            finally:
                self.account.settle(most, used)
            if attempt < model.retries:
                self._stopping.wait(_wait(attempt, last.wait))
        raise ModelError(
            f"{self._at()} gave no answer to {name} in {model.retries + 1} tries; the last time: {last}. The answers "
            "that came are kept: run again when it answers, or raise model.retries or model.timeout_seconds."
        )

    def _once(self, body: Mapping[str, Any], name: str) -> Reply:
        try:
            response = self._http.post(f"{self._model.base_url.rstrip('/')}/chat/completions", json=body)
        except httpx2.TimeoutException:
            raise _Unusable(f"nothing came within {self._model.timeout_seconds:g} s") from None
        except httpx2.TransportError as error:
            raise _Unusable(self._without_key(f"{type(error).__name__}: {error}")) from None
        status, said = response.status_code, self._without_key(response.text[:_SHOWN])
        if status in _TRY_AGAIN:
            raise _Unusable(f"HTTP {status}: {said}", _retry_after(response.headers.get("retry-after")))
        if status != 200:
            raise ModelError(f"{self._at()} refuses {name} with HTTP {status}: {said}{self._advice(status)}")
        try:
            content = response.json()
        except ValueError:
            raise _Unusable(f"no JSON: {said}") from None
        usage = _usage(content)
        try:
            message = content["choices"][0]["message"]
            if not isinstance(message, dict):
                raise TypeError
        except (KeyError, IndexError, TypeError):
            raise _Unusable(f"no message in it: {said}", usage=usage) from None
        return Reply(message, usage)

    def _at(self) -> str:
        return f"{self._model.name} at {self._model.base_url}"

    def _advice(self, status: int) -> str:
        if status in (401, 403):
            return f". Put a key that it takes into the variable {self._model.api_key_env or 'of model.api_key_env'}"
        if status == 404:
            return ". Correct model.base_url (it ends where /chat/completions begins) or model.name"
        return ". Correct what it names in `model`, or lower max_prompt_tokens in `evaluation`"

    def _without_key(self, text: str) -> str:
        return text.replace(self._key, "[key]") if self._key else text


def _usage(content: Any) -> Usage:
    told = content.get("usage") if isinstance(content, dict) else None
    counts = [told.get(key) if isinstance(told, dict) else 0 for key in ("prompt_tokens", "completion_tokens")]
    return Usage(*(count if isinstance(count, int) and count >= 0 else 0 for count in counts))


def _retry_after(value: str | None) -> float | None:
    """Seconds out of the header, which has them as a number or as a time."""
    if not value:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None


def _wait(attempt: int, asked: float | None) -> float:
    """Seconds before the next try: what the server asks for, or twice as long each time, with some chance in it."""
    if asked is not None:
        return min(asked, LONGEST_WAIT_SECONDS)
    longest = min(_FIRST_WAIT_SECONDS * 2.0**attempt, LONGEST_WAIT_SECONDS)
    return longest * random.uniform(0.5, 1.0)
