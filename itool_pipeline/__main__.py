"""The small command line for what Dagster's own does not cover.

python -m itool_pipeline init FILE       look at your own conversations, and write an experiment that trains on them
python -m itool_pipeline run demo        one experiment from data to report, then its leaderboard
python -m itool_pipeline run demo --set iterations=1     the same with other keys, as an experiment of its own
python -m itool_pipeline plan demo       what a run would make, and what of time and memory that would take
python -m itool_pipeline check           every experiment file: is it valid, and is what it needs there?
python -m itool_pipeline compare sft_entire demo     experiments on the same cases: who is better, how surely?
python -m itool_pipeline sql "FROM …"    ask the database, read-only
python -m itool_pipeline verify          the whole storage: is it still what was written? --deep: each byte and row
python -m itool_pipeline export demo     its last checkpoint as a folder that others load and serve
python -m itool_pipeline conformance demo     our verdicts against a benchmark's own command line
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from itool_pipeline.calls.syntaxes import SYNTAXES, syntax_named
from itool_pipeline.config import Experiment
from itool_pipeline.errors import mistake_of_ours, words_for
from itool_pipeline.experiment_files import ConfigError, experiment_names, load_experiment
from itool_pipeline.steps.plan import asked_benchmarks
from itool_pipeline.steps.preflight import obstacles
from itool_pipeline.steps.progress import Timed
from itool_pipeline.stopping import how_to_go_on, stop_when_asked
from itool_pipeline.store.artifacts import ArtifactStore
from itool_pipeline.store.database import Database
from itool_pipeline.store.manifest import Artifact
from itool_pipeline.store.paths import storage_paths
from itool_pipeline.store.row_verification import remedy, verify_rows
from itool_pipeline.store.sql_shell import run_sql, text_table
from itool_pipeline.store.verification import REMEDY, verify_store
from itool_pipeline.variants import make_variant, write_variant

DATABASE_WAIT_SECONDS = 60.0
"""How long `verify` waits for another process that has the database open."""
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


def run(arguments: argparse.Namespace) -> int:
    """Execute the job `itool` on one partition, begun by this process and recorded in the Dagster instance."""
    experiment = _asked_experiment(arguments)
    if found := obstacles(experiment, storage_paths()):
        print(f"{experiment.name} cannot run; nothing was begun.", *found, sep="\n", file=sys.stderr)
        return 1
    os.environ.setdefault("DAGSTER_HOME", str(_dagster_home()))

    import dagster as dg  # slow to import, and the other commands do without

    from itool_pipeline.definitions import itool_job
    from itool_pipeline.defs.automation import SHORT_LOG
    from itool_pipeline.defs.checks import did_not_pass
    from itool_pipeline.defs.partitions import PARTITION_TAG

    start, name = time.monotonic(), experiment.name
    config = {**SHORT_LOG, "resources": {"options": {"config": {"force": arguments.force}}}}
    with dg.DagsterInstance.get() as instance:
        result = dg.execute_job(
            dg.reconstructable(itool_job), instance=instance, run_config=config, tags={PARTITION_TAG: name}
        )
    seconds = time.monotonic() - start
    if not result.success:
        return 1  # the log has said why
    _print_scores(name, [benchmark.name for benchmark in asked_benchmarks(experiment)])
    print(f"\n{name}: finished in {seconds:.0f} s. `make ui` shows every artifact of run {result.run_id}.", flush=True)
    said, failed = did_not_pass(result.get_asset_check_evaluations())
    print(*said, sep="\n", end="\n" if said else "", file=sys.stderr)
    return int(failed)


def _asked_experiment(arguments: argparse.Namespace) -> Experiment:
    """The experiment of that name, or with `--set` its variant, whose file is written before Dagster looks for it."""
    if not arguments.set:
        if arguments.name:
            raise ConfigError("--as names what --set makes: give at least one --set key=value")
        return load_experiment(arguments.experiment)
    variant = make_variant(arguments.experiment, arguments.set, arguments.name)
    write_variant(variant)
    print(f"{variant.experiment.name}: {variant.path}")
    return variant.experiment


def _print_scores(experiment: str, benchmarks: Sequence[str]) -> None:
    """The experiment's leaderboard, what its checkpoints gained and lost, and for each benchmark scores by category."""
    if not benchmarks:
        print("\nNothing was scored: the experiment asks for no benchmark (evaluation).")
        return
    database = storage_paths().database
    print("\n" + run_sql(database, LEADERBOARD, variables={"experiment": experiment, "benchmarks": list(benchmarks)}))
    print("\n" + run_sql(database, DIFFERENCES, variables={"experiment": experiment}))
    for benchmark in benchmarks:
        print("\n" + run_sql(database, CATEGORIES, variables={"experiment": experiment, "benchmark": benchmark}))


