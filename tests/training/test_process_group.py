"""Several workers train as one with all of the batch does; they meet once in a step."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import multiprocessing

from nassearch.data.loading import load_data
from nassearch.space import SearchSpace
from nassearch.training import checkpoint, trainer
from nassearch.training.process_group import ProcessGroup
from nassearch.training.training_recipe import TrainingRecipe

# without batch norm, whose statistics are those of a worker's share
SPACE = {
    "name": "normless",
    "resolution": 8,
    "in_channels": 1,
    "num_classes": 10,
    "stem": {"op": "patches", "kernel_size": 2, "stride": 2, "width": 16, "activation": "none"},
    "stages": [
        {
            "op": "convnext",
            "width": [8, 16],
            "depth": [1, 2],
            "stride": 1,
            "kernel_size": [3, 5],
            "expand_ratio": [1, 2],
            "activation": "gelu",
        }
    ],
    "head": {},
}
RECIPE = TrainingRecipe(
    strategy="delayed-shrinking", epochs=3, batch_size=256, lr=0.05, ramp_epochs=1.0, eval_every=3
)


def work(rank: int, size: int, out: str, rendezvous: str) -> None:
    torch.set_num_threads(1)
    reduced = []
    real = dist.all_reduce

    def counted(*arguments: Any, **named: Any) -> Any:
        reduced.append(arguments)
        return real(*arguments, **named)

    dist.all_reduce = counted
    dist.init_process_group("gloo", f"file://{rendezvous}", rank=rank, world_size=size)
    data = load_data("digits")
    trainer.train(
        SearchSpace.from_dict(SPACE),
        data,
        recipe=RECIPE,
        out=Path(out),
        group=ProcessGroup.joined(),
    )
    assert len(reduced) == 3 * (len(data.train) // RECIPE.batch_size), "one all-reduce a step"
    dist.destroy_process_group()


def test_two_workers_equal_one_with_the_whole_batch(tmp_path: Path) -> None:
    out = tmp_path / "two"
    multiprocessing.spawn(work, (2, str(out), str(tmp_path / "rendezvous")), nprocs=2)
    one = trainer.train(
        SearchSpace.from_dict(SPACE), load_data("digits"), recipe=RECIPE, out=tmp_path / "one"
    )
    two = copy.deepcopy(one)
    two.load_state_dict(dict(checkpoint.load(out).model))
    moved = 0
    for name, expected in one.state_dict().items():
        torch.testing.assert_close(two.state_dict()[name], expected, rtol=1e-3, atol=1e-5)
        moved += int(expected.abs().max() > 0)
    assert moved > 10


def test_alone_nothing_is_exchanged() -> None:
    tensor = torch.ones(2)
    assert ProcessGroup().average([tensor], [3.0, 0.0]) == [3.0, 0.0]
    assert torch.equal(tensor, torch.ones(2))


@pytest.mark.parametrize("exists", [False, True])
def test_the_leader_hears_the_wish_to_stop(exists: bool, tmp_path: Path) -> None:
    stop = tmp_path / "stop"
    if exists:
        stop.touch()
    assert ProcessGroup(0, 2, stop).asked_to_stop is exists
    assert not ProcessGroup(1, 2, stop).asked_to_stop
