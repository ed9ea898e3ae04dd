"""report: the leaderboard of one experiment, its errors by type, and what the search found, on one page."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from itool_pipeline.core.statistics import mcnemar_exact, paired_bootstrap, wilson_interval
from itool_pipeline.steps import answers, bfcl
from itool_pipeline.steps.display import IMAGE, MARKDOWN, bar_plot, table
from itool_pipeline.steps.plan import benchmarks, checkpoints
from itool_pipeline.steps.workspace import Produced, StepError, Workspace
from itool_pipeline.store.artifacts import Step

COMPARISONS = "comparisons.parquet"
COMPARISON_SCHEMA = pa.schema(
    [(name, pa.string()) for name in ("benchmark", "first_checkpoint", "second_checkpoint")]
    + [(name, pa.int32()) for name in ("cases", "first_correct", "second_correct", "gained", "lost")]
    + [(name, pa.float64()) for name in ("difference", "low", "high", "p_value")]
)

Scores = dict[str, dict[str, dict[str, Any]]]
"""Checkpoint → category → its row of `scores`; the category `all` sums those that count each case once."""

Tables = dict[str, dict[str, str]]

_OF_THE_LAST = ("errors_by_category", "fails_most")
"""What the page takes from the scoring of the last checkpoint as it is."""

_TITLES = {"bfcl": "held-out BFCL cases", "api_bank": "API-Bank's calls"}


def report(ws: Workspace) -> Produced:
    """`report.md` with its pictures, and the same as metadata. Benchmarks stand side by side and are never summed."""

    def make(step: Step) -> dict[str, Any]:
        names = list(checkpoints(ws.experiment.iterations))
        shown: Tables = {}
        accuracies: dict[str, float] = {}
        compared: list[dict[str, Any]] = []
        for benchmark in _scored(ws):
            scores: Scores = {name: _scores(ws, benchmark, name) for name in names}
            errors = {name: _errors(ws, benchmark, name) for name in names}
            comparisons = compare(ws, benchmark, names)
            shown |= _of_benchmark(step, benchmark, scores, errors, comparisons)
            last = ws.input(f"{benchmark}/{names[-1]}").manifest.metadata
            shown |= {f"{name}{_suffix(benchmark)}": last[name] for name in _OF_THE_LAST}
            accuracies |= {f"accuracy_{name}{_suffix(benchmark)}": scores[name]["all"]["accuracy"] for name in names}
            compared += comparisons
        pq.write_table(pa.Table.from_pylist(compared, COMPARISON_SCHEMA), step.work / COMPARISONS)
        shown["aggregates"] = table(_aggregates(ws, names))
        shown["search"] = table(_search_row(ws, k) for k in range(1, ws.experiment.iterations + 1))
        (step.work / "report.md").write_text(_page(ws, shown))
        return {**shown, **accuracies}

    return ws.produce("report", make, lambda artifact: {"comparisons": [artifact.file(COMPARISONS)]})


def compare(ws: Workspace, benchmark: str, names: Sequence[str]) -> list[dict[str, Any]]:
    """Every checkpoint with every one before it: a row of the table `comparisons` for each two."""
    verdicts = {name: _verdicts(ws, benchmark, name) for name in names}
    pairs = itertools.combinations(names, 2)
    return [_comparison(benchmark, first, second, verdicts, ws.experiment.seed) for first, second in pairs]


def _comparison(
    benchmark: str, first: str, second: str, verdicts: Mapping[str, Mapping[str, bool]], seed: int
) -> dict[str, Any]:
    before, after = verdicts[first], verdicts[second]
    if before.keys() != after.keys():
        raise StepError(f"{first} and {second} were not scored on the same cases; materialize {benchmark}/* again")
    one, other = list(before.values()), [after[key] for key in before]
    gained = sum(b and not a for a, b in zip(one, other, strict=True))
    lost = sum(a and not b for a, b in zip(one, other, strict=True))
    difference, low, high = paired_bootstrap(one, other, seed=seed)
    return {
        "benchmark": benchmark,
        "first_checkpoint": first,
        "second_checkpoint": second,
        "cases": len(one),
        "first_correct": sum(one),
        "second_correct": sum(other),
        "gained": gained,
        "lost": lost,
        "difference": difference,
        "low": low,
        "high": high,
        "p_value": mcnemar_exact(gained, lost),
    }


def _verdicts(ws: Workspace, benchmark: str, checkpoint: str) -> dict[str, bool]:
    file = ws.input(f"{benchmark}/{checkpoint}").file(answers.CASES)
    return {row["case_id"]: row["correct"] for row in pq.read_table(file, columns=["case_id", "correct"]).to_pylist()}


def _shown_comparison(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "from": row["first_checkpoint"],
        "to": row["second_checkpoint"],
        "correct": f"{row['first_correct']} → {row['second_correct']} of {row['cases']}",
        "won": row["gained"],
        "lost": row["lost"],
        "difference": f"{row['difference']:+.1%} ({row['low']:+.1%} to {row['high']:+.1%})",
        "p": f"{row['p_value']:.3g}",
    }


def _aggregates(ws: Workspace, names: Sequence[str]) -> list[dict[str, Any]]:
    """BFCL's overall scores: one row for each rule and part, one column for each checkpoint."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    missing: dict[tuple[str, str], str] = {}
    for name in names:
        for row in pq.read_table(ws.input(f"bfcl/{name}").file(bfcl.AGGREGATES)).to_pylist():
            key = row["rule"], row["part"]
            found.setdefault(key, {})[name] = "-" if row["accuracy"] is None else f"{row['accuracy']:.1%}"
            missing[key] = row["missing"]
    return [
        {"rule": rule, "part": part, **row, "not evaluated": missing[rule, part]} for (rule, part), row in found.items()
    ]


