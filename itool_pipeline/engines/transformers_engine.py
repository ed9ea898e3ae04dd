"""The engine on transformers: CPU or one GPU, the keys and values of prompts and paths kept (see core/policy.py).

Each pass over the weights takes what all requests under way need next: prompts that are new, the columns of paths that
go on, the closing words of grades. Nothing is padded, nothing waits for a round to end, and as a task ends the next
begins. An answer does not depend on what was computed beside it: on a CPU not by a bit (see `SlotPass`), elsewhere but
for rounding.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate

import numpy as np
import torch
from torch import Tensor

from itool_pipeline.core.fragments import FragmentRule
from itool_pipeline.core.policy import T, Task
from itool_pipeline.engines.attention_masks import seeing, use_attention
from itool_pipeline.engines.branches import Branch, draw_tokens
from itool_pipeline.engines.drawing import Drawing, whole_answer
from itool_pipeline.engines.logits import decoder_of, logits_of
from itool_pipeline.engines.model import LoadedModel
from itool_pipeline.engines.prompt_slots import CPU_LAYOUT, GPU_LAYOUT, PromptSlot, SlotStore
from itool_pipeline.engines.requests_under_way import UnderWay
from itool_pipeline.engines.serving import TaskQueue
from itool_pipeline.engines.slot_attention import NAME, ShapeProbe, SlotPass, SlotTokens, WholeSlotPass
from itool_pipeline.engines.types import Engine, Sampling

_LOGIT_ROWS = 512
"""Rows of logits computed at once; a vocabulary of 128k in fp32 makes that 256 MiB."""
_LEAST_ROWS = 16
"""Rows of a matrix product on a CPU, for each two threads: with fewer, products round in another way."""


class TransformersEngine(Engine):
    """Model and tokenizer on one device.

    end_token     stands at the end of a finished fragment, whichever token ended it; None for that token itself
    end_tokens    further tokens that end the turn
    batch_tokens  bound on tokens of one forward pass; a single request may need more
    cache_bytes   bound on the keys and values of prompts and paths, and so on how many tasks are under way at once
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
        self._model, self._device = loaded.model, loaded.device
        use_attention(self._model, NAME)
        ends = end_tokens if end_token is None else end_tokens | {end_token}
        self._drawing = Drawing(loaded.tokenizer, rule, sampling, end_token, ends)
        self._batch_tokens = batch_tokens
        self._least = _LEAST_ROWS * max(1, torch.get_num_threads() // 2) if self._device.type == "cpu" else 1
        layout = CPU_LAYOUT if self._device.type == "cpu" else GPU_LAYOUT
        self._prefill_tokens = layout.prefill_tokens
        if self._device.type == "cuda":
            # cuDNN's attention prepares each new shape, about 50 ms on an H100, and here shapes are new all the time.
            torch.backends.cuda.enable_cudnn_sdp(False)
        probe = ShapeProbe(self._device)
        self._decode(probe)
        whole = probe.hands_over or not self._model._can_set_attn_implementation()
        self._pass_kind = WholeSlotPass if whole else SlotPass
        self._store = SlotStore(probe.shapes(), layout, loaded.dtype, self._device, cache_bytes)

    def serve(self, tasks: Iterable[Task[T]]) -> Iterator[tuple[int, T]]:
        return self._serve(tasks, self._drawing)

    def answer_each(
        self, prompts: Sequence[tuple[int, ...]], max_new_tokens: int, until: str = ""
    ) -> Iterator[tuple[int, tuple[int, ...]]]:
        return self._serve(map(whole_answer, prompts), self._drawing.of_answers(max_new_tokens, until))

    def _serve(self, tasks: Iterable[Task[T]], drawing: Drawing) -> Iterator[tuple[int, T]]:
        queue = TaskQueue(tasks, self._store, drawing)
        try:
            while queue.admit() or queue.ended:
                while queue.ended:
                    yield queue.ended.popleft()
                if seated := queue.seated():
                    self._compute(seated, drawing)
                    queue.advance()
        finally:
            queue.close()

    @torch.inference_mode()  # type: ignore[untyped-decorator]
    def _compute(self, requests: Sequence[UnderWay], drawing: Drawing) -> None:
        """One pass: what the requests need next, and prompts that are not there yet."""
        slots = list({id(request.slot): request.slot for request in requests}.values())
        self._store.begin(slot for slot in slots if not slot.started)
        planned: dict[PromptSlot, dict[int, int]] = {}
        served: list[UnderWay] = []
        room = self._batch_tokens
        for request in requests:
            columns = request.next_columns()
            if request.slot.ready and (not served or columns <= room):
                self._store.make_room(request.slot, columns)
                own, base = request.plan(), request.slot.base
                planned.setdefault(request.slot, {}).update({base + column: token for column, token in own.items()})
                served.append(request)
                room -= columns
        room = max(min(room, self._prefill_tokens), 0 if served else 1)
        for slot in slots:
            if slot.started and not slot.ready and room:
                end = min(slot.base, slot.filled + room)
                planned[slot] = dict(zip(range(slot.filled, end), slot.prompt[slot.filled : end], strict=True))
                room -= end - slot.filled
                slot.filled = end
        place, hidden = self._forward(planned)
        self._read(served, place, hidden, drawing)

    def _forward(self, planned: dict[PromptSlot, dict[int, int]]) -> tuple[dict[tuple[PromptSlot, int], int], Tensor]:
        """Where each (slot, column of the slot) stands in the pass, and hidden states [N, H]."""
        starts = accumulate(map(len, planned.values()), initial=0)
        members = [
            SlotTokens(slot, list(tokens), list(tokens.values()), start)
            for (slot, tokens), start in zip(planned.items(), starts, strict=False)
        ]
        now = self._pass_kind(members, self._least, self._device)
        hidden = self._decode(now)
        place = {(m.slot, column): m.start + i for m in members for i, column in enumerate(m.columns)}
        return place, hidden

    @torch.inference_mode()  # type: ignore[untyped-decorator]
    def _decode(self, now: SlotPass) -> Tensor:
        """Hidden states [N, H] of the pass."""
        with seeing(now, self._model) as attention_mask:
            result = decoder_of(self._model)(
                input_ids=now.tokens,
                position_ids=now.positions,
                attention_mask=attention_mask,
                past_key_values=now,
                use_cache=True,
            )
        hidden: Tensor = result.last_hidden_state
        return hidden[0]

    def _read(
        self,
        served: Sequence[UnderWay],
        place: dict[tuple[PromptSlot, int], int],
        hidden: Tensor,
        drawing: Drawing,
    ) -> None:
        """Logits where they are wanted, each place once: draw the branches' tokens, and hand over what is read."""
        reads = [(place[r.slot, r.slot.base + column], token) for r in served for column, token in r.reads()]
        draws = [(place[r.slot, r.slot.base + column], branch) for r in served for column, branch in r.draws()]
        places = sorted({at for at, _ in reads} | {at for at, _ in draws})
        values = [0.0] * len(reads)
        # In parts, because logits are as wide as the vocabulary.
        for start in range(0, len(places), _LOGIT_ROWS):
            row = {at: i for i, at in enumerate(places[start : start + _LOGIT_ROWS])}
            logits = self._logits(hidden, list(row))
            self._draw(logits, [(row[at], branch) for at, branch in draws if at in row], drawing)
            found = [(i, row[at], token) for i, (at, token) in enumerate(reads) if at in row]
            if found:
                numbers, rows, tokens = zip(*found, strict=True)
                normed = logits - logits.logsumexp(-1, keepdim=True)
                for number, value in zip(numbers, normed[list(rows), list(tokens)].tolist(), strict=True):
                    values[number] = value
        left = iter(values)
        for request in served:
            request.take([next(left) for _ in request.reads()])

    def _logits(self, hidden: Tensor, places: Sequence[int]) -> Tensor:
        """[places, V] in fp32; on a CPU one place stands twice, as threads would share out the sum of a single row."""
        filled = [*places, *[places[0]] * (self._least - len(places))]
        return logits_of(self._model, hidden[torch.tensor(filled, device=self._device)])[: max(len(places), 2)].float()

    def _draw(self, logits: Tensor, draws: Sequence[tuple[int, Branch]], drawing: Drawing) -> None:
        """One token for each branch, from its row of the logits."""
        if not draws:
            return
        rows = torch.tensor([row for row, _ in draws], device=self._device)
        uniforms = np.array([branch.uniforms[branch.length] for _, branch in draws])
        limit = drawing.sampling.max_fragment_tokens
        for (_, branch), token, logprob in zip(
            draws, *draw_tokens(logits, uniforms, drawing.sampling, rows), strict=True
        ):
            last = branch.length + 1 == limit
            branch.append(token, logprob, drawing.tokenizer, drawing.rule, drawing.end_tokens, last)
