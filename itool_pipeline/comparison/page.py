"""A comparison as one HTML file that needs nothing beside it: tables, and pictures within."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape

from itool_pipeline.comparison.tables import TextTable

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


def _table(table: TextTable) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in table.head)
    rows = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in table.rows)
    return f"<h2>{escape(table.title)}</h2><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _image(caption: str, png: bytes) -> str:
    return f'<img alt="{escape(caption)}" src="data:image/png;base64,{base64.b64encode(png).decode()}">'
