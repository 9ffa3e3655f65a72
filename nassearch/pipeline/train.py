"""Training a recipe's supernet into a run directory."""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from nassearch import config
from nassearch.data.dataset import Data
from nassearch.data.identity import DataIdentity
from nassearch.data.loading import AnyData, restore_data
from nassearch.data.location import HERE
from nassearch.data.torch_dataset import PREFIX
from nassearch.errors import ConfigError, DataError
from nassearch.files import owned, write_text
from nassearch.networks import Supernet
from nassearch.ops import check_space
from nassearch.pipeline.adopt import read_layers
from nassearch.pipeline.import_record import read_import
from nassearch.pipeline.run_directory import NO_IMAGES, load_images, start_run, torch_threads
from nassearch.pipeline.teacher import load_teacher
from nassearch.progress import Progress, silent
from nassearch.recipe import Recipe
from nassearch.space import SearchSpace
from nassearch.training import checkpoint
from nassearch.training.distribution import train_on_workers
from nassearch.training.evaluation import warn_of_coarse_validation
from nassearch.training.state import TrainingState, refuse_present, start
from nassearch.training.strategies import STRATEGIES
from nassearch.training.task import GIVEN_LOSS, Loss
from nassearch.training.time_plan import plan_time
from nassearch.training.trainer import STAGE, train_from
from nassearch.training.training_recipe import TrainingRecipe
from nassearch.training.trial import try_loss, try_step

SPACE_FILE = "space.yaml"


def train_supernet(
    recipe: Recipe,
    run: Path,
    *,
    resume: bool = False,
    data: AnyData | None = None,
    space: SearchSpace | None = None,
    loss: Loss | None = None,
    workers: int = 0,
    address: str | None = None,
    progress: Progress = silent,
) -> Supernet:
    """Train the recipe's supernet into the run directory, on Ray where workers are asked for.

    All that can be refused is checked before anything is written, and the directory is owned from
    before the check to the end.

    Args:
        recipe: What is trained, and how.
        run: The run directory.
        resume: Go on from the run's newest checkpoint.
        data: The images, where the recipe does not name them or they lie elsewhere now.
        space: The space, where the recipe does not name it; it is kept in the run.
        loss: What passes on labels minimise, instead of cross entropy with smoothed labels.
        workers: Data-parallel processes; 0 trains in this one.
        address: Of a Ray cluster.
        progress: Called after every step.

    Raises:
        ConfigError: the recipe cannot be trained.
        DataError: the images are missing, or not those that the checkpoint was trained on.
        OutputError: `run` holds a training already, or something else writes there.
    """
    config.resolve(STRATEGIES, recipe.training.strategy, kind="strategy")
    if loss is not None and recipe.training.loss is None:
        recipe = _with_training(recipe, loss=GIVEN_LOSS)
    loss = loss or _named_loss(recipe.training.loss)
    if space is not None:
        recipe = recipe.model_copy(update={"space": f"{HERE}/{SPACE_FILE}"})
    chosen = check_space(space if space is not None else SearchSpace.load(recipe.space))
    training = recipe.training.model_copy(update={"seed": recipe.seed})
    teaches = "distillation" in training.model_fields_set
    if training.start_from is not None:  # workers stand elsewhere
        absolute = str(Path(training.start_from).resolve())
        training = training.model_copy(update={"start_from": absolute})
    began = time.monotonic()
    with owned(run, doing="training"), torch_threads(recipe.threads):
        refuse_present(run, resume=resume)
        if resume:
            _refuse_to_resume(run)
        images = _images(recipe, chosen, run, data, resume=resume)
        found = {"data": images.name, "preprocessing": images.preprocessing}
        recipe = recipe.model_copy(update=found)
        if images.has_targets and not teaches:  # outputs are no logits: nothing is distilled
            recipe = _with_training(recipe, distillation="none")
            training = training.model_copy(update={"distillation": "none"})
        read_teacher = None if training.teacher is None else partial(load_teacher, training.teacher)
        teacher = None if read_teacher is None else read_teacher(images)
        begin = partial(start, chosen, images, out=run, resume=resume, teacher=teacher, loss=loss)
        if training.time_budget is not None:
            if workers or address is not None:
                raise ConfigError(
                    "is planned for a training in one process",
                    where="training.time_budget",
                    fix="give --epochs with --workers",
                )
            epochs = _epochs_within(training, run, begin, began=began, progress=progress)
            training = training.model_copy(update={"epochs": epochs})
            recipe = _with_training(recipe, epochs=epochs)
        state = begin(recipe=training)
        if state.start_note is not None:
            progress("starting from", 1.0, state.start_note)
        if not state.step:
            try_loss(state)
            try_step(state, workers=max(1, workers))
        if state.step == state.total_steps:
            progress(STAGE, 1.0, "it was finished already")
        if not images.has_targets:
            warn_of_coarse_validation(images)
        if not (workers or address is not None):
            _write_run(recipe, run, space)
            return train_from(state, progress=progress)
        del state
        if images.name.startswith(PREFIX):
            raise ConfigError(
                "workers read the images themselves, these were given in Python",
                where="data",
                fix="train without workers, or name the images, imagefolder:PATH",
            )
        return train_on_workers(
            chosen,
            images.name,
            preprocessing=images.preprocessing,
            pixels=images.train.shape[2] if images.preprocessing.resize.is_crop else None,
            recipe=training,
            out=run,
            workers=max(1, workers),
            address=address,
            resume=resume,
            load_teacher=read_teacher,
            loss=loss,
            on_start=partial(_write_run, recipe, run, space),
            progress=progress,
        )


