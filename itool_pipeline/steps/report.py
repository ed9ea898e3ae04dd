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
from itool_pipeline.steps.plan import checkpoints
from itool_pipeline.steps.workspace import Produced, Workspace
from itool_pipeline.store.artifacts import Step

COMPARISONS = "comparisons.parquet"
COMPARISON_SCHEMA = pa.schema(
    [(name, pa.string()) for name in ("benchmark", "first_checkpoint", "second_checkpoint")]
    + [(name, pa.int32()) for name in ("cases", "first_correct", "second_correct", "gained", "lost")]
    + [(name, pa.float64()) for name in ("difference", "low", "high", "p_value")]
)

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
        compared = compare(ws, names)
        pq.write_table(pa.Table.from_pylist(compared, COMPARISON_SCHEMA), step.work / COMPARISONS)
        tables = {
            "leaderboard": table(_leaderboard(scores)),
            "aggregates": table(_aggregates(ws, names)),
            "comparisons": table(_shown_comparison(row) for row in compared),
            "errors_by_type": table(_error_table(errors)),
            "search": table(_search_row(ws, k) for k in range(1, ws.experiment.iterations + 1)),
        }
        (step.work / "report.md").write_text(_page(ws, tables, pictures))
        return {**tables, **pictures, **{f"accuracy_{name}": scores[name]["all"]["accuracy"] for name in names}}

    return ws.produce("report", make, lambda artifact: {"comparisons": [artifact.file(COMPARISONS)]})


def compare(ws: Workspace, names: Sequence[str]) -> list[dict[str, Any]]:
    """Each checkpoint with the one before, and the last with the base: a row of the table `comparisons` for each."""
    verdicts = {name: _verdicts(ws, name) for name in names}
    pairs = list(itertools.pairwise(names))
    if len(pairs) > 1:
        pairs.append((names[0], names[-1]))
    return [_comparison(first, second, verdicts, ws.experiment.seed) for first, second in pairs]


def _comparison(first: str, second: str, verdicts: Mapping[str, Mapping[str, bool]], seed: int) -> dict[str, Any]:
    before, after = verdicts[first], verdicts[second]
    if before.keys() != after.keys():
        raise ValueError(f"{first} and {second} were not scored on the same cases; materialize bfcl/* again")
    one, other = list(before.values()), [after[key] for key in before]
    gained = sum(b and not a for a, b in zip(one, other, strict=True))
    lost = sum(a and not b for a, b in zip(one, other, strict=True))
    difference, low, high = paired_bootstrap(one, other, seed=seed)
    return {
        "benchmark": "bfcl",
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


def _verdicts(ws: Workspace, checkpoint: str) -> dict[str, bool]:
    rows = pq.read_table(ws.input(f"bfcl/{checkpoint}").file(answers.CASES), columns=["case_id", "correct"]).to_pylist()
    return {row["case_id"]: row["correct"] for row in rows}


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
    """One row for each rule and part, one column for each checkpoint."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for name in names:
        for row in pq.read_table(ws.input(f"bfcl/{name}").file(bfcl.AGGREGATES)).to_pylist():
            own = found.setdefault((row["rule"], row["part"]), {"rule": row["rule"], "part": row["part"]})
            own[name] = "-" if row["accuracy"] is None else f"{row['accuracy']:.1%}"
            own["not evaluated"] = row["missing"]
    return [{"rule": rule, "part": part, **row} for (rule, part), row in found.items()]


def _scores(ws: Workspace, checkpoint: str) -> dict[str, dict[str, Any]]:
    rows = pq.read_table(ws.input(f"bfcl/{checkpoint}").file(answers.SCORES)).to_pylist()
    correct, total = sum(r["correct"] for r in rows), sum(r["total"] for r in rows)
    low, high = wilson_interval(correct, total)
    whole = {"correct": correct, "total": total, "accuracy": correct / total, "low": low, "high": high}
    return {**{row["category"]: row for row in rows}, "all": whole}


def _errors(ws: Workspace, checkpoint: str) -> dict[str, float]:
    rows = pq.read_table(ws.input(f"bfcl/{checkpoint}").file(answers.CASES)).to_pylist()
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
        f"## Overall, by BFCL's rules\n\nv3 is the paper's. A part that was not evaluated is missing, not 0; "
        f"`overall_partial` weighs what is there, and compares with no published number.\n\n"
        f"{tables['aggregates'][MARKDOWN]}",
        f"## Checkpoints on the same cases\n\nDifference with its 95% interval by paired bootstrap; p by McNemar's "
        f"exact test.\n\n{tables['comparisons'][MARKDOWN]}",
        f"## Errors by type\n\n{tables['errors_by_type'][MARKDOWN]}\n\n![errors]({pictures['errors'][IMAGE]})",
        f"## Search\n\n{tables['search'][MARKDOWN]}",
    ]
    return "\n\n".join(sections) + "\n"
