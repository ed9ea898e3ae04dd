"""Who waits for whom. Two descriptors of one process exclude each other as those of two processes do."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from itool_pipeline.files import locks
from itool_pipeline.files.locks import file_lock, is_held


class WouldWait(Exception):
    """Raised instead of waiting, with what people are told."""


def give_up(line: str) -> None:
    raise WouldWait(line)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "a.lock"


def test_who_waits_is_told_for_what_and_for_whom(path: Path) -> None:
    with file_lock(path, "trees", give_up):
        waiting = rf"Waiting for trees \({path}\): in use by process {os.getpid()} on "
        with pytest.raises(WouldWait, match=waiting), file_lock(path, "trees", give_up):
            raise AssertionError("two at once")


@pytest.mark.parametrize("shared", [False, True])
def test_one_alone_excludes_all(path: Path, shared: bool) -> None:
    with (
        file_lock(path, "trees", give_up),
        pytest.raises(WouldWait),
        file_lock(path, "trees", give_up, shared=shared),
    ):
        raise AssertionError("two at once")


def test_many_share_and_exclude_one_alone(path: Path) -> None:
    with file_lock(path, "trees", give_up, shared=True), file_lock(path, "trees", give_up, shared=True):
        with pytest.raises(WouldWait), file_lock(path, "trees", give_up):
            raise AssertionError("beside those that share")
        assert is_held(path)


def test_it_is_free_however_its_holder_ends_and_the_file_stays(path: Path) -> None:
    assert not is_held(path)
    held: list[bool] = []

    def work() -> None:
        with file_lock(path, "trees", give_up):
            held.append(is_held(path))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work()
    assert held == [True]
    assert not is_held(path)
    inode = path.stat().st_ino
    with file_lock(path, "trees", give_up):
        assert path.stat().st_ino == inode


def test_people_are_told_at_once_and_then_every_minute(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    now = [1000.0]
    holder = file_lock(path, "trees", give_up)

    def pass_time(seconds: float) -> None:
        now[0] += 13.0
        if now[0] > 1125.0:
            holder.__exit__(None, None, None)

    monkeypatch.setattr(locks.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(locks.time, "sleep", pass_time)
    holder.__enter__()
    with file_lock(path, "trees", said.append):
        assert len(said) == 2  # after 0 and 65 of 130 seconds
