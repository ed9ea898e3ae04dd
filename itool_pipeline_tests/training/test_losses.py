"""Losses against TRL's own loss functions, value and gradient, and against values worked out by hand."""

from collections import defaultdict
from collections.abc import Callable
from math import exp, log
from types import SimpleNamespace
from typing import get_args

import pytest
import torch
from torch import Tensor

from itool_pipeline.config import CpoLoss, DpoLoss, IpoLoss, OrpoLoss, PreferenceLoss, SimpoLoss
from itool_pipeline.training.losses import LOSSES, PairLogProbs, pair_losses

CHOSEN_LENGTH = torch.tensor([3.0, 1.0, 12.0, 7.0])
REJECTED_LENGTH = torch.tensor([5.0, 2.0, 4.0, 7.0])
SUMS = torch.tensor([[-4.0, -9.0], [-0.2, -0.1], [-30.0, -2.5], [-7.0, -7.0]])
REFERENCE = torch.tensor([[-5.0, -8.0], [-0.4, -0.3], [-31.0, -2.0], [-6.5, -7.5]])
CPU = SimpleNamespace(device="cpu", gather_for_metrics=lambda x: x, gather=lambda x: x)
LN2 = log(2.0)
DPO, IPO, ORPO = DpoLoss(type="dpo", beta=0.5), IpoLoss(type="ipo", beta=0.25), OrpoLoss(type="orpo", beta=0.5)


def ours(config: PreferenceLoss) -> Callable[[Tensor, Tensor], Tensor]:
    """Chosen and rejected sums → the losses of the pairs above."""
    rest = (CHOSEN_LENGTH, REJECTED_LENGTH, REFERENCE[:, 0], REFERENCE[:, 1])
    return lambda chosen, rejected: pair_losses(PairLogProbs(chosen, rejected, *rest), config).loss


