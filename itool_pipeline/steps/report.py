"""report: the leaderboard of one experiment, its errors by type, and what the search found, on one page."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pyarrow.parquet as pq

from itool_pipeline.core.statistics import wilson_interval
from itool_pipeline.steps import bfcl
from itool_pipeline.steps.display import IMAGE, MARKDOWN, bar_plot, table
from itool_pipeline.steps.plan import checkpoints
from itool_pipeline.steps.workspace import Produced, Workspace
from itool_pipeline.store.artifacts import Step

Scores = dict[str, dict[str, dict[str, Any]]]
"""Checkpoint → category → its row of `scores`; the category `all` sums them."""


def report(ws: Workspace) -> Produced:
    """`report.md` with its pictures, and the same as metadata."""

    def make(step: Step) -> dict[str, Any]:
        names = list(checkpoints(ws.experiment.iterations))
        scores: Scores = {name: _scores(ws, name) for name in names}
        errors = {name: _errors(ws, name) for name in names}
        accuracy = {name: {c: row["accuracy"] for c, row in scores[name].items()} for name in names}
        pictures = {
            "accuracy": bar_plot(step.work / "accuracy.png", accuracy, "Accuracy on held-out BFCL cases", "accuracy"),
            "errors": bar_plot(step.work / "errors.png", errors, "Wrong cases by type of error", "cases"),
        }
        tables = {
            "leaderboard": table(_leaderboard(scores)),
            "errors_by_type": table(_error_table(errors)),
            "search": table(_search_row(ws, k) for k in range(1, ws.experiment.iterations + 1)),
        }
        (step.work / "report.md").write_text(_page(ws, tables, pictures))
        return {**tables, **pictures, **{f"accuracy_{name}": scores[name]["all"]["accuracy"] for name in names}}

    return ws.produce("report", make)


def _scores(ws: Workspace, checkpoint: str) -> dict[str, dict[str, Any]]:
    rows = pq.read_table(ws.input(f"bfcl/{checkpoint}").file(bfcl.SCORES)).to_pylist()
    correct, total = sum(r["correct"] for r in rows), sum(r["total"] for r in rows)
    low, high = wilson_interval(correct, total)
    whole = {"correct": correct, "total": total, "accuracy": correct / total, "low": low, "high": high}
    return {**{row["category"]: row for row in rows}, "all": whole}


def _errors(ws: Workspace, checkpoint: str) -> dict[str, float]:
    rows = pq.read_table(ws.input(f"bfcl/{checkpoint}").file(bfcl.CASES)).to_pylist()
    counts = Counter(row["mistake"] or "unclassified" for row in rows if not row["correct"])
    return {name: float(count) for name, count in counts.most_common()}


def _leaderboard(scores: Scores) -> list[dict[str, Any]]:
    categories = list(dict.fromkeys(category for rows in scores.values() for category in rows))
    order = [*(["all"] if "all" in categories else []), *(c for c in categories if c != "all")]
    return [
        {"checkpoint": name, **{category: _cell(rows[category]) for category in order}} for name, rows in scores.items()
    ]


def _cell(row: dict[str, Any]) -> str:
    return f"{row['accuracy']:.1%} ({row['correct']}/{row['total']}; {row['low']:.0%}-{row['high']:.0%})"


def _error_table(errors: dict[str, dict[str, float]]) -> list[dict[str, Any]]:
    kinds = list(dict.fromkeys(kind for counts in errors.values() for kind in counts))
    return [
        {"checkpoint": name, **{kind: int(counts.get(kind, 0)) for kind in kinds}} for name, counts in errors.items()
    ]


def _search_row(ws: Workspace, k: int) -> dict[str, Any]:
    pairs = ws.input(f"iteration_{k}/pairs").manifest.metadata
    shown = ("trees", "nodes", "distinct_nodes", "trees_with_a_correct_answer", "chosen_by")
    refused = {name: pairs[name] for name in pairs if name.startswith("refused_")}
    return {"iteration": k, **{name: pairs[name] for name in shown}, "pairs_kept": pairs["kept"], **refused}


def _page(ws: Workspace, tables: dict[str, dict[str, str]], pictures: dict[str, dict[str, str]]) -> str:
    e = ws.experiment
    sections = [
        f"# {e.name}\n\n{e.description}",
        f"## Leaderboard\n\nCorrect cases of held-out BFCL, with 95% Wilson intervals.\n\n"
        f"{tables['leaderboard'][MARKDOWN]}\n\n![accuracy]({pictures['accuracy'][IMAGE]})",
        f"## Errors by type\n\n{tables['errors_by_type'][MARKDOWN]}\n\n![errors]({pictures['errors'][IMAGE]})",
        f"## Search\n\n{tables['search'][MARKDOWN]}",
    ]
    return "\n\n".join(sections) + "\n"
