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
    state: TrainingState,
    passes: tuple[SubnetPass, ...],
    loss: float,
    *,
    num_images: int,
    began: float,
) -> None:
    """Count a step that is done, and write a checkpoint when the last one is old."""
    totals = state.totals
    state.step += 1
    totals.seconds += time.perf_counter() - began
    counted = step_macs(state.space, passes, teacher_macs=state.teacher_macs)
    totals.macs += state.group.size * num_images * counted
    if math.isfinite(loss):
        totals.epoch_loss += loss
        totals.epoch_steps += 1
        totals.skipped_in_a_row = 0
    else:
        totals.skipped_steps += 1
        totals.skipped_in_a_row += 1
    if time.monotonic() - state.saved_at > 60 * state.recipe.checkpoint_minutes:
        save_checkpoint(state)


def step_macs(
    space: SearchSpace, passes: tuple[SubnetPass, ...], *, teacher_macs: int = 0
) -> float:
    """Multiply-accumulates of a step for one image: forward, backward, the teacher's forward.

    Where each pass sees a part of the batch, the mean over its images.
    """
    trained = sum(
        macs(lower(space, p.architecture, resolution=p.resolution)) / p.part[1] for p in passes
    )
    taught = teacher_macs if any(taken.target == "labels" for taken in passes) else 0
    return (1 + _BACKWARD) * trained + taught


def save_checkpoint(state: TrainingState) -> bool:
    """Write a checkpoint, by the worker that leads; whether it did.

    Not after steps that went wrong, which are nothing to come back to, but at the end of the
    training: a skipped step changes no weight.
    """
    at_end = state.step == state.total_steps
    if state.group.leads and (at_end or not state.totals.skipped_in_a_row):
        save(state)
        state.saved_at = time.monotonic()
        return True
    return False


def roll_back(state: TrainingState) -> bool:
    """After too many skipped steps in a row, go back to the last checkpoint at a lower rate.

    Whether it did. ConfigError where there is no checkpoint yet, or where that happened too often.
    """
    if state.totals.skipped_in_a_row < _MAX_SKIPPED:
        return False
    what = (
        f"the loss was not finite for {_MAX_SKIPPED} steps in a row (epoch {state.position.epoch})"
    )
    rollbacks, scale = state.totals.rollbacks + 1, state.totals.rate_scale * _SLOWER
    if rollbacks > _MAX_ROLLBACKS or not checkpoint.paths(state.out):
        raise ConfigError(
            f"{what}, lr {state.optimizer.param_groups[0]['lr']:.3g}",
            where=state.out,
            fix="train with a smaller lr, or set clip_norm=1.0",
        )
    restore(state, checkpoint.load(state.out))
    state.totals.rollbacks, state.totals.rate_scale = rollbacks, scale
    if state.group.leads:
        forget_metrics(state)
    warnings.warn(
        f"{what}: back to epoch {state.position.epochs:.2f}, with {scale:g} of the learning rate",
        stacklevel=2,
    )
    return True


def monitored(state: TrainingState, evaluator: Evaluator, architecture: Architecture) -> float:
    """What is followed of a subnet: its accuracy, or its loss where there are no classes."""
    if not state.data.has_targets:
        return evaluator.accuracy(architecture).value
    assert state.loss is not None
    return evaluator.loss(architecture, state.loss)


def finish_epoch(state: TrainingState, evaluator: Evaluator) -> dict[str, float]:
    """Write the epoch's line of metrics and its checkpoint.

    Returns:
        The validation accuracies measured, by the monitored subnet's name.
    """
    totals, epoch = state.totals, state.position.epoch
    record: dict[str, object] = {
        "epoch": epoch,
        "loss": totals.epoch_loss / totals.epoch_steps if totals.epoch_steps else None,
        "lr": state.optimizer.param_groups[0]["lr"],
        "seconds": round(totals.seconds, 3),
        "train_macs": totals.macs,
        "skipped_steps": totals.skipped_steps,
        "rollbacks": totals.rollbacks,
    }
    totals.epoch_loss, totals.epoch_steps = 0.0, 0
    accuracies: dict[str, float] = {}
    if not state.group.leads:
        return accuracies
    if epoch % state.recipe.eval_every == 0 or epoch == state.recipe.epochs:
        for name, architecture in monitored_subnets(state).items():
            found = monitored(state, evaluator, architecture)
            if state.data.has_targets:  # there are no classes, but a loss
                record[f"val_loss_{name}"] = found
            else:
                record[f"val_accuracy_{name}"] = accuracies[name] = found
    files.append_json_line(state.out / "metrics.jsonl", record)
    if state.recipe.tensorboard:
        tensorboard.write(state.out, record)
    save_checkpoint(state)
    if state.step == state.total_steps and totals.skipped_steps:
        warnings.warn(
            f"{totals.skipped_steps} of {state.total_steps} steps were skipped: their loss was not"
            " finite (a smaller lr, or clip_norm=1.0, may help)",
            stacklevel=2,
        )
    return accuracies


def monitored_subnets(state: TrainingState) -> dict[str, Architecture]:
    """The subnets whose accuracy is followed: the ends, and one random one all along."""
    rng = numpy_generator(state.recipe.seed, Stream.WATCHED)
    space = state.space
    return {"max": space.largest, "min": space.smallest, "random": space.sample(rng)}
