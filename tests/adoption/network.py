"""Networks to adopt: torchvision's and timm's at small images, and small ones of a user's own."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import pytest
import torch
import torchvision
from torch import Tensor, nn

from nassearch.adoption.adoption import Adoption, adopt
from nassearch.adoption.elastic_space import Elasticity
from nassearch.space import SearchSpace

FEW = Elasticity(width=(0.5, 1.0), inner=(0.5, 1.0))


@dataclass(frozen=True)
class Network:
    """How a network is made, and the pixels of its images."""

    name: str
    make: Callable[[], nn.Module]
    pixels: int = 32


class Gate(nn.Module):
    """Squeeze and excite."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, channels // 2, 1)
        self.expand = nn.Conv2d(channels // 2, channels, 1)

    def forward(self, images: Tensor) -> Tensor:
        pooled = images.mean((2, 3), keepdim=True)
        return images * torch.sigmoid(self.expand(torch.relu(self.reduce(pooled))))


class Residual(nn.Module):
    """A bottleneck with a grouped 5x5 convolution, a gate and a scale of its own."""

    def __init__(self, channels: int, wide: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, wide, 1, bias=False)
        self.norm = nn.BatchNorm2d(wide)
        self.mix = nn.Conv2d(wide, wide, 5, padding=2, groups=wide // 4)
        self.gate = Gate(wide)
        self.expand = nn.Conv2d(wide, channels, 1)
        self.scale = nn.Parameter(torch.full((channels,), 0.5))

    def forward(self, images: Tensor) -> Tensor:
        out = self.gate(self.mix(torch.relu(self.norm(self.reduce(images)))))
        return images + self.scale.view(1, -1, 1, 1) * self.expand(out)


class Dense(nn.Module):
    """What was computed before is concatenated, then normalised together and mixed."""

    def __init__(self, channels: int, growth: int, out_channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, growth, 3, padding=1)
        self.second = nn.Conv2d(channels + growth, growth, 3, padding=1)
        self.norm = nn.BatchNorm2d(channels + 2 * growth)
        self.mix = nn.Conv2d(channels + 2 * growth, out_channels, 1)

    def forward(self, images: Tensor) -> Tensor:
        known = torch.cat([images, torch.relu(self.first(images))], 1)
        known = torch.cat([known, torch.relu(self.second(known))], 1)
        return nn.functional.max_pool2d(self.mix(self.norm(known)), 2)


class OwnNetwork(nn.Module):
    """Sixty lines of a user's own."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.SiLU())
        self.residual = nn.Sequential(Residual(16, 32), Residual(16, 32), Residual(16, 32))
        self.dense = Dense(16, 8, 32)
        self.classifier = nn.Sequential(nn.Linear(32 * 16, 24), nn.GELU(), nn.Linear(24, 5))

    def forward(self, images: Tensor) -> Tensor:
        out = self.dense(self.residual(self.stem(images)))
        return self.classifier(out.flatten(1))


def _torchvision(name: str, **options: object) -> Callable[[], nn.Module]:
    return lambda: torchvision.models.get_model(name, weights=None, num_classes=5, **options)


def _timm(name: str) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        timm = pytest.importorskip("timm")
        return timm.create_model(name, num_classes=5)

    return make


def _small_vgg() -> nn.Module:
    """VGG for small images: ONNX holds no pooling of one pixel to seven."""
    module = torchvision.models.vgg11_bn(weights=None, num_classes=5)
    module.avgpool = nn.AdaptiveAvgPool2d(1)
    module.classifier[0] = nn.Linear(512, 4096)
    return module


def _networks() -> list[Network]:
    plain = {"resnet18": 32, "squeezenet1_1": 32, "shufflenet_v2_x0_5": 32, "mobilenet_v2": 32}
    more = {
        "alexnet": 224, "resnet50": 32, "resnext50_32x4d": 32,
        "regnet_y_400mf": 32, "densenet121": 32, "mobilenet_v3_small": 32, "efficientnet_b0": 32,
        "mnasnet1_0": 32, "convnext_tiny": 32,
    }  # fmt: skip
    of_timm = {
        "mobilenetv4_conv_small": 64, "mobileone_s0": 64, "repvit_m0_9": 64, "ghostnet_100": 64,
        "lcnet_100": 64, "resnest14d": 64,
    }  # fmt: skip
    return [
        Network("own", OwnNetwork, 16),
        *(Network(name, _torchvision(name), pixels) for name, pixels in {**plain, **more}.items()),
        Network("googlenet", _torchvision("googlenet", aux_logits=False, init_weights=False), 32),
        Network("vgg11_bn", _small_vgg, 32),
        *(Network(name, _timm(name), pixels) for name, pixels in of_timm.items()),
    ]


NETWORKS = {network.name: network for network in _networks()}
QUICK_NETWORKS = ("own", "resnet18", "squeezenet1_1", "shufflenet_v2_x0_5")


@cache
def adopted(network: Network) -> tuple[nn.Module, Tensor, Adoption]:
    """(the module, an example of its images, what became of it)."""
    torch.manual_seed(0)
    module = network.make().eval()
    example = torch.randn(1, 3, network.pixels, network.pixels)
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.uniform_(-0.2, 0.2)
            layer.running_var.uniform_(0.5, 1.5)
    name = f"adopted_{network.name}"
    return module, example, adopt(module, example, name=name, elasticity=FEW)


def adopted_space(network: Network) -> SearchSpace:
    return adopted(network)[2].space
