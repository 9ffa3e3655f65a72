"""Networks with several outputs: a backbone's feature maps, and heads that read several of them."""

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nassearch.adoption.adoption import Adoption, adopt
from tests.adoption.network import FEW, Dense, Residual

PIXELS = 16


class Backbone(nn.Module):
    """Feature maps at a half, at a quarter and at an eighth of the pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.SiLU())
        self.residual = nn.Sequential(Residual(16, 32), Residual(16, 32))
        self.middle = Dense(16, 8, 24)
        self.last = nn.Sequential(nn.Conv2d(24, 32, 3, 2, 1), nn.BatchNorm2d(32), nn.ReLU())

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        half = self.residual(self.stem(images))
        quarter = self.middle(half)
        return {"half": half, "quarter": quarter, "eighth": self.last(quarter)}


class Sequence(Backbone):
    """The same as timm gives them."""

    def forward(self, images: Tensor) -> list[Tensor]:  # type: ignore[override]
        return list(super().forward(images).values())


class Pyramid(nn.Module):
    """A detector: what is coarse is enlarged and added to what is fine; boxes of both."""

    def __init__(self, backbone: nn.Module | None = None) -> None:
        super().__init__()
        self.backbone = Backbone() if backbone is None else backbone
        self.narrow = nn.ModuleList(nn.Conv2d(width, 8, 1) for width in (24, 32))
        self.boxes = nn.ModuleList(nn.Conv2d(8, 5, 3, padding=1) for _ in range(2))

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        found = self.backbone(images)
        coarse = self.narrow[1](found["eighth"])
        enlarged = F.interpolate(coarse, scale_factor=2.0, mode="nearest")
        fine = self.narrow[0](found["quarter"]) + enlarged
        return {"fine": self.boxes[0](fine), "coarse": self.boxes[1](coarse)}


class Masks(nn.Module):
    """An encoder and a decoder with skip connections: a class for each pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = Backbone()
        self.enlarge = nn.ConvTranspose2d(32, 20, 2, 2)
        self.up = nn.Conv2d(20 + 24, 16, 3, padding=1)
        self.top = nn.Conv2d(16 + 16, 16, 3, padding=1)
        self.classes = nn.Conv2d(16, 3, 1)

    def forward(self, images: Tensor) -> Tensor:
        half, quarter, eighth = self.backbone(images).values()
        out = torch.cat([torch.relu(self.enlarge(eighth)), quarter], 1)
        out = torch.relu(self.up(out))
        big = F.interpolate(out, scale_factor=2, mode="bilinear", align_corners=False)
        out = torch.relu(self.top(torch.cat([big, half], 1)))
        return F.interpolate(
            self.classes(out), images.shape[-2:], mode="bilinear", align_corners=True
        )


class Restored(nn.Module):
    """An encoder and a decoder in a row: one output, as large as the image."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU(),
            nn.Conv2d(16, 32, 3, 2, 1), nn.BatchNorm2d(32), nn.ReLU(),
            nn.ConvTranspose2d(32, 24, 3, 2, 1, output_padding=1, bias=False), nn.ReLU(),
            nn.ConvTranspose2d(24, 8, 4, 2, 1), nn.ReLU(), nn.Conv2d(8, 3, 3, padding=1),
        )  # fmt: skip

    def forward(self, images: Tensor) -> Tensor:
        restored: Tensor = self.body(images)
        return restored


BRANCHING = {kind.__name__: kind for kind in (Backbone, Sequence, Pyramid, Masks, Restored)}


@cache
def adopted_branching(name: str) -> tuple[nn.Module, Adoption]:
    """(the module, what became of it), norms with statistics as a training leaves them."""
    torch.manual_seed(0)
    module = BRANCHING[name]().eval()
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.uniform_(-0.2, 0.2)
            layer.running_var.uniform_(0.5, 1.5)
    example = torch.randn(1, 3, PIXELS, PIXELS)
    return module, adopt(module, example, name=name, elasticity=FEW)
