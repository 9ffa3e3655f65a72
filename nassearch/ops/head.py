"""The classifier: 1x1 expansion, global pooling, features, classes."""

import torch.nn.functional as F
from torch import Tensor, nn

from nassearch.errors import SpaceError
from nassearch.ops.layer import ConvNorm, StaticOp, activation
from nassearch.space import BlockSpec
from nassearch.space.architecture import NORMS


class Head(StaticOp):
    """(n, i, r, r) -> (n, classes); `expand_width` and `feature_width` are optional.

    As in MobileNetV3. The feature layer has no bias (once-for-all's form) unless `feature_bias`
    gives it one (Howard et al.'s); `norm` is a layer norm over the pooled channels (ConvNeXt).
    """

    @staticmethod
    def check(spec: BlockSpec) -> None:
        if spec.get("norm") not in (None, *NORMS):
            raise SpaceError(
                f"unknown norm '{spec.get('norm')}'",
                where="norm",
                fix=f"allowed: {', '.join(NORMS)}",
            )

    def __init__(self, spec: BlockSpec) -> None:
        super().__init__(spec)
        act = spec.get("activation")
        expanded = spec.get("expand_width", spec.in_channels)
        features = spec.get("feature_width", expanded)
        grows = spec.get("expand_width") is not None
        mixes = spec.get("feature_width") is not None
        self.expand = ConvNorm(spec.in_channels, expanded, act=act) if grows else nn.Identity()
        normed = spec.get("norm") is not None
        self.norm = nn.LayerNorm(expanded, eps=1e-6) if normed else nn.Identity()
        biased = spec.get("feature_bias") is not None
        self.features = nn.Linear(expanded, features, bias=biased) if mixes else nn.Identity()
        self.act = activation(act) if mixes else nn.Identity()
        self.dropout = nn.Dropout(0.0)
        self.classifier = nn.Linear(features, spec.out_channels)

    def forward(self, images: Tensor) -> Tensor:
        pooled = F.adaptive_avg_pool2d(self.expand(images), 1).flatten(1)
        features = self.act(self.features(self.norm(pooled)))
        logits: Tensor = self.classifier(self.dropout(features))
        return logits
