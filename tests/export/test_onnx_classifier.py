"""Somebody's ONNX file: what is read of it, what it costs, and what is refused in one line."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from nassearch.errors import ConfigError, NassearchError
from nassearch.export import onnx_classifier
from nassearch.export.onnx_classifier import OnnxClassifier, read_classifier
from nassearch.networks import Subnet
from nassearch.networks.cost import count, network_cost
from nassearch.networks.onnx_graph import to_onnx
from nassearch.runtimes.quantization import quantize
from nassearch.setting import Setting
from nassearch.space import SearchSpace, lower

SHAPE = (3, 16, 16)
HOST = Setting("host", "onnxruntime")


class Plain(nn.Module):
    """A classifier with a convolution of each kind, a product of activations, and a linear."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.depthwise = nn.Conv2d(8, 8, 5, padding=2, groups=8)
        self.grouped = nn.Conv2d(8, 8, 3, padding=1, groups=2)
        self.pointwise = nn.Conv2d(8, 12, 1)
        self.classifier = nn.Linear(12, 7)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = self.grouped(self.depthwise(self.stem(images).relu()))
        features = self.pointwise(features).flatten(2).transpose(1, 2)
        mixed = (features @ features.transpose(1, 2)).softmax(-1) @ features
        return self.classifier(mixed.mean(1))


@pytest.fixture(scope="module")
def plain() -> nn.Module:
    torch.manual_seed(0)
    return Plain().eval()


@pytest.fixture
def write(tmp_path: Path, plain: nn.Module) -> Callable[..., Path]:
    """Writes the plain classifier, after `edit` changed its graph."""

    def write_with(
        edit: Callable[[onnx.ModelProto], object] = lambda model: None, batch: int | None = 1
    ) -> Path:
        model = onnx.load_from_string(to_onnx(plain, SHAPE, batch=batch))
        edit(model)
        path = tmp_path / "model.onnx"
        path.write_bytes(model.SerializeToString())
        return path

    return write_with


def rename(model: onnx.ModelProto, names: dict[str, str]) -> None:
    for value in (*model.graph.input, *model.graph.output):
        value.name = names.get(value.name, value.name)
    for node in model.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]


@pytest.mark.parametrize("batch", [1, 4, None])
def test_a_graph_costs_what_its_module_does(
    write: Callable[..., Path], plain: nn.Module, batch: int | None
) -> None:
    model = read_classifier(write(batch=batch))
    counted = count(plain, torch.zeros(1, *SHAPE), name="plain")
    assert (model.batch, model.input_shape, model.num_classes) == (batch, SHAPE, 7)
    assert model.cost.macs == counted.macs
    assert model.cost.params == counted.params
    assert model.cost.macs_by_kind.keys() >= {"dense", "depthwise", "grouped", "pointwise"}


def test_a_network_of_a_space_has_the_same_layers_as_a_graph(
    tmp_path: Path, space: SearchSpace
) -> None:
    subnet = Subnet(lower(space, space.largest)).eval()
    path = tmp_path / "ours.onnx"
    path.write_bytes(to_onnx(subnet, subnet.input_shape))
    assert read_classifier(path).cost.layers == network_cost(subnet.specs).layers