def _scored(ws: Workspace) -> list[str]:
    return list(benchmarks(api_bank=ws.has("api_bank_cases")))


def _suffix(benchmark: str) -> str:
    return "" if benchmark == "bfcl" else f"_{benchmark}"


def _of_benchmark(
    step: Step,
    benchmark: str,
    scores: Scores,
    errors: dict[str, dict[str, float]],
    comparisons: Sequence[Mapping[str, Any]],
) -> Tables:
    """Leaderboard and errors of one benchmark, each as a table and as a picture; and how checkpoints compare on it."""
    suffix, title = _suffix(benchmark), _TITLES[benchmark]
    accuracy = {name: {c: row["accuracy"] for c, row in rows.items()} for name, rows in scores.items()}
    return {
        f"leaderboard{suffix}": table(_leaderboard(scores)),
        f"comparisons{suffix}": table(_shown_comparison(row) for row in comparisons),
        f"errors_by_type{suffix}": table(_error_table(errors)),
        f"accuracy{suffix}": bar_plot(
            step.work / f"accuracy{suffix}.png", accuracy, f"Accuracy on {title}", "accuracy"
        ),
        f"errors{suffix}": bar_plot(
            step.work / f"errors{suffix}.png", errors, f"Wrong {title} by type of error", "cases"
        ),
    }


def _scores(ws: Workspace, benchmark: str, checkpoint: str) -> dict[str, dict[str, Any]]:
    rows = pq.read_table(ws.input(f"{benchmark}/{checkpoint}").file(answers.SCORES)).to_pylist()
    counted = [row for row in rows if not row["category"].startswith(answers.AGGREGATE)]
    correct, total = sum(r["correct"] for r in counted), sum(r["total"] for r in counted)
    low, high = wilson_interval(correct, total)
    whole = {"correct": correct, "total": total, "accuracy": correct / total, "low": low, "high": high}
    return {**{row["category"].removeprefix(f"{answers.AGGREGATE}_"): row for row in rows}, "all": whole}


def _errors(ws: Workspace, benchmark: str, checkpoint: str) -> dict[str, float]:
    file = ws.input(f"{benchmark}/{checkpoint}").file(answers.CASES)
    rows = pq.read_table(file, columns=["correct", "mistake"]).to_pylist()
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


def _page(ws: Workspace, shown: Tables) -> str:
    e = ws.experiment
    sections = [f"# {e.name}\n\n{e.description}"]
    for benchmark in _scored(ws):
        sections += _sections(benchmark, shown)
    sections.append(f"## Search\n\n{shown['search'][MARKDOWN]}")
    return "\n\n".join(sections) + "\n"


def _sections(benchmark: str, shown: Tables) -> list[str]:
    """What the page tells of one benchmark. Overall scores are BFCL's alone."""
    suffix, title = _suffix(benchmark), _TITLES[benchmark]
    overall = (
        "## Overall, by BFCL's rules\n\nv3 is the paper's. A part that was not evaluated is missing, not 0; "
        "`overall_partial` weighs what is there, and compares with no published number.\n\n"
        f"{shown['aggregates'][MARKDOWN]}"
    )
    return [
        f"## Leaderboard: {title}\n\nCorrect cases, with 95% Wilson intervals.\n\n"
        f"{shown[f'leaderboard{suffix}'][MARKDOWN]}\n\n![accuracy]({shown[f'accuracy{suffix}'][IMAGE]})",
        *([overall] if benchmark == "bfcl" else []),
        f"## Checkpoints on the same cases: {title}\n\nDifference with its 95% interval by paired bootstrap; p by "
        f"McNemar's exact test.\n\n{shown[f'comparisons{suffix}'][MARKDOWN]}",
        f"## Errors by type: {title}\n\n"
        f"{shown[f'errors_by_type{suffix}'][MARKDOWN]}\n\n![errors]({shown[f'errors{suffix}'][IMAGE]})\n\n"
        f"Of the last checkpoint, by category:\n\n{shown[f'errors_by_category{suffix}'][MARKDOWN]}\n\n"
        f"What fails most in it:\n\n{shown[f'fails_most{suffix}'][MARKDOWN]}",
    ]
