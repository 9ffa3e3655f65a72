"""Networks with several outputs: adopted, cut, and written with the outputs' names."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from nassearch.adoption.adoption import adopt, module_cost
from nassearch.adoption.elastic_space import Elasticity
from nassearch.adoption.trace import named_outputs
from nassearch.errors import AdoptionError, NassearchError, SpaceError
from nassearch.networks.activation_memory import PeakActivations, peak_activation_bytes
from nassearch.networks.cost import block_cost, macs, network_cost
from nassearch.networks.onnx_graph import to_onnx
from nassearch.ops import check_space
from nassearch.pipeline.adopt import write_space
from nassearch.space import Architecture, BlockSpec, SearchSpace, lower
from nassearch.space.additive import AdditiveCost
from tests.adoption.branching import BRANCHING, PIXELS, Backbone, Pyramid, adopted_branching
from tests.adoption.network import FEW

EVERY = pytest.mark.parametrize("name", BRANCHING)


def _images(count: int = 2) -> Tensor:
    return torch.randn(count, 3, PIXELS, PIXELS, generator=torch.Generator().manual_seed(1))


def _some(space: SearchSpace, count: int = 6) -> list[Architecture]:
    return [space.smallest, space.largest, *space.sample_many(np.random.default_rng(3), count)]


@EVERY
def test_the_largest_network_gives_what_the_module_gives(name: str) -> None:
    module, adoption = adopted_branching(name)
    images = _images()
    with torch.no_grad():
        expected = named_outputs(module(images), name=name)
        actual = adoption.supernet.extract(adoption.space.largest)(images)
    assert list(actual) == list(expected)
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-5)
    assert (adoption.params, adoption.macs) == module_cost(module, images[:1], name=name)


@EVERY
def test_a_subnet_gives_what_the_supernet_gives(name: str) -> None:
    _, adoption = adopted_branching(name)
    for architecture in _some(adoption.space):
        subnet = adoption.supernet.extract(architecture)
        with torch.no_grad():
            expected = adoption.supernet(_images(), architecture)
            torch.testing.assert_close(subnet(_images()), expected, atol=1e-5, rtol=1e-5)
        assert subnet.output_names == tuple(expected)
        counted = network_cost(subnet.specs)
        assert (counted.params, counted.macs) == module_cost(subnet, _images(1), name=name)
    smallest, largest = (macs(lower(adoption.space, one)) for one in _some(adoption.space, 0))
    assert smallest <= 0.5 * largest


@EVERY
def test_graphs_name_their_outputs(name: str) -> None:
    """ONNX by the names of its outputs, PyTorch's program by the keys of a dictionary."""
    _, adoption = adopted_branching(name)
    subnet = adoption.supernet.extract(adoption.space.sample(np.random.default_rng(5))).eval()
    with torch.no_grad():
        expected = subnet(_images(1))
    session = onnxruntime.InferenceSession(to_onnx(subnet, subnet.input_shape))
    names = [output.name for output in session.get_outputs()]
    assert names == list(expected)
    values = session.run(None, {"images": _images(1).numpy()})
    found = {key: torch.from_numpy(value) for key, value in zip(names, values, strict=True)}
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    program = torch.export.export(subnet, (_images(1),)).module()
    torch.testing.assert_close(program(_images(1)), expected, atol=1e-5, rtol=1e-5)


def test_outputs_are_what_stages_give_or_values_of_the_head() -> None:
    backbone = adopted_branching("Backbone")[1].space.definition
    assert backbone.outputs == {"half": 0, "quarter": 1, "eighth": 2}
    assert not backbone.has_head
    named = adopted_branching("Sequence")[1].space.definition.outputs
    assert named == {"out0": 0, "out1": 1, "out2": 2}
    pyramid = adopted_branching("Pyramid")[1].space.definition
    assert pyramid.outputs == {"fine": "boxes_0", "coarse": "boxes_1"}
    assert pyramid.head.taps == {"tap0": 1}
    assert adopted_branching("Masks")[1].space.definition.head.taps == {"tap0": 0, "tap1": 1}


def test_a_decoder_in_a_row_is_a_body_with_a_head() -> None:
    space = adopted_branching("Restored")[1].space.definition
    assert space.outputs == {"output": "body_10"}
    assert [stage.width for stage in space.stages] == [(8, 16), (16, 32), (12, 24), (4, 8)]


