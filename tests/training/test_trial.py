"""A trial step says what cannot be trained, and leaves nothing behind."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from nassearch import free_memory
from nassearch.data.dataset import Data
from nassearch.errors import ConfigError
from nassearch.free_memory import free_bytes, is_out_of_memory
from nassearch.space import SearchSpace
from nassearch.training import trial
from nassearch.training.batch import epoch_batches
from nassearch.training.finetuning import finetune
from nassearch.training.state import TrainingState, start
from nassearch.training.training_recipe import TrainingRecipe
from nassearch.training.trial import try_step


def begin(space: SearchSpace, data: Data, out: Path, **keys: object) -> TrainingState:
    recipe = TrainingRecipe(**keys)  # type: ignore[arg-type]
    return start(space, data, recipe=recipe, out=out, resume=False)


@pytest.mark.parametrize("keys", [{}, {"ema_decay": 0.9, "dropout": 0.2}, {"channels_last": False}])
def test_a_trial_leaves_no_trace(
    space: SearchSpace, digits: Data, tmp_path: Path, keys: dict[str, object]
) -> None:
    state = begin(space, digits, tmp_path / "run", **keys)
    before = {name: value.clone() for name, value in state.supernet.state_dict().items()}
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    try_step(state)
    assert torch.equal(torch.rand(3), expected)
    for name, value in state.supernet.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert all(parameter.grad is None for parameter in state.supernet.parameters())
    assert state.optimizer.state_dict()["state"] == {}
    assert state.supernet.training
    assert not (tmp_path / "run").exists()


def short_of(images: int, error: Exception, patch: pytest.MonkeyPatch) -> list[int]:
    """Let steps of `images` or more raise `error`; the batches tried are told."""
    tried = []
    whole = trial._forward_and_backward

    def step(state: TrainingState, count: int) -> None:
        tried.append(count)
        if count >= images:
            raise error
        whole(state, count)

    patch.setattr(trial, "_forward_and_backward", step)
    return tried


ERRORS = [
    MemoryError(),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory"),
    RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 64 bytes."),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_a_step_that_finds_no_memory_names_the_batch_that_fits(
    error: Exception,
    space: SearchSpace,
    digits: Data,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tried = short_of(40, error, monkeypatch)
    with pytest.raises(ConfigError) as refusal:
        try_step(begin(space, digits, tmp_path, batch_size=200))
    assert str(refusal.value) == (
        "two_stages: the largest network cannot be trained with a batch of 200 images: there is"
        " not enough memory; train with batch_size=25, which fits"
    )
    assert tried == [200, 100, 50, 25]


def test_workers_try_their_share_of_a_batch(
    space: SearchSpace, digits: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = short_of(40, MemoryError(), monkeypatch)
    with pytest.raises(ConfigError, match=r"a batch of 200 images.*batch_size=100, which fits"):
        try_step(begin(space, digits, tmp_path, batch_size=200), workers=4)
    assert tried == [50, 25]


def test_where_nothing_fits_no_batch_is_named(
    space: SearchSpace, digits: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = short_of(0, MemoryError(), monkeypatch)
    with pytest.raises(ConfigError, match="on smaller images, in a smaller space"):
        try_step(begin(space, digits, tmp_path, batch_size=5))
    assert tried == [5, 2]


def test_another_error_is_not_taken_for_a_want_of_memory(
    space: SearchSpace, digits: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short_of(0, RuntimeError("shapes cannot be multiplied"), monkeypatch)
    with pytest.raises(RuntimeError, match="shapes"):
        try_step(begin(space, digits, tmp_path))
    assert not is_out_of_memory(ValueError("out of memory"))


WANT_MORE_THAN_IS_FREE = """
import mmap, resource
import numpy as np, torch
from nassearch import free_memory

free_memory.free_bytes = lambda: 2**28
before = resource.getrlimit(resource.RLIMIT_DATA)
wants = {
    "mmap": lambda: mmap.mmap(-1, 2**30, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS),
    "torch": lambda: torch.empty(2**30, dtype=torch.uint8),
    "numpy": lambda: np.empty(2**30, np.uint8),
}
for name, take in wants.items():
    try:
        with free_memory.limited_to_what_is_free():
            take()
        print(name, "granted")
    except OSError:
        print(name, "refused")
    except (RuntimeError, MemoryError) as error:
        print(name, "refused" if free_memory.is_out_of_memory(error) else repr(error))
    assert resource.getrlimit(resource.RLIMIT_DATA) == before
