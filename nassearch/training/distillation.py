"""Losses against a teacher's predictions."""

import torch.nn.functional as F
from torch import Tensor


def soft_target_loss(student: Tensor, teacher: Tensor, *, temperature: float = 1.0) -> Tensor:
    """τ² mean_b Σ_c -p_c log q_c with p = softmax(teacher/τ), q = softmax(student/τ).

    Both are logits, (n, classes); no gradient reaches the teacher. Hinton et al., "Distilling the
    Knowledge in a Neural Network", 2015, eq. 1 and 2; τ² keeps the gradient's scale.
    """
    targets = (teacher.detach() / temperature).softmax(1)
    return temperature**2 * F.cross_entropy(student / temperature, targets)
