"""Importing a published supernet: a run that search, export, verify and finetune take."""

import re
from dataclasses import dataclass
from pathlib import Path

from nassearch import config
from nassearch.data.dataset import Data
from nassearch.data.loading import AnyData, parse_preprocessing
from nassearch.data.location import HERE
from nassearch.data.preprocessing import DEFAULT
from nassearch.errors import OutputError, SpaceError
from nassearch.export.export_config import sha256
from nassearch.files import make_directory, owned, write_text
from nassearch.networks import Supernet
from nassearch.networks.published.recognition import load_into_space, recognise
from nassearch.networks.published.tensor_file import TensorFile, read_tensors
from nassearch.networks.supernet import SPACE_KEY
from nassearch.pipeline.import_record import ImportRecord
from nassearch.pipeline.run_directory import (
    NO_IMAGES,
    check_images,
    load_images,
    new_classifier,
    run_recipe,
    start_run,
)
from nassearch.pipeline.train import SPACE_FILE
from nassearch.recipe import Recipe
from nassearch.space import SearchSpace
from nassearch.training import checkpoint
from nassearch.training.checkpoint import Checkpoint
from nassearch.training.training_recipe import TrainingRecipe

GOING_ON = TrainingRecipe(strategy="sandwich", epochs=10, lr=0.01)
"""How `train-supernet --from` an imported run trains, unless told otherwise: at a small rate, to
keep most of what it learned, and without stages, which its choices do not need."""
_OURS = "a supernet of nassearch"


@dataclass(frozen=True)
class ReadSupernet:
    """A file's supernet, what is to be said of it, and its space as a recipe names it."""

    supernet: Supernet
    record: ImportRecord


def read_supernet(path: Path, *, space: str | None = None) -> ReadSupernet:
    """The supernet in a published file, or in one that `export --pick supernet` wrote.

    Args:
        path: A state dict as torch saves it, or .safetensors.
        space: The space's name or file, where not the format's own: it may differ in resolutions.

    Raises:
        CheckpointError: The file is damaged, would run code, or is no supernet that is known.
        SpaceError: The space has other networks.
    """
    file = read_tensors(path)
    if SPACE_KEY in file.metadata:
        return _ours(file, space)
    found = recognise(file)
    chosen = SearchSpace.load(space or found.published.spaces[0])
    supernet = load_into_space(found, chosen, where=path)
    published = found.published
    record = ImportRecord(
        title=published.title,
        origin=published.origin,
        licence=published.licence,
        file=path.name,
        sha256=sha256(path),
        space=chosen.name,
        num_tensors=len(found.tensors),
        left_out=found.left_out,
        preprocessing=published.preprocessing,
    )
    return ReadSupernet(supernet, record)


def import_supernet(
    path: Path,
    run: Path,
    *,
    space: str | None = None,
    data: AnyData | None = None,
    seed: int = 0,
) -> ImportRecord:
    """Write a run that holds a published supernet, as one of `train_supernet` would.

    All that can be refused is checked before anything is written.

    Args:
        path: The file.
        run: The run directory.
        space: As of `read_supernet`.
        data: The images of its classes, in their order; None where they are named later.
        seed: Of the validation split.

    Raises:
        CheckpointError, SpaceError: As of `read_supernet`.
        DataError: The images have other classes than the supernet.
        OutputError: The directory holds a run.
    """
    with owned(run, doing="import"):
        if checkpoint.paths(run) or (run / "recipe.yaml").exists():
            raise OutputError("already holds a run", where=run, fix="choose another --out")
        read = read_supernet(path, space=space)
        said = parse_preprocessing(read.record.preprocessing or DEFAULT)
        own, images = read.supernet.space, None
        if data is not None:
            said = data.preprocessing if isinstance(data, Data) else said
            images = load_images(data, own, preprocessing=said, seed=seed)
            check_images(images, own, fix=new_classifier(run, images))
        is_shipped = space is not None or read.record.preprocessing is not None
        recipe = Recipe(
            name=re.sub(r"[^a-z0-9_-]+", "-", read.supernet.space.name),
            space=space or read.record.space if is_shipped else f"{HERE}/{SPACE_FILE}",
            data=NO_IMAGES if images is None else images.name,
            preprocessing=said,
            seed=seed,
            training=GOING_ON,
        )
        if not is_shipped:
            write_text(run / SPACE_FILE, config.dump_yaml(read.supernet.space.to_dict()))
        checkpoint.save(run, _checkpoint(read.supernet, images, seed=seed))
        read.record.save(run)
        start_run(recipe, run)
    return read.record


def export_supernet(run: Path, file: Path) -> Path:
    """Write the supernet of a run, the weights that count, with its space; the file's path."""
    run_recipe(run)  # says so where it is no run
    supernet = checkpoint.load_supernet(run)
    make_directory(file.parent)
    supernet.save(file)
    return file


def _ours(file: TensorFile, space: str | None) -> ReadSupernet:
    supernet = Supernet.load(file.path)
    own = supernet.space
    if space is not None and SearchSpace.load(space).fingerprint != own.fingerprint:
        raise SpaceError(
            f"is not the space of the file, {own.name} ({own.fingerprint})",
            where=f"--space {space}",
            fix="leave it out",
        )
    record = ImportRecord(
        title=_OURS,
        origin="nassearch export --pick supernet",
        licence="as whoever exported it says",
        file=file.path.name,
        sha256=sha256(file.path),
        space=own.name,
        num_tensors=len(file.tensors),
        left_out=(),
    )
    return ReadSupernet(supernet, record)


def _checkpoint(supernet: Supernet, images: Data | None, *, seed: int) -> Checkpoint:
    """The state of a training that has made no step here."""
    return Checkpoint(
        space=supernet.space,
        data={} if images is None else images.identity.to_dict(),
        recipe={"seed": seed},
        step=0,
        steps_per_epoch=1,
        totals={},
        model=supernet.state_dict(),
        optimizer={},
    )