with free_memory.limited_to_what_is_free():
    torch.empty(2**24, dtype=torch.uint8)
"""


def test_memory_that_linux_has_not_is_refused_and_not_promised() -> None:
    # a process of its own: memory that this one gave back may be granted again without asking Linux
    command = [sys.executable, "-c", WANT_MORE_THAN_IS_FREE]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\n")
    if said[0] == "mmap granted":
        pytest.skip("this kernel keeps no RLIMIT_DATA, or has a limit set already")
    assert said[1:3] == ["torch refused", "numpy refused"]


def test_a_container_s_limit_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(free_memory, "_CGROUP", tmp_path)
    (tmp_path / "memory.max").write_text("3000000\n")
    (tmp_path / "memory.current").write_text("2500000\n")
    (tmp_path / "memory.stat").write_text("anon 2000000\ninactive_file 200000\n")
    assert free_bytes() == 700000
    (tmp_path / "memory.max").write_text("max\n")
    assert free_bytes() != 700000


@pytest.fixture
def small(space: SearchSpace) -> SearchSpace:
    """The same space on images of 4x4, whose last map is one pixel."""
    return SearchSpace.from_dict({**space.to_dict(), "resolution": 4})


def test_a_batch_of_one_image_on_a_map_of_one_pixel_is_one_line(
    small: SearchSpace, space: SearchSpace, digits: Data, tmp_path: Path
) -> None:
    keys: dict[str, object] = {"strategy": "sandwich"}
    state = begin(small, digits, tmp_path / "run", batch_size=1, **keys)
    says = r"one image whose map is 1x1.*batch_size of at least 2.*or on larger images$"
    before = {name: value.clone() for name, value in state.supernet.state_dict().items()}
    with pytest.raises(ConfigError, match=says):
        try_step(state)
    assert all(torch.equal(v, before[k]) for k, v in state.supernet.state_dict().items())
    with pytest.raises(ConfigError, match=says):
        try_step(begin(small, digits, tmp_path / "run", batch_size=4, **keys), workers=4)
    with pytest.raises(ConfigError, match=says):
        network = state.supernet.extract(small.smallest)
        recipe = TrainingRecipe(epochs=1, batch_size=1, **keys)
        finetune(network, digits, recipe=recipe, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    for allowed, size in ((small, 2), (space, 1)):
        try_step(begin(allowed, digits, tmp_path / "run", batch_size=size, **keys))


@pytest.mark.parametrize(
    "keys",
    [
        {"strategy": "growing"},
        {"strategy": "delayed-shrinking", "sandwich_rule": "apart", "num_random": 2},
    ],
)
def test_each_network_of_a_step_has_an_image_of_its_own(
    keys: dict[str, object], small: SearchSpace, digits: Data, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"batch_size: .*4 networks.*batch of 3; .*at least 8,"):
        try_step(begin(small, digits, tmp_path, batch_size=3, **keys))
    with pytest.raises(ConfigError, match=r"at least 16,"):
        try_step(begin(small, digits, tmp_path, batch_size=7, **keys), workers=2)
    with pytest.raises(ConfigError, match="one image whose map is 1x1"):
        try_step(begin(small, digits, tmp_path, batch_size=7, **keys))
    try_step(begin(small, digits, tmp_path, batch_size=8, **keys))


def test_the_images_that_fill_no_batch_are_no_batch_of_one(
    small: SearchSpace, digits: Data, tmp_path: Path
) -> None:
    """An epoch of 1,150 images in batches of 383: the one that is left sits it out."""
    assert len(digits.train) % 383 == 1
    recipe = TrainingRecipe(epochs=1, batch_size=383, eval_every=9)
    state = start(small, digits, recipe=recipe, out=tmp_path, resume=False)
    assert [len(images) for images, _ in epoch_batches(state)] == [383, 383, 383]
