"""Checkpoints from strangers: nothing in them is run, and they are as large as they look."""

import pickle
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile

import pytest
import torch

from nassearch.errors import CheckpointError
from nassearch.training import checkpoint


class Mischief:
    """What unpickling it does is write a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.write_text, (self.path, "unpickled")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "checkpoints").mkdir()
    return tmp_path / "checkpoints" / "epoch-0001.pt"


@pytest.mark.filterwarnings("ignore:.*is damaged")
@pytest.mark.parametrize("is_archive", [True, False])
def test_a_checkpoint_is_never_unpickled(path: Path, tmp_path: Path, is_archive: bool) -> None:
    proof = tmp_path / "proof"
    if is_archive:
        torch.save({"schema": 2, "model": Mischief(proof)}, path)
    else:
        path.write_bytes(pickle.dumps(Mischief(proof)))
    with pytest.raises(CheckpointError):
        checkpoint.load(tmp_path)
    assert not proof.exists()


def test_a_checkpoint_that_would_unfold_is_refused(path: Path, tmp_path: Path) -> None:
    torch.save({"model": torch.zeros(1000)}, tmp_path / "plain")
    with ZipFile(tmp_path / "plain") as plain, ZipFile(path, "w", ZIP_DEFLATED) as packed:
        for name in plain.namelist():
            packed.writestr(name, plain.read(name))
    with pytest.raises(CheckpointError, match="holds the compressed file"):
        checkpoint.load(tmp_path)
