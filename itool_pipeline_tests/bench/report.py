"""The rows of a bench: a table for people, JSON for whoever compares runs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from itool_pipeline.files.durable import write_whole
from itool_pipeline_tests.bench.machine import Machine

Value = str | float | int | None
Row = dict[str, Value]


def write_rows(path: Path, machine: Machine, rows: Sequence[Row], notes: Sequence[str] = ()) -> None:
    """Write {"machine": …, "rows": […], "notes": […]}; the file appears whole."""
    content = {"machine": asdict(machine), "rows": list(rows), "notes": list(notes)}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, lambda scratch: scratch.write_text(json.dumps(content, indent=1) + "\n"), alone=True)


def table_text(rows: Sequence[Row]) -> str:
    """The rows in plain columns, numbers to the right. A column is there when any row has it."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    cells = [names, *[[_shown(row.get(name)) for name in names] for row in rows]]
    widths = [max(len(line[i]) for line in cells) for i in range(len(names))]
    right = [any(isinstance(row.get(name), int | float) for row in rows) for name in names]
    lines = [
        "  ".join(c.rjust(w) if r else c.ljust(w) for c, w, r in zip(line, widths, right, strict=True)).rstrip()
        for line in cells
    ]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def machine_text(machine: Machine) -> str:
    """One line for the head of a table."""
    return (
        f"{machine.processor}, {machine.cores} cores, torch {machine.torch}, {machine.dtype}, "
        f"matrix products {machine.matrix_gflops:.0f} GFLOP/s"
    )


def _shown(value: Value) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 100 else f"{value:.0f}"
    return str(value)
