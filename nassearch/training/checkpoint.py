"""Checkpoints: the whole state of a training in one file, written atomically, the last two kept."""

import io
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import torch

from nassearch import config, files
from nassearch.errors import CheckpointError, ConfigError, Interrupted
from nassearch.networks import Supernet
from nassearch.space import SearchSpace

SCHEMA = 2
_KEPT = 2


@dataclass(frozen=True)
class Checkpoint:
    """A training after `step` steps.

    `data` is the `DataIdentity` of the images as `to_dict` wrote it; `totals` are running sums:
    seconds, macs, and of the epoch under way its losses. `average` holds the averaged weights and
    `teacher` those of a teacher frozen on the way; both may be None. There is no generator state:
    every random choice derives from the seed and the step.
    """

    space: SearchSpace
    data: Mapping[str, Any]
    recipe: Mapping[str, Any]
    step: int
    steps_per_epoch: int
    totals: Mapping[str, float]
    model: Mapping[str, torch.Tensor]
    optimizer: Mapping[str, Any]
    scaler: Mapping[str, Any] = field(default_factory=dict)
    average: Mapping[str, torch.Tensor] | None = None
    teacher: Mapping[str, torch.Tensor] | None = None

    @property
    def evaluated(self) -> dict[str, torch.Tensor]:
        """The weights that count: their average where the training keeps one."""
        if self.average is None:
            return dict(self.model)
        prefix = "module."
        named = self.average.items()
        return {k.removeprefix(prefix): tensor for k, tensor in named if k.startswith(prefix)}


def save(run_dir: Path, checkpoint: Checkpoint) -> Path:
    """Write a checkpoint into `run_dir`/checkpoints and delete all but the last two."""
    epoch, step = divmod(checkpoint.step, checkpoint.steps_per_epoch)
    name = f"epoch-{epoch:04d}" + (f"-step-{step:06d}" if step else "")
    path = run_dir / "checkpoints" / f"{name}.pt"
    content = {name: getattr(checkpoint, name) for name in _FIELDS}
    content |= {
        "schema": SCHEMA,
        "space": checkpoint.space.to_dict(),
        "fingerprint": checkpoint.space.fingerprint,
    }
    files.write_bytes(path, serialise(content))
    for old in paths(run_dir)[:-_KEPT]:
        old.unlink(missing_ok=True)
    return path


def serialise(content: Mapping[str, Any]) -> memoryview:
    """`content` as torch saves it; in memory, since torch's writer does not say why it fails."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getbuffer()


def paths(run_dir: Path) -> list[Path]:
    """The checkpoints of a run, oldest first."""
    return sorted((run_dir / "checkpoints").glob("epoch-*.pt"), key=lambda path: path.stem)


def interruption_of(run_dir: Path) -> KeyboardInterrupt:
    """What a training that was asked to end raises: with what is saved of it, where anything is."""
    saved = paths(run_dir)
    if not saved:
        return KeyboardInterrupt()
    return Interrupted(f"{saved[-1]} is saved, go on with --resume --out {run_dir}")


def load(run_dir: Path) -> Checkpoint:
    """The newest good checkpoint of a run; a damaged one is passed over with a warning.

    Raises CheckpointError where none is good, or where the newest is not a supernet's.
    """
    config.import_nothing_from(run_dir)
    present = paths(run_dir)
    if not present:
        raise CheckpointError(
            "there is no checkpoint of a supernet here",
            where=run_dir,
            fix="train one with `nassearch train-supernet`",
        )
    for path in reversed(present):
        content = read_state(path)
        if content is not None:
            return _checked(content, path)
        warnings.warn(f"{path} is damaged; trying the one before it", stacklevel=2)
    raise CheckpointError(
        "every checkpoint is damaged", where=run_dir / "checkpoints", fix="train again"
    )


def load_supernet(run_dir: Path) -> Supernet:
    """The trained supernet of a run, in evaluation mode; its space comes from the checkpoint.

    Where the training averaged its weights, those are the weights. SpaceError where it takes more
    memory than this machine has.
    """
    checkpoint = load(run_dir)
    supernet = Supernet.within_memory(checkpoint.space, where=run_dir)
    restore_weights(supernet, checkpoint, where=run_dir)
    supernet.load_state_dict(checkpoint.evaluated)
    return supernet.eval()


def restore_weights(supernet: Supernet, checkpoint: Checkpoint, *, where: object) -> None:
    """Put the checkpoint's weights into `supernet`; CheckpointError where they do not fit."""
    if checkpoint.space.fingerprint != supernet.space.fingerprint:
        raise CheckpointError(
            f"was trained on the space {checkpoint.space.name} ({checkpoint.space.fingerprint}), "
            f"not on {supernet.space.name} ({supernet.space.fingerprint})",
            where=where,
            fix="use the space of the run, or train into another directory",
        )
    try:
        supernet.load_state_dict(dict(checkpoint.model))
    except RuntimeError as error:
        raise CheckpointError("holds weights of other shapes", where=where, fix=_ANEW) from error


# what a file that a training did not write, or not so, leaves to do
_ANEW = "put back the checkpoint that the training wrote, or train again with another --out"
_FIELDS = tuple(field.name for field in fields(Checkpoint) if field.name != "space")


def read_state(path: Path) -> Any:
    """What the file holds; None where it is damaged.

    Raises CheckpointError where reading it could take memory without bound.
    """
    try:
        with ZipFile(path) as archive:
            packed = files.compressed_entry(archive)
        if packed is not None:
            raise CheckpointError(f"holds the compressed file '{packed}'", where=path, fix=_ANEW)
        return torch.load(path, map_location="cpu", weights_only=True)
    except files.SCRAMBLED:
        return None


def _checked(content: Any, path: Path) -> Checkpoint:
    if not isinstance(content, dict) or "schema" not in content:
        raise CheckpointError("is not a checkpoint of nassearch", where=path, fix=_ANEW)
    if content["schema"] != SCHEMA:
        raise CheckpointError(
            f"has schema {content['schema']}, this version reads {SCHEMA}",
            where=path,
            fix="use the version of nassearch that wrote it, or train again",
        )
    missing = sorted({*_FIELDS, "space", "fingerprint"} - set(content))
    if missing:
        raise CheckpointError(f"lacks '{missing[0]}'", where=path, fix=_ANEW)
    try:
        # messages name the run, which every command takes for its space
        space = SearchSpace.from_dict(content["space"], where=path.parent.parent)
    except ConfigError as error:
        raise CheckpointError(
            f"holds no valid space ({error.what})", where=path, fix=_ANEW
        ) from error
    if space.fingerprint != content["fingerprint"]:
        raise CheckpointError("its space does not match its fingerprint", where=path, fix=_ANEW)
    return Checkpoint(space=space, **{name: content[name] for name in _FIELDS})
