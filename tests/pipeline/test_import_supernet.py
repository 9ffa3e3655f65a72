"""A published supernet, here with random weights, goes the whole way, and on to other images."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import nassearch as ns
from nassearch.data.preprocessing import IMAGENET
from nassearch.errors import CheckpointError, ConfigError, DataError, OutputError, SpaceError
from nassearch.pipeline.import_record import read_import
from nassearch.space import SearchSpace
from nassearch.training.state import start
from nassearch.training.strategy import StepPlan, SubnetPass
from nassearch.training.trainer import prepare
from nassearch.training.training_recipe import TrainingRecipe
from tests.networks.published import ofa_package as theirs
from tests.pipeline.conftest import CommandLine

CLASSES = 3


def _photos(folder: Path, *, classes: int, train: int, test: int) -> None:
    rng = np.random.default_rng(0)
    for split, count in (("train", train), ("test", test)):
        for number in range(classes):
            place = folder / split / f"n{number:04d}"
            place.mkdir(parents=True)
            for index in range(count):
                pixels = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(place / f"{index}.png")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory with a checkpoint of once-for-all's, a space of few pixels, and photos."""
    place = tmp_path_factory.mktemp("published")
    network = theirs.build("ofa_mbv3_w10", n_classes=CLASSES)
    torch.save({"state_dict": network.state_dict(), "epoch": 9}, place / "ofa.pth")
    few = {**SearchSpace.load("mobilenet_v3").to_dict(), "name": "few", "resolution": [32]}
    (place / "few.yaml").write_text(yaml.safe_dump(few))
    tiny = SearchSpace.load("digits_tiny").for_data(in_channels=3, num_classes=CLASSES)
    own = {**tiny.to_dict(), "name": "no_space_that_ships"}
    ns.Supernet(SearchSpace.from_dict(own)).save(place / "tiny.safetensors")
    _photos(place / "photos", classes=CLASSES, train=20, test=4)
    _photos(place / "others", classes=2, train=20, test=4)
    here = Path.cwd()
    os.chdir(place)
    try:
        yield place
    finally:
        os.chdir(here)


@pytest.fixture(scope="module")
def imported(home: Path) -> ns.TrainedSupernet:
    data = "imagefolder:photos"
    return ns.import_supernet("ofa.pth", space="few.yaml", data=data, out="runs/imported")


def test_an_imported_run_is_one_like_any_other(imported: ns.TrainedSupernet) -> None:
    run = imported.directory
    names = {path.name for path in run.iterdir()}
    assert names == {"recipe.yaml", "environment.json", "checkpoints", "import.json"}
    assert not imported.is_unfinished
    assert imported.name == "imported, imported: once-for-all MobileNetV3 w1.0"
    assert imported.data.num_classes == CLASSES == imported.space.num_classes
    record = read_import(run)
    assert record is not None
    assert (record.num_tensors, record.left_out) == (theirs.TENSORS["ofa_mbv3_w10"], ("epoch",))
    assert "not stated by the authors" in record.licence
    assert record.preprocessing == "imagenet"
    again = ns.load_supernet(run)
    assert again.fingerprint == imported.fingerprint


