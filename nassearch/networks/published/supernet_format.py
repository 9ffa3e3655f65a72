"""What a published supernet is: the names of its tensors, its spaces, and its authors' terms."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from nassearch.networks.supernet import Supernet
from nassearch.space import SearchSpace
from nassearch.space.architecture import make_divisible


@dataclass(frozen=True)
class PublishedSupernet:
    """A supernet that others trained, as its file holds it.

    `rename` gives our name of a tensor, None where it is none of the network's. `spaces` hold the
    same networks at different resolutions; the first is what is imported unless another is asked
    for. `base_widths` are the widths of stages at a width multiplier of 1, by a tensor (our name)
    that has as many rows. `preprocessing` is the name of what its authors did to images, which an
    imported run does too.
    """

    title: str
    spaces: tuple[str, ...]
    rename: Callable[[str], str | None]
    base_widths: Mapping[str, int]
    origin: str
    licence: str
    preprocessing: str

    def space(self, *, num_classes: int) -> SearchSpace:
        """The network's space, at one resolution alone: tensors do not depend on it."""
        found = SearchSpace.load(self.spaces[0])
        update = {"resolution": found.resolutions[:1], "num_classes": num_classes}
        return SearchSpace(found.definition.model_copy(update=update))

    def shapes(self, *, num_classes: int) -> dict[str, torch.Size]:
        """The shape of each of the supernet's tensors, by our names."""
        with torch.device("meta"):
            supernet = Supernet(self.space(num_classes=num_classes))
        return {name: tensor.shape for name, tensor in supernet.state_dict().items()}

    def width_multiplier(self, shapes: Mapping[str, torch.Size]) -> float | None:
        """The multiplier that gives a network's stages their widths; None where none does."""
        widths = {name: shapes[name][0] for name in self.base_widths if name in shapes}
        if len(widths) < len(self.base_widths):
            return None
        for hundredths in range(10, 405, 5):
            multiplier = hundredths / 100
            if all(
                make_divisible(base * multiplier) == widths[name]
                for name, base in self.base_widths.items()
            ):
                return multiplier
        return None

    def holds(self, space: SearchSpace) -> bool:
        """Whether a space has this supernet's networks, at whatever resolutions."""
        return any(_unsized(space) == _unsized(SearchSpace.load(name)) for name in self.spaces)


def _unsized(space: SearchSpace) -> SearchSpace:
    """The space without what tensors do not depend on: resolutions, schedules, classes."""
    update = {"resolution": (224,), "num_classes": 1000, "patches": None}
    return SearchSpace(space.definition.model_copy(update=update))