def value_and_gradient(loss: Callable[[Tensor, Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    sums = SUMS.clone().requires_grad_()
    value = loss(sums[:, 0], sums[:, 1])
    return value.detach(), torch.autograd.grad(value.sum(), sums)[0]


def assert_equal(config: PreferenceLoss, trls: Callable[[Tensor, Tensor], Tensor]) -> None:
    for got, want in zip(value_and_gradient(ours(config)), value_and_gradient(trls), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("beta", "gamma"), [(2.5, 0.5), (2.0, 0.0), (10.0, 3.0)])
def test_simpo_equals_trl(beta: float, gamma: float) -> None:
    cpo = pytest.importorskip("trl.experimental.cpo", reason="TRL is a development dependency")
    trainer = SimpleNamespace(
        alpha=0.0, beta=beta, simpo_gamma=gamma, loss_type="simpo", label_smoothing=0.0, accelerator=CPU
    )
    assert_equal(
        SimpoLoss(beta=beta, gamma=gamma),
        lambda c, r: cpo.CPOTrainer.cpo_loss(trainer, c / CHOSEN_LENGTH, r / REJECTED_LENGTH)[0],
    )


def trl_dpo_loss(chosen: Tensor, rejected: Tensor, loss_type: str, beta: float, pair: int) -> Tensor:
    """TRL's DPO loss of one pair: a fake model spreads the given sums evenly over the completion's tokens."""
    trl = pytest.importorskip("trl", reason="TRL is a development dependency")
    lengths = (int(CHOSEN_LENGTH[pair]), int(REJECTED_LENGTH[pair]))
    width = max(lengths)
    mask = torch.tensor([[0] + [1] * n + [0] * (width - n) for n in lengths])
    rows = [
        torch.cat([s / n * torch.ones(n), torch.zeros(width - n)])
        for s, n in zip((chosen, rejected), lengths, strict=True)
    ]
    figures = {key: torch.zeros(2, width) for key in ("entropy", "mean_logits", "is_top1")}
    figures["is_top1"] = figures["is_top1"].bool()
    trainer = SimpleNamespace(
        model=SimpleNamespace(training=True),
        accelerator=CPU,
        aux_loss_enabled=False,
        ld_alpha=None,
        precompute_ref_logps=True,
        f_divergence_type="reverse_kl",
        loss_types=[loss_type],
        loss_weights=[1.0],
        beta=beta,
        use_weighting=False,
        _metrics={"train": defaultdict(list)},
        _total_train_tokens=0,
        _tp_size=1,
    )
    inputs = {
        "input_ids": torch.ones_like(mask),
        "attention_mask": torch.ones_like(mask),
        "completion_mask": mask,
        "ref_chosen_logps": REFERENCE[pair, :1],
        "ref_rejected_logps": REFERENCE[pair, 1:],
    }
    output = SimpleNamespace(log_probs=torch.stack(rows), **figures)
    loss: Tensor = trl.DPOTrainer._compute_loss(trainer, lambda **_: output, inputs, False)
    return loss


def trl_dpo_losses(loss_type: str, beta: float) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda c, r: torch.stack([trl_dpo_loss(c[i], r[i], loss_type, beta, i) for i in range(len(c))])


@pytest.mark.parametrize("beta", [0.1, 2.5])
def test_dpo_equals_trl(beta: float) -> None:
    assert_equal(DpoLoss(type="dpo", beta=beta), trl_dpo_losses("sigmoid", beta))


@pytest.mark.parametrize("beta", [0.1, 2.5])
def test_ipo_equals_trl(beta: float) -> None:
    assert_equal(IpoLoss(type="ipo", beta=beta), trl_dpo_losses("ipo", beta))


@pytest.mark.parametrize("beta", [0.1, 1.0])
def test_orpo_equals_trl(beta: float) -> None:
    orpo = pytest.importorskip("trl.experimental.orpo", reason="TRL is a development dependency")
    trainer = SimpleNamespace(beta=beta, accelerator=CPU)

    def trls(chosen: Tensor, rejected: Tensor) -> Tensor:
        odds: Tensor = orpo.ORPOTrainer.odds_ratio_loss(trainer, chosen / CHOSEN_LENGTH, rejected / REJECTED_LENGTH)[0]
        return -chosen / CHOSEN_LENGTH - odds

    assert_equal(OrpoLoss(type="orpo", beta=beta), trls)


@pytest.mark.parametrize(("beta", "nll_weight"), [(0.1, 1.0), (0.5, 0.0), (2.0, 0.3)])
def test_cpo_equals_trl(beta: float, nll_weight: float) -> None:
    """TRL's whole loss of a batch of one pair: its likelihood term is the mean over the batch's chosen tokens."""
    cpo = pytest.importorskip("trl.experimental.cpo", reason="TRL is a development dependency").CPOTrainer

    def trl_loss(chosen: Tensor, rejected: Tensor, length: Tensor) -> Tensor:
        forward = (chosen[None], rejected[None], torch.zeros(1), torch.zeros(1), -chosen / length)
        trainer = SimpleNamespace(
            **{"alpha": 0.0, "beta": beta, "cpo_alpha": nll_weight, "loss_type": "sigmoid", "label_smoothing": 0.0},
            **{"accelerator": CPU, "aux_loss_enabled": False, "concatenated_forward": lambda *_: forward},
        )
        trainer.cpo_loss = lambda *sums: cpo.cpo_loss(trainer, *sums)
        loss: Tensor = cpo.get_batch_loss_metrics(trainer, None, {})[0]
        return loss

    assert_equal(
        CpoLoss(type="cpo", beta=beta, nll_weight=nll_weight),
        lambda c, r: torch.stack([trl_loss(*pair) for pair in zip(c, r, CHOSEN_LENGTH, strict=True)]),
    )


def one(value: float) -> Tensor:
    return torch.tensor([value], dtype=torch.float64)


def pair(chosen: float, rejected: float, *rest: float) -> PairLogProbs:
    """One pair: sums of chosen and rejected, their lengths, and the reference's sums."""
    return PairLogProbs(one(chosen), one(rejected), *map(one, rest))


def by_hand(config: PreferenceLoss, *figures: float) -> float:
    return pair_losses(pair(*figures), config).loss.item()


def test_simpo_by_hand() -> None:
    # β/|y| sums: 2 × -3/3 = -2 and 2 × -8/2 = -8; margin 6 - γ 5 = 1; -log σ(1) = log(1 + e⁻¹).
    assert by_hand(SimpoLoss(beta=2.0, gamma=5.0), -3, -8, 3, 2) == pytest.approx(log(1 + exp(-1)))
    # With the likelihood of the chosen, -3 over 3 tokens, of weight 0.2.
    with_nll = SimpoLoss(beta=2.0, gamma=5.0, nll_weight=0.2)
    assert by_hand(with_nll, -3, -8, 3, 2) == pytest.approx(log(1 + exp(-1)) + 0.2)
    # Equal means per token: the margin is -γ. Without γ the loss is log 2 whatever the lengths are.
    assert by_hand(SimpoLoss(beta=2.0, gamma=0.5), -3, -6, 3, 6) == pytest.approx(log(1 + exp(0.5)))
    assert by_hand(SimpoLoss(beta=2.0, gamma=0.0), -3, -6, 3, 6) == pytest.approx(LN2)


def test_dpo_by_hand() -> None:
    # log ratios: -3 + 4 = 1 and -8 + 6 = -2; margin 3; β 0.5: -log σ(1.5).
    assert by_hand(DPO, -3, -8, 1, 1, -4, -6) == pytest.approx(log(1 + exp(-1.5)))
    assert by_hand(DPO, -3, -8, 1, 1, -3, -8) == pytest.approx(LN2)


def test_ipo_by_hand() -> None:
    # means of log ratios: 1/2 and -2/4; margin 1; target 1/(2 × 0.25) = 2; (1 - 2)² = 1.
    assert by_hand(IPO, -3, -8, 2, 4, -4, -6) == pytest.approx(1.0)


def test_orpo_by_hand() -> None:
    # Per-token p: e^(-2 ln 2 / 2) = 1/2 and e^(-4 ln 2 / 2) = 1/4; odds 1 and 1/3; log odds ratio ln 3;
    # -log σ(ln 3) = ln(4/3). Likelihood term ln 2.
    assert by_hand(ORPO, -2 * LN2, -4 * LN2, 2, 2) == pytest.approx(LN2 + 0.5 * log(4 / 3))


def test_cpo_by_hand() -> None:
    # margin 0.5 × (-3 + 8) = 2.5; mean negative log-likelihood 3/3 = 1, of weight 0.25.
    config = CpoLoss(type="cpo", beta=0.5, nll_weight=0.25)
    assert by_hand(config, -3, -8, 3, 2) == pytest.approx(log(1 + exp(-2.5)) + 0.25)
    # -σ(-2.5) β, and the likelihood's -0.25/3 for the chosen alone
    low = 1 / (1 + exp(2.5))
    assert gradients(config, -3, -8, 3, 2) == pytest.approx([-0.5 * low - 0.25 / 3, 0.5 * low])


def test_margins_by_hand() -> None:
    """β times the means' difference (Eq. 10), or the difference of log ratios where there is a reference."""
    figures = (-3.0, -8.0, 3.0, 2.0, -4.0, -6.0)
    margins = {c.type: pair_losses(pair(*figures), c).margin.item() for c in (SimpoLoss(beta=2.0), DPO, IPO, ORPO)}
    assert margins == pytest.approx({"simpo": 2 * 3, "dpo": 0.5 * 3, "ipo": 0.25 * 3, "orpo": 0.5 * 3})


def gradients(config: PreferenceLoss, chosen: float, rejected: float, *rest: float) -> list[float]:
    """d loss / d chosen and d loss / d rejected."""
    sums = [one(chosen).requires_grad_(), one(rejected).requires_grad_()]
    loss = pair_losses(PairLogProbs(*sums, *map(one, rest)), config).loss
    return [float(g) for g in torch.autograd.grad(loss.sum(), sums)]


def test_gradients_by_hand() -> None:
    # d -log σ(m) = -σ(-m) dm. SimPO as above: m = 1, dm = β/|y| = 2/3 and -2/2.
    low = 1 / (1 + exp(1))
    assert gradients(SimpoLoss(beta=2.0, gamma=5.0), -3, -8, 3, 2) == pytest.approx([-2 / 3 * low, low])
    # DPO as above: m = 1.5, dm = β = 0.5 and -0.5.
    low = 1 / (1 + exp(1.5))
    assert gradients(DPO, -3, -8, 1, 1, -4, -6) == pytest.approx([-0.5 * low, 0.5 * low])
    # IPO as above: 2 (1 - 2) dm, dm = 1/2 and -1/4.
    assert gradients(IPO, -3, -8, 2, 4, -4, -6) == pytest.approx([-1.0, 0.5])
    # ORPO as above: σ(-ln 3) = 1/4; the log odds of p change by 1/(1 - p) for each unit of log p: by 2 and by 4/3;
    # log p is half of the sum. -1/2 from the likelihood.
    orpo = gradients(ORPO, -2 * LN2, -4 * LN2, 2, 2)
    assert orpo == pytest.approx([-0.5 - 0.5 * 0.25 * 2 / 2, 0.5 * 0.25 * (4 / 3) / 2])


def test_orpo_stays_finite_for_a_certain_response() -> None:
    chosen = torch.tensor([0.0], requires_grad=True)
    lengths = torch.tensor([1.0])
    loss = pair_losses(PairLogProbs(chosen, torch.tensor([-20.0]), lengths, lengths), ORPO).loss
    loss.sum().backward()
    assert torch.isfinite(loss).all()
    assert chosen.grad is not None
    assert torch.isfinite(chosen.grad).all()


@pytest.mark.parametrize("config", [DPO, IPO], ids=["dpo", "ipo"])
def test_losses_with_a_reference_need_one(config: PreferenceLoss) -> None:
    with pytest.raises(ValueError, match="needs the log-probabilities of a reference"):
        pair_losses(pair(-3, -8, 3, 2), config)


def test_every_loss_of_the_config_is_registered() -> None:
    assert set(LOSSES) == set(get_args(PreferenceLoss))