def test_from_a_published_checkpoint_to_a_verified_network(
    imported: ns.TrainedSupernet, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = ns.profile_device(imported.space, "box", runtime="fake", seconds=0.3, max_networks=20)
    result = ns.search_subnets(
        imported, devices=[table], budgets=["60%"], trials=3, algorithm="random"
    )
    exports = ns.export_subnets(result, formats=["weights", "onnx"], out="exports")
    [check] = ns.verify_exports(exports, seconds=0.1)
    assert check.largest_difference < 1e-4
    assert check.accuracy is not None and check.accuracy.num_images == CLASSES * 4
    [pick] = result.picks
    images = imported.data.normalise(imported.data.val.images[:3])
    expected = imported.extract(pick.architecture)(images)
    torch.testing.assert_close(
        ns.load(exports[0].directory)(images), expected, rtol=1e-4, atol=1e-4
    )
    page = ns.write_report(imported, out="report.html").read_text(encoding="utf-8")
    assert "few" in page


def test_what_was_loaded_is_printed(home: Path, nassearch: CommandLine) -> None:
    answer = nassearch("import-supernet", "ofa.pth", "--space", "few.yaml", "--out", "runs/printed")
    assert answer.code == 0
    assert "475 tensors loaded into the space few" in answer.out
    assert "left out of ofa.pth: epoch" in answer.out
    assert "licence: not stated by the authors" in answer.out
    assert "name those of its classes with --data" in answer.err
    answer = nassearch("import-supernet", "tiny.safetensors", "--out", "runs/json", "--json")
    assert answer.json()["left_out"] == []


# -- without images ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bare(home: Path) -> ns.TrainedSupernet:
    return ns.import_supernet("tiny.safetensors", out="runs/bare")


def test_without_images_a_search_ranks_structures_and_says_so(
    bare: ns.TrainedSupernet,
) -> None:
    table = ns.profile_device(bare.space, "box", runtime="fake", seconds=0.3, out="tables")
    with pytest.warns(UserWarning, match="no images, so no accuracy is measured"):
        result = ns.search_subnets(
            "runs/bare", devices=[table], budgets=["60%"], trials=3, out="runs/structures"
        )
    [pick] = result.picks
    assert set(pick.candidate.values) == {"zero_cost", "latency"}
    for use in (bare.extract, bare.accuracy):
        with pytest.raises(DataError, match="imported without images"):
            use(pick.architecture)
    with pytest.raises(DataError, match="name images of its classes with --data"):
        ns.export_subnets(result, formats=["weights"], out="nothing")
    assert not Path("nothing").exists()
    with pytest.raises(ConfigError, match="name images with --data"):
        ns.search_subnets(bare, devices=[table], objectives=["accuracy"], trials=3)


def test_images_are_named_when_they_are_needed(bare: ns.TrainedSupernet) -> None:
    given = ns.load_supernet(bare.directory, data="imagefolder:photos")
    assert given.accuracy(given.space.smallest).provenance.num_images == len(given.data.val)
    table = ns.profile_device(given.space, "box", runtime="fake", seconds=0.3, out="tables")
    result = ns.search_subnets(given, devices=[table], trials=2, out="runs/named")
    [export] = ns.export_subnets(result, formats=["weights"], out="named")
    assert export.config.accuracy.supernet == "bare, imported: a supernet of nassearch"
    assert ns.load_supernet(bare.directory).images is None
    with pytest.raises(DataError, match="holds 2 classes, the network tells 3 apart") as refused:
        ns.load_supernet(bare.directory, data="imagefolder:others")
    assert "train-supernet --from runs/bare --data imagefolder:others" in str(refused.value)


# -- on to other images ------------------------------------------------------------------------


def test_a_supernet_goes_on_with_other_classes(
    bare: ns.TrainedSupernet, nassearch: CommandLine
) -> None:
    answer = nassearch(
        "train-supernet", "--from", "runs/bare", "--data", "imagefolder:others", "--epochs", 1,
        "--set", "training.batch_size=16", "--out", "runs/others",
    )  # fmt: skip
    assert answer.code == 0, answer.err
    trained = ns.load_supernet("runs/others")
    assert trained.space.num_classes == trained.data.num_classes == 2
    assert trained.recipe.training.strategy == "sandwich"  # as the imported run's recipe says
    assert trained.recipe.training.start_from == str(Path("runs/bare").resolve())
    text = Path("runs/others/recipe.yaml").read_text(encoding="utf-8")
    assert yaml.safe_load(text)["training"]["start_from"] == "$HERE/../bare"  # wherever it is moved
    before, after = bare.supernet.state_dict(), trained.supernet.state_dict()
    for name, tensor in before.items():
        if name.endswith("depthwise.conv.weight"):  # a small step from what they were
            assert (after[name] - tensor).abs().mean() < 0.2 * tensor.abs().mean(), name
    assert nassearch("train-supernet", "--resume", "--out", "runs/others").code == 0


def test_what_an_imported_run_cannot_be_is_refused(
    bare: ns.TrainedSupernet, nassearch: CommandLine
) -> None:
    answer = nassearch("train-supernet", "--resume", "--out", "runs/bare")
    assert answer.code == 2
    assert "was imported, no training began there; begin one with --from runs/bare" in answer.err
    answer = nassearch("train-supernet", "--from", "runs/bare", "--out", "runs/none")
    assert answer.code == 2
    assert "a training needs images" in answer.err
    answer = nassearch("train-supernet", "--from", "runs/nowhere", "--data", "digits")
    assert answer.code == 2
    assert "is not a run" in answer.err
    with pytest.raises(OutputError, match="already holds a run"):
        ns.import_supernet("tiny.safetensors", out="runs/bare")


def test_a_refused_import_writes_nothing(home: Path) -> None:
    arguments: list[tuple[dict[str, Any], type[Exception]]] = [
        ({"data": "imagefolder:others"}, DataError),
        ({"data": "digits"}, DataError),  # one channel
        ({"space": "digits_mini"}, SpaceError),
    ]
    for given, error in arguments:
        with pytest.raises(error):
            ns.import_supernet("tiny.safetensors", out="runs/refused", **given)
    with pytest.raises(CheckpointError, match="no such file"):
        ns.import_supernet("nowhere.pth", out="runs/refused")
    assert not Path("runs/refused").exists()


# -- the other direction -----------------------------------------------------------------------


def test_a_supernet_is_one_file_that_loads_in_one_line(
    bare: ns.TrainedSupernet, nassearch: CommandLine
) -> None:
    answer = nassearch("export", "runs/bare", "--pick", "supernet", "--json")
    file = Path(answer.json()["supernet"])
    assert file == Path("runs/bare/exports/supernet.safetensors")
    loaded = ns.Supernet.load(file)
    assert loaded.space == bare.space
    images, largest = torch.randn(2, 3, 8, 8), bare.space.largest
    with torch.no_grad():
        assert torch.equal(loaded(images, largest), bare.supernet(images, largest))
    again = ns.import_supernet(file, data="imagefolder:photos", out="runs/again")
    assert again.fingerprint == bare.fingerprint
    saved = json.loads(Path("runs/again/import.json").read_text(encoding="utf-8"))
    assert saved["title"] == "a supernet of nassearch"
    with pytest.raises(SpaceError, match="is not the space of the file"):
        ns.import_supernet(file, space="digits_mini", out="runs/other_space")


def test_a_file_that_is_no_supernet_of_ours_is_refused(
    bare: ns.TrainedSupernet, tmp_path: Path
) -> None:
    file = ns.export_supernet(bare, out=tmp_path / "supernet.safetensors")
    (tmp_path / "cut.safetensors").write_bytes(file.read_bytes()[:9000])
    with pytest.raises(CheckpointError, match="cannot be read"):
        ns.Supernet.load(tmp_path / "cut.safetensors")
    with pytest.raises(CheckpointError, match="cannot be read"):
        ns.Supernet.load(tmp_path / "nowhere.safetensors")
    with pytest.raises(ConfigError, match="is not a run"):
        ns.export_supernet(tmp_path)


def test_a_supernet_s_channels_keep_their_order(bare: ns.TrainedSupernet, tmp_path: Path) -> None:
    """Sorting, which its strategy may ask for, would change every network but the largest."""
    data = ns.load_data("imagefolder:photos")
    sorting = StepPlan((SubnetPass(bare.space.largest),), 0.1, sort_channels=True)
    kept = {}
    for start_from in (str(bare.directory), None):
        recipe = TrainingRecipe(start_from=start_from)
        state = start(bare.space, data, recipe=recipe, out=tmp_path, resume=False)
        state.supernet.load_state_dict(bare.supernet.state_dict())
        prepare(state, sorting)
        kept[start_from] = all(
            torch.equal(tensor, bare.supernet.state_dict()[name])
            for name, tensor in state.supernet.state_dict().items()
        )
    assert kept == {str(bare.directory): True, None: False}


def test_what_a_training_takes_over_is_said_in_one_line(
    bare: ns.TrainedSupernet, tmp_path: Path
) -> None:
    def note(data: str, space: ns.SearchSpace = bare.space) -> str:
        recipe = TrainingRecipe(start_from=str(bare.directory), whitening=True, zero_gamma=True)
        found = ns.load_data(data)
        state = start(space, found, recipe=recipe, out=tmp_path, resume=False)
        own = state.supernet.state_dict()
        for name, tensor in bare.supernet.state_dict().items():  # nor is anything set to zero
            if own[name].shape == tensor.shape and ".classifier." not in name:
                assert torch.equal(own[name], tensor), name
        assert state.start_note is not None
        return state.start_note

    tensors = len(bare.supernet.state_dict())
    same = note("imagefolder:photos")
    assert f"{tensors} tensors copied, 0 grown, 0 new" in same
    assert "outputs changed by 0" in same
    others = note("imagefolder:others")
    assert f"{tensors - 2} tensors copied, 0 grown; the classifier is new (2 classes" in others
    assert others.endswith("3 before)")
    wide = bare.space.to_dict()
    wide["stages"][-1]["width"] = [32, 64, 96]  # type: ignore[index]
    assert "grown" in note("imagefolder:photos", ns.SearchSpace.from_dict(wide))


def test_a_specialised_network_becomes_an_export_that_verify_measures(
    home: Path, nassearch: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Path("net")
    place.mkdir()
    network = theirs.build("ofa_mbv3_w10", n_classes=CLASSES)
    network.set_active_subnet(ks=3, e=3, d=2)
    subnet = network.get_active_subnet(preserve_weight=True)
    torch.save({"state_dict": subnet.state_dict()}, place / "init")
    (place / "net.config").write_text(json.dumps(subnet.config))
    arguments = ("import-subnet", "net/init", "--net-config", "net/net.config", "--data")
    answer = nassearch(*arguments, "imagefolder:photos", "--out", "net/export")
    assert answer.code == 2
    assert "give the pixels of its images with --resolution" in answer.err
    (place / "run.config").write_text(json.dumps({"image_size": 32}))
    answer = nassearch(*arguments, "imagefolder:others", "--out", "net/export")
    assert answer.code == 2
    assert "holds 2 classes, the network tells 3 apart" in answer.err
    answer = nassearch(*arguments, "imagefolder:photos", "--out", "net/export")
    assert answer.code == 0, answer.err
    [check] = ns.verify_exports("net/export", seconds=0.1)
    assert check.largest_difference < 1e-4
    assert not [line for line in check.broken if "differ" in line]
    assert set(check.formats) == {"weights", "onnx"}


def test_an_import_prepares_images_as_its_authors_did(
    home: Path, imported: ns.TrainedSupernet
) -> None:
    assert imported.data.preprocessing == IMAGENET
    assert imported.recipe.preprocessing == IMAGENET
    ns.import_supernet("ofa.pth", space="few.yaml", out="runs/no-images")
    later = ns.load_supernet("runs/no-images", data="imagefolder:photos")
    assert later.data.preprocessing == IMAGENET


@pytest.mark.slow
def test_a_training_from_an_import_prepares_images_alike(
    home: Path, imported: ns.TrainedSupernet
) -> None:
    tuned = ns.train_supernet(
        None,
        "imagefolder:others",
        start_from=imported,
        strategy="single-path",
        epochs=1,
        options={"batch_size": 16},
        out="runs/tuned-as-imported",
    )
    assert tuned.data.preprocessing == IMAGENET
