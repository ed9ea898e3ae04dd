"""GGUF files of tiny random models. Oracle: transformers, which reads them back by code of its own."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import pytest
import torch
from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers
from tokenizers.decoders import ByteLevel
from tokenizers.models import BPE
from tokenizers.processors import TemplateProcessing
from tokenizers.trainers import BpeTrainer
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
)

from itool_pipeline.engines.exporting import GENERATION
from itool_pipeline.engines.gguf_file import write_gguf
from itool_pipeline.engines.gguf_vocabulary import CONTROL, NORMAL, PRE_TOKENIZERS, UNUSED, USER_DEFINED
from itool_pipeline.engines.model_config import ModelError

GGUF = "model.gguf"
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}<|im_start|>assistant\n"
)
SIZES = {
    **{"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "max_position_embeddings": 512},
    **{"num_attention_heads": 4, "num_key_value_heads": 2, "rms_norm_eps": 1e-5, "vocab_size": 350},
    **{"rope_parameters": {"rope_type": "default", "rope_theta": 50000.0}, "bos_token_id": 1, "eos_token_id": 2},
}
LLAMA3 = {
    **{"rope_type": "llama3", "rope_theta": 50000.0, "factor": 8.0, "low_freq_factor": 1.0},
    **{"high_freq_factor": 4.0, "original_max_position_embeddings": 64},
}
CONFIGS = {"llama": LlamaConfig, "qwen2": Qwen2Config, "qwen3": Qwen3Config}
UNREAD = {"attention_bias": True, "head_dim": 32}
"""Settings that transformers does not read from a GGUF file of these, and must be told."""

TEXTS = [
    "<|im_start|>user\nWhat's 12345 + 6.7?<|im_end|>\n<|im_start|>assistant\n[add(a=12345, b=6.7)]<|im_end|>",
    "  two  spaces\n\n\ttabs, 'RE and I'LL, don't; ça va? Ünï 日本語 🚀\u200d🌫️ x²+3½ <tool_call>{}</tool_call>",
    "",
]


def byte_level_bpe() -> Any:
    """A tokenizer of 340 tokens, learnt from the texts; 341 with one that is added."""
    backend = Tokenizer(BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    backend.train_from_iterator(
        TEXTS * 3, BpeTrainer(vocab_size=340, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False)
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token=SPECIAL[1], eos_token=SPECIAL[2], chat_template=TEMPLATE
    )
    tokenizer.add_tokens(["<tool_call>"])
    assert len(tokenizer) == 341
    return tokenizer


def saved(folder: Path, kind: str, dtype: torch.dtype = torch.float32, **settings: Any) -> Path:
    """A random model in `folder`, with all that an export holds of it and of its tokenizer."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(CONFIGS[kind](**{**SIZES, **settings}))
        for weights in model.parameters():
            torch.nn.init.normal_(weights, 0.5 if weights.dim() == 1 else 0.0, 0.2)
    model.to(dtype).save_pretrained(folder)
    byte_level_bpe().save_pretrained(folder)
    (folder / GENERATION).write_text(json.dumps({"eos_token_id": [2, 0]}))
    return folder


@pytest.fixture
def llama(tmp_path: Path) -> Path:
    return saved(tmp_path / "llama", "llama")


def alone(folder: Path) -> Path:
    """A folder with nothing but the GGUF file of the model in `folder`, so that nothing else can be read."""
    place = folder.parent / f"{folder.name}.alone"
    place.mkdir()
    write_gguf(folder, "a name", place / GGUF)
    return place


def fields(folder: Path) -> dict[str, Any]:
    return {key: field.contents() for key, field in gguf.GGUFReader(alone(folder) / GGUF).fields.items()}


