"""The training loop: a strategy names the subnets of a step, one optimizer step trains them."""

import math
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nassearch import files
from nassearch.errors import ConfigError
from nassearch.networks import Supernet
from nassearch.networks.subnet import total_cost
from nassearch.space import Architecture, SearchSpace, lower
from nassearch.training import interruption
from nassearch.training.batch import epoch_batches
from nassearch.training.data import Data
from nassearch.training.distillation import soft_target_loss
from nassearch.training.evaluation import Evaluator
from nassearch.training.progress import Progress, Silence
from nassearch.training.randomness import Stream, derive_seed, numpy_generator
from nassearch.training.recipe import TrainingRecipe
from nassearch.training.run import Run, save, start
from nassearch.training.schedule import learning_rate
from nassearch.training.strategy import Pass, make_strategy

_MAX_SKIPPED = 10


def train(
    space: SearchSpace,
    data: Data,
    *,
    recipe: TrainingRecipe,
    out: Path,
    resume: bool = False,
    progress: Progress | None = None,
) -> Supernet:
    """Train the supernet of `space` on `data`; the run directory `out` gets metrics, checkpoints.

    The space is fitted to the images' channels and classes. With `resume` the newest checkpoint in
    `out` is continued, to the same weights as a run left alone. Ctrl-C saves and passes on. Raises
    OutputError, CheckpointError (another space or recipe), or ConfigError when the loss diverges.
    """
    watch = progress if progress is not None else Silence()
    with torch.random.fork_rng():
        run = start(space, data, recipe=recipe, out=out, resume=resume)
        strategy = make_strategy(run.space, recipe)
        evaluator = Evaluator(run.supernet, data)
        total = recipe.epochs * run.steps_per_epoch
        watch.start(total, done=run.step)
        with interruption.deferred() as interrupted:
            while run.step < total:
                for images, targets in epoch_batches(run):
                    began = time.perf_counter()
                    moment = run.moment
                    rng = numpy_generator(recipe.seed, Stream.SUBNETS, moment.step)
                    passes = strategy.step(moment, rng)
                    set_learning_rate(run.optimizer, learning_rate(recipe, moment.epochs))
                    torch.manual_seed(derive_seed(recipe.seed, Stream.LAYERS, moment.step))
                    loss = train_step(run, passes, images, targets)
                    account(run, passes, loss, num_images=len(images), began=began)
                    watch.advance(loss=loss)
                    if interrupted.requested:
                        break
                if run.moment.step_in_epoch == 0:
                    watch.report(finish_epoch(run, evaluator))
                else:
                    save(run)
                if interrupted.requested:
                    raise KeyboardInterrupt
    return run.supernet.eval()


def train_step(run: Run, passes: tuple[Pass, ...], images: Tensor, labels: Tensor) -> float:
    """Accumulate β-weighted gradients over the passes, then make one optimizer step.

    Returns the loss of the first pass. A step with a non-finite loss or gradient is skipped and
    its first non-finite loss (or nan) returned.
    """
    run.optimizer.zero_grad()
    losses: list[float] = []
    teacher: Tensor | None = None
    for each in passes:
        logits = run.supernet(images, each.architecture)
        if teacher is None or each.target == "labels":
            loss = F.cross_entropy(logits, labels, label_smoothing=run.recipe.label_smoothing)
        else:
            temperature = run.recipe.distillation_temperature
            loss = soft_target_loss(logits, teacher, temperature=temperature)
        (each.weight * loss).backward()
        losses.append(loss.item())
        if not math.isfinite(losses[-1]):
            return losses[-1]
        teacher = logits.detach() if teacher is None else teacher
    limit = run.recipe.clip_norm if run.recipe.clip_norm is not None else math.inf
    norm = nn.utils.clip_grad_norm_(run.supernet.parameters(), limit)
    if not torch.isfinite(norm):
        return math.nan
    run.optimizer.step()
    return losses[0]


# -- the parts -------------------------------------------------------------------------------------


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate


def account(
    run: Run, passes: tuple[Pass, ...], loss: float, *, num_images: int, began: float
) -> None:
    """Count a step that is done; ConfigError after too many skipped ones in a row."""
    totals = run.totals
    run.step += 1
    totals.seconds += time.perf_counter() - began
    totals.macs += num_images * sum(macs(run.space, p.architecture) for p in passes)
    if math.isfinite(loss):
        totals.epoch_loss += loss
        totals.epoch_steps += 1
        totals.skipped_in_a_row = 0
        return
    totals.skipped_steps += 1
    totals.skipped_in_a_row += 1
    if totals.skipped_in_a_row >= _MAX_SKIPPED:
        raise ConfigError(
            f"the loss was not finite for {_MAX_SKIPPED} steps in a row "
            f"(epoch {run.moment.epoch}, lr {run.optimizer.param_groups[0]['lr']:.3g})",
            where=run.out,
            fix="train with a smaller lr, or set clip_norm=1.0",
        )


def finish_epoch(run: Run, evaluator: Evaluator) -> dict[str, object]:
    """Write the epoch's line of metrics and its checkpoint; the line is returned."""
    totals, epoch = run.totals, run.moment.epoch
    record: dict[str, object] = {
        "epoch": epoch,
        "loss": totals.epoch_loss / max(1, totals.epoch_steps),
        "lr": run.optimizer.param_groups[0]["lr"],
        "seconds": round(totals.seconds, 3),
        "train_macs": totals.macs,
        "skipped_steps": totals.skipped_steps,
    }
    if epoch % run.recipe.eval_every == 0 or epoch == run.recipe.epochs:
        for name, architecture in watched(run).items():
            record[f"val_accuracy_{name}"] = evaluator.accuracy(architecture).value
    totals.epoch_loss, totals.epoch_steps = 0.0, 0
    files.append_json_line(run.out / "metrics.jsonl", record)
    save(run)
    return record


def watched(run: Run) -> dict[str, Architecture]:
    """The subnets whose accuracy is followed: the ends, and one random one all along."""
    rng = numpy_generator(run.recipe.seed, Stream.WATCHED)
    space = run.space
    return {"max": space.largest, "min": space.smallest, "random": space.sample(rng)}


def macs(space: SearchSpace, architecture: Architecture) -> int:
    """Multiply-accumulates of one image's forward pass."""
    return total_cost(lower(space, architecture)).macs
