"""That a data set is read in memory that does not grow with it, in a process of its own, whose peak is told."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from itool_pipeline_tests.bench.data_memory import write_rows

READ = """
import re, sys
from pathlib import Path
from itool_pipeline.config import XlamData
from itool_pipeline.data.sources import load_data

loaded = load_data(XlamData(type="xlam", path=sys.argv[1]), Path(sys.argv[2]), seed=0)
read = sum(len(example.response) > 0 for example in loaded.train)
# Not getrusage: its peak is inherited from the parent.
peak = re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())
print(read, int(peak[1]) // 1024)
"""


def kept_in(container: str, file: Path) -> None:
    """The array in the file, in another container."""
    rows = json.loads(file.read_text())
    if container == "lines in gzip":
        file.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))
    elif container == "objects, printed":
        file.write_text("".join(json.dumps(row, indent=1) for row in rows))
    elif container == "Parquet":
        pq.write_table(pa.Table.from_pylist(rows), file)


def read_and_peak(rows: int, container: str, folder: Path, downloads: Path) -> tuple[int, int]:
    """(examples read, peak MiB)."""
    write_rows(folder / "rows.json", rows)
    kept_in(container, folder / "rows.json")
    command = [sys.executable, "-c", READ, str(folder / "rows.json"), str(downloads)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    read, peak = done.stdout.split()
    return int(read), int(peak)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="a process's own peak is told by Linux only")
@pytest.mark.parametrize("container", ["an array", "lines in gzip", "objects, printed", "Parquet"])
def test_ten_times_the_rows_take_hardly_more_memory(
    tmp_path: Path, bfcl_dir: Path, downloads_dir: Path, container: str
) -> None:
    few, small = read_and_peak(800, container, tmp_path, downloads_dir)
    many, large = read_and_peak(8000, container, tmp_path, downloads_dir)
    assert (few, many) == (800, 8000)
    # The larger array has 24 MiB, and as Python objects many times that; a few ids and digests are all that may stay.
    assert large - small < 24
