"""Graphs that take photos: what they do before the network is what Python does."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from PIL import Image

from nassearch.data.dataset import Data
from nassearch.data.image_set import in_memory
from nassearch.data.loading import load_data
from nassearch.data.preprocessing import IMAGENET
from nassearch.errors import ConfigError
from nassearch.export.card import model_card
from nassearch.export.export_config import AccuracyClaim, read_export
from nassearch.export.format import PhotoOptions, make_formats
from nassearch.export.int8 import Int8, Int8Options
from nassearch.export.onnx_file import OnnxFile, open_graph, open_parts
from nassearch.export.photo_graph import network_part
from nassearch.export.verify import verify
from nassearch.networks import Subnet
from nassearch.progress import silent
from nassearch.space import SearchSpace, lower
from nassearch.training.evaluation import Accuracy, measure_accuracy
from tests.export.conftest import WriteExport, change, claim, vouch_for

pytestmark = pytest.mark.filterwarnings("ignore:.*squashed or stretched")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Photos of waves, of sizes from a dozen to two hundred pixels, two of them one pixel wide."""
    folder, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for split, count in (("train", 20), ("test", 24)):
        for number in range(count):
            place = folder / split / "ab"[number % 2]
            place.mkdir(parents=True, exist_ok=True)
            width, height = rng.integers(12, 200, 2).tolist() if number > 1 else (1 + number, 40)
            waves = rng.uniform(0.05, 1.0, (3, 2)) @ np.stack(np.mgrid[:height, :width]).reshape(
                2, -1
            )
            values = (127.5 * (1 + np.sin(waves))).reshape(3, height, width).transpose(1, 2, 0)
            Image.fromarray(values.astype(np.uint8)).save(place / f"{number:03d}.png")
    yield folder


def subnet_of(data: Data) -> Subnet:
    space = SearchSpace.load("digits_tiny").for_data(
        in_channels=data.in_channels, num_classes=data.num_classes
    )
    torch.manual_seed(0)
    return Subnet(lower(space, space.smallest)).eval()


@pytest.mark.parametrize("batch", ["dynamic", 1, 3])
@pytest.mark.parametrize("kept_at", ["cropped", "@24", "@8"])
def test_pixels_are_python_s_to_one_grey_level(
    photos: Path, tmp_path: Path, kept_at: str, batch: int | str
) -> None:
    """Photos of any size, cropped, or squashed to what the run kept and then to the network's 8."""
    cropped = kept_at == "cropped"
    spec = f"imagefolder:{photos}" + ("" if cropped else kept_at)
    data = load_data(spec, preprocessing=IMAGENET if cropped else {}, pixels=8 if cropped else None)
    subnet, path = subnet_of(data), tmp_path / "model.onnx"
    options = PhotoOptions.model_validate({"batch": batch, "preprocess_in_graph": True})
    facts = OnnxFile(options).write(subnet, path, data=data, progress=silent)
    assert facts["input"] == "uint8 (n, height, width, 3)"
    inputs = data.inputs(in_memory(data.fitted(data.test(), 8)).images, 8)
    taken = [photo.unsqueeze(0) for photo, _ in data.test().photos()]
    network, prepare = open_parts(path.read_bytes())
    found = torch.cat([prepare(photo) for photo in taken])
    steps = 255 * torch.tensor(data.std).view(1, -1, 1, 1)
    assert float(((found - inputs).abs() * steps).max()) <= 1.01
    with torch.no_grad():
        expected = subnet(inputs)
        whole = subnet(found)
    assert float((network(inputs) - expected).abs().max()) < 1e-4
    run = open_graph(path.read_bytes())
    logits = torch.cat([run(photo) for photo in taken])
    assert float((logits - whole).abs().max()) < 1e-4
    together = run(taken[0].expand(5, -1, -1, -1))
    torch.testing.assert_close(together, logits[:1].expand(5, -1))