def test_feature_maps_are_elastic_and_predictions_are_not() -> None:
    space = adopted_branching("Backbone")[1].space
    assert [stage.width for stage in space.definition.stages] == [(8, 16), (12, 24), (16, 32)]
    layers = {layer.path: layer for layer in adopted_branching("Pyramid")[1].layers}
    boxes = layers["boxes.0"]
    assert (boxes.channels, boxes.reason) == ((5,), "fixed at an output")
    assert layers["narrow.0"].channels == layers["narrow.1"].channels == (4, 8)


def test_outputs_may_keep_their_channels() -> None:
    """So that the user's own head fits every network."""
    elasticity = FEW.model_copy(update={"keep_outputs": True, "outputs": ("c1", "c2", "c3")})
    adoption = adopt(Backbone(), _images(1), elasticity=elasticity)
    head = nn.ModuleList(nn.Conv2d(width, 2, 1) for width in (16, 24, 32))
    assert adoption.space.size() > 10
    for architecture in _some(adoption.space):
        outputs = adoption.supernet(_images(), architecture)
        assert list(outputs) == ["c1", "c2", "c3"]
        assert all(
            layer(one).shape[1] == 2 for layer, one in zip(head, outputs.values(), strict=True)
        )


def test_an_output_s_channels_keep_their_order() -> None:
    """They are somebody's; those within blocks are sorted by importance."""
    module, adoption = adopted_branching("Backbone")
    block = adoption.supernet.stages[0][0]["traced"]
    assert torch.equal(block.get_parameter("stem_0.weight"), module.stem[0].weight)


def test_channels_that_run_through_an_output_stay() -> None:
    """The stem's output is given, and added to by the blocks after it: both have its channels."""

    class Early(Backbone):
        def forward(self, images: Tensor) -> list[Tensor]:  # type: ignore[override]
            first = self.stem(images)
            return [first, self.middle(self.residual(first))]

    module = Early()
    del module.last
    adoption = adopt(module, _images(1), elasticity=FEW)
    stages = adoption.space.definition.stages
    assert adoption.space.definition.outputs == {"out0": 0, "out1": 2}
    assert [stage.width for stage in stages] == [(16,), (16,), (12, 24)]
    assert stages[1].depth == (1, 2)


def test_a_space_with_outputs_is_written_and_read(tmp_path: Path) -> None:
    for name in BRANCHING:
        space = adopted_branching(name)[1].space
        write_space(space, tmp_path)
        assert check_space(SearchSpace.load(tmp_path / "space.yaml")) == space


def test_the_cheapest_network_is_found_where_a_head_reads_several_widths() -> None:
    space = adopted_branching("Masks")[1].space
    cost = AdditiveCost(space, lambda spec: float(block_cost(spec).macs % 9973))
    found, least = cost.minimum()
    genes = np.array([space.encode(one) for one in space.enumerate()], dtype=np.uint8)
    assert cost(found) == least == cost.of_genes(genes).min()


def test_what_waits_for_a_head_or_for_the_end_takes_memory() -> None:
    for name in BRANCHING:
        space = adopted_branching(name)[1].space
        some = _some(space)
        genes = np.array([space.encode(one) for one in some], dtype=np.uint8)
        expected = [peak_activation_bytes(lower(space, one)) for one in some]
        assert PeakActivations(space).of_genes(genes).tolist() == expected
    specs = lower(*(_space_and_largest("Masks")))
    half = 16 * 8**2  # waits while the rest of the body runs
    alone = [peak_activation_bytes([spec]) for spec in specs]
    with_it = max(bytes_ + 4 * half for bytes_ in alone[-3:-1])
    assert peak_activation_bytes(specs) >= with_it


def _space_and_largest(name: str) -> tuple[SearchSpace, Architecture]:
    space = adopted_branching(name)[1].space
    return space, space.largest


def test_a_key_says_what_a_head_reads() -> None:
    space = adopted_branching("Masks")[1].space
    head = lower(space, space.smallest)[-1]
    assert head.key.endswith("-r2-+8x8-+12x4")
    read = BlockSpec.from_key(head.key)
    assert (read.taps, read.key) == (((8, 8), (12, 4)), head.key)


class Gives(nn.Module):
    """What `make` makes of two feature maps."""

    def __init__(self, make: object) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, 2, 1)
        self.make = make

    def forward(self, images: Tensor) -> object:
        first = self.first(images)
        return self.make(first, self.second(first))  # type: ignore[operator]


