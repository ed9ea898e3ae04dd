"""Each step is told once, over all kills: what was told stands in a file beside the work's parts."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from itool_pipeline.tracking.writers import MetricWriter


class OnceTold:
    """Hands each step to its writers once.

    run  what trackers know this work by; it goes on with the file, and work that begins anew has another
    """

    def __init__(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        self.writers: list[MetricWriter] = []
        self._last: dict[str, int] = {}
        lines = _whole_lines(file)
        self._file = file.open("a", encoding="utf-8")
        if not lines:
            lines = [{"run": f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{uuid.uuid4().hex[:6]}"}]
            self._note(lines[0])
        self.run = str(lines[0]["run"])
        for line in lines[1:]:
            self._last[line["kind"]] = line["step"]

    def write(self, kind: str, step: int, values: Mapping[str, float]) -> None:
        if step <= self._last.get(kind, -1):
            return
        # Noted first: a step that a kill meets here is told to nobody, rather than twice.
        self._note({"kind": kind, "step": step})
        self._last[kind] = step
        for writer in self.writers:
            writer.write(kind, step, values)

    def close(self) -> None:
        self._file.close()
        for writer in self.writers:
            writer.close()

    def _note(self, line: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()


def _whole_lines(file: Path) -> list[dict[str, Any]]:
    """The file's lines; a last one that a kill has torn is cut off, and of a damaged file all are."""
    if not file.exists():
        return []
    with file.open("r+b") as opened:
        whole, _, torn = opened.read().rpartition(b"\n")
        lines = _lines(whole)
        if torn or lines is None:
            opened.truncate(len(whole) + 1 if lines else 0)
    return lines or []


def _lines(content: bytes) -> list[dict[str, Any]] | None:
    """None when they are not what was written: which run it is, then kind and step."""
    try:
        lines = [json.loads(line) for line in content.splitlines()]
    except ValueError:
        return None
    keys = [line.keys() if isinstance(line, dict) else None for line in lines]
    whole = keys[:1] in ([], [{"run"}]) and all(one == {"kind", "step"} for one in keys[1:])
    return lines if whole and all(isinstance(line["step"], int) for line in lines[1:]) else None
