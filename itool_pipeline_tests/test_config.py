"""Shipped experiments parse; wrong ones are refused with file, key and reason."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from itool_pipeline import __main__ as command_line
from itool_pipeline.config import (
    BFCL_TRAINING,
    BfclHalfData,
    ExactGrades,
    Experiment,
    HubModel,
    MctsConfig,
    SampledGrades,
    SamplingConfig,
    SimpoLoss,
    ToolAceData,
    WheelModel,
)
from itool_pipeline.experiment_files import SHIPPED, ConfigError, experiment_names, load_experiment

BASE = """\
model: {type: smollm2_wheel}
data: {type: bfcl_half}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ITOOL_EXPERIMENTS", str(tmp_path))
    return tmp_path


def _write(folder: Path, name: str, text: str) -> Path:
    path = folder / f"{name}.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def _refused(name: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_experiment(name)
    return str(caught.value)


SHIPPED_NAMES = sorted(path.stem for path in SHIPPED.glob("*.yaml"))


@pytest.mark.parametrize("name", SHIPPED_NAMES)
def test_shipped_experiments_parse(name: str) -> None:
    experiment = load_experiment(name)
    assert experiment.name == name
    assert experiment.description
    assert Experiment.model_validate(experiment.model_dump()) == experiment


def test_names_are_the_files_stems(folder: Path) -> None:
    assert experiment_names() == []
    for name in ("b", "a"):
        _write(folder, name, BASE)
    (folder / "notes.txt").write_text("")
    assert experiment_names() == ["a", "b"]


def test_a_listed_ablation_is_an_experiment(folder: Path) -> None:
    """All that the ablation's file says, and those that it extends, but the last."""
    _write(folder, "first", BASE + "seed: 1\nwarmup: {lora: {rank: 4}}\n")
    _write(folder, "no_search", "extends: first\ndescription: none\niterations: 0\nwarmup: {lora: {alpha: 7}}\n")
    _write(folder, "no_search_2", "extends: no_search\ndescription: two\nseed: 2\nscheduled: true\n")
    _write(folder, "mine", BASE + "seed: 3\nwarmup: {lora: {rank: 8}}\nablations: [no_search, no_search_2, dpo]\n")
    _write(folder, "mine__more", "extends: mine__no_search_2\nseed: 9\n")
    assert experiment_names() == [
        *(
            "first",
            "mine",
            "mine__dpo",
            "mine__more",
            "mine__no_search",
            "mine__no_search_2",
            "no_search",
            "no_search_2",
        )
    ]
    ones = [load_experiment(name) for name in ("mine__no_search", "mine__no_search_2", "mine__more")]
    assert [(e.seed, e.iterations, e.warmup.lora.rank, e.warmup.lora.alpha) for e in ones] == [
        *((3, 0, 8, 7), (2, 0, 8, 7), (9, 0, 8, 7))
    ]
    assert [(e.description, e.scheduled, e.ablations) for e in ones] == [
        ("mine - none", False, ()),
        ("mine - two", True, ()),
        ("", False, ()),
    ]
    assert load_experiment("mine__dpo").preference.loss.type == "dpo"


def test_a_file_goes_before_an_ablation_of_its_name(folder: Path) -> None:
    _write(folder, "mine", BASE + "ablations: [dpo]\n")
    _write(folder, "mine__dpo", "extends: mine\nseed: 5\n")
    assert experiment_names() == ["mine", "mine__dpo"]
    assert (load_experiment("mine__dpo").seed, load_experiment("mine__dpo").preference.loss.type) == (5, "simpo")


def test_an_ablation_that_cannot_be_is_named(folder: Path) -> None:
    mine = _write(folder, "mine", BASE + "ablations: [gone, mine, round]\n")
    _write(folder, "round", "extends: round\n")
    assert experiment_names() == ["mine", "mine__gone", "mine__mine", "mine__round", "round"]
    assert "gone.yaml: no such experiment" in _refused("mine__gone")
    assert "mine extends nothing, so it changes nothing" in _refused("mine__mine")
    assert "goes round in a circle" in _refused("mine__round")
    assert "no such experiment" in _refused("mine__else")
    mine.write_text("ablations: {")
    assert experiment_names() == ["mine", "round"]


