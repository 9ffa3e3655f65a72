"""The supernet: every network of a space in one set of weights; the architecture is an argument."""

import json
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from nassearch.errors import CheckpointError
from nassearch.files import atomic_write
from nassearch.networks.cost import check_memory
from nassearch.networks.subnet import Subnet
from nassearch.networks.wiring import Outputs, Wires
from nassearch.ops import Elastic, check_space, static_op
from nassearch.ops.elastic import elastic_specs
from nassearch.space import Architecture, BlockSpec, SearchSpace, Slot, lower, slots
from nassearch.space.block_graph import SEPARATOR

SPACE_KEY = "nassearch.space"
"""Of the metadata of a supernet's file: its space as JSON."""


class Supernet(nn.Module):
    """All networks of `space`, sharing weights: `supernet(images, architecture)` runs one.

    It holds no chosen architecture, so two calls cannot disturb one another. Running statistics of
    batch norm are shared too and fit no subnet: recalibrate an extracted subnet before measuring
    its accuracy (`training.evaluation`).

    Examples:
        >>> import nassearch as ns, torch
        >>> space = ns.load_space("digits_tiny")
        >>> supernet = ns.Supernet(space)
        >>> supernet(torch.zeros(2, 1, 8, 8), space.smallest).shape
        torch.Size([2, 10])
    """

    def __init__(self, space: SearchSpace) -> None:
        super().__init__()
        self.space = check_space(space)
        places = slots(space)
        has_stem = space.definition.stem is not None
        if has_stem:
            self.stem = _elastic(places[0])
        has_head = space.definition.has_head
        positions = iter(places[int(has_stem) : -1 if has_head else None])
        self.stages = nn.ModuleList(
            nn.ModuleList(_elastic(next(positions)) for _ in stage.positions)
            for stage in space.layout.stages
        )
        self.head = _elastic(places[-1]) if has_head else nn.ModuleDict()
        self.apply(_initialise)

    @classmethod
    def within_memory(cls, space: SearchSpace, *, where: object) -> "Supernet":
        """The supernet of `space`; SpaceError, naming `where`, if this machine cannot hold it."""
        with torch.random.fork_rng(), torch.device("meta"):
            check_memory(cls(space), where=where)
        return cls(space)

    def save(self, path: Path | str) -> None:
        """Write the weights and the space to one .safetensors file, which `load` reads."""
        tensors = {name: tensor.contiguous() for name, tensor in self.state_dict().items()}
        with atomic_write(Path(path)) as temporary:
            save_file(tensors, temporary, metadata={SPACE_KEY: json.dumps(self.space.to_dict())})

    @classmethod
    def load(cls, path: str | Path) -> "Supernet":
        """The supernet of a file that `save` wrote, in evaluation mode.

        Raises:
            CheckpointError: The file is damaged, or holds no supernet of ours.
            SpaceError: It takes more memory than this machine has.
        """
        where, fix = Path(path), "name the .safetensors file of 'nassearch export --pick supernet'"
        try:
            with safe_open(where, "pt") as file:
                text = (file.metadata() or {}).get(SPACE_KEY)
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            if text is None:
                raise CheckpointError("holds no supernet of nassearch", where=where, fix=fix)
            space = SearchSpace.from_dict(json.loads(text), where=where)
        except (SafetensorError, OSError, ValueError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise CheckpointError(f"cannot be read ({reason})", where=where, fix=fix) from error
        supernet = cls.within_memory(check_space(space), where=where)
        try:
            supernet.load_state_dict(tensors)
        except RuntimeError as error:
            raise CheckpointError(
                "its weights do not fit its space", where=where, fix="export the supernet again"
            ) from error
        return supernet.eval()

    def forward(
        self,
        images: Tensor,
        architecture: Architecture,
        *,
        resolution: int | None = None,
        dropout: float = 0.0,
        drop_path: float = 0.0,
    ) -> Outputs:
        """Logits, (n, classes), of the subnet `architecture` for images, (n, channels, h, w).

        Of a space with outputs, a tensor by the name of each.

        Images of another size than `resolution`, if not given the architecture's, are resized
        first. In training, `dropout` acts before the classifier, and residual branches are dropped
        at a rate that grows with their depth up to `drop_path`.
        """
        out = resize(images, resolution if resolution is not None else architecture.resolution)
        path = list(self.walk(architecture, resolution=resolution))
        wires = Wires()
        for number, (op, spec) in enumerate(path, start=1):
            rate = drop_path * number / len(path)
            out = op(out, spec, *wires.read(spec), dropout=dropout, drop_path=rate)
            wires.keep(spec, out)
        return out if self.space.definition.outputs is None else wires.outputs()

    def walk(
        self, architecture: Architecture, *, resolution: int | None = None
    ) -> Iterator[tuple[Elastic, BlockSpec]]:
        """The elastic op and the block it is to be, from the stem to the head.

        Blocks are whole: how a network is run says nothing about its weights.
        """
        specs = lower(self.space, architecture, resolution=resolution)
        if architecture.patches is not None:
            specs = tuple(spec.whole for spec in specs)
        yield from zip(self._path(architecture), specs, strict=True)

    def extract(self, architecture: Architecture) -> Subnet:
        """The subnet as a plain network with its own copy of the weights."""
        specs = lower(self.space, architecture)
        blocks = [op.extract(spec) for op, spec in self.walk(architecture)]
        return Subnet(specs, blocks, precisions=architecture.precisions).train(self.training)

    def _path(self, architecture: Architecture) -> Iterator[Elastic]:
        if self.space.definition.stem is not None:
            yield from self.stem.values()  # type: ignore[misc]
        for stage, positions in zip(architecture.stages, self.stages, strict=True):
            for block, position in zip(stage.blocks, positions, strict=False):  # type: ignore[call-overload]
                yield position[_module_name(block.op)]
        yield from self.head.values()  # type: ignore[misc]


def resize(images: Tensor, resolution: int) -> Tensor:
    """Square images of `resolution` pixels, bilinear with antialiasing."""
    if images.shape[-1] == resolution and images.shape[-2] == resolution:
        return images
    return F.interpolate(
        images, (resolution, resolution), mode="bilinear", antialias=True, align_corners=False
    )


def _elastic(slot: Slot) -> nn.ModuleDict:
    grouped = elastic_specs(spec.whole for spec in slot.specs if spec is not None)
    return nn.ModuleDict(
        {_module_name(op): Elastic(static_op(op), specs) for op, specs in grouped.items()}
    )


def _module_name(op: str) -> str:
    """'my.package:Op' as a module name, which may hold no dot; a traced op without its graph's."""
    return op.partition(SEPARATOR)[0].replace(".", "_").replace(":", "_")


def _initialise(module: nn.Module) -> None:
    """He's normal initialisation over the fan-out for convolutions, small normal for linears."""
    for name, parameter in module.named_parameters(recurse=False):
        if name == "weight" and parameter.dim() == 4:
            nn.init.kaiming_normal_(parameter, mode="fan_out", nonlinearity="relu")
        elif name == "weight" and parameter.dim() == 2:
            nn.init.normal_(parameter, 0.0, 0.01)
        elif name == "bias":
            nn.init.zeros_(parameter)