def _dagster_home() -> Path:
    """The storage root, with the settings of the Dagster instance."""
    root, settings = storage_paths().root, Path(__file__).parents[1] / "storage" / "dagster.yaml"
    root.mkdir(parents=True, exist_ok=True)
    if not (root / settings.name).exists() and settings.exists():
        shutil.copyfile(settings, root / settings.name)
    return root


def check(arguments: argparse.Namespace) -> int:
    """Print of every experiment, or of the one named, what is wrong or would stop it; 1 when anything would."""
    if arguments.set:
        if not arguments.experiment:
            raise ConfigError("check --set: name the experiment that the keys are set in")
        variant = make_variant(arguments.experiment, arguments.set).experiment
        return _checked(lambda: variant, variant.name)
    names = [arguments.experiment] if arguments.experiment else experiment_names()
    return max([_checked(partial(load_experiment, name), name) for name in names], default=0)


def _checked(load: Callable[[], Experiment], name: str) -> int:
    try:
        experiment = load()
        found = obstacles(experiment, storage_paths())
    except ConfigError as error:
        found = [str(error)]
    print("\n".join([f"bad {name}", *found]) if found else f"ok  {name}: {experiment.description}", flush=True)
    return 1 if found else 0


def plan(arguments: argparse.Namespace) -> int:
    """Print what a run of the experiment would reuse and make, on this machine or on a named device."""
    from itool_pipeline.steps.forecast.forecast import forecast
    from itool_pipeline.steps.forecast.text import forecast_text

    name = arguments.experiment
    experiment = make_variant(name, arguments.set).experiment if arguments.set else load_experiment(name)
    say = partial(print, file=sys.stderr)
    print(forecast_text(forecast(experiment, storage_paths(), arguments.device, say)))
    return 0


def init(arguments: argparse.Namespace) -> int:
    """Print what a file of conversations holds, and write an experiment that trains on it; nothing is overwritten."""
    from itool_pipeline.steps.new_experiment import new_experiment, told, warning, write_experiment

    made = new_experiment(Path(arguments.file), arguments.name)
    write_experiment(made)
    name = made.experiment.name
    print(f"{told(made.look)}\n\n{made.path}\n\n{made.text}")
    print(f"Next: python -m itool_pipeline plan {name}, then run {name}. docs/data.md has every key.")
    if said := warning(made):
        print(said, file=sys.stderr)
    return 0


def sql(arguments: argparse.Namespace) -> int:
    """Print the result of one query."""
    print(run_sql(storage_paths().database, arguments.query))
    return 0


def compare(arguments: argparse.Namespace) -> int:
    """Print how experiments, or checkpoints of one, differ on the same cases, and write the same as an HTML page."""
    from itool_pipeline.comparison.whole import compare as compare_entrants

    made = compare_entrants(storage_paths(), arguments.entrants, Path(arguments.html) if arguments.html else None)
    for table in made.tables:
        print(f"{table.title}\n{text_table(list(table.head), [tuple(row) for row in table.rows])}\n")
    print(made.page)
    return 0


def verify(arguments: argparse.Namespace) -> int:
    """Hold the files of all artifacts, or of the assets named, against their manifests; 1 when any is damaged.

    `--deep` also holds the database's rows against them, and raises DatabaseLocked when another process keeps it.
    """
    store = ArtifactStore(storage_paths().artifacts)
    progress = Timed("artifacts verified", lambda line: print(line, file=sys.stderr))
    verified = verify_store(store, [name.strip("/") for name in arguments.assets], progress, deep=arguments.deep)
    names = ["asset", "artifacts", "files", "bytes", "only size compared", "damaged"]
    rows = [(a.asset, a.artifacts, a.files, a.bytes, a.not_hashed, len(a.damaged)) for a in verified.assets]
    print(text_table(names, rows))
    if verified.aside:
        print("\nNo artifacts, and never taken for one:", *(f"{f.state:<11}{f.path}" for f in verified.aside), sep="\n")
    if verified.damaged:
        print("\nDamaged:", *(f"{path}: {'; '.join(found)}" for path, found in verified.damaged.items()), sep="\n")
        print(REMEDY)
    differing = arguments.deep and _rows_differ([artifact for asset in verified.assets for artifact in asset.whole])
    return 1 if verified.damaged or differing else 0