def test_what_ships_is_there() -> None:
    assert {"demo", "bfcl_half", "toolace"} <= set(SHIPPED_NAMES) <= set(experiment_names())


def test_the_papers_settings_are_the_main_experiments() -> None:
    """App. B.1, Sections 3.2 and 4.1, and the values that the text lost."""
    e = load_experiment("toolace")
    assert isinstance(e.model, HubModel)
    assert isinstance(e.data, ToolAceData)
    assert (e.warmup.lora.rank, e.warmup.lora.alpha, e.warmup.optimizer.warmup_ratio) == (16, 32, 0.1)
    assert (e.replay_buffer.fraction, e.replay_buffer.top_fraction, e.replay_buffer.select_by) == (
        0.5,
        0.1,
        "perplexity",
    )
    assert (e.pairs.max_similarity, e.pairs.min_q_difference, e.pairs.min_chosen_q) == (0.95, 0.1, 0.3)
    assert isinstance(e.search, MctsConfig)
    assert e.search.self_evaluation == ExactGrades(weights=(1.0, 0.1, -1.0, -2.0))
    assert (e.preference.quantization, e.split.validation_fraction) == ("nf4", 0.1)
    assert e.warmup.optimizer.batch_size == e.preference.optimizer.batch_size == 1 * 8 * 8
    assert (e.preference.optimizer.learning_rate, e.preference.optimizer.epochs) == (1e-6, 2)
    assert (e.search.depth, e.search.width, e.search.iterations, e.search.simulation) == (3, 3, 5, 2)
    assert (e.search.temperature, e.search.c) == (1.5, 1.0)
    assert e.preference.loss == SimpoLoss(beta=2.5, gamma=0.5)
    assert e.iterations == 3
    d = e.split.difficulty
    assert (d.easy_max_tools, d.easy_below_chars, d.easy_max_calls) == (1, 1000, 1)
    assert (d.hard_min_tools, d.hard_above_chars, d.hard_min_calls) == (4, 2000, 4)


def test_a_minimal_file_gets_the_defaults(folder: Path) -> None:
    _write(folder, "small", BASE)
    e = load_experiment("small")
    assert e.model == WheelModel()
    assert isinstance(e.data, BfclHalfData)
    assert e.data.categories == BFCL_TRAINING
    assert (e.name, e.seed, e.scheduled, e.description) == ("small", 0, False, "")


def test_extends_merges_key_by_key(folder: Path) -> None:
    _write(folder, "top", BASE + "description: top\nscheduled: true\nseed: 7\nsearch: {depth: 5, width: 2}\n")
    _write(folder, "middle", "extends: top\nsearch: {width: 4}\ndata: {categories: [multiple, parallel]}\n")
    _write(folder, "leaf", "extends: middle\ndescription: leaf\nsearch: {c: 2}\ndata: {categories: [irrelevance]}\n")
    e = load_experiment("leaf")
    assert (e.search.depth, e.search.width, e.search.c, e.seed) == (5, 4, 2.0, 7)
    assert isinstance(e.data, BfclHalfData)
    assert e.data.categories == ("irrelevance",)  # a list is replaced, not joined
    assert (e.name, e.description, e.scheduled) == ("leaf", "leaf", False)
    middle = load_experiment("middle")
    assert (middle.description, middle.scheduled, middle.search.c) == ("", False, 1.0)
    assert load_experiment("top").scheduled


def test_a_search_names_its_type_or_is_the_papers(folder: Path) -> None:
    _write(folder, "plain", BASE + "search: {depth: 5}\n")
    _write(folder, "drawn", BASE + "search: {type: sampling, responses: 2, self_evaluation: {type: sampled}}\n")
    plain, drawn = load_experiment("plain").search, load_experiment("drawn").search
    assert plain == MctsConfig(depth=5)
    assert isinstance(drawn, SamplingConfig)
    assert (drawn.responses, drawn.self_evaluation) == (2, SampledGrades(type="sampled", samples=4))


