"""Supervised fine-tuning on gold responses (Eq. 2): the warm-up trains one stage after another with it.

-log P(y | q, T) is summed over the response tokens only. A step's loss is the mean over all response tokens of the
step, so that each token weighs the same whatever the length of its response; Eq. 2's mean over examples would let
short responses dominate.
"""

from __future__ import annotations

from collections.abc import Sequence

from itool_pipeline.core.token_trie import pack_row
from itool_pipeline.training.items import SftItem, batches_of_items
from itool_pipeline.training.log_probs import LogProbs
from itool_pipeline.training.trainer import Loss, Objective


def sft_loss(log_probs: LogProbs, items: Sequence[SftItem]) -> Loss:
    """Negative log-likelihood of the items' responses, counted in response tokens."""
    rows = [pack_row(item.prompt, [item.response]) for item in items]
    values = log_probs(rows, [row.spans[0] for row in rows])
    return Loss(-values.sum(), len(values))


SFT = Objective[SftItem]("sft", sft_loss, batches_of_items)
"""Each step takes the next `batch_size` examples."""
