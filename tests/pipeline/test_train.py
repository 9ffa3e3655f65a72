"""A training owns its directory, changes nothing when refused, and knows its images again."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nassearch.errors import Interrupted, OutputError
from nassearch.files import LOCK, OWNER, owned
from nassearch.pipeline.run_directory import environment, link_latest, new_run, run_data
from nassearch.training import checkpoint
from tests.pipeline.conftest import CommandLine, succeed

CLASSES = ("apple", "bear", "cat")


def make_photos(folder: Path) -> Path:
    """24 training and 4 test images of noise, 8x8, grey, in each of three classes."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 24), ("test", 4)):
        for name in CLASSES:
            place = folder / split / name
            place.mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 256, (8, 8), dtype=np.uint8)
                Image.fromarray(pixels).save(place / f"{number:03d}.png")
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A place with images, `photos`, and a run trained on them and searched, `run`."""
    place = tmp_path_factory.mktemp("photos")
    make_photos(place / "photos")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        for command in (
            "train-supernet --space digits_tiny --data imagefolder:photos --epochs 1 --out run",
            "search --supernet run --device raspberry_pi_5 --budget 60% --trials 2",
        ):
            succeed(command, patch)
    yield place


def contents(folder: Path) -> dict[str, bytes | str]:
    """Every file's bytes and every link's end, by name."""
    found: dict[str, bytes | str] = {}
    for path in folder.rglob("*"):
        if path.is_symlink():
            found[str(path.relative_to(folder))] = str(path.readlink())
        elif path.is_file():
            found[str(path.relative_to(folder))] = path.read_bytes()
    return found


def refused(nassearch: CommandLine, *arguments: object) -> str:
    answer = nassearch(*arguments)
    assert answer.code == 2, answer.err
    (line,) = answer.err.strip().splitlines()
    return line


SEARCH = ("search", "--supernet", "run", "--device", "raspberry_pi_5", "--budget", "60%")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--seed", "1"), "already holds a training"),
        (("--resume", "--seed", "1"), "was trained with seed 0, not 1"),
        (("--set", "training.strategy=nonsense"), "nonsense"),
    ],
)
def test_a_refused_training_changes_nothing(
    place: Path, nassearch: CommandLine, arguments: tuple[str, ...], says: str
) -> None:
    make_photos(place / "others")
    (place / "runs" / "latest").unlink()
    (place / "runs" / "latest").symlink_to("../others", target_is_directory=True)
    before = contents(place)
    assert says in refused(nassearch, "train-supernet", *arguments, "--out", "run")
    assert contents(place) == before
    answer = nassearch("train-supernet", "--resume", "--out", "run")
    assert answer.code == 0, answer.err


def test_a_second_training_in_a_directory_is_refused_with_its_owner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nassearch: CommandLine
) -> None:
    monkeypatch.chdir(tmp_path)
    with owned(tmp_path / "run", doing="training"):
        before = contents(tmp_path)
        line = refused(nassearch, "train-supernet", "--epochs", "1", "--out", "run")
        assert contents(tmp_path) == before
    assert f"a training runs here (process {os.getpid()} on {socket.gethostname()}" in line
    assert "choose another --out" in line
    assert not (tmp_path / "run").exists()


KILLED = """
import os, signal, sys
from pathlib import Path
from nassearch.errors import Interrupted, OutputError
from nassearch.files import owned
with owned(Path(sys.argv[1]), doing="training"):
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_lock_of_a_killed_process_is_none(tmp_path: Path) -> None:
    killed = subprocess.run([sys.executable, "-c", KILLED, tmp_path], check=False)
    assert killed.returncode == -signal.SIGKILL
    owner = json.loads((tmp_path / OWNER).read_text())
    assert owner["process"] != os.getpid()
    with owned(tmp_path, doing="training"):
        assert json.loads((tmp_path / OWNER).read_text())["process"] == os.getpid()
    assert not (tmp_path / LOCK).exists() and not (tmp_path / OWNER).exists()


