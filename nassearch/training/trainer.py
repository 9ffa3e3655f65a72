"""The training loop: a strategy names the subnets of a step, one optimizer step trains them."""

import math
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from nassearch import files, interruption
from nassearch.data.dataset import Data
from nassearch.data.seeding import Stream, derive_seed, numpy_generator
from nassearch.data.target_set import Targets
from nassearch.interruption import Interruption
from nassearch.networks import Subnet, Supernet
from nassearch.networks.supernet import resize
from nassearch.networks.wiring import Outputs, mapped
from nassearch.progress import Progress, silent
from nassearch.space import SearchSpace
from nassearch.training import checkpoint, gradient
from nassearch.training.allocator import keep_buffers
from nassearch.training.batch import epoch_batches
from nassearch.training.batch_statistics import forget_broken_statistics
from nassearch.training.channel_sorting import sort_channels
from nassearch.training.distillation import DISTILLATIONS
from nassearch.training.evaluation import Evaluator
from nassearch.training.metrics import finish_epoch, record_step, roll_back, save_checkpoint
from nassearch.training.precision import autocast
from nassearch.training.process_group import ProcessGroup
from nassearch.training.state import (
    TrainingState,
    forget_metrics,
    freeze_teacher,
    start,
)
from nassearch.training.strategy import StepPlan, Strategy, SubnetPass, make_strategy
from nassearch.training.task import Loss, checked_loss, share_of
from nassearch.training.training_recipe import TrainingRecipe

STAGE = "training"


def train(
    space: SearchSpace,
    data: Data,
    *,
    recipe: TrainingRecipe,
    out: Path,
    resume: bool = False,
    teacher: nn.Module | None = None,
    loss: Loss | None = None,
    group: ProcessGroup | None = None,
    progress: Progress = silent,
) -> Supernet:
    """Train the supernet of `space` on `data`, whose channels and classes the space is fitted to.

    Args:
        recipe: How it is trained.
        out: The run directory, which gets metrics and checkpoints.
        resume: Go on from the newest checkpoint in `out`, to the same weights as a training that
            was left alone.
        teacher: Gives logits, (n, classes), for normalised images, (n, c, h, w).
        loss: What the passes on targets minimise instead of cross entropy with smoothed labels.
        group: The workers that this one trains with; each step sees this worker's share of a batch.
        progress: Called after every step.

    Returns:
        The trained supernet (the average of its weights where the recipe keeps one), in evaluation
        mode.

    Raises:
        OutputError: `out` holds a training already, or cannot be written.
        CheckpointError: the checkpoint is of another space, recipe or data set.
        ConfigError: the loss diverges again and again.
        KeyboardInterrupt: Ctrl-C, after the state was saved.
    """
    state = start(
        space,
        data,
        recipe=recipe,
        out=out,
        resume=resume,
        teacher=teacher,
        loss=loss,
        group=group,
    )
    return train_from(state, progress=progress)


def train_from(state: TrainingState, *, progress: Progress = silent) -> Supernet:
    """Train from a state that was started, or restored, to the end of its recipe."""
    keep_buffers()
    strategy = make_strategy(state.space, state.recipe)
    evaluator = Evaluator(state.evaluated, state.data)
    if state.group.leads:
        files.make_directory(state.out)
        forget_metrics(state)
    report = _Report(state, progress)
    report()
    with torch.random.fork_rng(), interruption.deferred() as interrupted:
        while state.step < state.total_steps:
            if train_epoch(state, strategy, interrupted, report=report):
                report(accuracies=finish_epoch(state, evaluator))
            if state.stops:
                save_checkpoint(state)
                raise checkpoint.interruption_of(state.out)
    return state.evaluated.eval()


class _Report:
    """Tells a watcher how far a training is, its loss, and the accuracies measured last."""

    def __init__(self, state: TrainingState, progress: Progress) -> None:
        self._state, self._progress = state, progress
        self._loss, self._accuracies = "", ""

    def __call__(
        self, loss: float | None = None, accuracies: dict[str, float] | None = None
    ) -> None:
        if loss is not None:
            self._loss = f"loss {loss:.3f}"
        if accuracies:
            self._accuracies = "".join(f"  {n} {value:.1%}" for n, value in accuracies.items())
        fraction = self._state.step / self._state.total_steps
        self._progress(STAGE, fraction, self._loss + self._accuracies)


def train_epoch(
    state: TrainingState,
    strategy: Strategy,
    interrupted: Interruption,
    *,
    report: Callable[[float], None] = lambda loss: None,
) -> bool:
    """The steps to the end of the epoch under way, or to an interruption or a rollback.

    Whether the epoch was completed.
    """
    seed, group = state.recipe.seed, state.group
    for images, targets in epoch_batches(state, share=(group.rank, group.size)):
        began = time.perf_counter()
        position = state.position
        plan = strategy.step(position, numpy_generator(seed, Stream.SUBNETS, position.step))
        prepare(state, plan)
        torch.manual_seed(derive_seed(seed, Stream.LAYERS, position.step, group.rank))
        state.stops = interrupted.requested or group.asked_to_stop
        step_loss = train_step(state, plan.passes, images, targets)
        record_step(state, plan.passes, step_loss, num_images=len(images), began=began)
        report(step_loss)
        state.stops |= interrupted.requested and group.size == 1
        if roll_back(state):
            return False
        if state.stops:
            break
    return state.position.step_in_epoch == 0


