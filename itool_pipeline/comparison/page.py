"""A comparison as one HTML file that needs nothing beside it: tables, and pictures within."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape
from typing import Any

from itool_pipeline.comparison.entrants import Entered
from itool_pipeline.comparison.tables import TextTable
from itool_pipeline.statistics import wilson_interval

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem; color: #222 }
table { border-collapse: collapse; margin: .5rem 0 2rem; display: block; overflow-x: auto }
th, td { border-bottom: 1px solid #ddd; padding: .25rem .75rem; text-align: left; white-space: nowrap }
h2 { font-size: 1.05rem; margin-top: 2rem }
img { max-width: 100% }
"""


def page_of(title: str, tables: Sequence[TextTable], pictures: Sequence[tuple[str, bytes]]) -> str:
    """The file's text. `pictures`: (caption, PNG)."""
    parts = [f"<h2>{escape(caption)}</h2>{_image(caption, png)}" for caption, png in pictures]
    body = "\n".join([f"<h1>{escape(title)}</h1>", *map(_table, tables), *parts])
    return f'<!doctype html>\n<meta charset="utf-8">\n<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n{body}\n'


def curve_picture(benchmark: str, entered: Sequence[Entered]) -> bytes:
    """PNG: the share of right cases of each entrant's checkpoints in their order, with 95% intervals."""
    figure, axes = _figure()
    names = list(dict.fromkeys(point.checkpoint for one in entered for point in one.curves[benchmark]))
    for i, one in enumerate(entered):
        points = one.curves[benchmark]
        shares = [point.correct / point.total for point in points]
        bounds = [wilson_interval(point.correct, point.total) for point in points]
        errors = [
            [share - low for share, (low, _) in zip(shares, bounds, strict=True)],
            [high - share for share, (_, high) in zip(shares, bounds, strict=True)],
        ]
        # Side by side, so that intervals do not hide each other.
        places = [names.index(point.checkpoint) + 0.06 * i for point in points]
        axes.errorbar(places, shares, yerr=errors, marker="o", capsize=3, label=one.entrant.name)
    axes.set_xticks(range(len(names)), names)
    axes.set(ylabel="right", title=benchmark)
    axes.legend()
    return _png(figure)


def cost_picture(benchmark: str, entered: Sequence[Entered]) -> bytes:
    """PNG: the share of right cases over the minutes that the checkpoints took."""
    figure, axes = _figure()
    for one in entered:
        cases = one.cases[benchmark].values()
        right = sum(case.correct for case in cases) / len(cases)
        axes.plot([one.seconds / 60], [right], marker="o", linestyle="", label=one.entrant.name)
    axes.set(xlabel="minutes", ylabel="right", title=benchmark)
    axes.legend()
    return _png(figure)


def _table(table: TextTable) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in table.head)
    rows = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in table.rows)
    return f"<h2>{escape(table.title)}</h2><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _image(caption: str, png: bytes) -> str:
    return f'<img alt="{escape(caption)}" src="data:image/png;base64,{base64.b64encode(png).decode()}">'


def _figure() -> tuple[Any, Any]:
    # The object interface, not pyplot: no global state, no display.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.0, 4.0), dpi=110, layout="constrained")
    return figure, figure.subplots()


def _png(figure: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