def test_a_section_without_a_type_takes_that_of_the_file_it_extends(folder: Path) -> None:
    """And one that names a type goes on where none was named: what does not fit it is refused, not forgotten."""
    _write(folder, "top", BASE + "search: {type: sampling, temperature: 1.1}\n")
    _write(folder, "same", "extends: top\nsearch: {responses: 3}\n")
    search = load_experiment("same").search
    assert isinstance(search, SamplingConfig)
    assert (search.responses, search.temperature) == (3, 1.1)
    _write(folder, "unnamed", BASE + "search: {depth: 2, temperature: 1.1}\n")
    _write(folder, "deeper", "extends: unnamed\nsearch: {type: mcts, width: 2}\n")
    assert load_experiment("deeper").search == MctsConfig(depth=2, width=2, temperature=1.1)
    _write(folder, "other", "extends: unnamed\nsearch: {type: sampling}\n")
    assert "search.sampling.depth: Extra inputs are not permitted" in _refused("other")


def test_another_type_replaces_the_section(folder: Path) -> None:
    _write(folder, "top", BASE.replace("bfcl_half", "bfcl_half, categories: [multiple]") + "seed: 7\n")
    _write(folder, "other", "extends: top\ndata: {type: toolace, path: there.json}\n")
    e = load_experiment("other")
    assert isinstance(e.data, ToolAceData)
    assert (e.data.path, e.seed) == ("there.json", 7)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-6", 1e-6),
        ("5e-4", 5e-4),
        ("1E-6", 1e-6),
        ("+1e-6", 1e-6),
        ("1.5e-3", 1.5e-3),
        ("0.001", 1e-3),
        ("1e3", 1000.0),
        ("2", 2.0),
    ],
)
def test_numbers_are_numbers(folder: Path, text: str, value: float) -> None:
    _write(folder, "number", BASE + f"warmup: {{optimizer: {{learning_rate: {text}}}}}\n")
    assert load_experiment("number").warmup.optimizer.learning_rate == value


def test_names_that_look_like_numbers_stay_names(folder: Path) -> None:
    _write(folder, "hub", "model: {type: hub, name: 'x', revision: '1e6'}\ndata: {type: bfcl_half}\n")
    model = load_experiment("hub").model
    assert isinstance(model, HubModel)
    assert model.revision == "1e6"


