"""The training loop: a strategy names the subnets of a step, one optimizer step trains them."""

import math
import time
from pathlib import Path

import torch
from torch import Tensor, nn

from nassearch.data.dataset import Data
from nassearch.data.seeding import Stream, derive_seed, numpy_generator
from nassearch.networks import Subnet, Supernet
from nassearch.networks.supernet import resize
from nassearch.space import SearchSpace
from nassearch.training import gradient, interruption
from nassearch.training.allocator import keep_buffers
from nassearch.training.batch import epoch_batches
from nassearch.training.channel_sorting import sort_channels
from nassearch.training.distillation import DISTILLATIONS
from nassearch.training.evaluation import Evaluator
from nassearch.training.interruption import Interruption
from nassearch.training.metrics import finish_epoch, record_step, roll_back, save_checkpoint
from nassearch.training.process_group import ProcessGroup
from nassearch.training.state import TrainingState, freeze_teacher, start
from nassearch.training.strategy import StepPlan, Strategy, SubnetPass, make_strategy
from nassearch.training.training_recipe import TrainingRecipe
from nassearch.training.watcher import Progress, Silence

_PRECISIONS = {"float32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def train(
    space: SearchSpace,
    data: Data,
    *,
    recipe: TrainingRecipe,
    out: Path,
    resume: bool = False,
    teacher: nn.Module | None = None,
    group: ProcessGroup | None = None,
    progress: Progress | None = None,
) -> Supernet:
    """Train the supernet of `space` on `data`; the run directory `out` gets metrics, checkpoints.

    The space is fitted to the images' channels and classes. With `resume` the newest checkpoint in
    `out` is continued, to the same weights as a run left alone. `teacher` gives logits for
    normalised images. As one of the workers of a `group`, each step sees this worker's share of the
    batch. Ctrl-C saves and passes on. Raises OutputError, CheckpointError (another space or
    recipe), or ConfigError when the loss diverges again and again.
    """
    watch = progress if progress is not None else Silence()
    keep_buffers()
    with torch.random.fork_rng():
        run = start(
            space, data, recipe=recipe, out=out, resume=resume, teacher=teacher, group=group
        )
        strategy = make_strategy(run.space, recipe)
        evaluator = Evaluator(run.evaluated, data)
        watch.start(run.total_steps, done=run.step)
        with interruption.deferred() as interrupted:
            while run.step < run.total_steps:
                if train_epoch(run, strategy, watch, interrupted):
                    watch.report(finish_epoch(run, evaluator))
                if run.stops:
                    save_checkpoint(run)
                    raise KeyboardInterrupt
    return run.evaluated.eval()


def train_epoch(
    run: TrainingState, strategy: Strategy, watch: Progress, interrupted: Interruption
) -> bool:
    """The steps to the end of the epoch under way, or to an interruption or a rollback.

    Whether the epoch was completed.
    """
    seed = run.recipe.seed
    for images, targets in epoch_batches(run, share=(run.group.rank, run.group.size)):
        began = time.perf_counter()
        moment = run.moment
        step = strategy.step(moment, numpy_generator(seed, Stream.SUBNETS, moment.step))
        prepare(run, step)
        torch.manual_seed(derive_seed(seed, Stream.LAYERS, moment.step, run.group.rank))
        run.stops = interrupted.requested or run.group.asked_to_stop
        loss = train_step(run, step.passes, images, targets)
        record_step(run, step.passes, loss, num_images=len(images), began=began)
        watch.advance(loss=loss)
        run.stops |= interrupted.requested and run.group.size == 1
        if roll_back(run):
            return False
        if run.stops:
            break
    return run.moment.step_in_epoch == 0


def prepare(run: TrainingState, step: StepPlan) -> None:
    """What a step asks for before its passes."""
    if step.freeze_teacher:
        freeze_teacher(run)
    if step.sort_channels:
        followers = [] if run.average is None else [run.average.module]
        sort_channels(run.supernet, optimizer=run.optimizer, followers=followers)
    for group in run.optimizer.param_groups:
        group["lr"] = step.learning_rate * run.totals.rate_scale


