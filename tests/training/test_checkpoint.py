"""Damaged, foreign and missing checkpoints."""

import io
from pathlib import Path
from zipfile import ZipFile

import pytest
import torch

from nassearch.data.dataset import Data
from nassearch.errors import CheckpointError
from nassearch.space import SearchSpace
from nassearch.training import checkpoint
from nassearch.training.state import TrainingState, save, start
from nassearch.training.training_recipe import TrainingRecipe

RECIPE = TrainingRecipe(batch_size=512)


@pytest.fixture
def state(space: SearchSpace, digits: Data, tmp_path: Path) -> TrainingState:
    """A training with two checkpoints, the weights of the older one all 1, of the newer all 2."""
    state = start(space, digits, recipe=RECIPE, out=tmp_path, resume=False)
    for value in (1.0, 2.0):
        state.step += state.steps_per_epoch
        with torch.no_grad():
            for parameter in state.supernet.parameters():
                parameter.fill_(value)
        save(state)
    return state


def truncate(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def test_a_damaged_newest_checkpoint_falls_back_to_the_one_before(state: TrainingState) -> None:
    older, newer = checkpoint.paths(state.out)
    truncate(newer)
    with pytest.warns(UserWarning, match=f"{newer.name} is damaged"):
        supernet = checkpoint.load_supernet(state.out)
    assert all(bool((p == 1.0).all()) for p in supernet.parameters())
    assert older.exists()


def scrambled() -> bytes:
    """An archive whose first instruction is to keep what an empty stack ends with."""
    content = io.BytesIO()
    with ZipFile(content, "w") as archive:
        for name, entry in (("data.pkl", b"\x80\x02q\x00."), ("version", b"3\n")):
            archive.writestr(f"archive/{name}", entry)
    with pytest.raises(IndexError):
        torch.load(io.BytesIO(content.getvalue()), weights_only=True)
    return content.getvalue()


@pytest.mark.filterwarnings("ignore:.*is damaged")
@pytest.mark.parametrize("content", [b"", b"not a checkpoint", scrambled(), None])
def test_a_run_without_a_good_checkpoint_is_refused(
    state: TrainingState, content: bytes | None
) -> None:
    for path in checkpoint.paths(state.out):
        if content is None:
            truncate(path)
        else:
            path.write_bytes(content)
    with pytest.raises(CheckpointError, match="every checkpoint is damaged"):
        checkpoint.load_supernet(state.out)


def test_a_directory_without_checkpoints_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="train-supernet"):
        checkpoint.load_supernet(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": 99}, "has schema 99, this version reads 2"),
        ({"fingerprint": "0" * 16}, "its space does not match its fingerprint"),
        ({"space": {"name": "x"}}, "holds no valid space"),
        ({"model": {}}, "holds weights of other shapes"),
    ],
)
def test_a_foreign_checkpoint_is_refused(
    state: TrainingState, change: dict[str, object], message: str
) -> None:
    newest = checkpoint.paths(state.out)[-1]
    content = torch.load(newest, weights_only=True)
    torch.save(content | change, newest)
    with pytest.raises(CheckpointError, match=message):
        checkpoint.load_supernet(state.out)


def test_a_file_of_another_program_is_refused(state: TrainingState) -> None:
    torch.save({"state_dict": {}}, checkpoint.paths(state.out)[-1])
    with pytest.raises(CheckpointError, match="is not a checkpoint of nassearch"):
        checkpoint.load_supernet(state.out)


def test_a_checkpoint_says_what_images_it_was_trained_on(
    state: TrainingState, digits: Data
) -> None:
    described = checkpoint.load(state.out).data
    assert described["name"] == "digits"
    assert (described["in_channels"], described["num_classes"]) == (1, 10)
    assert described["mean"] == list(digits.mean)
