"""What became of every row that was read for an experiment: none is dropped in silence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from itool_pipeline.data.drawing import NO_PROMPT
from itool_pipeline.data.sources import LoadedData

TRAINED_ON, LEFT_OUT, QUARANTINED = "trained on", "left out", "quarantined"

Account = Sequence[Mapping[str, Any]]
"""Rows of {source, became, reason, rows}. For quarantined rows the reason is without the particulars."""


def account_of(loaded: LoadedData, refused: Mapping[str, int] = MappingProxyType({})) -> Account:
    """The account of freshly loaded data, sorted. `refused`: what the chat template refused, by its words."""
    counts: Counter[tuple[str, str, str]] = Counter()
    counts[loaded.source, TRAINED_ON, ""] = len(loaded.train)
    left_out = {reason: n for reason, n in loaded.left_out.items() if not (refused and reason == NO_PROMPT)}
    for reason, count in {**left_out, **refused}.items():
        counts[loaded.source, LEFT_OUT, reason] = count
    for row in loaded.quarantined:
        counts[row.source, QUARANTINED, row.kind] += 1
    return [
        {"source": source, "became": became, "reason": reason, "rows": count}
        for (source, became, reason), count in sorted(counts.items())
        if count
    ]


def quarantined_shares(account: Account) -> dict[str, float]:
    """Source → the share of its rows that are quarantined; a turn that is quarantined by itself counts as a row."""
    total, quarantined = Counter[str](), Counter[str]()
    for row in account:
        total[row["source"]] += row["rows"]
        quarantined[row["source"]] += row["rows"] if row["became"] == QUARANTINED else 0
    return {source: quarantined[source] / count for source, count in total.items()}


def lost(account: Account) -> str:
    """What was left out and quarantined, in one sentence."""
    rows = [row for row in account if row["became"] in (LEFT_OUT, QUARANTINED)]
    reasons = "; ".join(f"{row['rows']} of {row['source']} {row['became']}: {row['reason']}" for row in rows)
    return f"Of the rows that were read: {reasons}." if rows else "There was none to begin with."
