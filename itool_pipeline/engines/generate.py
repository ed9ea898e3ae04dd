"""Greedy generation of whole responses, for scoring."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from itool_pipeline.engines.model import LoadedModel


@torch.inference_mode()  # type: ignore[untyped-decorator]
def generate_greedy(
    loaded: LoadedModel, prompts: Sequence[tuple[int, ...]], max_new_tokens: int, end_token: int
) -> list[tuple[int, ...]]:
    """The likeliest next token, again and again, for one batch of prompts; the end token is not part of the result."""
    width = max(map(len, prompts))
    tokens = torch.full((len(prompts), width), end_token, dtype=torch.long)
    mask = torch.zeros_like(tokens)
    for row, prompt in enumerate(prompts):
        tokens[row, width - len(prompt) :] = torch.tensor(prompt)
        mask[row, width - len(prompt) :] = 1
    output = loaded.model.generate(
        input_ids=tokens.to(loaded.device),
        attention_mask=mask.to(loaded.device),
        max_new_tokens=max_new_tokens,
        do_sample=False,
        temperature=None,
        top_k=None,
        top_p=None,
        eos_token_id=end_token,
        pad_token_id=end_token,
    )
    rows: list[list[int]] = output[:, width:].tolist()
    return [tuple(row[: row.index(end_token)] if end_token in row else row) for row in rows]
