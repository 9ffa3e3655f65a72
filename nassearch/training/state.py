"""A training under way: how it starts, how it is saved and how it is taken up again."""

import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import cast

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from nassearch import files
from nassearch.data.augmentation import AugmentationOptions
from nassearch.data.dataset import Data
from nassearch.data.identity import DataIdentity
from nassearch.data.seeding import Stream, derive_seed
from nassearch.errors import CheckpointError, ConfigError, DataError, OutputError
from nassearch.networks import Supernet
from nassearch.networks.cost import count
from nassearch.networks.weight_transfer import (
    scale_outer_channels,
    transfer_weights,
    zero_gamma,
)
from nassearch.ops import Elastic
from nassearch.space import SearchSpace
from nassearch.training import checkpoint
from nassearch.training.accelerator import training_device
from nassearch.training.checkpoint import Checkpoint
from nassearch.training.evaluation import Evaluator
from nassearch.training.muon import Muon
from nassearch.training.precision import step_seconds
from nassearch.training.process_group import ProcessGroup
from nassearch.training.schedule import StepPosition
from nassearch.training.task import Loss
from nassearch.training.training_recipe import TrainingRecipe
from nassearch.training.whitening import whiten


@dataclass
class Totals:
    """Running sums: over the training, and of the epoch under way."""

    seconds: float = 0.0
    macs: float = 0.0  # of forward and backward passes
    skipped_steps: int = 0
    skipped_in_a_row: int = 0
    rollbacks: int = 0
    rate_scale: float = 1.0  # of the learning rate, lowered by each rollback
    epoch_loss: float = 0.0
    epoch_steps: int = 0