def test_a_locked_file_is_neither_read_nor_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on Windows, where nobody else may do either while it is held."""

    def denied(path: Path, *_: object, **__: object) -> None:
        raise PermissionError(13, "sharing violation", str(path))

    for name in ("read_text", "write_text", "unlink"):
        honest = getattr(Path, name)
        monkeypatch.setattr(
            Path,
            name,
            lambda path, *rest, honest=honest, **named: (denied if path.name == LOCK else honest)(
                path, *rest, **named
            ),
        )
    with (
        owned(tmp_path / "run", doing="training"),
        pytest.raises(OutputError, match=f"a training runs here .process {os.getpid()} on "),
        owned(tmp_path / "run", doing="export"),
    ):
        pass
    with owned(tmp_path / "run", doing="export"):
        pass


def test_a_copied_tree_keeps_the_run_that_latest_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`cp -rL` makes a directory of the link."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "latest").mkdir(parents=True)
    (tmp_path / "runs" / "latest" / "recipe.yaml").write_text("seed: 7\n")
    with pytest.warns(UserWarning, match="was a directory, not a link"):
        link_latest(Path("runs/new"))
    assert str((tmp_path / "runs" / "latest").readlink()) == "new"
    (aside,) = (tmp_path / "runs").glob("latest-*")
    assert (aside / "recipe.yaml").read_text() == "seed: 7\n"


def test_a_disk_without_links_has_no_latest_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "old").mkdir(parents=True)
    link_latest(Path("runs/old"))

    def no_links(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "symlink_to", no_links)
    with pytest.warns(UserWarning, match=r"cannot be linked to runs/new .*name the run with"):
        link_latest(Path("runs/new"))
    assert not (tmp_path / "runs" / "latest").is_symlink()


def test_runs_that_begin_in_the_same_second_have_two_names() -> None:
    assert len({new_run("digits") for _ in range(20)}) == 20


def rename_class(photos: Path) -> None:
    for split in ("train", "test"):
        (photos / split / "apple").rename(photos / split / "zebra")


def add_class(photos: Path) -> None:
    shutil.copytree(photos / "train" / "cat", photos / "train" / "dog")


def add_image(photos: Path) -> None:
    shutil.copy(photos / "train" / "cat" / "000.png", photos / "train" / "cat" / "900.png")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (rename_class, "'apple' is gone and 'zebra' is new"),
        (add_class, "'dog' is new"),
        (add_image, "holds 73 images (1 more than the 72 the supernet was trained with)"),
    ],
)
@pytest.mark.parametrize(
    "command", [SEARCH, ("export", "run"), ("train-supernet", "--resume", "--out", "run")]
)
def test_images_that_changed_since_the_training_are_refused(
    place: Path, nassearch: CommandLine, change: object, says: str, command: tuple[str, ...]
) -> None:
    assert callable(change)
    change(place / "photos")
    before = contents(place)
    assert says in refused(nassearch, *command)
    assert contents(place) == before


def test_images_that_moved_are_found_with_data(place: Path, nassearch: CommandLine) -> None:
    held_out = run_data(place / "run").held_out
    (place / "photos").rename(place / "elsewhere")
    assert "say with --data where the images lie now" in refused(nassearch, *SEARCH)
    moved = ("--data", "imagefolder:elsewhere")
    assert run_data(place / "run", moved[1]).held_out == held_out
    for command in (
        (*SEARCH, *moved, "--trials", "2"),
        ("train-supernet", "--resume", "--out", "run", *moved),
    ):
        answer = nassearch(*command)
        assert answer.code == 0, answer.err
    assert run_data(place / "run").held_out == held_out  # the run knows where they lie now


def test_a_tree_that_moved_as_a_whole_is_searched_from_anywhere(
    place: Path, nassearch: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = place.rename(tmp_path / "moved")
    monkeypatch.chdir(tmp_path)
    assert len(run_data(moved / "run").val) == len(checkpoint.load(moved / "run").data["held_out"])


def test_a_machine_without_git_trains(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert environment()["commit"] is None


def test_to_resume_where_no_run_is_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nassearch: CommandLine
) -> None:
    monkeypatch.chdir(tmp_path)
    line = refused(nassearch, "train-supernet", "--resume", "--out", "runs/typo")
    assert "runs/typo: there is no run to resume here" in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("interruption", "says"),
    [
        (KeyboardInterrupt(), "nassearch: interrupted\n"),
        (Interrupted("it is saved"), "nassearch: interrupted; it is saved\n"),
    ],
)
def test_an_interrupted_command_says_what_is_saved(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    nassearch: CommandLine,
    interruption: KeyboardInterrupt,
    says: str,
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise interruption

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("nassearch.train_recipe", stop)
    answer = nassearch("train-supernet", "--out", "run")
    assert (answer.code, answer.err) == (130, says)


def test_a_small_validation_split_is_told_by_training_and_by_search(
    place: Path, nassearch: CommandLine
) -> None:
    train = ("train-supernet", "--space", "digits_tiny", "--data", "imagefolder:photos")
    says = r"15 validation images .* less than 21\.5 points"
    for command in ((*train, "--epochs", "1", "--out", "another"), (*SEARCH, "--trials", "2")):
        with pytest.warns(UserWarning, match=says) as caught:
            answer = nassearch(*command, "--json")
        assert answer.json()
        assert len([item for item in caught if "cannot tell" in str(item.message)]) == 1


OTHERS = "the test images are others than when the"


def _warnings(nassearch: CommandLine, *command: object) -> list[str]:
    """What a command that succeeds warns of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        answer = nassearch(*command)
    assert answer.code == 0, answer.err
    return [str(item.message) for item in caught if "cannot tell" not in str(item.message)]


def _more_bytes(place: Path) -> None:
    path = place / "photos/test/cat/000.png"
    path.write_bytes(path.read_bytes() + b"0")


def _another_name(place: Path) -> None:
    (place / "photos/test/cat/000.png").rename(place / "photos/test/cat/100.png")


def _no_class(place: Path) -> None:
    shutil.rmtree(place / "photos/test/cat")


@pytest.mark.parametrize("change", [_more_bytes, _another_name, _no_class])
def test_test_images_that_changed_since_the_training_are_told(
    place: Path, nassearch: CommandLine, change: Callable[[Path], None]
) -> None:
    export = ("export", "run", "--format", "weights", "--out", "exports")
    assert _warnings(nassearch, *export) == []
    (exported,) = (place / "exports").iterdir()
    verify = ("verify", exported)
    assert _warnings(nassearch, *verify) == []
    change(place)
    (since_export,) = _warnings(nassearch, *verify)
    assert f"photos: {OTHERS} network was exported" in since_export
    (since_training,) = _warnings(nassearch, *export)
    assert f"{OTHERS} supernet was trained" in since_training
    assert _warnings(nassearch, *verify) == []  # it says which images it was exported with


def test_a_checkpoint_without_a_test_fingerprint_gets_no_check(
    place: Path, nassearch: CommandLine
) -> None:
    (newest, *_) = checkpoint.paths(place / "run")
    content = checkpoint.read_state(newest)
    assert content["data"].pop("test_fingerprint") is not None
    newest.write_bytes(checkpoint.serialise(content))
    _more_bytes(place)
    export = ("export", "run", "--format", "weights", "--out", "exports")
    assert _warnings(nassearch, *export) == []
