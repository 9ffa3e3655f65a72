"""What is done to images is kept in the run and its exports, and honoured by everything after."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import nassearch as ns
from nassearch.data.image_set import in_memory
from nassearch.data.preprocessing import IMAGENET, Preprocessing, Recalibration, Resize
from nassearch.errors import DataError
from nassearch.export.card import model_card
from nassearch.export.export_config import read_export
from nassearch.objectives.objective import build
from nassearch.pipeline.trained_supernet import TrainedSupernet
from nassearch.search.problem import Objective
from nassearch.training import checkpoint
from tests.pipeline.conftest import CommandLine, succeed

SAID = IMAGENET.model_copy(
    update={"recalibration": Recalibration(images=40, random_resized_crop=0.5, flip=True)}
)
RECIPE = f"""
name: photos
space: digits_tiny
data: imagefolder:photos
preprocessing: {SAID.to_dict()}
threads: 1
training: {{epochs: 10, batch_size: 16, lr: 0.3}}
"""


def make_photos(folder: Path) -> Path:
    """30 training and 6 test photos of noise, dark and bright ones, of odd sizes, in colour."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 30), ("test", 6)):
        for name, darkest in (("a", 0), ("b", 64)):
            place = folder / split / name
            place.mkdir(parents=True)
            for number in range(count):
                shape = (*rng.integers(10, 30, 2), 3)
                pixels = rng.integers(darkest, darkest + 192, shape, dtype=np.uint8)
                Image.fromarray(pixels).save(place / f"{number:03d}.png")
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A run on photos, `run`, searched and exported in every format, to `exports`."""
    place = tmp_path_factory.mktemp("photos")
    make_photos(place / "photos")
    (place / "recipe.yaml").write_text(RECIPE)
    with pytest.MonkeyPatch.context() as patch, pytest.warns(UserWarning, match="cannot tell"):
        patch.chdir(place)
        for command in (
            "train-supernet --recipe recipe.yaml --out run",
            "search --supernet run --device raspberry_pi_5 --budget 60% --trials 2",
            "export run --format weights,onnx,pt2,int8 --max-accuracy-loss 1 --out exports",
        ):
            succeed(command, patch)
    yield place


def exported(place: Path) -> Path:
    (directory,) = (place / "exports").iterdir()
    return directory


def test_a_run_keeps_it_in_its_recipe_and_its_checkpoint(place: Path) -> None:
    supernet = ns.load_supernet("run")
    assert supernet.recipe.preprocessing == supernet.data.preprocessing == SAID
    assert supernet.data.train.shape == (3, 8, 8)  # the space's largest
    assert checkpoint.load(place / "run").data["preprocessing"] == SAID.to_dict()


def test_another_one_is_not_resumed(place: Path, nassearch: CommandLine) -> None:
    answer = nassearch(
        *("train-supernet", "--resume", "--out", "run", "--set", "preprocessing.resize=squash")
    )
    assert answer.code == 2
    assert "preprocessing: is another than the training began with; leave it" in answer.err


def test_accuracies_under_two_of_them_are_told_apart(place: Path) -> None:
    supernet = ns.load_supernet("run")
    plain = ns.load_data("imagefolder:photos@8", preprocessing={"resize": "crop"})
    other = TrainedSupernet(
        supernet.directory, supernet.supernet, supernet.recipe, plain, supernet.step
    )
    assert supernet.context().supernet != other.context().supernet
    accuracy = accuracy_of(supernet)
    supernet.cache.put(accuracy, supernet.space.largest, supernet.accuracy(supernet.space.largest))
    assert TrainedSupernet.load(place / "run").cache.get(accuracy, supernet.space.largest)
    assert other.cache.get(accuracy_of(other), supernet.space.largest) is None


def accuracy_of(supernet: TrainedSupernet) -> Objective:
    (objective,) = build("accuracy", supernet.context())
    return objective


def test_an_export_keeps_it_and_is_verified_under_it(place: Path) -> None:
    config = read_export(exported(place))
    assert config.data.preprocessing == SAID
    (verified,) = ns.verify_exports(exported(place), seconds=0.05)
    assert verified.largest_difference < 1e-4
    network, data = ns.load(exported(place)), ns.load_data("imagefolder:photos", preprocessing=SAID)
    images = data.inputs(in_memory(data.fitted(data.test(), 8)).images, 8)
    with torch.no_grad():
        logits = network(images)
    right = (logits.argmax(1) == data.test().labels).float().mean()
    assert verified.formats["weights"].accuracy.value == pytest.approx(float(right))
    # int8 was calibrated on the same images, of the same range
    assert verified.formats["int8"].difference < 0.5 * float(logits.abs().max())


def logits_of(prepare: str, lines: str) -> np.ndarray:
    """What a card's lines give for the file photo.jpg."""
    names: dict[str, Any] = {}
    exec(prepare, names)
    if "onnxruntime" not in lines:
        names["images"] = torch.from_numpy(names["images"])
    exec(lines, names)
    return np.asarray(torch.as_tensor(names["logits"]).detach())


