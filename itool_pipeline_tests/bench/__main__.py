"""`make bench`: each bench is a table, and its rows go to `storage/bench/<name>.json`. `BENCH=search` runs one of them.

Needs an idle machine: contenders take turns within one run, so that ratios hold on any processor, but not beside other
work.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping

from transformers import AutoConfig

from itool_pipeline_tests.bench.loop import loop_rows
from itool_pipeline_tests.bench.machine import Machine, measured_machine
from itool_pipeline_tests.bench.report import Row, machine_text, table_text, write_rows
from itool_pipeline_tests.bench.rows import million_rows
from itool_pipeline_tests.bench.scaling import process_rows, scaling_rows
from itool_pipeline_tests.bench.scoring import scoring_rows
from itool_pipeline_tests.bench.search import missing_contenders, search_rows
from itool_pipeline_tests.bench.sft import sft_rows
from itool_pipeline_tests.bench.training import training_rows
from itool_pipeline_tests.bench.workload import Workload, base_directory, bench_folder, load_workload

Bench = Callable[[Machine, Workload], Iterator[Row]]

BENCHES: Mapping[str, Bench] = {
    "search": search_rows,
    "training": training_rows,
    "sft": sft_rows,
    "processes": process_rows,
    "loop": loop_rows,
    "scaling": scaling_rows,
    "scoring": scoring_rows,
    "rows": lambda machine, workload: million_rows(),
}
LONG = ("scaling", "scoring", "rows")
"""Those that only run when they are named."""

NOTES: Mapping[str, Callable[[], list[str]]] = {"search": missing_contenders}
"""What is said below a table."""


def run_bench(name: str, workload: Workload) -> None:
    """Measure the machine and then the bench; print its table and write its rows."""
    start = time.monotonic()
    machine = measured_machine(AutoConfig.from_pretrained(base_directory(), local_files_only=True))
    print(f"{name}: {machine_text(machine)}", flush=True)
    rows = list(BENCHES[name](machine, workload))
    path = bench_folder() / f"{name}.json"
    notes = NOTES[name]() if name in NOTES else []
    write_rows(path, machine, rows, notes)
    print("\n".join([table_text(rows), *notes]))
    print(f"{path}, {time.monotonic() - start:.0f} s\n", flush=True)


def main() -> int:
    wanted = os.environ.get("BENCH", "").split() or [name for name in BENCHES if name not in LONG]
    unknown = [name for name in wanted if name not in BENCHES]
    if unknown:
        print(f"BENCH={unknown[0]}: there are {', '.join(BENCHES)}", file=sys.stderr)
        return 1
    workload = load_workload()
    for name in wanted:
        run_bench(name, workload)
    return 0


if __name__ == "__main__":
    sys.exit(main())
