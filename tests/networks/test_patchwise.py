"""A network run patch by patch computes the same, does what was counted and holds what was said."""

from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from torch import Tensor, nn

from nassearch.networks import Subnet, Supernet
from nassearch.networks.activation_memory import PeakActivations, peak_activation_bytes
from nassearch.networks.cost import count, network_cost
from nassearch.networks.onnx_graph import to_onnx
from nassearch.runtimes.bundle_runner import attribute
from nassearch.runtimes.torch import TorchRuntime
from nassearch.setting import Setting
from nassearch.space import Architecture, PatchSchedule, SearchSpace, lower
from nassearch.training.evaluation import recalibrate
from tests.contracts.conftest import unsettle

COUNT = 60


@pytest.fixture(scope="module")
def space() -> SearchSpace:
    return SearchSpace.load("mcu")


@pytest.fixture(scope="module")
def supernet(space: SearchSpace) -> Supernet:
    torch.manual_seed(0)
    supernet = Supernet(space)
    unsettle(supernet)
    return supernet.eval()


@pytest.fixture(scope="module", params=[2, pytest.param(COUNT, marks=pytest.mark.slow)])
def architectures(space: SearchSpace, request: pytest.FixtureRequest) -> list[Architecture]:
    """Networks that run patch by patch, so many of each schedule at most."""
    rng = np.random.default_rng(3)
    known: dict[PatchSchedule | None, list[Architecture]] = {None: []}
    for architecture in (space.largest, *space.sample_many(rng, COUNT)):
        known.setdefault(architecture.patches, []).append(architecture)
    del known[None]
    return [network for networks in known.values() for network in networks[: request.param]]


