"""What the report tells of a benchmark: leaderboard, calling, comparisons and errors, as tables, pictures and text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from itool_pipeline.benchmarks.types import Benchmark
from itool_pipeline.config import Experiment
from itool_pipeline.steps.display import IMAGE, MARKDOWN, Tables, bar_plot, table
from itool_pipeline.steps.shares import counted_share
from itool_pipeline.steps.workspace import Workspace
from itool_pipeline.store.artifacts import Step
from itool_pipeline.store.database import Database
from itool_pipeline.store.figures import Row, artifact_figures


@dataclass(frozen=True, slots=True)
class Figures:
    """What the views tell of a benchmark: for each checkpoint its rows, most cases first where cases are counted."""

    whole: Mapping[str, Row]
    categories: Mapping[str, Sequence[Row]]
    errors: Mapping[str, Sequence[Row]]
    category_errors: Mapping[str, Sequence[Row]]
    failures: Mapping[str, Sequence[Row]]
    aggregates: Mapping[str, Sequence[Row]]
    calling: Mapping[str, Sequence[Row]]

    @staticmethod
    def of(ws: Workspace, database: Database, benchmark: Benchmark[Any], names: Sequence[str]) -> Figures:
        prints = {ws.input(f"{benchmark.name}/{name}").fingerprint: name for name in names}

        def read(view: str, *order: str) -> dict[str, list[Row]]:
            rows = artifact_figures(database, view, list(prints))
            rows.sort(key=lambda row: (-row.get("cases", 0), *(str(row[column]) for column in order)))
            return {name: [row for row in rows if prints[row["artifact"]] == name] for name in names}

        place = {category: index for index, category in enumerate(benchmark.categories)}
        by_category, wrong = read("category_scores", "category"), read("category_errors", "category", "mistake")
        for rows in (*by_category.values(), *wrong.values()):
            rows.sort(key=lambda row: place.get(row["category"], len(place)))
        return Figures(
            whole={name: rows[0] for name, rows in read("benchmark_scores").items()},
            categories=by_category,
            errors=read("benchmark_errors", "mistake"),
            category_errors=wrong,
            failures=read("benchmark_failures", "function", "parameter", "mistake"),
            aggregates=read("benchmark_aggregates", "rule", "part"),
            calling=read("benchmark_calling"),
        )


def benchmark_tables(step: Step, benchmark: Benchmark[Any], figures: Figures, comparisons: Sequence[Row]) -> Tables:
    """Leaderboard and errors of one benchmark, each as a table and as a picture; and how checkpoints compare on it."""
    name, title, last = benchmark.name, benchmark.title, list(figures.whole)[-1]
    accuracy = {
        of: {"all": figures.whole[of]["accuracy"], **{row["category"]: row["accuracy"] for row in rows}}
        for of, rows in figures.categories.items()
    }
    errors = {of: {row["mistake"]: float(row["cases"]) for row in rows} for of, rows in figures.errors.items()}
    pictures = {kind: step.work / f"{kind}_{name}.png" for kind in ("accuracy", "errors")}
    return {
        f"leaderboard_{name}": table(_leaderboard(figures)),
        f"aggregates_{name}": table(_aggregates(figures)),
        f"calling_{name}": table(_calling(of, row) for of, rows in figures.calling.items() for row in rows),
        f"comparisons_{name}": table(_shown_comparison(row) for row in comparisons),
        f"errors_by_type_{name}": table(_counts("checkpoint", errors)),
        f"errors_by_category_{name}": table(_errors_by_category(figures.category_errors[last])),
        f"fails_most_{name}": table(_failure(row) for row in figures.failures[last][:10]),
        f"accuracy_{name}": bar_plot(pictures["accuracy"], accuracy, f"Accuracy on {title}", "accuracy"),
        f"errors_{name}": bar_plot(pictures["errors"], errors, f"Wrong {title} by type of error", "cases"),
    }


def _leaderboard(figures: Figures) -> list[dict[str, Any]]:
    return [
        {
            "checkpoint": name,
            "all": _cell(whole),
            **{row["category"]: _cell(row) for row in figures.categories[name]},
        }
        for name, whole in figures.whole.items()
    ]


def _cell(row: Row) -> str:
    return counted_share(row["accuracy"], row["correct"], row["total"], row["low"], row["high"])


def _calling(checkpoint: str, row: Row) -> dict[str, Any]:
    def cell(name: str, correct: str, total: str) -> str:
        bounds = row[f"{name}_low"], row[f"{name}_high"]
        return counted_share(row[name], row[correct], row[total], *bounds) if row[total] else "-"

    return {
        "checkpoint": checkpoint,
        "precision": cell("precision", "rightly", "calling"),
        "recall": cell("recall", "rightly", "to_call"),
        "abstention": cell("abstention", "left_alone", "to_leave"),
    }


def _aggregates(figures: Figures) -> list[dict[str, Any]]:
    """One row for each rule and part, one column for each checkpoint."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    missing: dict[tuple[str, str], str] = {}
    for name, rows in figures.aggregates.items():
        for row in rows:
            key = row["rule"], row["part"]
            share = "-" if row["accuracy"] is None else f"{row['accuracy']:.1%}"
            found.setdefault(key, {})[name] = share if row["total"] is None or share == "-" else _cell(row)
            missing[key] = row["missing"]
    return [
        {"rule": rule, "part": part, **row, "not evaluated": missing[rule, part]} for (rule, part), row in found.items()
    ]


