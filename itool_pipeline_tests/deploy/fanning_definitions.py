"""One asset that fans out like the trees do: what each op hands on is read by another, in another pod."""

from __future__ import annotations

from collections.abc import Iterator

import dagster as dg

from itool_pipeline.defs.executors import chosen_executor
from itool_pipeline.defs.lost_runs import lost_runs
from itool_pipeline.defs.partitions import experiments
from itool_pipeline.defs.resources import GPU_POOL
from itool_pipeline.store.paths import storage_paths


@dg.op(out=dg.DynamicOut(int))
def deal() -> Iterator[dg.DynamicOutput[int]]:
    for number in (2, 3):
        yield dg.DynamicOutput(number, mapping_key=f"share_{number}")


@dg.op(pool=GPU_POOL)
def square(number: int) -> int:
    return number * number


@dg.op(pool=GPU_POOL)
def gather(squares: list[int]) -> int:
    (storage_paths().root / "gathered").write_text(str(sum(squares)))
    return sum(squares)


@dg.graph_asset(partitions_def=experiments)
def gathered() -> int:
    found: int = gather(deal().map(square).collect())
    return found


defs = dg.Definitions(
    assets=[gathered],
    jobs=[dg.define_asset_job("fan", selection=dg.AssetSelection.all())],
    sensors=[lost_runs],
    executor=chosen_executor(),
)
