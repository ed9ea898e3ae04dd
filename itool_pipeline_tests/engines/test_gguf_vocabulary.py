"""Which tokenizers have a name in llama.cpp, and which have none."""

from __future__ import annotations

from typing import Any

import pytest

from itool_pipeline.engines.gguf_vocabulary import pre_tokenizer, tokens
from itool_pipeline.engines.model_config import ModelError

BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
BARE_BYTES = {**BYTES, "use_regex": False}
DIGITS = {"type": "Digits", "individual_digits": True}
LLAMA_3: dict[str, Any] = {
    **{"type": "Split", "behavior": "Isolated", "invert": False},
    "pattern": {
        "Regex": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|"
        r"\s*[\r\n]+|\s+(?!\S)|\s+"
    },
}
"""As in the published tokenizer.json; Qwen 2's and 3's has one digit where this has up to three."""
QWEN = {**LLAMA_3, "pattern": {"Regex": LLAMA_3["pattern"]["Regex"].replace(r"\p{N}{1,3}", r"\p{N}")}}


def tokenizer(**changes: Any) -> dict[str, Any]:
    """A tokenizer.json of four tokens that cuts as GPT-2's does."""
    return {
        "normalizer": None,
        "pre_tokenizer": BYTES,
        "decoder": {"type": "ByteLevel"},
        "added_tokens": [added("<end>", 3)],
        "model": {"type": "BPE", "ignore_merges": False, "vocab": {"a": 0, "b": 1, "ab": 2, "<end>": 3}},
        **changes,
    }


def added(content: str, row: int, **flags: bool) -> dict[str, Any]:
    return {
        **{"content": content, "id": row, "special": True},
        **{"lstrip": False, "rstrip": False, "single_word": False, **flags},
    }


def in_turn(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"type": "Sequence", "pretokenizers": list(parts)}


def test_names_of_published_tokenizers() -> None:
    """By hand: GPT-2's; SmolLM2's, whose digits are words of their own; Llama 3's; Qwen 2's and 3's."""
    assert pre_tokenizer(tokenizer()) == "gpt-2"
    assert pre_tokenizer(tokenizer(pre_tokenizer=in_turn(DIGITS, BYTES))) == "smollm"
    without_merges = {**tokenizer()["model"], "ignore_merges": True}
    assert pre_tokenizer(tokenizer(pre_tokenizer=in_turn(LLAMA_3, BARE_BYTES), model=without_merges)) == "llama-bpe"
    nfc = {"type": "NFC"}
    assert pre_tokenizer(tokenizer(pre_tokenizer=in_turn(QWEN, BARE_BYTES), normalizer=nfc)) == "qwen2"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"pre_tokenizer": None}, "cuts text in a way that has no name here"),
        ({"pre_tokenizer": in_turn(BYTES, DIGITS)}, "cuts text in a way that has no name here"),
        ({"pre_tokenizer": {**BYTES, "add_prefix_space": True}}, "cuts text in a way that has no name here"),
        ({"pre_tokenizer": in_turn({**DIGITS, "individual_digits": False}, BYTES)}, "has no name here"),
        ({"pre_tokenizer": in_turn({**LLAMA_3, "invert": True}, BARE_BYTES)}, "has no name here"),
        ({"pre_tokenizer": in_turn({**LLAMA_3, "behavior": "Removed"}, BARE_BYTES)}, "has no name here"),
        ({"normalizer": {"type": "NFC"}}, r"normalises text \(NFC\)"),
        (
            {"pre_tokenizer": in_turn(QWEN, BARE_BYTES), "normalizer": {"type": "NFKC"}},
            r"normalises text \(NFKC\)",
        ),
        ({"model": {"type": "BPE", "ignore_merges": True}}, "cuts text as gpt-2, and differs from that in ignore_merg"),
        ({"model": {"type": "Unigram"}}, r"is no byte-level BPE \(Unigram\)"),
        ({"decoder": {"type": "Sequence"}}, "is no byte-level BPE"),
    ],
)
def test_without_a_name_it_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ModelError, match=said):
        pre_tokenizer(tokenizer(**changes))


def test_rows_without_a_token_are_filled() -> None:
    more = tokenizer(added_tokens=[added("<end>", 3), added("<call>", 4, special=False)])
    assert tokens(more, 6) == (["a", "b", "ab", "<end>", "<call>", "[PAD5]"], [1, 1, 1, 3, 4, 5])


def test_a_token_without_a_row_is_refused() -> None:
    with pytest.raises(ModelError, match=r"its token 3 \(<end>\) has none of the 3 rows"):
        tokens(tokenizer(), 3)


@pytest.mark.parametrize("flag", ["lstrip", "rstrip", "single_word"])
def test_a_token_that_takes_more_than_itself_is_refused(flag: str) -> None:
    with pytest.raises(ModelError, match="its added token <end> takes what stands beside it"):
        tokens(tokenizer(added_tokens=[added("<end>", 3, **{flag: True})]), 4)
