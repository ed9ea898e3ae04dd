"""A tokenizer.json as llama.cpp keeps it: tokens with their kinds, and the name of how text is cut before merging.

llama.cpp knows ways to cut text by name alone. One that has no name here is refused: with another, the same text
would become other tokens, and nothing would say so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from itool_pipeline.engines.model_config import ModelError

NORMAL, CONTROL, USER_DEFINED, UNUSED = 1, 3, 4, 5
"""Kinds of tokens in GGUF: of the merges; never text; added, but text; a row of the embeddings without a token."""

_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_WHOLE, _BYTES = ("ByteLevel", True), ("ByteLevel", False)

PRE_TOKENIZERS: dict[tuple[Any, ...], str] = {
    (_WHOLE,): "gpt-2",
    (("Digits", True), _WHOLE): "smollm",
    (("Split", _WORDS + r"\p{N}{1,3}" + _REST), _BYTES): "llama-bpe",
    (("Split", _WORDS + r"\p{N}" + _REST), _BYTES): "qwen2",
}
"""What a tokenizer does before merging → llama.cpp's name of it."""

_WITHOUT_MERGES = ("llama-bpe",)
"""Here llama.cpp takes a word that is a token as it is, whatever the merges would make of it."""
_NORMALIZED = ("qwen2",)
"""Models cut so are published with the normalisation NFC; llama.cpp has none, which only decomposed letters show."""


def pre_tokenizer(tokenizer: Mapping[str, Any]) -> str:
    """llama.cpp's name of how the tokenizer of this tokenizer.json cuts. Raises ModelError where there is none."""
    model, normalizer = tokenizer["model"], (tokenizer.get("normalizer") or {}).get("type")
    if model.get("type") != "BPE" or (tokenizer.get("decoder") or {}).get("type") != "ByteLevel":
        raise ModelError(f"its tokenizer is no byte-level BPE ({model.get('type')})")
    name = PRE_TOKENIZERS.get(_cuts(tokenizer.get("pre_tokenizer")))
    if name is None:
        raise ModelError("its tokenizer cuts text in a way that has no name here (pre_tokenizer of tokenizer.json)")
    if bool(model.get("ignore_merges")) != (name in _WITHOUT_MERGES):
        raise ModelError(f"its tokenizer cuts text as {name}, and differs from that in ignore_merges")
    if normalizer is not None and (normalizer, name) not in {("NFC", each) for each in _NORMALIZED}:
        raise ModelError(f"its tokenizer normalises text ({normalizer})")
    return name


def _cuts(stated: Mapping[str, Any] | None) -> tuple[Any, ...]:
    """What of a pre-tokenizer decides where it cuts."""
    parts = [] if stated is None else stated["pretokenizers"] if stated["type"] == "Sequence" else [stated]
    return tuple(_cut(part) for part in parts)


def _cut(part: Mapping[str, Any]) -> tuple[Any, ...]:
    if part["type"] == "ByteLevel" and not part["add_prefix_space"]:
        return "ByteLevel", part.get("use_regex", True)
    if part["type"] == "Digits":
        return "Digits", part["individual_digits"]
    if part["type"] == "Split" and part["behavior"] == "Isolated" and not part["invert"]:
        return "Split", part["pattern"].get("Regex")
    return part["type"], None


def tokens(tokenizer: Mapping[str, Any], size: int) -> tuple[list[str], list[int]]:
    """The text and the kind of each of the `size` rows of the embeddings.

    Raises ModelError when a token has no row, and for an added token that swallows what stands beside it.
    """
    texts, kinds = [f"[PAD{row}]" for row in range(size)], [UNUSED] * size
    added = {
        token["content"]: (token["id"], CONTROL if token["special"] else USER_DEFINED)
        for token in tokenizer["added_tokens"]
    }
    normal = {text: (row, NORMAL) for text, row in tokenizer["model"]["vocab"].items()}
    for text, (row, kind) in {**normal, **added}.items():
        if row >= size:
            raise ModelError(f"its token {row} ({text}) has none of the {size} rows of the embeddings")
        texts[row], kinds[row] = text, kind
    for token in tokenizer["added_tokens"]:
        if any(token[flag] for flag in ("lstrip", "rstrip", "single_word")):
            raise ModelError(f"its added token {token['content']} takes what stands beside it (lstrip, rstrip)")
    return texts, kinds
