"""A run on a Ray cluster of two nodes on this machine, whose GPUs are pretended: a worker is killed amid a search, the
run is started again, and what is made is what one process makes."""

from __future__ import annotations

import os
import signal
import tempfile
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import pytest

from itool_pipeline_tests.defs.test_definitions import USES_MODEL
from itool_pipeline_tests.drills import DATA, DEADLINE_SECONDS, ROOT, Output, Storage, contents
from itool_pipeline_tests.ray_nodes import NODES, Cluster, Job, path_to_dagster, wait_until
from itool_pipeline_tests.small_experiment import RUN, rows, write_experiment

pytest.importorskip("dagster_ray", reason="needs the extra `ray`: pip install -e '.[ray]' 'ray[default]'")
pytest.importorskip("aiohttp_cors", reason="the head's dashboard needs `ray[default]`: pip install 'ray[default]'")

pytestmark = pytest.mark.slow

SEARCH = "make_iteration_1__trees.iteration_1_search_shards"
SCORES = ("bfcl__base", "bfcl__iteration_1")
SPY = """
import os
import duckdb

_connect = duckdb.connect
# Ray's own processes, which start a step's, have its variables too.
with open("/proc/self/cmdline") as _command:
    _step = os.environ.get("DAGSTER_RUN_STEP_KEY") if "execute_step" in _command.read() else None


def note(what):
    if _step:
        with open(os.environ["NOTES"], "a") as notes:
            notes.write(f"{_step} {os.getpid()} {what}\\n")


def connect(database=":memory:", *arguments, **options):
    note(f"opened={os.path.basename(str(database))}")
    return _connect(database, *arguments, **options)


note(f"gpus={os.environ.get('CUDA_VISIBLE_DEVICES')}")
duckdb.connect = connect
"""
"""Of every process of a step, which Ray starts: the GPUs that it was given, and the databases that it opens."""


@dataclass(frozen=True)
class Note:
    """What a process of a step has noted."""

    step: str
    process: int
    what: str


@dataclass(frozen=True)
class Drill:
    """A run of which a worker was killed, and the run after it, each with its steps; and all that these have noted.

    `searched_again`: the steps of the second run that have searched, by their own words.
    """

    storage: Storage
    nodes: set[str]
    killed: Note
    first: Output
    again: Output
    jobs_of_first: list[Job]
    jobs_of_again: list[Job]
    searched_again: set[str]
    notes: list[Note]


def read_notes(path: Path) -> list[Note]:
    lines = path.read_text().splitlines() if path.exists() else []
    return [Note(step, int(process), what) for step, process, what in (line.split(maxsplit=2) for line in lines)]


def latest_run(storage: Storage) -> str:
    with dg.DagsterInstance.from_config(str(storage.root)) as instance:
        return instance.get_runs(limit=1)[0].run_id


def begun(storage: Storage) -> set[str]:
    """The steps of the latest run whose work has begun and not ended."""
    with dg.DagsterInstance.from_config(str(storage.root)) as instance:
        kinds = {dg.DagsterEventType.STEP_START, dg.DagsterEventType.STEP_SUCCESS, dg.DagsterEventType.STEP_FAILURE}
        logs = [instance.all_logs(run.run_id, of_type=kinds) for run in instance.get_runs(limit=1)]
    events = [entry.get_dagster_event() for log in logs for entry in log]
    ended = {event.step_key for event in events if event.event_type != dg.DagsterEventType.STEP_START}
    return {str(event.step_key) for event in events if event.step_key not in ended}


def searched(storage: Storage) -> set[str]:
    """The steps of the latest run that said how far their search was."""
    with dg.DagsterInstance.from_config(str(storage.root)) as instance:
        said = instance.all_logs(latest_run(storage))
    return {str(entry.step_key) for entry in said if " iterations of " in entry.user_message}


def kill_a_search(storage: Storage, notes: Path) -> Note:
    """The process of a shard that is being searched, which is killed."""
    found: list[Note] = []

    def searching() -> bool:
        at_work = {step for step in begun(storage) if step.startswith(SEARCH)}
        found.extend(note for note in read_notes(notes) if note.step in at_work)
        return bool(found)

    wait_until(searching)
    os.kill(found[0].process, signal.SIGKILL)
    return found[0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, downloads_dir: Path, bfcl_dir: Path, tiny_model_dir: Path) -> Path:
    root = tmp_path_factory.mktemp("ray")
    compute = {"device": "cpu", "dtype": "float32", "search_ops": 4, "gpus": 1, "cpus": 1}
    write_experiment(root / "experiments", tiny_model_dir, compute=compute)
    return root


@pytest.fixture(scope="module")
def in_process(folder: Path, downloads_dir: Path) -> Storage:
    made = Storage(folder / "in_process", downloads_dir, ITOOL_EXPERIMENTS=str(folder / "experiments"))
    done = made.run(*RUN)
    assert done.code == 0, done.text[-3000:]
    return made


