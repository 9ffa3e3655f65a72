"""Targets of the user's own: the page's detector, from adoption to a verified file; bad input."""

import importlib
import json
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import onnxruntime
import pytest
import torch
import yaml
from torch import Tensor

import nassearch as ns
from nassearch.errors import NassearchError
from nassearch.export.export_config import MetricClaim
from nassearch.provenance import Estimate, Provenance
from nassearch.training import checkpoint
from nassearch.training.task import Metric, as_metric, share_of
from tests.pipeline.conftest import CommandLine

PAGE = Path(__file__).parents[2] / "docs" / "own_network.md"
SETTING = "box/fake-fp32-b1-t1"


def _blocks(language: str) -> list[str]:
    text = PAGE.read_text(encoding="utf-8")
    found = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [block for name, block in found if name == language]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory with the page's boxes.py, which can be imported."""
    found = tmp_path_factory.mktemp("place")
    (code,) = (block for block in _blocks("python") if "boxes.py" in block)
    (found / "boxes.py").write_text(code)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(found))
        patch.chdir(found)
        yield found
        sys.modules.pop("boxes", None)


@pytest.fixture(scope="module")
def boxes(place: Path) -> ModuleType:
    importlib.invalidate_caches()
    return importlib.import_module("boxes")


@pytest.fixture(scope="module")
def finder(place: Path, boxes: ModuleType) -> Path:
    """The page's detector, adopted."""
    return ns.adopt(boxes.Finder(), (1, 32, 32), width=[0.5, 1.0], out=place / "few").directory


def _data(boxes: ModuleType, collate: Any = None, *, count: int = 24) -> ns.Data:
    splits = tuple(boxes.Canvas(first, first + count) for first in (0, 100, 200))
    return ns.load_data(splits, collate=collate or boxes.collate)


def _train(finder: Path, boxes: ModuleType, out: Path, **given: Any) -> ns.TrainedSupernet:
    options = {"batch_size": 8, "optimizer": "adamw", "lr": 0.003, **given.pop("options", {})}
    known = {"data": _data(boxes), "loss": boxes.loss, "epochs": 1, "strategy": "sandwich"}
    return ns.train_supernet(
        None, start_from=finder, options=options, threads=1, out=out, **{**known, **given}
    )


@pytest.fixture(scope="module")
def trained(finder: Path, boxes: ModuleType, place: Path) -> ns.TrainedSupernet:
    return _train(finder, boxes, place / "trained")


