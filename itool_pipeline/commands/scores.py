"""What is printed when a run has ended: the experiment's scores, out of the database."""

from __future__ import annotations

from collections.abc import Sequence

from itool_pipeline.store.paths import storage_paths
from itool_pipeline.store.sql_shell import run_sql

LEADERBOARD = """
SELECT checkpoint, benchmark, correct, total, printf('%.1f%%', 100 * accuracy) AS accuracy,
       printf('%.1f-%.1f%%', 100 * low, 100 * high) AS interval_95
FROM leaderboard WHERE experiment = getvariable('experiment') AND NOT stale
ORDER BY list_position(getvariable('benchmarks'), benchmark), sequence
"""
CATEGORIES = """
PIVOT (SELECT sequence, checkpoint, category, printf('%d/%d (%.0f-%.0f%%)', correct, total, 100 * low, 100 * high) AS s
       FROM leaderboard_categories
       WHERE experiment = getvariable('experiment') AND benchmark = getvariable('benchmark') AND NOT stale)
ON category USING first(s) GROUP BY sequence, checkpoint ORDER BY sequence
"""
DIFFERENCES = """
SELECT first_checkpoint, second_checkpoint, benchmark, gained, lost,
       printf('%+.1f to %+.1f%%', 100 * low, 100 * high) AS difference_95, printf('%.2g', p_value) AS p
FROM checkpoint_comparisons WHERE experiment = getvariable('experiment') AND NOT stale
"""


def print_scores(experiment: str, benchmarks: Sequence[str]) -> None:
    """The experiment's leaderboard, what its checkpoints gained and lost, and for each benchmark scores by category."""
    if not benchmarks:
        print("\nNothing was scored: the experiment asks for no benchmark (evaluation).")
        return
    database = storage_paths().database
    print("\n" + run_sql(database, LEADERBOARD, variables={"experiment": experiment, "benchmarks": list(benchmarks)}))
    print("\n" + run_sql(database, DIFFERENCES, variables={"experiment": experiment}))
    for benchmark in benchmarks:
        print("\n" + run_sql(database, CATEGORIES, variables={"experiment": experiment, "benchmark": benchmark}))
