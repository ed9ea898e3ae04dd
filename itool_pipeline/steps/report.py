"""report: the leaderboard of one experiment, its errors by type, and what the search found, on one page.

Every figure but the comparisons is read from the database's views, in a database of the report's own: it holds what the
report is made from, and nothing else.
"""

from __future__ import annotations

from typing import Any

from itool_pipeline.steps.artifact_files import COMPARISONS_FILE
from itool_pipeline.steps.asset_graph import asked_benchmarks
from itool_pipeline.steps.comparisons import compare_checkpoints
from itool_pipeline.steps.display import MARKDOWN, Tables, table
from itool_pipeline.steps.records import rows_aside
from itool_pipeline.steps.report_benchmark import Figures, benchmark_sections, benchmark_tables
from itool_pipeline.steps.report_search import search_row, search_sections, search_tables
from itool_pipeline.steps.workspace import Produced, Workspace
from itool_pipeline.store.artifacts import Step
from itool_pipeline.store.table_files import write_table_file
from itool_pipeline.store.tables import COMPARISONS


def report(ws: Workspace) -> Produced:
    """`report.md` with its pictures, and the same as metadata. Benchmarks stand side by side and are never summed."""

    def make(step: Step) -> dict[str, Any]:
        names = ws.experiment.scored_checkpoints()
        shown: Tables = {}
        accuracies: dict[str, float] = {}
        compared: list[dict[str, Any]] = []
        inputs = [ws.input(asset) for asset in ws.planned["report"].origin.inputs]
        with rows_aside(ws.experiment, inputs, step.work) as rows:
            for benchmark in asked_benchmarks(ws.experiment):
                figures = Figures.of(ws, rows, benchmark, names)
                comparisons = compare_checkpoints(ws, benchmark.name, names)
                shown |= benchmark_tables(step, benchmark, figures, comparisons)
                accuracies |= {f"accuracy_{name}_{benchmark.name}": figures.whole[name]["accuracy"] for name in names}
                compared += comparisons
            shown |= search_tables(step, ws, rows)
        write_table_file(step.work / COMPARISONS_FILE, COMPARISONS, compared)
        shown["search"] = table(search_row(ws, k) for k in range(1, ws.experiment.iterations + 1))
        (step.work / "report.md").write_text(_page(ws, shown))
        return {**shown, **accuracies}

    return ws.produce("report", make)


def _page(ws: Workspace, shown: Tables) -> str:
    e = ws.experiment
    sections = [f"# {e.name}\n\n{e.description}"]
    for benchmark in asked_benchmarks(e):
        sections += benchmark_sections(e, benchmark, shown)
    if e.iterations:
        sections += search_sections(shown)
    sections.append(f"## Search\n\n{shown['search'][MARKDOWN]}")
    return "\n\n".join(sections) + "\n"