def test_the_card_says_it_and_its_lines_do_it(place: Path) -> None:
    directory = exported(place)
    card = (directory / "README.md").read_text()
    assert "short side resized to ceil(r / 0.875), then the central r by r pixels, r = 8" in card
    assert "40 training images, a random part of at least 50% of each, half of them mir" in card
    photo = place / "photos" / "test" / "a" / "000.png"
    Image.open(photo).save(directory / "photo.jpg", "png")
    prepare, *others = re.findall(r"```python\n(.*?)```", card, flags=re.DOTALL)
    assert len(others) == 4
    data = ns.load_data("imagefolder:photos", preprocessing=SAID)
    image = in_memory(data.fitted(data.test(), 8)).images[:1]
    expected = ns.load(directory)(data.inputs(image, 8)).detach().numpy()
    largest = np.abs(expected).max()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(directory)
        for lines in others:
            found = logits_of(prepare, lines)
            bound = 0.5 if "int8" in lines else 1e-4
            assert np.abs(found - expected).max() < bound * largest, lines


def test_graphs_that_take_photos_are_verified_and_shown(
    place: Path, nassearch: CommandLine
) -> None:
    answer = nassearch(
        *("export", "run", "--preprocess-in-graph", "--out", "photos-in", "--batch", "dynamic"),
        *(
            "--format",
            "weights,onnx,int8",
            "--max-accuracy-loss",
            "1",
            "--data",
            "imagefolder:photos",
        ),
    )
    assert answer.code == 0, answer.err
    (directory,) = (place / "photos-in").iterdir()
    answer = nassearch("verify", directory, "--data", "imagefolder:photos", "--json")
    assert answer.code == 0, answer.err
    found = answer.json()
    accuracies = found["test_accuracy"]
    assert accuracies["onnx"]["value"] == accuracies["weights"]["value"]
    for name in ("onnx", "int8"):
        assert found["formats"][name]["grey_levels"] <= 1.01
    assert "grey_levels" not in found["formats"]["weights"]
    assert found["largest_difference"] < 1e-4

    shutil.copy("photos/test/a/000.png", directory / "photo.jpg")
    blocks = re.findall(r"```python\n(.*?)```", (directory / "README.md").read_text(), re.DOTALL)
    prepare, decode, *lines = blocks
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(directory)
        plain = logits_of(prepare, lines[0])
        onnx, int8 = (logits_of(decode, block) for block in lines[1:])
    assert np.abs(onnx - plain).max() < 0.02 * np.abs(plain).max()  # pixels differ by a grey level
    assert np.abs(int8 - plain).max() < 0.5 * np.abs(plain).max()
    assert "input uint8 (n, height, width, 3)" in (directory / "README.md").read_text()

    tuned = ns.finetune_export(directory, epochs=1, data="imagefolder:photos", out="tuned-photos")
    assert read_export(tuned.directory).formats["onnx"]["preprocess_in_graph"]


def test_the_card_of_squashed_images_says_so(place: Path) -> None:
    config = read_export(exported(place))
    squash = config.data.model_copy(update={"preprocessing": Preprocessing(resize=Resize())})
    card = model_card(config.model_copy(update={"data": squash}), exported(place), (3, 8, 8))
    assert "resized to r by r pixels, r = 8" in card
    assert "those of 2000 training images." in card
    assert "photo.resize((8, 8)" in card


def test_a_fine_tuning_honours_it(place: Path) -> None:
    tuned = ns.finetune_export(exported(place), epochs=1, formats=["weights"], out="tuned")
    config = read_export(tuned.directory)
    assert config.data.preprocessing == SAID
    assert config.data.mean == SAID.mean
    network, data = ns.load("tuned"), ns.load_data("imagefolder:photos", preprocessing=SAID)
    images = data.inputs(in_memory(data.fitted(data.val, 8)).images, 8)
    right = (network(images).argmax(1) == data.val.labels).float().mean()
    assert tuned.after.value == pytest.approx(float(right))
    other = ns.load_data("imagefolder:photos@8", preprocessing={"resize": "crop"})
    with pytest.raises(DataError, match="were loaded with another preprocessing"):
        ns.finetune_export(exported(place), epochs=1, data=other, out="other")


def test_images_of_another_number_of_classes_say_what_to_do(
    place: Path, nassearch: CommandLine
) -> None:
    shutil.copytree("photos/train/a", "photos/train/c")
    for command in (
        ("search", "--supernet", "run", "--device", "raspberry_pi_5"),
        ("verify", exported(place), "--data", "imagefolder:photos"),
    ):
        answer = nassearch(*command)
        assert answer.code == 2
        assert "holds 3 classes, the network tells 2 apart" in answer.err
        assert "train-supernet --from RUN --data IMAGES" in answer.err


def test_old_exports_hold_what_they_held(place: Path) -> None:
    """Of a config without the key, images are squashed and normalised by its own numbers."""
    directory = exported(place)
    text = (directory / "config.yaml").read_text()
    head, _, tail = text.partition("  preprocessing:\n")
    rest = tail[re.search(r"^\S", tail, flags=re.MULTILINE).start() :]  # type: ignore[union-attr]
    (directory / "config.yaml").write_text(head + rest)
    config = read_export(directory)
    assert config.data.preprocessing == Preprocessing()
    assert config.data.learned == Preprocessing(mean=SAID.mean, std=SAID.std)
    assert torch.isfinite(torch.tensor(config.data.mean)).all()