def edit(file: Path, **changes: Any) -> None:
    content = json.loads(file.read_text())
    file.write_text(json.dumps({**content, **changes}))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("llama", {"tie_word_embeddings": True}),
        ("llama", {"tie_word_embeddings": False, "attention_bias": True, "head_dim": 32}),
        ("qwen2", {"tie_word_embeddings": True}),
        ("qwen3", {"tie_word_embeddings": False, "head_dim": 32}),
    ],
)
def test_transformers_reads_the_same_weights(
    kind: str, settings: dict[str, Any], dtype: torch.dtype, tmp_path: Path
) -> None:
    """Bit for bit, and so the logits too."""
    folder = saved(tmp_path / kind, kind, dtype, **settings)
    ours = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
    told = {key: value for key, value in settings.items() if key in UNREAD}
    back = AutoModelForCausalLM.from_pretrained(alone(folder), gguf_file=GGUF, dtype=dtype, **told)
    weights, found = ours.state_dict(), back.state_dict()
    assert found.keys() == weights.keys()
    assert all(torch.equal(found[key], weights[key]) for key in weights)
    ids = torch.tensor([[1, 300, 7, 339, 3, 2]])
    with torch.no_grad():
        assert torch.equal(back(ids).logits, ours(ids).logits)


def test_it_says_its_dtype_and_the_size_of_a_head_and_has_norms_in_fp32(tmp_path: Path) -> None:
    """As llama.cpp wants them: it would multiply no norm in another dtype."""
    reader = gguf.GGUFReader(alone(saved(tmp_path / "qwen3", "qwen3", torch.bfloat16, head_dim=32)) / GGUF)
    kinds = {tensor.name: tensor.tensor_type for tensor in reader.tensors}
    norms = {name for name in kinds if "norm" in name}
    assert len(norms) == 1 + 4 * 2, "two layers"
    assert {kinds[name] for name in norms} == {gguf.GGMLQuantizationType.F32}
    assert {kinds[name] for name in kinds.keys() - norms} == {gguf.GGMLQuantizationType.BF16}
    stated = {key: reader.fields[key].contents() for key in reader.fields}
    assert stated["general.file_type"] == gguf.LlamaFileType.MOSTLY_BF16
    sizes = ("attention.key_length", "attention.value_length", "rope.dimension_count")
    assert [stated[f"qwen3.{size}"] for size in sizes] == [32] * 3


def test_a_model_in_several_files_is_one_file(tmp_path: Path) -> None:
    folder = saved(tmp_path / "llama", "llama")
    model = AutoModelForCausalLM.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="100KB")
    assert len(list(folder.glob("*.safetensors"))) > 1
    back = AutoModelForCausalLM.from_pretrained(alone(folder), gguf_file=GGUF, dtype=torch.float32)
    assert all(torch.equal(weights, model.state_dict()[key]) for key, weights in back.state_dict().items())


def test_frequencies_of_llama_3_are_those_of_transformers(tmp_path: Path) -> None:
    """llama.cpp divides the plain frequencies by what stands in the file."""
    plain = AutoModelForCausalLM.from_config(LlamaConfig(**SIZES)).model.rotary_emb.inv_freq
    folder = saved(tmp_path / "llama", "llama", rope_parameters=LLAMA3)
    tensors = gguf.GGUFReader(alone(folder) / GGUF).tensors
    [factors] = [tensor.data for tensor in tensors if tensor.name == "rope_freqs.weight"]
    theirs = AutoModelForCausalLM.from_pretrained(folder).model.rotary_emb.inv_freq
    assert not torch.allclose(theirs, plain)
    assert torch.allclose(plain / torch.tensor(factors), theirs, rtol=1e-6)


def cut_as(folder: Path, name: str) -> Any:
    """Have the tokenizer in `folder` cut as models do that llama.cpp names so; that tokenizer."""
    [parts] = [parts for parts, known in PRE_TOKENIZERS.items() if known == name]
    cuts: dict[str, Callable[[Any], Any]] = {
        "ByteLevel": lambda regex: pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=regex),
        "Digits": lambda single: pre_tokenizers.Digits(individual_digits=single),
        "Split": lambda pattern: pre_tokenizers.Split(Regex(pattern), "isolated"),
    }
    tokenizer = AutoTokenizer.from_pretrained(folder)
    backend = tokenizer.backend_tokenizer
    backend.pre_tokenizer = pre_tokenizers.Sequence([cuts[kind](setting) for kind, setting in parts])
    backend.normalizer = normalizers.NFC() if name == "qwen2" else None
    backend.model.ignore_merges = name == "llama-bpe"
    tokenizer.save_pretrained(folder)
    return tokenizer