@pytest.mark.parametrize(
    ("extra", "key", "reason"),
    [
        # unknown keys
        ("serch: {depth: 3}", "serch", "Extra inputs are not permitted"),
        ("search: {deep: 3}", "search.mcts.deep", "Extra inputs are not permitted"),
        ("search: {outcome: {right: 1}}", "search.mcts.outcome.right", "Extra inputs are not permitted"),
        # wrong types: nothing is converted
        ("search: {depth: '3'}", "search.mcts.depth", "valid integer"),
        ("search: {depth: 3.0}", "search.mcts.depth", "valid integer"),
        ("search: {depth: true}", "search.mcts.depth", "valid integer"),
        ("search: {c: high}", "search.mcts.c", "valid number"),
        ("search: [1]", "search", "valid dictionary"),
        ("scheduled: 1", "scheduled", "valid boolean"),
        ("search: {self_evaluation: {weights: [1, 2, 3]}}", "search.mcts.self_evaluation.exact.weights", "required"),
        # out of range
        ("search: {depth: 0}", "search.mcts.depth", "greater than or equal to 1"),
        ("search: {gamma: 1.5}", "search.mcts.gamma", "less than or equal to 1"),
        ("search: {simulation: -1}", "search.mcts.simulation", "greater than or equal to 0"),
        ("search: {temperature: 0}", "search.mcts.temperature", "greater than 0"),
        ("search: {terminators: ''}", "search.mcts.terminators", "at least 1 character"),
        ("search: {prior: mean}", "search.mcts.prior", "'geometric_mean' or 'product'"),
        ("search: {width: 5, samples: 4}", "search.mcts", "samples (4) must be at least width (5)"),
        ("search: {type: beam}", "search", "'mcts', 'sampling'"),
        ("search: {method: sampling}", "search", "the key method is called type now: {type: sampling}"),
        ("search: {type: sampling, responses: 1}", "search.sampling.responses", "greater than or equal to 2"),
        ("search: {self_evaluation: {type: mean}}", "search.mcts.self_evaluation", "'exact', 'sampled', 'none'"),
        ("search: {self_evaluation: {form: exact}}", "search.mcts.self_evaluation", "called type now: {type: exact}"),
        (
            "search: {self_evaluation: {type: sampled, samples: 0}}",
            "search.mcts.self_evaluation.sampled.samples",
            "greater than or equal to 1",
        ),
        # keys that mean nothing to what was chosen
        ("search: {type: sampling, depth: 3}", "search.sampling.depth", "Extra inputs are not permitted"),
        ("search: {responses: 4}", "search.mcts.responses", "Extra inputs are not permitted"),
        ("search: {self_evaluation: {samples: 4}}", "search.mcts.self_evaluation.exact.samples", "Extra inputs"),
        (
            "search: {self_evaluation: {type: none, weights: [1.0, 0.1, -1.0, -2.0]}}",
            "search.mcts.self_evaluation.none.weights",
            "Extra inputs",
        ),
        ("pairs: {per_node: some}", "pairs.per_node", "'extremes' or 'all'"),
        (
            "search: {type: sampling}\npairs: {per_node: all}",
            "experiment",
            "pairs.per_node compares by Q",
        ),
        ("search: {type: sampling}\npairs: {min_chosen_q: 0.0}", "experiment", "pairs.min_chosen_q compares by Q"),
        ("search: {type: sampling}\npairs: {min_q_difference: 0.2}", "experiment", "pairs.min_q_difference compares"),
        ("replay_buffer: {balance: by_tool}", "replay_buffer.balance", "'none', 'by_call' or 'by_mistake'"),
        (
            "warmup: {curriculum: hard_to_easy}",
            "warmup.curriculum",
            "'easy_to_hard', 'easy_to_medium', 'easy', 'mixed' or 'none'",
        ),
        ("iterations: 6", "iterations", "less than or equal to 5"),
        ("evaluation: {checkpoints: [iteration_9]}", "evaluation.checkpoints.0", "'base', 'warmup', 'iteration_1'"),
        ("evaluation: {checkpoints: []}", "evaluation.checkpoints", "at least 1 item"),
        (
            "iterations: 2\nevaluation: {checkpoints: [base, iteration_3]}",
            "experiment",
            "evaluation.checkpoints asks for iteration_3, and the experiment has 2 iterations",
        ),
        ("split: {train_fraction: 0.0}", "split.train_fraction", "greater than 0"),
        ("ablations: without_warmup", "ablations", "valid tuple"),
        ("seed: -1", "seed", "greater than or equal to 0"),
        ("replay_buffer: {fraction: 1.01}", "replay_buffer.fraction", "less than or equal to 1"),
        ("replay_buffer: {select_by: loss}", "replay_buffer.select_by", "'perplexity', 'random' or 'mistakes'"),
        ("preference: {loss: {type: ppo}}", "preference.loss", "'simpo', 'dpo', 'ipo', 'orpo', 'cpo'"),
        ("preference: {loss: {type: dpo, gamma: 0.5}}", "preference.loss.dpo.gamma", "Extra inputs are not permitted"),
        ("preference: {loss: {type: grpo, generations: 1}}", "preference.loss.grpo.generations", "equal to 2"),
        (
            "preference: {loss: {type: grpo, gamma: 0.5}}",
            "preference.loss.grpo.gamma",
            "Extra inputs are not permitted",
        ),
        ("preference: {loss: {type: grpo, budget: 0}}", "preference.loss.grpo.budget", "equal to 1"),
        ("preference: {loss: {type: grpo, budget: all}}", "preference.loss.grpo.budget", "'search'"),
        (
            "preference: {loss: {type: grpo, generations: 6}}",
            "preference",
            "optimizer.batch_size (8) counts completions and must be a multiple of loss.generations (6)",
        ),
        (
            "preference: {loss: {type: grpo}, gold_weight: 0.5}",
            "preference",
            "gold_weight stands beside pairs, which loss.type: grpo does not train on",
        ),
        (
            "preference: {loss: {type: rejection_sampling}, gold_weight: 0.5}",
            "preference",
            "gold_weight stands beside pairs, which loss.type: rejection_sampling does not train on",
        ),
        ("preference: {rehearse: true}", "preference", "rehearse is of gold answers, and gold_weight, which says"),
        (
            "preference: {loss: {type: grpo}, keep: most_right}",
            "preference",
            "keep means nothing to loss.type: grpo",
        ),
        ("preference: {loss: {type: orpo, reference: base}}", "preference.loss.orpo.reference", "Extra inputs"),
        ("preference: {loss: dpo, beta: 0.1}", "preference", "that mean something to it: loss: {type: dpo, beta: 0.1}"),
        ("preference: {gamma: 0.2}", "preference", "that mean something to it: loss: {type: simpo, gamma: 0.2}"),
        ("pairs: {max_pairs: 0}", "pairs.max_pairs", "greater than or equal to 1"),
        ("evaluation: {api_bank: {levels: [level_3]}}", "evaluation.api_bank.levels.0", "'level_1' or 'level_2'"),
        ("evaluation: {api_bank: {levels: []}}", "evaluation.api_bank.levels", "at least 1 item"),
        ("evaluation: {api_bank: {cases: 3}}", "evaluation.api_bank.cases", "Extra inputs are not permitted"),
        (
            "evaluation: {bfcl: {max_context_tokens: 256}}",
            "evaluation.bfcl",
            "max_context_tokens (256) must be larger than max_new_tokens (256)",
        ),
        ("warmup: {optimizer: {epochs: 2}}", "warmup.optimizer.learning_rate", "Field required"),
        ("compute: {processes: 0}", "compute.processes", "greater than or equal to 1"),
        ("compute: {sharding: ddp}", "compute.sharding", "'none' or 'fsdp'"),
        ("compute: {sharding: fsdp}", "compute", "set processes to how many, 2 or more"),
        ("compute: {processes: 4, gpus: 2}", "compute", "processes: 4 take a GPU each, and gpus asks a cluster for 2"),
        (
            "compute: {processes: 2, sharding: fsdp}",
            "experiment",
            "preference.quantization is nf4, which was never run with it; set preference.quantization: none",
        ),
        (
            "compute: {processes: 2}\npreference: {loss: {type: grpo}}",
            "experiment",
            "compute.processes above 1 is not for preference.loss.type: grpo",
        ),
    ],
)
def test_refused_with_file_key_and_reason(folder: Path, extra: str, key: str, reason: str) -> None:
    path = _write(folder, "wrong", BASE + extra + "\n")
    message = _refused("wrong")
    assert any(line.startswith(f"{path}: {key}") and reason in line for line in message.splitlines()), message