def train_step(
    run: TrainingState, passes: tuple[SubnetPass, ...], images: Tensor, targets: Tensor
) -> float:
    """Accumulate β-weighted gradients over the passes, then make one optimizer step.

    `targets` are labels, int64 (n,), or probabilities, (n, classes). Returns the first pass's loss
    on them, averaged over the workers; nan where a loss or the gradient is not finite, and then
    nothing is changed. The workers meet once, in one all-reduce.
    """
    run.optimizer.zero_grad()
    loss = accumulate(run, passes, images, targets)
    run.scaler.unscale_(run.optimizer)
    parameters = list(run.supernet.parameters())
    loss, stops = run.group.average(gradient.all_of(parameters), [loss, float(run.stops)])
    run.stops = stops > 0
    norm = gradient.clip(parameters, run.recipe)
    finite = math.isfinite(loss) and math.isfinite(norm)
    if finite:
        run.scaler.step(run.optimizer)
    run.scaler.update()
    if not finite:
        return float("nan")
    if run.average is not None:
        run.average.update_parameters(run.supernet)
    return loss


def accumulate(
    run: TrainingState, passes: tuple[SubnetPass, ...], images: Tensor, targets: Tensor
) -> float:
    """Add the passes' gradients up in the parameters; the first pass's label loss is returned."""
    parameters = list(run.supernet.parameters())
    advice = teacher_logits(run, passes, images)
    first: Tensor | None = None
    first_loss = 0.0
    largest: list[Tensor | None] = []
    for each in passes:
        logits = forward(run, each, images)
        if first is None or each.target == "labels":
            loss = label_loss(run, logits, targets)
            first_loss = loss.item() if first is None else first_loss
            if advice is not None:
                loss = loss + run.recipe.teacher_weight * distillation_loss(run, logits, advice)
        else:
            loss = distillation_loss(run, logits, first)
        run.scaler.scale(each.weight * loss).backward()
        if first is None:
            first = logits.detach()
            if run.recipe.gradient_projection and len(passes) > 1:
                largest = gradient.take(parameters)
    if largest:
        gradient.project(parameters, largest)
    return first_loss


def forward(run: TrainingState, each: SubnetPass, images: Tensor) -> Tensor:
    """The logits of a pass, float32; the largest network alone is regularised."""
    is_largest = each.architecture == run.space.largest
    with autocast(run):
        logits: Tensor = run.supernet(
            images,
            each.architecture,
            resolution=each.resolution,
            dropout=run.recipe.dropout if is_largest else 0.0,
            drop_path=run.recipe.drop_path if is_largest else 0.0,
        )
    return logits.float()


def label_loss(run: TrainingState, logits: Tensor, targets: Tensor) -> Tensor:
    """Cross entropy with smoothed labels."""
    smoothing = run.recipe.label_smoothing
    return nn.functional.cross_entropy(logits, targets, label_smoothing=smoothing)


def distillation_loss(run: TrainingState, logits: Tensor, teacher: Tensor) -> Tensor:
    divergence = DISTILLATIONS[run.recipe.distillation]
    return divergence(logits, teacher, temperature=run.recipe.distillation_temperature)


def teacher_logits(
    run: TrainingState, passes: tuple[SubnetPass, ...], images: Tensor
) -> Tensor | None:
    """What the teacher says of the images; None without one, or where no pass asks it."""
    if run.teacher is None or not any(each.target == "labels" for each in passes):
        return None
    with torch.no_grad(), autocast(run):
        if isinstance(run.teacher, Subnet):
            images = resize(images, run.teacher.input_shape[-1])
        logits: Tensor = run.teacher(images)
    return logits.float()


def autocast(run: TrainingState) -> torch.autocast:
    precision = _PRECISIONS[run.recipe.precision]
    return torch.autocast(run.device.type, precision, enabled=precision != torch.float32)