@pytest.mark.parametrize("name", PRE_TOKENIZERS.values())
def test_transformers_reads_the_same_tokenizer(name: str, llama: Path) -> None:
    tokenizer = cut_as(llama, name)
    back = AutoTokenizer.from_pretrained(alone(llama), gguf_file=GGUF)
    if name == "smollm":  # which transformers takes for gpt-2's
        back.backend_tokenizer.pre_tokenizer = tokenizer.backend_tokenizer.pre_tokenizer
    chat = tokenizer.apply_chat_template([{"role": "user", "content": TEXTS[1]}], tokenize=False)
    for text in (*TEXTS, chat):
        assert back(text).input_ids == tokenizer(text).input_ids
    assert back.chat_template == TEMPLATE
    assert (back.bos_token_id, back.eos_token_id) == (1, 2)


def test_settings_say_what_ends_an_answer_and_that_it_is_greedy(llama: Path) -> None:
    found = fields(llama)
    assert [found[f"tokenizer.ggml.{end}_token_id"] for end in ("eos", "eot")] == [2, 0]
    assert found["general.sampling.temp"] == 0.0
    assert (found["general.name"], found["tokenizer.ggml.pre"]) == ("a name", "gpt-2")
    tokens, kinds = found["tokenizer.ggml.tokens"], found["tokenizer.ggml.token_type"]
    assert [kinds[row] for row in (2, 300, 340, 341)] == [CONTROL, NORMAL, USER_DEFINED, UNUSED]
    assert (tokens[2], tokens[340]) == ("<|im_end|>", "<tool_call>")
    assert not found["tokenizer.ggml.add_eos_token"]
    assert len(tokens) == len(kinds) == SIZES["vocab_size"]


@pytest.mark.parametrize("adds", [True, False])
def test_a_first_token_is_added_where_the_tokenizer_adds_one(adds: bool, llama: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(llama)
    start = tokenizer.bos_token
    if adds:
        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
            single=f"{start} $A", pair=f"{start} $A $B", special_tokens=[(start, 1)]
        )
        tokenizer.save_pretrained(llama)
    assert tokenizer("").input_ids == [1] * adds
    back = AutoTokenizer.from_pretrained(alone(llama), gguf_file=GGUF)
    assert back("a").input_ids == tokenizer("a").input_ids


def test_a_tokenizer_that_adds_more_is_refused(llama: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(llama)
    end = tokenizer.eos_token
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"$A {end}", pair=f"$A $B {end}", special_tokens=[(end, 2)]
    )
    tokenizer.save_pretrained(llama)
    with pytest.raises(ModelError, match=r"adds \['<\|im_end\|>'\] to every text"):
        alone(llama)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model_type": "mistral"}, "its architecture is mistral, and known are llama, qwen2, qwen3"),
        ({"rope_parameters": {**LLAMA3, "rope_type": "linear"}}, "scaled by linear"),
        ({"hidden_act": "gelu"}, "another activation than SiLU"),
        ({"vocab_size": 330}, r"its token 33\d .* has none of the 330 rows"),
    ],
)
def test_models_that_are_not_written_are_refused(changes: dict[str, Any], said: str, llama: Path) -> None:
    edit(llama / "config.json", **changes)
    with pytest.raises(ModelError, match=said) as raised:
        write_gguf(llama, "a name", llama / GGUF)
    assert f"python convert_hf_to_gguf.py {llama}" in str(raised.value)
    assert not (llama / GGUF).exists()


def test_more_ends_than_can_be_said_are_refused(llama: Path) -> None:
    edit(llama / GENERATION, eos_token_id=[2, 0, 3, 4])
    with pytest.raises(ModelError, match="4 tokens end its answers, and GGUF names 3"):
        write_gguf(llama, "a name", llama / GGUF)
