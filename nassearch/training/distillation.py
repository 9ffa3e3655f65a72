"""Losses against a teacher's predictions."""

import torch
import torch.nn.functional as F
from torch import Tensor

_ALPHAS = (-1.0, 1.0)
_CLIP = 5.0  # of the importance ratio; Wang et al. clip there too


def soft_target_loss(student: Tensor, teacher: Tensor, *, temperature: float = 1.0) -> Tensor:
    """τ² mean_b Σ_c -p_c log q_c with p = softmax(teacher/τ), q = softmax(student/τ).

    Both are logits, (n, classes); no gradient reaches the teacher. Hinton et al., "Distilling the
    Knowledge in a Neural Network", 2015, eq. 1 and 2; τ² keeps the gradient's scale.
    """
    targets = (teacher.detach() / temperature).softmax(1)
    return temperature**2 * F.cross_entropy(student / temperature, targets)


def adaptive_alpha_loss(student: Tensor, teacher: Tensor, *, temperature: float = 1.0) -> Tensor:
    """τ² mean_b max(D_α-(p‖q), D_α+(p‖q)) with α- = -1, α+ = 1.

    p and q are the softmax of teacher and student over τ. Wang et al., "AlphaNet", ICML 2021, eq. 4
    to 8: the divergence that is larger for an image is followed, so that over- and underestimating
    the teacher's uncertainty both cost. Importance ratios are clipped, which bounds the gradient;
    clip it by value as well (`clip_value`), as the paper does. The value is that of the divergence,
    the gradient the clipped estimate, so the two differ where a ratio is clipped.
    """
    p = (teacher.detach() / temperature).softmax(1)
    log_q = (student / temperature).log_softmax(1)
    losses, surrogates = zip(*(_alpha(p, log_q, alpha) for alpha in _ALPHAS), strict=True)
    values = torch.stack(losses)
    chosen = torch.stack(surrogates).gather(0, values.argmax(0, keepdim=True))[0]
    value = values.amax(0)
    # the surrogate's gradient with the divergence's value
    return temperature**2 * (chosen + (value - chosen).detach()).mean()


def _alpha(p: Tensor, log_q: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    """For each image the clipped divergence, without gradient, and what has its gradient."""
    q = log_q.detach().exp()
    log_ratio = p.clamp_min(torch.finfo(p.dtype).tiny).log() - log_q.detach()
    if alpha == 1.0:  # the limit: the KL divergence
        return (p * log_ratio).sum(1), -(p * log_q).sum(1)
    power = (alpha * log_ratio).exp().clamp_max(_CLIP)
    constant = 1 / (alpha * (alpha - 1))
    value = (q * (power - 1)).sum(1) * constant
    surrogate = -(q * (power / alpha + constant) * log_q).sum(1)
    return value, surrogate


DISTILLATIONS = {"kl": soft_target_loss, "alpha": adaptive_alpha_loss}
