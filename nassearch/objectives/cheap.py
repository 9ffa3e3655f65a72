"""Objectives that cost no image: predicted latencies, counts, and scores of structure."""

from collections.abc import Callable
from functools import partial

import numpy as np

from nassearch.errors import ConfigError
from nassearch.latency.target import Target
from nassearch.networks import block_cost
from nassearch.networks.activation_memory import PeakActivations, peak_elements
from nassearch.networks.cost import FLOAT_BYTES
from nassearch.networks.file_size import file_bytes
from nassearch.networks.zero_cost import StructuralScore
from nassearch.objectives.objective import Context
from nassearch.provenance import Estimate, Provenance
from nassearch.setting import INT8
from nassearch.space import Architecture, BlockSpec
from nassearch.space.additive import AdditiveCost, Floats, PolicyCost
from nassearch.space.search_space import Genes


class Latency:
    """Predicted milliseconds on a target; cheap, and exact in its minimum."""

    per_target = True
    unit = "ms"

    def __init__(self, context: Context, target: Target) -> None:
        self._predictor = target.predictor
        self.setting = target.setting
        self.source = f"{target.setting} {target.predictor.fingerprint}"
        self.of_genes = target.predictor.predict_genes

    def __call__(self, architecture: Architecture) -> Estimate:
        return self._predictor.estimate(architecture)

    def minimum(self) -> tuple[float, Architecture]:
        """The least milliseconds in the space, and an architecture that has them."""
        architecture, milliseconds = self._predictor.minimum()
        return milliseconds, architecture


class _Counted:
    """A cost that adds up over blocks; exact in its minimum."""

    def __init__(self, total: AdditiveCost | PolicyCost) -> None:
        self._total = total
        self.of_genes = total.of_genes

    def __call__(self, architecture: Architecture) -> Estimate:
        return Estimate(self._total(architecture), Provenance("counted"))

    def minimum(self) -> tuple[float, Architecture]:
        """The least cost in the space, and an architecture that has it."""
        architecture, cost = self._total.minimum()
        return cost, architecture


class Macs(_Counted):
    """Multiply-accumulates for one image."""

    def __init__(self, context: Context) -> None:
        super().__init__(AdditiveCost(context.space, lambda spec: float(block_cost(spec).macs)))


class Params(_Counted):
    """Parameters of the extracted network."""

    def __init__(self, context: Context) -> None:
        super().__init__(AdditiveCost(context.space, lambda spec: float(block_cost(spec).params)))


class SizeBytes(_Counted):
    """Bytes of the file that a network is deployed in: an ONNX graph in its policy's precisions, or
    in that of the settings searched for; exact in its minimum, within some per cent of the file.
    """

    def __init__(self, context: Context) -> None:
        if context.space.precisions:
            super().__init__(PolicyCost(context.space, file_bytes))
        else:
            super().__init__(AdditiveCost(context.space, partial(_bytes_in, context.precision)))


def _bytes_in(precision: str, spec: BlockSpec) -> float:
    return float(file_bytes(spec, precision))


class PeakActivationBytes:
    """The most activations held at once for one image.

    Of float32, in int8 a quarter of it; where a policy says precisions, each block's of its own
    (run patch by patch, of float32).
    """

    def __init__(self, context: Context) -> None:
        self._space = space = context.space
        self._of_genes = PeakActivations(space).of_genes
        if space.precisions and space.definition.patches is None:
            policies = PolicyCost(space, partial(_in_bytes_of, peak_elements))
            self._of_genes = policies.largest_of_genes

    def __call__(self, architecture: Architecture) -> Estimate:
        genes = np.array([self._space.encode(architecture)], dtype=np.uint8)
        return Estimate(float(self.of_genes(genes)[0]), Provenance("counted"))

    def of_genes(self, genes: Genes) -> Floats:
        """Bytes, (n,), of gene vectors, (n, genes)."""
        return self._of_genes(genes)


class PeakMemoryBytes(PeakActivationBytes):
    """Those activations and all weights."""

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._weights: AdditiveCost | PolicyCost
        if context.space.precisions:
            self._weights = PolicyCost(context.space, partial(_in_bytes_of, _num_params))
        else:
            self._weights = AdditiveCost(context.space, lambda s: float(block_cost(s).weight_bytes))

    def of_genes(self, genes: Genes) -> Floats:
        """Bytes, (n,), of gene vectors, (n, genes)."""
        return super().of_genes(genes) + self._weights.of_genes(genes)


def _in_bytes_of(count: Callable[[BlockSpec], int], spec: BlockSpec, precision: str) -> float:
    return float(count(spec) * (1 if precision == "int8" else FLOAT_BYTES))


def _num_params(spec: BlockSpec) -> int:
    return block_cost(spec).params


class Sensitivity:
    """The loss that the largest network is expected to have by an architecture's policy, in nats.

    Its loss in float, and what int8 adds in each block that the policy has in int8 (HAWQ): cheap,
    and a hint of which policies are worth an evaluation.
    """

    def __init__(self, context: Context) -> None:
        self._space = space = context.space
        if space.policies is None or INT8 not in space.precisions or context.sensitivity is None:
            raise ConfigError(
                "sensitivity is that of policies with int8, of a supernet with images",
                where="objectives",
                fix="search a setting of --precision mixed, and name images with --data",
            )
        known = context.sensitivity()
        self._policies, self._int8 = space.policies, space.precisions.index(INT8)
        self._loss = known.loss
        self._increases = np.array([block.loss_increase for block in known.blocks])
        self.source = known.supernet

    def __call__(self, architecture: Architecture) -> Estimate:
        genes = np.array([self._space.encode(architecture)], dtype=np.uint8)
        return Estimate(float(self.of_genes(genes)[0]), Provenance("curvature"))

    def of_genes(self, genes: Genes) -> Floats:
        """Nats, (n,), of gene vectors, (n, genes)."""
        quantized = genes[:, self._policies.columns] == self._int8
        return self._loss + (quantized & self._policies.present(genes)) @ self._increases


class ZeroCost:
    """DeepMAD's entropy, without data or weights; the paper bounds the effectiveness beside it."""

    direction = "max"

    def __init__(self, context: Context) -> None:
        self._score = StructuralScore(context.space)
        self.of_genes = self._score.entropy

    def __call__(self, architecture: Architecture) -> Estimate:
        return Estimate(self._score.of(architecture, self.of_genes), Provenance("structure alone"))


class Effectiveness(ZeroCost):
    """DeepMAD's depth over width, for a budget (the paper's is 0.5): more is hard to train."""

    direction = "min"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.of_genes = self._score.effectiveness
