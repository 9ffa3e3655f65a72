"""What the space can say since version 0.2, and that older spaces are what they were."""

from typing import Any

import pytest
import torch
from torch import nn

from nassearch import config
from nassearch.errors import ConfigError, SpaceError
from nassearch.networks import Subnet, Supernet
from nassearch.ops import build_op, check_space
from nassearch.space import BlockSpec, SearchSpace, block_specs, lower
from nassearch.space.architecture import canonical_choices
from tests.conftest import SPACE

SINCE_0_2 = {
    "alphanet": "738704651c7c0677",
    "cifar_resnet": "1fd9cefc400304ae",
    "cifar_small": "7541332d5daba21d",
    "convnext_like": "05877cee90859d90",
    "digits_mini": "6ed609cc5dab9201",
    "digits_tiny": "af061de1e463d7d8",
    "efficientnet": "876af023fb0df7c9",
    "efficientnet_like": "45ea5153b9c0c4ac",
    "large_kernel": "9f8ba48afc7b0d90",
    "mcu": "f8c9b56f2b252128",
    "mixer_choice": "f47edcb1ee44bb40",
    "mobilenet_v2": "9e78700386278945",
    "mobilenet_v3": "f4088a454de9e7ad",
    "mobilenet_v3_paper": "707508d5ca382c53",
    "mobilenet_v3_w12": "51aef3dd65e4440b",
    "proxyless": "1a78817a05dd8ec4",
    "resnet50": "771d87da2ad81744",
}
"""The fingerprints of the spaces that version 0.2 ships: checkpoints and exports hold them."""


@pytest.mark.parametrize("name", SINCE_0_2)
def test_a_space_of_version_0_2_keeps_its_fingerprint(name: str) -> None:
    assert SearchSpace.load(name).fingerprint == SINCE_0_2[name]


def _with(**changes: Any) -> SearchSpace:
    return SearchSpace.from_dict({**SPACE, **changes})


def test_an_epsilon_is_in_the_fingerprint_and_in_no_latency_key() -> None:
    usual, other = _with(), _with(norm_eps=1e-3)
    assert _with(norm_eps=1e-5) == usual  # the usual one, said or not
    assert other.fingerprint != usual.fingerprint
    keys = [[spec.key for spec in block_specs(space)] for space in (usual, other)]
    assert keys[0] == keys[1]
    assert SearchSpace.from_dict(other.to_dict()) == other


