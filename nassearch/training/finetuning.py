"""Fine-tuning: one plain network trained on from the weights it has."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nassearch import files, interruption
from nassearch.data.dataset import Data
from nassearch.data.seeding import Stream, derive_seed
from nassearch.errors import CheckpointError, ConfigError, Interrupted
from nassearch.networks import Subnet
from nassearch.networks.supernet import resize
from nassearch.progress import Progress, silent
from nassearch.training.accelerator import training_device
from nassearch.training.batch import epoch_batches
from nassearch.training.checkpoint import read_state, serialise
from nassearch.training.distillation import soft_target_loss
from nassearch.training.schedule import StepPosition, learning_rate
from nassearch.training.state import make_optimizer
from nassearch.training.training_recipe import TrainingRecipe
from nassearch.training.trial import refuse_lone_values

STATE = "model-finetuning.pt"
STAGE = "fine-tuning"


Network = TypeVar("Network", bound=nn.Module)


@dataclass
class Finetuning:
    """A fine-tuning under way; `identity` says which network it is."""

    network: nn.Module
    input_shape: tuple[int, int, int]
    identity: list[str]
    data: Data
    recipe: TrainingRecipe
    optimizer: torch.optim.Optimizer
    step: int = 0

    @property
    def steps_per_epoch(self) -> int:
        return max(1, len(self.data.train) // self.recipe.batch_size)

    @property
    def position(self) -> StepPosition:
        return StepPosition(self.step, self.steps_per_epoch)

    @property
    def device(self) -> torch.device:
        return next(self.network.parameters()).device


def finetune(
    network: Network,
    data: Data,
    *,
    recipe: TrainingRecipe,
    out: Path,
    place_of: Subnet | None = None,
    identity: Sequence[str] = (),
    teacher: Callable[[Tensor], Tensor] | None = None,
    resume: bool = False,
    progress: Progress = silent,
) -> Network:
    """Train `network` itself on `data`; it ends on the CPU and in evaluation mode.

    A network that is no plain one trains in the `place_of` one; `identity` then says how it differs
    from that. Only what has gradients is trained.

    With a `teacher` (normalised images to logits) half of the loss is against its predictions. The
    state is kept in `out` after every epoch and on Ctrl-C; with `resume` it is taken up again, to
    the same weights as without the break. Of the recipe what concerns subnets is not used. Raises
    CheckpointError (a state of other images or another recipe), ConfigError (the loss diverges).
    """
    network.to(training_device(recipe.device))
    network.train()
    plain = network if place_of is None else place_of
    assert isinstance(plain, Subnet)
    tuning = Finetuning(
        network,
        plain.input_shape,
        [*(spec.key for spec in plain.specs), *identity],
        data,
        recipe,
        make_optimizer(network, recipe),
    )
    if recipe.batch_size == 1:
        image = torch.zeros(1, *tuning.input_shape, device=tuning.device)
        refuse_lone_values([network], image, keeper=network)
    if resume and (out / STATE).exists():
        _restore(tuning, out / STATE)
    total = recipe.epochs * tuning.steps_per_epoch
    with torch.random.fork_rng(), interruption.deferred() as interrupted:
        while tuning.step < total:
            for images, targets in epoch_batches(tuning):
                loss = _train_step(tuning, images, targets, teacher)
                progress(STAGE, tuning.step / total, f"loss {loss:.3f}")
                if interrupted.requested:
                    break
            _save(tuning, out / STATE)
            if interrupted.requested:
                raise Interrupted(f"{out / STATE} is saved, --resume goes on")
    return network.cpu().eval()


def _train_step(
    tuning: Finetuning,
    images: Tensor,
    targets: Tensor,
    teacher: Callable[[Tensor], Tensor] | None,
) -> float:
    recipe, position = tuning.recipe, tuning.position
    torch.manual_seed(derive_seed(recipe.seed, Stream.LAYERS, position.step))
    for group in tuning.optimizer.param_groups:
        group["lr"] = learning_rate(recipe, position.epochs)
    logits = tuning.network(resize(images, tuning.input_shape[1]))
    loss = F.cross_entropy(logits, targets, label_smoothing=recipe.label_smoothing)
    if teacher is not None:
        with torch.no_grad():
            taught = teacher(images)
        soft = soft_target_loss(logits, taught, temperature=recipe.distillation_temperature)
        loss = (loss + soft) / 2
    if not math.isfinite(loss.item()):
        raise ConfigError(
            f"the loss is not finite (step {position.step}, lr {recipe.lr:g})",
            where="fine-tuning",
            fix="give a smaller --lr",
        )
    tuning.optimizer.zero_grad()
    loss.backward()
    if recipe.clip_norm is not None:
        nn.utils.clip_grad_norm_(tuning.network.parameters(), recipe.clip_norm)
    tuning.optimizer.step()
    tuning.step += 1
    return loss.item()


def _facts(tuning: Finetuning) -> dict[str, object]:
    """What must be the same when a fine-tuning is taken up again."""
    return {
        "recipe": tuning.recipe.model_dump(mode="json"),
        "data": tuning.data.name,
        "network": tuning.identity,
    }


def _save(tuning: Finetuning, path: Path) -> None:
    state = {
        "facts": _facts(tuning),
        "step": tuning.step,
        "model": tuning.network.state_dict(),
        "optimizer": tuning.optimizer.state_dict(),
    }
    files.write_bytes(path, serialise(state))


def _restore(tuning: Finetuning, path: Path) -> None:
    state = read_state(path)
    if not isinstance(state, dict) or state.get("facts") != _facts(tuning):
        raise CheckpointError(
            "is damaged, or of a fine-tuning with other images or another recipe",
            where=path,
            fix="resume with the same options, or start anew without --resume",
        )
    tuning.network.load_state_dict(state["model"])
    tuning.optimizer.load_state_dict(state["optimizer"])
    tuning.step = state["step"]
