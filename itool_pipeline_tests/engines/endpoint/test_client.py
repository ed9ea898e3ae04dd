"""Requests that fail in passing or for good, their pace and their bounds, against a server on this machine."""

from __future__ import annotations

import email.utils
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from itool_pipeline.engines.endpoint import client as module
from itool_pipeline.engines.endpoint.bounds import Account, Pace, Usage
from itool_pipeline.engines.endpoint.client import EndpointClient, Stopped, _retry_after, require_key
from itool_pipeline.engines.model_config import ModelError
from itool_pipeline_tests.engines.endpoint.served import Sent, Server, said, serving

MOST = Usage(200, 50)
HELLO = {"messages": [{"role": "user", "content": "Hello"}]}
KEY = "sk-0123456789abcdef"


@pytest.fixture
def server() -> Iterator[Server]:
    with serving(lambda request: said("Hi")) as made:
        yield made


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What would be waited for."""
    waited: list[float] = []

    class Event(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            waited.append(timeout or 0.0)
            return self.is_set()

    monkeypatch.setattr(module, "Event", Event)
    return waited


def in_turn(*sent: Sent) -> Callable[[Any], Sent]:
    left = list(sent)
    return lambda request: left.pop(0) if len(left) > 1 else left[0]


def ask(server: Server, spent: Usage = Usage(), **over: Any) -> module.Reply:  # noqa: B008
    return EndpointClient(server.model(**over), spent).ask(HELLO, MOST, "case one")


def test_a_reply_and_what_it_cost(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THE_KEY", KEY)
    reply = ask(server, api_key_env="THE_KEY")
    assert (reply.message["content"], reply.usage) == ("Hi", Usage(100, 10))
    assert server.asked == [{"model": "served", **HELLO, "max_tokens": 50, "temperature": 0.0}]
    assert server.keys == [f"Bearer {KEY}"]
    ask(server, temperature=None, length_key="max_completion_tokens")
    assert server.asked[1] == {"model": "served", **HELLO, "max_completion_tokens": 50}
    assert server.keys[1] is None


def test_too_many_requests_are_made_again_when_the_server_says(server: Server, waits: list[float]) -> None:
    server.answer = in_turn(Sent("slow down", 429, {"Retry-After": "7"}), said("Hi"))
    assert ask(server).message["content"] == "Hi"
    assert waits == [7.0]


@pytest.mark.parametrize(
    "sent",
    [
        Sent("down", 503),
        Sent(b"<html>"),
        Sent(b'{"choices": [{"mess'),
        Sent({"choices": []}),
        Sent({"error": "x"}),
        Sent([1]),
        Sent({"choices": [{"message": "text"}]}),
    ],
)
def test_what_may_be_better_the_next_time_is_tried_again(server: Server, waits: list[float], sent: Sent) -> None:
    server.answer = in_turn(sent, sent, said("Hi"))
    assert ask(server).message["content"] == "Hi"
    assert len(server.asked) == 3
    assert len(waits) == 2
    assert 0.5 <= waits[0] <= 1.0 <= waits[1] <= 2.0


def test_what_fails_too_often_is_told_with_the_last_reason(server: Server, waits: list[float]) -> None:
    server.answer = in_turn(Sent("the database is gone", 500))
    with pytest.raises(ModelError, match=r"no answer to case one in 4 tries; .* HTTP 500: .*the database is gone"):
        ask(server, retries=3)
    assert len(server.asked) == 4
    assert len(waits) == 3, "nothing is waited for after the last"


def test_nothing_comes_in_time(server: Server) -> None:
    released = threading.Event()

    def late(request: Any) -> Sent:
        released.wait()
        return said("late")

    server.answer = late
    try:
        with pytest.raises(ModelError, match=r"in 2 tries; the last time: nothing came within 0\.2 s"):
            ask(server, timeout_seconds=0.2, retries=1)
    finally:
        released.set()


def test_nobody_listens() -> None:
    with serving(lambda request: said("Hi")) as server:
        pass
    with pytest.raises(ModelError, match=r"served at http://127\.0\.0\.1:\d+/v1 gave no answer .* ConnectError"):
        ask(server, retries=1)


@pytest.mark.parametrize(
    ("status", "advice"), [(401, "into the variable THE_KEY"), (404, r"model\.base_url"), (400, "max_prompt_tokens")]
)
def test_what_is_refused_for_good_ends_it_at_once_and_never_shows_the_key(
    server: Server, monkeypatch: pytest.MonkeyPatch, status: int, advice: str
) -> None:
    monkeypatch.setenv("THE_KEY", KEY)
    server.answer = in_turn(Sent({"error": f"bad: {KEY}"}, status))
    with pytest.raises(ModelError, match=rf"refuses case one with HTTP {status}: .*bad: \[key\].*{advice}") as caught:
        ask(server, api_key_env="THE_KEY")
    assert KEY not in str(caught.value)
    assert len(server.asked) == 1


def test_a_key_that_is_not_set(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("THE_KEY", raising=False)
    with pytest.raises(ModelError, match=r"model\.api_key_env is THE_KEY, and that variable is not set here"):
        EndpointClient(server.model(api_key_env="THE_KEY"), Usage())
    assert require_key(server.model()) is None


def test_who_was_stopped_asks_nothing_more(server: Server) -> None:
    client = EndpointClient(server.model(), Usage())
    client.stop()
    with pytest.raises(Stopped):
        client.ask(HELLO, MOST, "case one")
    assert server.asked == []


def test_a_wait_is_a_number_or_a_time() -> None:
    assert _retry_after("2.5") == 2.5
    assert _retry_after(email.utils.formatdate(time.time() + 500)) == pytest.approx(500, abs=60)
    assert _retry_after(email.utils.formatdate(time.time() - 500)) == 0.0
    assert _retry_after("soon") is None
    assert _retry_after(None) is None


def test_requests_take_their_turns() -> None:
    now, slept = [100.0], list[float]()

    def sleep(seconds: float) -> None:
        slept.append(seconds)

    pace = Pace(30.0, sleep, lambda: now[0])
    for _ in range(3):
        pace.wait()
    assert slept == [2.0, 4.0]
    now[0] = 200.0
    pace.wait()
    assert slept == [2.0, 4.0], "time that has passed is not saved up"
    pace.wait()
    assert slept[2:] == [2.0]
    free = Pace(None, sleep, lambda: now[0])
    for _ in range(9):
        free.wait()
    assert len(slept) == 3


def test_no_request_is_made_that_might_pass_the_bound(server: Server) -> None:
    client = EndpointClient(server.model(max_total_tokens=600), Usage(50, 50))
    client.ask(HELLO, MOST, "case one")
    client.ask(HELLO, MOST, "case two")
    # 320 are spent, and a third might take 250 more.
    client.ask(HELLO, MOST, "case three")
    with pytest.raises(ModelError, match=r"max_total_tokens: .* bound of 600 tokens: 430 tokens are spent\. The"):
        client.ask(HELLO, MOST, "case four")
    assert len(server.asked) == 3


def test_requests_under_way_count_at_their_most(server: Server) -> None:
    account = Account(server.model(max_total_tokens=600), Usage())
    account.hold(MOST)
    account.hold(MOST)
    with pytest.raises(ModelError, match="max_total_tokens"):
        account.hold(MOST)
    account.settle(MOST, Usage(10, 10))
    account.hold(MOST)
    assert account.spent == Usage(10, 10)


def test_a_bound_in_money(server: Server) -> None:
    prices = {"prompt_price": 1000.0, "completion_price": 10_000.0}
    with pytest.raises(ModelError, match=r"max_cost: .* bound of 0\.9: 1010 tokens are spent \(1\.1 by the"):
        ask(server, Usage(1000, 10), max_cost=0.9, **prices)
    assert server.asked == []
    ask(server, Usage(100, 10), max_cost=0.9, **prices)
    with pytest.raises(ValueError, match="max_cost is reckoned by prompt_price and completion_price: set both"):
        server.model(max_cost=1.0, prompt_price=1.0)


def test_a_reply_that_cannot_be_used_is_paid_all_the_same(server: Server) -> None:
    usage = {"prompt_tokens": 100, "completion_tokens": 50}
    server.answer = in_turn(Sent({"choices": [], "usage": usage}), said("Hi"))
    client = EndpointClient(server.model(), Usage())
    client.ask(HELLO, MOST, "case one")
    assert client.account.spent == Usage(200, 60)
