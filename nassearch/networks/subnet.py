"""Plain networks built from BlockSpecs."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from nassearch import config
from nassearch.errors import ConfigError
from nassearch.networks.patchwise import Patchwise
from nassearch.networks.wiring import LOGITS, Outputs, Wired, is_wired
from nassearch.ops import StaticOp, build_op, check_space
from nassearch.space import Architecture, BlockSpec, SearchSpace, lower


class Subnet(nn.Module):
    """A plain network: one static op for each BlockSpec, in order.

    Input (n, channels, r, r) with r = `resolution`; output logits (n, classes), or a tensor by the
    name of each output, where its space names outputs. It depends on torch alone, traces, scripts
    and exports. Where its first specs have a grid, those blocks are run patch by patch, in graphs
    traced from it too. `precisions` is the policy it is deployed in, one precision a block; what
    the module itself computes is float.

    Examples:
        >>> import nassearch as ns
        >>> space = ns.load_space("digits_tiny")
        >>> subnet = ns.Supernet(space).extract(space.smallest)
        >>> isinstance(subnet, ns.Subnet), subnet.input_shape
        (True, (1, 8, 8))
    """

    def __init__(
        self,
        specs: Sequence[BlockSpec],
        blocks: Sequence[StaticOp] | None = None,
        *,
        precisions: Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        self.specs = tuple(specs)
        self.precisions = None if precisions is None else tuple(precisions)
        blocks = blocks or [build_op(spec) for spec in specs]
        self.blocks: nn.Sequential | Patchwise
        if specs[0].grid > 1:
            self.blocks = Patchwise(specs, blocks)
        else:
            self.blocks = Wired(specs, blocks) if is_wired(specs) else nn.Sequential(*blocks)

    @classmethod
    def from_config(cls, source: str | Path | Mapping[str, Any]) -> "Subnet":
        """Build the network that an export's `config.yaml` describes; untrained.

        Args:
            source: The file, or its content; only the keys `space` and `architecture` are read.

        Returns:
            The network, with random weights.

        Raises:
            ConfigError: A key is missing, or describes no network.
        """
        if isinstance(source, Mapping):
            content: Any = source
        else:
            config.import_nothing_from(Path(source).parent)
            content = config.read_yaml(Path(source))
        where = "the config" if isinstance(source, Mapping) else source
        for key in ("space", "architecture"):
            if not isinstance(content, Mapping) or key not in content:
                raise ConfigError(
                    f"the key '{key}' is missing",
                    where=where,
                    fix="name the config.yaml that 'nassearch export' wrote",
                )
        space = SearchSpace.from_dict(content["space"], where=where)
        architecture = Architecture.from_dict(content["architecture"], where=where)
        return cls.of(check_space(space), space.check(architecture, where=where))

    @classmethod
    def of(cls, space: SearchSpace, architecture: Architecture) -> "Subnet":
        """The network of an architecture, with random weights."""
        return cls(lower(space, architecture), precisions=architecture.precisions)

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of one image."""
        first = self.specs[0]
        return (first.in_channels, first.resolution, first.resolution)

    @property
    def output_names(self) -> tuple[str, ...]:
        """The names of the outputs, `logits` where there are no others."""
        wirings = (spec.wiring for spec in self.specs if spec.wiring is not None)
        found = sorted(output for wiring in wirings for output in wiring.outputs)
        return tuple(name for _, name in found) or (LOGITS,)

    def forward(self, images: Tensor) -> Outputs:
        outputs: Outputs = self.blocks(images)
        return outputs

    def steps(self, images: Tensor) -> Iterator[tuple[int, Tensor]]:
        """(number of a block, what it gave) for each run of a block, in order."""
        if isinstance(self.blocks, Patchwise | Wired):
            yield from self.blocks.steps(images)
            return
        for number, block in enumerate(self.blocks):
            images = block(images)
            yield number, images

    def whole(self) -> "Subnet":
        """The same blocks, run layer by layer."""
        blocks: list[Any] = list(self.blocks)
        specs = [spec.whole for spec in self.specs]
        return Subnet(specs, blocks, precisions=self.precisions).train(self.training)
