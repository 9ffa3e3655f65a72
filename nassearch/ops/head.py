"""The classifier: 1x1 expansion, global pooling, features, classes."""

import torch.nn.functional as F
from torch import Tensor, nn

from nassearch.ops.layer import ConvNorm, StaticOp, activation
from nassearch.space import BlockSpec


class Head(StaticOp):
    """(n, i, r, r) -> (n, classes); `expand_width` and `feature_width` are optional.

    As in MobileNetV3: the feature layer has no bias and no norm (once-for-all's form).
    """

    def __init__(self, spec: BlockSpec) -> None:
        super().__init__(spec)
        act = spec.get("activation")
        expanded = spec.get("expand_width", spec.in_channels)
        features = spec.get("feature_width", expanded)
        grows = spec.get("expand_width") is not None
        mixes = spec.get("feature_width") is not None
        self.expand = ConvNorm(spec.in_channels, expanded, act=act) if grows else nn.Identity()
        self.features = nn.Linear(expanded, features, bias=False) if mixes else nn.Identity()
        self.act = activation(act) if mixes else nn.Identity()
        self.dropout = nn.Dropout(0.0)
        self.classifier = nn.Linear(features, spec.out_channels)

    def forward(self, images: Tensor) -> Tensor:
        pooled = F.adaptive_avg_pool2d(self.expand(images), 1).flatten(1)
        logits: Tensor = self.classifier(self.dropout(self.act(self.features(pooled))))
        return logits
