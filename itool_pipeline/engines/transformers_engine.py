"""The engine on transformers: CPU or one GPU, prompts kept as KV (see core/policy.py for what is asked).

A request's answer does not depend on the others of its batch but for rounding: a row of a batch is one request, all of
its branches are columns of that row, and a mask says which columns each token sees.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from transformers.cache_utils import Cache

from itool_pipeline.core.fragments import FragmentRule
from itool_pipeline.core.policy import Fragment, PolicyInRounds, SampleRequest, ScoreRequest
from itool_pipeline.core.token_trie import ancestor_mask, pack_row
from itool_pipeline.engines.attention_masks import TokenView, seeing, use_attention
from itool_pipeline.engines.branches import Branch, draw_tokens
from itool_pipeline.engines.logits import decoder_of, logits_of
from itool_pipeline.engines.model import LoadedModel
from itool_pipeline.engines.tree_attention import NAME, PrefillCache, TreeCache
from itool_pipeline.engines.types import Engine, Sampling

_LOGIT_ROWS = 512
"""Rows of logits computed at once; a vocabulary of 128k in fp32 makes that 256 MiB."""


class TransformersEngine(PolicyInRounds, Engine):
    """Model and tokenizer on one device.

    end_token     stands at the end of a finished fragment, whichever token ended it; None for that token itself
    end_tokens    further tokens that end the turn
    batch_tokens  bound on prompt tokens of one forward pass
    cache_bytes   bound on the prompts' keys and values; the prompts used longest ago are dropped first
    """

    def __init__(
        self,
        loaded: LoadedModel,
        rule: FragmentRule,
        sampling: Sampling,
        *,
        end_token: int | None = None,
        end_tokens: frozenset[int] = frozenset(),
        batch_tokens: int = 8192,
        cache_bytes: int = 2 << 30,
    ) -> None:
        self._loaded = loaded
        self._model = loaded.model
        use_attention(self._model, NAME)
        self._tokenizer = loaded.tokenizer
        self._device = loaded.device
        self._rule, self._sampling = rule, sampling
        self._end_token = end_token
        self._end_tokens = end_tokens if end_token is None else end_tokens | {end_token}
        self._batch_tokens, self._cache_bytes = batch_tokens, cache_bytes
        self._prefixes: OrderedDict[tuple[int, ...], torch.Tensor] = OrderedDict()

    @torch.inference_mode()  # type: ignore[untyped-decorator]
    def score(self, requests: Sequence[ScoreRequest]) -> list[list[tuple[float, ...]]]:
        """Log-probabilities of each continuation's tokens. Raises ValueError for an empty prompt."""
        answers: list[list[tuple[float, ...]]] = [[] for _ in requests]
        for chunk in self._chunks([r.prompt for r in requests], [sum(map(len, r.continuations)) for r in requests]):
            for index, answer in zip(chunk, self._score([requests[i] for i in chunk]), strict=True):
                answers[index] = answer
        return answers

    @torch.inference_mode()  # type: ignore[untyped-decorator]
    def sample(self, requests: Sequence[SampleRequest]) -> list[list[Fragment]]:
        """`count` fragments for each request. Raises ValueError for an empty prompt."""
        answers: list[list[Fragment]] = [[] for _ in requests]
        costs = [len(r.response) + r.count * self._sampling.max_fragment_tokens for r in requests]
        for chunk in self._chunks([r.prompt for r in requests], costs):
            for index, answer in zip(chunk, self._sample([requests[i] for i in chunk]), strict=True):
                answers[index] = answer
        return answers

    def answer_each(
        self, prompts: Sequence[tuple[int, ...]], max_new_tokens: int
    ) -> Iterator[tuple[int, tuple[int, ...]]]:
        """The likeliest next token, again and again, for all prompts in one batch. Raises ValueError for an empty one.

        The end token is not part of the result, nor is the beginning of a character that the limit cuts in two. An
        answer is a fragment that no termination character ends. Rows are dropped as they finish, where transformers'
        `generate` computes all of them until the last is done.
        """
        greedy = TransformersEngine(
            self._loaded,
            FragmentRule(""),
            Sampling(temperature=1.0, top_k=1, max_fragment_tokens=max_new_tokens),
            end_token=self._end_token,
            end_tokens=self._end_tokens,
            batch_tokens=len(prompts) * (max(map(len, prompts), default=0) + max_new_tokens),
        )
        answers = greedy.sample([SampleRequest(prompt, (), "", 1, seed=0) for prompt in prompts])
        for number, (fragment,) in enumerate(answers):
            yield number, fragment.token_ids[:-1] if fragment.finished else fragment.token_ids

    def _chunks(self, prompts: Sequence[tuple[int, ...]], extra: Sequence[int]) -> Iterator[list[int]]:
        """Indices in batches of similar length, each within `batch_tokens` once padded.

        Shortest first, so that the row which decides whether the next still fits is always the next itself. What is
        too long alone is a batch of one: it is tried, and the memory decides.
        """
        order = sorted(range(len(prompts)), key=lambda i: (len(prompts[i]) + extra[i], i))
        chunk: list[int] = []
        for index in order:
            if not prompts[index]:
                raise ValueError("a prompt must have at least one token")
            longest = len(prompts[index]) + extra[index]
            if chunk and (len(chunk) + 1) * longest > self._batch_tokens:
                yield chunk
                chunk = []
            chunk.append(index)
        if chunk:
            yield chunk

    def _score(self, requests: Sequence[ScoreRequest]) -> list[list[tuple[float, ...]]]:
        # A continuation's last token predicts nothing that is asked for, so it is not computed.
        rows = [pack_row(r.prompt[-1:], [c[:-1] for c in r.continuations], len(r.prompt) - 1) for r in requests]
        width = max(len(row) for row in rows)
        tokens, positions = np.zeros((2, len(rows), width), dtype=np.int64)
        mask = np.zeros((len(rows), width, width), dtype=np.bool_)
        mask[:, np.arange(width), np.arange(width)] = True
        for i, row in enumerate(rows):
            tokens[i, : len(row)], positions[i, : len(row)] = row.tokens, row.positions
            mask[i, : len(row), : len(row)] |= ancestor_mask(row.parents)
        cache = TreeCache(self._prefix_kv([r.prompt for r in requests]), width)
        hidden = self._forward(cache, tokens, positions, torch.from_numpy(mask).to(self._device))
        wanted = [
            (i, int(at), token)
            for i, (request, row) in enumerate(zip(requests, rows, strict=True))
            for c, span in zip(request.continuations, row.spans, strict=True)
            for at, token in zip([0, *span], c, strict=True)
        ]
        values = iter(self._logprobs(hidden, wanted))
        return [[tuple(next(values) for _ in c) for c in request.continuations] for request in requests]

    def _logprobs(self, hidden: torch.Tensor, wanted: Sequence[tuple[int, int, int]]) -> list[float]:
        """Log-probability of each (row, column, token): the token after that column."""
        places = sorted({(row, column) for row, column, _ in wanted})
        slot = {place: i for i, place in enumerate(places)}
        by_slot: list[list[int]] = [[] for _ in places]
        for i, (row, column, _) in enumerate(wanted):
            by_slot[slot[row, column]].append(i)
        values = [0.0] * len(wanted)
        # The head is applied where something is asked for, each place once: continuations that share a beginning ask
        # several tokens of one place. In parts, because logits are as wide as the vocabulary.
        for start in range(0, len(places), _LOGIT_ROWS):
            part = places[start : start + _LOGIT_ROWS]
            rows, columns = (torch.tensor(axis, device=self._device) for axis in zip(*part, strict=True))
            logits = logits_of(self._model, hidden[rows, columns]).float()
            norms = logits.logsumexp(-1)
            members = [(k, i) for k in range(len(part)) for i in by_slot[start + k]]
            at = torch.tensor([k for k, _ in members], device=self._device)
            ids = torch.tensor([wanted[i][2] for _, i in members], device=self._device)
            for (_, i), value in zip(members, (logits[at, ids] - norms[at]).tolist(), strict=True):
                values[i] = value
        return values

    def _forward(self, cache: TreeCache, tokens: Any, positions: Any, mask: torch.Tensor) -> torch.Tensor:
        """Hidden states [B, Q, H] of query tokens [B, Q]; `mask` [B, Q, own columns so far] says what they see."""
        places = torch.as_tensor(positions, device=self._device)
        hidden = self._decode(tokens, cache.view(mask, places, int(positions.max()) + 1), cache)
        cache.advance(mask.shape[1])
        return hidden

    def _decode(self, tokens: Any, view: TokenView, cache: Cache) -> torch.Tensor:
        """Hidden states [B, Q, H] of the tokens [B, Q]; their keys and values go to `cache`."""
        with seeing(view, self._model) as attention_mask:
            result = decoder_of(self._model)(
                input_ids=torch.as_tensor(tokens, device=self._device),
                position_ids=view.positions,
                attention_mask=attention_mask,
                past_key_values=cache,
                use_cache=True,
            )
        hidden: torch.Tensor = result.last_hidden_state
        return hidden

    def _sample(self, requests: Sequence[SampleRequest]) -> list[list[Fragment]]:
        branches = [[Branch(request, uniforms) for uniforms in self._uniforms(request)] for request in requests]
        count = max(r.count for r in requests)
        # What all branches of a row share beyond the cached prompt: its last token, which was left out of the cache
        # because its output is wanted, and the response so far.
        chains = [(r.prompt[-1], *r.response) for r in requests]
        width = max(map(len, chains))
        limit = self._sampling.max_fragment_tokens
        # The last token of a fragment is drawn and never read, so `limit - 1` columns for each branch are enough.
        cache = TreeCache(self._prefix_kv([r.prompt for r in requests]), width + (limit - 1) * count)
        logits = self._chain_logits(cache, chains, [len(r.prompt) - 1 for r in requests], width)
        logits = logits[:, None].expand(-1, count, -1)
        first = np.array([[len(r.prompt) + len(r.response)] for r in requests])  # [B, 1], position of the first drawn
        # [B, Q, columns behind the prompt]: what each branch sees. At first the chain, the same for all of a row.
        seen = torch.zeros(len(requests), count, width, dtype=torch.bool, device=self._device)
        for row, chain in enumerate(chains):
            seen[row, :, : len(chain)] = True
        growing = [list(row) for row in branches]
        for step in range(limit):
            tokens = self._extend(growing, logits, step, limit)
            rows = [i for i, row in enumerate(growing) if any(not b.done for b in row)]
            if not rows or step + 1 == limit:
                break
            if len(rows) <= len(growing) // 2:  # dropping rows copies the cache, so not for every row
                # Done rows go from everything that has a row: branches, tokens, positions, mask and cache.
                growing, tokens, first = [growing[i] for i in rows], tokens[rows], first[rows]
                kept = torch.tensor(rows, device=self._device)
                seen = seen[kept]
                cache.keep_rows(kept)
            # Done branches go too: `columns` says for each that stays where it stood, and its token and its row of
            # `seen` are gathered from there. In the cache nothing moves; what nobody sees any more just stays.
            columns = _unfinished(growing)
            growing = [[b for b in row if not b.done] for row in growing]
            tokens = np.take_along_axis(tokens, columns, axis=1)
            at = torch.from_numpy(columns).to(self._device)
            own = torch.eye(columns.shape[1], dtype=torch.bool, device=self._device).expand(len(growing), -1, -1)
            # The tokens drawn now become Q new columns, and each branch sees its own of them.
            seen = torch.cat([seen.gather(1, at[:, :, None].expand(-1, -1, seen.shape[2])), own], dim=-1)
            hidden = self._forward(cache, tokens, np.broadcast_to(first + step, tokens.shape).copy(), seen)
            logits = self._logits(hidden)
        return [[branch.fragment(self._end_token) for branch in row] for row in branches]

    def _chain_logits(
        self, cache: TreeCache, chains: Sequence[tuple[int, ...]], offsets: Sequence[int], width: int
    ) -> torch.Tensor:
        """Logits [B, V] after the last token of each chain."""
        tokens = np.zeros((len(chains), width), dtype=np.int64)
        for row, chain in enumerate(chains):
            tokens[row, : len(chain)] = chain
        positions = np.array(offsets)[:, None] + np.arange(width)
        causal = torch.ones(width, width, dtype=torch.bool, device=self._device).tril()
        hidden = self._forward(cache, tokens, positions, causal.expand(len(chains), -1, -1))
        last = torch.tensor([len(chain) - 1 for chain in chains], device=self._device)
        return logits_of(self._model, hidden[torch.arange(len(chains), device=self._device), last]).float()

    def _logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """[B, Q, V] in fp32 for hidden states [B, Q, H]."""
        return logits_of(self._model, hidden.flatten(0, 1)).float().unflatten(0, hidden.shape[:2])

    def _extend(
        self, rows: Sequence[Sequence[Branch]], logits: torch.Tensor, step: int, limit: int
    ) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Draw one token for every unfinished branch from its column; [B, Q] ids, 0 where there is none to draw."""
        tokens = np.zeros(logits.shape[:2], dtype=np.int64)
        places = [(i, j) for i, row in enumerate(rows) for j, branch in enumerate(row) if not branch.done]
        if not places:
            return tokens
        uniforms = np.array([rows[i][j].uniforms[step] for i, j in places])
        at = tuple(torch.tensor(axis, device=self._device) for axis in zip(*places, strict=True))
        ids, logprobs = draw_tokens(logits[at], uniforms, self._sampling)
        for (i, j), token, logprob in zip(places, ids, logprobs, strict=True):
            tokens[i, j] = token
            rows[i][j].append(token, logprob, self._tokenizer, self._rule, self._end_tokens, step + 1 == limit)
        return tokens

    def _uniforms(self, request: SampleRequest) -> Any:
        """[count, max_fragment_tokens] numbers in [0, 1) that depend on the request's seed alone."""
        rng = np.random.Generator(np.random.Philox(key=request.seed))
        return rng.random((request.count, self._sampling.max_fragment_tokens))

    def _prefix_kv(self, prompts: Sequence[tuple[int, ...]]) -> list[torch.Tensor]:
        """Keys and values of each prompt but for its last token, from the cache or computed now.

        All prompts of one call are held until it ends, however many there are; the bound holds between calls.
        """
        missing = sorted({p for p in prompts if p not in self._prefixes}, key=lambda p: (len(p), p))
        sizes = [0] * len(missing)
        computed: dict[tuple[int, ...], torch.Tensor] = {}
        for chunk in self._chunks(missing, sizes):
            computed.update(self._prefill([missing[i] for i in chunk]))
        for prompt in prompts:  # taken out and put back at the end: the order is that of last use
            self._prefixes[prompt] = self._prefixes.pop(prompt) if prompt in self._prefixes else computed[prompt]
        found = [self._prefixes[prompt] for prompt in prompts]
        held = sum(p.nbytes for p in self._prefixes.values())
        while held > self._cache_bytes and self._prefixes:
            held -= self._prefixes.popitem(last=False)[1].nbytes
        return found

    def _prefill(self, prompts: Sequence[tuple[int, ...]]) -> dict[tuple[int, ...], torch.Tensor]:
        """[layers, 2, kv_heads, length - 1, d] for each prompt. Padding stands behind, unseen by causal attention."""
        width = max(max(map(len, prompts)) - 1, 1)
        tokens = np.zeros((len(prompts), width), dtype=np.int64)
        for row, prompt in enumerate(prompts):
            tokens[row, : len(prompt) - 1] = prompt[:-1]
        cache = PrefillCache()
        positions = torch.arange(width, device=self._device).expand(len(prompts), -1)
        self._decode(tokens, TokenView(None, positions, positions, width), cache)
        stacked = torch.stack(cache.collected)
        return {p: stacked[:, :, row, :, : len(p) - 1].clone() for row, p in enumerate(prompts)}


def _unfinished(rows: Sequence[Sequence[Branch]]) -> np.ndarray[Any, np.dtype[np.int64]]:
    """[B, Q]: in each row the columns of unfinished branches; column 0 fills up rows that have fewer than others."""
    columns = [[column for column, branch in enumerate(row) if not branch.done] for row in rows]
    filled = np.zeros((len(rows), max(map(len, columns))), dtype=np.int64)
    for row, found in enumerate(columns):
        filled[row, : len(found)] = found
    return filled