def _refuse_to_resume(run: Path) -> None:
    """ConfigError where no training began in `run`."""
    origin = "imported" if read_import(run) is not None else "adopted"
    if origin == "imported" or read_layers(run) is not None:
        raise ConfigError(
            f"was {origin}, no training began there",
            where=run,
            fix=f"begin one with --from {run}",
        )
    if not (checkpoint.paths(run) or (run / "recipe.yaml").is_file()):
        raise ConfigError(
            "there is no run to resume here", where=run, fix="name it with --out, or begin anew"
        )


def _with_training(recipe: Recipe, **keys: object) -> Recipe:
    """The recipe with other keys of its `training` section."""
    return recipe.model_copy(update={"training": recipe.training.model_copy(update=keys)})


def _named_loss(name: str | None) -> Loss | None:
    """The loss that a recipe names; None for the usual one."""
    if name is None:
        return None
    if name == GIVEN_LOSS:
        raise ConfigError(
            "was given in Python and must be given there again",
            where="training.loss",
            fix="pass it as loss=..., or name it, --loss my_package.module:function",
        )
    loss: Loss = config.resolve({}, name, kind="loss")
    if not callable(loss):
        raise ConfigError(
            f"is a {type(loss).__name__}, not a function",
            where=f"loss {name}",
            fix="name a function of outputs and targets",
        )
    return loss


def _epochs_within(
    recipe: TrainingRecipe,
    run: Path,
    begin: Callable[..., TrainingState],
    *,
    began: float,
    progress: Progress,
) -> int:
    """The epochs that end within the recipe's time budget; of a run that goes on, its own."""
    assert recipe.time_budget is not None
    if checkpoint.paths(run):
        return int(checkpoint.load(run).recipe["epochs"])
    state = begin(recipe=recipe)
    try_step(state)
    plan = plan_time(state, recipe.time_budget, began=began)
    progress("planning", 1.0, f"{recipe.time_budget}: {plan}")
    return plan.epochs


def _images(
    recipe: Recipe, space: SearchSpace, run: Path, data: AnyData | None, *, resume: bool
) -> Data:
    """The images to train on; of a training that goes on, with the split it began with."""
    source, said = data if data is not None else recipe.data, recipe.preprocessing
    if source == NO_IMAGES:
        raise DataError(
            "a training needs images, and the run was imported without",
            where=run,
            fix="name them with --data imagefolder:PATH",
        )
    if not (resume and checkpoint.paths(run)):
        return load_images(source, space, preprocessing=said, seed=recipe.seed)
    identity = DataIdentity.from_dict(checkpoint.load(run).data)
    if not isinstance(source, Data) and said != identity.preprocessing:
        raise ConfigError(
            "is another than the training began with",
            where="preprocessing",
            fix=f"leave it as it was, {identity.preprocessing.to_dict()}, or train anew",
        )
    return restore_data(source, identity, seed=recipe.seed)


def _write_run(recipe: Recipe, run: Path, space: SearchSpace | None) -> None:
    if space is not None:
        write_text(run / SPACE_FILE, config.dump_yaml(space.to_dict()))
    start_run(recipe, run)