def test_what_is_wrong_with_the_whole_is_told_without_the_whole(folder: Path) -> None:
    _write(folder, "wrong", BASE + "search: {type: sampling}\npairs: {min_chosen_q: 0.1}\n")
    (line,) = _refused("wrong").splitlines()
    assert line.endswith("leave it out")


def test_all_problems_are_told_at_once(folder: Path) -> None:
    _write(folder, "wrong", BASE + "seed: -1\nsearch: {depth: 0, deep: 1}\n")
    lines = _refused("wrong").splitlines()
    assert len(lines) == 3
    assert all(": " in line and "(given: " in line for line in lines)


@pytest.mark.parametrize(
    ("text", "key", "reason"),
    [
        ("data: {type: bfcl_half}\n", "model", "Field required"),
        ("model: {type: smollm2_wheel}\n", "data", "Field required"),
        ("model: {type: gpt}\ndata: {type: bfcl_half}\n", "model", "'smollm2_wheel', 'hub'"),
        ("model: {type: hub}\ndata: {type: bfcl_half}\n", "model.hub.name", "Field required"),
        (
            "model: {type: smollm2_wheel}\ndata: {type: bfcl_half, categories: [java]}\n",
            "data.bfcl_half.categories",
            "Input should be 'simple_python'",
        ),
        (
            "model: {type: smollm2_wheel}\ndata: {type: bfcl_half, categories: []}\n",
            "data.bfcl_half.categories",
            "at least 1 item",
        ),
        (BASE + "name: other\n", "name", "remove the key"),
        (BASE + "extends: [a, b]\n", "extends", "must name one experiment"),
        (BASE + 'extends: ""\n', "extends", "'' is no experiment's name"),
        (BASE + "extends: ../demo\n", "extends", "'../demo' is no experiment's name"),
        (BASE + "extends: /etc/demo\n", "extends", "'/etc/demo' is no experiment's name"),
        (BASE + 'extends: "a\\0b"\n', "extends", "is no experiment's name"),
        (BASE + "search: &s {c: *s}\n", "", "an alias stands inside of what it stands for"),
        (BASE + f"seed: {'[' * 1000}\n", "", "nested more than"),
        (BASE + f"seed: {'9' * 5000}\n", "", "cannot be read as YAML"),
        ("- a\n- b\n", "", "must hold a mapping"),
        ("", "", "must hold a mapping"),
        ("model: {type\n  x: [\n", "", "cannot be read as YAML"),
        ("a: !!python/object:os.system x\n", "", "cannot be read as YAML"),
    ],
)
def test_files_that_cannot_be_experiments(folder: Path, text: str, key: str, reason: str) -> None:
    path = _write(folder, "wrong", text)
    message = _refused("wrong")
    assert message.startswith(f"{path}: {key}")
    assert reason in message


