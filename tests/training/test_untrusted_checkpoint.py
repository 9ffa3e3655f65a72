"""Checkpoints from strangers: nothing in them is run, and they are as large as they look."""

import pickle
import shutil
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile

import pytest
import torch

from nassearch.errors import CheckpointError, SpaceError
from nassearch.training import checkpoint

FIXTURE = Path(__file__).parents[1] / "fixtures" / "v0_1_0" / "run"


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


def test_a_supernet_larger_than_memory_is_not_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(FIXTURE / "checkpoints", tmp_path / "checkpoints")
    monkeypatch.setattr("nassearch.networks.cost.free_bytes", lambda: 64)
    with pytest.raises(SpaceError, match="B are free"):
        checkpoint.load_supernet(tmp_path)


@pytest.mark.filterwarnings("ignore:.*is damaged")
def test_a_tensor_larger_than_its_file_is_refused(path: Path, tmp_path: Path) -> None:
    """A view that repeats one number: small in the file, and as large as one likes when copied."""
    content = torch.load(next((FIXTURE / "checkpoints").iterdir()), weights_only=True)
    name = next(iter(content["model"]))
    content["model"][name] = torch.zeros(1).expand(2**40)
    torch.save(content, path)
    assert path.stat().st_size < 2**22
    with pytest.raises(CheckpointError, match="weights of other shapes"):
        checkpoint.load_supernet(tmp_path)


def test_a_checkpoint_that_would_unfold_is_refused(path: Path, tmp_path: Path) -> None:
    torch.save({"model": torch.zeros(1000)}, tmp_path / "plain")
    with ZipFile(tmp_path / "plain") as plain, ZipFile(path, "w", ZIP_DEFLATED) as packed:
        for name in plain.namelist():
            packed.writestr(name, plain.read(name))
    with pytest.raises(CheckpointError, match="holds the compressed file"):
        checkpoint.load(tmp_path)