REFUSED = {
    "a number": (lambda a, b: {"a": a, "b": b, "n": 3}, (), "gives a int as n"),
    "nothing": (lambda a, b: [], (), "gives no output"),
    "a sequence of three axes": (
        lambda a, b: [a, b.flatten(2)], (), "gives out1 of shape (2, 8, 16)",
    ),
    "a name that is no word": (
        lambda a, b: {"a.b": a, "c": b}, (), "no name that a graph can have: 'a.b'",
    ),
    "the input's name": (lambda a, b: {"images": a, "c": b}, (), "no name that a graph can have"),
    "equal names": (lambda a, b: {"a": {"b": a}, "a_b": b}, (), "two outputs are called 'a_b'"),
    "names given twice": (lambda a, b: [a, b], ("c2", "c2"), "two outputs are called 'c2'"),
    "too few names": (lambda a, b: [a, b], ("c2",), "1 names for the 2 outputs"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_outputs_that_cannot_be_named_are_refused(case: str) -> None:
    make, names, what = REFUSED[case]
    elasticity = Elasticity(outputs=names or None)
    with pytest.raises(AdoptionError) as caught:
        adopt(Gives(make), torch.randn(1, 3, 8, 8), name="Net", elasticity=elasticity)
    assert what in caught.value.what, str(caught.value)
    assert caught.value.fix
    assert "\n" not in str(caught.value)


EDITS = {
    "a stage that is not there": (
        {"outputs": {"half": 7, "a": "boxes_0", "b": "boxes_1"}}, "there is no stage 7",
    ),
    "none of the head's": ({"outputs": {"half": 0}}, "takes none from the head"),
    "a value that is not given": ({"outputs": {"a": "boxes_9"}}, "which gives boxes_0, boxes_1"),
    "no name": ({"outputs": {"a b": "boxes_0", "c": "boxes_1"}}, "outputs"),
    "the input's name": ({"outputs": {"images": "boxes_0", "c": "boxes_1"}}, "as the input is"),
}  # fmt: skip


@pytest.mark.parametrize("case", EDITS)
def test_an_edited_space_that_cannot_be_is_one_line(case: str) -> None:
    change, what = EDITS[case]
    content = {**adopted_branching("Pyramid")[1].space.to_dict(), **change}
    with pytest.raises(NassearchError) as caught:
        check_space(SearchSpace.from_dict(content, where="mine.yaml"))
    assert what in str(caught.value), str(caught.value)
    assert "\n" not in str(caught.value)


def test_heads_without_number_are_refused() -> None:
    """A table of them would fill the memory of whoever opens the space."""
    content = adopted_branching("Masks")[1].space.to_dict()
    for stage in content["stages"]:  # type: ignore[attr-defined]
        stage["width"] = list(range(1, 250))
    with pytest.raises(SpaceError, match="15438249 combinations of widths are more than 10000"):
        SearchSpace.from_dict(content, where="mine.yaml")


def test_a_stage_s_width_that_the_head_cannot_read_is_one_line() -> None:
    content = adopted_branching("Masks")[1].space.to_dict()
    content["head"]["taps"] = {"tap0": 0, "other": 1}  # type: ignore[index]
    with pytest.raises(SpaceError, match="other inputs than the head's graph has"):
        SearchSpace.from_dict(content, where="mine.yaml")


def test_a_head_alone_with_a_fixed_backbone() -> None:
    """Everything below a path stays, and the network is adopted all the same."""
    adoption = adopt(Pyramid(), _images(1), elasticity=Elasticity(fixed=("backbone",)))
    assert all(layer.reason for layer in adoption.layers if layer.path.startswith("backbone."))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18", "mobilenetv4_conv_small", "efficientnet_b0"])
def test_timm_s_features_are_adopted(name: str) -> None:
    timm = pytest.importorskip("timm")
    module = timm.create_model(name, features_only=True).eval()
    adoption = adopt(module, torch.randn(1, 3, 64, 64), name=name)
    assert adoption.change < 1e-5
    assert adoption.space.size() > 10**6
    assert list(adoption.space.definition.outputs or {}) == [f"out{n}" for n in range(5)]
    for architecture in _some(adoption.space, 2):
        images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            expected = adoption.supernet(images, architecture)
            found = adoption.supernet.extract(architecture)(images)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
