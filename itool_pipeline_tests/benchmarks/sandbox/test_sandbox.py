"""The sandbox against work that reads, writes, connects, forks, spins and grows."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from itool_pipeline.benchmarks.sandbox.sandbox import Answer, Limits, Sandbox, SandboxError
from itool_pipeline_tests.benchmarks.sandbox import hostile

WORK = f"{hostile.__name__}:prepare"
LIMITS = Limits(seconds=20, cpu_seconds=1, address_space=1 << 28, file_size=1 << 20, answer_size=1 << 22)


def ends(group: int) -> bool:
    """Whether every process of the group ends, but for dead ones that nobody has collected."""
    for _ in range(200):
        listed = subprocess.run(["ps", "-eo", "pgid=,stat="], capture_output=True, text=True, check=True).stdout
        if not any(int(pgid) == group and state[0] != "Z" for pgid, state in map(str.split, listed.splitlines())):
            return True
        time.sleep(0.05)
    return False


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("outside")
    (folder / "secret.txt").write_text("the secret")
    return folder


@pytest.fixture(scope="module")
def sandbox(outside: Path) -> Iterator[Sandbox]:
    with Sandbox(WORK, [str(outside)], LIMITS) as opened:
        yield opened


@pytest.mark.parametrize(
    ("request_", "sentence"),
    [
        ("raise", "ZeroDivisionError: integer division or modulo by zero"),
        ("exit", "SystemExit: 3"),
        ("die", "ended without an answer"),
        ("unanswerable", "TypeError"),
        ("missing", "KeyError"),
        ("read", "tried what is not allowed: open"),
        ("swallow", "tried what is not allowed: open"),
        ("list", "tried what is not allowed: os.listdir"),
        ("write", "tried what is not allowed: open"),
        ("remove", "tried what is not allowed: os.remove"),
        ("write_much_inside", "OSError: [Errno 27]"),
        ("socket", "tried what is not allowed: socket."),
        ("look_up", "tried what is not allowed: socket."),
        ("subprocess", "tried what is not allowed: "),
        ("shell", "tried what is not allowed: os.system"),
        ("fork", "tried what is not allowed: os.fork"),
        ("library", "tried what is not allowed: ctypes."),
        ("spin", "used more than 1 s of CPU time"),
        ("killed", "was killed from outside, most likely by the kernel because memory ran out"),
        ("power", "used more than "),
        ("grow", f"used more than {1 << 28} bytes of memory"),
        ("much", f"answered with more than {1 << 22} bytes"),
    ],
)
def test_each_attempt_is_contained_and_the_next_request_is_served(
    sandbox: Sandbox, outside: Path, request_: str, sentence: str
) -> None:
    before = sorted(outside.iterdir())
    answer = sandbox.run(request_)
    assert answer.value is None
    assert sentence in answer.error
    assert sandbox.run("add") == Answer(2)
    assert sorted(outside.iterdir()) == before
    assert (outside / "secret.txt").read_text() == "the secret"


def test_requests_do_not_see_each_other_and_may_use_their_own_folder(sandbox: Sandbox) -> None:
    assert [sandbox.run("seen").value for _ in range(3)] == [1, 1, 1]
    assert sandbox.run("write_inside") == Answer("mine")


def test_the_clock_kills_the_whole_group_and_a_new_worker_serves_the_next(outside: Path) -> None:
    with Sandbox(WORK, [str(outside)], Limits(seconds=1.0)) as sandbox:
        assert sandbox.run("add") == Answer(2)
        first = sandbox._process
        assert first is not None
        assert sandbox.run("sleep") == Answer(error="took more than 1 s")
        assert ends(first.pid)
        assert sandbox.run("add") == Answer(2)


def test_nothing_is_left_when_it_is_closed(outside: Path) -> None:
    with Sandbox(WORK, [str(outside)], LIMITS) as sandbox:
        sandbox.run("write_inside")
        folder, process = sandbox._folder, sandbox._process
        assert folder is not None
        assert process is not None
        assert Path(folder.name).is_dir()
    assert not Path(folder.name).exists()
    assert ends(process.pid)


def test_says_how_it_is_kept_from_the_network(sandbox: Sandbox) -> None:
    sandbox.run("add")
    assert sandbox.network in ("namespace and audit hook", "audit hook")


def test_work_that_cannot_be_imported_says_so() -> None:
    with Sandbox("itool_pipeline.benchmarks.nothing:prepare") as sandbox, pytest.raises(SandboxError, match="nothing"):
        sandbox.run("add")
