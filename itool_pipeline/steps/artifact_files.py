"""Names of the files in artifacts that other steps read. Tables have the columns that store/tables.py declares."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from itool_pipeline.store.manifest import Artifact

TRAIN_FILE = "train.parquet"
"""Of `examples`: table `examples`, those to train or validate on, with their token ids."""
ACCOUNT_FILE = "account.json"
"""Of `examples`: what became of every row of each source, with counts."""
SPLITS_FILE = "splits.parquet"
"""Of `splits`: table `splits`."""
BUFFER_FILE = "buffer.parquet"
"""Of iteration_k/replay_buffer: table `buffer`."""
THOUGHTS_FILE = "thoughts.parquet"
"""Of iteration_k/replay_buffer and <benchmark>/<checkpoint>, where the model thinks: table `thoughts`."""
PAIRS_FILE = "pairs.parquet"
"""Of iteration_k/pairs: table `pairs`, with the token ids of those that are kept."""
ANSWERS_FILE = "answers.parquet"
"""Of iteration_k/pairs: table `right_answers`, with their token ids."""
CHECKPOINT_FILE = "checkpoint.json"
"""Of warmup/<stage> and iteration_k/policy: the row of the table `checkpoints`, without its seconds."""
QUARANTINE_FILE = "quarantine.parquet"
"""Of `examples` and <benchmark>_cases: table `quarantine`."""
SCORES_FILE, CASES_FILE, AGGREGATES_FILE = "scores.parquet", "cases.parquet", "aggregates.parquet"
"""Of <benchmark>/<checkpoint>: tables `scores`, `cases` and `aggregate_scores`."""
POOL_FILE = "pool.parquet"
"""Of <benchmark>_cases: table `examples`, the cases that have one prompt, with its token ids."""
COMPARISONS_FILE = "comparisons.parquet"
"""Of `report`: table `comparisons`."""
CHAMPION_FILE = "champion.json"
"""Of `champion`: which checkpoint it is, by name, asset and fingerprint."""


def nodes_file(shard: int) -> str:
    """Of iteration_k/trees: table `nodes`, the trees of one shard."""
    return f"nodes_{shard:05d}.parquet"


def trees_file(shard: int) -> str:
    """Of iteration_k/trees: table `trees`, one shard."""
    return f"trees_{shard:05d}.parquet"


def shard_files(trees: Artifact, name: Callable[[int], str]) -> list[Path]:
    """The files of that name in an artifact of iteration_k/trees, shard by shard."""
    return [trees.file(name(shard)) for shard in range(trees.manifest.metadata["shards"])]
