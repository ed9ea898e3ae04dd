"""Every benchmark that an experiment can ask for, in the order in which people see them."""

from __future__ import annotations

from typing import Any

from itool_pipeline.benchmarks.api_bank.benchmark import ApiBankBenchmark
from itool_pipeline.benchmarks.bfcl.benchmark import BfclBenchmark
from itool_pipeline.benchmarks.own_calls.benchmark import OwnCallsBenchmark
from itool_pipeline.benchmarks.types import Benchmark

BENCHMARKS: tuple[Benchmark[Any], ...] = (BfclBenchmark(), ApiBankBenchmark(), OwnCallsBenchmark())