def images_for(subnet: Subnet, count: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(count, *subnet.input_shape, generator=generator)


def test_it_computes_what_the_whole_network_computes(
    supernet: Supernet, architectures: list[Architecture]
) -> None:
    for architecture in architectures:
        subnet = supernet.extract(architecture)
        images = images_for(subnet, 2)
        with torch.no_grad():
            expected = supernet(images, architecture)
            torch.testing.assert_close(subnet(images), expected, atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(subnet.whole()(images), expected, atol=1e-5, rtol=1e-5)


def test_what_is_counted_is_what_is_done(
    supernet: Supernet, architectures: list[Architecture]
) -> None:
    """Every multiply-accumulate of the run, the repeated ones too."""
    for architecture in architectures[:10]:
        subnet = supernet.extract(architecture)
        counted = network_cost(subnet.specs)
        assert count(subnet, images_for(subnet), name="network") == counted
        assert counted.macs > network_cost(subnet.whole().specs).macs
        assert counted.params == network_cost(subnet.whole().specs).params


def traced_peak(subnet: Subnet) -> int:
    """The most elements held at once while the network runs, from the tensors of the run.

    What a convolution reads and writes, the input of a block that adds it at the end, and through
    the blocks that run patch by patch the image and the tiles' common output.
    """
    images = images_for(subnet)
    patched = sum(spec.grid > 1 for spec in subnet.specs)
    with torch.no_grad():
        common = nn.Sequential(*list(subnet.blocks)[:patched])(images).numel()
    held = peak = 0
    waiting: Tensor | None = None

    def enter(block: Any, given: tuple[Tensor]) -> None:
        nonlocal held, waiting
        inside = patched and any(block is each for each in list(subnet.blocks)[:patched])
        held = images.numel() + common if inside else 0
        waiting = given[0] if getattr(block, "residual", False) else None

    def layer(module: nn.Module, given: tuple[Tensor], out: Tensor) -> None:
        nonlocal peak
        apart = waiting is not None and given[0].data_ptr() != waiting.data_ptr()
        kept = waiting.numel() if apart and waiting is not None else 0
        peak = max(peak, held + kept + given[0].numel() + out.numel())

    hooks = [block.register_forward_pre_hook(enter) for block in subnet.blocks]
    for module in subnet.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            hooks.append(module.register_forward_hook(layer))
    with torch.no_grad():
        subnet(images)
    for hook in hooks:
        hook.remove()
    return peak


def test_the_peak_is_that_of_a_traced_run(
    supernet: Supernet, architectures: list[Architecture]
) -> None:
    for architecture in architectures:
        for one in (architecture, replace(architecture, patches=None)):
            subnet = supernet.extract(one)
            assert peak_activation_bytes(subnet.specs) == 4 * traced_peak(subnet)


def test_the_schedule_trades_memory_for_work(space: SearchSpace) -> None:
    """Small kernels before large ones: the memory of the first blocks falls by a half and more."""
    content = space.to_dict()
    content["stages"][2]["kernel_size"] = 3
    narrow = SearchSpace.from_dict({**content, "resolution": 128})
    peaks, macs = {}, {}
    for grid in (1, 2, 3):
        patches = None if grid == 1 else PatchSchedule(grid, 3)
        largest = Architecture(128, narrow.largest.stages, patches)
        specs = lower(narrow, largest)
        peaks[grid], macs[grid] = peak_activation_bytes(specs), network_cost(specs).macs
    assert peaks[1] > peaks[2] > peaks[3]
    assert macs[1] < macs[2] < macs[3]


@pytest.mark.parametrize("count", [12, pytest.param(40, marks=pytest.mark.slow)])
def test_over_genes_the_peak_is_that_of_each_network(
    count: int, space: SearchSpace, rng: np.random.Generator
) -> None:
    content = space.to_dict() | {"resolution": [48, 64]}
    for stage in content["stages"][3:]:  # whole images there: one block of each is enough
        stage.update(kernel_size=3, expand_ratio=4)
    few = SearchSpace.from_dict(content | {"patches": {"grid": [1, 3], "stages": [2, 3]}})
    genes = few.sample_genes(rng, count)
    expected = [peak_activation_bytes(lower(few, one)) for one in few.decode_many(genes)]
    np.testing.assert_array_equal(PeakActivations(few).of_genes(genes), expected)


def test_onnx_runs_it_patch_by_patch(supernet: Supernet, architectures: list[Architecture]) -> None:
    """The graph holds every run of every block, and its nodes say whose they are."""
    subnet = supernet.extract(architectures[0])
    images = images_for(subnet)
    graph = to_onnx(subnet, subnet.input_shape)
    session = ort.InferenceSession(graph, providers=["CPUExecutionProvider"])
    with torch.no_grad():
        expected = subnet(images).numpy()
    (actual,) = session.run(None, {session.get_inputs()[0].name: images.numpy()})
    np.testing.assert_allclose(actual, expected, atol=1e-4, rtol=1e-4)
    names = [
        node.name for node in onnx.load_from_string(graph).graph.node if node.op_type == "Conv"
    ]
    grid = subnet.specs[0].grid
    assert sum("/blocks.0/" in name for name in names) == grid**2
    events = [{"cat": "Node", "name": f"{name}_kernel_time", "dur": 1} for name in names]
    events.append({"cat": "Session", "name": "model_run"})
    times, _ = attribute(events, len(subnet.specs))
    assert times[0, 0] == pytest.approx(grid**2 / 1e3)


def test_blocks_are_timed_over_all_their_tiles(
    supernet: Supernet, architectures: list[Architecture]
) -> None:
    subnet = supernet.extract(architectures[0])
    trace = TorchRuntime(Setting("host", "torch")).trace(subnet)
    trace.run_ms()
    found = trace.finish()
    assert found.block_ms.shape == (1, len(subnet.specs))
    assert (found.block_ms > 0).all()


def test_norms_are_recalibrated_on_whole_images(
    supernet: Supernet, architectures: list[Architecture]
) -> None:
    """Tiles overlap: statistics over them would count some pixels twice."""
    architecture = architectures[0]
    patched, whole = (
        supernet.extract(one) for one in (architecture, replace(architecture, patches=None))
    )
    batches = [images_for(whole, 4)]
    recalibrate(patched.whole(), batches)
    recalibrate(whole, batches)
    for mine, other in zip(patched.buffers(), whole.buffers(), strict=True):
        torch.testing.assert_close(mine, other)


def test_training_runs_on_whole_images(
    supernet: Supernet, architectures: list[Architecture]
) -> None:
    architecture = architectures[0]
    patched, whole = (
        supernet.extract(one) for one in (architecture, replace(architecture, patches=None))
    )
    images = images_for(whole, 4)
    assert torch.equal(patched.train()(images), whole.train()(images))
