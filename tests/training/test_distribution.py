"""Ray Train: workers die, clusters are too small, errors come back as one line."""

import os
import signal
import threading
import time
from pathlib import Path

import pytest
import torch

from nassearch.errors import ClusterError, ConfigError, OutputError
from nassearch.space import SearchSpace
from nassearch.training import checkpoint
from nassearch.training.distribution import train_on_workers
from nassearch.training.training_recipe import TrainingRecipe

RECIPE = TrainingRecipe(
    strategy="delayed-shrinking", epochs=6, batch_size=128, ramp_epochs=1.0, eval_every=6
)


def test_a_batch_without_equal_shares_is_refused_before_anything_starts(
    space: SearchSpace, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="no equal shares for 3 workers"):
        train_on_workers(space, "digits", recipe=RECIPE, out=tmp_path / "run", workers=3)
    assert not (tmp_path / "run").exists()


def test_a_silent_cluster_is_refused(space: SearchSpace, tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match="no Ray cluster answers"):
        train_on_workers(
            space, "digits", recipe=RECIPE, out=tmp_path, workers=2, address="127.0.0.1:9"
        )


@pytest.mark.slow
def test_more_workers_than_the_cluster_has_are_refused(space: SearchSpace, tmp_path: Path) -> None:
    workers = 128
    with pytest.raises(ClusterError, match=r"128 workers are more than the \d+ CPUs"):
        train_on_workers(space, "digits", recipe=RECIPE, out=tmp_path, workers=workers)


@pytest.mark.slow
def test_the_loss_of_a_worker_changes_no_weight(space: SearchSpace, tmp_path: Path) -> None:
    """One of two workers is killed in the middle; all go on from the checkpoint."""
    undisturbed = train_on_workers(
        space, "digits", recipe=RECIPE, out=tmp_path / "undisturbed", workers=2
    )
    out, killed = tmp_path / "killed", []

    def kill_one() -> None:
        while not checkpoint.paths(out):
            time.sleep(0.02)
        for process in Path("/proc").glob("[0-9]*"):
            try:
                name = (process / "cmdline").read_bytes()
            except OSError:
                continue
            if b"RayTrainWorker" in name:
                os.kill(int(process.name), signal.SIGKILL)
                killed.append(process.name)
                return

    thread = threading.Thread(target=kill_one, daemon=True)
    thread.start()
    recipe = RECIPE.model_copy(update={"epochs": RECIPE.epochs})
    trained = train_on_workers(space, "digits", recipe=recipe, out=out, workers=2)
    thread.join(1)
    assert len(killed) == 1
    for name, expected in undisturbed.state_dict().items():
        if "running" not in name:
            torch.testing.assert_close(trained.state_dict()[name], expected, rtol=1e-3, atol=1e-4)
    with pytest.raises(OutputError, match="already holds a training"):
        train_on_workers(space, "digits", recipe=recipe, out=out, workers=2)


@pytest.mark.slow
def test_an_error_in_a_worker_is_told_as_it_was(space: SearchSpace, tmp_path: Path) -> None:
    recipe = RECIPE.model_copy(update={"crop_padding": 8})
    with pytest.raises(ConfigError, match="crop_padding 8 is as large as the images"):
        train_on_workers(space, "digits", recipe=recipe, out=tmp_path, workers=2)
