"""Dagster's project tool, `dg`, finds the definitions and takes them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from itool_pipeline.steps.asset_graph import assets_of

pytest.importorskip("dagster_dg_cli")
pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


def dg(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from dagster_dg_cli.cli import main; main()", *arguments]
    own = {name: value for name, value in os.environ.items() if name != "DAGSTER_HOME"}
    return subprocess.run(command, cwd=ROOT, env=own, capture_output=True, text=True, check=False)


def test_it_takes_the_definitions() -> None:
    done = dg("check", "defs")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "All definitions loaded successfully." in done.stdout + done.stderr


def test_it_takes_the_settings() -> None:
    done = dg("check", "toml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "deprecated" not in done.stdout + done.stderr


def test_it_lists_every_asset() -> None:
    done = dg("list", "defs", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    listed: dict[str, Any] = json.loads(done.stdout)
    assert {asset["asset_key"] for asset in listed["assets"]} >= {*assets_of(), "comparison"}
    assert {job["name"] for job in listed["jobs"]} >= {"itool", "evaluate", "report", "compare"}
