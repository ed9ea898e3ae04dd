"""What the benches compute on: the embedded model, the demo's questions, and a stand-in for its warm-up.

Everything but the search is read of the demo's experiment, so that a bench changes with it. The base model never calls,
and its trees would be dull: a short training on some of the demo's examples, once for a storage, makes it call.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from itool_pipeline.config import BfclConfig, ComputeConfig, Experiment, MctsConfig, OptimizerConfig, WheelModel
from itool_pipeline.core.fragments import FragmentRule
from itool_pipeline.core.reward import SearchProblem
from itool_pipeline.core.types import Example
from itool_pipeline.data import base_model
from itool_pipeline.data.base_model import base_model_path, prepare_base_model
from itool_pipeline.data.sources import load_data
from itool_pipeline.data.wheels import BFCL, SMOLLM2
from itool_pipeline.engines.chat import Chat
from itool_pipeline.engines.model import LoadedModel, load_model, load_tokenizer
from itool_pipeline.engines.types import Sampling
from itool_pipeline.experiment_files import load_experiment
from itool_pipeline.files.durable import write_whole
from itool_pipeline.steps.example_files import (
    read_examples,
    read_problems,
    read_prompts,
    read_response_tokens,
    training_row,
    write_training_examples,
)
from itool_pipeline.store.paths import storage_paths
from itool_pipeline.training.items import SftItem, TrainingData
from itool_pipeline.training.lora import fresh_adapter
from itool_pipeline.training.sft import SFT
from itool_pipeline.training.trainer import Folders, train_adapter
from itool_pipeline_tests.bench.machine import Dtype

STAND_IN_EXAMPLES = 64
"""What the stand-in is trained on: an epoch of it takes a minute or two, and after it the model calls."""


def bench_folder() -> Path:
    """Where rows, logs and the stand-in are kept."""
    return storage_paths().root / "bench"


def compute_config(dtype: Dtype) -> ComputeConfig:
    """The demo's compute section, on the CPU in the dtype that the bench has chosen."""
    return load_experiment("demo").compute.model_copy(update={"device": "cpu", "dtype": dtype})


def base_directory() -> Path:
    """The embedded model as transformers loads it, converted when it is not there yet."""
    code = hashlib.sha256(Path(base_model.__file__).read_bytes()).hexdigest()
    directory = bench_folder() / f"base_model.{SMOLLM2.sha256[:12]}.{code[:12]}"
    if not directory.exists():
        downloads = storage_paths().downloads
        write_whole(directory, lambda path: prepare_base_model(WheelModel(), downloads, path), alone=True)
    return base_model_path(directory)


