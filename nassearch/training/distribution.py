"""Data-parallel training on Ray Train: the same loop in every worker, on its share of a batch."""

import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from nassearch import cluster, errors, files, interruption
from nassearch.data.dataset import Data
from nassearch.data.loading import load_data
from nassearch.data.preprocessing import DEFAULT, Preprocessing
from nassearch.errors import ClusterError, NassearchError
from nassearch.networks import Supernet
from nassearch.progress import Progress, silent
from nassearch.space import SearchSpace
from nassearch.training import checkpoint
from nassearch.training.process_group import ProcessGroup
from nassearch.training.state import refuse_present
from nassearch.training.task import Loss
from nassearch.training.trainer import STAGE, train
from nassearch.training.training_recipe import TrainingRecipe

_RESTARTS = 3
_LOOK_S = 0.5
_STOP, _FAILURE = ".stop", ".failure.json"


def train_on_workers(
    space: SearchSpace,
    data: str,
    *,
    recipe: TrainingRecipe,
    out: Path,
    workers: int,
    preprocessing: Preprocessing = DEFAULT,
    pixels: int | None = None,
    address: str | None = None,
    resume: bool = False,
    load_teacher: Callable[[Data], nn.Module] | None = None,
    loss: Loss | None = None,
    on_start: Callable[[], None] = lambda: None,
    progress: Progress = silent,
) -> Supernet:
    """`trainer.train` on `workers` processes, here or on the cluster at `address`.

    Each worker reads `data` itself, as `load_data` does with this `preprocessing` and `pixels`, and
    takes its share of every batch; all train the same subnets in a step, and meet in one all-reduce
    (NCCL on GPUs, gloo on CPUs). Batch norm uses the statistics of a worker's share. `out` must be
    a directory that every worker sees. After the loss of a worker all go on from the last
    checkpoint, at most three times. Ctrl-C saves and passes on. Raises ClusterError
    where the cluster has fewer workers, and what `train` raises.
    """
    if recipe.batch_size % workers:
        raise errors.ConfigError(
            f"a batch of {recipe.batch_size} images has no equal shares for {workers} workers",
            where="training.batch_size",
            fix=f"choose one that {workers} divides",
        )
    out = out.resolve()
    refuse_present(out, resume=resume)
    files.make_directory(out)
    for name in (_STOP, _FAILURE):
        (out / name).unlink(missing_ok=True)
    with cluster.connected(workers=_cores(), address=address) as ray:
        unit = "GPU" if ray.cluster_resources().get("GPU", 0) >= workers else "CPU"
        present = int(ray.cluster_resources().get(unit, 0))
        if present < workers:
            raise ClusterError(
                f"{workers} workers are more than the {present} {unit}s of the cluster",
                where=address or "",
                fix=f"ask for at most {present}",
            )
        job = {
            "space": space.to_dict(),
            "data": data,
            "preprocessing": preprocessing.to_dict(),
            "pixels": pixels,
            "recipe": recipe.model_dump(),
            "out": str(out),
            "load_teacher": load_teacher,
            "loss": loss,
        }
        on_start()
        fit = _fit(job, workers=workers, on_gpus=unit == "GPU")
        _watch(fit, out, epochs=recipe.epochs, progress=progress)
    return checkpoint.load_supernet(out)


def _cores() -> int:
    return max(1, torch.multiprocessing.cpu_count())


def _fit(job: Mapping[str, Any], *, workers: int, on_gpus: bool) -> Callable[[], None]:
    """What runs the job to its end, restarting after a loss of workers."""
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    trainer = TorchTrainer(
        _work,
        train_loop_config=dict(job),
        scaling_config=ScalingConfig(num_workers=workers, use_gpu=on_gpus),
        run_config=RunConfig(
            name="ray",
            storage_path=job["out"],
            failure_config=FailureConfig(max_failures=_RESTARTS),
        ),
    )
    return lambda: trainer.fit() and None


def _watch(fit: Callable[[], None], out: Path, *, epochs: int, progress: Progress) -> None:
    """Run `fit` beside a look at the run's metrics; Ctrl-C lets the workers save first."""
    failed: list[BaseException] = []

    def run() -> None:
        try:
            fit()
        except BaseException as error:  # it is raised again in the main thread
            failed.append(error)

    thread = threading.Thread(target=run, daemon=True)
    with interruption.deferred() as interrupted:
        thread.start()
        while thread.is_alive():
            thread.join(_LOOK_S)
            _show(out, epochs, progress)
            if interrupted.requested:
                (out / _STOP).touch()
    if (out / _FAILURE).is_file():
        failure = files.read_json(out / _FAILURE)
        kind = getattr(errors, failure["kind"])
        raise kind(failure["what"], where=failure["where"], fix=failure["fix"])
    if failed:
        raise ClusterError(
            f"the workers failed more than {_RESTARTS} times ({failed[0]})".splitlines()[0],
            where=out,
            fix="go on with --resume",
        ) from failed[0]
    if interrupted.requested:
        raise checkpoint.interruption_of(out)


def _show(out: Path, epochs: int, progress: Progress) -> None:
    """Tell how far the workers are: what the newest line of their metrics says."""
    lines = files.read_json_lines(out / "metrics.jsonl")
    if lines:
        epoch, loss = lines[-1]["epoch"], lines[-1]["loss"]
        shown = "not finite" if loss is None else f"{loss:.3f}"
        progress(STAGE, epoch / epochs, f"epoch {epoch}  loss {shown}")


def _work(job: Mapping[str, Any]) -> None:
    """In a worker, whose process group Ray has set up: train this worker's share."""
    out = Path(job["out"])
    recipe = TrainingRecipe(**job["recipe"])
    group = ProcessGroup.joined(stop=out / _STOP)
    try:
        data = load_data(
            job["data"],
            seed=recipe.seed,
            preprocessing=job["preprocessing"],
            pixels=job["pixels"],
        )
        load_teacher = job["load_teacher"]
        train(
            SearchSpace.from_dict(job["space"]),
            data,
            recipe=recipe,
            out=out,
            resume=bool(checkpoint.paths(out)),
            teacher=None if load_teacher is None else load_teacher(data),
            loss=job["loss"],
            group=group,
        )
    except KeyboardInterrupt:
        return  # asked to stop, and saved
    except NassearchError as error:  # trying again would not help
        if group.leads:
            failure = {"what": error.what, "where": error.where, "fix": error.fix}
            files.write_json(out / _FAILURE, {"kind": type(error).__name__, **failure})
            time.sleep(_LOOK_S)