def test_from_the_page_s_detector_to_a_verified_file(
    place: Path, boxes: ModuleType, nassearch: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every command of the page, on a fake device and with fewer epochs."""
    (commands,) = (block for block in _blocks("") if "adopt boxes:Finder" in block)
    lines = commands.replace("\\\n", "").strip().splitlines()
    for line in lines:
        words = line.replace("--device host", f"--device {SETTING}").split()[1:]
        words = ["1" if word == "20" else word for word in words]
        if words[0] == "profile":
            words = [*words[:2], "box", "--runtime", "fake", "--seconds", "1", *words[3:]]
        if words[0] == "search":
            words += ["--trials", "6"]
        if words[0] == "verify":
            (directory,) = (place / "found" / "exports").iterdir()
            words[1] = str(directory)
        answer = nassearch(*words)
        assert answer.code == 0, answer.err
    said = yaml.safe_load((place / "found" / "recipe.yaml").read_text())["training"]
    assert (said["loss"], said["distillation"]) == ("boxes:loss", "none")
    rows = [json.loads(line) for line in (place / "found/metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["val_loss_max"] > 0
    facts = yaml.safe_load((directory / "config.yaml").read_text())
    assert facts["outputs"] == {"score": [1, 8, 8], "box": [4, 8, 8]}
    assert (facts["metric"]["name"], facts["metric"]["num_images"]) == ("mean_iou", 300)
    assert facts["metric"]["low"] < facts["metric"]["value"] < facts["metric"]["high"]
    found = json.loads((directory / "verify.json").read_text())
    assert list(found["test_metric"]) == ["weights", "onnx", "pt2"]
    tested = found["test_metric"]["onnx"]["value"]
    assert nassearch("report", "found").code == 0
    assert f"{tested:.4g} (297 images)" in (place / "found" / "report.html").read_text()
    assert found["largest_difference"] < 1e-4
    assert "unmeasured" not in found
    session = onnxruntime.InferenceSession(directory / "model.onnx")
    assert [output.name for output in session.get_outputs()] == ["score", "box"]
    outputs = ns.load(directory)(torch.zeros(1, 1, 32, 32))
    assert {name: tuple(tensor.shape[1:]) for name, tensor in outputs.items()} == {
        name: tuple(shape) for name, shape in facts["outputs"].items()
    }
    card = (directory / "README.md").read_text()
    assert "`score` (n, 1, 8, 8), `box` (n, 4, 8, 8)" in card
    assert 'outputs = session.run(None, {"images": images})' in card

    monkeypatch.chdir(directory)
    for block in re.findall(r"```python\n(.*?)```", card, re.DOTALL):
        taken: dict[str, Any] = {"images": torch.zeros(1, 1, 32, 32)}
        if "onnxruntime" in block:
            taken["images"] = taken["images"].numpy()
        exec(block, taken)
        assert len(taken["outputs"]) == 2
    monkeypatch.chdir(place)

    answer = nassearch("verify", directory)
    assert answer.code == 0, answer.err
    assert "outputs of the formats and latencies alone were compared" in answer.err
    answer = nassearch("report", "found")
    assert answer.code == 0, answer.err
    assert "mean_iou" in (place / "found" / "report.html").read_text()


def test_a_recipe_names_data_loss_and_metric(
    place: Path, finder: Path, nassearch: CommandLine
) -> None:
    out = ("--runtime", "fake", "--seconds", "1", "--space", finder / "space.yaml")
    assert nassearch("profile", "--device", "recipe_box", *out).code == 0
    training = {"loss": "boxes:loss", "epochs": 1, "optimizer": "adamw", "lr": 0.003}
    wanted = {"objectives": ["mean_iou", "latency"], "evaluate": "boxes:mean_iou", "trials": 4}
    recipe = {
        "name": "whole",
        "space": str(finder / "space.yaml"),
        "data": "boxes:make_data",
        "device": "recipe_box",
        "threads": 1,
        "training": {**training, "strategy": "sandwich"},
        "search": wanted,
        "export": {"formats": ["weights"]},
    }
    (place / "whole.yaml").write_text(yaml.safe_dump(recipe))
    answer = nassearch("run", "whole.yaml", "--out", "whole")
    assert answer.code == 0, answer.err
    (export,) = (place / "whole" / "exports").iterdir()
    found = json.loads((export / "verify.json").read_text())
    assert found["test_metric"]["weights"]["num_images"] == 297
    assert f"{found['test_metric']['weights']['value']:.4g}" in answer.out


def _search(supernet: ns.TrainedSupernet, table: Any, out: Path, **given: Any) -> ns.SearchResult:
    return ns.search_subnets(supernet, devices=[table], trials=6, seed=1, out=out, **given)


@pytest.fixture(scope="module")
def table(finder: Path, place: Path) -> ns.LatencyTable:
    out = place / "tables"
    return ns.profile_device(finder, "table_box", runtime="fake", seconds=0.3, out=out)


def test_a_metric_of_which_less_is_better_is_searched_and_promised(
    trained: ns.TrainedSupernet, table: ns.LatencyTable, tmp_path: Path
) -> None:
    def misses(network: Callable[[Tensor], Any], batches: Any) -> float:
        return sum(float(network(images)["box"].abs().mean()) for images, _ in batches)

    misses.direction = "min"  # type: ignore[attr-defined]
    result = _search(trained, table, tmp_path / "search", evaluate=misses)
    values = [item.number("misses") for item in result.front]
    assert result.picks[0].candidate.number("misses") == min(values)
    assert result.to_pandas()["misses"].tolist() == [min(values)]
    [export] = ns.export_subnets(result.picks, formats=["weights"], out=tmp_path / "exports")
    claim = export.config.metric
    assert claim is not None
    assert (claim.name, claim.direction, claim.low) == ("misses", "min", None)
    [check] = ns.verify_exports([export], evaluate=misses, seconds=0.1)
    assert check.metric is not None
    assert check.metric.provenance.split == "test"
    assert check.broken == []  # its error is not known, so it is reported and not judged


def test_a_broken_promise_of_a_metric_is_told(
    trained: ns.TrainedSupernet, table: ns.LatencyTable, boxes: ModuleType, tmp_path: Path
) -> None:
    result = _search(trained, table, tmp_path / "search", evaluate=boxes.mean_iou)
    [export] = ns.export_subnets(result.picks, formats=["weights"], out=tmp_path / "exports")

    def mean_iou(network: object, batches: object) -> tuple[float, float]:
        return -1.0, 0.01

    mean_iou.direction = "max"  # type: ignore[attr-defined]
    [check] = ns.verify_exports([export], evaluate=mean_iou, seconds=0.1)
    (line,) = check.broken
    assert line.startswith("test mean_iou of weights -1 is worse than the recorded")
    mean_iou.direction = "min"  # type: ignore[attr-defined]
    with pytest.raises(NassearchError, match=r"is mean_iou \(min\), mean_iou \(max\) was recorded"):
        ns.verify_exports([export], evaluate=mean_iou, seconds=0.1)


def test_what_is_known_of_an_error_is_the_noise_of_a_search() -> None:
    metric = Metric(lambda network, batches: (0.5, 0.1), "max", name="half")
    found = metric(lambda images: images, [], split="val", num_images=9)
    assert found.variance == pytest.approx(0.01)
    claim = MetricClaim.of(found, name="half", direction="max", unit="")
    source = Provenance("evaluated", split="test", num_images=9)
    assert claim.is_missed_by(Estimate(0.1, source, 0.0, 0.2))
    assert not claim.is_missed_by(Estimate(0.3, source, 0.2, 0.4))
    assert not claim.is_missed_by(Estimate(0.1, source))
    least = replace(Metric(lambda *_: (0.5, 0.1), "min", name="less"))
    assert least.direction == "min"
    less = MetricClaim.of(found, name="less", direction="min", unit="")
    assert less.is_missed_by(Estimate(0.9, source, 0.8, 1.0))


class Shaky:
    """A data set that draws anew whenever an item is read."""

    def __init__(self, items: Any) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Any:
        image, target = self.items[index]
        return image + torch.randn(()), target


def test_an_interrupted_training_goes_on_to_the_same_weights(
    finder: Path, boxes: ModuleType, tmp_path: Path
) -> None:
    """What the data set draws at random, too, is drawn from the seed, the epoch and the step."""
    splits = tuple(Shaky(boxes.Canvas(first, first + 24)) for first in (0, 100, 200))
    data = ns.load_data(splits, collate=boxes.collate)  # type: ignore[arg-type]
    _train(finder, boxes, tmp_path / "whole", data=data, epochs=2)
    calls = []

    def interrupted(outputs: Any, targets: Any) -> Tensor:
        calls.append(None)
        if len(calls) > 24:
            raise KeyboardInterrupt
        return boxes.loss(outputs, targets)

    with pytest.raises(KeyboardInterrupt):
        _train(finder, boxes, tmp_path / "parted", data=data, epochs=2, loss=interrupted)
    torch.rand(5)  # other code draws in between
    _train(finder, boxes, tmp_path / "parted", data=data, epochs=2, resume=True)
    whole, parted = (checkpoint.load(tmp_path / name).model for name in ("whole", "parted"))
    assert whole.keys() == parted.keys()
    assert all(torch.equal(whole[name], parted[name]) for name in whole)


def test_every_network_of_a_step_learns_from_the_targets(
    finder: Path, boxes: ModuleType, tmp_path: Path
) -> None:
    """Nothing is distilled: the loss is asked for each of the sandwich's four networks."""
    calls = []

    def counted(outputs: Any, targets: Any) -> Tensor:
        calls.append(torch.is_grad_enabled() and outputs["score"].shape[0] == 8)
        return boxes.loss(outputs, targets)

    run = _train(finder, boxes, tmp_path / "run", loss=counted).directory
    assert sum(calls) == 3 * 4
    said = yaml.safe_load((run / "recipe.yaml").read_text())["training"]
    assert said["distillation"] == "none"


def test_a_batch_whose_targets_have_parts_is_shared_among_networks() -> None:
    """Tensors and lists have one for each image; nothing is guessed of other forms."""
    half = slice(1, None, 2)
    assert share_of(["a", "b", "c", "d"], half, 4) == ["b", "d"]
    assert share_of(torch.arange(4), half, 4).tolist() == [1, 3]
    assert share_of({"box": 1}, slice(0, None, 1), 4) == {"box": 1}
    with pytest.raises(NassearchError, match="targets of this form have no parts"):
        share_of({"box": torch.arange(4)}, half, 4)


def test_masks_and_lists_are_targets_as_well(boxes: ModuleType) -> None:
    def nested(items: list[Any]) -> tuple[Tensor, Any]:
        images = torch.stack([image for image, _ in items])
        return images, [{"masks": image > 0, "names": ("a",)} for image, _ in items]

    data = _data(boxes, nested)
    assert data.has_targets
    assert data.val.shape == (1, 32, 32)
    _, targets = data.target_splits[1].batch(torch.arange(3), seed=0)
    assert [target["masks"].shape for target in targets] == [(1, 32, 32)] * 3
    assert repr(data).endswith("images of 1x32x32, targets of its own)")


def test_splits_that_are_not_given_are_drawn(boxes: ModuleType) -> None:
    alone = ns.load_data(boxes.Canvas(0, 100), collate=boxes.collate, seed=3)
    assert (len(alone.train) + len(alone.val), len(alone.test())) == (80, 20)
    again = ns.load_data(boxes.Canvas(0, 100), collate=boxes.collate, seed=3)
    other = ns.load_data(boxes.Canvas(0, 100), collate=boxes.collate, seed=4)
    assert alone.held_out == again.held_out != other.held_out
    pair = (boxes.Canvas(0, 50), boxes.Canvas(50, 60))
    two = ns.load_data(pair, collate=boxes.collate)
    assert (len(two.train) + len(two.val), len(two.test())) == (50, 10)


# -- bad input -------------------------------------------------------------------------------------


def _vector(outputs: Any, targets: Any) -> Tensor:
    return outputs["score"].flatten(1).mean(1)


def _number(outputs: Any, targets: Any) -> float:
    return 1.0


def _raises(outputs: Any, targets: Any) -> Tensor:
    return outputs["scores"]


def _detached(outputs: Any, targets: Any) -> Tensor:
    return outputs["score"].detach().mean()


LOSSES = {
    "a vector": (_vector, "returned a tensor of (4,), not a scalar"),
    "a number": (_number, "returned a float, not a scalar"),
    "an exception": (_raises, "raised KeyError ('scores')"),
    "no gradient": (_detached, "has no gradient to the network"),
    "nothing": (None, "nobody says what is minimised"),
}


@pytest.mark.parametrize("case", LOSSES)
def test_a_loss_that_is_none_is_refused_before_anything_is_written(
    case: str, finder: Path, boxes: ModuleType, tmp_path: Path
) -> None:
    loss, what = LOSSES[case]
    with pytest.raises(NassearchError) as caught:
        _train(finder, boxes, tmp_path / "run", loss=loss)
    assert what in str(caught.value), str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run" / "recipe.yaml").exists()


OPTIONS = {
    "distillation": ({"distillation": "kl"}, "training.distillation: needs logits"),
    "a teacher": ({"teacher": "torchvision:resnet18"}, "teacher"),
    "augmentation": ({"mixup": 0.2}, "training.mixup: knows nothing of the targets"),
    "a part of a batch": (
        {"sandwich_rule": "apart"}, "targets of this form have no parts",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", OPTIONS)
def test_options_that_need_classes_are_refused(
    case: str, finder: Path, boxes: ModuleType, tmp_path: Path
) -> None:
    options, what = OPTIONS[case]
    with pytest.raises(NassearchError) as caught:
        _train(finder, boxes, tmp_path / "run", options=options)
    assert what in str(caught.value), str(caught.value)
    assert "\n" not in str(caught.value)


def _ragged(items: list[Any]) -> tuple[Tensor, Any]:
    images = torch.stack([image for image, _ in items])
    return images, torch.stack([torch.zeros(1 + number) for number in range(len(items))])


def _of(change: Callable[[Tensor], Any]) -> Callable[[list[Any]], Any]:
    return lambda items: (change(torch.stack([image for image, _ in items])), None)


COLLATES = {
    "targets that do not stack": (_ragged, "items 0, 1, ... make no batch (RuntimeError"),
    "no pair": (lambda items: items[0][0], "returned a Tensor, not images and targets"),
    "grey levels": (_of(lambda images: (255 * images).byte()), "gives uint8 (2, 1, 32, 32)"),
    "one image": (
        _of(lambda images: images[:1]),
        "gives float32 (1, 1, 32, 32) as the images",
    ),
    "a list": (_of(list), "gives a list as the images of 2 items"),
    "no squares": (_of(lambda images: images[..., :16]), "gives images of 16 x 32 pixels"),
}


@pytest.mark.parametrize("case", COLLATES)
def test_targets_that_do_not_collate_are_one_line(case: str, boxes: ModuleType) -> None:
    collate, what = COLLATES[case]
    with pytest.raises(NassearchError) as caught:
        _data(boxes, collate)
    assert what in str(caught.value), str(caught.value)
    assert "\n" not in str(caught.value)


def _plain(network: object, batches: object) -> float:
    return 0.5


def _with(name: str = "own", direction: str = "max", gives: object = 0.5) -> Any:
    def function(network: object, batches: object) -> object:
        return gives

    function.name, function.direction = name, direction  # type: ignore[attr-defined]
    return function


METRICS = {
    "no direction": (_plain, "does not say whether more or less is better"),
    "another direction": (_with(direction="up"), "its direction is 'up'"),
    "a name of ours": (_with(name="latency"), "is called latency, as an objective"),
    "no name": (_with(name="Mean IoU"), "has no name for files and tables"),
    "no number": (_with(gives="good"), "metric own: returned a str, not a number"),
    "nothing": (None, "nobody says what is measured"),
}


@pytest.mark.parametrize("case", METRICS)
def test_a_metric_that_is_none_is_one_line(
    case: str, trained: ns.TrainedSupernet, table: ns.LatencyTable, tmp_path: Path
) -> None:
    evaluate, what = METRICS[case]
    with pytest.raises(NassearchError) as caught:
        _search(trained, table, tmp_path, evaluate=evaluate)
    assert what in str(caught.value), str(caught.value)
    assert "\n" not in str(caught.value)


def test_workers_and_accuracies_know_no_metric(
    trained: ns.TrainedSupernet, table: ns.LatencyTable, boxes: ModuleType, tmp_path: Path
) -> None:
    with pytest.raises(NassearchError, match="evaluate: is measured in this process"):
        _search(trained, table, tmp_path, evaluate=boxes.mean_iou, workers=2)
    with pytest.raises(NassearchError, match="no classes, so networks have no accuracy"):
        _search(trained, table, tmp_path, objectives=["accuracy", "latency"])
    with pytest.raises(NassearchError, match="no classes, so networks have no accuracy"):
        trained.accuracy(trained.space.largest)


def test_formats_that_need_classes_are_refused_before_anything_is_written(
    trained: ns.TrainedSupernet, table: ns.LatencyTable, boxes: ModuleType, tmp_path: Path
) -> None:
    picks = _search(trained, table, tmp_path / "search", evaluate=boxes.mean_iou).picks
    out = tmp_path / "exports"
    with pytest.raises(NassearchError, match="format int8: is fitted to an accuracy"):
        ns.export_subnets(picks, formats=["weights", "int8"], out=out)
    with pytest.raises(NassearchError, match="format onnx: takes photos of classes"):
        ns.export_subnets(picks, formats=["onnx"], preprocess_in_graph=True, out=out)
    assert not out.exists()
    [export] = ns.export_subnets(picks, formats=["weights"], out=out)
    with pytest.raises(NassearchError, match="fine-tuning knows no other loss"):
        ns.finetune_export(export, epochs=1)
    with pytest.raises(NassearchError, match="gives classes of images"):
        ns.verify_exports(export.directory, data="digits", evaluate=boxes.mean_iou, seconds=0.1)
    [check] = ns.verify_exports(export.directory, seconds=0.1)
    assert check.unmeasured is not None
    assert check.unmeasured.startswith("images and metric not given")


def test_images_of_another_form_are_refused(
    finder: Path, boxes: ModuleType, tmp_path: Path
) -> None:
    smaller = _data(boxes, _of(lambda images: images[..., :16, :16]))
    with pytest.raises(NassearchError, match="gives images of 1 channels and 16 pixels"):
        _train(finder, boxes, tmp_path / "run", data=smaller)
    with pytest.raises(NassearchError, match="gives score, box, and the images have classes"):
        _train(finder, boxes, tmp_path / "run", data="digits")
    with pytest.raises(NassearchError, match="images are not preprocessed"):
        ns.load_data(boxes.Canvas(0, 9), collate=boxes.collate, preprocessing="imagenet")
    with pytest.raises(NassearchError, match="a collate needs data sets of yours"):
        ns.load_data("digits", collate=boxes.collate)


def test_a_loss_given_in_python_must_be_given_again(
    trained: ns.TrainedSupernet, finder: Path, boxes: ModuleType
) -> None:
    said = yaml.safe_load((trained.directory / "recipe.yaml").read_text())["training"]
    assert said["loss"] == "given in Python"
    recipe = str(trained.directory / "recipe.yaml")
    with pytest.raises(NassearchError, match="was given in Python and must be given there again"):
        ns.train_recipe(recipe, data=_data(boxes), out=trained.directory, resume=True)


def test_opening_a_run_runs_no_code(
    finder: Path, boxes: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = _train(finder, boxes, tmp_path / "run").directory
    recipe = yaml.safe_load((run / "recipe.yaml").read_text())
    (tmp_path / "stranger.py").write_text("from pathlib import Path\nPath('ran').touch()\n")
    monkeypatch.chdir(tmp_path)
    (run / "recipe.yaml").write_text(yaml.safe_dump({**recipe, "data": "stranger:make"}))
    with pytest.raises(NassearchError, match="made by code, stranger:make") as caught:
        ns.load_supernet(run)
    assert caught.value.fix == "name it: --data stranger:make"
    assert not (tmp_path / "ran").exists()


def test_data_may_be_named_and_must_be_data(place: Path, boxes: ModuleType) -> None:
    data = ns.load_data("boxes:make_data")
    assert (data.name, data.has_targets, len(data.train)) == ("boxes:make_data", True, 1200)
    with pytest.raises(NassearchError, match="boxes:Finder: makes a Finder, not Data"):
        ns.load_data("boxes:Finder")
    with pytest.raises(NassearchError, match="boxes:collate: cannot be called without arguments"):
        ns.load_data("boxes:collate")
    with pytest.raises(NassearchError, match="unknown data 'boxs:make_data'"):
        ns.load_data("boxs:make_data")


def test_a_metric_says_its_name_and_unit() -> None:
    function = _with(name="error")
    function.unit = "px"
    metric = as_metric(function)
    assert (metric.name, metric.unit, metric.direction) == ("error", "px", "max")
    assert as_metric(metric) is metric