def test_bytes_that_are_no_text_are_refused(folder: Path) -> None:
    path = folder / "wrong.yaml"
    path.write_bytes(b"description: \xff\xfe\n")
    assert _refused("wrong").startswith(f"{path}: cannot be read as YAML")


def test_a_missing_file_names_what_there_is(folder: Path) -> None:
    assert _refused("nowhere") == f"{folder / 'nowhere.yaml'}: no such experiment; there are: none"
    _write(folder, "b", BASE)
    _write(folder, "a", BASE)
    assert _refused("nowhere").endswith("there are: a, b")
    _write(folder, "c", "extends: nowhere\n")
    expected = f"{folder / 'c.yaml'}: extends: {folder / 'nowhere.yaml'}: no such experiment"
    assert _refused("c").startswith(expected)


@pytest.mark.parametrize("length", [1, 2, 3])
def test_extends_in_a_circle_is_refused(folder: Path, length: int) -> None:
    for i in range(length):
        _write(folder, f"e{i}", f"extends: e{(i + 1) % length}\n")
    circle = " → ".join([*(f"e{i}" for i in range(length)), "e0"])
    assert f"extends: goes round in a circle: {circle}" in _refused("e0")


def test_experiments_are_frozen(folder: Path) -> None:
    _write(folder, "small", BASE)
    e = load_experiment("small")
    with pytest.raises(ValidationError, match="frozen"):
        setattr(e, "seed", 1)  # noqa: B010
    with pytest.raises(ValidationError, match="frozen"):
        setattr(e.search, "depth", 9)  # noqa: B010
    assert hash(e) == hash(load_experiment("small"))


def test_a_key_that_stands_twice_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ITOOL_EXPERIMENTS", str(tmp_path))
    (tmp_path / "twice.yaml").write_text("seed: 1\nmodel: {type: smollm2_wheel}\nseed: 2\n")
    with pytest.raises(ConfigError, match=r"twice\.yaml.*'seed' stands twice"):
        load_experiment("twice")