def _rows_differ(artifacts: Sequence[Artifact]) -> bool:
    """Print how the rows in the database differ from these artifacts'; whether any do."""
    from itool_pipeline.steps.asset_tables import rows_of

    tell = partial(print, file=sys.stderr)
    database = Database(storage_paths().database, wait_seconds=DATABASE_WAIT_SECONDS, say=tell)
    found = verify_rows(database, artifacts, rows_of, Timed("artifacts' rows compared", tell))
    if found is None:
        print("\nThere is no database with today's tables to compare rows with: the next run makes one.")
        return False
    unknown = f"; of {found.not_loaded} it knows nothing: the next run that uses one loads its rows"
    differ = f"those of {found.compared} artifacts compared, {len(found.different)} differ"
    print(f"\nRows in {database.path}: {differ}{unknown if found.not_loaded else ''}")
    if found.different:
        print(*found.lines(), remedy(database.path), sep="\n")
    return bool(found.different)


def conformance(arguments: argparse.Namespace) -> int:
    """Compare our verdicts with those of the unmodified official command line; 1 when any differs."""
    from itool_pipeline.steps import conformance as step

    environment, benchmark = Path(arguments.environment).absolute(), arguments.benchmark or next(iter(step.OPINIONS))
    if benchmark not in step.OPINIONS:
        raise ConfigError(f"--benchmark {benchmark}: only {', '.join(step.OPINIONS)} has a command line of its own")
    if arguments.answers:
        file, syntax = Path(arguments.answers), syntax_named(arguments.calls)
        judged = {file.name: step.judged_answers(file, benchmark, storage_paths(), syntax)}
    elif arguments.experiment:
        judged, syntax = step.judged_cases(arguments.experiment, benchmark), step.syntax_of(arguments.experiment)
    else:
        print("name an experiment that has been scored, or a file with --answers", file=sys.stderr)
        return 2
    different = 0
    for name, cases in judged.items():
        text, found = step.compared_verdicts(cases, benchmark, storage_paths(), environment, syntax)
        print(f"{name}\n{text}\n")
        different += found
    return 1 if different else 0


def export(arguments: argparse.Namespace) -> int:
    """Write a checkpoint as a folder to load and to serve; with --check, 1 unless it serves what was scored."""
    from itool_pipeline.data.publish import publish, require_token
    from itool_pipeline.steps.exported_model import add_gguf, export_to, last_checkpoint
    from itool_pipeline.steps.round_trip import round_trip
    from itool_pipeline.steps.workspace import Workspace

    if arguments.push_to:
        require_token(arguments.push_to)
    ws = Workspace.of(arguments.experiment, say=partial(print, file=sys.stderr))
    checkpoint = arguments.checkpoint or last_checkpoint(ws)
    name = arguments.experiment if arguments.checkpoint is None else f"{arguments.experiment}.{checkpoint}"
    out = Path(arguments.out) if arguments.out else ws.paths.exports / name
    for key, value in export_to(ws, checkpoint, out).items():
        print(f"{key}: {value}")
    print(out)
    if arguments.gguf:
        print(add_gguf(out))
    failed = 0
    if arguments.check:
        found = round_trip(ws, out, checkpoint, own_parser=arguments.check == "own")
        print(*(f"{key}: {value}" for key, value in found.counts.items()), *found.problems, sep="\n")
        failed = int(bool(found.problems))
    if arguments.push_to:
        print(publish(out, arguments.push_to))
    return failed


