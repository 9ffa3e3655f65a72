"""What a training writes down and when: counts, metrics, checkpoints, rollbacks."""

import math
import time
import warnings

from nassearch import files
from nassearch.data.seeding import Stream, numpy_generator
from nassearch.errors import ConfigError
from nassearch.networks.cost import macs
from nassearch.space import Architecture, SearchSpace, lower
from nassearch.training import checkpoint, tensorboard
from nassearch.training.evaluation import Evaluator
from nassearch.training.state import TrainingState, forget_metrics, restore, save
from nassearch.training.strategy import SubnetPass

_MAX_SKIPPED = 10
_MAX_ROLLBACKS = 3
_SLOWER = 0.5
_BACKWARD = 2  # a backward pass is about two forward passes: one for weights, one for inputs


def record_step(
    run: TrainingState,
    passes: tuple[SubnetPass, ...],
    loss: float,
    *,
    num_images: int,
    began: float,
) -> None:
    """Count a step that is done, and write a checkpoint when the last one is old."""
    totals = run.totals
    run.step += 1
    totals.seconds += time.perf_counter() - began
    counted = step_macs(run.space, passes, teacher_macs=run.teacher_macs)
    totals.macs += run.group.size * num_images * counted
    if math.isfinite(loss):
        totals.epoch_loss += loss
        totals.epoch_steps += 1
        totals.skipped_in_a_row = 0
    else:
        totals.skipped_steps += 1
        totals.skipped_in_a_row += 1
    if time.monotonic() - run.saved_at > 60 * run.recipe.checkpoint_minutes:
        save_checkpoint(run)


def step_macs(space: SearchSpace, passes: tuple[SubnetPass, ...], *, teacher_macs: int = 0) -> int:
    """Multiply-accumulates of a step for one image: forward, backward, the teacher's forward."""
    trained = sum(macs(lower(space, p.architecture, resolution=p.resolution)) for p in passes)
    taught = teacher_macs if any(each.target == "labels" for each in passes) else 0
    return (1 + _BACKWARD) * trained + taught


def save_checkpoint(run: TrainingState) -> None:
    """Write a checkpoint, by the worker that leads.

    Not after steps that went wrong: those are nothing to come back to.
    """
    if run.group.leads and not run.totals.skipped_in_a_row:
        save(run)
        run.saved_at = time.monotonic()


def roll_back(run: TrainingState) -> bool:
    """After too many skipped steps in a row, go back to the last checkpoint at a lower rate.

    Whether it did. ConfigError where there is no checkpoint yet, or where that happened too often.
    """
    if run.totals.skipped_in_a_row < _MAX_SKIPPED:
        return False
    what = f"the loss was not finite for {_MAX_SKIPPED} steps in a row (epoch {run.moment.epoch})"
    rollbacks, scale = run.totals.rollbacks + 1, run.totals.rate_scale * _SLOWER
    if rollbacks > _MAX_ROLLBACKS or not checkpoint.paths(run.out):
        raise ConfigError(
            f"{what}, lr {run.optimizer.param_groups[0]['lr']:.3g}",
            where=run.out,
            fix="train with a smaller lr, or set clip_norm=1.0",
        )
    restore(run, checkpoint.load(run.out))
    run.totals.rollbacks, run.totals.rate_scale = rollbacks, scale
    if run.group.leads:
        forget_metrics(run)
    warnings.warn(
        f"{what}: back to epoch {run.moment.epochs:.2f}, with {scale:g} of the learning rate",
        stacklevel=2,
    )
    return True


def finish_epoch(run: TrainingState, evaluator: Evaluator) -> dict[str, object]:
    """Write the epoch's line of metrics and its checkpoint; the line is returned."""
    totals, epoch = run.totals, run.moment.epoch
    record: dict[str, object] = {
        "epoch": epoch,
        "loss": totals.epoch_loss / max(1, totals.epoch_steps),
        "lr": run.optimizer.param_groups[0]["lr"],
        "seconds": round(totals.seconds, 3),
        "train_macs": totals.macs,
        "skipped_steps": totals.skipped_steps,
        "rollbacks": totals.rollbacks,
    }
    totals.epoch_loss, totals.epoch_steps = 0.0, 0
    if not run.group.leads:
        return record
    if epoch % run.recipe.eval_every == 0 or epoch == run.recipe.epochs:
        for name, architecture in monitored_subnets(run).items():
            record[f"val_accuracy_{name}"] = evaluator.accuracy(architecture).value
    files.append_json_line(run.out / "metrics.jsonl", record)
    if run.recipe.tensorboard:
        tensorboard.write(run.out, record)
    save_checkpoint(run)
    return record


def monitored_subnets(run: TrainingState) -> dict[str, Architecture]:
    """The subnets whose accuracy is followed: the ends, and one random one all along."""
    rng = numpy_generator(run.recipe.seed, Stream.WATCHED)
    space = run.space
    return {"max": space.largest, "min": space.smallest, "random": space.sample(rng)}
