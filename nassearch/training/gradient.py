"""What is done to a step's gradient before the optimizer uses it."""

from collections.abc import Iterable, Sequence

from torch import Tensor, nn

from nassearch.training.training_recipe import TrainingRecipe

_MOST = 2.0  # how much of the subnets' gradient may be added again


def take(parameters: Iterable[nn.Parameter]) -> list[Tensor | None]:
    """The gradients as they are, which the parameters lose."""
    taken = []
    for parameter in parameters:
        taken.append(parameter.grad)
        parameter.grad = None
    return taken


def project(parameters: Iterable[nn.Parameter], largest: Sequence[Tensor | None]) -> None:
    """Add the largest network's gradient to the subnets', without what opposes them.

    For each tensor, with g the largest's and h the subnets': g + h + c h, where
    c = clamp(-<h, g> / |h|^2, 0, 2) takes from g its part against h (Gong et al., "NASViT", ICLR
    2022, 4.1).
    """
    for parameter, own in zip(parameters, largest, strict=True):
        if own is None:
            continue
        if parameter.grad is None:
            parameter.grad = own
            continue
        subnets = parameter.grad
        size = subnets.square().sum()
        conflict = (-(subnets * own).sum() / size.clamp_min(1e-30)).clamp(0.0, _MOST)
        parameter.grad = own + (1 + conflict) * subnets


def clip(parameters: Sequence[nn.Parameter], recipe: TrainingRecipe) -> float:
    """Clip by value, then by norm, as the recipe says; the norm before the latter is returned."""
    if recipe.clip_value is not None:
        nn.utils.clip_grad_value_(parameters, recipe.clip_value)
    norm = nn.utils.get_total_norm(all_of(parameters))
    if recipe.clip_norm is not None:
        nn.utils.clip_grads_with_norm_(parameters, recipe.clip_norm, norm)
    return norm.item()


def all_of(parameters: Iterable[nn.Parameter]) -> list[Tensor]:
    """The gradients there are."""
    return [parameter.grad for parameter in parameters if parameter.grad is not None]
