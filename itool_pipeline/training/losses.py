"""Preference losses on sequence log-probabilities, one value for each pair.

All arguments are tensors [B] of summed log-probabilities log π(y|x), and lengths |y| in tokens; `chosen` is y_w,
`rejected` y_l. SimPO (Eq. 10 and 11) is the paper's; ORPO needs no reference model either; DPO and IPO compare with
the log-probabilities of a reference policy.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def simpo(
    chosen: Tensor, rejected: Tensor, chosen_length: Tensor, rejected_length: Tensor, beta: float, gamma: float
) -> Tensor:
    """-log σ(β/|y_w| log π(y_w|x) - β/|y_l| log π(y_l|x) - γ), Eq. 11.

    γ is subtracted as it is. Libraries that scale the whole margin by β take γ/β for it.
    """
    reward_margin = beta * (chosen / chosen_length - rejected / rejected_length)
    return -F.logsigmoid(reward_margin - gamma)


def dpo(chosen: Tensor, rejected: Tensor, reference_chosen: Tensor, reference_rejected: Tensor, beta: float) -> Tensor:
    """-log σ(β (log π(y_w)/π_ref(y_w) - log π(y_l)/π_ref(y_l))): Rafailov et al. 2023, Eq. 7."""
    return -F.logsigmoid(beta * _log_ratio_margin(chosen, rejected, reference_chosen, reference_rejected))


def ipo(
    chosen: Tensor,
    rejected: Tensor,
    reference_chosen: Tensor,
    reference_rejected: Tensor,
    chosen_length: Tensor,
    rejected_length: Tensor,
    beta: float,
) -> Tensor:
    """(h - 1/(2β))² with h the margin of log ratios: Azar et al. 2023, Eq. 17.

    The log ratios are means over tokens, as IPO's authors advise in practice: sums would make the regression target
    1/(2β) unreachable for short and trivial for long responses.
    """
    margin = (chosen - reference_chosen) / chosen_length - (rejected - reference_rejected) / rejected_length
    return (margin - 1 / (2 * beta)) ** 2


def orpo(chosen: Tensor, rejected: Tensor, chosen_length: Tensor, rejected_length: Tensor, beta: float) -> Tensor:
    """Mean negative log-likelihood of y_w plus β times -log σ(log odds ratio): Hong et al. 2024, Eq. 6 and 7.

    odds(p) = p / (1 - p) of the per-token geometric mean probability p.
    """
    chosen_mean, rejected_mean = chosen / chosen_length, rejected / rejected_length
    log_odds = (chosen_mean - rejected_mean) - (_log1mexp(chosen_mean) - _log1mexp(rejected_mean))
    return -chosen_mean - beta * F.logsigmoid(log_odds)


def _log_ratio_margin(chosen: Tensor, rejected: Tensor, reference_chosen: Tensor, reference_rejected: Tensor) -> Tensor:
    return (chosen - reference_chosen) - (rejected - reference_rejected)


def _log1mexp(log_p: Tensor) -> Tensor:
    """log(1 - p) for log p < 0, exact for p near 0 and near 1; a p of 1 counts as just below it."""
    below_one = log_p.clamp(max=-torch.finfo(log_p.dtype).tiny)
    return torch.log(-torch.expm1(below_one))