@pytest.fixture(scope="module")
def drill(folder: Path, downloads_dir: Path, in_process: Storage) -> Drill:
    spy, notes = folder / "spy", folder / "notes"
    spy.mkdir()
    (spy / "sitecustomize.py").write_text(SPY)
    nodes_see = {"PYTHONPATH": f"{spy}{os.pathsep}{ROOT}", "PATH": path_to_dagster(), "NOTES": str(notes)}
    # Sockets' paths may not be long.
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True) as short:
        cluster = Cluster(Path(short), DAGSTER_HOME=str(folder / "ray"), **nodes_see)
        own = {"ITOOL_EXPERIMENTS": str(folder / "experiments"), "ITOOL_EXECUTOR": "ray"}
        storage = Storage(folder / "ray", downloads_dir, **own)
        two_at_once(storage)
        storage.take([*DATA, "bfcl_cases"], in_process)
        with cluster:
            storage.variables["RAY_ADDRESS"] = cluster.at
            process = storage.start(RUN)
            killed = kill_a_search(storage, notes)
            first = Output(process.wait(DEADLINE_SECONDS), storage.output())
            jobs_of_first = cluster.jobs(latest_run(storage))
            again = storage.run(*RUN)
            jobs_of_again = cluster.jobs(latest_run(storage))
            nodes = cluster.nodes()
    return Drill(
        storage, nodes, killed, first, again, jobs_of_first, jobs_of_again, searched(storage), read_notes(notes)
    )


def two_at_once(storage: Storage) -> None:
    """As many ops may use the model as there are GPUs."""
    settings = storage.root / "dagster.yaml"
    text = settings.read_text()
    assert text.count("default_limit: 1") == 1
    settings.write_text(text.replace("default_limit: 1", f"default_limit: {NODES}"))


def account(drill: Drill) -> str:
    """Which step ran on which node, for people."""
    number = {node: f"node {index}" for index, node in enumerate(sorted(drill.nodes), 1)}
    lines = [f"killed: {drill.killed.step}, process {drill.killed.process}"]
    for name, jobs in (("first run", drill.jobs_of_first), ("second run", drill.jobs_of_again)):
        lines += [f"{name}: {job.step}: {number[job.node]}, {job.status}" for job in sorted(jobs, key=lambda j: j.step)]
    return "\n".join(lines)


def searches(jobs: list[Job]) -> dict[str, Job]:
    return {job.step: job for job in jobs if job.step.startswith(SEARCH)}


def test_the_run_of_which_a_worker_is_killed_fails_and_says_so(drill: Drill) -> None:
    """Dagster does not try a step again by itself: the others go on to their ends, and what needs it is not begun."""
    print(account(drill))
    assert drill.first.code == 1, drill.first.text[-3000:]
    assert "The process of this step ended and left no error" in drill.first.text.rpartition("The run failed after")[2]
    failed = {job.step for job in drill.jobs_of_first if job.status != "SUCCEEDED"}
    assert failed == {drill.killed.step}
    assert len(searches(drill.jobs_of_first)) == 4
    assert not any(job.step.endswith("gather") for job in drill.jobs_of_first)


def test_the_run_that_is_started_again_ends_well_and_searches_the_lost_shard_alone(drill: Drill) -> None:
    assert drill.again.code == 0, drill.again.text[-3000:]
    assert {job.status for job in drill.jobs_of_again} == {"SUCCEEDED"}
    assert len(searches(drill.jobs_of_again)) == 4, "each looks whether its shard is there"
    assert drill.searched_again == {drill.killed.step}
    made = drill.storage.ask("SELECT DISTINCT asset FROM materializations WHERE NOT reused ORDER BY asset")
    assert [row["asset"] for row in made] == [
        "bfcl/iteration_1",
        "champion",
        *(f"iteration_1/{step}" for step in ("pairs", "policy", "trees")),
        "report",
    ]


def test_steps_ran_where_they_asked_to_be(drill: Drill) -> None:
    """A step that uses the model was given a GPU of its node, and the others none; both nodes had their part."""
    jobs = [*drill.jobs_of_first, *drill.jobs_of_again]
    assert {job.node for job in jobs} == drill.nodes
    assert len(drill.nodes) == NODES
    assert {job.node for job in searches(drill.jobs_of_first).values()} == drill.nodes
    given = {(note.step, note.what) for note in drill.notes if note.what.startswith("gpus=")}
    asking = {job.step for job in jobs if uses_model(job.step)}
    assert set(SCORES) < asking
    for step, gpus in given:
        assert (gpus == "gpus=0") == (step in asking), (step, gpus)


def uses_model(step: str) -> bool:
    return step.partition("[")[0].rpartition(".")[2] in USES_MODEL


def test_no_step_opened_the_database(drill: Drill) -> None:
    opened = {(note.step, note.what) for note in drill.notes if note.what.startswith("opened=")}
    assert opened == {("make_report.write_report", "opened=rows.duckdb")}


def test_trees_pairs_and_scores_are_those_of_one_process(drill: Drill, in_process: Storage) -> None:
    assert contents(drill.storage.manifests()) == contents(in_process.manifests())
    ours, theirs = rows(drill.storage), rows(in_process)
    for table, found in ours.items():
        assert found == theirs[table], table
    assert len(ours["trees"]) == 4
    assert len(ours["scores"]) > 0
    assert len(ours["pairs"]) > 0