@pytest.mark.parametrize("value", [".inf", ".nan"])
def test_infinite_numbers_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("ITOOL_EXPERIMENTS", str(tmp_path))
    text = f"model: {{type: smollm2_wheel}}\ndata: {{type: bfcl_half}}\nsearch: {{c: {value}}}\n"
    (tmp_path / "odd.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"search\.mcts\.c"):
        load_experiment("odd")


@pytest.mark.parametrize("name", ["../outside", "a/b", "", ".hidden", "nul\0", "from...to"])
def test_a_way_to_elsewhere_is_no_name(folder: Path, name: str) -> None:
    (folder.parent / "outside.yaml").write_text(BASE)
    assert "is no experiment's name" in _refused(name)


def test_what_editors_and_other_systems_leave_is_no_experiment(folder: Path) -> None:
    """A lock of Emacs is a link to nowhere, and what macOS leaves on a shared disk no YAML."""
    _write(folder, "small", BASE)
    (folder / ".#small.yaml").symlink_to("me@here.1234")
    (folder / "._small.yaml").write_bytes(b"\x00\x05\x16\x07")
    assert experiment_names() == ["small"]


def test_a_name_may_hold_a_percent_sign(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _write(folder, "a%b", BASE)
    monkeypatch.setattr("sys.argv", ["itool_pipeline", "run", "--help"])
    with pytest.raises(SystemExit) as ended:
        command_line.main()
    assert (ended.value.code, "one of: a%b" in capsys.readouterr().out) == (0, True)


def test_a_folder_without_experiments_is_not_called_well(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ITOOL_EXPERIMENTS", "~/elsewhere")
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setattr("sys.argv", ["itool_pipeline", "check"])
    assert command_line.main() == 2
    said = capsys.readouterr()
    assert (said.out, said.err.count("No experiment is there")) == ("", 1)
    (folder / "elsewhere").mkdir()
    _write(folder / "elsewhere", "small", BASE)
    assert experiment_names() == ["small"]


def test_a_long_value_is_told_in_brief(folder: Path) -> None:
    _write(folder, "long", f"model: {{type: smollm2_wheel}}\ndata: {{type: bfcl_half}}\nseed: {'x' * 9999}\n")
    assert len(_refused("long")) < 600


SHIPPED_TEXTS = [path.read_text() for path in sorted(SHIPPED.glob("*.yaml"))]
ODD = (
    "\0",
    "&a",
    "*a",
    "<<: *a",
    "[",
    "]",
    "{",
    "}",
    "!!set",
    "? ",
    ": ",
    "- ",
    "~",
    "'",
    '"',
    "|",
    "1e999",
    "0x",
    "../",
    "\t",
)
EDITS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 10**6), st.sampled_from(ODD)), min_size=1, max_size=6)


def _edited(text: str, edits: list[tuple[int, int, str]]) -> str:
    """Lines dropped, doubled, swapped and indented, and odd pieces put anywhere."""
    for kind, at, odd in edits:
        lines = text.splitlines()
        i = at % max(len(lines), 1)
        if kind == 0 and lines:
            del lines[i]
        elif kind == 1 and lines:
            lines.insert(i, lines[i])
        elif kind == 2 and lines:
            lines[i], lines[0] = lines[0], lines[i]
        elif kind == 3 and lines:
            lines[i] = "  " + lines[i]
        else:
            whole = "\n".join(lines)
            place = at % (len(whole) + 1)
            lines = [whole[:place] + odd + whole[place:]]
        text = "\n".join(lines)
    return text


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.sampled_from(SHIPPED_TEXTS), edits=EDITS)
def test_whatever_stands_in_a_file_it_is_an_experiment_or_refused(
    folder: Path, text: str, edits: list[tuple[int, int, str]]
) -> None:
    path = _write(folder, "edited", _edited(text, edits))
    refused = ""
    try:
        assert load_experiment("edited").name == "edited"
    except ConfigError as error:
        refused = str(error)
    assert refused == "" or refused.startswith(str(path.parent))


@pytest.mark.parametrize(
    "extra",
    [
        "compute: {processes: 2}",
        "compute: {processes: 2, gpus: 2}",
        "compute: {processes: 2, gpus: 1, device: cpu}",
        "compute: {processes: 2, sharding: fsdp}\npreference: {quantization: none}",
        "compute: {processes: 2, sharding: fsdp}\niterations: 0",
        "compute: {processes: 2}\niterations: 0\npreference: {loss: {type: grpo}}",
    ],
)
def test_what_is_not_trained_in_4_bits_or_by_grpo_can_be_shared_out(folder: Path, extra: str) -> None:
    _write(folder, "shared", BASE + extra + "\n")
    assert load_experiment("shared").compute.processes == 2
