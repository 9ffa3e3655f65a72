"""A stem that needs no training: filters that whiten the patches of the training images."""

import torch
import torch.nn.functional as F
from torch import nn

from nassearch.data.dataset import Data
from nassearch.errors import ConfigError
from nassearch.networks import Supernet

_FLOOR = 5e-4  # added to variances, of pixels scaled to mean 0 and deviation 1


def whiten(supernet: Supernet, data: Data) -> None:
    """Give the stem's convolution the whitening filters of its patches, and freeze the stem.

    The filters are the eigenvectors of the patches' covariance with the largest variances, each
    over its standard deviation, and their negatives, so that a rectifier loses nothing (Jordan,
    "94% on CIFAR-10 in 3.29 Seconds", 2024, 3.2). ConfigError where there is no stem convolution.
    """
    stem = getattr(supernet, "stem", nn.Module())
    weights = [parameter for parameter in stem.parameters() if parameter.dim() == 4]
    if not weights:
        raise ConfigError(
            "the space has no stem with a convolution", where="whitening", fix="leave whitening out"
        )
    weight = weights[0]
    width, _, kernel, _ = weight.shape
    images = data.normalise(data.sample(2000).images)
    patches = F.unfold(images, kernel).transpose(1, 2).flatten(0, 1)
    variances, directions = torch.linalg.eigh((patches.T @ patches / len(patches)).double())
    filters = (directions / (variances + _FLOOR).sqrt()).T.flip(0)
    count = min(width // 2, len(filters))
    filters = filters[:count].to(weight).view(count, *weight.shape[1:])
    with torch.no_grad():
        weight[: 2 * count] = torch.cat([filters, -filters])
    stem.requires_grad_(False)
