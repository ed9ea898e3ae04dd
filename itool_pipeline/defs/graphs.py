"""Assets that are more than one op: the trees, which fan out over shards; what fans in: champion, report, export."""

import inspect
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import dagster as dg

from itool_pipeline.config import MAX_ITERATIONS
from itool_pipeline.defs.assets import asset_key, group_of, op_name
from itool_pipeline.defs.errors import explained
from itool_pipeline.defs.metadata import data_version, shown
from itool_pipeline.defs.partitions import experiments
from itool_pipeline.defs.resources import GPU_POOL, RunOptions, workspace
from itool_pipeline.steps import champion, exported_model, report, trees
from itool_pipeline.steps.asset_graph import inputs_of
from itool_pipeline.steps.plan import code_version
from itool_pipeline.steps.workspace import Produced, Workspace


def graph_of(asset: str, compose: Callable[..., Any], description: str, kinds: tuple[str, ...]) -> dg.AssetsDefinition:
    """An asset made by a graph of ops. `compose` takes a Nothing input for each input asset, by name."""
    keys = {op_name(name): asset_key(name) for name in inputs_of(asset)}

    def body(**inputs: Any) -> Any:
        return compose(inputs)

    parameters = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in keys]
    body.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    # The graph's own name, because a job and a graph may not share one, and there is a job `report`.
    graph = dg.graph(name=f"make_{op_name(asset)}", ins={key: dg.GraphIn() for key in keys}, out=dg.GraphOut())
    return dg.AssetsDefinition.from_graph(
        graph(body),
        keys_by_input_name=keys,
        keys_by_output_name={"result": asset_key(asset)},
        partitions_def=experiments,
        group_name=group_of(asset),
        descriptions_by_output_name={"result": description},
        code_versions_by_output_name={"result": code_version(asset)},
        tags_by_output_name={"result": {f"dagster/kind/{name}": "" for name in kinds}},
    )


def _output(produced: Produced) -> dg.Output[None]:
    with warnings.catch_warnings():
        # Dagster calls this parameter of Output beta, though assets' results have had it for long.
        warnings.simplefilter("ignore", dg.BetaWarning)
        return dg.Output(None, metadata=shown(produced), data_version=data_version(produced))


def trees_asset(k: int) -> dg.AssetsDefinition:
    """iteration_k/trees: plan the shards, search them in `compute.search_ops` ops, gather."""
    asset, prefix = f"iteration_{k}/trees", f"iteration_{k}_"
    start = {op_name(name): dg.In(dg.Nothing) for name in inputs_of(asset)}

    @dg.op(name=f"{prefix}plan_shards", ins=start, out=dg.DynamicOut(list[int]))
    def plan_shards(context: dg.OpExecutionContext, options: RunOptions) -> Iterator[dg.DynamicOutput[list[int]]]:
        ws = workspace(context, options)
        with explained():
            planned = trees.deal_shards(ws, trees.plan_shards(ws, k)) if ws.has(asset) else []
        for number, shards in enumerate(planned):
            yield dg.DynamicOutput(shards, mapping_key=f"share_{number:05d}")

    @dg.op(name=f"{prefix}search_shards", pool=GPU_POOL)
    def search_shards(context: dg.OpExecutionContext, options: RunOptions, shards: list[int]) -> list[int]:
        with explained():
            trees.search_shards(workspace(context, options), k, shards)
        return shards

    @dg.op(name=f"{prefix}gather", out=dg.Out(dg.Nothing, is_required=False), pool=GPU_POOL)
    def gather(
        context: dg.OpExecutionContext, options: RunOptions, shares: list[list[int]]
    ) -> Iterator[dg.Output[None]]:
        ws = workspace(context, options)
        if ws.has(asset):
            with explained():
                produced = trees.gather(ws, k)
            yield _output(produced)

    def compose(inputs: dict[str, Any]) -> Any:
        return gather(plan_shards(**inputs).map(search_shards).collect())

    description = "Step-wise Monte Carlo search over fragments, one tree for each selected example (Section 3.2)."
    return graph_of(asset, compose, description, ("python", "torch"))


def fan_in_asset(
    asset: str, op: str, body: Callable[[Workspace], Produced], description: str, kinds: tuple[str, ...]
) -> dg.AssetsDefinition:
    """An asset that waits for what the experiment scores; what it lacks is skipped and does not stop it."""

    @dg.op(name=op, ins={"scores": dg.In(dg.Nothing)}, out=dg.Out(dg.Nothing, is_required=False))
    def gathered(context: dg.OpExecutionContext, options: RunOptions) -> Iterator[dg.Output[None]]:
        ws = workspace(context, options)
        if ws.has(asset):
            with explained():
                produced = body(ws)
            yield _output(produced)

    return graph_of(asset, lambda inputs: gathered(scores=list(inputs.values())), description, kinds)


def all_graph_assets() -> list[dg.AssetsDefinition]:
    """The trees of every iteration, the champion, the report, and the exported model."""
    return [
        *(trees_asset(k) for k in range(1, MAX_ITERATIONS + 1)),
        fan_in_asset(
            "champion",
            "choose_champion",
            champion.champion,
            "The checkpoint that won by a paired test over the one that held the title, with no category too low.",
            ("python",),
        ),
        fan_in_asset(
            "report",
            "write_report",
            report.report,
            "Leaderboard, errors by type and what the search found, on one page.",
            ("markdown",),
        ),
        fan_in_asset(
            exported_model.ASSET,
            "export_model",
            exported_model.exported_model,
            "The last checkpoint as a folder to load and to serve: merged weights, adapter, tokenizer, the chat "
            "template of training, model card, what was trained on as data sets. The job `export` makes it.",
            ("python", "torch"),
        ),
    ]
