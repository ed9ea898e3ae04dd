"""Experiments beside each other, as an asset of no partition: the run's config names them."""

import base64
from typing import Any

import dagster as dg
from pydantic import Field

from itool_pipeline.comparison.whole import compare
from itool_pipeline.defs.errors import explained
from itool_pipeline.defs.records import on_worker
from itool_pipeline.errors import ActionableError
from itool_pipeline.steps.display import as_text, table
from itool_pipeline.store.paths import storage_paths


class ReadsTheDatabase(ActionableError):
    """A step that reads the database was handed to a worker."""


class Entrants(dg.Config):  # type: ignore[misc]
    """Who is compared."""

    entrants: list[str] = Field(
        description="EXPERIMENT, EXPERIMENT@CHECKPOINT, or seeds of one setting: A+B+C; first the base"
    )


@dg.asset(
    group_name="comparison",
    kinds={"python", "duckdb"},
    description="Experiments on the same cases: scores, paired differences, errors, curves and cost, as one page. They "
    "are looked up in the database, so that any that were scored can be named.",
)
def comparison(context: dg.AssetExecutionContext, config: Entrants) -> dg.MaterializeResult[Any]:
    with explained():
        if on_worker(context.job_def):
            raise ReadsTheDatabase(
                "comparison reads the database, which steps on workers never open (docs/scaling.md). Start the job "
                "`compare`, whose step is in the run's own process."
            )
        made = compare(storage_paths(), config.entrants)
    shown = [(t.title, dg.MetadataValue.md(_markdown(t.head, t.rows))) for t in made.tables]
    # A table and a picture may have the same caption.
    drawn = [(f"{caption} (picture)", dg.MetadataValue.md(_image(caption, png))) for caption, png in made.pictures]
    context.log.info(f"written: {made.page}")
    return dg.MaterializeResult(metadata={"page": dg.MetadataValue.path(str(made.page)), **dict(shown + drawn)})


def _markdown(head: Any, rows: Any) -> str:
    return table(dict(zip(head, row, strict=True)) for row in rows)["markdown"]


def _image(caption: str, png: bytes) -> str:
    return f"![{as_text(caption)}](data:image/png;base64,{base64.b64encode(png).decode()})"