def _parser() -> argparse.ArgumentParser:
    """Every command with its arguments; `command` is the function that it calls."""
    parser = argparse.ArgumentParser(prog="python -m itool_pipeline", description=(__doc__ or "").split("\n")[0])
    commands = parser.add_subparsers(required=True)
    starter = commands.add_parser("init", help="look at a file of conversations, and write an experiment for it")
    starter.add_argument("file", help="JSON lines, a JSON array or Parquet, also in gzip")
    starter.add_argument("--name", help="of the experiment; by default the file's")
    starter.set_defaults(command=init)
    runner = commands.add_parser("run", help="run one experiment from data to report")
    runner.add_argument("experiment", help=f"one of: {', '.join(experiment_names())}")
    runner.add_argument("--force", action="store_true", help="make everything again even where it is there")
    runner.add_argument("--as", dest="name", help="the name of the experiment that --set makes")
    runner.set_defaults(command=run)
    checker = commands.add_parser("check", help="whether every experiment, or one, can run; nothing is run or written")
    checker.add_argument("experiment", nargs="?")
    checker.set_defaults(command=check)
    planner = commands.add_parser("plan", help="what a run would make, in what time and memory; nothing is begun")
    planner.add_argument("experiment")
    planner.add_argument("--device", help="cpu, or a GPU by name: h100, a100, …; by default what this machine has")
    planner.set_defaults(command=plan)
    for changed in (runner, planner, checker):
        changed.add_argument("--set", action="append", metavar="KEY=VALUE", help="with this key changed, a.b.c=1e-5")
    comparer = commands.add_parser("compare", help="how experiments differ on the same cases, as tables and a page")
    comparer.add_argument(
        "entrants", nargs="+", help="NAME, NAME@CHECKPOINT, or seeds of one setting: A+B+C; first the base"
    )
    comparer.add_argument("--html", help="the page's file; by default one in the storage's folder comparisons")
    comparer.set_defaults(command=compare)
    asker = commands.add_parser("sql", help="ask the database, read-only")
    asker.add_argument("query")
    asker.set_defaults(command=sql)
    verifier = commands.add_parser("verify", help="the artifacts: are they still what was written?")
    verifier.add_argument("assets", nargs="*", help="iteration_1/pairs, or iteration_1 for all in it; default: all")
    verifier.add_argument("--deep", action="store_true", help="each file's sha256 and the database's rows too")
    verifier.set_defaults(command=verify)
    exporter = commands.add_parser("export", help="a checkpoint as a folder that others load and serve")
    exporter.add_argument("experiment")
    exporter.add_argument("--checkpoint", help="base, warmup, iteration_1, …; by default the last")
    exporter.add_argument("--out", help="the folder; by default one in the storage's folder exports")
    exporter.add_argument(
        "--check",
        nargs="?",
        const="vllm",
        choices=("vllm", "own"),
        help="serve it and compare its calls with those scored; `own`: by the parser that comes with the export",
    )
    exporter.add_argument("--gguf", action="store_true", help="also as model.gguf, for llama.cpp")
    exporter.add_argument("--push-to", metavar="OWNER/NAME", help="upload it to this repository of the hub")
    exporter.set_defaults(command=export)
    conformer = commands.add_parser("conformance", help="compare our verdicts with a benchmark's own command line")
    conformer.add_argument("experiment", nargs="?", help="every scored checkpoint of it")
    conformer.add_argument("--answers", help='a file of lines {"id": …, "result": …} instead')
    conformer.add_argument("--benchmark", help="one that has a command line; by default the first")
    conformer.add_argument(
        "--calls", choices=tuple(SYNTAXES), default="python", help="how the file of --answers writes calls"
    )
    conformer.add_argument("--environment", default=".venv-conformance", help="where the official command line lives")
    conformer.set_defaults(command=conformance)
    return parser


def main() -> int:
    """Parse the command line; errors that a person can act on are printed without a trace, and their words last."""
    try:
        arguments = _parser().parse_args()
        command: Callable[[argparse.Namespace], int] = arguments.command
        return command(arguments)
    except KeyboardInterrupt:
        print(how_to_go_on(), file=sys.stderr)
        return 1
    except Exception as error:
        words = words_for(error)
        if words is None:
            traceback.print_exc()
            words = mistake_of_ours(f"{type(error).__name__}: {error}")
        sys.stdout.flush()
        print(words, file=sys.stderr)
        return 2


if __name__ == "__main__":
    asked = stop_when_asked()
    code = main()
    sys.exit(asked.exit_code or code)
