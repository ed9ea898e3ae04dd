"""What a model's folder says of it, read before any weights are: which model it is, and whether it can be used."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from itool_pipeline.data.model_folder import read_config_json
from itool_pipeline.errors import ActionableError, words_for

_CONTEXT_KEYS = ("max_position_embeddings", "n_positions", "max_seq_len", "max_sequence_length")
_OWN_ROPE = ("longrope", "dynamic")
"""Rotary embeddings that turn all of a text's positions differently once it is longer than what they began with."""


class ModelError(ActionableError):
    """A model or an adapter cannot be loaded or used. The message says which, why, and what to do."""


@contextmanager
def refusing_what_is_unread(what: str, remedy: str = "save or fetch it again") -> Iterator[None]:
    """Raises ModelError for `what`, whatever transformers fails by inside; but what is wrong with the machine (no
    memory, no right, no descriptor) goes on as it is.

    transformers takes files as they are and looks at little of them itself, and tokenizers raises a bare Exception.
    """
    try:
        yield
    except Exception as error:
        if words_for(error) is not None:
            raise
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        what_to_do = "install the package that it needs" if isinstance(error, ImportError) else remedy
        raise ModelError(f"{what} ({reason}); {what_to_do}") from error


def read_model_config(directory: Path) -> Any:
    """transformers' config of the causal language model in `directory`.

    Raises FetchError when there is none, and ModelError when it is of something else: a quantised model, one with code
    of its own, an encoder with a decoder, one that also reads pictures.
    """
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig

    stated = read_config_json(directory)
    _refuse_foreign(directory, stated)
    name = model_class(stated)
    unread, remedy = f"{directory / 'config.json'} is no config that transformers reads", "save or fetch it again"
    if "auto_map" in stated:
        unread = f"{directory}: {name} is made by code of its own, and a model's code is never run"
        remedy = "take a model of a family that transformers has"
    with refusing_what_is_unread(unread, remedy):
        config = AutoConfig.from_pretrained(str(directory), local_files_only=True, trust_remote_code=False)
    if getattr(config, "is_encoder_decoder", False):
        raise ModelError(_not_causal(directory, name))
    if config.get_text_config(decoder=True) is not config:
        raise ModelError(
            f"{directory}: {name} reads more than text (its config has a model for text in it); "
            "take the family's model for text alone"
        )
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise ModelError(_not_causal(directory, name))
    return config


def _not_causal(directory: Path, name: str) -> str:
    return (
        f"{directory}: {name} is no causal language model (it does not go on with a text token by token); take one "
        "that is"
    )


def model_class(stated: dict[str, Any]) -> str:
    """The class that a config.json names, or the type that it states."""
    named = stated.get("architectures")
    return str(named[0]) if isinstance(named, list) and named else str(stated.get("model_type") or "the model")


def context_length(directory: Path) -> int | None:
    """Tokens that the model in `directory` can read at once, by its config.json; None when it states none.

    Where the rotary embedding turns with a text's length, what it began with: beyond that, what a token is in the
    cache would depend on how long the text has become since.
    """
    stated = read_config_json(directory)
    for section in (stated, stated.get("text_config")):
        if isinstance(section, dict):
            found: list[int] = [section[key] for key in _CONTEXT_KEYS if isinstance(section.get(key), int)]
            if found:
                return min([found[0], *_before_turning(section)])
    return None


def _before_turning(section: dict[str, Any]) -> list[int]:
    rope = section.get("rope_parameters") or section.get("rope_scaling")
    if not isinstance(rope, dict) or (rope.get("rope_type") or rope.get("type")) not in _OWN_ROPE:
        return []
    places = (rope, section)
    return [p["original_max_position_embeddings"] for p in places if p.get("original_max_position_embeddings")]


def _refuse_foreign(directory: Path, stated: dict[str, Any]) -> None:
    for key in ("quantization_config", "compression_config"):
        found = stated.get(key)
        if found:
            method = found.get("quant_method") if isinstance(found, dict) else None
            raise ModelError(
                f"{directory}: {model_class(stated)} is saved quantised ({key}: {method or 'of no stated kind'}), and "
                "an adapter cannot be merged into that; take the unquantised original. For training in 4 bits set "
                "preference.quantization to nf4"
            )


def end_tokens_of(configs: Iterable[Any], vocabulary: int) -> frozenset[int]:
    """The tokens below `vocabulary` that any of these configs of a model says end a text."""
    found: set[int] = set()
    for config in configs:
        stated = getattr(config, "eos_token_id", None)
        found |= set(stated if isinstance(stated, list | tuple) else [] if stated is None else [stated])
    return frozenset(token for token in found if 0 <= token < vocabulary)


def require_file(directory: Path, pattern: str, what: str) -> None:
    """Raise ModelError unless the directory of `what` holds a file of this pattern."""
    if not directory.is_dir():
        raise ModelError(f"{directory}: no such {what} directory")
    if not any(directory.glob(pattern)):
        raise ModelError(f"{directory}: not a complete {what}: it has no {pattern}; save it again as safetensors")