def _counts(head: str, counts: Mapping[str, Mapping[str, float]]) -> list[dict[str, Any]]:
    """One row for each group, one column for each type of error, 0 where there is none."""
    kinds = list(dict.fromkeys(kind for row in counts.values() for kind in row))
    return [{head: name, **{kind: int(row.get(kind, 0)) for kind in kinds}} for name, row in counts.items()]


def _errors_by_category(rows: Sequence[Row]) -> list[dict[str, Any]]:
    counts: dict[str, dict[str, float]] = {}
    for row in rows:
        counts.setdefault(row["category"], {})[row["mistake"]] = row["cases"]
    return _counts("category", counts)


def _failure(row: Row) -> dict[str, Any]:
    return {name: row[name] for name in ("function", "parameter", "mistake", "cases")}


def _shown_comparison(row: Row) -> dict[str, Any]:
    return {
        "from": row["first_checkpoint"],
        "to": row["second_checkpoint"],
        "correct": f"{row['first_correct']} → {row['second_correct']} of {row['cases']}",
        "won": row["gained"],
        "lost": row["lost"],
        "difference": f"{row['difference']:+.1%} ({row['low']:+.1%} to {row['high']:+.1%})",
        "p": f"{row['p_value']:.3g}",
    }


def benchmark_sections(experiment: Experiment, benchmark: Benchmark[Any], shown: Tables) -> list[str]:
    """What the page tells of one benchmark."""
    title = benchmark.title

    def of(kind: str) -> str:
        return shown[f"{kind}_{benchmark.name}"][MARKDOWN]

    def picture(kind: str) -> str:
        return f"![{kind}]({shown[f'{kind}_{benchmark.name}'][IMAGE]})"

    alone = "" if len(experiment.scored_checkpoints()) > 1 else "One checkpoint is scored, so there is none beside it."
    overall = f"## Overall, by its rules: {title}\n\n{benchmark.rules}\n\n{of('aggregates')}"
    return [
        f"## Leaderboard: {title}\n\nCorrect cases, with 95% Wilson intervals.\n\n"
        f"{of('leaderboard')}\n\n{picture('accuracy')}",
        f"## To call or not: {title}\n\nWhatever is called. Precision: of the answers that call, those that should; "
        f"recall: of the cases that want a call, those that get one; abstention: of the others, those that get none. "
        f"95% Wilson intervals.\n\n{of('calling')}",
        *([overall] if benchmark.rules else []),
        f"## Checkpoints on the same cases: {title}\n\nDifference with its 95% interval by paired bootstrap; p by "
        f"McNemar's exact test.\n\n{alone or of('comparisons')}",
        f"## Errors by type: {title}\n\n{of('errors_by_type')}\n\n{picture('errors')}\n\n"
        f"Of the last checkpoint, by category:\n\n{of('errors_by_category')}\n\n"
        f"What fails most in it:\n\n{of('fails_most')}",
    ]
