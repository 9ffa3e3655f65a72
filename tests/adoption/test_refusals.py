"""What cannot be adopted is refused in one line: the module's path, and what to change."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from nassearch.adoption.adoption import adopt
from nassearch.adoption.elastic_space import Elasticity
from nassearch.errors import AdoptionError, ConfigError, DataError, NassearchError, OutputError
from nassearch.ops import check_space
from nassearch.pipeline.adopt import adopt_network, load_module, parse_input
from nassearch.space import SearchSpace
from tests.adoption.network import OwnNetwork, Residual


class Body(nn.Module):
    """A network with one layer of the test's own in its middle."""

    def __init__(self, middle: nn.Module) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.middle = middle
        self.last = nn.Conv2d(8, 8, 3, padding=1)
        self.head = nn.Linear(8, 4)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.last(self.middle(self.stem(images))).mean((2, 3)))


class Branches(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        if images.sum() > 0:
            return images * 2
        return images


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        return self.conv(torch.relu(self.conv(images)))


class InPlaceView(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        left = images[:, :4]
        left.add_(1.0)
        return images * 2


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(context: object, images: Tensor) -> Tensor:
        return torch.cumsum(images, 1)

    @staticmethod
    def backward(context: object, gradient: Tensor) -> Tensor:
        return gradient


class Custom(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return Doubled.apply(images)


class Computed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(8, 8, 3, 3))

    def forward(self, images: Tensor) -> Tensor:
        return nn.functional.conv2d(images, self.weight * 2, padding=1)


class TwoInputs(nn.Module):
    def forward(self, images: Tensor, other: Tensor) -> Tensor:
        return (images + other).flatten(1)


class Shared(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(8, 8, 1)
        self.second = nn.Conv2d(8, 8, 1)
        self.second.weight = self.first.weight

    def forward(self, images: Tensor) -> Tensor:
        return self.second(self.first(images))


class Idle(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.used = nn.Conv2d(8, 8, 1)
        self.auxiliary = nn.Conv2d(8, 8, 1)

    def forward(self, images: Tensor) -> Tensor:
        return self.used(images)


class Features(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 1)

    def forward(self, images: Tensor) -> list[Tensor]:
        return [self.conv(images), images]


def half() -> nn.Module:
    return Body(nn.Identity()).half()


def on_another_device() -> nn.Module:
    return Body(nn.Identity()).to("meta")


LINE = "Net.middle (test_refusals.py:"
REFUSED: dict[str, tuple[Callable[[], nn.Module], str, str]] = {
    "control flow": (lambda: Body(Branches()), LINE, "depends on the values"),
    "a layer used twice": (lambda: Body(Twice()), "Net.middle.conv", "a second time"),
    "a view in place": (lambda: Body(InPlaceView()), LINE, "a view in place"),
    "custom autograd": (lambda: Body(Custom()), "Net.middle", "cumsum is no operator"),
    "a weight computed": (lambda: Body(Computed()), LINE, "of its weights alone"),
    "several inputs": (TwoInputs, "Net", "refuses images of 3x8x8"),
    "half precision": (half, "Net", "is in float16"),
    "another device": (on_another_device, "Net", "is on meta"),
    "an example it refuses": (lambda: nn.Conv2d(1, 4, 3), "Net", "refuses images of 3x8x8"),
    "a shared tensor": (lambda: Body(Shared()), "Net", "its layer is used twice"),
    "layers without a part": (lambda: Body(Idle()), "Net", "middle.auxiliary.weight has no part"),
    "an image given back": (Features, "Net", "what no operator computed"),
    "no blocks in a row": (
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(192, 4)), "Net", "no place where one image",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_it_is_refused_in_one_line(case: str) -> None:
    make, where, what = REFUSED[case]
    with pytest.raises(AdoptionError) as caught:
        adopt(make(), torch.randn(1, 3, 8, 8), name="Net")
    error = caught.value
    assert error.where.startswith(where), str(error)
    assert what in error.what, str(error)
    assert error.fix
    assert "\n" not in str(error)


def test_an_example_must_be_square() -> None:
    with pytest.raises(AdoptionError, match="no square images"):
        adopt(OwnNetwork(), torch.randn(1, 3, 16, 8))


def test_a_width_that_no_choice_divides_is_refused_at_its_key() -> None:
    """Groups of two channels: 15 cannot be."""
    module = nn.Sequential(
        nn.Conv2d(3, 16, 1), nn.Conv2d(16, 16, 3, padding=1, groups=8), nn.Conv2d(16, 8, 1),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4),
    )  # fmt: skip
    space = adopt(module, torch.randn(1, 3, 8, 8)).space
    content = space.to_dict()
    stage = next(stage for stage in content["stages"] if 16 in stage["width"])
    stage["width"] = [15, 16]
    with pytest.raises(NassearchError, match=r"15 channels cannot be out\*2") as caught:
        check_space(SearchSpace.from_dict(content, where="mine.yaml"))
    assert caught.value.where.startswith("mine.yaml: stages[")
    assert "write one of" in caught.value.fix


def test_an_operator_that_is_on_no_list_is_refused() -> None:
    content = adopt(OwnNetwork(), torch.randn(1, 3, 16, 16)).space.to_dict()
    graph = next(iter(content["graphs"].values()))
    graph["nodes"][0] = {**graph["nodes"][0], "op": "exec"}
    with pytest.raises(ConfigError, match="is on no list") as caught:
        SearchSpace.from_dict(content, where="mine.yaml")
    assert "\n" not in str(caught.value)


def test_an_option_that_names_no_module_is_refused() -> None:
    with pytest.raises(AdoptionError, match=r"has no module 'residual\.9'"):
        adopt(OwnNetwork(), torch.randn(1, 3, 16, 16), elasticity=Elasticity(fixed=("residual.9",)))


@pytest.mark.parametrize("text", ["3x224", "3,8,8", "0x8x8", "axbxc", ""])
def test_an_input_that_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(AdoptionError, match="is no size of an image"):
        parse_input(text)


def make_own() -> nn.Module:
    return Body(Residual(8, 16))


def make_with_argument(width: int) -> nn.Module:
    return Body(Residual(width, 16))


NOT_A_MODULE = 3


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("nothing", "names no network"),
        (f"{__name__}:make_with_argument", "cannot be called without arguments"),
        (f"{__name__}:NOT_A_MODULE", "cannot be called"),
    ],
)
def test_a_name_that_makes_no_module_is_refused(name: str, what: str) -> None:
    with pytest.raises(AdoptionError, match=what):
        load_module(name)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    torch.save(OwnNetwork().state_dict(), path)
    with pytest.raises(AdoptionError, match="does not fit the network"):
        load_module(f"{__name__}:make_own", path)
    path.write_bytes(b"nothing")
    with pytest.raises(AdoptionError, match="holds no state dict"):
        load_module(f"{__name__}:make_own", path)
    torch.save(make_own().state_dict(), path)
    assert isinstance(load_module(f"{__name__}:make_own", path), Body)


def test_other_images_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    run = tmp_path / "run"
    elasticity = Elasticity()
    with pytest.raises(DataError, match="images of 1 channels, the network takes 3"):
        adopt_network(make_own(), (3, 8, 8), run, name="own", elasticity=elasticity, data="digits")
    assert not list(run.glob("*"))
    run.mkdir(exist_ok=True)
    (run / "space.yaml").write_text("name: other\n")
    with pytest.raises(OutputError, match="already holds a run"):
        adopt_network(make_own(), (3, 8, 8), run, name="own", elasticity=elasticity)
