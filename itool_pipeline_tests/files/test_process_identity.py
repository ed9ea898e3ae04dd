"""A process is known by its number, its machine and its beginning."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from itool_pipeline.files import process_identity
from itool_pipeline.files.process_identity import ProcessIdentity


def test_alive_until_it_ends_also_before_its_parent_takes_note() -> None:
    code = (
        "from itool_pipeline.files.process_identity import ProcessIdentity as P; from dataclasses import asdict\n"
        "import json, sys; print(json.dumps(asdict(P.own())), flush=True); sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        identity = ProcessIdentity(**json.loads(child.stdout.readline()))
        assert identity.pid == child.pid
        assert identity.is_alive() is True
        child.send_signal(signal.SIGSTOP)
        assert identity.is_alive() is True
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert identity.is_alive() is False, "a zombie"
        child.wait()
        assert identity.is_alive() is False


def test_a_number_that_is_used_again_is_another_process() -> None:
    own = ProcessIdentity.own()
    assert own.is_alive() is True
    assert replace(own, started="1").is_alive() is False


def test_of_another_machine_or_container_nothing_is_known() -> None:
    own = ProcessIdentity.own()
    for elsewhere in (f"other{own.place}", own.place.replace("pid:[", "pid:[9"), ""):
        assert replace(own, place=elsewhere).is_alive() is None


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere psutil asks the system")
def test_of_a_process_that_is_hidden_nothing_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As with /proc mounted with hidepid: what is there tells who we are, and of others nothing."""
    own = ProcessIdentity.own()
    monkeypatch.setattr(process_identity, "place", lambda: own.place)
    monkeypatch.setattr(process_identity, "PROC", tmp_path)
    assert own.is_alive() is None


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the machine's address tells")
def test_a_sandbox_that_shows_no_place_is_a_place_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_identity, "PROC", tmp_path)
    assert process_identity.place() != process_identity.place()
