"""Preference losses on sequence log-probabilities, one value for each pair, and their register.

SimPO (Eq. 10 and 11) is the paper's; ORPO and CPO need no reference model either; DPO and IPO compare with the
log-probabilities of a reference policy. To add a loss: its section in `config.training`, a function here, a line in
LOSSES.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from itool_pipeline.config import CpoLoss, DpoLoss, IpoLoss, OrpoLoss, PreferenceLoss, SimpoLoss


@dataclass(frozen=True, slots=True)
class PairLogProbs:
    """What a loss is computed from: tensors [pairs] of summed log-probabilities log π(y|x), and lengths |y| in tokens.

    chosen, rejected                      y_w and y_l
    chosen_length, rejected_length        their tokens
    reference_chosen, reference_rejected  log π_ref of both; for the losses that compare with a reference policy
    """

    chosen: Tensor
    rejected: Tensor
    chosen_length: Tensor
    rejected_length: Tensor
    reference_chosen: Tensor | None = None
    reference_rejected: Tensor | None = None

    @property
    def chosen_mean(self) -> Tensor:
        """[pairs] log π(y_w|x) / |y_w|."""
        return self.chosen / self.chosen_length

    @property
    def rejected_mean(self) -> Tensor:
        """[pairs] log π(y_l|x) / |y_l|."""
        return self.rejected / self.rejected_length

    @property
    def log_ratios(self) -> tuple[Tensor, Tensor]:
        """Both [pairs]: log π/π_ref of chosen and of rejected. Raises ValueError without a reference."""
        if self.reference_chosen is None or self.reference_rejected is None:
            raise ValueError("this loss needs the log-probabilities of a reference policy")
        return self.chosen - self.reference_chosen, self.rejected - self.reference_rejected


@dataclass(frozen=True, slots=True)
class PairLosses:
    """Both [pairs]: what is minimised, and the reward of chosen minus that of rejected, which is reported."""

    loss: Tensor
    margin: Tensor


def simpo_losses(pairs: PairLogProbs, config: SimpoLoss) -> PairLosses:
    """-log σ(β/|y_w| log π(y_w|x) - β/|y_l| log π(y_l|x) - γ), Eq. 11. Rewards are those of Eq. 10.

    γ is subtracted as it is. Libraries that scale the whole margin by β take γ/β for it. With a weight, y_w's mean
    negative log-likelihood is added (CPO-SimPO).
    """
    margin = config.beta * (pairs.chosen_mean - pairs.rejected_mean)
    loss = -F.logsigmoid(margin - config.gamma)
    return PairLosses(loss - config.nll_weight * pairs.chosen_mean if config.nll_weight else loss, margin)


def dpo_losses(pairs: PairLogProbs, config: DpoLoss) -> PairLosses:
    """-log σ(β (log π(y_w)/π_ref(y_w) - log π(y_l)/π_ref(y_l))): Rafailov et al. 2023, Eq. 7."""
    chosen, rejected = pairs.log_ratios
    margin = config.beta * (chosen - rejected)
    return PairLosses(-F.logsigmoid(margin), margin)


def ipo_losses(pairs: PairLogProbs, config: IpoLoss) -> PairLosses:
    """(h - 1/(2β))² with h the margin of log ratios: Azar et al. 2023, Eq. 17. Rewards are DPO's.

    The log ratios are means over tokens, as IPO's authors advise in practice: sums would make the regression target
    1/(2β) unreachable for short and trivial for long responses.
    """
    chosen, rejected = pairs.log_ratios
    h = chosen / pairs.chosen_length - rejected / pairs.rejected_length
    return PairLosses((h - 1 / (2 * config.beta)) ** 2, config.beta * (chosen - rejected))


def orpo_losses(pairs: PairLogProbs, config: OrpoLoss) -> PairLosses:
    """Mean negative log-likelihood of y_w plus β times -log σ(log odds ratio): Hong et al. 2024, Eq. 6 and 7.

    odds(p) = p / (1 - p) of the per-token geometric mean probability p. Rewards are those of Eq. 10.
    """
    chosen, rejected = pairs.chosen_mean, pairs.rejected_mean
    log_odds = (chosen - rejected) - (_log1mexp(chosen) - _log1mexp(rejected))
    return PairLosses(-chosen - config.beta * F.logsigmoid(log_odds), config.beta * (chosen - rejected))


def cpo_losses(pairs: PairLogProbs, config: CpoLoss) -> PairLosses:
    """-log σ(β (log π(y_w|x) - log π(y_l|x))) plus w times y_w's mean negative log-likelihood: Xu et al. 2024.

    The likelihood term is a mean over tokens, as in TRL, so that w means the same for short and long responses.
    """
    margin = config.beta * (pairs.chosen - pairs.rejected)
    return PairLosses(-F.logsigmoid(margin) - config.nll_weight * pairs.chosen_mean, margin)


def _log1mexp(log_p: Tensor) -> Tensor:
    """log(1 - p) for log p < 0, exact for p near 0 and near 1; a p of 1 counts as just below it."""
    below_one = log_p.clamp(max=-torch.finfo(log_p.dtype).tiny)
    return torch.log(-torch.expm1(below_one))


LOSSES: Mapping[type[PreferenceLoss], Callable[[PairLogProbs, Any], PairLosses]] = {
    SimpoLoss: simpo_losses,
    DpoLoss: dpo_losses,
    IpoLoss: ipo_losses,
    OrpoLoss: orpo_losses,
    CpoLoss: cpo_losses,
}
"""Config section → its function."""


def pair_losses(pairs: PairLogProbs, config: PreferenceLoss) -> PairLosses:
    """The loss that `config` names. Raises ValueError when it needs a reference and there is none."""
    return LOSSES[type(config)](pairs, config)
