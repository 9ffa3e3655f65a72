"""A training under way: how it starts, how it is saved and how it is taken up again."""

from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import nn

from nassearch import files
from nassearch.errors import CheckpointError, ConfigError, OutputError
from nassearch.networks import Supernet
from nassearch.space import SearchSpace
from nassearch.training import checkpoint
from nassearch.training.checkpoint import Checkpoint
from nassearch.training.data import Data
from nassearch.training.randomness import Stream, derive_seed
from nassearch.training.recipe import TrainingRecipe
from nassearch.training.schedule import Moment


@dataclass
class Totals:
    """Running sums: over the training, and of the epoch under way."""

    seconds: float = 0.0
    macs: float = 0.0  # of forward passes
    skipped_steps: int = 0
    skipped_in_a_row: int = 0
    epoch_loss: float = 0.0
    epoch_steps: int = 0


@dataclass
class Run:
    """A training under way: what a checkpoint saves."""

    space: SearchSpace
    data: Data
    recipe: TrainingRecipe
    out: Path
    supernet: Supernet
    optimizer: torch.optim.Optimizer
    step: int = 0
    totals: Totals = field(default_factory=Totals)

    @property
    def steps_per_epoch(self) -> int:
        return max(1, len(self.data.train) // self.recipe.batch_size)

    @property
    def moment(self) -> Moment:
        return Moment(self.step, self.steps_per_epoch)

    @property
    def device(self) -> torch.device:
        return next(self.supernet.parameters()).device


def start(
    space: SearchSpace, data: Data, *, recipe: TrainingRecipe, out: Path, resume: bool
) -> Run:
    """A new run, or the one that `out` holds."""
    fitted = space.for_data(in_channels=data.in_channels, num_classes=data.num_classes)
    present = checkpoint.paths(out)
    if present and not resume:
        raise OutputError(
            "already holds a training", where=out, fix="continue it with --resume, or choose --out"
        )
    if recipe.crop_padding is not None and recipe.crop_padding >= min(data.train.shape[1:]):
        raise ConfigError(f"crop_padding {recipe.crop_padding} is as large as the images")
    files.make_directory(out)
    torch.manual_seed(derive_seed(recipe.seed, Stream.WEIGHTS))
    supernet = Supernet(fitted).to(_device(recipe))
    run = Run(fitted, data, recipe, out, supernet, make_optimizer(supernet, recipe))
    if present:
        restore(run, checkpoint.load(out))
    forget_metrics(run)
    return run


def restore(run: Run, saved: Checkpoint) -> None:
    """Take over the state of a checkpoint; CheckpointError where it is of another run."""
    checkpoint.restore_weights(run.supernet, saved, where=run.out)
    for name, value in run.recipe.model_dump().items():
        if saved.recipe.get(name) != value:
            raise CheckpointError(
                f"was trained with {name} {saved.recipe.get(name)}, not {value}",
                where=run.out,
                fix="resume with the recipe of the run, or choose another --out",
            )
    if saved.steps_per_epoch != run.steps_per_epoch or saved.data != _describe(run.data):
        raise CheckpointError(f"was trained on other images than {run.data.name}", where=run.out)
    run.optimizer.load_state_dict(dict(saved.optimizer))
    run.step = saved.step
    run.totals = Totals(**saved.totals)  # type: ignore[arg-type]


def make_optimizer(supernet: nn.Module, recipe: TrainingRecipe) -> torch.optim.Optimizer:
    """SGD with Nesterov momentum or AdamW; norms and biases do not decay."""
    parameters = list(supernet.parameters())
    groups = [
        {"params": [p for p in parameters if p.dim() > 1], "weight_decay": recipe.weight_decay},
        {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0},
    ]
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=recipe.lr)
    nesterov = recipe.momentum > 0
    return torch.optim.SGD(groups, lr=recipe.lr, momentum=recipe.momentum, nesterov=nesterov)


def save(run: Run) -> None:
    state = Checkpoint(
        space=run.space,
        data=_describe(run.data),
        recipe=run.recipe.model_dump(),
        step=run.step,
        steps_per_epoch=run.steps_per_epoch,
        totals=asdict(run.totals),
        model=run.supernet.state_dict(),
        optimizer=run.optimizer.state_dict(),
    )
    checkpoint.save(run.out, state)


def forget_metrics(run: Run) -> None:
    """Drop lines of epochs that the run will do again: a kill can fall between line and save."""
    path = run.out / "metrics.jsonl"
    lines = files.read_json_lines(path)
    kept = [line for line in lines if line["epoch"] <= run.moment.epoch and run.step > 0]
    if path.exists():
        path.unlink()
    for line in kept:
        files.append_json_line(path, line)


def _describe(data: Data) -> dict[str, object]:
    return {
        "name": data.name,
        "in_channels": data.in_channels,
        "num_classes": data.num_classes,
        "class_names": list(data.class_names),
        "mean": list(data.mean),
        "std": list(data.std),
    }


def _device(recipe: TrainingRecipe) -> torch.device:
    if recipe.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.device(recipe.device)
    except RuntimeError as error:
        raise ConfigError(
            f"'{recipe.device}' is not a torch device", fix="use auto, cpu or cuda"
        ) from error
