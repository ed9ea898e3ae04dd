"""The account of loaded data, worked out by hand."""

from __future__ import annotations

from itool_pipeline.data.rows import Quarantined
from itool_pipeline.data.sources import Chosen, LoadedData
from itool_pipeline.steps.account import account_of, lost, quarantined_shares

LOADED = LoadedData(
    source="xlam",
    commit="",
    train=Chosen(lambda progress: iter(()), {"a": "a", "b": "a", "c": "c"}),
    quarantined=(
        Quarantined("xlam", "row 1", "calls what is not among the tools: ['f']", ""),
        Quarantined("xlam", "row 4", "calls what is not among the tools: ['g', 'h']", ""),
        Quarantined("xlam", "row 5", "tools is not JSON: Expecting value: line 1", ""),
    ),
    read=5,
    left_out={"too long": 2},
)


def test_the_account_by_hand() -> None:
    account = account_of(LOADED)
    assert [tuple(row.values()) for row in account] == [
        ("xlam", "left out", "too long", 2),
        ("xlam", "quarantined", "calls what is not among the tools", 2),
        ("xlam", "quarantined", "tools is not JSON", 1),
        ("xlam", "trained on", "", 3),
    ]
    assert quarantined_shares(account) == {"xlam": 3 / 8}
    assert lost(account) == (
        "Of the rows that were read: 2 of xlam left out: too long; 2 of xlam quarantined: calls what is not among "
        "the tools; 1 of xlam quarantined: tools is not JSON."
    )


def test_nothing_at_all() -> None:
    empty = LoadedData("jsonl", "", Chosen(lambda progress: iter(()), {}), (), 0, {})
    assert account_of(empty) == []
    assert quarantined_shares([]) == {}
    assert lost([]) == "There was none to begin with."