def test_an_epsilon_is_every_norm_s_in_supernet_and_subnet() -> None:
    space = _with(norm_eps=1e-3)
    specs = lower(space, space.largest)
    assert lower(_with(), space.largest) == specs  # equal, and yet each has its space's epsilon
    assert {spec.norm_eps for spec in lower(_with(), space.largest)} == {1e-5}
    supernet = Supernet(space).eval()
    extracted = supernet.extract(space.largest)
    for subnet in (extracted, Subnet(specs)):
        epsilons = {norm.eps for norm in subnet.modules() if isinstance(norm, nn.BatchNorm2d)}
        assert epsilons == {1e-3}
    images = torch.randn(2, 1, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(extracted(images), supernet(images, space.largest))
    merged = Supernet(SearchSpace.from_dict(_large_kernel(1e-3)))
    block = merged.extract(merged.space.largest).blocks[0]
    assert {m.eps for m in block.modules() if isinstance(m, nn.BatchNorm2d)} == {1e-3}


def _large_kernel(eps: float) -> dict[str, Any]:
    stage = {"op": "large_kernel", "width": 8, "kernel_size": [7, 13], "expand_ratio": 2}
    return {
        "name": "kernels",
        "resolution": 8,
        "stages": [stage],
        "norm_eps": eps,
        "in_channels": 8,
    }


def test_an_epsilon_holds_on_tiles_too() -> None:
    """Schedules are looked up among equal blocks, and blocks of two epsilons are equal."""
    stage = {"op": "mbconv", "width": 8, "stride": 2, "kernel_size": 3, "expand_ratio": 2}
    patches = {"grid": [1, 2], "stages": 1}
    common = {"name": "tiles", "resolution": 16, "stages": [stage], "patches": patches}
    for eps in (1e-5, 1e-3):
        space = SearchSpace.from_dict({**common, "norm_eps": eps})
        assert {spec.norm_eps for spec in block_specs(space)} == {eps}


@pytest.mark.parametrize("eps", [0, -1e-5, 1, "small"])
def test_an_epsilon_that_cannot_be_is_refused(eps: object) -> None:
    with pytest.raises(SpaceError, match="norm_eps"):
        _with(norm_eps=eps)


# -- once-for-all's ResNet -------------------------------------------------------------------------


def _block(op: str, *, stride: int, channels: tuple[int, int], **choices: Any) -> BlockSpec:
    return BlockSpec(op, *channels, 9, stride, canonical_choices({"kernel_size": 3, **choices}))


def test_a_residual_convolution_adds_its_input_where_it_keeps_shape() -> None:
    op = build_op(_block("residual_conv", stride=1, channels=(4, 4), activation="relu")).eval()
    images = torch.randn(2, 4, 9, 9)
    with torch.no_grad():
        torch.testing.assert_close(op(images), images + op.body(images))
        for stride, channels in ((2, (4, 4)), (1, (4, 8))):
            other = build_op(_block("residual_conv", stride=stride, channels=channels)).eval()
            torch.testing.assert_close(other(images), other.body(images))


def test_an_averaging_shortcut_averages_over_the_stride() -> None:
    spec = _block("bottleneck", stride=2, channels=(4, 8), expand_ratio=0.5, shortcut="avgpool")
    shortcut = build_op(spec).eval().shortcut
    images = torch.randn(2, 4, 9, 9)
    pooled = nn.functional.avg_pool2d(images, 2, ceil_mode=True)  # nine pixels become five
    with torch.no_grad():
        torch.testing.assert_close(shortcut(images), shortcut.project(pooled))
    assert shortcut.project.conv.stride == (1, 1)
    assert BlockSpec.from_key(spec.key) == spec


def test_only_blocks_that_an_averaging_shortcut_changes_are_profiled_anew() -> None:
    """Where nothing is strided single pixels are averaged: the block keeps its old key."""
    averaging = SearchSpace.load("ofa_resnet50")
    strided = SearchSpace.from_dict(
        {
            **averaging.to_dict(),
            "stages": [
                {key: value for key, value in stage.items() if key != "shortcut"}
                for stage in averaging.to_dict()["stages"]
            ],
        }
    )
    assert averaging.fingerprint != strided.fingerprint
    new = {spec.key for spec in block_specs(averaging)} - {s.key for s in block_specs(strided)}
    assert new
    assert all("-s2-" in key and key.endswith(key[key.index("-avgpool-r") :]) for key in new)
    unstrided = [spec for spec in block_specs(averaging) if spec.stride == 1]
    assert not [spec for spec in unstrided if spec.get("shortcut")]


def test_a_shortcut_is_of_residual_blocks_with_one_alone() -> None:
    stage = {"op": "mbconv", "width": 8, "kernel_size": 3, "expand_ratio": 2, "shortcut": "avgpool"}
    space = SearchSpace.from_dict({"name": "none", "resolution": 8, "stages": [stage]})
    with pytest.raises(SpaceError, match="op 'mbconv' takes no shortcut"):
        check_space(space)
    with pytest.raises(ConfigError, match="shortcut"):
        SearchSpace.from_dict(
            {"name": "none", "resolution": 8, "stages": [{**stage, "shortcut": "maxpool"}]}
        )


@pytest.mark.parametrize(
    ("name", "tensors", "params"),
    [
        ("ofa_mbv3_w10", 475, 7_678_880),
        ("ofa_mbv3_w12", 475, 10_715_752),
        ("ofa_proxyless_w13", 446, 7_956_882),
        ("ofa_resnet50", 368, 48_105_992),
    ],
)
def test_spaces_of_published_supernets_have_their_tensors(
    name: str, tensors: int, params: int
) -> None:
    """The numbers are those of once-for-all's own classes."""
    with torch.device("meta"):
        supernet = Supernet(SearchSpace.load(name))
    assert len(supernet.state_dict()) == tensors
    assert sum(parameter.numel() for parameter in supernet.parameters()) == params


@pytest.mark.parametrize(
    ("ours", "before"), [("ofa_mbv3_w10", "mobilenet_v3"), ("ofa_mbv3_w12", "mobilenet_v3_w12"),
                         ("ofa_proxyless_w13", "proxyless")]
)  # fmt: skip
def test_a_finer_space_has_the_blocks_that_were_profiled(ours: str, before: str) -> None:
    spaces = [SearchSpace.load(name) for name in (ours, before)]
    shared = set(spaces[0].resolutions) & set(spaces[1].resolutions)
    assert len(shared) >= 3
    keys = [
        {spec.key for resolution in shared for spec in block_specs(_at(space, resolution))}
        for space in spaces
    ]
    assert keys[0] == keys[1]
    assert ours in config.list_files("search_spaces")


def _at(space: SearchSpace, resolution: int) -> SearchSpace:
    return SearchSpace.from_dict({**space.to_dict(), "resolution": [resolution]})
