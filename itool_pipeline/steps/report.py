"""report: the leaderboard of one experiment, its errors by type, and what the search found, on one page.

Every figure but the comparisons is read from the database's views, in a database of the report's own: it holds what the
report is made from, and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from itool_pipeline.benchmarks.types import Benchmark
from itool_pipeline.config import Experiment
from itool_pipeline.core.preference_pairs import PairVerdict
from itool_pipeline.steps.artifact_files import COMPARISONS_FILE
from itool_pipeline.steps.asset_graph import asked_benchmarks
from itool_pipeline.steps.comparisons import compare_checkpoints
from itool_pipeline.steps.display import IMAGE, MARKDOWN, bar_plot, table
from itool_pipeline.steps.records import rows_aside
from itool_pipeline.steps.workspace import Produced, Workspace
from itool_pipeline.store.artifacts import Step
from itool_pipeline.store.database import Database
from itool_pipeline.store.figures import artifact_figures
from itool_pipeline.store.table_files import write_table_file
from itool_pipeline.store.tables import COMPARISONS

Row = Mapping[str, Any]
Tables = dict[str, dict[str, str]]

SIGNALS = {
    **{"outcome": "O", "self_evaluation": "C", "reward": "r"},
    **{"action_value": "Q", "prior": "prior", "value": "V"},
}
"""The signals of the view `tree_signals`, as the page names them, in its order."""

UNTRUE = {
    "wrong_way": "wrong way round",
    "both_flawed": "both flawed",
    "none_flawed": "neither flawed",
    "after_flaw": "after a flaw",
    "no_gain": "nothing brought on",
}
"""Columns of the view `pair_truths` with the pairs that are not true, as the page names them."""


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
                shown |= _tables(step, benchmark, figures, comparisons)
                accuracies |= {f"accuracy_{name}_{benchmark.name}": figures.whole[name]["accuracy"] for name in names}
                compared += comparisons
            shown |= search_tables(step, ws, rows)
        write_table_file(step.work / COMPARISONS_FILE, COMPARISONS, compared)
        shown["search"] = table(_search_row(ws, k) for k in range(1, ws.experiment.iterations + 1))
        (step.work / "report.md").write_text(_page(ws, shown))
        return {**shown, **accuracies}

    return ws.produce("report", make)


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


def _tables(step: Step, benchmark: Benchmark[Any], figures: Figures, comparisons: Sequence[Row]) -> Tables:
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
    return _share(row["accuracy"], row["correct"], row["total"], row["low"], row["high"])


def _share(share: float, count: int, total: int, low: float, high: float) -> str:
    """With its counts and its 95% interval."""
    return f"{share:.1%} ({count}/{total}; {low:.0%}-{high:.0%})"


def _calling(checkpoint: str, row: Row) -> dict[str, Any]:
    def cell(name: str, correct: str, total: str) -> str:
        bounds = row[f"{name}_low"], row[f"{name}_high"]
        return _share(row[name], row[correct], row[total], *bounds) if row[total] else "-"

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


def _search_row(ws: Workspace, k: int) -> dict[str, Any]:
    pairs = ws.input(f"iteration_{k}/pairs").manifest.metadata
    shown = ("trees", "nodes", "distinct_nodes", "trees_with_a_correct_answer", "chosen_by")
    refused = {name: pairs[name] for name in pairs if name.startswith("refused_")}
    return {"iteration": k, **{name: pairs[name] for name in shown}, "pairs_kept": pairs["kept"], **refused}


def search_tables(step: Step, ws: Workspace, database: Database) -> Tables:
    """How many pairs are true, and what the signals of the search tell; nothing where nothing is searched."""
    iterations = range(1, ws.experiment.iterations + 1)
    if not iterations:
        return {}

    def read(view: str, made: str) -> dict[int, list[Row]]:
        prints = {k: ws.input(f"iteration_{k}/{made}").fingerprint for k in iterations}
        rows = artifact_figures(database, view, list(prints.values()))
        return {k: [row for row in rows if row["artifact"] == artifact] for k, artifact in prints.items()}

    truths, signals = read("pair_truths", "pairs"), read("tree_signals", "trees")
    among = {
        (k, truth, among): [row for row in signals[k] if (row["truth"], row["among"]) == (truth, among)]
        for k in iterations
        for truth in ("no_flaw", "right_answer")
        for among in ("all", "siblings")
    }
    drawn = {
        f"iteration {k}, {truth}": {SIGNALS[row["signal"]]: row["auc"] or 0.0 for row in _in_order(rows)}
        for (k, truth, of), rows in among.items()
        if of == "siblings" and rows
    }
    return {
        "pairs": table(_true_pairs_row(k, rows) for k, rows in truths.items()),
        "refused_pairs": table(_refused_row(k, row) for k, rows in truths.items() for row in _refused(rows)),
        "signals": table(_signals_row(*key, rows) for key, rows in among.items() if rows),
        "signals_among_siblings": bar_plot(step.work / "signals.png", drawn, "True steps from false siblings", "AUC"),
    }


def _true_pairs_row(k: int, rows: Sequence[Row]) -> dict[str, Any]:
    """Without times, so that a report is the same in every run; the view `pair_quality` has them."""
    kept = next((row for row in rows if row["reason"] == PairVerdict.KEPT), dict[str, Any]())
    return {
        "iteration": k,
        "kept": kept.get("pairs", 0),
        "true by gold": _true_cell(kept) if kept else "-",
        **{told: kept.get(column, 0) for column, told in UNTRUE.items()},
    }


def _true_cell(row: Row) -> str:
    return _share(row["true_share"], row["true_pairs"], row["pairs"], row["low"], row["high"])


def _refused(rows: Sequence[Row]) -> list[Row]:
    refused = [row for row in rows if row["reason"] != PairVerdict.KEPT]
    return sorted(refused, key=lambda row: (-row["pairs"], row["reason"]))


def _refused_row(k: int, row: Row) -> dict[str, Any]:
    return {"iteration": k, "reason": row["reason"], "refused": row["pairs"], "true by gold": _true_cell(row)}


def _signals_row(k: int, truth: str, among: str, rows: Sequence[Row]) -> dict[str, Any]:
    aucs = {SIGNALS[row["signal"]]: "-" if row["auc"] is None else f"{row['auc']:.3f}" for row in _in_order(rows)}
    counts = {"true steps": rows[0]["true_steps"], "false steps": rows[0]["false_steps"], "pairs": rows[0]["pairs"]}
    return {"iteration": k, "truth": truth, "among": among, **aucs, **counts}


def _in_order(rows: Sequence[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: list(SIGNALS).index(row["signal"]))


def _page(ws: Workspace, shown: Tables) -> str:
    e = ws.experiment
    sections = [f"# {e.name}\n\n{e.description}"]
    for benchmark in asked_benchmarks(e):
        sections += _sections(e, benchmark, shown)
    if e.iterations:
        sections += _search_sections(shown)
    sections.append(f"## Search\n\n{shown['search'][MARKDOWN]}")
    return "\n\n".join(sections) + "\n"


def _search_sections(shown: Tables) -> list[str]:
    """What the page tells of the pairs and of the signals that they come of."""
    picture = f"![signals]({shown['signals_among_siblings'][IMAGE]})"
    return [
        "## Pairs, and how many are true\n\nTrue by gold: after a prefix without a flaw, a step that brings the answer "
        "on, and no flaw, is preferred to one that brings a flaw. 95% Wilson intervals.\n\n"
        f"{shown['pairs'][MARKDOWN]}\n\n"
        f"What was refused, and how much of it is true:\n\n{shown['refused_pairs'][MARKDOWN]}",
        "## What the signals tell\n\nAUC: the share of pairs of a true and a false step in which the true one is "
        "ranked higher, ties counted half; 0.5 is chance. By `no_flaw` O is circular, and r, Q and V as far as O is in "
        "them; by `right_answer`, a right answer found below the step, Q and V are. C and the prior never are.\n\n"
        f"{shown['signals'][MARKDOWN]}\n\n{picture}",
    ]


def _sections(experiment: Experiment, benchmark: Benchmark[Any], shown: Tables) -> list[str]:
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
