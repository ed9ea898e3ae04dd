"""What the report tells of the search: which pairs it found, how many are true, and what its signals tell."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from itool_pipeline.core.preference_pairs import PairVerdict
from itool_pipeline.steps.display import IMAGE, MARKDOWN, Tables, bar_plot, table
from itool_pipeline.steps.shares import counted_share
from itool_pipeline.steps.workspace import Workspace
from itool_pipeline.store.artifacts import Step
from itool_pipeline.store.database import Database
from itool_pipeline.store.figures import Row, artifact_figures

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
    return counted_share(row["true_share"], row["true_pairs"], row["pairs"], row["low"], row["high"])


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


def search_row(ws: Workspace, k: int) -> dict[str, Any]:
    """What the k-th search found, and why pairs were refused."""
    pairs = ws.input(f"iteration_{k}/pairs").manifest.metadata
    shown = ("trees", "nodes", "distinct_nodes", "trees_with_a_correct_answer", "chosen_by")
    refused = {name: pairs[name] for name in pairs if name.startswith("refused_")}
    return {"iteration": k, **{name: pairs[name] for name in shown}, "pairs_kept": pairs["kept"], **refused}


def search_sections(shown: Tables) -> list[str]:
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