@dataclass
class TrainingState:
    """A training under way: what a checkpoint saves.

    `average` is the exponential average of the weights, None without one; `teacher` gives logits
    for normalised images, and passes on the labels learn from it as well; `loss` is what these
    minimise, None for cross entropy with smoothed labels.
    """

    space: SearchSpace
    data: Data
    recipe: TrainingRecipe
    out: Path
    supernet: Supernet
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    average: AveragedModel | None = None
    teacher: nn.Module | None = None
    loss: Loss | None = None
    group: ProcessGroup = field(default_factory=ProcessGroup)
    freezes_teacher: bool = False  # the teacher was frozen here, and is saved here
    stops: bool = False  # after the step under way
    start_note: str | None = None  # what became of the weights it started from
    step: int = 0
    totals: Totals = field(default_factory=Totals)
    _teacher_macs: int | None = None
    saved_at: float = field(default_factory=time.monotonic)

    @property
    def steps_per_epoch(self) -> int:
        return max(1, len(self.data.train) // self.recipe.batch_size)

    @property
    def total_steps(self) -> int:
        return self.recipe.epochs * self.steps_per_epoch

    @property
    def teacher_macs(self) -> int:
        """Multiply-accumulates of the teacher's forward pass for one image, 0 without one."""
        if self.teacher is None:
            return 0
        if self._teacher_macs is None:
            image = torch.zeros(1, *self.data.train.shape, device=self.device)
            self._teacher_macs = count(self.teacher, image, name="the teacher").macs
        return self._teacher_macs

    @property
    def position(self) -> StepPosition:
        return StepPosition(self.step, self.steps_per_epoch)

    @property
    def evaluated(self) -> Supernet:
        """The weights that count: their average where there is one."""
        return self.supernet if self.average is None else cast(Supernet, self.average.module)

    @property
    def device(self) -> torch.device:
        return next(self.supernet.parameters()).device


def start(
    space: SearchSpace,
    data: Data,
    *,
    recipe: TrainingRecipe,
    out: Path,
    resume: bool,
    teacher: nn.Module | None = None,
    loss: Loss | None = None,
    group: ProcessGroup | None = None,
) -> TrainingState:
    """A new state, or the one that `out` holds."""
    fitted = _fitted(space, data, recipe, loss)
    refuse_present(out, resume=resume)
    if recipe.crop_padding is not None and recipe.crop_padding >= min(data.train.shape[1:]):
        raise ConfigError(
            f"crop_padding {recipe.crop_padding} is as large as the images",
            where="training",
            fix=f"write less than {min(data.train.shape[1:])}, or leave it out",
        )
    device = training_device(recipe.device)
    with torch.random.fork_rng():
        torch.manual_seed(derive_seed(recipe.seed, Stream.WEIGHTS))
        supernet = Supernet.within_memory(fitted, where=fitted.name).to(device)
    group = group if group is not None else ProcessGroup()
    if recipe.precision == "auto":
        precision = _faster_precision(supernet, recipe, out, group)
        recipe = recipe.model_copy(update={"precision": precision})
    start_note = None
    if recipe.start_from is not None:
        if not checkpoint.paths(out):  # else the weights are its own
            start_note = _take_over(supernet, data, Path(recipe.start_from))
    else:
        if recipe.whitening:
            whiten(supernet, data)
        if recipe.zero_gamma:
            zero_gamma(supernet)
        if recipe.outer_gamma < 1:
            scale_outer_channels(supernet, recipe.outer_gamma)
    for module in supernet.modules():
        if isinstance(module, Elastic):
            module.compiles = recipe.compile
    state = TrainingState(
        fitted,
        data,
        recipe,
        out,
        supernet,
        make_optimizer(supernet, recipe),
        torch.amp.GradScaler(device.type, enabled=recipe.precision == "fp16"),
        average=_make_average(supernet, recipe),
        teacher=None if teacher is None else teacher.to(device),
        loss=loss,
        group=group,
        start_note=start_note,
    )
    if checkpoint.paths(out):
        restore(state, checkpoint.load(out))
    return state


def _fitted(
    space: SearchSpace, data: Data, recipe: TrainingRecipe, loss: Loss | None
) -> SearchSpace:
    """The space for the images; ConfigError where they, it and the loss do not fit."""
    outputs = space.definition.outputs
    if not data.has_targets:
        if outputs is not None:
            raise ConfigError(
                f"gives {', '.join(outputs)}, and the images have classes",
                where=space.name,
                fix="give images with targets of your own, load_data(..., collate=...), and a loss",
            )
        return space.for_data(in_channels=data.in_channels, num_classes=data.num_classes)
    channels, pixels, _ = data.train.shape
    if (channels, pixels) != (space.in_channels, space.largest.resolution):
        raise DataError(
            f"gives images of {channels} channels and {pixels} pixels, the largest network takes"
            f" {space.in_channels} and {space.largest.resolution}",
            where=data.name,
            fix="bring images, with their targets, to that size in the data set",
        )
    if loss is None:
        raise ConfigError(
            "has targets of its own, and nobody says what is minimised",
            where=data.name,
            fix="give a loss of outputs and targets, --loss my_package.module:function",
        )
    if recipe.distillation != "none" or recipe.teacher is not None:
        raise ConfigError(
            "needs logits, which a loss of one's own says nothing of",
            where="training.teacher" if recipe.teacher is not None else "training.distillation",
            fix="leave the teacher out, and set training.distillation=none: every network learns"
            " from the targets",
        )
    plain = AugmentationOptions().model_dump()
    for name, value in recipe.model_dump().items():
        if name in plain and value != plain[name]:
            raise ConfigError(
                "knows nothing of the targets of these images",
                where=f"training.{name}",
                fix="augment images with their targets in the data set, and leave it out",
            )
    return space


def _take_over(supernet: Supernet, data: Data, run: Path) -> str:
    """Take over a run's weights, norms and channel order; what became of them, on one line.

    The classifier of other classes is left as it is, new.
    """
    saved = checkpoint.load(run)
    source = checkpoint.load_supernet(run).to(next(supernet.parameters()).device)
    before, num_classes = saved.space.num_classes, supernet.space.num_classes
    names = tuple(saved.data.get("class_names", ()))  # an import without images has none
    is_new = before != num_classes or (bool(names) and names != data.class_names)
    new = {
        name: tensor.clone()
        for name, tensor in supernet.state_dict().items()
        if is_new and ".classifier." in name
    }
    report = transfer_weights(supernet, source)
    supernet.load_state_dict(new, strict=False)
    if not is_new:
        return f"{run}: {report}"
    taken = len(set(report.copied) - new.keys())
    kind = "other classes" if before == num_classes else f"classes, {before} before"
    grown = len(set(report.grown) - new.keys())
    counts = f"{taken} tensors copied, {grown} grown"
    return f"{run}: {counts}; the classifier is new ({num_classes} {kind})"


def _faster_precision(
    supernet: Supernet, recipe: TrainingRecipe, out: Path, group: ProcessGroup
) -> str:
    """float32 or bf16, whichever is faster here; or what the training in `out` began with."""
    if checkpoint.paths(out):
        return str(checkpoint.load(out).recipe["precision"])
    precisions = ("float32", "bf16")
    batch_size = max(2, recipe.batch_size // group.size)
    seconds = [step_seconds(supernet, name, batch_size=batch_size) for name in precisions]
    device = next(supernet.parameters()).device
    seconds = group.average([torch.zeros(1, device=device)], seconds)  # all take the same one
    return precisions[seconds.index(min(seconds))]


def refuse_present(out: Path, *, resume: bool) -> None:
    """OutputError where `out` holds a training that is not to be resumed."""
    if checkpoint.paths(out) and not resume:
        raise OutputError(
            "already holds a training", where=out, fix="continue it with --resume, or choose --out"
        )


def restore(state: TrainingState, saved: Checkpoint) -> None:
    """Take over the state of a checkpoint; CheckpointError where it is of another state."""
    checkpoint.restore_weights(state.supernet, saved, where=state.out)
    defaults = TrainingRecipe(strategy=state.recipe.strategy).model_dump()
    before = {**defaults, **saved.recipe}  # older ones lack newer keys
    for name, value in state.recipe.model_dump().items():
        if name == "start_from":  # what it started from is in its weights, wherever it lies now
            continue
        if name == "loss" and name not in saved.recipe:  # older checkpoints do not name it
            continue
        if before[name] != value:
            raise CheckpointError(
                f"was trained with {name} {before[name]}, not {value}",
                where=state.out,
                fix="resume with the recipe of the state, or choose another --out",
            )
    check_data(state, saved)
    state.optimizer.load_state_dict(dict(saved.optimizer))
    state.scaler.load_state_dict(dict(saved.scaler))
    if state.average is not None and saved.average is not None:
        state.average.load_state_dict(dict(saved.average))
    if saved.teacher is not None:
        freeze_teacher(state)
        assert state.teacher is not None
        state.teacher.load_state_dict(dict(saved.teacher))
    state.step = saved.step
    state.totals = Totals(**saved.totals)  # type: ignore[arg-type]


def check_data(state: TrainingState, saved: Checkpoint) -> None:
    """CheckpointError unless the images are those of the checkpoint, split alike."""
    known, data = DataIdentity.from_dict(saved.data), state.data
    try:
        known.check_classes(data.class_names, where=data.name)
        known.check_images(data.num_images, data.fingerprint, where=data.name)
        known.check_split(data.held_out, where=data.name)
        known.check_preprocessing(data.preprocessing, where=data.name)
        known.check_form(data.identity, where=data.name)
    except DataError as error:
        raise CheckpointError(
            f"was trained on other images: {error.where} {error.what}",
            where=state.out,
            fix=error.fix,
        ) from error
    if saved.steps_per_epoch != state.steps_per_epoch:
        raise CheckpointError(
            f"was trained on other images than {data.name}",
            where=state.out,
            fix="resume with its images, or train into another directory",
        )


def freeze_teacher(state: TrainingState) -> None:
    """Make the largest network as it is now the teacher of what follows.

    Its norms are recalibrated: a supernet has the statistics of all its subnets, its average none.
    """
    frozen = Evaluator(state.evaluated, state.data).subnet(state.space.largest)
    state.teacher = frozen.requires_grad_(False).to(state.device)
    state.freezes_teacher = True


def make_optimizer(supernet: nn.Module, recipe: TrainingRecipe) -> torch.optim.Optimizer:
    """SGD with Nesterov momentum, AdamW or Muon; norms and biases do not decay."""
    parameters = list(supernet.parameters())
    groups = [
        {"params": [p for p in parameters if p.dim() > 1], "weight_decay": recipe.weight_decay},
        {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0},
    ]
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=recipe.lr)
    if recipe.optimizer == "muon":
        return Muon(groups, lr=recipe.lr, momentum=recipe.momentum)
    nesterov = recipe.momentum > 0
    return torch.optim.SGD(groups, lr=recipe.lr, momentum=recipe.momentum, nesterov=nesterov)


def _make_average(supernet: Supernet, recipe: TrainingRecipe) -> AveragedModel | None:
    if recipe.ema_decay is None:
        return None
    average = get_ema_multi_avg_fn(recipe.ema_decay)
    return AveragedModel(supernet, multi_avg_fn=average, use_buffers=False)


def save(state: TrainingState) -> None:
    """Write a checkpoint."""
    frozen = state.teacher if state.freezes_teacher else None
    saved = Checkpoint(
        space=state.space,
        data=state.data.identity.to_dict(),
        recipe=state.recipe.model_dump(),
        step=state.step,
        steps_per_epoch=state.steps_per_epoch,
        totals=asdict(state.totals),
        model=state.supernet.state_dict(),
        optimizer=state.optimizer.state_dict(),
        scaler=state.scaler.state_dict(),
        average=None if state.average is None else state.average.state_dict(),
        teacher=None if frozen is None else frozen.state_dict(),
    )
    checkpoint.save(state.out, saved)


def forget_metrics(state: TrainingState) -> None:
    """Drop lines of epochs that the run will do again: a kill can fall between line and save."""
    path = state.out / "metrics.jsonl"
    lines = files.read_json_lines(path)
    kept = [line for line in lines if line["epoch"] <= state.position.epoch and state.step > 0]
    if path.exists():
        path.unlink()
    for line in kept:
        files.append_json_line(path, line)