@dataclass(frozen=True)
class Workload:
    """The demo's experiment, and its training examples with their token ids in a file of the step `examples`.

    names  the examples' ids, in a fixed order in which categories are mixed
    """

    experiment: Experiment
    file: Path
    names: tuple[str, ...]

    @property
    def search(self) -> MctsConfig:
        """The demo's search."""
        assert isinstance(self.experiment.search, MctsConfig)
        return self.experiment.search

    @property
    def scoring(self) -> BfclConfig:
        """How the demo answers BFCL's cases."""
        assert self.experiment.evaluation.bfcl is not None
        return self.experiment.evaluation.bfcl

    @property
    def rule(self) -> FragmentRule:
        """Where the demo's fragments end."""
        return FragmentRule(self.search.terminators)

    @property
    def sampling(self) -> Sampling:
        """How the demo's fragments are drawn."""
        s = self.search
        return Sampling(s.temperature, s.top_k, s.top_p, s.max_fragment_tokens)

    def problems(self, count: int) -> list[SearchProblem]:
        """So many examples to search, none of which the stand-in is trained on.

        All of them want calls, as nearly all do that the demo finds hardest. Where more are asked for than there are,
        they come again, as others: see `_again`.
        """
        names = [example.id for example in self.examples()[STAND_IN_EXAMPLES:] if example.gold]
        wanted = [(names[number % len(names)], number // len(names)) for number in range(count)]
        found = {problem.example.id: problem for problem in read_problems(self.file, {name for name, _ in wanted})}
        return [_again(found[name], again) if again else found[name] for name, again in wanted]

    def examples(self) -> list[Example]:
        """All examples, in the order of `names`."""
        found = {example.id: example for example in read_examples(self.file)}
        return [found[name] for name in self.names]

    def prompts(self, names: Sequence[str]) -> list[tuple[int, ...]]:
        """Token ids of these examples' prompts."""
        found = read_prompts(self.file, set(names))
        return [found[name] for name in names]

    def chat(self) -> Chat:
        """The chat template of the demo's model."""
        return _chat(self.experiment)

    def sft_items(self, count: int) -> list[SftItem]:
        """The first `count` examples to train on."""
        names = self.names[:count]
        found = {tokens.id: tokens for tokens in read_response_tokens(self.file, set(names))}
        return [SftItem(name, found[name].prompt, found[name].response) for name in names]


def _again(problem: SearchProblem, number: int) -> SearchProblem:
    """Another tree of the same question: its random numbers are others, and nothing of its prompts is known already."""
    example = replace(problem.example, id=f"{problem.example.id}#{number}")
    grade = replace(problem.grade, before=(number, *problem.grade.before))
    return SearchProblem(example, (number, *problem.prompt), grade)


def bench_experiment() -> Experiment:
    """The demo's data, searched and paired by the paper: of the demo's own, guided search little is left to compute."""
    paper = load_experiment("bfcl_half")
    search = paper.search.model_copy(update={"max_fragment_tokens": 16, "max_response_tokens": 128})
    return load_experiment("demo").model_copy(update={"search": search, "pairs": paper.pairs})


def load_workload() -> Workload:
    """The demo's examples, read of the benchmark and tokenised when the storage does not have them yet."""
    experiment = bench_experiment()
    made_of = repr((experiment.data, experiment.seed, experiment.prompt, SMOLLM2.sha256, BFCL.sha256)).encode()
    file = bench_folder() / f"examples.{hashlib.sha256(made_of).hexdigest()[:12]}.parquet"
    if not file.exists():
        write_whole(file, lambda path: _write_examples(path, experiment), alone=True)
    names = [example.id for example in read_examples(file)]
    return Workload(experiment, file, tuple(sorted(names, key=lambda name: hashlib.sha256(name.encode()).digest())))


def _write_examples(path: Path, experiment: Experiment) -> None:
    chat = _chat(experiment)
    data = load_data(
        experiment.data,
        storage_paths().downloads,
        experiment.seed,
        token_count=lambda example: len(chat.prompt(example)),
    )
    rows = (
        training_row(x, chat.prompt(x), chat.response(x.response), chat.grade(x), tokenised_alone=False)
        for x in data.train
    )
    write_training_examples(path, rows)


def _chat(experiment: Experiment) -> Chat:
    return Chat(load_tokenizer(base_directory()), experiment.prompt.tools)


def stand_in(workload: Workload) -> Path:
    """The adapter that stands for the warm-up, trained when the storage has none of these settings and examples."""
    items, lora = workload.sft_items(STAND_IN_EXAMPLES), workload.experiment.warmup.lora
    optimizer = workload.experiment.warmup.optimizer.model_copy(update={"epochs": 1})
    made_of = repr((items, lora, optimizer, SMOLLM2.sha256)).encode()
    directory = bench_folder() / f"stand_in.{hashlib.sha256(made_of).hexdigest()[:12]}"
    if not directory.exists():
        print(f"training a stand-in for the warm-up on {len(items)} examples, once", flush=True)
        model = fresh_adapter(load_model(base_directory(), compute_config("float32")).model, lora, 0)
        with tempfile.TemporaryDirectory() as parts:
            folders = Folders(Path(parts), directory)
            train_adapter(model, TrainingData(items), SFT, without_checkpoints(optimizer), 0, folders)
    return directory


def without_checkpoints(optimizer: OptimizerConfig) -> OptimizerConfig:
    """The same training, without stops for checkpoints and validations."""
    return optimizer.model_copy(update={"checkpoint_every": 10**9, "validate_every": 10**9})


def policy_model(adapter: Path, dtype: Dtype) -> LoadedModel:
    """The embedded model with the stand-in merged into it, as the search loads its policy."""
    return load_model(base_directory(), compute_config(dtype), adapter=adapter, merge=True)
