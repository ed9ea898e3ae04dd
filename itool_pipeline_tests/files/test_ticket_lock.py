"""Who waits for whom, who is taken for dead, and what becomes of them. Other machines are tickets written by hand."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from itool_pipeline.files import ticket_folder
from itool_pipeline.files.process_identity import ProcessIdentity
from itool_pipeline.files.storage_errors import StorageError
from itool_pipeline.files.ticket_folder import TicketFolder
from itool_pipeline.files.ticket_line import LOST, OVER, Ticket
from itool_pipeline.files.ticket_lock import TIMING, Held, LockLost, Timing, ticket_lock

ELSEWHERE = ProcessIdentity("node-7", "another boot", os.getpid(), "1")
SHORT = Timing(poll=0.01, beat=0.01, patience=90.0)


class WouldWait(Exception):
    """Raised instead of waiting, with what people are told."""


def give_up(line: str) -> None:
    raise WouldWait(line)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "a.tickets"


@pytest.fixture
def line(folder: Path) -> TicketFolder:
    folder.mkdir(parents=True)
    return TicketFolder(folder)


class Clock:
    """Time that passes by sleeping alone. `meanwhile` is called after each sleep, with the time."""

    def __init__(self) -> None:
        self.now = 0.0
        self.meanwhile: Callable[[float], object] = lambda _: None

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        assert self.now < 1000, "waits for ever"
        self.meanwhile(self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("itool_pipeline.files.ticket_lock.time.monotonic", lambda: clock.now)
    monkeypatch.setattr("itool_pipeline.files.ticket_lock.time.sleep", clock.sleep)
    return clock


@pytest.fixture(autouse=True)
def no_thread_stays() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) == before


def test_who_waits_is_told_for_what_and_for_whom(folder: Path) -> None:
    with ticket_lock(folder, "trees", give_up):
        waiting = rf"Waiting for trees \({folder}\): in use by process {os.getpid()} on "
        with pytest.raises(WouldWait, match=waiting), ticket_lock(folder, "trees", give_up):
            raise AssertionError("two at once")


@pytest.mark.parametrize("shared", [False, True])
def test_one_alone_excludes_all(folder: Path, shared: bool) -> None:
    with (
        ticket_lock(folder, "trees", give_up),
        pytest.raises(WouldWait),
        ticket_lock(folder, "trees", give_up, shared=shared),
    ):
        raise AssertionError("two at once")


def test_many_share_and_exclude_one_alone(folder: Path) -> None:
    with (
        ticket_lock(folder, "trees", give_up, shared=True),
        ticket_lock(folder, "trees", give_up, shared=True),
        pytest.raises(WouldWait),
        ticket_lock(folder, "trees", give_up),
    ):
        raise AssertionError("beside those that share")
    with ticket_lock(folder, "trees", give_up):
        pass


def test_it_is_free_however_its_holder_ends(folder: Path) -> None:
    with pytest.raises(KeyboardInterrupt), ticket_lock(folder, "trees", give_up):
        raise KeyboardInterrupt
    with pytest.raises(RuntimeError, match=r"^no memory$"), ticket_lock(folder, "trees", give_up):
        raise RuntimeError("no memory")
    with ticket_lock(folder, "trees", give_up) as held:
        assert held.turn.number == 3
        held.require()
    assert [TicketFolder(folder).read(number).closed for number in (1, 2, 3)] == [OVER] * 3  # type: ignore[union-attr]


def test_people_are_told_at_once_and_then_every_minute(line: TicketFolder, clock: Clock) -> None:
    said: list[str] = []
    line.take(1, Ticket(ProcessIdentity.own()))
    clock.meanwhile = lambda now: line.close(1, OVER) if now > 130 else None
    with ticket_lock(line.folder, "trees", said.append):
        assert len(said) == 3
    assert len(set(said)) == 1


def test_a_machine_without_a_sign_of_life_is_passed_over(line: TicketFolder, clock: Clock) -> None:
    said: list[str] = []
    line.take(1, Ticket(ELSEWHERE))
    line.take(2, Ticket(replace(ELSEWHERE, host="node-8"), shared=True))
    with ticket_lock(line.folder, "trees", said.append):
        assert 90 <= clock.now < 92, "both at the same time"
    assert said[0].endswith(f"in use by process {os.getpid()} on node-7.")
    assert said[1].endswith("which gave no sign of life for 60 s; after 90 s it is passed over.")
    assert said[2] == (
        f"trees ({line.folder}): process {os.getpid()} on node-7 gave no sign of life for 90 s and is passed over."
    )
    found = line.read(1)
    assert found is not None
    assert found.closed == LOST, "nobody needs to wait for it again"


def test_a_machine_whose_heart_beats_is_waited_for(line: TicketFolder, clock: Clock) -> None:
    line.take(1, Ticket(ELSEWHERE))

    def beat(now: float) -> None:
        if now % 80 == 0:
            os.utime(line.path(1), (now, now))
        if now > 500:
            line.close(1, OVER)

    clock.meanwhile = beat
    with ticket_lock(line.folder, "trees", lambda _: None):
        assert 500 < clock.now < 502
    found = line.read(1)
    assert found is not None
    assert found.closed == OVER


def test_the_time_in_which_who_waits_does_not_look_does_not_count(line: TicketFolder, clock: Clock) -> None:
    line.take(1, Ticket(ELSEWHERE))

    def suspended(now: float) -> None:
        if now == 10:
            clock.now += 500

    clock.meanwhile = suspended
    with ticket_lock(line.folder, "trees", lambda _: None):
        assert 588 < clock.now < 592


def test_a_dead_process_of_this_machine_is_passed_over_at_once(line: TicketFolder) -> None:
    own = ProcessIdentity.own()
    line.take(1, Ticket(replace(own, started="0")))  # the number of this process, which another had before
    with ticket_lock(line.folder, "trees", give_up):
        pass
    found = line.read(1)
    assert found is not None
    assert found.closed == LOST


def test_a_kill_while_a_ticket_is_written_holds_nobody_up_for_ever(line: TicketFolder, clock: Clock) -> None:
    line.path(1).touch()
    line.path(2).write_text('{"owner": {"host": "no')
    with ticket_lock(line.folder, "trees", lambda _: None):
        assert 90 <= clock.now < 92


def test_who_writes_late_does_not_open_what_was_closed(line: TicketFolder) -> None:
    line.path(1).touch()
    line.close(1, LOST)
    record = ticket_folder._RECORD_BYTES
    assert line.take(2, Ticket(ELSEWHERE))
    with line.path(1).open("r+b") as file:
        file.write(line.path(2).read_bytes()[:record])
    found = line.read(1)
    assert found is not None
    assert found.owner == ELSEWHERE
    assert found.closed == LOST


def test_a_missing_ticket_is_made_and_cannot_be_taken(line: TicketFolder) -> None:
    line.take(3, Ticket(ELSEWHERE, closed=OVER))
    with ticket_lock(line.folder, "trees", give_up) as held:
        assert held.turn.number == 4
        assert not line.take(1, Ticket(ELSEWHERE))
        assert not line.take(2, Ticket(ELSEWHERE))


def test_who_was_taken_for_dead_while_it_waited_goes_to_the_end_of_the_line(line: TicketFolder, clock: Clock) -> None:
    line.take(1, Ticket(ProcessIdentity.own()))

    def others(now: float) -> None:
        if now == 1.0:
            line.close(2, LOST)
        if now == 2.0:
            line.take(4, Ticket(ProcessIdentity.own()))
            line.close(1, OVER)

    clock.meanwhile = others
    with ticket_lock(line.folder, "trees", lambda _: None) as held:
        assert held.turn.number == 3


def hold(folder: Path, inside: Callable[[Held], object], timing: Timing = TIMING) -> None:
    with ticket_lock(folder, "trees", give_up, timing=timing) as held:
        inside(held)


def test_who_is_taken_for_dead_is_stopped_where_it_is(folder: Path) -> None:
    waits = threading.Event()

    def go_on(held: Held) -> None:
        TicketFolder(folder).close(1, LOST)
        try:
            for _ in range(6000):
                waits.wait(0.01)
        except Exception:
            pytest.fail("what handles errors must not take it for one")
        pytest.fail("it went on for a minute")

    with pytest.raises(LockLost, match=r"^trees: this process gave no sign of life .* Nothing is damaged\. Run again"):
        hold(folder, go_on, SHORT)


def test_who_is_taken_for_dead_hears_of_it_when_it_asks(folder: Path) -> None:
    def ask(held: Held) -> None:
        held.require()
        TicketFolder(folder).close(1, LOST)
        with pytest.raises(LockLost):
            held.require()

    hold(folder, ask)


def test_what_fails_when_it_was_taken_for_dead_failed_for_that(folder: Path) -> None:
    def fail(held: Held) -> None:
        TicketFolder(folder).close(1, LOST)
        raise FileNotFoundError("moved away by the other")

    with pytest.raises(LockLost) as caught:
        hold(folder, fail)
    assert isinstance(caught.value.__cause__, FileNotFoundError)


def test_a_folder_that_is_removed_is_a_lock_that_is_lost(folder: Path) -> None:
    def remove(held: Held) -> None:
        shutil.rmtree(folder)
        assert held.is_lost()
        folder.mkdir()
        TicketFolder(folder).take(1, Ticket(ELSEWHERE))
        assert held.is_lost(), "a ticket of its number is another's"

    hold(folder, remove)
    left = TicketFolder(folder).read(1)
    assert left is not None
    assert not left.closed


def test_a_full_disk_is_explained(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("itool_pipeline.files.ticket_folder.os.pwrite", full)
    with pytest.raises(StorageError, match="disk is full: the ticket for trees"), ticket_lock(folder, "trees", give_up):
        raise AssertionError("without a ticket")


def test_a_heart_that_cannot_beat_says_so_and_goes_on(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tried = threading.Event()
    beaten = threading.Event()
    renew = TicketFolder.renew

    def once_not(self: TicketFolder, number: int) -> None:
        if not tried.is_set():
            tried.set()
            raise OSError(errno.EIO, "Input/output error")
        renew(self, number)
        beaten.set()

    monkeypatch.setattr(TicketFolder, "renew", once_not)
    with caplog.at_level(logging.WARNING), ticket_lock(folder, "trees", give_up, timing=SHORT):
        assert beaten.wait(60)
    assert "Input/output error" in caplog.text
    assert "After 90 s others take this process for dead." in caplog.text


def test_the_heart_moves_the_ticket(folder: Path) -> None:
    with ticket_lock(folder, "trees", give_up, timing=SHORT):
        os.utime(folder / "00000001", (1, 1))
        moved = threading.Event()
        for _ in range(6000):
            if (folder / "00000001").stat().st_mtime != 1:
                break
            moved.wait(0.01)
        else:
            raise AssertionError("no beat")
