"""What a person sees of a step in the Dagster UI: markdown tables and small pictures, as JSON-ready metadata."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

MARKDOWN, IMAGE = "markdown", "image"
"""Metadata of the form {MARKDOWN: text} or {IMAGE: file name in the artifact} is shown as such; the rest as it is."""

Tables = dict[str, dict[str, str]]
"""Name → what is shown under it: a table or a picture."""


_MARKS = re.compile(r"[\\`*\[\]|~&]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")
"""What markdown reads as more than itself wherever it stands in a line; an underscore inside of a word is none."""


def table(rows: Iterable[Mapping[str, Any]], cell_width: int = 160) -> dict[str, str]:
    """A markdown table with the first row's keys as its head; empty for no rows."""
    rows = list(rows)
    if not rows:
        return {MARKDOWN: "*none*"}
    head = list(rows[0])
    lines = ["| " + " | ".join(map(as_text, head)) + " |", "|" + " --- |" * len(head)]
    lines += ["| " + " | ".join(_cell(row.get(key), cell_width) for key in head) + " |" for row in rows]
    return {MARKDOWN: "\n".join(lines)}


def _cell(value: Any, width: int) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    text = " ".join(text.split()) if "\n" in text else text
    text = text if len(text) <= width else text[: width - 1] + "…"
    return as_text(text)


def as_text(text: str) -> str:
    """The text for a line of markdown that shows it as it is: links, images, HTML and the marks of tables too."""
    return _MARKS.sub(r"\\\g<0>", text).replace("<", "&lt;")


def loss_plot(
    path: Path, train: Sequence[float], validation: Sequence[tuple[int, float]], title: str, ylabel: str = "loss"
) -> dict[str, str]:
    """Training loss of each step and validation loss, or what `ylabel` says in their place, drawn to `path`."""
    figure, axes = _figure()
    axes.plot(range(1, len(train) + 1), train, linewidth=1, label="training")
    if validation:
        steps, losses = zip(*validation, strict=True)
        axes.plot(steps, losses, marker="o", label="validation")
    axes.set(xlabel="optimizer step", ylabel=ylabel, title=title)
    axes.legend()
    return _save(figure, path)


def bar_plot(path: Path, series: Mapping[str, Mapping[str, float]], title: str, ylabel: str) -> dict[str, str]:
    """Grouped bars: one group for each label, one bar in it for each series."""
    figure, axes = _figure(width=9.0)
    labels = list(dict.fromkeys(label for values in series.values() for label in values))
    width = 0.8 / max(len(series), 1)
    for i, (name, values) in enumerate(series.items()):
        places = [k + (i - (len(series) - 1) / 2) * width for k in range(len(labels))]
        axes.bar(places, [values.get(label, 0.0) for label in labels], width, label=name)
    axes.set_xticks(range(len(labels)), labels, rotation=20, ha="right")
    axes.set(ylabel=ylabel, title=title)
    if labels:
        axes.legend()
    return _save(figure, path)


def histogram(path: Path, values: Sequence[float], title: str, xlabel: str) -> dict[str, str]:
    """How `values` are distributed."""
    figure, axes = _figure()
    axes.hist(values, bins=30)
    axes.set(xlabel=xlabel, ylabel="count", title=title)
    return _save(figure, path)


def _figure(width: float = 6.0) -> tuple[Any, Any]:
    # The object interface, not pyplot: no global state, no display.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, 3.4), dpi=90, layout="constrained")
    return figure, figure.subplots()


def _save(figure: Any, path: Path) -> dict[str, str]:
    figure.savefig(path, metadata={"Software": None})
    return {IMAGE: path.name}