def test_shapes_that_onnx_does_not_infer_are_seen_by_running(
    write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    known = read_classifier(write()).cost
    monkeypatch.setattr(
        "nassearch.networks.onnx_layers.onnx.shape_inference.infer_shapes",
        lambda model, **_: model,
    )
    unknown = OnnxClassifier(Path("x"), write().read_bytes(), SHAPE, 1, 7, is_quantized=False)
    assert unknown.cost == known


@pytest.mark.parametrize("batch", [1, 4, None])
def test_it_computes_what_it_did_whatever_its_tensors_were_called(
    write: Callable[..., Path], plain: nn.Module, batch: int | None
) -> None:
    path = write(lambda model: rename(model, {"images": "x", "logits": "images"}), batch=batch)
    images = torch.randn(6, *SHAPE, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(read_classifier(path).open()(images), plain(images))


def test_a_quantized_graph_is_known_and_costs_the_same(tmp_path: Path, plain: nn.Module) -> None:
    graph = to_onnx(plain, SHAPE)
    path = tmp_path / "model.onnx"
    path.write_bytes(quantize(graph, [np.zeros((1, *SHAPE), np.float32)]))
    model = read_classifier(path)
    assert model.is_quantized
    padded = 8 * 8 * 8 * 9  # a fourth image channel: engines run int8 stems of four faster
    assert model.cost.macs == count(plain, torch.zeros(1, *SHAPE), name="plain").macs + padded
    assert model.setting(HOST, batch=None, precision=None).precision == "int8"
    with pytest.raises(ConfigError, match="computes in int8, not in fp32"):
        model.setting(HOST, batch=None, precision="fp32")


def test_a_file_runs_in_its_own_batch_and_precision(write: Callable[..., Path]) -> None:
    model = read_classifier(write(batch=4))
    assert model.setting(HOST, batch=None, precision=None).batch == 4
    with pytest.raises(ConfigError, match="takes 4 images at once, not 8"):
        model.setting(HOST, batch=8, precision=None)
    with pytest.raises(ConfigError, match="computes in fp32, not in int8"):
        model.setting(HOST, batch=None, precision="int8")
    is_open = read_classifier(write(batch=None))
    assert is_open.setting(HOST, batch=8, precision=None).batch == 1  # resolved by the caller
    assert onnx.load_from_string(is_open.of_batch(8)).graph.input[0].type.tensor_type.shape.dim[
        0
    ].dim_value == 8  # fmt: skip


def second_input(model: onnx.ModelProto) -> None:
    model.graph.input.append(helper.make_tensor_value_info("mask", TensorProto.FLOAT, [1]))


def second_output(model: onnx.ModelProto) -> None:
    model.graph.output.append(helper.make_tensor_value_info("images", TensorProto.FLOAT, None))


def half(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT16


def sizes(*dims: object) -> Callable[[onnx.ModelProto], None]:
    def edit(model: onnx.ModelProto) -> None:
        value = helper.make_tensor_value_info("images", TensorProto.FLOAT, list(dims))
        model.graph.input[0].CopyFrom(value)

    return edit


def features(model: onnx.ModelProto) -> None:
    name = next(node.output[0] for node in model.graph.node if node.op_type == "Conv")
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))


def elsewhere(model: onnx.ModelProto) -> None:
    tensor = next(item for item in model.graph.initializer if len(item.raw_data) > 16)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "../secret.txt"


@pytest.mark.parametrize(
    ("edit", "line"),
    [
        (second_input, "takes 2 inputs"),
        (second_output, "has 2 outputs"),
        (half, "takes float16 images"),
        (sizes(1, 3, "height", "width"), "takes (1, 3, height, width)"),
        (sizes(1, 3, 16), "takes (1, 3, 16)"),
        (sizes(1, 16, 16, 3), "takes (1, 16, 16, 3)"),
        (sizes(1, 3, 10**6, 10**6), "images of at most 4096 pixels"),
        (features, "gives (1, 8, 8, 8)"),
        (elsewhere, "its tensors lie in other files"),
    ],
)
def test_what_is_no_classifier_is_one_line(
    write: Callable[..., Path], edit: Callable[[onnx.ModelProto], None], line: str
) -> None:
    with pytest.raises(NassearchError) as caught:
        read_classifier(write(edit))
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "model.onnx" in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"no graph at all", b"\x08\x07" * 50])
def test_what_is_no_graph_is_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(NassearchError) as caught:
        read_classifier(path)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_or_too_large_is_refused(
    write: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(NassearchError, match="there is no such file"):
        read_classifier(tmp_path / "other.onnx")
    monkeypatch.setattr(onnx_classifier, "MOST_BYTES", 100)
    with pytest.raises(NassearchError, match="larger than an ONNX file can be"):
        read_classifier(write())


@pytest.mark.parametrize("kind", ["ConvTranspose", "Einsum", "Loop"])
def test_what_is_not_counted_is_named(write: Callable[..., Path], kind: str) -> None:
    def edit(model: onnx.ModelProto) -> None:
        next(node for node in model.graph.node if node.op_type == "Relu").op_type = kind

    model = OnnxClassifier(Path("x"), write(edit).read_bytes(), SHAPE, 1, 7, is_quantized=False)
    with pytest.raises(ConfigError, match=f"holds the operator {kind}, which cannot be counted"):
        _ = model.cost


def test_an_operator_that_nobody_knows_runs_nothing(write: Callable[..., Path]) -> None:
    def edit(model: onnx.ModelProto) -> None:
        node = next(node for node in model.graph.node if node.op_type == "Relu")
        node.op_type, node.domain = "Evil", "my.domain"
        model.opset_import.append(helper.make_opsetid("my.domain", 1))

    model = read_classifier(write(edit))
    with pytest.raises(ConfigError, match=r"holds the operator my\.domain\.Evil"):
        _ = model.cost
    with pytest.raises(NassearchError) as caught:
        model.open()
    assert "\n" not in str(caught.value)


def test_what_fails_while_it_runs_is_one_line(write: Callable[..., Path]) -> None:
    def edit(model: onnx.ModelProto) -> None:  # a reshape that no tensor of this size takes
        wrong = numpy_helper.from_array(np.array([1, 5, 11], dtype=np.int64), "wrong")
        model.graph.initializer.append(wrong)
        node = next(node for node in model.graph.node if node.op_type == "Reshape")
        node.input[1] = "wrong"

    path = write(edit)
    with pytest.raises(NassearchError) as caught:
        model = read_classifier(path)
        model.open()(torch.zeros(1, *SHAPE))
    assert "\n" not in str(caught.value)


def test_a_damaged_file_works_or_is_refused_in_one_line(write: Callable[..., Path]) -> None:
    """Bytes changed, cut out and put in, a few at a time, by chance that is always the same."""
    path = write()
    good, rng = path.read_bytes(), np.random.default_rng(0)
    for _ in range(150):
        damaged = bytearray(good)
        for _ in range(rng.integers(1, 4)):
            at, kind = int(rng.integers(len(damaged))), rng.integers(3)
            if kind == 0:
                damaged[at] = int(rng.integers(256))
            elif kind == 1:
                del damaged[at : at + int(rng.integers(1, 30))]
            else:
                damaged[at:at] = rng.bytes(int(rng.integers(1, 9)))
        path.write_bytes(bytes(damaged))
        try:
            model = read_classifier(path)
            model.open()(torch.zeros(1, *model.input_shape))
            _ = model.cost
        except NassearchError as error:
            assert "\n" not in str(error)