def test_int8_takes_photos_too(photos: Path, tmp_path: Path) -> None:
    data = load_data(f"imagefolder:{photos}", preprocessing=IMAGENET, pixels=8)
    subnet, path = subnet_of(data), tmp_path / "model-int8.onnx"
    options = Int8Options(preprocess_in_graph=True, max_accuracy_loss=1.0)
    facts = Int8(options).write(subnet, path, data=data, progress=silent)
    assert facts["kept_in_float"] == []
    operators = {node.op_type for node in onnx.load(path).graph.node}
    assert {"QuantizeLinear", "Resize"} <= operators
    network, prepare = open_parts(path.read_bytes())
    photo, _ = next(data.test().photos())
    run = open_graph(path.read_bytes())
    torch.testing.assert_close(run(photo.unsqueeze(0)), network(prepare(photo.unsqueeze(0))))


def test_a_graph_of_images_is_a_network_itself(write: WriteExport) -> None:
    model = (write() / "model.onnx").read_bytes()
    assert network_part(model) is model


def test_a_promised_latency_is_that_of_the_network_in_it(write: WriteExport) -> None:
    export = write([claim()], ("onnx",), preprocess_in_graph=True)
    found = verify(export, seconds=0.1)
    assert found.broken == []
    (check,) = found.latency
    assert check.measured is not None
    assert found.formats["onnx"].grey_levels == pytest.approx(0, abs=1e-4)  # images are 8x8


def test_preprocessing_that_is_another_is_a_broken_promise(write: WriteExport) -> None:
    export = write(formats=("weights", "onnx"), preprocess_in_graph=True)
    model = onnx.load(export / "model.onnx")
    for tensor in model.graph.initializer:
        if tensor.name.startswith("preprocess/") and tensor.data_type == onnx.TensorProto.FLOAT:
            shifted = numpy_helper.to_array(tensor) + np.float32(3)
            tensor.CopyFrom(numpy_helper.from_array(shifted, tensor.name))
            break
    onnx.save(model, export / "model.onnx")
    vouch_for(export, "model.onnx")
    (said,) = [line for line in verify(export, seconds=0.1).broken if "grey" in line]
    assert said == "the preprocessing in onnx differs by 3 grey levels"


def test_formats_that_hold_no_graph_are_refused() -> None:
    with pytest.raises(ConfigError, match="holds a graph that preprocesses; add onnx"):
        make_formats(("weights", "pt2"), {"preprocess_in_graph": True})
    assert make_formats(("weights", "onnx"), {"preprocess_in_graph": True})


def test_top5_is_the_share_among_the_five_likeliest(digits: Data) -> None:
    """Logits that fall with the distance from class 4: the likeliest five are 2 to 6."""
    values = -(torch.arange(10.0) - 4).abs()

    def network(images: torch.Tensor) -> torch.Tensor:
        return values.expand(len(images), 10)

    test = digits.test()
    accuracy = measure_accuracy(network, test, digits, split="test", resolution=8)
    labels = test.labels
    assert accuracy.value == pytest.approx(float((labels == 4).float().mean()))
    assert accuracy.top5 == pytest.approx(float(((labels >= 2) & (labels <= 6)).float().mean()))
    few = replace(test, labels=labels % 5)  # type: ignore[type-var]
    narrow = measure_accuracy(
        lambda images: values[:5].expand(len(images), 5), few, digits, split="test", resolution=8
    )
    assert narrow.top5 is None


def test_top5_stands_on_the_card_and_in_what_verify_finds(write: WriteExport) -> None:
    export = write(formats=("onnx",))
    assert "top-5" not in (export / "README.md").read_text()  # it was not known
    found = verify(export, seconds=0.1)
    top5 = found.to_dict()["test_accuracy"]["onnx"]["top5"]  # type: ignore[index]
    assert found.accuracy is not None
    assert found.accuracy.value <= top5 <= 1
    known = AccuracyClaim.of(Accuracy.of(50, 100, split="val", num_in_top5=90), supernet="x")
    assert known.to_accuracy().top5 == 0.9
    change(export, accuracy=known.model_dump(mode="json", exclude_none=True))

    assert "'val' of digits, top-5 90.00%; supernet: x" in model_card(
        read_export(export), export, (1, 8, 8)
    )


def test_a_claim_of_an_earlier_version_is_the_same_without_its_top5() -> None:
    known = AccuracyClaim.of(
        Accuracy.of(50, 100, split="val", num_in_top5=90), supernet="x", fingerprint="f"
    )
    earlier = known.model_copy(update={"top5": None})
    assert known.is_same(earlier)
    assert earlier.is_same(known)
    assert not known.is_same(known.model_copy(update={"top5": 0.8}))
