"""The adaptive α-divergence against its definition."""

import pytest
import torch
from torch import Tensor

from nassearch.training.distillation import adaptive_alpha_loss

_CLIP = 5.0


def divergence(p: Tensor, q: Tensor, alpha: float) -> Tensor:
    """D_α(p‖q) for each image, as the paper writes it."""
    if alpha == 1.0:
        return (p * (p / q).log()).sum(1)
    return (q * ((p / q) ** alpha - 1)).sum(1) / (alpha * (alpha - 1))


def test_value_and_gradient_are_those_of_the_larger_divergence() -> None:
    torch.manual_seed(0)
    teacher = 0.25 * torch.randn(64, 5, dtype=torch.float64)
    student = (0.25 * torch.randn(64, 5, dtype=torch.float64)).requires_grad_()
    p, q = teacher.softmax(1), student.softmax(1)
    assert float((p / q).detach().max()) < _CLIP  # no ratio is clipped,
    assert float((q / p).detach().max()) < _CLIP
    both = torch.stack([divergence(p, q, alpha) for alpha in (-1.0, 1.0)])
    assert 0 < int(both.argmax(0).sum()) < 64  # and each divergence is the larger one for some
    expected = both.amax(0).mean()
    (gradient,) = torch.autograd.grad(expected, student, retain_graph=True)

    loss = adaptive_alpha_loss(student, teacher)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(torch.autograd.grad(loss, student)[0], gradient)


def test_the_gradient_stays_bounded_where_the_student_is_sure_of_nonsense() -> None:
    teacher = torch.tensor([[30.0, -30.0, 0.0]])
    student = torch.tensor([[-30.0, 30.0, 0.0]], requires_grad=True)
    loss = adaptive_alpha_loss(student, teacher)
    loss.backward()
    assert torch.isfinite(loss)
    assert student.grad is not None
    assert float(student.grad.abs().max()) <= _CLIP


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_an_agreeing_student_has_no_loss(temperature: float) -> None:
    logits = torch.randn(8, 4)
    loss = adaptive_alpha_loss(logits, logits, temperature=temperature)
    assert float(loss) == pytest.approx(0.0, abs=1e-6)
