"""A trial step before a training: what cannot be trained is said before anything is written."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial

import torch
from torch import Tensor, nn

from nassearch.data.seeding import Stream, numpy_generator
from nassearch.data.target_set import to_device
from nassearch.errors import ConfigError
from nassearch.free_memory import is_out_of_memory, limited_to_what_is_free
from nassearch.networks.wiring import named
from nassearch.training.allocator import keep_buffers
from nassearch.training.schedule import StepPosition
from nassearch.training.state import TrainingState
from nassearch.training.strategy import SubnetPass, make_strategy
from nassearch.training.task import checked_loss
from nassearch.training.trainer import forward, teacher_logits

_FEW = 4  # images show what a loss returns
_LONE = "Expected more than 1 value per channel"  # PyTorch's norms say so


def try_step(state: TrainingState, *, workers: int = 1) -> None:
    """A forward and a backward pass of the largest network on as many images as a step has.

    Weights, statistics of norms and generators are afterwards as they were.

    Args:
        state: A training that has not begun.
        workers: How many share a batch.

    Raises:
        ConfigError: memory is short (names the batch that fits), a network of a step would see no
            image of it, or a norm would see one value.
    """
    keep_buffers()
    whole = min(state.recipe.batch_size, len(state.data.train))  # what fills no batch sits out
    count = max(1, whole // workers)
    networks_at_once = _parts_of_a_batch(state)
    if count < networks_at_once:
        raise ConfigError(
            f"a step shows {networks_at_once} networks a part each of a batch of {count}",
            where="training.batch_size",
            fix=f"train with a batch_size of at least {2 * networks_at_once * workers}, or with"
            " --strategy single-path",
        )
    with _untouched(state.supernet):
        if count < 2 * networks_at_once:
            ends = (state.space.largest, state.space.smallest)
            networks = [partial(state.supernet, architecture=end) for end in ends]
            refuse_lone_values(networks, _images(state, 1), keeper=state.supernet)
        if _fits(state, count):
            return
        # norms may have no use for one image alone
        smaller = (count >> halving for halving in range(1, count.bit_length() - 1))
        fitting = next((size for size in smaller if _fits(state, size)), None)
    fix = "train on smaller images, in a smaller space, or where there is more memory"
    if fitting is not None:
        fix = f"train with batch_size={fitting * workers}, which fits"
    raise ConfigError(
        f"the largest network cannot be trained with a batch of {whole} images: there is not"
        " enough memory",
        where=state.space.name,
        fix=fix,
    )


def _parts_of_a_batch(state: TrainingState) -> int:
    """Into how many parts a step divides a batch, one for each of its networks."""
    strategy = make_strategy(state.space, state.recipe)
    plans = (
        strategy.step(
            StepPosition(step, state.steps_per_epoch),
            numpy_generator(state.recipe.seed, Stream.SUBNETS, step),
        )
        for step in (0, state.total_steps - 1)
    )
    return max(taken.part[1] for plan in plans for taken in plan.passes)


def try_loss(state: TrainingState) -> None:
    """The user's loss of the largest network on a few real images, whose gradient is dropped.

    Raises DataError where the images make no batch, ConfigError where the loss is none.
    """
    if state.loss is None or not state.data.has_targets:
        return
    images, _ = state.data.target_splits
    count = min(max(2, state.recipe.batch_size), len(images), _FEW)
    with _untouched(state.supernet):
        batch, targets = images.batch(torch.arange(count), seed=0)
        outputs = forward(state, SubnetPass(state.space.largest), batch.to(state.device))
        checked_loss(state.loss, outputs, to_device(targets, state.device))


def refuse_lone_values(
    networks: Iterable[Callable[[Tensor], Tensor]], image: Tensor, *, keeper: nn.Module
) -> None:
    """ConfigError where a batch norm of `networks` has one value a channel of this one image.

    `keeper` holds the statistics of their norms, which stay as they are.
    """
    with _untouched(keeper), torch.no_grad():
        for network in networks:
            try:
                network(image)
            except ValueError as error:
                if _LONE not in str(error):
                    raise
                raise ConfigError(
                    "batch norm cannot train on batches of one image whose map is 1x1: it has one"
                    " value for each channel",
                    where="training.batch_size",
                    fix="train with a batch_size of at least 2 (for each worker, and each network"
                    " that has its part of a batch), or on larger images",
                ) from error


@contextmanager
def _untouched(module: nn.Module) -> Iterator[None]:
    """Put back the module's buffers, and torch's generators, at the end of the block."""
    kept = [buffer.clone() for buffer in module.buffers()]
    with torch.random.fork_rng():
        try:
            yield
        finally:
            for buffer, value in zip(module.buffers(), kept, strict=True):
                buffer.copy_(value)


def _fits(state: TrainingState, count: int) -> bool:
    """Whether a forward and a backward pass on `count` images find the memory they want."""
    on_cpu = state.device.type == "cpu"  # another device says itself when its memory is short
    try:
        with limited_to_what_is_free() if on_cpu else nullcontext():
            _forward_and_backward(state, count)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        return False
    finally:
        state.optimizer.zero_grad(set_to_none=True)
        if state.device.type == "cuda":
            torch.cuda.empty_cache()
    return True


def _forward_and_backward(state: TrainingState, count: int) -> None:
    images, largest = _images(state, count), SubnetPass(state.space.largest)
    teacher_logits(state, (largest,), images)
    sum(tensor.sum() for tensor in named(forward(state, largest, images)).values()).backward()  # type: ignore[union-attr]


def _images(state: TrainingState, count: int) -> Tensor:
    layout = torch.channels_last if state.recipe.channels_last else torch.contiguous_format
    images = torch.zeros(count, *state.data.train.shape, device=state.device)
    return images.contiguous(memory_format=layout)