def prepare(state: TrainingState, plan: StepPlan) -> None:
    """Do what a plan asks for before its passes."""
    if plan.freeze_teacher:
        freeze_teacher(state)
    if plan.sort_channels and state.recipe.start_from is None:  # which keeps its channels' order
        followers = [] if state.average is None else [state.average.module]
        sort_channels(state.supernet, optimizer=state.optimizer, followers=followers)
    for parameters in state.optimizer.param_groups:
        parameters["lr"] = plan.learning_rate * state.totals.rate_scale


def train_step(
    state: TrainingState, passes: tuple[SubnetPass, ...], images: Tensor, targets: Targets
) -> float:
    """Accumulate β-weighted gradients over the passes, then make one optimizer step.

    `targets` are labels, int64 (n,), or probabilities, (n, classes), or what the loss takes.
    Returns the first pass's loss on them, averaged over the workers; nan where a loss or the
    gradient is not finite, and then nothing is changed. The workers meet once, in one all-reduce.
    """
    state.optimizer.zero_grad()
    first_loss = accumulate(state, passes, images, targets)
    state.scaler.unscale_(state.optimizer)
    parameters = list(state.supernet.parameters())
    gradients = gradient.all_of(parameters)
    first_loss, stops = state.group.average(gradients, [first_loss, float(state.stops)])
    state.stops = stops > 0
    norm = gradient.clip(parameters, state.recipe)
    finite = math.isfinite(first_loss) and math.isfinite(norm)
    if finite:
        state.scaler.step(state.optimizer)
    state.scaler.update()
    if not finite:
        forget_broken_statistics(state.supernet)
        return float("nan")
    if state.average is not None:
        state.average.update_parameters(state.supernet)
    return first_loss


def accumulate(
    state: TrainingState, passes: tuple[SubnetPass, ...], images: Tensor, targets: Targets
) -> float:
    """Add the passes' gradients up in the parameters; the first pass's label loss is returned."""
    parameters = list(state.supernet.parameters())
    advice = teacher_logits(state, passes, images)
    first_logits: Outputs | None = None
    first_loss = 0.0
    distils = state.recipe.distillation != "none"
    largest: list[Tensor | None] = []
    for subnet_pass in passes:
        seen = slice(subnet_pass.part[0], None, subnet_pass.part[1])
        logits = forward(state, subnet_pass, images[seen])
        if first_logits is None or subnet_pass.target == "labels" or not distils:
            pass_loss = label_loss(state, logits, share_of(targets, seen, len(images)))
            first_loss = pass_loss.item() if first_logits is None else first_loss
            if advice is not None:
                weight = state.recipe.teacher_weight
                pass_loss = pass_loss + weight * distillation_loss(state, logits, advice[seen])
        else:
            pass_loss = distillation_loss(state, logits, first_logits)
        state.scaler.scale(subnet_pass.weight * pass_loss).backward()
        if first_logits is None:
            first_logits = mapped(Tensor.detach, logits)
            if state.recipe.gradient_projection and len(passes) > 1:
                largest = gradient.take(parameters)
    if largest:
        gradient.project(parameters, largest)
    return first_loss


def forward(state: TrainingState, subnet_pass: SubnetPass, images: Tensor) -> Outputs:
    """What a pass gives, float32; the largest network alone is regularised."""
    is_largest = subnet_pass.architecture == state.space.largest
    with autocast(state.device, state.recipe.precision):
        outputs: Outputs = state.supernet(
            images,
            subnet_pass.architecture,
            resolution=subnet_pass.resolution,
            dropout=state.recipe.dropout if is_largest else 0.0,
            drop_path=state.recipe.drop_path if is_largest else 0.0,
        )
    return mapped(Tensor.float, outputs)


def label_loss(state: TrainingState, logits: Outputs, targets: Targets) -> Tensor:
    """The user's own loss, or cross entropy with smoothed labels."""
    if state.loss is not None:
        return checked_loss(state.loss, logits, targets)
    assert isinstance(logits, Tensor)
    smoothing = state.recipe.label_smoothing
    return nn.functional.cross_entropy(logits, targets, label_smoothing=smoothing)


def distillation_loss(state: TrainingState, logits: Outputs, teacher: Outputs) -> Tensor:
    assert isinstance(logits, Tensor)
    assert isinstance(teacher, Tensor)
    divergence = DISTILLATIONS[state.recipe.distillation]
    return divergence(logits, teacher, temperature=state.recipe.distillation_temperature)


def teacher_logits(
    state: TrainingState, passes: tuple[SubnetPass, ...], images: Tensor
) -> Tensor | None:
    """The teacher's logits for the images; None without one, or where no pass asks it."""
    if state.teacher is None or not any(taken.target == "labels" for taken in passes):
        return None
    with torch.no_grad(), autocast(state.device, state.recipe.precision):
        if isinstance(state.teacher, Subnet):
            images = resize(images, state.teacher.input_shape[-1])
        logits: Tensor = state.teacher(images)
    return logits.float()
