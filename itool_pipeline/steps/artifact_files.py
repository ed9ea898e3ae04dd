"""Names of the files in artifacts that other steps read. Tables have the columns that store/tables.py declares."""

from __future__ import annotations

BUFFER_FILE = "buffer.parquet"
"""Of iteration_k/replay_buffer: table `buffer`."""
PAIRS_FILE = "pairs.parquet"
"""Of iteration_k/pairs: table `pairs`, with the token ids of those that are kept."""
QUARANTINE_FILE = "quarantine.parquet"
"""Of `examples` and `api_bank_cases`: table `quarantine`."""


def nodes_file(shard: int) -> str:
    """Of iteration_k/trees: table `nodes`, the trees of one shard."""
    return f"nodes_{shard:05d}.parquet"


def trees_file(shard: int) -> str:
    """Of iteration_k/trees: table `trees`, one shard."""
    return f"trees_{shard:05d}.parquet"
